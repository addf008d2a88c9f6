//! Sends spans by OTLP, in batches, from a task of its own. A collector that is not there costs spans and nothing else, and
//! is told once.

use std::{sync::Arc, time::Duration};

use opentelemetry::KeyValue;
use opentelemetry_otlp::{
    ExporterBuildError, SpanExporter as Otlp, WithExportConfig as _, WithTonicConfig as _,
    tonic_types::transport::ClientTlsConfig,
};
use opentelemetry_sdk::{
    Resource,
    trace::{SpanData, SpanExporter},
};
use tokio::time::{Instant, sleep, sleep_until};
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

/// What sends by the settings' protocol. The environment's headers and deadline are read by opentelemetry itself; certificates
/// are checked against those that the system trusts. Needs a runtime.
pub(super) fn exporter(endpoint: &str, config: &TracingConfig) -> Result<Otlp, TracingError> {
    let mut exporter = match config.protocol {
        TracingProtocol::Grpc => {
            let grpc = Otlp::builder().with_tonic().with_endpoint(endpoint);
            // By itself it would trust nobody.
            let trusting = ClientTlsConfig::new().with_enabled_roots();
            if endpoint.starts_with("https:") { grpc.with_tls_config(trusting).build()? } else { grpc.build()? }
        }
        TracingProtocol::Http => {
            let http = Otlp::builder().with_http().with_protocol(opentelemetry_otlp::Protocol::HttpBinary);
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

/// Sends what is in the queue, a batch as soon as it is full and the rest every `delay`, until `stop`, and then what is left,
/// as far as it gets. What it does not get to is counted as dropped.
pub(super) async fn run(queue: Arc<Queue>, exporter: impl SpanExporter, delay: Duration, stop: CancellationToken) {
    let mut sending = Sending { queue: &queue, exporter, under_way: 0, is_failing: false };
    // One deadline for everything that is left, and for what is under way when the stop comes.
    let too_late = async {
        stop.cancelled().await;
        sleep(LAST_SPANS).await;
    };
    tokio::select! {
        () = sending.all(delay, &stop) => {}
        () = too_late => {}
    }
    queue.drop_spans(sending.under_way);
    queue.drop_all();
}

struct Sending<'a, E> {
    queue: &'a Queue,
    exporter: E,
    /// How many spans are being sent just now.
    under_way: usize,
    is_failing: bool,
}

impl<E: SpanExporter> Sending<'_, E> {
    async fn all(&mut self, delay: Duration, stop: &CancellationToken) {
        let mut next = Instant::now() + delay;
        while !stop.is_cancelled() {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = self.queue.is_batch() => {
                    while let Some(batch) = self.queue.take(false) {
                        self.send(batch).await;
                    }
                }
                () = sleep_until(next) => {
                    // What is told meanwhile waits for others: batches would only get smaller under load.
                    for _ in 0..self.queue.batches() {
                        let Some(batch) = self.queue.take(true) else { break };
                        self.send(batch).await;
                    }
                    next = Instant::now() + delay;
                }
            }
        }
        while let Some(batch) = self.queue.take(true) {
            self.send(batch).await;
        }
    }

    async fn send(&mut self, batch: Vec<SpanData>) {
        self.under_way = batch.len();
        match self.exporter.export(batch).await {
            Ok(()) if self.is_failing => {
                self.is_failing = false;
                tracing::info!(dropped = self.queue.dropped(), "Spans are exported again");
            }
            Ok(()) => {}
            Err(error) => {
                self.queue.drop_spans(self.under_way);
                if !self.is_failing {
                    self.is_failing = true;
                    tracing::warn!(%error, "Spans cannot be exported; they are dropped until they can");
                }
            }
        }
        self.under_way = 0;
    }
}

#[cfg(test)]
mod tests {
    use std::{future::pending, sync::Mutex};

    use opentelemetry_sdk::error::OTelSdkResult;

    use super::{super::tests::span, *};

    /// Notes how many spans come at once. While it takes its time, another one is told.
    #[derive(Debug, Clone)]
    struct Slow {
        queue: Arc<Queue>,
        batches: Arc<Mutex<Vec<usize>>>,
    }

    impl SpanExporter for Slow {
        async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
            self.batches.lock().unwrap().push(batch.len());
            sleep(Duration::from_millis(1)).await;
            self.queue.push(span());
            Ok(())
        }
    }

    /// Never ends.
    #[derive(Debug)]
    struct Silent;

    impl SpanExporter for Silent {
        async fn export(&self, _batch: Vec<SpanData>) -> OTelSdkResult {
            pending().await
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_told_while_spans_are_sent_waits_for_others() {
        let queue = Arc::new(Queue::new(100, 10));
        let exporter = Slow { queue: Arc::clone(&queue), batches: Arc::default() };
        for _ in 0..25 {
            queue.push(span());
        }
        let batches = Arc::clone(&exporter.batches);
        let running = run(Arc::clone(&queue), exporter, Duration::from_secs(1), CancellationToken::new());
        assert!(tokio::time::timeout(Duration::from_millis(3500), running).await.is_err(), "nobody stops it");
        // Two that were full; then, at each tick, what was there when it came.
        assert_eq!(*batches.lock().unwrap(), [10, 10, 7, 1, 1]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_waits_two_seconds_in_all_and_counts_what_is_left() {
        let queue = Arc::new(Queue::new(100, 2));
        for _ in 0..7 {
            queue.push(span());
        }
        let (stop, began) = (CancellationToken::new(), Instant::now());
        let stopping = async {
            sleep(Duration::from_secs(5)).await;
            stop.cancel();
        };
        tokio::join!(run(Arc::clone(&queue), Silent, Duration::from_secs(1), stop.clone()), stopping);
        assert_eq!((began.elapsed(), queue.dropped()), (Duration::from_secs(7), 7));
    }
}
