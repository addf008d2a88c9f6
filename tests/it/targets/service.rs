//! The whole service with targets that are exchanges.

use docrelay::{
    broker::codec,
    domain::{DeliveryId, FailureKind, Outcome},
};
use lapin::{
    BasicProperties,
    options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::FieldTable,
};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Subscriber, isolation::tell_queue, message_id};
use crate::support::{
    broker::{eventually, url},
    node::Node,
    receiver::Receiver,
    service::{GENEROUS, Surroundings, event, subscription, with},
};

/// A subscription of `acme` to `document_text` with this exchange as its target.
pub(super) fn to(id: &str, exchange: &str, payload: &str) -> Value {
    json!({
        "id": id,
        "organization": "acme",
        "events": ["document_text"],
        "payload": payload,
        "target": {"type": "amqp", "exchange": exchange, "routing_key": "documents"},
    })
}

pub(super) async fn surroundings(url: &str, exchanges: &[&str]) -> Surroundings {
    let allowed: Vec<_> = exchanges.iter().map(|exchange| format!("acme:{exchange}")).collect();
    Surroundings::with(&[("TARGETS__AMQP__URL", url), ("TARGETS__AMQP__ALLOW", &allowed.join(","))]).await
}

/// An event as a newer producer would publish it, with a field that this version does not know.
fn bytes_of_tomorrow() -> Vec<u8> {
    let mut bytes = codec::encode_event(&event("evt-1"));
    // Field 1000, a text: "tomorrow".
    bytes.extend([0xc2, 0x3e, 8]);
    bytes.extend(b"tomorrow");
    bytes
}

#[tokio::test]
async fn an_event_arrives_byte_for_byte_and_its_result_says_where() {
    let mut subscriber = Subscriber::new().await;
    let exchange = subscriber.exchange("erp").await;
    let queue = subscriber.queue(&exchange, "documents").await;
    let surroundings = surroundings(&url(), &[&exchange]).await;
    surroundings.subscribe(&[to("erp", &exchange, "protobuf")]);
    let service = surroundings.start().await;
    let bytes = bytes_of_tomorrow();
    let properties = BasicProperties::default().with_content_type("application/protobuf".into());
    surroundings.publish_raw(properties, &bytes).await;
    let message = subscriber.next(&queue).await;
    assert_eq!(message.data, bytes);
    assert_eq!(message_id(&message), DeliveryId::of(&event("evt-1").id, &"erp".parse().unwrap()).to_string());
    let result = surroundings.results.wait_for_outcome(Outcome::Delivered, 1, GENEROUS).await.remove(0);
    assert_eq!((result.target.as_str(), result.status_code), (format!("amqp:{exchange}").as_str(), None));
    assert_eq!((result.attempt, result.error, result.response_body.len()), (1, None, 0));
    surroundings.end(service, &[]).await;
    subscriber.end().await;
}

#[tokio::test]
async fn the_json_payloads_go_to_an_exchange_as_they_go_over_http() {
    let mut subscriber = Subscriber::new().await;
    let exchange = subscriber.exchange("erp").await;
    let queue = subscriber.queue(&exchange, "documents").await;
    let receiver = Receiver::ok().await;
    let surroundings = surroundings(&url(), &[&exchange]).await;
    surroundings.subscribe(&[
        to("contractfit", &exchange, "contractfit"),
        with(subscription("over-http", &receiver.url("/")), json!({"payload": "contractfit"})),
        to("cloudevents", &exchange, "cloudevents"),
    ]);
    let service = surroundings.start().await;
    surroundings.publish(&event("evt-1")).await;
    surroundings.results.wait_for_outcome(Outcome::Delivered, 3, GENEROUS).await;
    let (mut plain, mut cloud) = (Vec::new(), Vec::new());
    for message in subscriber.all(&queue).await {
        let content_type = message.properties.content_type().as_ref().unwrap().to_string();
        if content_type == "application/json" { plain.push(message.data) } else { cloud.push(message.data) }
    }
    assert_eq!(plain, [receiver.recorded()[0].body.to_vec()]);
    assert_eq!(cloud.len(), 1);
    let cloud: Value = serde_json::from_slice(&cloud[0]).unwrap();
    assert_eq!((&cloud["type"], &cloud["data"]["text"]), (&json!("docrelay.document_text.v1"), &json!("Hello")));
    surroundings.end(service, &[(&receiver, 1)]).await;
    subscriber.end().await;
}

