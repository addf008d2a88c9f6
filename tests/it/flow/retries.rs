//! Attempts that fail: how many, when the next one comes, and how it ends.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use docrelay::{app::Service, domain::Outcome};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    task::JoinSet,
};

use crate::support::{
    receiver::{Receiver, Recorded, Reply},
    service::{ATTEMPTS, BACKOFF, GENEROUS, Surroundings, event, subscription, with},
};

/// The waits between requests of one delivery are never shorter than the rule's.
fn assert_never_early(requests: &[Recorded]) {
    for (n, pair) in (0..).zip(requests.windows(2)) {
        let gap = pair[1].arrived - pair[0].arrived;
        assert!(gap >= BACKOFF * 2u32.pow(n), "the wait after attempt {} was {gap:?}", n + 1);
    }
    let attempts: Vec<_> = requests.iter().map(Recorded::attempt).collect();
    assert_eq!(attempts, (1..).take(requests.len()).collect::<Vec<_>>());
}

/// A service with one subscription, and an event on its way to it.
async fn one_delivery(receiver: &Receiver, fields: serde_json::Value) -> (Surroundings, Service) {
    let surroundings = Surroundings::new().await;
    surroundings.subscribe(&[with(subscription("erp", &receiver.url("/")), fields)]);
    let service = surroundings.start().await;
    surroundings.publish(&event("evt-1")).await;
    (surroundings, service)
}

#[tokio::test]
async fn a_delivery_that_succeeds_at_its_third_attempt_makes_three() {
    let receiver = Receiver::scripted(|request| Reply::status(if request.attempt() < 3 { 500 } else { 204 })).await;
    let (surroundings, service) = one_delivery(&receiver, json!({})).await;
    let results = surroundings.results.wait_for(3, GENEROUS).await;
    let told: Vec<_> = results.iter().map(|result| (result.outcome, result.attempt)).collect();
    assert_eq!(told, [(Outcome::AttemptFailed, 1), (Outcome::AttemptFailed, 2), (Outcome::Delivered, 3)]);
    assert_never_early(&receiver.recorded());
    surroundings.end(service, &[(&receiver, 3)]).await;
}

#[tokio::test]
async fn a_delivery_that_never_succeeds_is_exhausted_after_its_last_attempt() {
    let receiver = Receiver::scripted(|_| Reply::status(503)).await;
    let (surroundings, service) = one_delivery(&receiver, json!({})).await;
    let exhausted = surroundings.results.wait_for_outcome(Outcome::Exhausted, 1, GENEROUS).await.remove(0);
    assert_eq!((exhausted.attempt, exhausted.max_attempts), (ATTEMPTS, ATTEMPTS));
    assert_eq!((exhausted.status_code, exhausted.error, exhausted.next_attempt_at), (Some(503), Some("status"), None));
    assert_eq!(surroundings.results.all().len(), usize::try_from(ATTEMPTS).unwrap());
    assert_never_early(&receiver.recorded());
    surroundings.end(service, &[(&receiver, 4)]).await;
}

#[tokio::test]
async fn the_next_attempt_comes_when_its_result_said_it_would_and_not_before() {
    let receiver = Receiver::scripted(|request| Reply::status(if request.attempt() < 4 { 500 } else { 200 })).await;
    let (surroundings, service) = one_delivery(&receiver, json!({})).await;
    let results = surroundings.results.wait_for(4, GENEROUS).await;
    for pair in results.windows(2) {
        assert!(pair[0].next_attempt_at.unwrap() <= pair[1].attempted_at.unwrap(), "{pair:#?}");
    }
    surroundings.end(service, &[(&receiver, 4)]).await;
}

