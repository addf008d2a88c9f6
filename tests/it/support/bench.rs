//! A flow for test sends.

use std::{sync::Arc, time::Duration};

use docrelay::{
    broker::{
        BrokerOutbox, Publisher,
        target::{self, TargetPublisher},
        topology::Topology,
    },
    config::{self, Config},
    domain::{Answer, EventName, FailureKind, Subscription},
    flow::{Couriers, Directory, Flow, FlowSettings, StopSignals, TrialRefused, TrialReport},
    store::{Defaults, Subscriptions, parse},
    telemetry::metrics::Metrics,
    webhook::Client,
};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

/// A flow whose broker does not exist: a test send needs none.
pub(crate) struct Bench {
    pub(crate) flow: Arc<Flow<Couriers>>,
    pub(crate) stop: StopSignals,
    config: Config,
    _folder: tempfile::TempDir,
}

impl Bench {
    pub(crate) async fn new() -> Self {
        Self::allowing("127.0.0.0/8").await
    }

    pub(crate) async fn allowing(network: &str) -> Self {
        let settings = [("DOCRELAY__EGRESS__ALLOW", network), ("DOCRELAY__BROKER__DELAY_UNIT", "100ms")];
        let settings = settings.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        let config = config::load(&[], settings).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("subscriptions.yaml");
        std::fs::write(&file, "subscriptions: []\n").unwrap();
        let known: Arc<dyn Directory> = Arc::new(Subscriptions::load(file, (&config).into()).await.unwrap());
        let topology = Arc::new(Topology::new(&config.broker));
        let (metrics, stop) = (Metrics::default(), CancellationToken::new());
        let (publisher, _) =
            Publisher::new(config.broker.clone(), Arc::clone(&topology), metrics.clone(), stop.clone());
        let (amqp, _) = TargetPublisher::new(config.targets.amqp.clone(), target::IDLE, metrics, stop);
        let http = Client::new(&config.egress, Duration::from_secs(5), &[]).unwrap();
        let standing = publisher.standing();
        let outbox = BrokerOutbox::new(publisher, topology.names.clone());
        let (unit, max_age) = (config.broker.delay_unit, config.delivery.max_age);
        let settings =
            FlowSettings { max_event_bytes: 1_000_000, delay_unit: unit, max_age, window: 8, slow_bytes: 64 << 20 };
        let stop = StopSignals::default();
        let flow = Flow::new(outbox, Couriers { http, amqp }, known, standing, settings, stop.clone());
        Self { flow: Arc::new(flow), stop, config, _folder: folder }
    }

    pub(crate) fn subscription(&self, value: &Value) -> Subscription {
        parse(&format!("subscriptions: [{value}]"), &Defaults::from(&self.config)).unwrap().remove(0)
    }

    pub(crate) async fn try_out(&self, value: &Value, confirm_method: bool) -> Result<TrialReport, TrialRefused> {
        self.flow.try_out(&self.subscription(value), EventName::DocumentText, confirm_method).await
    }

    /// Why there was no answer.
    pub(crate) async fn failure(&self, value: &Value) -> (FailureKind, String) {
        match self.try_out(value, false).await.unwrap().answer {
            Answer::None { kind, text } | Answer::Unsendable { kind, text } => (kind, text),
            other => panic!("expected no answer, got {other:?}"),
        }
    }
}
