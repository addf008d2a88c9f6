//! A part of the test broker of one test's own: names that nobody else uses, gone when the test ends.

use std::{future::Future, path::Path, process::Output, time::Duration};

use docrelay::{
    broker::topology::Topology,
    config::{BrokerConfig, Declare},
    domain::Secret,
};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties,
    message::Delivery,
    options::{
        BasicAckOptions, BasicGetOptions, BasicNackOptions, BasicPublishOptions, ConfirmSelectOptions,
        ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
    },
    types::FieldTable,
};
use tokio::{process::Command, time::timeout};
use uuid::Uuid;

use super::node::{self, Node};

/// Far more than anything here takes on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_mins(1);

/// Where the test broker is.
pub(crate) fn url() -> String {
    let Some(url) = std::env::var_os("DOCRELAY_TEST_AMQP_URL") else {
        panic!("DOCRELAY_TEST_AMQP_URL is not set: these tests need a RabbitMQ");
    };
    url.into_string().unwrap()
}

/// Runs `rabbitmqctl` against the test broker; gives what it prints. Ask only about what belongs to the test: others run
/// beside it.
pub(crate) async fn ctl(arguments: &[&str]) -> String {
    let Some(folder) = std::env::var_os("DOCRELAY_TEST_BROKER_DIR") else {
        panic!("DOCRELAY_TEST_BROKER_DIR is not set: this test needs the folder of a private node");
    };
    node::script(Path::new(&folder), "ctl", arguments).await
}

/// Names of one test's own, and a connection to look at what is behind them.
pub(crate) struct TestBroker {
    pub(crate) config: BrokerConfig,
    pub(crate) topology: Topology,
    pub(crate) channel: Channel,
    connection: Connection,
    /// On a node of the test's own nothing needs to be deleted, and nobody may be there to do it.
    own_node: bool,
}

impl TestBroker {
    pub(crate) async fn new() -> Self {
        Self::at(url(), false).await
    }

    /// Names on a node of the test's own.
    pub(crate) async fn on(node: &Node) -> Self {
        Self::at(node.url().to_owned(), true).await
    }

    async fn at(url: String, own_node: bool) -> Self {
        let unique = Uuid::new_v4().simple().to_string();
        let config = BrokerConfig {
            url: Secret::new(url),
            ca_file: None,
            declare: Declare::Create,
            queue_prefix: format!("test-{unique}"),
            events_exchange: format!("test-{unique}.documents"),
            events_binding: "#".to_owned(),
            results_exchange: format!("test-{unique}.results"),
            prefetch: 500,
            window_bytes: 256 << 20,
            delay_unit: Duration::from_secs(1),
        };
        let (connection, channel) = look(config.url.reveal()).await;
        Self { topology: Topology::new(&config), config, channel, connection, own_node }
    }

    /// With exchanges and queues declared.
    pub(crate) async fn declared() -> Self {
        let broker = Self::new().await;
        broker.declare().await;
        broker
    }

    /// Declares the exchanges and queues.
    pub(crate) async fn declare(&self) {
        let connection = connect(self.config.url.reveal()).await;
        docrelay::broker::declare(&connection, &self.topology, Declare::Create).await.unwrap();
        connection.close(200, "done".into()).await.unwrap();
    }

    /// Looks again, after the broker was gone.
    pub(crate) async fn reconnect(&mut self) {
        let (connection, channel) = look(self.config.url.reveal()).await;
        self.channel = channel;
        drop(std::mem::replace(&mut self.connection, connection));
    }

