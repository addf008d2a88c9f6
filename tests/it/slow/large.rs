//! A big event with very many subscribers that cannot start: it is not copied for each of them.

use std::time::Duration;

use docrelay::domain::{DocumentEvent, Happening};
use serde_json::json;
use tokio::time::Instant;

use crate::support::{
    receiver::{Receiver, Reply},
    service::{GENEROUS, Surroundings, event, ready_in, subscription, with},
};

const SUBSCRIPTIONS: usize = 1_000;

/// How long it is looked at: many times the wait of a delivery that cannot start.
const WATCHED: Duration = Duration::from_secs(25);

/// Watches a service with an 8 MB event whose subscriptions hang, each with these further fields.
async fn watch(fields: &serde_json::Value) {
    let hanging = Receiver::scripted(|_| Reply::hang()).await;
    let surroundings = Surroundings::with(&[("BROKER__DELAY_UNIT", "1s"), ("DELIVERY__BACKOFF", "2s")]).await;
    let slow = with(json!({"target": {"timeout": "60s"}}), fields.clone());
    let all: Vec<_> = (0..SUBSCRIPTIONS)
        .map(|number| with(subscription(&format!("s{number}"), &hanging.url("/")), slow.clone()))
        .collect();
    surroundings.subscribe(&all);
    let program = surroundings.run().await;
    let (before, _) = program.memory();
    let happening = Happening::Text { text: "x".repeat(8_000_000) };
    surroundings.publish(&DocumentEvent { happening, ..event("evt-1") }).await;
    hanging.wait_for(1, GENEROUS).await;

    let (_connection, channel) = surroundings.channel().await;
    let (mut most, until) = (0, Instant::now() + WATCHED);
    while Instant::now() < until {
        let due = ready_in(&channel, &surroundings.topology.names.due_queue).await;
        most = most.max(surroundings.parked(&channel).await + due);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (_, peak) = program.memory();
    eprintln!("at most {most} parked copies; {} MiB more at the peak", (peak - before) >> 20);
    // The bar is ten. What is parked by one message at different moments would add up, so it must stay far below.
    assert!((1..=3).contains(&most), "{most} parked copies at one moment");
    assert!(peak - before < 400 << 20, "{} MiB more at the peak", (peak - before) >> 20);
    // What hangs would go on for an hour.
    program.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_subscribers_of_one_busy_target_share_few_copies_of_a_big_event() {
    watch(&json!({})).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_targets_that_do_not_answer_share_few_copies_of_a_big_event() {
    watch(&json!({"max_in_flight": 1})).await;
}