#[tokio::test]
async fn what_finds_no_queue_is_tried_again_and_arrives_once_one_is_bound() {
    let mut subscriber = Subscriber::new().await;
    let exchange = subscriber.exchange("erp").await;
    let surroundings = surroundings(&url(), &[&exchange]).await;
    surroundings.subscribe(&[with(to("erp", &exchange, "protobuf"), json!({"retry": {"max_attempts": 15}}))]);
    let service = surroundings.start().await;
    let bytes = bytes_of_tomorrow();
    surroundings.publish_raw(BasicProperties::default(), &bytes).await;
    let failed = surroundings.results.wait_for_outcome(Outcome::AttemptFailed, 2, GENEROUS).await;
    assert!(failed.iter().all(|result| result.error == Some(FailureKind::Unroutable.as_str())), "{failed:#?}");
    assert!(failed[0].error_text.contains("no queue is bound"), "{failed:#?}");
    let queue = subscriber.queue(&exchange, "documents").await;
    assert_eq!(subscriber.next(&queue).await.data, bytes, "parked and all");
    surroundings.results.wait_for_outcome(Outcome::Delivered, 1, GENEROUS).await;
    surroundings.end(service, &[]).await;
    assert!(subscriber.all(&queue).await.is_empty());
    subscriber.end().await;
}

#[tokio::test]
async fn an_exchange_that_is_missing_ends_its_deliveries_and_nobody_elses() {
    const EVENTS: usize = 20;
    let mut subscriber = Subscriber::new().await;
    let (good, missing) = (subscriber.exchange("good").await, subscriber.name("missing"));
    let refusing = subscriber.exchange("refusing").await;
    let queue = subscriber.queue(&good, "documents").await;
    let _full = subscriber.full_queue(&refusing, "documents", 0).await;
    let receiver = Receiver::ok().await;
    let surroundings = surroundings(&url(), &[&good, &missing, &refusing]).await;
    surroundings.subscribe(&[
        to("missing", &missing, "protobuf"),
        to("refusing", &refusing, "protobuf"),
        to("good", &good, "protobuf"),
        subscription("webhook", &receiver.url("/")),
    ]);
    let service = surroundings.start().await;
    let events: Vec<_> = (0..EVENTS).map(|number| event(&format!("evt-{number}"))).collect();
    surroundings.publish_all(&events).await;
    surroundings.results.wait_for_finals(4 * EVENTS, GENEROUS).await;
    for (id, outcome) in [
        ("missing", Outcome::Exhausted),
        ("refusing", Outcome::Exhausted),
        ("good", Outcome::Delivered),
        ("webhook", Outcome::Delivered),
    ] {
        let finals: Vec<_> = surroundings.results.finals().into_values().flatten().collect();
        let ours: Vec<_> = finals.iter().filter(|it| it.subscription.as_ref().unwrap().as_str() == id).collect();
        assert!(ours.len() == EVENTS && ours.iter().all(|it| it.outcome == outcome), "{id}: {ours:#?}");
        if outcome == Outcome::Exhausted {
            assert!(ours.iter().all(|it| it.error == Some(FailureKind::Broker.as_str())), "{id}: {ours:#?}");
        } else {
            assert!(ours.iter().all(|it| it.attempt == 1), "{id} was not disturbed: {ours:#?}");
        }
    }
    assert_eq!(subscriber.all(&queue).await.len(), EVENTS);
    surroundings.end(service, &[(&receiver, EVENTS)]).await;
    subscriber.end().await;
}

#[tokio::test]
async fn a_broker_of_targets_that_is_killed_and_comes_back_gets_everything_and_docrelays_own_stays() {
    const EVENTS: usize = 50;
    let node = Node::start().await;
    let exchange = "erp.in";
    let surroundings = surroundings(node.url(), &[exchange]).await;
    durable(node.url(), exchange).await;
    let receiver = Receiver::ok().await;
    surroundings.subscribe(&[
        // Long enough for a node to start: 100 ms, then twice as long each time.
        with(to("erp", exchange, "protobuf"), json!({"retry": {"backoff": "100ms", "max_attempts": 15}})),
        subscription("webhook", &receiver.url("/")),
    ]);
    let service = surroundings.start().await;
    let events = |round: usize| (0..EVENTS).map(move |number| event(&format!("evt-{round}-{number}")));
    surroundings.publish_all(&events(0).collect::<Vec<_>>()).await;
    surroundings.results.wait_for_finals(2 * EVENTS, GENEROUS).await;
    node.kill().await;
    surroundings.publish_all(&events(1).collect::<Vec<_>>()).await;
    // Webhooks do not wait for it, and what goes there is tried again.
    receiver.wait_for(2 * EVENTS, GENEROUS).await;
    let failed = surroundings.results.wait_for_outcome(Outcome::AttemptFailed, EVENTS, GENEROUS).await;
    assert!(failed.iter().all(|result| result.error == Some(FailureKind::Broker.as_str())), "{failed:#?}");
    let ready = surroundings.readiness(&service).await.unwrap();
    assert!(ready.contains("publishing: connected\nconsuming: yes\n"), "{ready}");
    node.restart().await;
    surroundings.results.wait_for_finals(4 * EVENTS, 4 * GENEROUS).await;
    let finals = surroundings.results.finals();
    assert!(finals.values().flatten().all(|result| result.outcome == Outcome::Delivered), "{finals:#?}");
    let subscriber = Subscriber::at(node.url()).await;
    let mut ids: Vec<_> = subscriber.all("erp").await.iter().map(message_id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 2 * EVENTS);
    surroundings.end(service, &[(&receiver, 2 * EVENTS)]).await;
}

