//! The test send: the real path to real receivers, with its marks, and every way in which it can go.

use std::{sync::Arc, time::Duration};

use docrelay::{
    domain::{Answer, EventName, FailureKind},
    flow::TrialRefused,
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    task::JoinSet,
};

use crate::support::{
    bench::Bench,
    receiver::{Receiver, Reply},
    service::{subscription, with},
};

#[tokio::test]
async fn a_test_send_takes_the_real_path_and_says_that_it_is_one() {
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let logins = Receiver::scripted(|_| Reply::ok().body(r#"{"access_token": "abc"}"#)).await;
    let receiver =
        Receiver::scripted(|_| Reply::status(422).body("x".repeat(20_000)).header("x-reason", "no such field")).await;
    let bench = Bench::new().await;
    let given = with(
        subscription("erp", &receiver.url("/hooks?key=hush")),
        json!({"inboxes": ["invoices"], "auth": {"login": {"url": logins.url("/login")}}, "signing_secrets": [SECRET]}),
    );
    let report = bench.try_out(&given, false).await.unwrap();

    let sent = receiver.recorded().remove(0);
    assert_eq!((sent.header("docrelay-test"), sent.attempt()), ("true", 1));
    assert_eq!((sent.header("docrelay-event"), sent.header("authorization")), ("document_text", "Bearer abc"));
    assert!(sent.delivery().starts_with("test-") && sent.delivery() == report.webhook_id, "{report:?}");
    standardwebhooks::Webhook::new(SECRET).unwrap().verify(&sent.body, &sent.headers).unwrap();
    let body = sent.json();
    assert_eq!((&body["event"], &body["inbox"]), (&json!("document_text"), &json!("invoices")));
    assert!(body["data"]["id"].as_str().unwrap().starts_with("test-"), "{body}");
    assert!(report.event_id.starts_with("test-"));

    let Answer::Response { status, body, cut, .. } = &report.answer else { panic!("{report:?}") };
    assert_eq!((*status, body.len(), *cut), (422, 16 * 1024, true));
    assert!(report.headers.contains(&("x-reason".to_owned(), "no such field".to_owned())), "{report:?}");
    assert!(report.target.ends_with("/hooks") && report.latency > Duration::ZERO);
    assert_eq!(receiver.count(), 1, "one attempt");
}

#[tokio::test]
async fn every_reason_why_nothing_was_answered_has_its_name() {
    let bench = Bench::new().await;
    let at = |url: &str| with(subscription("erp", url), json!({"target": {"timeout": "1s"}}));
    let nobody = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("http://{}/", listener.local_addr().unwrap())
    };
    let hanging = Receiver::scripted(|_| Reply::hang()).await;
    let dropping = Receiver::scripted(|_| Reply::dropped()).await;
    let untrusted = Receiver::tls(&[], |_| Reply::ok()).await;
    let babbling = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let babbles = format!("http://{}/", babbling.local_addr().unwrap());
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        while let Ok((mut stream, _)) = babbling.accept().await {
            // It hears the request, as a server that speaks something else would.
            stream.read_u8().await.ok();
            stream.write_all(b"220 mail.example ESMTP\r\n").await.ok();
        }
    });
    for (url, kind) in [
        (nobody, FailureKind::Connect),
        ("http://nobody.invalid/".to_owned(), FailureKind::Dns),
        (hanging.url("/"), FailureKind::Timeout),
        (dropping.url("/"), FailureKind::Reset),
        (untrusted.url("/"), FailureKind::Tls),
        (babbles, FailureKind::Protocol),
    ] {
        let (found, text) = bench.failure(&at(&url)).await;
        assert_eq!(found, kind, "{url}: {text}");
        assert!(!text.is_empty(), "{kind} needs words");
    }
    let logins = Receiver::scripted(|_| Reply::status(403)).await;
    let unused = Receiver::ok().await;
    let login = json!({"auth": {"login": {"url": logins.url("/")}}});
    let (kind, text) = bench.failure(&with(at(&unused.url("/")), login)).await;
    assert_eq!((kind, unused.count()), (FailureKind::Auth, 0), "{text}");
    assert!(text.contains("403"), "{text}");

    let strict = Bench::allowing("10.1.2.3/32").await;
    let (kind, text) = strict.failure(&at(&unused.url("/"))).await;
    assert_eq!((kind, unused.count()), (FailureKind::Egress, 0));
    assert!(text.contains("127.0.0.1"), "{text}");
}

#[tokio::test]
async fn what_could_change_something_must_be_confirmed_and_other_events_are_refused() {
    let receiver = Receiver::ok().await;
    let bench = Bench::new().await;
    for method in ["PUT", "DELETE"] {
        let given = with(subscription("erp", &receiver.url("/")), json!({"target": {"method": method}}));
        let refused = bench.try_out(&given, false).await.unwrap_err();
        assert_eq!(refused, TrialRefused::Unconfirmed(method));
        assert!(refused.to_string().contains("confirm_method"), "{refused}");
    }
    assert_eq!(receiver.count(), 0);
    let given = with(subscription("erp", &receiver.url("/")), json!({"target": {"method": "PUT"}}));
    assert!(bench.try_out(&given, true).await.is_ok());
    let refused = bench.flow.try_out(&bench.subscription(&given), EventName::DocumentFinish, true).await.unwrap_err();
    assert_eq!(refused, TrialRefused::NotItsEvent(EventName::DocumentFinish));
    assert_eq!(receiver.count(), 1);
}

#[tokio::test]
async fn a_test_send_waits_for_its_place_like_any_delivery_and_gives_up_when_none_comes() {
    let receiver = Receiver::scripted(|_| Reply::hang()).await;
    let bench = Arc::new(Bench::new().await);
    let given = with(subscription("erp", &receiver.url("/")), json!({"max_in_flight": 1}));
    let (first, also) = (Arc::clone(&bench), given.clone());
    let mut hanging = JoinSet::new();
    hanging.spawn(async move { first.try_out(&also, false).await });
    receiver.wait_for(1, Duration::from_secs(30)).await;
    assert_eq!(bench.try_out(&given, false).await, Err(TrialRefused::Busy));
    assert_eq!(receiver.count(), 1, "no more than its cap");
    bench.stop.abandon.cancel();
    let cut_off = hanging.join_next().await.unwrap().unwrap().unwrap();
    assert!(matches!(cut_off.answer, Answer::None { kind: FailureKind::Interrupted, .. }), "{cut_off:?}");
    bench.stop.draining.cancel();
    assert_eq!(bench.try_out(&given, false).await, Err(TrialRefused::Stopping), "nothing begins any more");
}
