//! One message and what the broker says of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use docrelay::domain::{Answer, FailureKind, Payload};
use lapin::{options::ExchangeDeclareOptions, types::AMQPValue};

use super::{Publishing, Subscriber, delivery, failure, message_id, numbered, to, within};
use crate::support::{
    broker::{DEADLINE, eventually, url},
    proxy::Proxy,
};

#[tokio::test]
async fn a_message_says_what_it_is_and_survives_its_broker() {
    let mut subscriber = Subscriber::new().await;
    let exchange = subscriber.exchange("erp").await;
    let queue = subscriber.queue(&exchange, "documents.#").await;
    let publishing = Publishing::new(&url(), &[&exchange]);
    let mut subscription = to(&exchange, "documents.new");
    for (payload, content_type, kind) in [
        (Payload::Protobuf, "application/protobuf", "docrelay.v1.DocumentEvent"),
        (Payload::ContractFit, "application/json", "document_text"),
        (Payload::CloudEvents, "application/cloudevents+json; charset=utf-8", "document_text"),
    ] {
        subscription.payload = payload;
        assert_eq!(publishing.send(&subscription, 1).await, Answer::Taken);
        let message = subscriber.next(&queue).await;
        assert_eq!((message.data.as_slice(), message.routing_key.as_str()), (&b"body 1"[..], "documents.new"));
        let properties = &message.properties;
        assert_eq!(properties.delivery_mode(), &Some(2));
        assert_eq!(properties.content_type().as_ref().unwrap().as_str(), content_type);
        assert_eq!(properties.kind().as_ref().unwrap().as_str(), kind);
        let id = delivery(&subscription, 1).to_string();
        assert_eq!(message_id(&message), id);
        let headers = properties.headers().clone().unwrap();
        let mut headers: BTreeMap<_, _> =
            headers.inner().iter().map(|(name, value)| (name.to_string(), value.clone())).collect();
        let timestamp = headers.remove("webhook-timestamp");
        assert!(matches!(timestamp, Some(AMQPValue::LongLongInt(1_700_000_000..))), "{timestamp:?}");
        let text = |text: &str| AMQPValue::LongString(text.into());
        let expected = BTreeMap::from([
            ("docrelay-attempt".to_owned(), AMQPValue::LongLongInt(3)),
            ("docrelay-event".to_owned(), text(numbered(1).name().as_str())),
            ("traceparent".to_owned(), text("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")),
            ("webhook-id".to_owned(), text(&id)),
        ]);
        assert_eq!(headers, expected);
    }
    publishing.end().await;
    subscriber.end().await;
}

#[tokio::test]
async fn what_the_broker_says_no_to_is_told_by_its_reason() {
    let mut subscriber = Subscriber::new().await;
    let exchange = subscriber.exchange("erp").await;
    let internal = ExchangeDeclareOptions { internal: true, ..ExchangeDeclareOptions::default() };
    let internal = subscriber.exchange_with("internal", internal).await;
    let missing = subscriber.name("missing");
    let _full = subscriber.full_queue(&exchange, "full", 0).await;
    let publishing = Publishing::new(&url(), &[&exchange, &internal, &missing]);
    for (exchange, key, kind, said) in [
        (&exchange, "nowhere", "unroutable", "for the routing key \"nowhere\""),
        (&exchange, "full", "broker", "did not take the message"),
        (&missing, "", "broker", "NOT_FOUND"),
        (&internal, "", "broker", "ACCESS_REFUSED"),
    ] {
        let answer = publishing.send(&to(exchange, key), 1).await;
        assert!(matches!(answer, Answer::Refused { .. }), "the broker did answer: {answer:?}");
        let (found, text) = failure(&answer);
        assert!(found == kind && text.contains(said), "{exchange} {key}: {answer:?}");
    }
    publishing.end().await;
    subscriber.end().await;
}

#[tokio::test]
async fn an_exchange_that_is_not_allowed_is_not_even_connected_for() {
    let proxy = Proxy::before(&url()).await;
    let publishing = Publishing::new(&proxy.url(&url()), &["erp.in"]);
    for exchange in ["erp.out", "documents", "docrelay.park"] {
        let answer = publishing.send(&to(exchange, ""), 1).await;
        assert!(matches!(answer, Answer::None { kind: FailureKind::Egress, .. }), "{answer:?}");
        assert!(failure(&answer).1.contains(exchange), "{answer:?}");
    }
    let mut others = to("erp.in", "");
    others.organization = "globex".parse().unwrap();
    assert!(failure(&publishing.send(&others, 1).await).1.contains("does not list globex:erp.in"));
    publishing.end().await;
    assert_eq!(proxy.accepted(), 0, "nobody used an exchange");
}

