//! docs/from-idexa.md

use docrelay::domain::{DocumentEvent, Happening, Outcome};

use super::{Reader, command};
use crate::support::{
    receiver::{Receiver, Reply},
    service::event,
};

const PAGE: &str = "docs/from-idexa.md";
const DOCUMENT: &str = r#"{ "id":"doc 7/8", "total" : 1.10000000000000000000000001, "status":1 }"#;

/// A document is finished.
fn finish(id: &str) -> DocumentEvent {
    let happening = Happening::Finish { document: DOCUMENT.into() };
    DocumentEvent { document: "doc 7/8".parse().unwrap(), happening, ..event(id) }
}

#[tokio::test]
async fn every_call_works_as_it_stands_and_is_answered_as_it_says() {
    let mut reader = Reader::of(PAGE, "acme").await;
    assert_eq!(reader.run_all().await, (4, 1));
    // Then there is room for another one.
    reader.run(&command(PAGE, &["\"type\": 0"])).await;
    reader.end(&[]).await;
}

#[tokio::test]
async fn the_login_is_called_its_token_is_sent_the_id_takes_its_place_and_a_delete_takes_effect() {
    let receiver = Receiver::scripted(|request| match request.path.as_str() {
        "/login" => Reply::ok().body(r#"{"access_token": "abc"}"#),
        _ => Reply::ok(),
    })
    .await;
    let mut reader = Reader::of(PAGE, "acme").await;
    let create = command(PAGE, &["\"type\": 0"]).replace("http://localhost:5000", &receiver.url(""));
    reader.run(&create).await;
    assert_eq!(receiver.count(), 0, "nothing is called when it is made");
    // Another event of the document is none of its business.
    assert_eq!(reader.publish(&event("evt-1"), 1).await[0].outcome, Outcome::Unsubscribed);
    assert_eq!(reader.publish(&finish("evt-2"), 2).await[1].outcome, Outcome::Delivered);

    let [login, sent] = receiver.recorded().try_into().unwrap();
    assert_eq!(
        (login.method.as_str(), &*login.path, &login.body[..]),
        ("POST", "/login", &b"username=root&password=root"[..])
    );
    assert_eq!(login.header("content-type"), "application/x-www-form-urlencoded");
    assert_eq!((sent.method.as_str(), &*sent.path), ("POST", "/ocr_feedback/doc%207%2F8"));
    assert_eq!((sent.header("authorization"), sent.header("content-type")), ("Bearer abc", "application/json"));
    assert_eq!(sent.body, DOCUMENT);

    reader.run(&command(PAGE, &["-X DELETE"])).await;
    assert_eq!(reader.publish(&finish("evt-3"), 3).await[2].outcome, Outcome::Unsubscribed);
    reader.end(&[(&receiver, 2)]).await;
}