/// An exchange and a queue that outlive their broker.
async fn durable(url: &str, exchange: &str) {
    let subscriber = Subscriber::at(url).await;
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let kind = lapin::ExchangeKind::Topic;
    subscriber.channel.exchange_declare(exchange.into(), kind, durable, FieldTable::default()).await.unwrap();
    let (options, none) = (QueueDeclareOptions::durable(), FieldTable::default());
    subscriber.channel.queue_declare("erp".into(), options, none).await.unwrap();
    let (options, none) = (QueueBindOptions::default(), FieldTable::default());
    subscriber.channel.queue_bind("erp".into(), exchange.into(), "#".into(), options, none).await.unwrap();
    subscriber.end().await;
}

#[tokio::test]
async fn a_stop_lets_what_is_under_way_finish_and_closes_the_connection_after_it() {
    const EVENTS: usize = 200;
    let node = Node::start().await;
    let mut subscriber = Subscriber::at(node.url()).await;
    let exchange = subscriber.exchange("erp").await;
    let queue = subscriber.queue(&exchange, "documents").await;
    let surroundings = surroundings(node.url(), &[&exchange]).await;
    surroundings.subscribe(&[to("erp", &exchange, "protobuf")]);
    let service = surroundings.start().await;
    surroundings.publish_all(&(0..EVENTS).map(|number| event(&format!("evt-{number}"))).collect::<Vec<_>>()).await;
    let first = subscriber.next(&queue).await;
    let stopped = service.stop().await;
    assert!(stopped.finished && stopped.told, "{stopped:?}");
    let told = || node.ctl(&["list_connections", "-q", "--no-table-headers", "client_properties"]);
    eventually("the end of the connection", || async { (!told().await.contains("docrelay targets")).then_some(()) })
        .await;
    // The next one does the rest, and repeats nothing.
    let service = surroundings.start().await;
    surroundings.results.wait_for_finals(EVENTS, GENEROUS).await;
    surroundings.end(service, &[]).await;
    let mut ids: Vec<_> = subscriber.all(&queue).await.iter().chain([&first]).map(message_id).collect();
    ids.sort();
    let all = ids.len();
    ids.dedup();
    assert_eq!((all, ids.len()), (EVENTS, EVENTS));
}

/// A queue that is suspended confirms nothing, as one that is slow.
#[tokio::test]
async fn who_waits_for_a_channel_of_a_busy_exchange_spends_no_attempt() {
    const EVENTS: usize = 12;
    let node = Node::start().await;
    let mut subscriber = Subscriber::at(node.url()).await;
    let exchange = subscriber.exchange("erp").await;
    let queue = subscriber.queue(&exchange, "documents").await;
    let surroundings = surroundings(node.url(), &[&exchange]).await;
    // Three lanes lead to the four channels, each with room for four.
    let subscriptions = ["a", "b", "c"].map(|id| {
        let mut subscription = with(to(id, &exchange, "protobuf"), json!({"max_in_flight": 4}));
        subscription["target"]["timeout"] = "2s".into();
        subscription
    });
    surroundings.subscribe(&subscriptions);
    let service = surroundings.start().await;
    surroundings.publish(&event("evt-first")).await;
    surroundings.results.wait_for_outcome(Outcome::Delivered, 3, GENEROUS).await;
    tell_queue(&node, "suspend", &queue).await;
    let begun = Instant::now();
    surroundings.publish_all(&(0..EVENTS).map(|number| event(&format!("evt-{number}"))).collect::<Vec<_>>()).await;
    surroundings.results.wait_for_outcome(Outcome::AttemptFailed, 1, GENEROUS).await;
    tell_queue(&node, "resume", &queue).await;
    let rounds = usize::try_from(begun.elapsed().as_secs() / 2).unwrap();
    surroundings.results.wait_for_finals(3 * (EVENTS + 1), GENEROUS).await;
    let results = surroundings.results.all();
    let failed: Vec<_> = results.iter().filter(|result| result.outcome == Outcome::AttemptFailed).collect();
    // Every two seconds four had a channel, and the exchange had one more once the last of them had failed.
    assert!((1..=4 * rounds + 1).contains(&failed.len()), "{rounds} rounds: {failed:#?}");
    assert!(failed.len() < 3 * EVENTS, "who only waited spent nothing: {failed:#?}");
    assert!(failed.iter().all(|result| result.error_text.contains("did not confirm within 2s")), "{failed:#?}");
    surroundings.end(service, &[]).await;
}
