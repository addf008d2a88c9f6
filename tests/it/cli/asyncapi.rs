//! `docrelay asyncapi`: what is committed is what the code says, and what the code says is what a broker sees.

use lapin::{
    Connection, ConnectionProperties,
    options::{BasicGetOptions, QueueBindOptions, QueueDeclareOptions},
    types::{FieldTable, ShortString},
};
use serde_json::Value;

use crate::support::{
    broker::{docrelay, eventually, ran, url},
    service::{Surroundings, event},
};

/// With the settings that are shipped.
async fn printed() -> String {
    ran(docrelay(&["asyncapi"])).await.fine()
}

#[tokio::test]
async fn the_committed_document_is_the_one_that_is_printed() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/asyncapi.json");
    let committed = std::fs::read_to_string(path).unwrap();
    assert!(committed == printed().await, "write it anew: docrelay asyncapi > docs/asyncapi.json");
}

#[tokio::test]
async fn other_names_in_the_settings_are_other_names_in_the_document() {
    let mut command = docrelay(&["asyncapi"]);
    command.envs([("DOCRELAY__BROKER__EVENTS_EXCHANGE", "ours"), ("DOCRELAY__BROKER__RESULTS_EXCHANGE", "theirs")]);
    let document: Value = serde_json::from_str(&ran(command).await.fine()).unwrap();
    let exchange = |channel: &str| document["channels"][channel]["bindings"]["amqp"]["exchange"]["name"].clone();
    assert_eq!((exchange("events"), exchange("results")), ("ours".into(), "theirs".into()));
}

#[tokio::test]
async fn a_result_has_the_key_and_the_properties_that_the_document_says() {
    let document: Value = serde_json::from_str(&printed().await).unwrap();
    let surroundings = Surroundings::new().await;
    let connection = Connection::connect(&url(), ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    let (exclusive, none) = (QueueDeclareOptions { exclusive: true, ..Default::default() }, FieldTable::default());
    let queue = channel.queue_declare("".into(), exclusive, none.clone()).await.unwrap().name().clone();
    let exchange = surroundings.topology.names.results_exchange.as_str();
    channel.queue_bind(queue.clone(), exchange.into(), "#".into(), QueueBindOptions::default(), none).await.unwrap();

    let service = surroundings.start().await;
    surroundings.publish(&event("evt-1")).await;
    let message = eventually("the result", || async {
        channel.basic_get(queue.clone(), BasicGetOptions { no_ack: true }).await.unwrap()
    })
    .await;
    let results = &document["channels"]["results"];
    let words: Vec<_> = message.routing_key.as_str().split('.').collect();
    assert_eq!(words.len(), results["address"].as_str().unwrap().split('.').count(), "{words:?}");
    for (word, name) in words.iter().zip(["outcome", "event"]) {
        assert!(results["parameters"][name]["enum"].as_array().unwrap().contains(&(*word).into()), "{words:?}");
    }
    let said = &document["components"]["messages"]["deliveryResult"];
    let text = |value: &Option<ShortString>| Value::from(value.as_ref().unwrap().as_str());
    assert_eq!(text(message.properties.kind()), said["bindings"]["amqp"]["messageType"]);
    assert_eq!(text(message.properties.content_type()), said["contentType"]);
    assert!(message.properties.message_id().is_some());
    connection.close(200, "done".into()).await.unwrap();
    surroundings.end(service, &[]).await;
}
