//! Targets that are paused by hand while events flow.

use std::net::SocketAddr;

use docrelay::{app::Service, domain::Outcome};
use reqwest::Method;
use serde_json::{Value, json};

use super::api::Made;
use crate::support::{
    broker::eventually,
    receiver::{Receiver, Reply},
    scrape::Scraped,
    service::{GENEROUS, Surroundings, event, subscription, with},
};

/// Asks a service for its targets, or something of one of them.
async fn ask(made: &Made, address: SocketAddr, method: Method, path: &str) -> Value {
    let (status, text) = made.send(address, method, &format!("/v1/targets{path}"), &json!({})).await;
    assert!(status.is_success(), "{path}: {text}");
    serde_json::from_str(&text).unwrap()
}

/// The path of the target that a receiver is.
async fn target(made: &Made, address: SocketAddr, receiver: &Receiver) -> String {
    let all = ask(made, address, Method::GET, "").await;
    let place = receiver.url("/").trim_end_matches('/').to_owned();
    let found = all["items"].as_array().unwrap().iter().find(|it| it["target"] == place.as_str());
    format!("/{}", found.unwrap_or_else(|| panic!("{place}: {all}"))["id"].as_str().unwrap())
}

async fn turn(made: &Made, address: SocketAddr, target: &str, what: &str) {
    ask(made, address, Method::POST, &format!("{target}/{what}")).await;
}

/// Waits until a replica knows whether a target is paused.
async fn until(made: &Made, address: SocketAddr, target: &str, paused: bool) {
    let followed = || async { (ask(made, address, Method::GET, target).await["paused"] == paused).then_some(()) };
    eventually("the other replica", followed).await;
}

/// Waits until these have taken in so many events since they began, and have none of them in hand.
async fn until_taken_in(services: &[&Service], events: usize) {
    eventually(&format!("{events} events taken in and acked"), || async {
        let (mut taken, mut in_hand) = (0.0, 0.0);
        for service in services {
            let scraped = Scraped::plain(service.admin).await;
            let value = |name| scraped.value(name, &[("source", "events")]).unwrap_or_default();
            taken += value("docrelay_events_total");
            in_hand += value("docrelay_messages_in_hand");
        }
        #[expect(clippy::cast_precision_loss, reason = "a few")]
        let all = events as f64;
        (taken >= all && in_hand < 1.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_paused_target_gets_nothing_on_any_replica_and_everything_once_it_is_resumed() {
    const EVENTS: usize = 10;
    let (receiver, other) = (Receiver::ok().await, Receiver::ok().await);
    let made = Made::new().await;
    let surroundings = Surroundings::with(&made.settings()).await;
    surroundings.subscribe(&[subscription("erp", &receiver.url("/")), subscription("crm", &other.url("/"))]);
    let (first, second) = tokio::join!(surroundings.start(), surroundings.start());
    let (here, there) = (first.api.unwrap(), second.api.unwrap());
    let target = target(&made, here, &receiver).await;
    turn(&made, here, &target, "pause").await;
    until(&made, there, &target, true).await;

    let events: Vec<_> = (0..EVENTS).map(|number| event(&format!("evt-{number}"))).collect();
    surroundings.publish_all(&events).await;
    // The broker gives to both by turns; the other target gets all of them.
    let delivered = surroundings.results.wait_for(EVENTS, GENEROUS).await;
    assert!(
        delivered
            .iter()
            .all(|it| it.outcome == Outcome::Delivered && it.subscription.as_ref().unwrap().as_str() == "crm")
    );
    assert_eq!((receiver.count(), other.count()), (0, EVENTS));
    until_taken_in(&[&first, &second], EVENTS).await;
    let mut parked = 0.0;
    for service in [&first, &second] {
        let scraped = Scraped::plain(service.admin).await;
        assert_eq!(scraped.value("docrelay_lanes_paused", &[]), Some(1.0));
        parked += scraped.value("docrelay_parked_total", &[("reason", "paused")]).unwrap();
    }
    assert!(parked >= 10.0, "{parked}");
    assert_eq!(receiver.count(), 0);

    turn(&made, there, &target, "resume").await;
    until(&made, here, &target, false).await;
    let all = surroundings.results.wait_for(2 * EVENTS, GENEROUS).await;
    let late: Vec<_> = all.iter().filter(|it| it.subscription.as_ref().unwrap().as_str() == "erp").collect();
    assert_eq!(late.len(), EVENTS);
    assert!(late.iter().all(|it| it.outcome == Outcome::Delivered && it.attempt == 1), "nothing was spent: {late:#?}");
    assert!(second.stop().await.finished);
    surroundings.end(first, &[(&receiver, EVENTS), (&other, EVENTS)]).await;
}

#[tokio::test]
async fn a_pause_outlasts_a_restart_and_spends_no_attempt_of_what_failed_before() {
    let receiver = Receiver::scripted(|request| Reply::status(if request.index == 0 { 500 } else { 200 })).await;
    let made = Made::new().await;
    let surroundings = Surroundings::with(&made.settings()).await;
    surroundings.subscribe(&[with(subscription("erp", &receiver.url("/")), json!({"retry": {"backoff": "1s"}}))]);
    let service = surroundings.start().await;
    let target = target(&made, service.api.unwrap(), &receiver).await;
    surroundings.publish(&event("evt-1")).await;
    surroundings.results.wait_for_outcome(Outcome::AttemptFailed, 1, GENEROUS).await;
    turn(&made, service.api.unwrap(), &target, "pause").await;
    assert!(service.stop().await.finished);

    let service = surroundings.start().await;
    let address = service.api.unwrap();
    assert_eq!(ask(&made, address, Method::GET, &target).await["paused"], json!(true));
    // The one that failed comes up, and waits for the end of the pause.
    eventually("a delivery that is parked for the pause", || async {
        let scraped = Scraped::plain(service.admin).await;
        scraped.value("docrelay_parked_total", &[("reason", "paused")]).filter(|parked| *parked >= 1.0)
    })
    .await;
    surroundings.publish(&event("evt-2")).await;
    until_taken_in(&[&service], 1).await;
    assert_eq!((receiver.count(), surroundings.results.all().len()), (1, 1));
    turn(&made, address, &target, "resume").await;
    let all = surroundings.results.wait_for_outcome(Outcome::Delivered, 2, GENEROUS).await;
    let mut attempts: Vec<_> = all.iter().map(|it| it.attempt).collect();
    attempts.sort_unstable();
    assert_eq!(attempts, [1, 2], "{all:#?}");
    surroundings.end(service, &[(&receiver, 3)]).await;
}

#[tokio::test]
async fn a_delivery_that_becomes_too_old_while_its_target_is_paused_ends() {
    let receiver = Receiver::ok().await;
    let made = Made::new().await;
    let surroundings = Surroundings::with(&made.settings()).await;
    let retry = json!({"retry": {"backoff": "20ms", "max_attempts": 2, "max_age": "1s"}});
    surroundings.subscribe(&[with(subscription("erp", &receiver.url("/")), retry)]);
    let service = surroundings.start().await;
    let target = target(&made, service.api.unwrap(), &receiver).await;
    turn(&made, service.api.unwrap(), &target, "pause").await;
    surroundings.publish(&event("evt-1")).await;
    let ended = surroundings.results.wait_for(1, GENEROUS).await.remove(0);
    assert_eq!((ended.outcome, ended.error, ended.attempt), (Outcome::Exhausted, Some("too_old"), 0));
    surroundings.end(service, &[(&receiver, 0)]).await;
}
