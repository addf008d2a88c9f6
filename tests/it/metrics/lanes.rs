//! How lanes stand, while something waits in one of them and after it has.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use docrelay::domain::Outcome;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::support::{
    broker::eventually,
    receiver::{Receiver, Reply},
    scrape::Scraped,
    service::{GENEROUS, Surroundings, event, subscription, with},
};

#[tokio::test]
async fn what_waits_for_a_busy_target_is_seen_in_its_line_and_counted_when_it_leaves_it() {
    let released = CancellationToken::new();
    let release = released.clone();
    let receiver = Receiver::scripted(move |request| match request.index {
        0 => Reply::ok(),
        _ => Reply::ok().once(&released),
    })
    .await;
    // So long a delivery stands in line before it is parked.
    let surroundings = Surroundings::with(&[("BROKER__DELAY_UNIT", "1s")]).await;
    surroundings.subscribe(&[with(subscription("erp", &receiver.url("/")), json!({"max_in_flight": 1}))]);
    let service = surroundings.start().await;
    let nobody = Scraped::open(service.admin).await;
    for name in ["docrelay_limiter_waits_total", "docrelay_limiter_wait_seconds_count", "docrelay_in_line"] {
        assert_eq!(nobody.value(name, &[]), Some(0.0), "{name}");
    }
    surroundings.publish(&event("evt-0")).await;
    surroundings.results.wait_for(1, GENEROUS).await;

    surroundings.publish_all(&[event("evt-1"), event("evt-2"), event("evt-3")]).await;
    let busy = eventually("two in line", || async {
        let scraped = Scraped::open(service.admin).await;
        (scraped.value("docrelay_in_line", &[]) == Some(2.0)).then_some(scraped)
    })
    .await;
    assert_eq!(busy.value("docrelay_in_flight", &[]), Some(1.0));
    let taken = |window| busy.value("docrelay_window_places", &[("window", window)]).unwrap();
    // A target that takes its time is moved to the slow one.
    assert_eq!(Some(taken("quick") + taken("slow")), Some(1.0));
    let waits = busy.value("docrelay_limiter_waits_total", &[]).unwrap();
    assert!(waits >= 2.0, "{waits}");

    release.cancel();
    surroundings.results.wait_for_outcome(Outcome::Delivered, 4, GENEROUS).await;
    let after = eventually("an empty lane", || async {
        let scraped = Scraped::open(service.admin).await;
        let is_empty = |name| scraped.value(name, &[]) == Some(0.0);
        (is_empty("docrelay_in_line") && is_empty("docrelay_in_flight")).then_some(scraped)
    })
    .await;
    let of = |name| after.value(name, &[]).unwrap();
    let (stood, seconds) = (of("docrelay_limiter_wait_seconds_count"), of("docrelay_limiter_wait_seconds_sum"));
    assert!(stood >= 2.0 && stood <= of("docrelay_limiter_waits_total") && seconds > 0.0, "{stood} in {seconds} s");
    surroundings.end(service, &[(&receiver, 4)]).await;
}

#[tokio::test]
async fn a_target_that_answers_again_is_shown_as_up() {
    let answers = Arc::new(AtomicBool::new(false));
    let does = Arc::clone(&answers);
    let receiver =
        Receiver::scripted(move |_| if does.load(Ordering::Relaxed) { Reply::ok() } else { Reply::dropped() }).await;
    let surroundings = Surroundings::with(&[("DELIVERY__MAX_ATTEMPTS", "5")]).await;
    surroundings.subscribe(&[subscription("erp", &receiver.url("/hook"))]);
    let service = surroundings.start().await;
    surroundings.publish(&event("evt-1")).await;
    surroundings.results.wait_for_outcome(Outcome::Exhausted, 1, GENEROUS).await;
    let target = receiver.url("");
    let labels = [("organization", "acme"), ("target", target.as_str())];
    let lanes = |scraped: &Scraped, health| scraped.value("docrelay_lanes", &[("health", health)]);
    let down = Scraped::open(service.admin).await;
    assert_eq!((down.value("docrelay_target_up", &labels), lanes(&down, "down")), (Some(0.0), Some(1.0)));

    answers.store(true, Ordering::Relaxed);
    surroundings.publish(&event("evt-2")).await;
    surroundings.results.wait_for_outcome(Outcome::Delivered, 1, GENEROUS).await;
    let up = Scraped::open(service.admin).await;
    assert_eq!((up.value("docrelay_target_up", &labels), lanes(&up, "down")), (Some(1.0), Some(0.0)));
    assert_eq!(lanes(&up, "answering"), Some(1.0));
    assert!(service.stop().await.finished);
}
