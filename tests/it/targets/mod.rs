//! Targets that are exchanges: what a subscriber's queue gets, what the broker says no to, and who is disturbed by it.

mod isolation;
mod lost;
mod publishing;
mod service;
mod traced;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use docrelay::{
    broker::target::{IDLE, Message, TargetPublisher},
    config::AmqpTargetsConfig,
    domain::{
        AmqpTarget, Answer, DeliveryId, DocumentEvent, ExchangePolicy, Payload, Secret, Subscription, Target,
        TraceContext, now,
    },
    telemetry::metrics::Metrics,
};
use lapin::{
    Channel, Connection, ConnectionProperties, ExchangeKind,
    message::Delivery,
    options::{
        BasicGetOptions, ConfirmSelectOptions, ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions,
        QueueDeclareOptions,
    },
    types::{AMQPValue, FieldTable},
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::support::{
    broker::{self, eventually},
    service::event,
    subscription::subscription_of,
};

/// No test waits for this; it only ends one that hangs.
const GENEROUS: Duration = Duration::from_secs(30);

/// A subscriber's side of a broker: exchanges of its own, and queues that are gone when the test ends.
struct Subscriber {
    channel: Channel,
    connection: Connection,
    unique: String,
    exchanges: Vec<String>,
}

impl Subscriber {
    /// On the broker that tests share.
    async fn new() -> Self {
        Self::at(&broker::url()).await
    }

    async fn at(url: &str) -> Self {
        let connection = Connection::connect(url, ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        Self { channel, connection, unique: Uuid::new_v4().simple().to_string(), exchanges: vec![] }
    }

    /// The name of an exchange of this test's.
    fn name(&self, name: &str) -> String {
        format!("{name}-{}", self.unique)
    }

    /// A topic exchange.
    async fn exchange(&mut self, name: &str) -> String {
        self.exchange_with(name, ExchangeDeclareOptions::default()).await
    }

    async fn exchange_with(&mut self, name: &str, options: ExchangeDeclareOptions) -> String {
        let name = self.name(name);
        let declaring =
            self.channel.exchange_declare(name.as_str().into(), ExchangeKind::Topic, options, FieldTable::default());
        declaring.await.unwrap();
        self.exchanges.push(name.clone());
        name
    }

    /// A queue bound by a key.
    async fn queue(&self, exchange: &str, key: &str) -> String {
        self.queue_with(exchange, key, FieldTable::default()).await
    }

    /// A queue that takes so many messages and says no to more.
    async fn full_queue(&self, exchange: &str, key: &str, length: i64) -> String {
        let mut arguments = FieldTable::default();
        arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(length));
        arguments.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
        self.queue_with(exchange, key, arguments).await
    }

    async fn queue_with(&self, exchange: &str, key: &str, arguments: FieldTable) -> String {
        let options = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
        let queue = self.channel.queue_declare("".into(), options, arguments).await.unwrap().name().clone();
        let (options, none) = (QueueBindOptions::default(), FieldTable::default());
        self.channel.queue_bind(queue.clone(), exchange.into(), key.into(), options, none).await.unwrap();
        queue.to_string()
    }

    /// Everything that is in a queue, taken off it.
    async fn all(&self, queue: &str) -> Vec<Delivery> {
        let mut all = Vec::new();
        let get = || self.channel.basic_get(queue.into(), BasicGetOptions { no_ack: true });
        while let Some(message) = get().await.unwrap() {
            all.push(message.delivery);
        }
        all
    }

    /// The next message of a queue, taken off it.
    async fn next(&self, queue: &str) -> Delivery {
        let get = || async { self.channel.basic_get(queue.into(), BasicGetOptions { no_ack: true }).await.unwrap() };
        eventually(&format!("a message in {queue}"), get).await.delivery
    }

    /// A test's good end: nothing of it stays on the broker.
    async fn end(self) {
        for exchange in &self.exchanges {
            self.channel.exchange_delete(exchange.as_str().into(), ExchangeDeleteOptions::default()).await.unwrap();
        }
        self.connection.close(200, "done".into()).await.unwrap();
    }
}

/// The publisher alone, without a service around it.
struct Publishing {
    publisher: TargetPublisher,
    stop: CancellationToken,
    task: JoinSet<()>,
}

impl Publishing {
    /// With everything allowed to `acme` that is in the list.
    fn new(url: &str, allowed: &[&str]) -> Self {
        Self::idle_after(url, allowed, IDLE)
    }

    fn idle_after(url: &str, allowed: &[&str], idle: Duration) -> Self {
        let allowed = allowed.iter().map(|exchange| ("acme".parse().unwrap(), exchange.parse().unwrap()));
        let exchanges = Arc::new(ExchangePolicy::new("docrelay", ["documents".to_owned()], allowed));
        let config = AmqpTargetsConfig { url: Some(Secret::new(url)), ca_file: None, exchanges };
        let stop = CancellationToken::new();
        let (publisher, run) = TargetPublisher::new(config, idle, Metrics::default(), stop.clone());
        let mut task = JoinSet::new();
        task.spawn(run);
        Self { publisher, stop, task }
    }

    async fn send(&self, subscription: &Subscription, number: usize) -> Answer {
        send(&self.publisher, subscription, number).await
    }

    /// Sends so many at once, from a task each; gives the answers by number.
    async fn send_all(&self, subscription: &Subscription, count: usize) -> Vec<Answer> {
        let mut sending = JoinSet::new();
        for number in 0..count {
            let (publisher, subscription) = (self.publisher.clone(), subscription.clone());
            sending.spawn(async move { (number, send(&publisher, &subscription, number).await) });
        }
        let mut answers = tokio::time::timeout(GENEROUS, sending.join_all()).await.unwrap();
        answers.sort_by_key(|(number, _)| *number);
        answers.into_iter().map(|(_, answer)| answer).collect()
    }

    /// Stops it in order.
    async fn end(mut self) {
        self.stop.cancel();
        tokio::time::timeout(GENEROUS, self.task.join_next()).await.unwrap().unwrap().unwrap();
    }
}

/// A subscription of `acme` with this exchange as its target.
fn to(exchange: &str, routing_key: &str) -> Subscription {
    let target = Target::Amqp(AmqpTarget {
        exchange: exchange.parse().unwrap(),
        routing_key: routing_key.parse().unwrap(),
        timeout: GENEROUS,
    });
    subscription_of("acme", Payload::Protobuf, target)
}

fn within(mut subscription: Subscription, time: Duration) -> Subscription {
    let Target::Amqp(target) = &mut subscription.target else { panic!("not an exchange") };
    target.timeout = time;
    subscription
}

fn numbered(number: usize) -> DocumentEvent {
    event(&format!("evt-{number}"))
}

/// What the message of an event carries as its id.
fn delivery(subscription: &Subscription, number: usize) -> DeliveryId {
    DeliveryId::of(&numbered(number).id, &subscription.id)
}

async fn send(publisher: &TargetPublisher, subscription: &Subscription, number: usize) -> Answer {
    send_body(publisher, subscription, number, format!("body {number}").into()).await
}

async fn send_body(publisher: &TargetPublisher, subscription: &Subscription, number: usize, body: Bytes) -> Answer {
    let Target::Amqp(target) = &subscription.target else { panic!("not an exchange") };
    let place = publisher.place(&subscription.organization, target).await;
    let message = Message {
        event: &numbered(number),
        subscription,
        target,
        delivery: delivery(subscription, number),
        attempt: 3,
        at: now(),
        began: tokio::time::Instant::now(),
        body,
        trace: &TraceContext {
            traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned()),
            tracestate: None,
        },
        trial: None,
    };
    publisher.send(message, place).await.answer
}

fn message_id(delivery: &Delivery) -> String {
    delivery.properties.message_id().as_ref().unwrap().to_string()
}

/// The kind and the text of an answer that is a no, or none.
fn failure(answer: &Answer) -> (&'static str, &str) {
    match answer {
        Answer::Refused { kind, text } | Answer::None { kind, text } => (kind.as_str(), text),
        other => panic!("expected a failure, got {other:?}"),
    }
}
