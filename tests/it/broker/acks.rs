//! What is finished is acked, whatever else is not; and what is in hand fits the window.

use std::time::Duration;

use docrelay::broker::{Acked, Confirmed, Standing};
use lapin::types::FieldTable;
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use super::{
    Running, assert_no_attempt_is_repeated, consuming::Consuming, different_results, publish, subscription,
    until_unacknowledged,
};
use crate::support::{
    broker::{DEADLINE, TestBroker, eventually},
    receiver::{Receiver, Reply},
};

const MIB: usize = 1 << 20;

#[tokio::test]
async fn one_that_hangs_at_the_head_keeps_nobody_elses_ack_back() {
    const OTHERS: usize = 100;
    let broker = TestBroker::declared().await;
    let events = &broker.topology.names.events_queue;
    let results = broker.bound(&broker.config.results_exchange, &["delivered.#"], FieldTable::default()).await;
    let receiver = Receiver::scripted(|request| {
        let hangs = request.json()["data"]["id"] == "doc-0";
        Reply::ok().after(if hangs { Duration::from_secs(15) } else { Duration::ZERO })
    })
    .await;
    let service = Running::start(&broker, &[subscription("acme", &receiver.url("/"))], &[]).await;
    service.until_ready().await;
    publish(&broker, "acme", 0..1, 10).await;
    receiver.wait_for(1, DEADLINE).await;
    publish(&broker, "acme", 1..OTHERS + 1, 10).await;
    assert_eq!(different_results(&broker, &results, OTHERS).await.len(), OTHERS);
    until_unacknowledged(events, 1).await;
    assert_eq!(broker.ready(&results).await, 0, "the first one still hangs");
    assert_eq!(different_results(&broker, &results, 1).await[0].event_id.as_str(), "evt-0");
    until_unacknowledged(events, 0).await;
    assert_eq!(receiver.count(), 1 + OTHERS);
    service.stop().await;
}

/// Follows how many of `count` events are in hand until all are finished; gives the most at any moment. What is finished
/// is asked after what is taken: the answer is never too large.
async fn most_in_hand(broker: &TestBroker, results: &str, count: usize) -> usize {
    let began = Instant::now();
    let mut most = 0;
    loop {
        let taken = count - broker.ready(&broker.topology.names.events_queue).await as usize;
        let finished = broker.ready(results).await as usize;
        most = most.max(taken.saturating_sub(finished));
        if finished >= count {
            return most;
        }
        assert!(began.elapsed() < DEADLINE, "only {finished} of {count} finished");
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn big_events_that_wait_for_a_slow_receiver_are_in_hand_only_as_far_as_the_window_allows() {
    const COUNT: usize = 40;
    let broker = TestBroker::declared().await;
    let results = broker.bound(&broker.config.results_exchange, &["delivered.#"], FieldTable::default()).await;
    let receiver = Receiver::scripted(|_| Reply::ok().after(Duration::from_millis(100))).await;
    publish(&broker, "acme", 0..COUNT, MIB).await;
    let window = [("DOCRELAY__BROKER__WINDOW_BYTES", "4MiB"), ("DOCRELAY__EVENTS__MAX_BYTES", "2MiB")];
    let service = Running::start(&broker, &[subscription("acme", &receiver.url("/"))], &window).await;
    service.until_ready().await;

    let most = most_in_hand(&broker, &results, COUNT).await;
    assert!((1..=4).contains(&most), "{most} MiB in hand");

    // Small ones open the window wide; big ones close it again.
    broker.take_all(&results).await;
    for round in 1..=3 {
        publish(&broker, "acme", round * 100..round * 100 + 50, 10).await;
        different_results(&broker, &results, 50).await;
        sleep(Duration::from_millis(250)).await;
    }
    publish(&broker, "acme", 1000..1000 + COUNT, MIB).await;
    different_results(&broker, &results, COUNT).await;
    publish(&broker, "acme", 2000..2000 + COUNT, MIB).await;
    let most = most_in_hand(&broker, &results, COUNT).await;
    assert!((1..=4).contains(&most), "{most} MiB in hand after small ones");

    let requests = receiver.recorded();
    assert_no_attempt_is_repeated(&requests);
    assert_eq!(requests.len(), 3 * COUNT + 150);
    service.stop().await;
}

/// After 25 ms the prefetch grows, and the consumer is opened again: a stop may come right then. Each round tries another moment;
/// all of them may miss it.
#[tokio::test]
async fn a_stop_while_the_consumer_is_opened_again_loses_no_ack() {
    const EVENTS: usize = 300;
    let broker = TestBroker::declared().await;
    let events = &broker.topology.names.events_queue;
    let (mut published, mut acked) = (0, 0);
    for round in 0..60 {
        let missing = EVENTS - (published - acked);
        publish(&broker, "acme", published..published + missing, 10).await;
        published += missing;
        let mut consuming = Consuming::start(&broker, watch::Sender::new(Standing::Open).subscribe());
        let first = consuming.next().await;
        let moment = Instant::now() + Duration::from_micros(18_000 + 500 * (round % 20));
        assert_eq!(first.receipt.ack(Confirmed::nothing_owed()), Acked::Sent);
        let (others, are_taken) = consuming.ack_until(moment).await;
        assert!(are_taken, "round {round}: the session did not end in order");
        acked += 1 + others;
        eventually("all that was not acked, and nothing else", || async {
            (broker.ready(events).await as usize == published - acked).then_some(())
        })
        .await;
    }
}