#[tokio::test]
async fn what_retry_after_asks_for_is_waited_when_it_is_longer() {
    let receiver = Receiver::scripted(|request| match request.attempt() {
        1 => Reply::status(429).header("retry-after", "1"),
        2 => Reply::status(503).header("retry-after", "0"),
        _ => Reply::ok(),
    })
    .await;
    let (surroundings, service) = one_delivery(&receiver, json!({})).await;
    surroundings.results.wait_for_outcome(Outcome::Delivered, 1, GENEROUS).await;
    let requests = receiver.recorded();
    assert_never_early(&requests);
    let gap = requests[1].arrived - requests[0].arrived;
    assert!(gap >= Duration::from_secs(1), "{gap:?}");
    surroundings.end(service, &[(&receiver, 3)]).await;
}

#[tokio::test]
async fn a_410_ends_a_delivery_at_once() {
    let receiver = Receiver::scripted(|_| Reply::status(410).body("moved out")).await;
    let (surroundings, service) = one_delivery(&receiver, json!({})).await;
    let result = surroundings.results.wait_for(1, GENEROUS).await.remove(0);
    assert_eq!((result.outcome, result.error, result.status_code), (Outcome::Rejected, Some("gone"), Some(410)));
    assert_eq!(&result.response_body[..], b"moved out");
    surroundings.end(service, &[(&receiver, 1)]).await;
}

#[tokio::test]
async fn a_redirect_is_a_failure_and_not_followed() {
    let elsewhere = Receiver::ok().await;
    let location: &'static str = elsewhere.url("/").leak();
    let receiver = Receiver::scripted(move |request| match request.attempt() {
        1 => Reply::status(307).header("location", location),
        _ => Reply::ok(),
    })
    .await;
    let (surroundings, service) = one_delivery(&receiver, json!({})).await;
    let results = surroundings.results.wait_for(2, GENEROUS).await;
    assert_eq!((results[0].outcome, results[0].status_code), (Outcome::AttemptFailed, Some(307)));
    assert_eq!(results[1].outcome, Outcome::Delivered);
    surroundings.end(service, &[(&receiver, 2), (&elsewhere, 0)]).await;
}

#[tokio::test]
async fn a_delivery_whose_next_attempt_would_be_too_late_ends_as_too_old() {
    let receiver = Receiver::scripted(|_| Reply::status(429).header("retry-after", "10")).await;
    let (surroundings, service) = one_delivery(&receiver, json!({"retry": {"max_age": "5s"}})).await;
    let result = surroundings.results.wait_for(1, GENEROUS).await.remove(0);
    assert_eq!((result.outcome, result.error, result.attempt), (Outcome::Exhausted, Some("too_old"), 1));
    surroundings.end(service, &[(&receiver, 1)]).await;
}

#[tokio::test]
async fn two_deliveries_of_one_event_fail_and_succeed_on_their_own() {
    let failing = Receiver::scripted(|_| Reply::status(500)).await;
    let (hanging, good) = (Receiver::scripted(|_| Reply::hang()).await, Receiver::ok().await);
    let surroundings = Surroundings::new().await;
    surroundings.subscribe(&[
        with(
            subscription("hangs", &hanging.url("/")),
            json!({"target": {"timeout": "3s"}, "retry": {"max_attempts": 1}}),
        ),
        subscription("fails", &failing.url("/")),
        subscription("good", &good.url("/")),
    ]);
    let service = surroundings.start().await;
    surroundings.publish(&event("evt-1")).await;
    // One after the other: neither waits for the one that takes longer.
    let results = surroundings.results.wait_for(6, GENEROUS).await;
    let finals = results.iter().filter(|result| result.outcome.is_final());
    let order: Vec<_> = finals.map(|result| (result.subscription.as_ref().unwrap().as_str(), result.error)).collect();
    assert_eq!(order, [("good", None), ("fails", Some("status")), ("hangs", Some("timeout"))]);
    surroundings.end(service, &[(&failing, 4), (&hanging, 1), (&good, 1)]).await;
}

