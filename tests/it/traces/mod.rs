//! One trace for each event: whole trees, as a collector gets them. `sampling` is about what is recorded and what is not,
//! `collector` about one that is not there, `defect` about an attempt that does not end by itself.

mod collector;
mod defect;
mod sampling;
mod secrets;

use std::collections::BTreeSet;

use docrelay::domain::Outcome;
use serde_json::{Value, json};

use crate::{
    flow::exports::{Exports, file_export},
    flow::payloads::export,
    support::{
        collector::{Collector, Trace, attribute, traceparent},
        receiver::{Receiver, Reply},
        service::{GENEROUS, Surroundings, UNIT, event, subscription, with},
    },
};

/// What upstream's message says.
pub(crate) const UPSTREAM: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// The same trace, which upstream does not record.
pub(crate) const UNRECORDED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

/// Surroundings whose service sends its spans to a collector.
async fn traced(collector: &Collector) -> Surroundings {
    Surroundings::with(&[("TRACING__ENDPOINT", collector.endpoint())]).await
}

#[tokio::test]
async fn an_event_that_is_delivered_to_two_at_once_is_one_trace() {
    let collector = Collector::grpc().await;
    let receiver = Receiver::ok().await;
    let surroundings = traced(&collector).await;
    surroundings.subscribe(&[subscription("crm", &receiver.url("/crm")), subscription("erp", &receiver.url("/erp"))]);
    let service = surroundings.start().await;
    surroundings.publish(&event("evt-1")).await;
    surroundings.results.wait_for_outcome(Outcome::Delivered, 2, GENEROUS).await;
    let told: Vec<_> = receiver.recorded().iter().map(|it| it.header("traceparent").to_owned()).collect();
    let results = surroundings.results.traceparents();
    surroundings.end(service, &[(&receiver, 2)]).await;
    let trace = collector.trace();
    insta::assert_snapshot!(trace.tree_in_full(), @r"
    process docrelay.events (consumer) messaging.system=rabbitmq messaging.operation.name=process messaging.operation.type=process messaging.destination.name=docrelay.events messaging.message.body.size=N messaging.message.id=evt-1 docrelay.organization=acme docrelay.document=doc-1 docrelay.event=document_text docrelay.event.id=evt-1 docrelay.fan_out=2
      POST (client) http.request.method=POST url.scheme=http server.address=127.0.0.1 server.port=N http.response.status_code=200 docrelay.organization=acme docrelay.document=doc-1 docrelay.event=document_text docrelay.subscription=crm docrelay.delivery=4224c9f4-2bc2-59ba-ba73-3778325c4603 docrelay.attempt=1 docrelay.outcome=delivered
      publish documents.results (producer) messaging.system=rabbitmq messaging.operation.name=publish messaging.operation.type=send messaging.destination.name=documents.results docrelay.organization=acme docrelay.subscription=crm docrelay.attempt=1 docrelay.outcome=delivered
      POST (client) http.request.method=POST url.scheme=http server.address=127.0.0.1 server.port=N http.response.status_code=200 docrelay.organization=acme docrelay.document=doc-1 docrelay.event=document_text docrelay.subscription=erp docrelay.delivery=27e6b4b2-122a-51e0-a12f-bd8a1b61392a docrelay.attempt=1 docrelay.outcome=delivered
      publish documents.results (producer) messaging.system=rabbitmq messaging.operation.name=publish messaging.operation.type=send messaging.destination.name=documents.results docrelay.organization=acme docrelay.subscription=erp docrelay.attempt=1 docrelay.outcome=delivered
    ");
    for (name, mut told) in [("POST", told), ("publish", results)] {
        let spans = collector.spans();
        let mut expected: Vec<_> = spans.iter().filter(|span| span.name.starts_with(name)).map(traceparent).collect();
        expected.sort();
        told.sort();
        assert_eq!(told, expected, "{name}: each is told the span that it came by");
    }
    let resource = collector.resource();
    assert_eq!(resource["service.name"], "docrelay");
    assert_eq!(resource["service.version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(resource["service.instance.id"].len(), 36);
}

#[tokio::test]
async fn a_delivery_that_failed_twice_is_one_tree_from_upstream_to_its_result() {
    let collector = Collector::http().await;
    let receiver = Receiver::scripted(|request| Reply::status(if request.attempt() < 3 { 503 } else { 204 })).await;
    let surroundings = traced(&collector).await.set("TRACING__PROTOCOL", "http");
    surroundings.subscribe(&[subscription("erp", &receiver.url("/hook?key=secret"))]);
    let service = surroundings.start().await;
    let state = ("tracestate", "vendor=1");
    let baggage = ("baggage", "user=somebody");
    surroundings.publish_with(&event("evt-1"), &[("traceparent", UPSTREAM), state, baggage]).await;
    surroundings.results.wait_for_outcome(Outcome::Delivered, 1, GENEROUS).await;
    let results = surroundings.results.traceparents();
    surroundings.end(service, &[(&receiver, 3)]).await;
    let trace = collector.trace();
    assert_eq!(trace.id(), "0af7651916cd43dd8448eb211c80319c");
    let document = include_str!("../../../docs/tracing.md");
    let expected = document.split("```text\n").nth(1).unwrap().split("```").next().unwrap();
    assert_eq!(trace.tree(), expected, "docs/tracing.md shows this tree");
    let requests = receiver.recorded();
    for (span, request) in trace.named("POST").into_iter().zip(&requests) {
        assert_eq!(request.header("traceparent"), traceparent(span));
        assert_eq!((request.header("tracestate"), request.header("baggage")), ("vendor=1", ""));
    }
    let published: Vec<_> =
        collector.spans().iter().filter(|it| it.name.starts_with("publish")).map(traceparent).collect();
    assert_eq!(results, published);
    // Each wait reaches from the attempt before to the one after.
    let (posts, waits) = (trace.named("POST"), trace.named("wait"));
    for (pair, wait) in posts.windows(2).zip(waits) {
        assert!(pair[0].end_time_unix_nano <= wait.start_time_unix_nano, "{wait:?}");
        assert!(wait.end_time_unix_nano <= pair[1].start_time_unix_nano, "{wait:?}");
    }
}

#[tokio::test]
async fn a_login_and_the_signing_of_a_link_are_parts_of_their_attempt() {
    let collector = Collector::grpc().await;
    let logins = Receiver::scripted(|request| match request.index {
        0 => Reply::status(500),
        1 => Reply::ok().body(r#"{"message": "welcome"}"#),
        _ => Reply::ok().body(r#"{"access_token": "abc"}"#),
    })
    .await;
    let receiver = Receiver::ok().await;
    let exports = Exports::new().await;
    let surroundings = exports.surroundings.set("TRACING__ENDPOINT", collector.endpoint());
    let login = json!({"auth": {"login": {"url": logins.url("/login?key=secret"), "body": {"password": "hunter2"}}}});
    surroundings.subscribe(&[with(file_export("erp", &receiver.url("/"), "pdf", 1), login)]);
    let service = surroundings.start().await;
    surroundings.publish(&export("evt-1")).await;
    surroundings.results.wait_for_outcome(Outcome::Delivered, 1, GENEROUS).await;
    surroundings.end(service, &[(&receiver, 1), (&logins, 3)]).await;
    insta::assert_snapshot!(collector.trace().tree(), @r"
    process docrelay.events (consumer)
      POST (client, error) docrelay.subscription=erp docrelay.attempt=1 docrelay.outcome=attempt_failed error.type=auth
        sign link (internal)
        POST login (client, error) docrelay.subscription=erp http.response.status_code=500 error.type=500
      wait (internal) docrelay.subscription=erp docrelay.attempt=2 docrelay.wait=retry
      publish documents.results (producer) docrelay.subscription=erp docrelay.attempt=1 docrelay.outcome=attempt_failed
      POST (client, error) docrelay.subscription=erp docrelay.attempt=2 docrelay.outcome=attempt_failed error.type=auth
        sign link (internal)
        POST login (client, error) docrelay.subscription=erp http.response.status_code=200 error.type=auth
      wait (internal) docrelay.subscription=erp docrelay.attempt=3 docrelay.wait=retry
      publish documents.results (producer) docrelay.subscription=erp docrelay.attempt=2 docrelay.outcome=attempt_failed
      POST (client) http.response.status_code=200 docrelay.subscription=erp docrelay.attempt=3 docrelay.outcome=delivered
        sign link (internal)
        POST login (client) docrelay.subscription=erp http.response.status_code=200
      publish documents.results (producer) docrelay.subscription=erp docrelay.attempt=3 docrelay.outcome=delivered
    ");
}

#[tokio::test]
async fn a_redirect_that_is_not_followed_is_an_error() {
    let collector = Collector::grpc().await;
    let receiver = Receiver::scripted(|request| match request.attempt() {
        1 => Reply::status(302).header("location", "/elsewhere"),
        _ => Reply::status(204),
    })
    .await;
    let surroundings = traced(&collector).await;
    surroundings.subscribe(&[subscription("erp", &receiver.url("/"))]);
    let service = surroundings.start().await;
    surroundings.publish(&event("evt-1")).await;
    surroundings.results.wait_for_outcome(Outcome::Delivered, 1, GENEROUS).await;
    surroundings.end(service, &[(&receiver, 2)]).await;
    insta::assert_snapshot!(collector.trace().tree(), @r"
    process docrelay.events (consumer)
      POST (client, error) http.response.status_code=302 docrelay.subscription=erp docrelay.attempt=1 docrelay.outcome=attempt_failed error.type=302
      wait (internal) docrelay.subscription=erp docrelay.attempt=2 docrelay.wait=retry
      publish documents.results (producer) docrelay.subscription=erp docrelay.attempt=1 docrelay.outcome=attempt_failed
      POST (client) http.response.status_code=204 docrelay.subscription=erp docrelay.attempt=2 docrelay.outcome=delivered
      publish documents.results (producer) docrelay.subscription=erp docrelay.attempt=2 docrelay.outcome=delivered
    ");
}

#[tokio::test]
async fn what_nobody_gets_and_what_cannot_be_processed_is_told_too() {
    let collector = Collector::grpc().await;
    let surroundings = traced(&collector).await;
    let service = surroundings.start().await;
    surroundings.publish(&event("evt-1")).await;
    surroundings.results.wait_for(1, GENEROUS).await;
    surroundings.publish_raw(lapin::BasicProperties::default(), b"\xff no event").await;
    surroundings.end_with_dead(service, &[], 1).await;
    let mut trees: Vec<_> = collector.traces().iter().map(Trace::tree).collect();
    trees.sort();
    insta::assert_snapshot!(trees.concat(), @r"
    process docrelay.events (consumer) docrelay.outcome=unsubscribed
      publish documents.results (producer) docrelay.outcome=unsubscribed
    process docrelay.events (consumer, error) docrelay.outcome=invalid error.type=undecodable
    ");
}

#[tokio::test]
async fn a_wait_for_a_place_is_one_span_over_all_its_hops() {
    let collector = Collector::grpc().await;
    let receiver = Receiver::ok().await;
    let surroundings = traced(&collector).await;
    // The others wait for their turns: half a second is too long to stand in line.
    let limit: Value = json!({"rate_limit": {"per_second": 2, "burst": 1}});
    surroundings.subscribe(&[with(subscription("erp", &receiver.url("/")), limit)]);
    let service = surroundings.start().await;
    surroundings.publish_all(&[event("evt-1"), event("evt-2"), event("evt-3")]).await;
    surroundings.results.wait_for_outcome(Outcome::Delivered, 3, GENEROUS).await;
    surroundings.end(service, &[(&receiver, 3)]).await;
    let waits: Vec<_> = collector.spans().into_iter().filter(|span| span.name == "wait").collect();
    // A service that has just begun may let all three wait, until it knows its share.
    let deliveries: BTreeSet<_> = waits.iter().map(|wait| attribute(wait, "docrelay.delivery")).collect();
    assert!(deliveries.len() >= 2 && deliveries.len() == waits.len(), "{waits:#?}");
    for wait in &waits {
        assert_eq!((&*attribute(wait, "docrelay.wait"), &*attribute(wait, "docrelay.attempt")), ("limit", "1"));
    }
    let longest = waits.iter().map(|wait| wait.end_time_unix_nano - wait.start_time_unix_nano).max().unwrap();
    assert!(longest > 16 * u64::try_from(UNIT.as_nanos()).unwrap(), "more than one hop: {longest} ns");
}
