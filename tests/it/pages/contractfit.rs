//! docs/from-contractfit.md

use docrelay::domain::{DocumentEvent, Outcome};
use serde_json::{Value, json};

use super::{Reader, body, command};
use crate::support::{
    receiver::{Receiver, Reply},
    service::event,
};

const PAGE: &str = "docs/from-contractfit.md";

/// Text was obtained of the page's document.
fn text(id: &str) -> DocumentEvent {
    let happening = docrelay::domain::Happening::Text { text: "example document text".to_owned() };
    let (organization, document) = ("contractfit1".parse().unwrap(), "5e7a0daf255bf93741177061".parse().unwrap());
    DocumentEvent { organization, document, happening, ..event(id) }
}

#[tokio::test]
async fn every_call_works_as_it_stands_and_is_answered_as_it_says() {
    let mut reader = Reader::of(PAGE, "contractfit1").await;
    assert_eq!(reader.run_all().await, (5, 1));
    let left: Value = serde_json::from_str(&reader.run(&command(PAGE, &["/integrations\" -H"])).await).unwrap();
    assert_eq!(left, json!([]), "the last one deletes");
    reader.end(&[]).await;
}

#[tokio::test]
async fn what_comes_is_the_page_s_body_and_a_patch_and_a_delete_take_effect_at_once() {
    let receiver = Receiver::ok().await;
    let mut reader = Reader::of(PAGE, "contractfit1").await;
    let here = |script: String| script.replace("http://localhost:3000", &receiver.url(""));
    reader.run(&here(command(PAGE, &["\"type\": \"webhook\""]))).await;
    // It wants predictions, not text.
    let results = reader.publish(&text("evt-1"), 1).await;
    assert_eq!(results[0].outcome, Outcome::Unsubscribed);

    let patch = command(PAGE, &["-X PATCH"]).replace("\"document_evaluate\"", "\"document_text\"");
    reader.run(&patch.replace("\"inboxes\": [\"invoices\"]", "\"inboxes\": []")).await;
    let results = reader.publish(&text("evt-2"), 2).await;
    assert_eq!(results[1].outcome, Outcome::Delivered);
    let request = receiver.recorded().remove(0);
    assert_eq!((request.method.as_str(), &*request.path), ("POST", "/alfred/document_predict"));
    assert_eq!(request.header("authorization"), "Bearer abcdefg1234567989");
    let shown: Value = serde_json::from_str(&body(PAGE)).unwrap();
    assert_eq!(std::str::from_utf8(&request.body).unwrap(), shown.to_string());

    reader.run(&command(PAGE, &["-X DELETE"])).await;
    let results = reader.publish(&text("evt-3"), 3).await;
    assert_eq!(results[2].outcome, Outcome::Unsubscribed);
    reader.end(&[(&receiver, 1)]).await;
}

#[tokio::test]
async fn a_target_that_wants_no_more_disables_it_and_its_owner_enables_it_again() {
    let receiver = Receiver::scripted(|request| Reply::status(if request.index == 0 { 410 } else { 200 })).await;
    let mut reader = Reader::of(PAGE, "contractfit1").await;
    let create = command(PAGE, &["\"type\": \"webhook\""]).replace("\"document_predict\"]", "\"document_text\"]");
    reader.run(&create.replace("http://localhost:3000", &receiver.url(""))).await;
    assert_eq!(reader.publish(&text("evt-1"), 1).await[0].outcome, Outcome::Rejected);
    let read = command(PAGE, &["-sS \"$DOCRELAY/integrations/$ID\""]);
    let told: Value = serde_json::from_str(&reader.run(&read).await).unwrap();
    assert_eq!((&told["enabled"], &told["disabled_reason"]), (&json!(false), &json!("gone")));

    let patch = command(PAGE, &["-X PATCH"]);
    let body = patch.split('\'').nth(1).unwrap().to_owned();
    let told = reader.run(&patch.replace(&body, "{\"enabled\": true}")).await;
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!((&told["enabled"], &told["disabled_reason"]), (&json!(true), &Value::Null));
    assert_eq!(reader.publish(&text("evt-2"), 2).await[1].outcome, Outcome::Delivered);
    reader.end(&[(&receiver, 2)]).await;
}
