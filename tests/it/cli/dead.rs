//! `docrelay dead` against a real broker, with letters from docrelay and from the broker itself.

use docrelay::{
    broker::codec,
    domain::{self, DocumentEvent, Happening, Owed, ParkedEvent, TraceContext},
};
use lapin::{
    BasicProperties,
    options::{QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};

use crate::support::broker::TestBroker;

fn event(organization: &str) -> Vec<u8> {
    codec::encode_event(&DocumentEvent {
        id: "evt-1".parse().unwrap(),
        occurred_at: None,
        organization: organization.parse().unwrap(),
        project: None,
        inbox: None,
        document: "doc-1".parse().unwrap(),
        metadata: [].into(),
        happening: Happening::Fail { reason: "no\u{1b}[2J".to_owned() },
    })
}

fn parked() -> Vec<u8> {
    parked_for("acme")
}

fn parked_for(organization: &str) -> Vec<u8> {
    codec::encode_parked(&[ParkedEvent {
        event: event(organization).into(),
        first_seen: domain::now(),
        fan_out: 1,
        trace: TraceContext::default(),
        owed: vec![Owed::first("erp".parse().unwrap())],
    }])
}

fn properties(kind: &str, message_id: &str, headers: &[(&str, &str)]) -> BasicProperties {
    let mut table = FieldTable::default();
    for (name, value) in headers {
        table.insert((*name).into(), AMQPValue::LongString((*value).into()));
    }
    BasicProperties::default()
        .with_delivery_mode(2)
        .with_content_type(codec::CONTENT_TYPE.into())
        .with_type(kind.into())
        .with_message_id(message_id.into())
        .with_headers(table)
}

/// A letter as docrelay writes it.
async fn set_aside(broker: &TestBroker, id: &str, reason: &str, organization: &str) {
    let headers = [
        ("docrelay-reason", reason),
        ("docrelay-organization", organization),
        ("docrelay-origin", "events"),
        ("traceparent", "00-aa-bb-01"),
    ];
    let park = &broker.topology.names.park_exchange;
    broker.publish(park, "dead", properties(codec::EVENT_TYPE, id, &headers), &event(organization)).await;
}

/// The names of a message's headers, but for the returns that its queue has counted since it came: none.
fn header_names(properties: &BasicProperties) -> Vec<String> {
    let headers = properties.headers().clone().unwrap_or_default();
    let counted = headers.inner().get("x-delivery-count");
    assert!(matches!(counted, None | Some(AMQPValue::LongLongInt(0))), "{counted:?}");
    headers.inner().keys().map(ToString::to_string).filter(|name| name != "x-delivery-count").collect()
}

#[tokio::test]
async fn letters_are_listed_with_totals_and_looking_changes_nothing() {
    let broker = TestBroker::declared().await;
    set_aside(&broker, "m-1", "bad_json", "acme").await;
    set_aside(&broker, "m-2", "too_long", "acme").await;
    set_aside(&broker, "m-3", "too_long", "globex").await;
    let dead = &broker.topology.names.dead_queue;
    broker.wait_for(dead, 3).await;

    let all = broker.run(&["dead", "list"]).await.fine();
    assert!(all.contains("by reason        too_long 2, bad_json 1"), "{all}");
    assert!(all.contains("by organization  acme 2, globex 1"), "{all}");
    broker.wait_for(dead, 3).await;
    let some = broker.run(&["dead", "list", "--reason", "too_long", "--organization", "acme"]).await.fine();
    assert!(some.contains("m-2") && !some.contains("m-1") && !some.contains("m-3"), "{some}");
    broker.wait_for(dead, 3).await;
    let whole = broker.run(&["dead", "show", "--id", "m-3"]).await.fine();
    assert!(whole.contains("document_fail") && whole.contains("doc-1") && whole.contains("globex"), "{whole}");
    assert!(!whole.contains('\u{1b}'), "what came from outside cannot steer the terminal");
    broker.wait_for(dead, 3).await;
}

#[tokio::test]
async fn a_dry_run_changes_nothing_and_a_purge_takes_only_what_was_asked_for() {
    let broker = TestBroker::declared().await;
    set_aside(&broker, "m-1", "bad_json", "acme").await;
    set_aside(&broker, "m-2", "too_long", "acme").await;
    set_aside(&broker, "m-3", "too_long", "globex").await;
    let dead = &broker.topology.names.dead_queue;
    broker.wait_for(dead, 3).await;

    for command in ["redrive", "purge"] {
        let told = broker.run(&["dead", command]).await.fine();
        assert!(told.contains("Nothing was changed: 3 would be") && told.contains("--yes"), "{told}");
        broker.wait_for(dead, 3).await;
    }
    let purge = ["dead", "purge", "--reason", "too_long", "--organization", "acme", "--yes"];
    assert_eq!(broker.run(&purge).await.fine(), "Deleted 1.\n");
    broker.wait_for(dead, 2).await;
    let left = broker.run(&["dead", "list"]).await.fine();
    assert!(left.contains("m-1") && left.contains("m-3") && !left.contains("m-2"), "{left}");
    broker.wait_for(dead, 2).await;
    assert_eq!(broker.run(&["dead", "purge", "--limit", "1", "--yes"]).await.fine(), "Deleted 1.\n");
    broker.wait_for(dead, 1).await;
    assert!(broker.run(&["dead", "list"]).await.fine().contains("m-3"), "the oldest goes first");
}

#[tokio::test]
async fn a_redriven_letter_is_what_it_was_before() {
    let broker = TestBroker::declared().await;
    set_aside(&broker, "m-1", "no_known_event", "acme").await;
    set_aside(&broker, "m-2", "no_known_event", "acme").await;
    broker.wait_for(&broker.topology.names.dead_queue, 2).await;
    let told = broker.run(&["dead", "redrive", "--id", "m-2", "--yes"]).await.fine();
    assert_eq!(told, "Published 1 again.\n");
    let back = broker.take(&broker.topology.names.events_queue).await;
    assert_eq!(back.data, event("acme"));
    assert_eq!(back.properties.message_id().as_ref().unwrap().as_str(), "m-2");
    assert_eq!(back.properties.kind().as_ref().unwrap().as_str(), codec::EVENT_TYPE);
    assert_eq!(*back.properties.delivery_mode(), Some(2));
    assert_eq!(header_names(&back.properties), ["traceparent"]);
    broker.wait_for(&broker.topology.names.dead_queue, 1).await;
}

#[tokio::test]
async fn an_event_that_the_broker_gave_up_goes_back_to_the_intake_without_its_death() {
    let broker = TestBroker::declared().await;
    let names = &broker.topology.names;
    // No type property: the queue that gave it up says where it belongs.
    broker.publish(&names.events_exchange, "a.b.c", BasicProperties::default(), &event("acme")).await;
    broker.return_too_often(&names.events_queue).await;
    broker.wait_for(&names.dead_queue, 1).await;

    let list = broker.run(&["dead", "list", "--reason", "delivery_limit", "--organization", "acme"]).await.fine();
    assert!(list.contains("in all           1"), "{list}");
    broker.wait_for(&names.dead_queue, 1).await;
    broker.run(&["dead", "redrive", "--yes"]).await.fine();
    let back = broker.take(&names.events_queue).await;
    assert_eq!(back.data, event("acme"));
    assert_eq!(header_names(&back.properties), Vec::<String>::new());
    assert_eq!(broker.ready(&names.dead_queue).await, 0);
}

#[tokio::test]
async fn a_parked_message_that_the_broker_gave_up_is_due_again_though_it_expired_before() {
    let broker = TestBroker::declared().await;
    let (names, body) = (&broker.topology.names, [parked(), parked()].concat());
    broker.publish(&names.park_exchange, "delay.1s", properties(codec::PARKED_TYPE, "p-1", &[]), &body).await;
    broker.return_too_often(&names.due_queue).await;
    broker.wait_for(&names.dead_queue, 1).await;

    let whole = broker.run(&["dead", "show"]).await.fine();
    assert!(whole.contains("delivery_limit"), "{whole}");
    assert_eq!(whole.matches("erp after 0 attempts").count(), 2, "both that wait in it: {whole}");
    assert!(whole.contains("1 of 2") && whole.contains("2 of 2"), "{whole}");
    broker.wait_for(&names.dead_queue, 1).await;
    broker.run(&["dead", "redrive", "--organization", "acme", "--yes"]).await.fine();
    let back = broker.take(&names.due_queue).await;
    assert_eq!(back.data, body);
    assert_eq!(header_names(&back.properties), Vec::<String>::new());
}

#[tokio::test]
async fn a_letter_that_holds_what_several_are_owed_is_found_by_each_and_purged_for_none_alone() {
    let broker = TestBroker::declared().await;
    let names = &broker.topology.names;
    let body = [parked_for("globex"), parked_for("acme"), parked_for("globex")].concat();
    broker.publish(&names.park_exchange, "delay.1s", properties(codec::PARKED_TYPE, "p-1", &[]), &body).await;
    broker.return_too_often(&names.due_queue).await;
    broker.wait_for(&names.dead_queue, 1).await;

    for organization in ["acme", "globex"] {
        let list = broker.run(&["dead", "list", "--organization", organization]).await.fine();
        assert!(list.contains("acme, globex") && list.contains("by organization  acme 1, globex 1"), "{list}");
        broker.wait_for(&names.dead_queue, 1).await;
        let refused = broker.run(&["dead", "purge", "--organization", organization, "--yes"]).await.failed();
        assert_eq!(refused, "1 hold what other organizations are owed as well, or may; they stay.\n");
        broker.wait_for(&names.dead_queue, 1).await;
    }
    let whole = broker.run(&["dead", "show"]).await.fine();
    let of = |organization: &str| whole.lines().filter(|line| line.ends_with(&format!(" {organization}"))).count();
    // The whole letter is of "acme, globex", and each event of one.
    assert_eq!((of("acme"), of("globex")), (1, 3), "{whole}");
    broker.wait_for(&names.dead_queue, 1).await;
    let other = broker.run(&["dead", "list", "--organization", "initech"]).await.fine();
    assert_eq!(other, "No dead letters.\n");
    broker.wait_for(&names.dead_queue, 1).await;
    assert_eq!(broker.run(&["dead", "purge", "--yes"]).await.fine(), "Deleted 1.\n");
}

#[tokio::test]
async fn a_letter_of_which_a_part_cannot_be_read_is_purged_for_no_organization_alone() {
    let broker = TestBroker::declared().await;
    let names = &broker.topology.names;
    let unreadable = codec::encode_parked(&[ParkedEvent {
        event: b"\xff\xff".to_vec().into(),
        first_seen: domain::now(),
        fan_out: 1,
        trace: TraceContext::default(),
        owed: vec![Owed::first("erp".parse().unwrap())],
    }]);
    let body = [parked(), unreadable].concat();
    broker.publish(&names.park_exchange, "delay.1s", properties(codec::PARKED_TYPE, "p-1", &[]), &body).await;
    broker.return_too_often(&names.due_queue).await;
    broker.wait_for(&names.dead_queue, 1).await;
    let refused = broker.run(&["dead", "purge", "--organization", "acme", "--yes"]).await.failed();
    assert_eq!(refused, "1 hold what other organizations are owed as well, or may; they stay.\n");
    broker.wait_for(&names.dead_queue, 1).await;
    assert_eq!(broker.run(&["dead", "purge", "--yes"]).await.fine(), "Deleted 1.\n");
}

#[tokio::test]
async fn what_found_no_queue_is_unrouted_and_a_result_goes_back_with_its_old_key() {
    let broker = TestBroker::declared().await;
    let names = &broker.topology.names;
    broker.publish(&names.park_exchange, "nowhere", properties(codec::PARKED_TYPE, "p-1", &[]), &parked()).await;
    let headers = [
        ("docrelay-reason", "result_refused"),
        ("docrelay-origin", "results"),
        ("docrelay-routing-key", "delivered.document_text.acme._"),
    ];
    broker.publish(&names.park_exchange, "dead", properties(codec::RESULT_TYPE, "r-1", &headers), b"result").await;
    broker.wait_for(&names.dead_queue, 2).await;
    let list = broker.run(&["dead", "list"]).await.fine();
    assert!(list.contains("unrouted 1") && list.contains("result_refused 1"), "{list}");
    broker.wait_for(&names.dead_queue, 2).await;

    let queue = broker
        .channel
        .queue_declare(
            "".into(),
            QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() },
            FieldTable::default(),
        )
        .await
        .unwrap();
    let (exchange, key) = (names.results_exchange.as_str().into(), "delivered.document_text.acme._".into());
    broker
        .channel
        .queue_bind(queue.name().clone(), exchange, key, QueueBindOptions::default(), FieldTable::default())
        .await
        .unwrap();
    assert_eq!(broker.run(&["dead", "redrive", "--yes"]).await.fine(), "Published 2 again.\n");
    assert_eq!(broker.take(queue.name().as_str()).await.data, b"result");
    assert_eq!(broker.take(&names.due_queue).await.properties.message_id().as_ref().unwrap().as_str(), "p-1");
}

#[tokio::test]
async fn a_letter_that_nothing_is_known_about_stays_and_is_told() {
    let broker = TestBroker::declared().await;
    let names = &broker.topology.names;
    broker.publish(&names.park_exchange, "dead", BasicProperties::default(), b"\xff\xff").await;
    broker.wait_for(&names.dead_queue, 1).await;
    let told = broker.run(&["dead", "redrive", "--yes"]).await.failed();
    assert!(told.contains("Nothing says where 1 came from"), "{told}");
    broker.wait_for(&names.dead_queue, 1).await;
}
