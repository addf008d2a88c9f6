//! The whole service around a test: names on a broker, subscriptions in a file, an upstream that publishes and listens.
//!
//! The service runs in the test's own process ([`Surroundings::start`]), or as the real program ([`Surroundings::run`])
//! where it is to be killed.

use std::{
    collections::{BTreeMap, HashSet},
    net::TcpListener,
    time::Duration,
};

use bytes::Bytes;
use docrelay::{
    app::Service,
    broker::{
        codec::{self, Checked},
        outbox::event_routing_key,
        topology::{QueueSpec, Topology},
    },
    config::{BrokerConfig, Declare},
    domain::{DocumentEvent, EventId, Happening, ParkedEvent, Secret},
    policy::wait::Tier,
};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties,
    options::{BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    broker::{TestBroker, docrelay, eventually},
    program::{Program, ready},
    receiver::Receiver,
    results::Results,
};

/// Far more than anything here takes on a busy machine.
pub(crate) const GENEROUS: Duration = Duration::from_mins(1);

/// `broker.delay_unit` unless a test says otherwise.
pub(crate) const UNIT: Duration = Duration::from_millis(20);

/// `delivery.backoff` unless a test says otherwise.
pub(crate) const BACKOFF: Duration = Duration::from_millis(40);

/// `delivery.max_attempts` unless a test says otherwise.
pub(crate) const ATTEMPTS: u32 = 4;

/// What is around a service: everything that outlives it.
pub(crate) struct Surroundings {
    pub(crate) results: Results,
    pub(crate) topology: Topology,
    url: String,
    settings: BTreeMap<&'static str, String>,
    folder: TempDir,
    /// Cleans up on the broker that tests share.
    shared: Option<TestBroker>,
}

impl Surroundings {
    /// On the broker that tests share.
    pub(crate) async fn new() -> Self {
        Self::with(&[]).await
    }

