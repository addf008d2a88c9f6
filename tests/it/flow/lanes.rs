//! Targets at their limit and targets that do not answer: what waits, and who is not held up by it.

use std::time::Duration;

use docrelay::domain::Outcome;
use serde_json::json;
use tokio::time::Instant;

use crate::support::{
    receiver::{Receiver, Reply},
    service::{GENEROUS, Surroundings, event, parked_in, subscription, with},
};

#[tokio::test]
async fn a_target_never_has_more_in_flight_than_its_cap_and_waiting_for_it_costs_no_attempt() {
    const CAP: usize = 3;
    const EVENTS: usize = 60;
    const TAKES: Duration = Duration::from_millis(50);
    let receiver = Receiver::scripted(|_| Reply::ok().after(TAKES)).await;
    let surroundings = Surroundings::new().await;
    surroundings.subscribe(&[with(subscription("erp", &receiver.url("/")), json!({"max_in_flight": CAP}))]);
    let service = surroundings.start().await;
    let events: Vec<_> = (0..EVENTS).map(|number| event(&format!("evt-{number}"))).collect();
    surroundings.publish_all(&events).await;
    let results = surroundings.results.wait_for(EVENTS, GENEROUS).await;
    assert!(results.iter().all(|result| (result.outcome, result.attempt) == (Outcome::Delivered, 1)), "{results:#?}");
    // Whoever came while another was being answered was in flight together with it.
    let arrived: Vec<_> = receiver.recorded().iter().map(|request| request.arrived).collect();
    let together = |now: &Instant| arrived.iter().filter(|it| (**it..**it + TAKES).contains(now)).count();
    assert_eq!(arrived.iter().map(together).max(), Some(CAP), "the cap is used, and never passed");
    surroundings.end(service, &[(&receiver, EVENTS)]).await;
}

#[tokio::test]
async fn one_target_that_hangs_does_not_hold_up_the_other() {
    const EVENTS: usize = 100;
    let (hanging, good) = (Receiver::scripted(|_| Reply::hang()).await, Receiver::ok().await);
    let surroundings = Surroundings::with(&[("BROKER__DELAY_UNIT", "1s"), ("BROKER__PREFETCH", "50")]).await;
    let gives_up = json!({"target": {"timeout": "4s"}, "retry": {"max_attempts": 1}});
    surroundings
        .subscribe(&[with(subscription("hangs", &hanging.url("/")), gives_up), subscription("good", &good.url("/"))]);
    let service = surroundings.start().await;
    let events: Vec<_> = (0..EVENTS).map(|number| event(&format!("evt-{number}"))).collect();
    surroundings.publish_all(&events).await;
    surroundings.results.wait_for_outcome(Outcome::Delivered, EVENTS, GENEROUS).await;
    let exhausted = surroundings.results.wait_for_outcome(Outcome::Exhausted, EVENTS, GENEROUS).await;
    assert!(exhausted.iter().all(|result| (result.error, result.attempt) == (Some("timeout"), 1)), "{exhausted:#?}");
    let results = surroundings.results.all();
    let last_good = results.iter().rposition(|result| result.outcome == Outcome::Delivered).unwrap();
    let ended_before = results.iter().take(last_good).filter(|it| it.outcome == Outcome::Exhausted).count();
    assert!(ended_before <= 25, "the good ones waited for {ended_before} that hung");
    surroundings.end(service, &[(&hanging, EVENTS), (&good, EVENTS)]).await;
}

#[tokio::test]
async fn deliveries_of_one_event_that_cannot_start_share_a_parked_message() {
    const TARGETS: usize = 30;
    let hanging = Receiver::scripted(|_| Reply::hang()).await;
    // Those that never answered hold three times the window: twelve of them.
    let surroundings = Surroundings::with(&[
        ("BROKER__DELAY_UNIT", "2s"),
        ("BROKER__PREFETCH", "4"),
        ("DELIVERY__TIMEOUT", "4s"),
        ("DELIVERY__MAX_ATTEMPTS", "1"),
    ])
    .await;
    // One's own limit is one's own lane: thirty that never answered.
    let own_lane = json!({"max_in_flight": 1});
    let all: Vec<_> = (0..TARGETS)
        .map(|number| with(subscription(&format!("s{number}"), &hanging.url("/")), own_lane.clone()))
        .collect();
    surroundings.subscribe(&all);
    let (_connection, channel) = surroundings.channel().await;
    let copies = surroundings.copies_of_what_is_parked(&channel).await;
    let service = surroundings.start().await;
    surroundings.publish(&event("evt-1")).await;
    surroundings.results.wait_for_finals(TARGETS, GENEROUS).await;
    // Most know at once that they cannot start, a few a moment later: those join what gathers. A copy may leave in between.
    let parked = parked_in(&channel, &copies).await;
    let first = parked.iter().flatten().map(|event| event.owed.iter().filter(|owed| owed.hop == 1).count());
    let first: Vec<_> = first.filter(|owed| *owed > 0).collect();
    assert_eq!(
        first.iter().sum::<usize>(),
        TARGETS - 12,
        "each of them waits once, before its first attempt: {first:?}"
    );
    assert!(first.len() <= 2, "copies, by what they owe: {first:?}");
    surroundings.end(service, &[(&hanging, TARGETS)]).await;
}
