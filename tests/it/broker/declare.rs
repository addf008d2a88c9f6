//! The topology as the broker has it: made once, checked without rights to make it, and with the arguments that keep
//! messages.

use std::{collections::BTreeMap, path::Path};

use docrelay::{
    broker::{self, DeclareError},
    config::Declare,
};
use lapin::{
    ExchangeKind,
    options::{ExchangeDeclareOptions, QueueDeclareOptions, QueueDeleteOptions},
    types::{AMQPValue, FieldTable},
};
use serde_json::Value;

use super::Running;
use crate::support::broker::{TestBroker, ctl, eventually};

async fn declare(broker: &TestBroker, mode: Declare) -> Result<(), DeclareError> {
    let connection = broker::connect(&broker.config, "declaring").await.unwrap();
    let declared = broker::declare(&connection, &broker.topology, mode).await;
    connection.close(200, "done".into()).await.unwrap();
    declared
}

/// The arguments of the test's queues, as the broker shows them.
async fn arguments_on(broker: &TestBroker) -> BTreeMap<String, BTreeMap<String, Value>> {
    let told = ctl(&["list_queues", "--silent", "--formatter", "json", "name", "arguments"]).await;
    let queues: Vec<Value> = serde_json::from_str(&told).unwrap();
    let ours = queues.iter().filter(|queue| queue["name"].as_str().unwrap().starts_with(&broker.config.queue_prefix));
    ours.map(|queue| {
        let triples = queue["arguments"].as_array().unwrap().iter();
        let arguments = triples.map(|triple| (triple[0].as_str().unwrap().to_owned(), triple[2].clone()));
        (queue["name"].as_str().unwrap().to_owned(), arguments.collect())
    })
    .collect()
}

async fn bindings_on(broker: &TestBroker) -> Vec<(String, String, String)> {
    let told = ctl(&["list_bindings", "-q", "--no-table-headers", "source_name", "destination_name", "routing_key"]);
    let told = told.await;
    let mut bindings: Vec<_> = told
        .lines()
        .filter(|line| line.starts_with(&broker.config.queue_prefix))
        .map(|line| {
            let columns: Vec<_> = line.split('\t').map(str::to_owned).collect();
            (columns[0].clone(), columns[1].clone(), columns[2].clone())
        })
        .collect();
    bindings.sort();
    bindings
}

#[tokio::test]
async fn creating_twice_makes_what_the_topology_says_and_verifying_is_content_with_it() {
    let broker = TestBroker::new().await;
    for _ in 0..2 {
        declare(&broker, Declare::Create).await.unwrap();
    }
    declare(&broker, Declare::Verify).await.unwrap();

    let there = arguments_on(&broker).await;
    let wanted: BTreeMap<_, BTreeMap<_, _>> = broker
        .topology
        .queues
        .iter()
        .map(|queue| {
            let arguments = queue.arguments(&broker.topology.names.park_exchange).into_iter();
            (queue.name.clone(), arguments.map(|(name, value)| (name.to_owned(), value.to_string())).collect())
        })
        .collect();
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let there: BTreeMap<_, BTreeMap<_, _>> = there
        .into_iter()
        .map(|(name, arguments)| (name, arguments.iter().map(|(name, value)| (name.clone(), text(value))).collect()))
        .collect();
    assert_eq!(there, wanted);

    let mut wanted: Vec<_> =
        broker.topology.bindings.iter().cloned().map(|it| (it.exchange, it.queue, it.key)).collect();
    wanted.sort();
    assert_eq!(bindings_on(&broker).await, wanted);
}

#[tokio::test]
async fn verifying_an_empty_broker_names_everything_that_is_missing_and_creates_nothing() {
    let broker = TestBroker::new().await;
    for _ in 0..2 {
        let error = declare(&broker, Declare::Verify).await.unwrap_err();
        assert!(error.needs_a_person());
        let told = error.to_string();
        for exchange in &broker.topology.exchanges {
            assert!(told.contains(&format!("exchange {}", exchange.name)), "{told}");
        }
        for queue in &broker.topology.queues {
            assert!(told.contains(&format!("queue {}", queue.name)), "{told}");
        }
    }
}

