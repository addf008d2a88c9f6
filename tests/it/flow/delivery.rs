//! An event, delivered: to whom, with what, and what upstream hears of it.

use std::time::Duration;

use docrelay::domain::{DeliveryId, DocumentEvent, FailureKind, Happening, Outcome, now};
use http::Method;
use serde_json::json;

use crate::support::{
    receiver::{Receiver, Reply},
    service::{GENEROUS, Surroundings, event, subscription, with},
};

#[tokio::test]
async fn every_subscription_that_matches_gets_one_request_and_nobody_else_any() {
    let (matching, other) = (Receiver::ok().await, Receiver::ok().await);
    let surroundings = Surroundings::new().await;
    let to_inbox = with(subscription("inbox", &matching.url("/inbox")), json!({"inboxes": ["invoices"]}));
    let to_project = with(subscription("project", &matching.url("/project")), json!({"projects": ["accounting"]}));
    surroundings.subscribe(&[
        subscription("all", &matching.url("/all")),
        to_inbox.clone(),
        to_project,
        with(subscription("organization", &other.url("/")), json!({"organization": "globex"})),
        with(subscription("name", &other.url("/")), json!({"events": ["document_delete"]})),
        with(subscription("elsewhere", &other.url("/")), json!({"inboxes": ["other"], "projects": ["other"]})),
        with(subscription("disabled", &other.url("/")), json!({"enabled": false})),
    ]);
    let service = surroundings.start().await;
    let event = DocumentEvent {
        inbox: Some("invoices".parse().unwrap()),
        project: Some("accounting".parse().unwrap()),
        ..event("evt-1")
    };
    surroundings.publish(&event).await;
    let results = surroundings.results.wait_for_outcome(Outcome::Delivered, 3, GENEROUS).await;

    let mut paths: Vec<_> = matching.recorded().into_iter().map(|request| request.path).collect();
    paths.sort();
    assert_eq!(paths, ["/all", "/inbox", "/project"]);
    let mut ids: Vec<_> = matching.recorded().iter().map(|request| request.delivery().to_owned()).collect();
    let mut expected = ["all", "inbox", "project"]
        .map(|subscription| DeliveryId::of(&event.id, &subscription.parse().unwrap()).to_string());
    ids.sort();
    expected.sort();
    assert_eq!(ids, expected);
    assert!(results.iter().all(|result| result.fan_out == 3), "{results:#?}");
    assert_eq!(surroundings.results.all().len(), 3);
    surroundings.end(service, &[(&matching, 3), (&other, 0)]).await;
}

#[tokio::test]
async fn a_request_says_what_it_is_and_carries_what_was_configured() {
    let receiver = Receiver::scripted(|request| Reply::status(if request.attempt() == 1 { 500 } else { 200 })).await;
    let surroundings = Surroundings::new().await;
    surroundings.subscribe(&[with(
        subscription("erp", &receiver.url("/hook?x=1")),
        json!({"target": {"headers": {"X-Environment": "production"}}, "auth": {"authorization": "Bearer secret"}}),
    )]);
    let service = surroundings.start().await;
    let before = now().to_unix().0;
    let event = event("evt-1");
    surroundings.publish(&event).await;
    surroundings.results.wait_for_outcome(Outcome::Delivered, 1, GENEROUS).await;

    for (attempt, request) in (1..).zip(receiver.recorded()) {
        assert_eq!((request.method.clone(), request.path.as_str()), (Method::POST, "/hook?x=1"));
        assert_eq!(request.delivery(), DeliveryId::of(&event.id, &"erp".parse().unwrap()).to_string());
        assert_eq!(request.attempt(), attempt);
        assert_eq!(request.header("docrelay-event"), "document_text");
        assert_eq!(request.header("content-type"), "application/json");
        assert_eq!(request.header("user-agent"), concat!("docrelay/", env!("CARGO_PKG_VERSION")));
        assert_eq!(request.header("x-environment"), "production");
        assert_eq!(request.header("authorization"), "Bearer secret");
        let timestamp: i64 = request.header("webhook-timestamp").parse().unwrap();
        assert!((before..=now().to_unix().0).contains(&timestamp));
        let data = json!({"id": "doc-1", "text": "Hello"});
        assert_eq!(request.json(), json!({"event": "document_text", "organization": "acme", "data": data}));
    }
    surroundings.end(service, &[(&receiver, 2)]).await;
}

#[tokio::test]
async fn the_document_s_id_takes_its_place_in_a_template() {
    let receiver = Receiver::ok().await;
    let surroundings = Surroundings::new().await;
    let target = json!({"target": {"template": true, "method": "PUT"}});
    let plain = subscription("plain", &receiver.url("/plain/:id"));
    surroundings.subscribe(&[with(subscription("erp", &receiver.url("/documents/:id?of=:id")), target), plain]);
    let service = surroundings.start().await;
    surroundings.publish(&DocumentEvent { document: "a/b c".parse().unwrap(), ..event("evt-1") }).await;
    surroundings.results.wait_for(2, GENEROUS).await;
    // No encoding tames these.
    surroundings.publish(&DocumentEvent { document: "..".parse().unwrap(), ..event("evt-2") }).await;
    let rejected = surroundings.results.wait_for_outcome(Outcome::Rejected, 1, GENEROUS).await;
    surroundings.results.wait_for(4, GENEROUS).await;

    let mut requests: Vec<_> =
        receiver.recorded().into_iter().map(|request| format!("{} {}", request.method, request.path)).collect();
    requests.sort();
    assert_eq!(requests, ["POST /plain/:id", "POST /plain/:id", "PUT /documents/a%2Fb%20c?of=a%2Fb%20c"]);
    assert_eq!(rejected[0].error, Some(FailureKind::Template.as_str()));
    surroundings.end(service, &[(&receiver, 3)]).await;
}

