//! Sends spans by OTLP, in batches, from a task of its own. A collector that is not there costs spans and nothing else, and
//! is told once.

use std::{sync::Arc, time::Duration};

use opentelemetry::KeyValue;
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::{
    Resource,
    trace::{SpanData, SpanExporter as _},
};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::queue::Queue;
use crate::config::{TracingConfig, TracingProtocol};

/// After a stop nothing is sent for longer.
const LAST_SPANS: Duration = Duration::from_secs(2);

/// Spans can never be exported. What to mend is in the text.
#[derive(Debug, thiserror::Error)]
#[error("spans cannot be exported to tracing.endpoint: {0}")]
pub struct TracingError(#[from] ExporterBuildError);

/// What sends by the settings' protocol. The environment's headers, deadline and certificates are read by opentelemetry
/// itself. Needs a runtime.
pub(super) fn exporter(endpoint: &str, config: &TracingConfig) -> Result<SpanExporter, TracingError> {
    let mut exporter = match config.protocol {
        TracingProtocol::Grpc => SpanExporter::builder().with_tonic().with_endpoint(endpoint).build()?,
        TracingProtocol::Http => {
            let http = SpanExporter::builder().with_http().with_protocol(opentelemetry_otlp::Protocol::HttpBinary);
            http.with_endpoint(endpoint).build()?
        }
    };
    exporter.set_resource(&resource(config));
    Ok(exporter)
}

fn resource(config: &TracingConfig) -> Resource {
    let ours = [
        KeyValue::new("service.name", config.service_name.clone()),
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new("service.instance.id", Uuid::new_v4().to_string()),
        KeyValue::new("telemetry.sdk.language", "rust"),
        KeyValue::new("telemetry.sdk.name", "opentelemetry"),
    ];
    let given = config.resource.iter().map(|(name, value)| KeyValue::new(name.clone(), value.clone()));
    // Later ones win: what the operator says of the instance, for example.
    Resource::builder_empty().with_attributes(ours.into_iter().chain(given)).build()
}

/// Sends what is in the queue, a batch as soon as it is full and the rest every `delay`, until `stop`, and then what is left.
pub(super) async fn run(queue: Arc<Queue>, exporter: SpanExporter, delay: Duration, stop: CancellationToken) {
    let mut sending = Sending { queue: &queue, exporter, is_failing: false };
    let mut next = Instant::now() + delay;
    while !stop.is_cancelled() {
        let all = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            () = queue.is_batch() => false,
            () = sleep_until(next) => true,
        };
        while let Some(batch) = queue.take(all) {
            let soon_after_stop = async {
                stop.cancelled().await;
                sleep(LAST_SPANS).await;
            };
            let count = batch.len();
            tokio::select! {
                () = sending.send(batch) => {}
                () = soon_after_stop => return queue.drop_spans(count),
            }
            if stop.is_cancelled() {
                break;
            }
        }
        if all {
            next = Instant::now() + delay;
        }
    }
    let end = Instant::now() + LAST_SPANS;
    while let Some(batch) = queue.take(true) {
        let count = batch.len();
        if timeout_at(end, sending.send(batch)).await.is_err() {
            return queue.drop_spans(count);
        }
    }
}

struct Sending<'a> {
    queue: &'a Queue,
    exporter: SpanExporter,
    is_failing: bool,
}

impl Sending<'_> {
    async fn send(&mut self, batch: Vec<SpanData>) {
        let count = batch.len();
        match self.exporter.export(batch).await {
            Ok(()) if self.is_failing => {
                self.is_failing = false;
                tracing::info!(dropped = self.queue.dropped(), "Spans are exported again");
            }
            Ok(()) => {}
            Err(error) => {
                self.queue.drop_spans(count);
                if !self.is_failing {
                    self.is_failing = true;
                    tracing::warn!(%error, "Spans cannot be exported; they are dropped until they can");
                }
            }
        }
    }
}
