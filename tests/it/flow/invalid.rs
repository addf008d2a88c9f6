//! What cannot be processed: kept with a reason, told to upstream where possible, and never in the way of what comes next.

use docrelay::{
    broker::{codec, outbox::headers},
    domain::{DocumentEvent, Happening, Outcome},
};
use lapin::{BasicProperties, message::Delivery, types::AMQPValue};

use crate::support::{
    receiver::Receiver,
    service::{GENEROUS, Surroundings, event, subscription},
};

/// Numbers of an event's fields, as in `event.proto`.
const ID: u8 = 1;
const ORGANIZATION: u8 = 3;
const INBOX: u8 = 5;
const DOCUMENT: u8 = 6;

/// One bad message: what it is, its bytes, its properties, and what must be said about it.
struct Bad {
    what: &'static str,
    body: Vec<u8>,
    properties: BasicProperties,
    reason: &'static str,
    field: &'static str,
    /// Whether enough of it can be read to tell upstream.
    told: bool,
}

fn properties() -> BasicProperties {
    BasicProperties::default().with_content_type(codec::CONTENT_TYPE.into()).with_type(codec::EVENT_TYPE.into())
}

fn predict(document: &str) -> Vec<u8> {
    let happening = Happening::Predict { document: document.to_owned().into() };
    codec::encode_event(&DocumentEvent { happening, ..event("evt-bad") })
}

/// A protobuf field of text, by its number.
fn text(field: u8, value: &str) -> Vec<u8> {
    let mut bytes = vec![field << 3 | 2, u8::try_from(value.len()).unwrap()];
    bytes.extend_from_slice(value.as_bytes());
    bytes
}

/// The event with one field of text given again: the last one counts.
fn and(field: u8, value: &str) -> Vec<u8> {
    let mut bytes = codec::encode_event(&event("evt-bad"));
    bytes.extend_from_slice(&text(field, value));
    bytes
}