#[tokio::test]
async fn document_json_goes_through_byte_for_byte() {
    let receiver = Receiver::ok().await;
    let surroundings = Surroundings::new().await;
    surroundings.subscribe(&[with(subscription("erp", &receiver.url("/")), json!({"events": ["document_predict"]}))]);
    let service = surroundings.start().await;
    let document = r#"{ "amount" : 1.10000000000000000000000001, "b":[1e400,  "\u00e9"] }"#;
    let happening = Happening::Predict { document: document.into() };
    surroundings.publish(&DocumentEvent { happening, ..event("evt-1") }).await;
    surroundings.results.wait_for(1, GENEROUS).await;
    let body = receiver.recorded()[0].body.clone();
    assert!(std::str::from_utf8(&body).unwrap().contains(document), "{body:?}");
    surroundings.end(service, &[(&receiver, 1)]).await;
}

#[tokio::test]
async fn an_event_that_matches_nobody_is_told_once_and_sent_nowhere() {
    let receiver = Receiver::ok().await;
    let surroundings = Surroundings::new().await;
    surroundings.subscribe(&[with(subscription("erp", &receiver.url("/")), json!({"inboxes": ["invoices"]}))]);
    let service = surroundings.start().await;
    surroundings.publish(&event("evt-1")).await;
    let result = surroundings.results.wait_for(1, GENEROUS).await.remove(0);
    assert_eq!((result.outcome, result.fan_out, result.attempt), (Outcome::Unsubscribed, 0, 0));
    assert_eq!((result.event_id.as_str(), result.delivery, result.subscription), ("evt-1", None, None));
    assert_eq!(surroundings.results.all().len(), 1);
    surroundings.end(service, &[(&receiver, 0)]).await;
}

#[tokio::test]
async fn an_event_that_is_published_twice_is_sent_once() {
    let receiver = Receiver::scripted(|_| Reply::ok().after(Duration::from_millis(50))).await;
    let surroundings = Surroundings::new().await;
    surroundings.subscribe(&[subscription("erp", &receiver.url("/erp")), subscription("crm", &receiver.url("/crm"))]);
    let service = surroundings.start().await;
    // While the first one is on its way, and after it has ended.
    surroundings.publish_all(&[event("evt-1"), event("evt-1")]).await;
    surroundings.results.wait_for(2, GENEROUS).await;
    surroundings.publish(&event("evt-1")).await;
    // Whatever it would cause would have been caused when the next event is through.
    surroundings.publish(&event("evt-2")).await;
    surroundings.results.wait_for(4, GENEROUS).await;
    surroundings.end(service, &[(&receiver, 4)]).await;
}

#[tokio::test]
async fn a_result_says_what_the_receiver_answered() {
    let receiver = Receiver::scripted(|request| match request.attempt() {
        1 => Reply::status(422).body("x".repeat(20_000)),
        _ => Reply::status(202).body("taken"),
    })
    .await;
    let surroundings = Surroundings::new().await;
    surroundings.subscribe(&[subscription("erp", &receiver.url("/hook?token=secret"))]);
    let service = surroundings.start().await;
    let event = DocumentEvent {
        inbox: Some("invoices".parse().unwrap()),
        project: Some("accounting".parse().unwrap()),
        ..event("evt-1")
    };
    surroundings.publish(&event).await;
    let results = surroundings.results.wait_for(2, GENEROUS).await;

    let [failed, delivered] = results.as_slice() else { panic!("{results:#?}") };
    assert_eq!((failed.outcome, failed.attempt), (Outcome::AttemptFailed, 1));
    assert_eq!((failed.status_code, failed.error), (Some(422), Some("status")));
    assert_eq!((failed.response_body.len(), failed.response_body_cut), (16 * 1024, true));
    assert!(failed.next_attempt_at > failed.attempted_at);
    assert_eq!((delivered.outcome, delivered.attempt), (Outcome::Delivered, 2));
    assert_eq!((delivered.status_code, delivered.error), (Some(202), None));
    assert_eq!((&delivered.response_body[..], delivered.response_body_cut), (&b"taken"[..], false));
    assert_eq!(delivered.next_attempt_at, None);
    for result in &results {
        assert_eq!(result.delivery, Some(DeliveryId::of(&event.id, &"erp".parse().unwrap())));
        assert_eq!((&result.event_id, result.document.as_ref()), (&event.id, Some(&event.document)));
        assert_eq!((result.inbox.as_ref(), result.project.as_ref()), (event.inbox.as_ref(), event.project.as_ref()));
        assert_eq!((result.organization.as_str(), result.event), ("acme", Some(event.name())));
        assert_eq!((result.subscription.as_ref().unwrap().as_str(), result.fan_out), ("erp", 1));
        assert_eq!(result.target, format!("127.0.0.1:{}/hook", receiver.address().port()));
        assert_eq!(result.max_attempts, 4);
        assert!(result.latency > Duration::ZERO && result.latency < GENEROUS);
    }
    surroundings.end(service, &[(&receiver, 2)]).await;
}