#[tokio::test]
async fn every_kind_of_silence_is_a_failed_attempt_by_its_name() {
    let (garbage, _server) = speaks(b"NOT HTTP AT ALL\r\n\r\n").await;
    let (cut, _other_server) = speaks(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf").await;
    let refused = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("http://{}/", listener.local_addr().unwrap())
    };
    let (closing, hanging) =
        (Receiver::scripted(|_| Reply::dropped()).await, Receiver::scripted(|_| Reply::hang()).await);
    let expected = [
        ("cut", "reset"),
        ("closing", "reset"),
        ("garbage", "protocol"),
        ("guarded", "egress"),
        ("hanging", "timeout"),
        ("nowhere", "dns"),
        ("refused", "connect"),
    ];
    let url = |name| match name {
        "cut" => cut.clone(),
        "garbage" => garbage.clone(),
        "refused" => refused.clone(),
        "closing" => closing.url("/"),
        "hanging" => hanging.url("/"),
        "guarded" => "http://169.254.169.254/".to_owned(),
        _ => "http://nowhere.invalid/".to_owned(),
    };
    let fields = json!({"target": {"timeout": "1s"}, "retry": {"max_attempts": 2}});
    let surroundings = Surroundings::new().await;
    let all: Vec<_> = expected.iter().map(|(name, _)| with(subscription(name, &url(name)), fields.clone())).collect();
    surroundings.subscribe(&all);
    let service = surroundings.start().await;
    surroundings.publish(&event("evt-1")).await;
    surroundings.results.wait_for(2 * expected.len(), GENEROUS).await;
    for (name, error) in expected {
        let of_it: Vec<_> = surroundings
            .results
            .all()
            .into_iter()
            .filter(|result| result.subscription.as_ref().unwrap().as_str() == name)
            .map(|result| (result.outcome, result.attempt, result.error.unwrap(), result.status_code))
            .collect();
        assert_eq!(of_it, [(Outcome::AttemptFailed, 1, error, None), (Outcome::Exhausted, 2, error, None)], "{name}");
    }
    // How often a connection that is closed is tried again is the HTTP library's business, and it must not.
    surroundings.end(service, &[(&closing, 2), (&hanging, 2)]).await;
}

/// A server that reads a little and says the same thing to everyone.
async fn speaks(answer: &'static [u8]) -> (String, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let mut server = JoinSet::new();
    server.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 64 * 1024];
            if stream.read(&mut request).await.is_ok() {
                stream.write_all(answer).await.ok();
            }
        }
    });
    (url, server)
}

#[tokio::test]
async fn a_restart_during_a_wait_forgets_neither_the_delivery_nor_its_attempts() {
    let receiver = Receiver::scripted(|request| Reply::status(if request.attempt() < 3 { 500 } else { 200 })).await;
    let (surroundings, service) = one_delivery(&receiver, json!({"retry": {"backoff": "700ms"}})).await;
    surroundings.results.wait_for(1, GENEROUS).await;
    assert!(service.stop().await.finished);
    let service = surroundings.start().await;
    let results = surroundings.results.wait_for(3, GENEROUS).await;
    let told: Vec<_> = results.iter().map(|result| (result.outcome, result.attempt)).collect();
    assert_eq!(told, [(Outcome::AttemptFailed, 1), (Outcome::AttemptFailed, 2), (Outcome::Delivered, 3)]);
    assert_never_early(&receiver.recorded());
    surroundings.end(service, &[(&receiver, 3)]).await;
}

#[tokio::test]
async fn upstream_hears_of_every_attempt_in_order_even_when_the_receiver_flaps() {
    static SEEN: AtomicU32 = AtomicU32::new(0);
    let receiver = Receiver::scripted(|_| match SEEN.fetch_add(1, Ordering::Relaxed) {
        0 => Reply::dropped(),
        1 => Reply::status(404),
        2 => Reply::status(503).header("retry-after", "soon"),
        _ => Reply::ok().close(),
    })
    .await;
    let (surroundings, service) = one_delivery(&receiver, json!({})).await;
    let results = surroundings.results.wait_for(4, GENEROUS).await;
    let told: Vec<_> = results.iter().map(|result| (result.attempt, result.status_code)).collect();
    assert_eq!(told, [(1, None), (2, Some(404)), (3, Some(503)), (4, Some(200))]);
    assert_never_early(&receiver.recorded());
    surroundings.end(service, &[(&receiver, 4)]).await;
}