    /// The settings that make the program use this broker and these names.
    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("DOCRELAY__BROKER__URL", self.config.url.reveal().to_owned()),
            ("DOCRELAY__BROKER__QUEUE_PREFIX", self.config.queue_prefix.clone()),
            ("DOCRELAY__BROKER__EVENTS_EXCHANGE", self.config.events_exchange.clone()),
            ("DOCRELAY__BROKER__RESULTS_EXCHANGE", self.config.results_exchange.clone()),
        ]
    }

    /// The program with these settings; it is killed if it outlives its test.
    pub(crate) fn docrelay(&self, arguments: &[&str]) -> Command {
        let mut command = docrelay(arguments);
        command.envs(self.environment());
        command
    }

    /// Runs the program to its end.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Ran {
        ran(self.docrelay(arguments)).await
    }

    pub(crate) async fn publish(&self, exchange: &str, key: &str, properties: BasicProperties, body: &[u8]) {
        let options = BasicPublishOptions::default();
        let confirm = self.channel.basic_publish(exchange.into(), key.into(), options, body, properties);
        assert!(matches!(confirm.await.unwrap().await.unwrap(), Confirmation::Ack(_)));
    }

    /// Takes the next message off a queue, waiting for it.
    pub(crate) async fn take(&self, queue: &str) -> Delivery {
        let delivery = self.next(queue).await;
        self.channel.basic_ack(delivery.delivery_tag, BasicAckOptions::default()).await.unwrap();
        delivery
    }

    /// Returns the next message of a queue so often that the broker sets it aside.
    pub(crate) async fn return_too_often(&self, queue: &str) {
        let returning = BasicNackOptions { requeue: true, ..BasicNackOptions::default() };
        for _ in 0..=50 {
            let tag = self.next(queue).await.delivery_tag;
            self.channel.basic_nack(tag, returning).await.unwrap();
        }
    }

    async fn next(&self, queue: &str) -> Delivery {
        let what = format!("a message in {queue}");
        let get = || async { self.channel.basic_get(queue.into(), BasicGetOptions::default()).await.unwrap() };
        eventually(&what, get).await.delivery
    }

    /// How many messages are ready in a queue.
    pub(crate) async fn ready(&self, queue: &str) -> u32 {
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        self.channel.queue_declare(queue.into(), passive, FieldTable::default()).await.unwrap().message_count()
    }

    /// Takes everything that is in a queue.
    pub(crate) async fn take_all(&self, queue: &str) -> Vec<Delivery> {
        let mut all = Vec::new();
        while let Some(message) = self.channel.basic_get(queue.into(), BasicGetOptions { no_ack: true }).await.unwrap()
        {
            all.push(message.delivery);
        }
        all
    }

    /// A queue that lives as long as this value, bound to an exchange by these keys.
    pub(crate) async fn bound(&self, exchange: &str, keys: &[&str], arguments: FieldTable) -> String {
        let options = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
        let queue = self.channel.queue_declare("".into(), options, arguments).await.unwrap().name().clone();
        for key in keys {
            let (options, arguments) = (QueueBindOptions::default(), FieldTable::default());
            self.channel.queue_bind(queue.clone(), exchange.into(), (*key).into(), options, arguments).await.unwrap();
        }
        queue.to_string()
    }

    /// Waits until a queue has so many messages ready.
    pub(crate) async fn wait_for(&self, queue: &str, count: u32) {
        eventually(&format!("{count} messages in {queue}"), || async {
            (self.ready(queue).await == count).then_some(())
        })
        .await;
    }
}

impl Drop for TestBroker {
    /// Also after a panic: hence a runtime of its own.
    fn drop(&mut self) {
        if self.own_node {
            return;
        }
        let topology = self.topology.clone();
        let deleting = std::thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(delete(&topology));
        });
        let deleted = deleting.join();
        assert!(deleted.is_ok() || std::thread::panicking(), "the test's queues could not be deleted");
    }
}

async fn delete(topology: &Topology) {
    let connection = connect(&url()).await;
    let channel = connection.create_channel().await.unwrap();
    for queue in &topology.queues {
        channel.queue_delete(queue.name.as_str().into(), QueueDeleteOptions::default()).await.unwrap();
    }
    for exchange in &topology.exchanges {
        channel.exchange_delete(exchange.name.as_str().into(), ExchangeDeleteOptions::default()).await.unwrap();
    }
    connection.close(200, "done".into()).await.unwrap();
}

async fn connect(url: &str) -> Connection {
    Connection::connect(url, ConnectionProperties::default()).await.unwrap()
}

async fn look(url: &str) -> (Connection, Channel) {
    let connection = connect(url).await;
    let channel = connection.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    (connection, channel)
}

/// What a finished program said.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    /// The output of a program that must have succeeded.
    #[track_caller]
    pub(crate) fn fine(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.out
    }

    /// The complaint of a program that must have failed in order.
    #[track_caller]
    pub(crate) fn failed(self) -> String {
        assert_eq!(self.code, Some(1), "{self:?}");
        self.err
    }
}

/// The program, with nothing of docrelay's from this process's environment.
pub(crate) fn docrelay(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_docrelay"));
    #[expect(clippy::disallowed_methods, reason = "to take the environment away, not to read it")]
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("DOCRELAY_")) {
        command.env_remove(name);
    }
    command.args(arguments).stdin(std::process::Stdio::null()).kill_on_drop(true);
    command
}

/// Runs a program to its end.
pub(crate) async fn ran(mut command: Command) -> Ran {
    let Output { status, stdout, stderr } = timeout(DEADLINE, command.output()).await.unwrap().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: status.code(), out: text(stdout), err: text(stderr) }
}

/// Asks until there is an answer. Only for what cannot be waited for, such as a queue's length.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, ask: impl Fn() -> F) -> T {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(DEADLINE, asking).await.unwrap_or_else(|_elapsed| panic!("waited in vain for {what}"))
}
