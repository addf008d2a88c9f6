//! What an attempt at an exchange is in a trace, and which trace its subscriber is told.

use docrelay::domain::Outcome;
use lapin::types::AMQPValue;

use super::{
    Subscriber,
    service::{surroundings, to},
};
use crate::support::{
    broker::url,
    collector::{Collector, traceparent},
    service::{GENEROUS, event},
};

#[tokio::test]
async fn an_attempt_at_an_exchange_publishes_and_its_subscriber_is_told_its_span() {
    let collector = Collector::grpc().await;
    let mut subscriber = Subscriber::new().await;
    let exchange = subscriber.exchange("erp").await;
    let queue = subscriber.queue(&exchange, "documents").await;
    let surroundings = surroundings(&url(), &[&exchange]).await.set("TRACING__ENDPOINT", collector.endpoint());
    surroundings.subscribe(&[to("erp", &exchange, "protobuf")]);
    let service = surroundings.start().await;
    surroundings.publish(&event("evt-1")).await;
    let message = subscriber.next(&queue).await;
    surroundings.results.wait_for_outcome(Outcome::Delivered, 1, GENEROUS).await;
    surroundings.end(service, &[]).await;
    let trace = collector.trace();
    insta::assert_snapshot!(trace.tree_in_full().replace(&exchange, "erp.in"), @r"
    process docrelay.events (consumer) messaging.system=rabbitmq messaging.operation.name=process messaging.operation.type=process messaging.destination.name=docrelay.events messaging.message.body.size=N messaging.message.id=evt-1 docrelay.organization=acme docrelay.document=doc-1 docrelay.event=document_text docrelay.event.id=evt-1 docrelay.fan_out=1
      publish erp.in (producer) messaging.system=rabbitmq messaging.operation.name=publish messaging.operation.type=send messaging.destination.name=erp.in messaging.rabbitmq.destination.routing_key=documents messaging.message.id=27e6b4b2-122a-51e0-a12f-bd8a1b61392a docrelay.organization=acme docrelay.document=doc-1 docrelay.event=document_text docrelay.subscription=erp docrelay.delivery=27e6b4b2-122a-51e0-a12f-bd8a1b61392a docrelay.attempt=1 docrelay.outcome=delivered
      publish documents.results (producer) messaging.system=rabbitmq messaging.operation.name=publish messaging.operation.type=send messaging.destination.name=documents.results docrelay.organization=acme docrelay.subscription=erp docrelay.attempt=1 docrelay.outcome=delivered
    ");
    let told = message.properties.headers().clone().unwrap_or_default();
    let expected = traceparent(trace.named(&format!("publish {exchange}"))[0]);
    assert_eq!(told.inner().get("traceparent"), Some(&AMQPValue::LongString(expected.into())));
    subscriber.end().await;
}
