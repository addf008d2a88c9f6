//! The products' payloads side by side, in one process on one stream: who gets what, and which answers end it.

use std::time::Duration;

use docrelay::domain::{
    DocumentEvent, DocumentExport, DocumentState, EventName, FailureKind, FileFormat, Happening, Outcome, Rendition,
    ReviewedBy, now,
};
use serde_json::{Value, json};

use crate::support::{
    receiver::{Receiver, Reply},
    service::{GENEROUS, Surroundings, event, subscription, with},
};

const DOCUMENT: &str = r#"{ "id":"doc-1", "total" : 1.10000000000000000000000001, "status":1 }"#;

fn finish(id: &str) -> DocumentEvent {
    DocumentEvent { happening: Happening::Finish { document: DOCUMENT.into() }, ..event(id) }
}

/// A review was finished.
pub(crate) fn export(id: &str) -> DocumentEvent {
    let export = DocumentExport {
        reviewed_by: ReviewedBy::Automatic,
        task_id: 9001,
        task_number: None,
        total_pages: 3,
        workspace_id: 42,
        display_name: "Invoice".to_owned(),
        last_checkout_by_user_name: None,
        last_checked_out_by: None,
        last_checked_out_until: None,
        last_integrated_by: None,
        last_integrated_by_user_name: None,
        renditions: vec![Rendition {
            format: Some(FileFormat::Pdf),
            content_type: "application/pdf".to_owned(),
            path: "exports/7.pdf".to_owned(),
        }],
    };
    DocumentEvent { happening: Happening::Export(Box::new(export)), ..event(id) }
}

fn of(payload: &str, events: &[&str], id: &str, url: &str) -> Value {
    with(subscription(id, url), json!({"payload": payload, "events": events}))
}

fn idexa(id: &str, url: &str, method: &str) -> Value {
    with(of("idexa", &["document_finish"], id, url), json!({"target": {"method": method}}))
}

#[tokio::test]
async fn a_finished_document_is_sent_at_once_by_each_of_idexas_methods_and_no_other_event_is() {
    let receiver = Receiver::ok().await;
    let surroundings = Surroundings::new().await;
    let methods = ["POST", "PUT", "GET", "DELETE"];
    surroundings.subscribe(&methods.map(|method| idexa(method, &receiver.url("/ocr_feedback/:id"), method)));
    let service = surroundings.start().await;
    surroundings.publish(&event("evt-text")).await;
    surroundings.results.wait_for_outcome(Outcome::Unsubscribed, 1, GENEROUS).await;
    let published = now();
    surroundings.publish(&finish("evt-1")).await;
    let results = surroundings.results.wait_for_outcome(Outcome::Delivered, 4, GENEROUS).await;

    for result in &results {
        let started = result.attempted_at.unwrap();
        assert!(published.age_at(started) < Duration::from_secs(2), "{result:?}");
    }
    for request in receiver.recorded() {
        assert_eq!(request.path, "/ocr_feedback/doc-1");
        let body = if matches!(request.method.as_str(), "POST" | "PUT") { DOCUMENT } else { "" };
        assert_eq!(request.body, body, "{}", request.method);
    }
    let mut seen: Vec<_> = receiver.recorded().iter().map(|request| request.method.to_string()).collect();
    seen.sort();
    assert_eq!(seen, ["DELETE", "GET", "POST", "PUT"]);
    surroundings.end(service, &[(&receiver, 4)]).await;
}

#[tokio::test]
async fn every_product_gets_its_own_body_of_one_stream() {
    let receiver = Receiver::ok().await;
    let surroundings = Surroundings::new().await;
    let all: Vec<_> = EventName::ALL.iter().map(|name| name.as_str()).collect();
    surroundings.subscribe(&[
        of("contractfit", &["document_text"], "contractfit", &receiver.url("/contractfit")),
        idexa("idexa", &receiver.url("/idexa/:id"), "POST"),
        of("cloudevents", &all, "cloudevents", &receiver.url("/cloudevents")),
    ]);
    let service = surroundings.start().await;
    surroundings.publish_all(&[event("evt-1"), finish("evt-2"), export("evt-3")]).await;
    surroundings.results.wait_for_outcome(Outcome::Delivered, 5, GENEROUS).await;

    let requests = receiver.recorded();
    let to = |path: &str| requests.iter().filter(|request| request.path.starts_with(path)).collect::<Vec<_>>();
    let data = json!({"id": "doc-1", "text": "Hello"});
    let contractfit = json!({"event": "document_text", "organization": "acme", "data": data});
    assert_eq!(to("/contractfit").iter().map(|request| request.json()).collect::<Vec<_>>(), [contractfit]);
    assert_eq!(to("/idexa").iter().map(|request| request.body.clone()).collect::<Vec<_>>(), [DOCUMENT]);
    assert_eq!(to("/cloudevents").len(), 3);
    for request in to("/cloudevents") {
        let body = request.json();
        assert_eq!(request.header("content-type"), "application/cloudevents+json; charset=utf-8");
        assert_eq!(body["deliveryid"], request.delivery());
        assert_eq!(body["type"], format!("docrelay.{}.v1", request.header("docrelay-event")));
        assert_eq!((&body["specversion"], &body["source"]), (&json!("1.0"), &json!("/docrelay/acme/_")));
    }
    surroundings.end(service, &[(&receiver, 5)]).await;
}

#[tokio::test]
async fn where_only_silence_is_tried_again_a_verdict_ends_the_delivery_and_sends_the_document_back_to_review() {
    let receiver = Receiver::scripted(|request| {
        let status = match (request.path.as_str(), request.attempt()) {
            ("/bad", _) => 400,
            ("/broken", _) => 500,
            ("/busy", 1) => 503,
            _ => 204,
        };
        Reply::status(status)
    })
    .await;
    let surroundings = Surroundings::new().await;
    surroundings.subscribe(&["bad", "broken", "busy"].map(|path| {
        let url = receiver.url(&format!("/{path}"));
        with(of("cloudevents", &["document_export"], path, &url), json!({"retry": {"on": "no_response"}}))
    }));
    let service = surroundings.start().await;
    surroundings.publish(&export("evt-1")).await;
    let failed = surroundings.results.wait_for_outcome(Outcome::Exhausted, 2, GENEROUS).await;
    let delivered = surroundings.results.wait_for_outcome(Outcome::Delivered, 1, GENEROUS).await;

    for result in &failed {
        assert_eq!((result.attempt, result.error), (1, Some(FailureKind::Status.as_str())), "{result:?}");
        assert_eq!(result.outcome.document_state(result.event), DocumentState::ToReview);
    }
    assert_eq!((delivered[0].attempt, delivered[0].status_code), (2, Some(204)), "503 is no verdict");
    assert_eq!(delivered[0].outcome.document_state(delivered[0].event), DocumentState::Archived);
    surroundings.end(service, &[(&receiver, 4)]).await;
}
