//! Connections that break, brokers that are gone, and silence.

use std::time::Duration;

use docrelay::domain::Outcome;
use lapin::{
    options::{QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use tokio::time::sleep;

use super::{Running, assert_no_attempt_is_repeated, different_results, publish, subscription, until_unacknowledged};
use crate::support::{
    broker::{DEADLINE, TestBroker, eventually},
    node::Node,
    proxy::Proxy,
    receiver::{Receiver, Reply},
};

/// A quorum queue of RabbitMQ 3.10 that was declared a moment ago may be gone after a SIGKILL.
const DECLARED_FOR_GOOD: Duration = Duration::from_secs(2);

async fn behind(proxy: &Proxy, broker: &TestBroker, receiver: &Receiver, options: &str) -> Running {
    let url = format!("{}{options}", proxy.url(broker.config.url.reveal()));
    let subscriptions = [subscription("acme", &receiver.url("/"))];
    let service = Running::start(broker, &subscriptions, &[("DOCRELAY__BROKER__URL", &url)]).await;
    service.until_ready().await;
    service
}

#[tokio::test]
async fn connections_may_break_again_and_again_and_every_event_is_delivered_once() {
    const ROUNDS: usize = 10;
    const EACH: usize = 30;
    let broker = TestBroker::declared().await;
    let results = broker.bound(&broker.config.results_exchange, &["delivered.#"], FieldTable::default()).await;
    let receiver = Receiver::scripted(|_| Reply::ok().after(Duration::from_millis(20))).await;
    let proxy = Proxy::before(broker.config.url.reveal()).await;
    let service = behind(&proxy, &broker, &receiver, "").await;
    for round in 0..ROUNDS {
        let (accepted, before) = (proxy.accepted(), receiver.count());
        publish(&broker, "acme", round * EACH..(round + 1) * EACH, 10).await;
        receiver.wait_for(before + EACH / 3, DEADLINE).await;
        proxy.cut();
        eventually("both connections", || async { (proxy.accepted() >= accepted + 2).then_some(()) }).await;
        service.until_ready().await;
    }
    let told = different_results(&broker, &results, ROUNDS * EACH).await;
    assert!(told.iter().all(|result| result.outcome == Outcome::Delivered));
    until_unacknowledged(&broker.topology.names.events_queue, 0).await;
    let requests = receiver.recorded();
    assert_no_attempt_is_repeated(&requests);
    assert_eq!(requests.len(), ROUNDS * EACH);
    assert_eq!(broker.ready(&broker.topology.names.events_queue).await, 0);
    service.stop().await;
}

#[tokio::test]
async fn a_broker_that_turns_everyone_away_is_tried_for_ever_and_readiness_says_so() {
    let broker = TestBroker::declared().await;
    let receiver = Receiver::ok().await;
    let proxy = Proxy::before(broker.config.url.reveal()).await;
    let service = behind(&proxy, &broker, &receiver, "").await;
    let before = proxy.accepted();
    proxy.refuse();
    service.until_unready(&["publishing: disconnected", "consuming: no"]).await;
    publish(&broker, "acme", 0..10, 10).await;
    eventually("many tries", || async { (proxy.accepted() >= before + 10).then_some(()) }).await;
    let (ready, said) = service.readiness().await;
    assert!(!ready && said.contains("publishing: disconnected") && said.contains("consuming: no"), "{said}");
    assert!(service.is_alive().await, "a restart would not help");
    assert_eq!(receiver.count(), 0);
    proxy.pass();
    service.until_ready().await;
    receiver.wait_for(10, DEADLINE).await;
    service.stop().await;
}

#[tokio::test]
async fn a_connection_that_falls_silent_is_given_up_though_nobody_closed_it() {
    let broker = TestBroker::declared().await;
    let receiver = Receiver::ok().await;
    let proxy = Proxy::before(broker.config.url.reveal()).await;
    let service = behind(&proxy, &broker, &receiver, "?heartbeat=1").await;
    proxy.stall();
    service.until_unready(&["publishing: disconnected", "consuming: no"]).await;
    proxy.pass();
    service.until_ready().await;
    publish(&broker, "acme", 0..10, 10).await;
    receiver.wait_for(10, DEADLINE).await;
    service.stop().await;
}

#[tokio::test]
async fn a_broker_that_was_gone_and_came_back_finds_everything_done_once() {
    const EACH: usize = 60;
    let node = Node::start().await;
    let mut broker = TestBroker::on(&node).await;
    broker.declare().await;
    let results = durable_results(&broker).await;
    sleep(DECLARED_FOR_GOOD).await;
    let receiver = Receiver::scripted(|_| Reply::ok().after(Duration::from_millis(100))).await;
    let mut subscription = subscription("acme", &receiver.url("/"));
    subscription["max_in_flight"] = 8.into();
    let service = Running::start(&broker, &[subscription], &[]).await;
    service.until_ready().await;
    for (round, killed) in [true, false].into_iter().enumerate() {
        publish(&broker, "acme", round * EACH..(round + 1) * EACH, 10).await;
        receiver.wait_for(round * EACH + EACH / 3, DEADLINE).await;
        if killed {
            node.kill().await;
        } else {
            node.stop().await;
        }
        service.until_unready(&["publishing: disconnected", "consuming: no"]).await;
        assert!(service.is_alive().await);
        node.restart().await;
        service.until_ready().await;
        broker.reconnect().await;
        let told = different_results(&broker, results, EACH).await;
        assert!(told.iter().all(|result| result.outcome == Outcome::Delivered));
    }
    let requests = receiver.recorded();
    assert_no_attempt_is_repeated(&requests);
    assert_eq!(requests.len(), 2 * EACH);
    service.stop().await;
    for queue in &broker.topology.queues {
        assert_eq!(broker.ready(&queue.name).await, 0, "{} must be empty", queue.name);
    }
}

/// A queue for results that outlives its broker.
async fn durable_results(broker: &TestBroker) -> &'static str {
    let (queue, mut arguments) = ("results-seen", FieldTable::default());
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    broker.channel.queue_declare(queue.into(), QueueDeclareOptions::durable(), arguments).await.unwrap();
    let (exchange, options) = (broker.config.results_exchange.as_str().into(), QueueBindOptions::default());
    broker
        .channel
        .queue_bind(queue.into(), exchange, "delivered.#".into(), options, FieldTable::default())
        .await
        .unwrap();
    queue
}
