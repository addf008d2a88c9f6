//! An upstream that listens: every result that is published, decoded, over any number of lost connections.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use docrelay::{
    broker::codec::{Notice, decode_notice},
    domain::{DeliveryId, DeliveryResult, Outcome, SubscriptionDisabled},
};
use futures_util::StreamExt as _;
use lapin::{
    Connection, ConnectionProperties,
    options::{BasicAckOptions, BasicConsumeOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use tokio::{sync::watch, task::JoinSet, time::timeout};

/// The results so far. Dropped, it stops listening.
pub(crate) struct Results {
    shared: Arc<Shared>,
    _listening: JoinSet<()>,
}

#[derive(Default)]
struct Shared {
    /// With their message ids, in the order in which they came.
    seen: Mutex<Vec<(String, DeliveryResult)>>,
    disabled: Mutex<Vec<Disabled>>,
    /// The `traceparent` of each message, in the order in which they came.
    traceparents: Mutex<Vec<String>>,
    /// All headers of each message, as text.
    headers: Mutex<Vec<String>>,
    count: watch::Sender<usize>,
}

/// A subscription that was told to be disabled.
#[derive(Debug, Clone)]
pub(crate) struct Disabled {
    pub(crate) key: String,
    pub(crate) message_id: String,
    pub(crate) told: SubscriptionDisabled,
}

impl Results {
    /// Listens to an exchange that exists, by a queue of its own that exists from when this returns.
    pub(crate) async fn of(url: &str, exchange: &str, queue: &str) -> Self {
        let connection = Connection::connect(url, ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        channel.queue_declare(queue.into(), options, arguments).await.unwrap();
        let (bind, none) = (QueueBindOptions::default(), FieldTable::default());
        channel.queue_bind(queue.into(), exchange.into(), "#".into(), bind, none).await.unwrap();
        connection.close(200, "done".into()).await.unwrap();

        let shared = Arc::<Shared>::default();
        let mut listening = JoinSet::new();
        let (url, queue, listener) = (url.to_owned(), queue.to_owned(), Arc::clone(&shared));
        listening.spawn(async move {
            loop {
                // However it ends: the broker was lost, as some tests want it.
                drop(listener.listen(&url, &queue).await);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        Self { shared, _listening: listening }
    }

    /// What has come so far.
    pub(crate) fn all(&self) -> Vec<DeliveryResult> {
        self.shared.seen.lock().unwrap().iter().map(|(_, result)| result.clone()).collect()
    }

    /// The subscriptions that were told to be disabled so far.
    pub(crate) fn disabled(&self) -> Vec<Disabled> {
        self.shared.disabled.lock().unwrap().clone()
    }

    /// The `traceparent` of everything that has come so far; empty where there was none.
    pub(crate) fn traceparents(&self) -> Vec<String> {
        self.shared.traceparents.lock().unwrap().clone()
    }

    /// The headers of everything that has come so far.
    pub(crate) fn headers(&self) -> Vec<String> {
        self.shared.headers.lock().unwrap().clone()
    }

    /// What has come so far, with the messages' ids.
    pub(crate) fn with_message_ids(&self) -> Vec<(String, DeliveryResult)> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// What has come so far, each message once: upstream, too, is told at least once.
    pub(crate) fn distinct(&self) -> Vec<DeliveryResult> {
        let mut known = HashSet::new();
        let seen = self.shared.seen.lock().unwrap();
        seen.iter().filter(|(id, _)| known.insert(id.clone())).map(|(_, result)| result.clone()).collect()
    }

    /// The distinct finals of each delivery.
    pub(crate) fn finals(&self) -> BTreeMap<DeliveryId, Vec<DeliveryResult>> {
        let mut finals: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for result in self.distinct().into_iter().filter(|result| result.outcome.is_final()) {
            finals.entry(result.delivery.unwrap()).or_default().push(result);
        }
        finals
    }

    /// Waits for so many results.
    pub(crate) async fn wait_for(&self, count: usize, deadline: Duration) -> Vec<DeliveryResult> {
        self.wait_until(&format!("{count} results"), deadline, |results| results.len() >= count).await
    }

    /// Waits for so many results with an outcome; gives those.
    pub(crate) async fn wait_for_outcome(
        &self,
        outcome: Outcome,
        count: usize,
        deadline: Duration,
    ) -> Vec<DeliveryResult> {
        let with = |results: &[DeliveryResult]| results.iter().filter(|result| result.outcome == outcome).count();
        let what = format!("{count} results {outcome}");
        let results = self.wait_until(&what, deadline, |results| with(results) >= count).await;
        results.into_iter().filter(|result| result.outcome == outcome).collect()
    }

    /// Waits until so many deliveries have ended.
    pub(crate) async fn wait_for_finals(&self, deliveries: usize, deadline: Duration) {
        let mut count = self.shared.count.subscribe();
        let ended = async {
            // Counting is work: not for every single result of a load.
            while self.finals().len() < deliveries {
                let seen = *count.borrow_and_update();
                let more = timeout(Duration::from_millis(200), count.wait_for(|count| *count >= seen + 500));
                drop(more.await);
            }
        };
        let in_time = timeout(deadline, ended).await.is_ok();
        assert!(in_time, "expected {deliveries} finals within {deadline:?}, got {}", self.finals().len());
    }

    async fn wait_until(
        &self,
        what: &str,
        deadline: Duration,
        is_enough: impl Fn(&[DeliveryResult]) -> bool,
    ) -> Vec<DeliveryResult> {
        let mut count = self.shared.count.subscribe();
        let enough = async {
            loop {
                count.borrow_and_update();
                let results = self.all();
                if is_enough(&results) {
                    return results;
                }
                count.changed().await.unwrap();
            }
        };
        timeout(deadline, enough).await.unwrap_or_else(|_elapsed| {
            let results = self.all();
            panic!(
                "expected {what} within {deadline:?}, got {}: {:#?}",
                results.len(),
                results.iter().rev().take(20).collect::<Vec<_>>()
            )
        })
    }
}

impl Shared {
    async fn listen(&self, url: &str, queue: &str) -> Result<(), lapin::Error> {
        let connection = Connection::connect(url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        let (options, none) = (BasicConsumeOptions::default(), FieldTable::default());
        let mut consumer = channel.basic_consume(queue.into(), "upstream".into(), options, none).await?;
        while let Some(delivery) = consumer.next().await {
            let delivery = delivery?;
            let tag = delivery.delivery_tag;
            let id = delivery.properties.message_id().as_ref().unwrap().to_string();
            let kind = delivery.properties.kind().as_ref().unwrap().to_string();
            let headers = delivery.properties.headers().clone().unwrap_or_default();
            let traceparent = match headers.inner().get("traceparent") {
                Some(AMQPValue::LongString(text)) => text.to_string(),
                _ => String::new(),
            };
            self.traceparents.lock().unwrap().push(traceparent);
            self.headers.lock().unwrap().push(format!("{headers:?}"));
            match decode_notice(Some(&kind), &delivery.data.into()).unwrap() {
                Notice::Result(result) => {
                    let mut seen = self.seen.lock().unwrap();
                    seen.push((id, *result));
                    self.count.send_replace(seen.len());
                }
                Notice::Disabled(disabled) => {
                    let key = delivery.routing_key.to_string();
                    self.disabled.lock().unwrap().push(Disabled { key, message_id: id, told: disabled });
                }
            }
            channel.basic_ack(tag, BasicAckOptions::default()).await?;
        }
        Ok(())
    }
}