fn bad_messages() -> Vec<Bad> {
    let bad = |what, body, reason, field, told| Bad { what, body, properties: properties(), reason, field, told };
    let fine = || codec::encode_event(&event("evt-bad"));
    let long = "x".repeat(65);
    let huge = Happening::Text { text: "x".repeat(70_000) };
    let no_event = [text(ID, "evt-bad"), text(ORGANIZATION, "acme"), text(DOCUMENT, "d")];
    vec![
        bad("no protobuf", b"\xff\xff\xff".to_vec(), "undecodable", "message", false),
        bad("nothing", Vec::new(), "missing_field", "id", false),
        bad("no organization", and(ORGANIZATION, ""), "missing_field", "organization", false),
        bad("no document", and(DOCUMENT, ""), "missing_field", "document_id", true),
        bad("a long inbox", and(INBOX, &long), "too_long", "inbox", true),
        bad("a long organization", and(ORGANIZATION, &long), "too_long", "organization", false),
        bad("an event of a newer version", no_event.concat(), "no_known_event", "event", true),
        bad("JSON that ends early", predict(r#"{"a":"#), "bad_json", "document_predict.document_json", true),
        bad("JSON that is no object", predict("[1]"), "bad_json", "document_predict.document_json", true),
        bad(
            "too many bytes",
            codec::encode_event(&DocumentEvent { happening: huge, ..event("evt-bad") }),
            "too_large",
            "message",
            true,
        ),
        Bad {
            properties: properties().with_content_type("application/json".into()),
            ..bad("another content type", fine(), "wrong_property", "content_type", true)
        },
        Bad {
            properties: properties().with_type("docrelay.v1.Parked".into()),
            ..bad("another type", fine(), "wrong_property", "type", true)
        },
        Bad {
            properties: properties().with_message_id("evt-other".into()),
            ..bad("another event's id", fine(), "wrong_property", "message_id", true)
        },
    ]
}

fn header(letter: &Delivery, name: &str) -> String {
    match letter.properties.headers().as_ref().unwrap().inner().get(name) {
        Some(AMQPValue::LongString(text)) => text.to_string(),
        Some(AMQPValue::ShortString(text)) => text.to_string(),
        other => panic!("header {name} is {other:?}"),
    }
}

#[tokio::test]
async fn what_cannot_be_processed_is_kept_with_its_reason_and_the_next_event_goes_on() {
    let receiver = Receiver::ok().await;
    let surroundings = Surroundings::with(&[("EVENTS__MAX_BYTES", "65536")]).await;
    surroundings.subscribe(&[subscription("erp", &receiver.url("/"))]);
    let service = surroundings.start().await;
    let (mut told, mut delivered) = (0, 0);
    for bad in bad_messages() {
        surroundings.publish_raw(bad.properties.clone(), &bad.body).await;
        let letter = surroundings.dead_letter().await;
        assert_eq!(letter.data, bad.body, "{}", bad.what);
        let said = (header(&letter, headers::REASON), header(&letter, headers::FIELD));
        assert_eq!(said, (bad.reason.to_owned(), bad.field.to_owned()), "{}: {letter:?}", bad.what);
        assert_eq!(header(&letter, headers::ORIGIN), "events");
        assert!(!header(&letter, headers::DETAIL).is_empty());
        if bad.told {
            told += 1;
            let result = surroundings.results.wait_for_outcome(Outcome::Invalid, told, GENEROUS).await.pop().unwrap();
            assert_eq!(result.error, Some(bad.reason), "{}", bad.what);
            assert_eq!((result.event_id.as_str(), result.organization.as_str()), ("evt-bad", "acme"));
            assert_eq!(header(&letter, headers::ORGANIZATION), "acme");
        }
        // It is in nobody's way.
        delivered += 1;
        surroundings.publish(&event(&format!("evt-{delivered}"))).await;
        surroundings.results.wait_for_outcome(Outcome::Delivered, delivered, GENEROUS).await;
    }
    assert_eq!(surroundings.results.all().len(), told + delivered, "and nothing else was told");
    surroundings.end(service, &[(&receiver, delivered)]).await;
}

#[tokio::test]
async fn a_message_larger_than_anything_docrelay_publishes_is_kept_whole_all_the_same() {
    let receiver = Receiver::ok().await;
    let surroundings = Surroundings::new().await;
    surroundings.subscribe(&[subscription("erp", &receiver.url("/"))]);
    let service = surroundings.start().await;
    let happening = Happening::Text { text: "x".repeat(17 * 1024 * 1024) };
    let body = codec::encode_event(&DocumentEvent { happening, ..event("evt-bad") });
    surroundings.publish_raw(properties(), &body).await;
    let letter = surroundings.dead_letter().await;
    assert!(letter.data == body, "{} bytes instead of {}", letter.data.len(), body.len());
    assert_eq!(header(&letter, headers::REASON), "too_large");
    let result = surroundings.results.wait_for_outcome(Outcome::Invalid, 1, GENEROUS).await.remove(0);
    assert_eq!(result.event_id.as_str(), "evt-bad");
    surroundings.end(service, &[(&receiver, 0)]).await;
}

#[tokio::test]
async fn missing_properties_and_older_content_types_are_accepted() {
    let receiver = Receiver::ok().await;
    let surroundings = Surroundings::new().await;
    surroundings.subscribe(&[subscription("erp", &receiver.url("/"))]);
    let service = surroundings.start().await;
    let accepted = [
        BasicProperties::default(),
        properties().with_content_type("application/x-protobuf".into()),
        properties().with_content_type("application/vnd.google.protobuf".into()),
    ];
    for (number, properties) in accepted.into_iter().enumerate() {
        surroundings.publish_raw(properties, &codec::encode_event(&event(&format!("evt-{number}")))).await;
    }
    surroundings.results.wait_for_outcome(Outcome::Delivered, 3, GENEROUS).await;
    surroundings.end(service, &[(&receiver, 3)]).await;
}
