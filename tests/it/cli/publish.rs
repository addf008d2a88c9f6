//! `docrelay publish` against a real broker.

use std::{process::Stdio, time::Instant};

use docrelay::{
    broker::codec::{self, Checked},
    domain::{DocumentEvent, EventName, Happening},
};
use lapin::{message::Delivery, types::AMQPValue};
use tokio::io::AsyncWriteExt as _;

use crate::support::broker::TestBroker;

fn event(delivery: &Delivery) -> DocumentEvent {
    codec::decode_event(&delivery.data.clone().into(), 8 << 20, Checked::NotYet).unwrap()
}

#[tokio::test]
async fn samples_arrive_as_the_contract_says() {
    let broker = TestBroker::declared().await;
    let told = broker.run(&["publish", "--organization", "ac.me", "--inbox", "in voices"]).await.fine();
    assert!(told.starts_with("Published 9 events"), "{told}");
    for name in EventName::ALL {
        let delivery = broker.take(&broker.topology.names.events_queue).await;
        let event = event(&delivery);
        assert_eq!(event.name(), name);
        assert_eq!(delivery.exchange.as_str(), broker.config.events_exchange);
        assert_eq!(delivery.routing_key.as_str(), format!("{name}.ac%2Eme.in%20voices"));
        let properties = &delivery.properties;
        assert_eq!(properties.content_type().as_ref().unwrap().as_str(), "application/protobuf");
        assert_eq!(properties.kind().as_ref().unwrap().as_str(), "docrelay.v1.DocumentEvent");
        assert_eq!(properties.message_id().as_ref().unwrap().as_str(), event.id.as_str());
        assert_eq!(*properties.delivery_mode(), Some(2));
    }
}

#[tokio::test]
async fn events_from_stdin_keep_their_document_byte_for_byte() {
    let broker = TestBroker::declared().await;
    let document = r#"{ "total": 0.10, "big":1.0e400, "total":2 }"#;
    let line = format!(
        r#"{{"id":"evt-7","organization":"acme","document_id":"d","document_finish":{{"document_json":{document}}}}}"#
    );
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let mut command = broker.docrelay(&["publish", "-", "--traceparent", trace]);
    let mut program = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut input = program.stdin.take().unwrap();
    input.write_all(line.as_bytes()).await.unwrap();
    drop(input);
    assert!(program.wait().await.unwrap().success());
    let delivery = broker.take(&broker.topology.names.events_queue).await;
    assert_eq!(delivery.routing_key.as_str(), "document_finish.acme._");
    assert_eq!(event(&delivery).happening, Happening::Finish { document: document.as_bytes().to_vec().into() });
    let headers = delivery.properties.headers().clone().unwrap();
    assert_eq!(headers.inner().get("traceparent"), Some(&AMQPValue::LongString(trace.into())));
}

#[tokio::test]
async fn one_mistake_in_a_file_publishes_nothing_and_is_told_with_its_line() {
    let broker = TestBroker::declared().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.jsonl");
    let fine = r#"{"organization":"acme","document_id":"d","document_delete":{}}"#;
    std::fs::write(&path, format!("{fine}\n{}\n", fine.replace("acme", ""))).unwrap();
    let complaint = broker.run(&["publish", path.to_str().unwrap()]).await.failed();
    assert!(complaint.contains("nothing was published"), "{complaint}");
    assert!(complaint.contains("event in line 2: organization: must not be empty"), "{complaint}");
    assert_eq!(broker.ready(&broker.topology.names.events_queue).await, 0);
}

#[tokio::test]
async fn a_missing_exchange_is_told_with_the_way_out() {
    let broker = TestBroker::new().await;
    let complaint = broker.run(&["publish"]).await.failed();
    assert!(complaint.contains(&format!("exchange {} does not exist", broker.config.events_exchange)), "{complaint}");
    assert!(complaint.contains("docrelay topology --declare"), "{complaint}");
}

#[tokio::test]
async fn many_are_all_confirmed_and_a_rate_is_kept() {
    let broker = TestBroker::declared().await;
    broker.run(&["publish", "--sample", "document_text", "--count", "3000"]).await.fine();
    broker.wait_for(&broker.topology.names.events_queue, 3000).await;
    #[expect(clippy::disallowed_methods, reason = "real time, as the program sees it")]
    let began = Instant::now();
    broker.run(&["publish", "--count", "11", "--rate", "10/s"]).await.fine();
    assert!(began.elapsed().as_millis() >= 1000, "ten gaps of 100 ms");
}
