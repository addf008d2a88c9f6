//! The service and a real RabbitMQ: what the broker and its client do that loses data unless it is prevented, one file a
//! subject.

mod acks;
mod alarm;
mod channels;
mod confirms;
mod consuming;
mod declare;
mod park;
mod presence;
mod reconnect;
mod stragglers;
mod tls;

use std::{collections::BTreeSet, fmt::Write as _, ops::Range, time::Duration};

use docrelay::{
    app::Service,
    broker::codec,
    config,
    domain::{DeliveryResult, DocumentEvent, Happening},
};
use lapin::{BasicProperties, Confirmation, message::Delivery, options::BasicPublishOptions};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::timeout;

use crate::support::{
    broker::{DEADLINE, TestBroker, ctl, eventually},
    receiver::Recorded,
};

/// A running service. Dropped, it ends like a process that is killed.
struct Running {
    service: Service,
    _folder: TempDir,
}

impl Running {
    /// A service on a test's broker, with these subscriptions and further settings as environment variables.
    async fn start(broker: &TestBroker, subscriptions: &[Value], more: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("subscriptions.yaml");
        std::fs::write(&file, json!({ "subscriptions": subscriptions }).to_string()).unwrap();
        let variables = [
            ("DOCRELAY__SUBSCRIPTIONS__FILE", file.to_str().unwrap()),
            ("DOCRELAY__ADMIN__LISTEN", "127.0.0.1:0"),
            ("DOCRELAY__EGRESS__ALLOW", "127.0.0.0/8"),
            ("DOCRELAY__SHUTDOWN__GRACE", "0s"),
        ];
        let variables = variables.iter().chain(more).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let broker = broker.environment().into_iter().map(|(name, value)| (name.to_owned(), value));
        let config = config::load(&[], broker.chain(variables)).unwrap();
        Self { service: Service::start(config).await.unwrap(), _folder: folder }
    }

    /// What `/readyz` answers: whether it is ready, and why not.
    async fn readiness(&self) -> (bool, String) {
        self.ask("readyz").await
    }

    /// Waits until `/readyz` says 200.
    async fn until_ready(&self) {
        eventually("readiness", || async { self.readiness().await.0.then_some(()) }).await;
    }

    /// Waits until `/readyz` says all of this, and 503.
    async fn until_unready(&self, because: &[&str]) {
        eventually(&format!("{because:?}"), || async {
            let (ready, said) = self.readiness().await;
            (!ready && because.iter().all(|reason| said.contains(reason))).then_some(())
        })
        .await;
    }

    async fn is_alive(&self) -> bool {
        self.ask("livez").await.0
    }

    async fn ask(&self, path: &str) -> (bool, String) {
        let answer = reqwest::get(format!("http://{}/{path}", self.service.admin)).await.unwrap();
        (answer.status() == 200, answer.text().await.unwrap())
    }

    /// Stops it in order.
    async fn stop(self) {
        timeout(DEADLINE, self.service.stop()).await.unwrap();
    }
}

/// A subscription to `document_text` of an organization, with that organization's name.
fn subscription(organization: &str, url: &str) -> Value {
    json!({
        "id": organization,
        "organization": organization,
        "events": ["document_text"],
        "target": { "url": url, "timeout": "60s" },
    })
}

/// `evt-<number>` about `doc-<number>`.
fn event(organization: &str, number: usize, text: String) -> DocumentEvent {
    DocumentEvent {
        id: format!("evt-{number}").parse().unwrap(),
        occurred_at: None,
        organization: organization.parse().unwrap(),
        project: None,
        inbox: None,
        document: format!("doc-{number}").parse().unwrap(),
        metadata: [].into(),
        happening: Happening::Text { text },
    }
}

/// Publishes events with these numbers and so much text in each; all are with the broker when it returns.
async fn publish(broker: &TestBroker, organization: &str, numbers: Range<usize>, bytes: usize) {
    let mut confirms = Vec::new();
    for number in numbers {
        let body = codec::encode_event(&event(organization, number, "x".repeat(bytes)));
        let exchange = broker.config.events_exchange.as_str().into();
        let properties = BasicProperties::default().with_delivery_mode(2).with_type(codec::EVENT_TYPE.into());
        let options = BasicPublishOptions::default();
        let publishing =
            broker.channel.basic_publish(exchange, "document_text.any._".into(), options, &body, properties);
        confirms.push(publishing.await.unwrap());
    }
    for confirm in confirms {
        assert!(matches!(confirm.await.unwrap(), Confirmation::Ack(_)));
    }
}

/// How many messages of a queue on the test broker are with consumers.
async fn unacknowledged(queue: &str) -> usize {
    let told = ctl(&["list_queues", "-q", "--no-table-headers", "name", "messages_unacknowledged"]).await;
    number_of(queue, &told)
}

/// Waits until exactly so many messages of a queue on the test broker are with consumers.
async fn until_unacknowledged(queue: &str, count: usize) {
    eventually(&format!("{count} unacknowledged in {queue}"), || async {
        (unacknowledged(queue).await == count).then_some(())
    })
    .await;
}

/// The number behind a name in a list of `rabbitmqctl`.
fn number_of(name: &str, told: &str) -> usize {
    let line = told.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('\t'));
    line.unwrap_or_else(|| panic!("{name} is not in {told}")).parse().unwrap()
}

fn result(delivery: &Delivery) -> DeliveryResult {
    codec::decode_result(&delivery.data.clone().into()).unwrap()
}

fn message_id(delivery: &Delivery) -> String {
    delivery.properties.message_id().as_ref().unwrap().to_string()
}

/// Waits until so many different results have come into a queue; gives one of each.
async fn different_results(broker: &TestBroker, queue: &str, count: usize) -> Vec<DeliveryResult> {
    let (mut ids, mut results) = (BTreeSet::new(), Vec::new());
    let waiting = async {
        while results.len() < count {
            for delivery in broker.take_all(queue).await {
                if ids.insert(message_id(&delivery)) {
                    results.push(result(&delivery));
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let in_time = timeout(DEADLINE, waiting).await.is_ok();
    assert!(in_time, "expected {count} results, got {}", results.len());
    results
}

/// Fails if any delivery was attempted twice under the same number.
#[track_caller]
fn assert_no_attempt_is_repeated(requests: &[Recorded]) {
    let (mut seen, mut repeated) = (BTreeSet::new(), String::new());
    for request in requests {
        if !seen.insert((request.delivery().to_owned(), request.attempt())) {
            writeln!(repeated, "{} attempt {}", request.json()["data"]["id"], request.attempt()).unwrap();
        }
    }
    assert!(repeated.is_empty(), "attempted again:\n{repeated}");
}