#[tokio::test]
async fn a_broker_that_does_not_confirm_in_time_is_a_timeout_and_the_next_message_is_none() {
    let mut subscriber = Subscriber::new().await;
    let exchange = subscriber.exchange("erp").await;
    let queue = subscriber.queue(&exchange, "#").await;
    let proxy = Proxy::before(&url()).await;
    let publishing = Publishing::new(&proxy.url(&url()), &[&exchange]);
    assert_eq!(publishing.send(&to(&exchange, ""), 0).await, Answer::Taken);
    proxy.mute();
    let answer = publishing.send(&within(to(&exchange, ""), Duration::from_millis(300)), 1).await;
    assert!(matches!(answer, Answer::None { kind: FailureKind::Timeout, .. }), "{answer:?}");
    assert!(failure(&answer).1.contains("did not confirm within 300ms"), "{answer:?}");
    proxy.pass();
    // What the broker says of the one before is not taken for what it says of this one.
    let answer = publishing.send(&to(&exchange, ""), 2).await;
    assert_eq!(answer, Answer::Taken);
    let ids: Vec<_> = subscriber.all(&queue).await.iter().map(message_id).collect();
    assert_eq!(ids, [0, 1, 2].map(|number| delivery(&to(&exchange, ""), number).to_string()));
    publishing.end().await;
    subscriber.end().await;
}

/// With several messages under way on one channel the client would give confirms, and messages that came back, to the
/// wrong ones.
#[tokio::test]
async fn among_many_at_once_everyone_hears_what_became_of_its_own_message() {
    const EACH: usize = 300;
    const ROOM: i64 = 100;
    let mut subscriber = Subscriber::new().await;
    let exchange = subscriber.exchange("erp").await;
    let open = subscriber.queue(&exchange, "open").await;
    let full = subscriber.full_queue(&exchange, "full", ROOM).await;
    let publishing = Publishing::new(&url(), &[&exchange]);
    let [mut to_open, mut to_full, mut to_none] = ["open", "full", "none"].map(|key| to(&exchange, key));
    for (subscription, id) in [(&mut to_open, "open"), (&mut to_full, "full"), (&mut to_none, "none")] {
        subscription.id = id.parse().unwrap();
    }
    let (opens, fulls, nones) = tokio::join!(
        publishing.send_all(&to_open, EACH),
        publishing.send_all(&to_full, EACH),
        publishing.send_all(&to_none, EACH),
    );
    assert!(opens.iter().all(|answer| *answer == Answer::Taken), "{opens:?}");
    assert!(nones.iter().all(|answer| failure(answer).0 == "unroutable"), "{nones:?}");
    let ids = |messages: Vec<_>| messages.iter().map(message_id).collect::<BTreeSet<_>>();
    assert_eq!(ids(subscriber.all(&open).await).len(), EACH, "each of them once");
    let taken = fulls.iter().enumerate().filter(|(_, answer)| **answer == Answer::Taken);
    let taken: BTreeSet<_> = taken.map(|(number, _)| delivery(&to_full, number).to_string()).collect();
    assert_eq!(taken, ids(subscriber.all(&full).await), "what counts as taken is there, and nothing else is");
    assert!(taken.len() >= usize::try_from(ROOM).unwrap() && taken.len() < EACH, "{}", taken.len());
    assert!(fulls.iter().all(|answer| *answer == Answer::Taken || failure(answer).0 == "broker"), "{fulls:?}");
    publishing.end().await;
    subscriber.end().await;
}

#[tokio::test]
async fn what_nobody_uses_is_closed_and_made_again_when_somebody_does() {
    let mut subscriber = Subscriber::new().await;
    let exchange = subscriber.exchange("erp").await;
    let _queue = subscriber.queue(&exchange, "#").await;
    let proxy = Proxy::before(&url()).await;
    let publishing = Publishing::idle_after(&proxy.url(&url()), &[&exchange], Duration::from_millis(50));
    assert_eq!(proxy.accepted(), 0, "nobody used it yet");
    for connections in 1..=3 {
        assert_eq!(publishing.send(&to(&exchange, ""), 1).await, Answer::Taken);
        assert_eq!(proxy.accepted(), connections);
        eventually("the end of the connection", || async { (proxy.open() == 0).then_some(()) }).await;
    }
    tokio::time::timeout(DEADLINE, publishing.end()).await.unwrap();
    subscriber.end().await;
}