    /// On the broker that tests share, with further settings, such as `("BROKER__PREFETCH", "10")`.
    pub(crate) async fn with(settings: &[(&'static str, &str)]) -> Self {
        let broker = TestBroker::new().await;
        let (url, prefix) = (broker.config.url.reveal().to_owned(), broker.config.queue_prefix.clone());
        Self::at(url, &prefix, Some(broker), settings).await
    }

    /// On a broker of the test's own.
    pub(crate) async fn on(url: &str, settings: &[(&'static str, &str)]) -> Self {
        Self::at(url.to_owned(), "docrelay", None, settings).await
    }

    async fn at(url: String, prefix: &str, shared: Option<TestBroker>, settings: &[(&'static str, &str)]) -> Self {
        let folder = TempDir::new().unwrap();
        let mut all: BTreeMap<&'static str, String> = [
            ("BROKER__URL", url.clone()),
            ("BROKER__QUEUE_PREFIX", prefix.to_owned()),
            ("BROKER__EVENTS_EXCHANGE", format!("{prefix}.documents")),
            ("BROKER__RESULTS_EXCHANGE", format!("{prefix}.results")),
            ("BROKER__DELAY_UNIT", humantime::format_duration(UNIT).to_string()),
            ("DELIVERY__BACKOFF", humantime::format_duration(BACKOFF).to_string()),
            ("DELIVERY__MAX_ATTEMPTS", ATTEMPTS.to_string()),
            ("SUBSCRIPTIONS__FILE", folder.path().join("subscriptions.yaml").display().to_string()),
            ("EGRESS__ALLOW", "127.0.0.0/8".to_owned()),
            ("ADMIN__LISTEN", "127.0.0.1:0".to_owned()),
        ]
        .into();
        all.extend(settings.iter().map(|(key, value)| (*key, (*value).to_owned())));
        let topology = declare(&url, &config(&all).broker).await;
        let upstream = format!("{prefix}.upstream");
        let results = Results::of(&url, &topology.names.results_exchange, &upstream).await;
        let shared = shared.map(|mut broker| {
            // What it deletes when it is dropped.
            broker.topology = topology.clone();
            let more = QueueSpec { name: upstream, ..topology.queues[0].clone() };
            broker.topology.queues.push(more);
            broker
        });
        let surroundings = Self { results, topology, url, settings: all, folder, shared };
        surroundings.subscribe(&[]);
        surroundings
    }

    /// The same with a further setting.
    pub(crate) fn set(mut self, key: &'static str, value: &str) -> Self {
        self.settings.insert(key, value.to_owned());
        self
    }

    /// Puts these subscriptions in force from the next start, or the next look at the file.
    pub(crate) fn subscribe(&self, subscriptions: &[Value]) {
        let lines: Vec<_> = subscriptions.iter().map(|subscription| format!("  - {subscription}\n")).collect();
        let lines = lines.concat();
        self.write_subscriptions(&format!("subscriptions:{}\n{lines}", if lines.is_empty() { " []" } else { "" }));
    }

    /// The same, as the file's text.
    pub(crate) fn write_subscriptions(&self, text: &str) {
        let (new, path) = (self.folder.path().join("new.yaml"), self.folder.path().join("subscriptions.yaml"));
        std::fs::write(&new, text).unwrap();
        std::fs::rename(&new, &path).unwrap();
    }

    /// A service in this process, ready.
    pub(crate) async fn start(&self) -> Service {
        let service = Service::start(config(&self.settings)).await.unwrap();
        ready(service.admin).await;
        service
    }

    /// A service in this process that may have to wait for something.
    pub(crate) async fn start_unready(&self) -> Service {
        Service::start(config(&self.settings)).await.unwrap()
    }

    /// What a service says about its readiness.
    pub(crate) async fn readiness(&self, service: &Service) -> Option<String> {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        client.get(format!("http://{}/readyz", service.admin)).send().await.ok()?.text().await.ok()
    }

    /// The real program, ready.
    pub(crate) async fn run(&self) -> Program {
        self.run_with(&[]).await
    }

    /// The same with further settings.
    pub(crate) async fn run_with(&self, settings: &[(&'static str, &str)]) -> Program {
        let program = self.run_unready(settings);
        ready(program.admin()).await;
        program
    }

    /// The same, that may have to wait for something.
    pub(crate) fn run_unready(&self, settings: &[(&'static str, &str)]) -> Program {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let log = self.folder.path().join(format!("{}.log", free.port()));
        let mut command = docrelay(&["run"]);
        let named = |(key, value): (&&str, &String)| (variable(key), value.clone());
        command.envs(self.settings.iter().map(named)).env("DOCRELAY__ADMIN__LISTEN", free.to_string());
        command.envs(settings.iter().map(|(key, value)| (variable(key), value)));
        Program::start(command, free, log)
    }

    pub(crate) async fn publish(&self, event: &DocumentEvent) {
        self.publish_all(std::slice::from_ref(event)).await;
    }

    /// Publishes events and waits until all are confirmed.
    pub(crate) async fn publish_all(&self, events: &[DocumentEvent]) {
        let (_connection, channel) = self.channel().await;
        let mut confirms = Vec::with_capacity(events.len());
        for event in events {
            let properties = BasicProperties::default()
                .with_content_type(codec::CONTENT_TYPE.into())
                .with_type(codec::EVENT_TYPE.into())
                .with_message_id(event.id.as_str().into())
                .with_delivery_mode(2);
            let (key, body) = (event_routing_key(event), codec::encode_event(event));
            confirms.push(self.send(&channel, &key, properties, &body).await);
        }
        for confirm in confirms {
            assert!(matches!(confirm.await.unwrap(), Confirmation::Ack(None)));
        }
    }

    /// Publishes an event with further headers.
    pub(crate) async fn publish_with(&self, event: &DocumentEvent, headers: &[(&str, &str)]) {
        let mut table = FieldTable::default();
        for (name, value) in headers {
            table.insert((*name).into(), AMQPValue::LongString((*value).into()));
        }
        let properties = BasicProperties::default()
            .with_content_type(codec::CONTENT_TYPE.into())
            .with_type(codec::EVENT_TYPE.into())
            .with_message_id(event.id.as_str().into())
            .with_headers(table);
        self.publish_raw(properties, &codec::encode_event(event)).await;
    }

    /// Publishes any bytes to where events come in.
    pub(crate) async fn publish_raw(&self, properties: BasicProperties, body: &[u8]) {
        let (_connection, channel) = self.channel().await;
        let confirm = self.send(&channel, "anything", properties, body).await;
        assert!(matches!(confirm.await.unwrap(), Confirmation::Ack(None)));
    }

    async fn send(
        &self,
        channel: &Channel,
        key: &str,
        properties: BasicProperties,
        body: &[u8],
    ) -> lapin::PublisherConfirm {
        let (exchange, options) = (self.topology.names.events_exchange.as_str(), BasicPublishOptions::default());
        channel.basic_publish(exchange.into(), key.into(), options, body, properties).await.unwrap()
    }

    /// A connection of the test's own, and a channel with confirms.
    pub(crate) async fn channel(&self) -> (Connection, Channel) {
        let connection = Connection::connect(&self.url, ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        (connection, channel)
    }

    /// A queue of this channel's connection that gets a copy of all that is parked. See [`parked_in`].
    pub(crate) async fn copies_of_what_is_parked(&self, channel: &Channel) -> String {
        let options = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
        let queue = channel.queue_declare("".into(), options, FieldTable::default()).await.unwrap().name().clone();
        let names = &self.topology.names;
        for tier in Tier::all() {
            let (exchange, key) = (names.park_exchange.as_str(), names.delay_key(tier));
            let (options, arguments) = (QueueBindOptions::default(), FieldTable::default());
            channel.queue_bind(queue.clone(), exchange.into(), key.into(), options, arguments).await.unwrap();
        }
        queue.to_string()
    }

    /// How many parked messages wait in all delay queues together.
    pub(crate) async fn parked(&self, channel: &Channel) -> u32 {
        let mut sum = 0;
        for tier in Tier::all() {
            sum += ready_in(channel, &self.topology.names.delay_queue(tier)).await;
        }
        sum
    }

    /// After a program was killed: the events of all messages that the broker gives a second time, because they were not
    /// acked when the connection broke. Looking changes nothing but their delivery count.
    pub(crate) async fn unacked_at_the_end(&self) -> HashSet<EventId> {
        let (connection, channel) = self.channel().await;
        let (names, mut unacked) = (&self.topology.names, HashSet::new());
        for queue in [&names.events_queue, &names.due_queue] {
            eventually("the end of the dead program's consumers", || async {
                (declared(&channel, queue).await.consumer_count() == 0).then_some(())
            })
            .await;
            let get = || channel.basic_get(queue.as_str().into(), BasicGetOptions::default());
            while let Some(message) = get().await.unwrap() {
                if !message.delivery.redelivered {
                    continue;
                }
                let body = Bytes::from(message.delivery.data);
                let events = if queue == &names.events_queue {
                    vec![body]
                } else {
                    codec::decode_parked(&body).unwrap().into_iter().map(|parked| parked.event).collect()
                };
                let id = |event| codec::decode_event(&event, u64::MAX, Checked::Before).unwrap().id;
                unacked.extend(events.into_iter().map(id));
            }
        }
        // Everything that was looked at goes back.
        connection.close(200, "done".into()).await.unwrap();
        unacked
    }

    /// Waits until every queue that holds work is empty, and the dead letters are as many as expected.
    pub(crate) async fn nothing_is_left(&self, dead: u32) {
        let (_connection, channel) = self.channel().await;
        let names = &self.topology.names;
        let what = format!("empty queues and {dead} dead letters");
        eventually(&what, || async {
            let work = ready_in(&channel, &names.events_queue).await + ready_in(&channel, &names.due_queue).await;
            let left = (work + self.parked(&channel).await, ready_in(&channel, &names.dead_queue).await);
            (left == (0, dead)).then_some(())
        })
        .await;
    }

    /// A test's good end: the service stops in order, nothing is left behind, and no receiver got a request that its
    /// test did not expect.
    pub(crate) async fn end(self, service: Service, requests: &[(&Receiver, usize)]) {
        self.end_with_dead(service, requests, 0).await;
    }

    /// The same where dead letters are expected.
    pub(crate) async fn end_with_dead(self, service: Service, requests: &[(&Receiver, usize)], dead: u32) {
        self.nothing_is_left(dead).await;
        assert!(service.stop().await.finished, "something was still in flight");
        // What was in hand and unanswered would have come back by now.
        self.nothing_is_left(dead).await;
        for (number, (receiver, expected)) in requests.iter().enumerate() {
            assert_eq!(receiver.count(), *expected, "requests of receiver {number}: {:#?}", receiver.recorded());
        }
    }

    /// A dead letter, taken off its queue.
    pub(crate) async fn dead_letter(&self) -> lapin::message::Delivery {
        let broker = self.shared.as_ref().expect("only on the shared broker");
        broker.take(&self.topology.names.dead_queue).await
    }
}

/// The parked messages in a queue, each with its events. They are taken off.
pub(crate) async fn parked_in(channel: &Channel, queue: &str) -> Vec<Vec<ParkedEvent>> {
    let mut all = Vec::new();
    let options = BasicGetOptions { no_ack: true };
    while let Some(message) = channel.basic_get(queue.into(), options).await.unwrap() {
        all.push(codec::decode_parked(&message.delivery.data.into()).unwrap());
    }
    all
}

/// How many messages are ready in a queue.
pub(crate) async fn ready_in(channel: &Channel, queue: &str) -> u32 {
    declared(channel, queue).await.message_count()
}

async fn declared(channel: &Channel, queue: &str) -> lapin::Queue {
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(queue.into(), passive, FieldTable::default()).await.unwrap()
}

fn config(settings: &BTreeMap<&'static str, String>) -> docrelay::config::Config {
    let environment = settings.iter().map(|(key, value)| (variable(key), value.clone()));
    docrelay::config::load(&[], environment).unwrap()
}

/// The variable of a setting. Those of others are set by their own names.
fn variable(key: &str) -> String {
    if key.starts_with("OTEL_") || key == "SSL_CERT_FILE" { key.to_owned() } else { format!("DOCRELAY__{key}") }
}

async fn declare(url: &str, config: &BrokerConfig) -> Topology {
    let config = BrokerConfig { url: Secret::new(url.to_owned()), ..config.clone() };
    let topology = Topology::new(&config);
    let connection = Connection::connect(url, ConnectionProperties::default()).await.unwrap();
    docrelay::broker::declare(&connection, &topology, Declare::Create).await.unwrap();
    connection.close(200, "done".into()).await.unwrap();
    topology
}

/// A subscription of the organization `acme` to `document_text`.
pub(crate) fn subscription(id: &str, url: &str) -> Value {
    json!({"id": id, "organization": "acme", "events": ["document_text"], "target": {"url": url}})
}

/// A value with further fields, or with others in their place.
pub(crate) fn with(mut value: Value, fields: Value) -> Value {
    let Value::Object(fields) = fields else { panic!("expected an object, got {fields}") };
    for (key, field) in fields {
        match value.get_mut(&key) {
            Some(old) if old.is_object() && field.is_object() => *old = with(old.take(), field),
            _ => value[key] = field,
        }
    }
    value
}

/// A `document_text` event of the organization `acme`.
pub(crate) fn event(id: &str) -> DocumentEvent {
    DocumentEvent {
        id: id.parse().unwrap(),
        occurred_at: None,
        organization: "acme".parse().unwrap(),
        project: None,
        inbox: None,
        document: "doc-1".parse().unwrap(),
        metadata: BTreeMap::new(),
        happening: Happening::Text { text: "Hello".to_owned() },
    }
}
