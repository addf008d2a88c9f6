//! Nothing secret in any span: it is planted wherever a delivery has a place for it, and looked for in what was sent.

use std::collections::BTreeMap;

use docrelay::domain::{DocumentEvent, Happening, Outcome};
use serde_json::json;

use super::traced;
use crate::support::{
    collector::Collector,
    receiver::{Receiver, Reply},
    service::{GENEROUS, event, subscription, with},
};

#[tokio::test]
async fn nothing_secret_is_in_any_span() {
    let collector = Collector::grpc().await;
    let logins = Receiver::scripted(|request| match request.index {
        0 => Reply::status(400).body("planted"),
        _ => Reply::ok().body(r#"{"access_token": "planted"}"#),
    })
    .await;
    let receiver = Receiver::scripted(|request| match request.index {
        0 => Reply::status(500).body("planted").header("x-planted", "planted"),
        1 => Reply::dropped(),
        _ => Reply::ok().body("planted"),
    })
    .await;
    // A broker of targets that nobody is at.
    let surroundings = traced(&collector).await.set("TARGETS__AMQP__URL", "amqp://planted:planted@127.0.0.1:1/planted");
    let surroundings = surroundings.set("TARGETS__AMQP__ALLOW", "acme:orders");
    let planted = |url: String| url.replace("http://", "http://planted:planted@") + "?planted=planted#planted";
    let fields = json!({
        "name": "planted",
        "target": {"url": planted(receiver.url("/planted")), "headers": {"x-planted": "planted"}},
        "auth": {"login": {
            "url": planted(logins.url("/planted")),
            "headers": {"x-planted": "planted"},
            "body": {"planted": "planted"},
        }},
        "signing_secrets": ["whsec_cGxhbnRlZHBsYW50ZWRwbGFudGVkcGxhbnRlZA=="],
        "retry": {"max_attempts": 6},
    });
    let mut exchange = with(subscription("crm", ""), json!({"payload": "cloudevents"}));
    exchange["target"] = json!({"type": "amqp", "exchange": "orders", "routing_key": "documents"});
    surroundings.subscribe(&[with(subscription("erp", ""), fields), exchange]);
    let service = surroundings.start().await;
    let metadata = BTreeMap::from([("planted".to_owned(), "planted".to_owned())]);
    let happening = Happening::Text { text: "planted".to_owned() };
    let headers = [("baggage", "planted=planted"), ("x-planted", "planted")];
    surroundings.publish_with(&DocumentEvent { metadata, happening, ..event("evt-1") }, &headers).await;
    surroundings.results.wait_for_outcome(Outcome::Delivered, 1, GENEROUS).await;
    surroundings.results.wait_for_outcome(Outcome::Exhausted, 1, GENEROUS).await;
    surroundings.publish_raw(lapin::BasicProperties::default(), b"planted").await;
    surroundings.end_with_dead(service, &[(&receiver, 3)], 1).await;
    let requests = [receiver.recorded(), logins.recorded()].concat();
    assert!(requests.iter().all(|request| request.header("baggage").is_empty()), "{requests:#?}");
    let told = format!("{:?} {:?}", collector.spans(), collector.resource());
    assert!(collector.spans().len() > 10 && told.contains("publish orders"), "{told}");
    for secret in ["planted", "cGxhbnRlZ", "whsec", "Hello"] {
        assert!(!told.to_lowercase().contains(&secret.to_lowercase()), "{secret} is in {told}");
    }
}