#[tokio::test]
async fn an_exchange_that_differs_is_named_with_the_difference() {
    let broker = TestBroker::new().await;
    let name = &broker.config.results_exchange;
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    broker
        .channel
        .exchange_declare(name.as_str().into(), ExchangeKind::Fanout, durable, FieldTable::default())
        .await
        .unwrap();
    let error = declare(&broker, Declare::Create).await.unwrap_err();
    assert!(error.needs_a_person());
    let told = error.to_string();
    assert!(told.contains(&format!("exchange {name} exists on the broker, but differs")), "{told}");
    assert!(told.contains("'type'") && told.contains("fanout"), "{told}");
}

#[tokio::test]
async fn a_service_whose_queue_differs_lives_but_is_not_ready_until_someone_mends_it() {
    let broker = TestBroker::new().await;
    let queue = &broker.topology.names.due_queue;
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    broker.channel.queue_declare(queue.as_str().into(), QueueDeclareOptions::durable(), arguments).await.unwrap();

    let service = Running::start(&broker, &[], &[]).await;
    service.until_unready(&["publishing: disconnected", "consuming: no"]).await;
    assert!(service.is_alive().await);
    broker.channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await.unwrap();
    service.until_ready().await;
    service.stop().await;
}

#[tokio::test]
async fn the_broker_knows_every_argument_that_keeps_messages() {
    let broker = TestBroker::declared().await;
    let there = arguments_on(&broker).await;
    assert_eq!(there.len(), broker.topology.queues.len());
    for (name, arguments) in &there {
        assert_eq!(arguments["x-queue-type"], "quorum", "{name}");
        let limit = arguments.get("x-delivery-limit").map(|limit| limit.as_i64().unwrap());
        if arguments.contains_key("x-message-ttl") {
            // Nobody consumes from a delay queue: nothing can be returned to it.
            assert_eq!(limit, None, "{name}");
        } else {
            // -1 would be "unlimited" on RabbitMQ 4, but "none" on 3.10; 4 has 20 by default.
            assert!(limit.is_some_and(|limit| limit > 0), "{name}: {limit:?}");
        }
        if [&broker.topology.names.dead_queue, &broker.topology.names.presence_queue].contains(&name) {
            continue;
        }
        assert_eq!(arguments["x-dead-letter-exchange"], *broker.topology.names.park_exchange, "{name}");
        assert_eq!(arguments["x-dead-letter-strategy"], "at-least-once", "{name}");
        // Without it the broker takes the arguments, and falls back to at most once.
        assert_eq!(arguments["x-overflow"], "reject-publish", "{name}");
    }
}

/// The broker only says it in its log.
#[tokio::test]
async fn the_broker_does_not_fall_back_to_losing_dead_letters() {
    let broker = TestBroker::declared().await;
    // A queue that must be told of in the log shows that the log is read rightly. Exclusive queues cannot be quorum.
    let careless = format!("{}.careless", broker.config.queue_prefix);
    let mut arguments = FieldTable::default();
    for (name, value) in [
        ("x-queue-type", "quorum"),
        ("x-dead-letter-exchange", &broker.topology.names.park_exchange),
        ("x-dead-letter-strategy", "at-least-once"),
    ] {
        arguments.insert(name.into(), AMQPValue::LongString(value.into()));
    }
    let durable = QueueDeclareOptions::durable();
    broker.channel.queue_declare(careless.as_str().into(), durable, arguments).await.unwrap();
    let folder = std::env::var_os("DOCRELAY_TEST_BROKER_DIR").expect("the folder of a private node");
    let told = eventually("the broker's warning", || async {
        let told = fallbacks(&Path::new(&folder).join("log"));
        told.contains(&careless).then_some(told)
    })
    .await;
    broker.channel.queue_delete(careless.as_str().into(), QueueDeleteOptions::default()).await.unwrap();
    for queue in &broker.topology.queues {
        assert!(!told.contains(&format!("'{}'", queue.name)), "{told}");
    }
}

fn fallbacks(folder: &Path) -> String {
    let mut told = String::new();
    for file in std::fs::read_dir(folder).unwrap() {
        let log = std::fs::read(file.unwrap().path()).unwrap();
        for line in String::from_utf8_lossy(&log).lines().filter(|line| line.contains("at-most-once")) {
            told += line;
            told.push('\n');
        }
    }
    told
}
