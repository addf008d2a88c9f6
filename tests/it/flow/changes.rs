//! Subscriptions that change while events flow.

use std::time::Duration;

use docrelay::domain::Outcome;
use serde_json::json;

use crate::support::{
    broker::eventually,
    receiver::{Receiver, Reply},
    service::{GENEROUS, Surroundings, event, subscription, with},
};

#[tokio::test]
async fn a_changed_file_is_in_force_soon_and_nothing_is_dropped_meanwhile() {
    let (before, after) = (Receiver::ok().await, Receiver::ok().await);
    let surroundings = Surroundings::new().await;
    surroundings.subscribe(&[subscription("erp", &before.url("/"))]);
    let service = surroundings.start().await;
    surroundings.publish(&event("evt-0")).await;
    surroundings.results.wait_for(1, GENEROUS).await;
    surroundings.subscribe(&[subscription("erp", &after.url("/"))]);
    let mut published = 1;
    while after.count() == 0 {
        surroundings.publish(&event(&format!("evt-{published}"))).await;
        published += 1;
        surroundings.results.wait_for(published, GENEROUS).await;
    }
    let results = surroundings.results.all();
    assert!(results.iter().all(|result| result.outcome == Outcome::Delivered), "{results:#?}");
    surroundings.end(service, &[(&before, published - 1), (&after, 1)]).await;
}

#[tokio::test]
async fn sighup_puts_a_new_file_in_force_and_a_bad_one_changes_nothing() {
    let (before, after) = (Receiver::ok().await, Receiver::ok().await);
    let surroundings = Surroundings::new().await;
    surroundings.subscribe(&[subscription("erp", &before.url("/"))]);
    let program = surroundings.run().await;
    surroundings.write_subscriptions("subscriptions: [{id: erp, organization: acme, events: [document_nonsense]}]");
    program.signal("HUP").await;
    eventually("the refusal in the log", || async {
        std::fs::read_to_string(program.log()).unwrap().contains("document_nonsense").then_some(())
    })
    .await;
    surroundings.publish(&event("evt-1")).await;
    surroundings.results.wait_for(1, GENEROUS).await;
    assert_eq!((before.count(), after.count()), (1, 0), "the old file stays in force");

    surroundings.subscribe(&[subscription("erp", &after.url("/"))]);
    program.signal("HUP").await;
    let mut published = 1;
    while after.count() == 0 {
        published += 1;
        surroundings.publish(&event(&format!("evt-{published}"))).await;
        surroundings.results.wait_for(published, GENEROUS).await;
    }
    program.stop().await;
    surroundings.nothing_is_left(0).await;
}

#[tokio::test]
async fn a_delivery_whose_subscription_left_the_file_waits_until_it_is_too_old() {
    let receiver = Receiver::scripted(|_| Reply::status(500)).await;
    let other = Receiver::ok().await;
    let surroundings = Surroundings::with(&[("DELIVERY__MAX_AGE", "6s")]).await;
    surroundings.subscribe(&[with(
        subscription("erp", &receiver.url("/")),
        json!({"retry": {"backoff": "1s", "max_attempts": 2}}),
    )]);
    let service = surroundings.start().await;
    surroundings.publish(&event("evt-1")).await;
    surroundings.results.wait_for(1, GENEROUS).await;
    surroundings.subscribe(&[subscription("crm", &other.url("/"))]);
    service.reload.notify_one();
    let result = surroundings.results.wait_for(2, GENEROUS).await.remove(1);
    assert_eq!((result.outcome, result.error, result.attempt), (Outcome::Exhausted, Some("too_old"), 1));
    assert_eq!((result.target.as_str(), result.max_attempts), ("", 0));
    surroundings.end(service, &[(&receiver, 1), (&other, 0)]).await;
}

#[tokio::test]
async fn a_subscription_that_returns_to_the_file_gets_what_waited_for_it() {
    let receiver = Receiver::scripted(|request| Reply::status(if request.attempt() == 1 { 500 } else { 200 })).await;
    let surroundings = Surroundings::with(&[("DELIVERY__MAX_AGE", "8s")]).await;
    let erp = with(subscription("erp", &receiver.url("/")), json!({"retry": {"backoff": "300ms", "max_age": "1m"}}));
    surroundings.subscribe(std::slice::from_ref(&erp));
    let service = surroundings.start().await;
    surroundings.publish(&event("evt-1")).await;
    surroundings.results.wait_for(1, GENEROUS).await;
    surroundings.subscribe(&[]);
    service.reload.notify_one();
    tokio::time::sleep(Duration::from_secs(1)).await; // it comes up meanwhile, and is parked again
    surroundings.subscribe(&[erp]);
    service.reload.notify_one();
    let result = surroundings.results.wait_for(2, GENEROUS).await.remove(1);
    assert_eq!((result.outcome, result.attempt), (Outcome::Delivered, 2));
    surroundings.end(service, &[(&receiver, 2)]).await;
}

#[tokio::test]
async fn a_delivery_does_not_follow_its_subscriptions_id_to_another_organization() {
    let receiver = Receiver::scripted(|_| Reply::status(500)).await;
    let other = Receiver::ok().await;
    let surroundings = Surroundings::with(&[("DELIVERY__MAX_AGE", "6s")]).await;
    let retry = json!({"retry": {"backoff": "1s", "max_attempts": 2}});
    surroundings.subscribe(&[with(subscription("erp", &receiver.url("/")), retry)]);
    let service = surroundings.start().await;
    surroundings.publish(&event("evt-1")).await;
    surroundings.results.wait_for(1, GENEROUS).await;
    surroundings.subscribe(&[with(subscription("erp", &other.url("/")), json!({"organization": "rival"}))]);
    service.reload.notify_one();
    let result = surroundings.results.wait_for(2, GENEROUS).await.remove(1);
    assert_eq!((result.outcome, result.error, result.attempt), (Outcome::Exhausted, Some("too_old"), 1));
    assert_eq!(result.target, "", "and nothing of the other organization is told");
    surroundings.end(service, &[(&receiver, 1), (&other, 0)]).await;
}

#[tokio::test]
async fn a_delivery_whose_subscription_was_disabled_is_cancelled_when_it_comes_up() {
    let receiver = Receiver::scripted(|_| Reply::status(500)).await;
    let surroundings = Surroundings::new().await;
    let erp = with(subscription("erp", &receiver.url("/")), json!({"retry": {"backoff": "1s"}}));
    surroundings.subscribe(std::slice::from_ref(&erp));
    let service = surroundings.start().await;
    surroundings.publish(&event("evt-1")).await;
    surroundings.results.wait_for(1, GENEROUS).await;
    surroundings.subscribe(&[with(erp, json!({"enabled": false}))]);
    service.reload.notify_one();
    let result = surroundings.results.wait_for(2, GENEROUS).await.remove(1);
    assert_eq!((result.outcome, result.error, result.attempt), (Outcome::Cancelled, Some("disabled"), 1));
    // New events do not match.
    surroundings.publish(&event("evt-2")).await;
    surroundings.results.wait_for_outcome(Outcome::Unsubscribed, 1, GENEROUS).await;
    surroundings.end(service, &[(&receiver, 1)]).await;
}
