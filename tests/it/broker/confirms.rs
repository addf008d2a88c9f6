//! What counts as confirmed, and what a refusal leads to.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use docrelay::{
    broker::{BrokerOutbox, Confirmed, OutboxError, Publisher, Standing},
    config::BrokerConfig,
    domain::{self, DeliveryResult, EventName, Outcome, Secret, TraceContext},
    telemetry::metrics::Metrics,
};
use lapin::types::{AMQPValue, FieldTable};
use tokio::{sync::watch, task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{Running, different_results, message_id, publish, subscription, until_unacknowledged};
use crate::support::{
    broker::{DEADLINE, TestBroker},
    proxy::Proxy,
    receiver::Receiver,
};

/// The publishing half of a service.
pub(super) struct Publishing {
    outbox: BrokerOutbox,
    pub(super) standing: watch::Receiver<Standing>,
    _task: JoinSet<()>,
}

impl Publishing {
    pub(super) async fn start(broker: &TestBroker, config: BrokerConfig) -> Self {
        let topology = Arc::new(broker.topology.clone());
        let (publisher, run) = Publisher::new(config, topology, Metrics::default(), CancellationToken::new());
        let mut task = JoinSet::new();
        task.spawn(run);
        let mut standing = publisher.standing();
        timeout(DEADLINE, standing.wait_for(|standing| *standing == Standing::Open)).await.unwrap().unwrap();
        Self { outbox: BrokerOutbox::new(publisher, broker.topology.names.clone()), standing, _task: task }
    }

    /// Publishes a result from a task of its own.
    pub(super) fn spawn(&self, publishing: &mut JoinSet<Result<Confirmed, OutboxError>>, result: DeliveryResult) {
        let outbox = self.outbox.clone();
        publishing.spawn(async move { outbox.result(&result, &TraceContext::default(), domain::now()).await });
    }
}

pub(super) fn delivered(organization: &str, number: usize) -> DeliveryResult {
    DeliveryResult {
        delivery: None,
        event_id: format!("{organization}-{number}").parse().unwrap(),
        document: None,
        subscription: None,
        organization: organization.parse().unwrap(),
        project: None,
        inbox: None,
        event: Some(EventName::DocumentText),
        outcome: Outcome::Delivered,
        attempt: 1,
        max_attempts: 10,
        fan_out: 1,
        status_code: Some(200),
        response_body: "thanks".into(),
        response_body_cut: false,
        error: None,
        error_text: String::new(),
        latency: Duration::from_millis(12),
        attempted_at: None,
        next_attempt_at: None,
        target: String::new(),
        round: 0,
    }
}

/// Takes so many messages and says no to more.
fn at_most(length: i64) -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(length));
    arguments.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
    arguments
}

/// With several publishers on one channel the client gives confirms to the wrong ones: then messages that the full queue
/// refused count as delivered and are nowhere, and others are published again although they arrived.
#[tokio::test]
async fn among_many_publishers_nothing_that_was_refused_counts_as_confirmed() {
    const EACH: usize = 1500;
    let broker = TestBroker::declared().await;
    let exchange = &broker.config.results_exchange;
    let full = broker.bound(exchange, &["delivered.*.full.*"], at_most(100)).await;
    let open = broker.bound(exchange, &["delivered.*.open.*"], FieldTable::default()).await;
    let publishing = Publishing::start(&broker, broker.config.clone()).await;
    let mut tasks = JoinSet::new();
    for number in 0..EACH {
        for organization in ["full", "open"] {
            publishing.spawn(&mut tasks, delivered(organization, number));
        }
    }
    let confirmed = timeout(DEADLINE, tasks.join_all()).await.unwrap();
    assert!(confirmed.iter().all(Result::is_ok));

    let ids = |deliveries: &[_]| -> BTreeSet<_> { deliveries.iter().map(message_id).collect() };
    let arrived = broker.take_all(&open).await;
    assert_eq!((arrived.len(), ids(&arrived).len()), (EACH, EACH), "every one once: none counted as refused");
    let (taken, kept) = (broker.take_all(&full).await, broker.take_all(&broker.topology.names.dead_queue).await);
    assert_eq!(taken.len(), 100, "the queue was full");
    assert_eq!(taken.len() + kept.len(), EACH, "what was refused is kept, and nothing else is");
    let all: BTreeSet<_> = ids(&taken).union(&ids(&kept)).cloned().collect();
    assert_eq!(all.len(), EACH);
    for letter in &kept {
        let headers = letter.properties.headers().clone().unwrap();
        let header = |name: &str| headers.inner().get(name).cloned();
        assert_eq!(header("docrelay-reason"), Some(AMQPValue::LongString("result_refused".into())));
        assert_eq!(header("docrelay-organization"), Some(AMQPValue::LongString("full".into())));
    }
}

#[tokio::test]
async fn a_full_queue_of_one_organizations_results_holds_nobody_up() {
    let broker = TestBroker::declared().await;
    let exchange = &broker.config.results_exchange;
    let full = broker.bound(exchange, &["*.*.acme.*"], at_most(1)).await;
    let open = broker.bound(exchange, &["*.*.globex.*"], FieldTable::default()).await;
    let receiver = Receiver::ok().await;
    let subscriptions =
        [subscription("acme", &receiver.url("/acme")), subscription("globex", &receiver.url("/globex"))];
    let service = Running::start(&broker, &subscriptions, &[]).await;
    service.until_ready().await;

    publish(&broker, "acme", 0..40, 10).await;
    publish(&broker, "globex", 0..40, 10).await;
    let told = different_results(&broker, &open, 40).await;
    assert!(told.iter().all(|result| result.outcome == Outcome::Delivered));
    assert_eq!(broker.ready(&broker.topology.names.dead_queue).await, 0, "others do not wait for the refused ones");
    broker.wait_for(&broker.topology.names.dead_queue, 39).await;
    assert_eq!(broker.ready(&full).await, 1);
    until_unacknowledged(&broker.topology.names.events_queue, 0).await;
    assert_eq!(receiver.count(), 80, "one request for each");
    let listed = broker.run(&["dead", "list"]).await.fine();
    assert!(listed.contains("by reason        result_refused 39"), "{listed}");
    service.stop().await;
}

#[tokio::test]
async fn what_was_published_but_not_confirmed_when_the_connection_broke_is_published_again() {
    const COUNT: usize = 300;
    let broker = TestBroker::declared().await;
    let queue = broker.bound(&broker.config.results_exchange, &["#"], FieldTable::default()).await;
    let proxy = Proxy::before(broker.config.url.reveal()).await;
    let config = BrokerConfig { url: Secret::new(proxy.url(broker.config.url.reveal())), ..broker.config.clone() };
    let publishing = Publishing::start(&broker, config).await;
    let mut tasks = JoinSet::new();

    proxy.mute();
    for number in 0..COUNT {
        publishing.spawn(&mut tasks, delivered("acme", number));
    }
    broker.wait_for(&queue, u32::try_from(COUNT).unwrap()).await;
    assert!(tasks.try_join_next().is_none(), "the broker has them all, but nobody knows");
    proxy.cut();
    proxy.pass();
    for confirmed in timeout(DEADLINE, tasks.join_all()).await.unwrap() {
        assert!(confirmed.unwrap().may_be_repeated());
    }
    let arrived = broker.take_all(&queue).await;
    let different: BTreeSet<_> = arrived.iter().map(message_id).collect();
    assert_eq!((arrived.len(), different.len()), (2 * COUNT, COUNT), "repeats carry the same message id");
}
