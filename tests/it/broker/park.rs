//! Delay queues that are not there, or say no.

use std::time::Duration;

use lapin::{options::QueueDeleteOptions, types::FieldTable};
use serde_json::json;
use tokio::time::sleep;

use super::{
    Running, assert_no_attempt_is_repeated, different_results, publish, subscription, unacknowledged,
    until_unacknowledged,
};
use crate::support::{
    broker::{DEADLINE, TestBroker, ctl},
    receiver::{Receiver, Reply},
};

/// Refuses every first attempt.
async fn second_time_lucky() -> Receiver {
    Receiver::scripted(|request| Reply::status(if request.attempt() == 1 { 500 } else { 200 })).await
}

/// A publish to a queue that does not exist is confirmed: only the alternate exchange keeps the message.
#[tokio::test]
async fn what_is_parked_in_a_delay_queue_that_somebody_deleted_is_kept_as_unrouted() {
    let broker = TestBroker::declared().await;
    let receiver = second_time_lucky().await;
    let results = broker.bound(&broker.config.results_exchange, &["attempt_failed.#"], FieldTable::default()).await;
    let service = Running::start(&broker, &[subscription("acme", &receiver.url("/"))], &[]).await;
    service.until_ready().await;
    for queue in broker.topology.queues.iter().filter(|queue| queue.ttl.is_some()) {
        broker.channel.queue_delete(queue.name.as_str().into(), QueueDeleteOptions::default()).await.unwrap();
    }
    publish(&broker, "acme", 0..5, 10).await;
    // Told once they are parked.
    broker.wait_for(&results, 5).await;
    // They share messages, as they would have in the delay queue.
    let dead = broker.ready(&broker.topology.names.dead_queue).await;
    let listed = broker.run(&["dead", "list", "--organization", "acme"]).await.fine();
    assert!(listed.contains(&format!("by reason        unrouted {dead}")), "{listed}");
    broker.wait_for(&broker.topology.names.dead_queue, dead).await;
    let shown = broker.run(&["dead", "show", "--limit", "5"]).await.fine();
    assert_eq!(shown.matches("after 1 attempts").count(), 5, "{shown}");

    // They are whole: published again, they go on where they were.
    broker.wait_for(&broker.topology.names.dead_queue, dead).await;
    broker.run(&["dead", "redrive", "--yes"]).await.fine();
    let requests = receiver.wait_for(10, DEADLINE).await;
    assert_eq!(requests.iter().filter(|request| request.attempt() == 2).count(), 5);
    assert_no_attempt_is_repeated(&requests);
    service.stop().await;
}

#[tokio::test]
async fn what_a_delay_queue_refuses_stays_in_hand_and_is_offered_again_until_it_is_taken() {
    const COUNT: usize = 100;
    // Too large to share a message: each asks the delay queue on its own.
    const BYTES: usize = 40 * 1024;
    let broker = TestBroker::declared().await;
    let (prefix, events) = (&broker.config.queue_prefix, &broker.topology.names.events_queue);
    let results = broker.bound(&broker.config.results_exchange, &["delivered.#"], FieldTable::default()).await;
    let pattern = format!("^{prefix}\\.delay\\.");
    ctl(&["set_policy", prefix, &pattern, &json!({ "max-length": 0 }).to_string(), "--apply-to", "queues"]).await;
    let receiver = second_time_lucky().await;
    let service = Running::start(&broker, &[subscription("acme", &receiver.url("/"))], &[]).await;
    service.until_ready().await;

    publish(&broker, "acme", 0..COUNT, BYTES).await;
    receiver.wait_for(COUNT, DEADLINE).await;
    // Longer than a delay queue's wait and than what the broker takes to count: how long a refusal lasts is the subject.
    sleep(Duration::from_secs(7)).await;
    let held = unacknowledged(events).await;
    assert!(held > COUNT / 2, "only {held} wait in hand");
    // RabbitMQ 3.10 does not tell the channel that was refused that there is no limit any more.
    ctl(&["clear_policy", prefix]).await;

    assert_eq!(different_results(&broker, &results, COUNT).await.len(), COUNT);
    until_unacknowledged(events, 0).await;
    let requests = receiver.recorded();
    assert_eq!(requests.len(), 2 * COUNT);
    assert_no_attempt_is_repeated(&requests);
    assert_eq!(broker.ready(&broker.topology.names.dead_queue).await, 0);
    service.stop().await;
}
