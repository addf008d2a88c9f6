//! `retry.while_down: hold`: what waits for a target that does not answer keeps its attempts.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use docrelay::domain::Outcome;
use serde_json::json;

use crate::support::{
    receiver::{Receiver, Reply},
    service::{ATTEMPTS, GENEROUS, Surroundings, event, subscription, with},
};

const EVENTS: usize = 40;

/// A receiver that answers nothing until it is back.
async fn away() -> (Receiver, Arc<AtomicBool>) {
    let back = Arc::new(AtomicBool::new(false));
    let is_back = Arc::clone(&back);
    let receiver =
        Receiver::scripted(move |_| if is_back.load(Ordering::SeqCst) { Reply::ok() } else { Reply::dropped() }).await;
    (receiver, back)
}

#[tokio::test]
async fn what_is_held_outlasts_an_outage_that_is_longer_than_its_attempts_and_arrives_afterwards() {
    let (receiver, back) = away().await;
    let other = Receiver::ok().await;
    let surroundings = Surroundings::new().await;
    let held = with(subscription("erp", &receiver.url("/")), json!({"retry": {"while_down": "hold"}}));
    surroundings.subscribe(&[held, subscription("crm", &other.url("/"))]);
    let service = surroundings.start().await;
    let events: Vec<_> = (0..EVENTS).map(|number| event(&format!("evt-{number}"))).collect();
    surroundings.publish_all(&events).await;
    surroundings.results.wait_for_outcome(Outcome::Delivered, EVENTS, GENEROUS).await;
    surroundings.results.wait_for_outcome(Outcome::Deferred, EVENTS, GENEROUS).await;
    // Probes go on, more than there are attempts. The longest wait is five seconds here, and all may come up at one moment, for
    // one probe.
    let asked = receiver.count();
    receiver.wait_for(asked + 2 * ATTEMPTS as usize, GENEROUS).await;
    assert_eq!(surroundings.results.finals().len(), EVENTS, "nothing has ended but what the other target took");
    back.store(true, Ordering::SeqCst);
    surroundings.results.wait_for_finals(2 * EVENTS, GENEROUS).await;
    let results = surroundings.results.distinct();
    let with = |outcome| results.iter().filter(|it| it.outcome == outcome).count();
    assert_eq!((with(Outcome::Delivered), with(Outcome::Deferred)), (2 * EVENTS, EVENTS), "{results:#?}");
    let requests = receiver.count();
    surroundings.end(service, &[(&receiver, requests), (&other, EVENTS)]).await;
}

#[tokio::test]
async fn what_is_held_ends_when_it_is_too_old_and_not_before() {
    let (receiver, _never_back) = away().await;
    let surroundings = Surroundings::new().await;
    let retry = json!({"retry": {"while_down": "hold", "max_age": "3s"}});
    surroundings.subscribe(&[with(subscription("erp", &receiver.url("/")), retry)]);
    let service = surroundings.start().await;
    let events: Vec<_> = (0..EVENTS).map(|number| event(&format!("evt-{number}"))).collect();
    let begun = tokio::time::Instant::now();
    surroundings.publish_all(&events).await;
    let ended = surroundings.results.wait_for_outcome(Outcome::Exhausted, EVENTS, GENEROUS).await;
    assert!(begun.elapsed().as_secs() >= 3, "{:?}", begun.elapsed());
    assert!(ended.iter().all(|it| it.error == Some("too_old") && it.attempt < ATTEMPTS), "{ended:#?}");
    let requests = receiver.count();
    surroundings.end(service, &[(&receiver, requests)]).await;
}
