//! Which events are recorded, and what becomes of those that are not.

use std::time::Duration;

use docrelay::domain::{DocumentEvent, Outcome};
use serde_json::json;

use super::{UNRECORDED, UPSTREAM, traced};
use crate::support::{
    collector::{Collector, traceparent},
    receiver::{Receiver, Reply},
    scrape::Scraped,
    service::{GENEROUS, event, subscription, with},
};

/// Fails once for each delivery.
async fn fails_once() -> Receiver {
    Receiver::scripted(|request| Reply::status(if request.attempt() < 2 { 503 } else { 204 })).await
}

#[tokio::test]
async fn an_event_that_is_not_recorded_is_from_the_attempt_on_that_fails_and_points_at_upstream() {
    let collector = Collector::grpc().await;
    let receiver = fails_once().await;
    let surroundings = traced(&collector).await;
    surroundings.subscribe(&[subscription("erp", &receiver.url("/"))]);
    let service = surroundings.start().await;
    surroundings.publish_with(&event("evt-1"), &[("traceparent", UNRECORDED)]).await;
    surroundings.results.wait_for_outcome(Outcome::Delivered, 1, GENEROUS).await;
    let told: Vec<_> = receiver.recorded().iter().map(|it| it.header("traceparent").to_owned()).collect();
    surroundings.end(service, &[(&receiver, 2)]).await;
    let trace = collector.trace();
    assert_ne!(trace.id(), "0af7651916cd43dd8448eb211c80319c");
    insta::assert_snapshot!(trace.tree(), @r"
    POST (client, error) http.response.status_code=503 docrelay.subscription=erp docrelay.attempt=1 docrelay.outcome=attempt_failed error.type=503 link=0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331
      wait (internal) docrelay.subscription=erp docrelay.attempt=2 docrelay.wait=retry
      publish documents.results (producer) docrelay.subscription=erp docrelay.attempt=1 docrelay.outcome=attempt_failed
      POST (client) http.response.status_code=204 docrelay.subscription=erp docrelay.attempt=2 docrelay.outcome=delivered
      publish documents.results (producer) docrelay.subscription=erp docrelay.attempt=2 docrelay.outcome=delivered
    ");
    assert_eq!(told, [UNRECORDED.to_owned(), traceparent(trace.named("POST")[1])], "what was known at that time");
}

#[tokio::test]
async fn the_figures_of_an_attempt_that_fails_lead_to_the_trace_that_begins_with_it() {
    let collector = Collector::grpc().await;
    let receiver = Receiver::scripted(|_| Reply::status(503)).await;
    let surroundings = traced(&collector).await.set("TRACING__SAMPLE", "0");
    surroundings.subscribe(&[with(subscription("erp", &receiver.url("/")), json!({"retry": {"max_attempts": 1}}))]);
    let service = surroundings.start().await;
    surroundings.publish(&event("evt-1")).await;
    surroundings.results.wait_for_outcome(Outcome::Exhausted, 1, GENEROUS).await;
    let scraped = Scraped::open(service.admin).await;
    surroundings.end(service, &[(&receiver, 1)]).await;
    let exemplars: Vec<_> = scraped.samples.iter().filter_map(|sample| sample.exemplar.as_ref()).collect();
    assert_eq!(exemplars.len(), 1, "that of the attempt's duration: {exemplars:?}");
    assert_eq!(exemplars[0]["trace_id"], collector.trace().id());
}

#[tokio::test]
async fn two_deliveries_that_fail_for_one_event_are_one_trace() {
    let collector = Collector::grpc().await;
    let receiver = fails_once().await;
    let surroundings = traced(&collector).await.set("TRACING__SAMPLE", "0");
    surroundings.subscribe(&[subscription("crm", &receiver.url("/crm")), subscription("erp", &receiver.url("/erp"))]);
    let service = surroundings.start().await;
    surroundings.publish(&event("evt-1")).await;
    surroundings.results.wait_for_outcome(Outcome::Delivered, 2, GENEROUS).await;
    surroundings.end(service, &[(&receiver, 4)]).await;
    let trace = collector.trace();
    assert_eq!((trace.named("POST").len(), trace.named("wait").len()), (4, 2), "{}", trace.tree());
}

#[tokio::test]
async fn a_delivery_that_goes_well_beside_one_that_fails_stays_out_of_its_trace() {
    let collector = Collector::grpc().await;
    // It answers long after the other one has failed; both have begun before.
    let good = Receiver::scripted(|_| Reply::ok().after(Duration::from_millis(300))).await;
    let bad = Receiver::scripted(|_| Reply::status(503)).await;
    let surroundings = traced(&collector).await;
    let once = json!({"retry": {"max_attempts": 1}});
    surroundings.subscribe(&[subscription("crm", &good.url("/")), with(subscription("erp", &bad.url("/")), once)]);
    let service = surroundings.start().await;
    surroundings.publish_with(&event("evt-1"), &[("traceparent", UNRECORDED)]).await;
    surroundings.results.wait_for_outcome(Outcome::Delivered, 1, GENEROUS).await;
    let results = surroundings.results.traceparents();
    surroundings.end(service, &[(&good, 1), (&bad, 1)]).await;
    let trace = collector.trace();
    insta::assert_snapshot!(trace.tree(), @r"
    POST (client, error) http.response.status_code=503 docrelay.subscription=erp docrelay.attempt=1 docrelay.outcome=exhausted error.type=503 link=0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331
      publish documents.results (producer) docrelay.subscription=erp docrelay.attempt=1 docrelay.outcome=exhausted
    ");
    let published: Vec<_> =
        collector.spans().iter().filter(|span| span.name.starts_with("publish")).map(traceparent).collect();
    assert_eq!(results, [published[0].clone(), UNRECORDED.to_owned()]);
}

#[tokio::test]
async fn nothing_is_recorded_of_what_goes_well_where_the_share_is_zero_or_upstream_records_nothing() {
    let collector = Collector::grpc().await;
    let receiver = Receiver::ok().await;
    let surroundings = traced(&collector).await.set("TRACING__SAMPLE", "0");
    surroundings.subscribe(&[subscription("erp", &receiver.url("/"))]);
    let service = surroundings.start().await;
    surroundings.publish(&event("evt-1")).await;
    surroundings.publish_with(&event("evt-2"), &[("traceparent", UNRECORDED)]).await;
    // Upstream records this one: so does docrelay, whatever its own share is.
    surroundings.publish_with(&event("evt-3"), &[("traceparent", UPSTREAM)]).await;
    surroundings.results.wait_for_outcome(Outcome::Delivered, 3, GENEROUS).await;
    let mut told: Vec<_> = receiver.recorded().iter().map(|it| it.header("traceparent").to_owned()).collect();
    surroundings.end(service, &[(&receiver, 3)]).await;
    let trace = collector.trace();
    assert_eq!(trace.id(), "0af7651916cd43dd8448eb211c80319c");
    told.sort();
    let mut expected = [String::new(), UNRECORDED.to_owned(), traceparent(trace.named("POST")[0])];
    expected.sort();
    assert_eq!(told, expected);
}

#[tokio::test]
async fn a_sampler_that_does_not_ask_upstream_leaves_out_what_upstream_records_until_it_fails() {
    let collector = Collector::grpc().await;
    let (good, shaky) = (Receiver::ok().await, fails_once().await);
    let sampler = [("OTEL_TRACES_SAMPLER", "traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", "0")];
    let surroundings = sampler.iter().fold(traced(&collector).await, |it, (name, value)| it.set(name, value));
    let shaky_one = with(subscription("crm", &shaky.url("/")), json!({"inboxes": ["shaky"]}));
    let good_one = with(subscription("erp", &good.url("/")), json!({"inboxes": ["good"]}));
    surroundings.subscribe(&[shaky_one, good_one]);
    let service = surroundings.start().await;
    for inbox in ["good", "shaky"] {
        let event = DocumentEvent { inbox: Some(inbox.parse().unwrap()), ..event(&format!("evt-{inbox}")) };
        surroundings.publish_with(&event, &[("traceparent", UPSTREAM)]).await;
    }
    surroundings.results.wait_for_outcome(Outcome::Delivered, 2, GENEROUS).await;
    let told = good.recorded()[0].header("traceparent").to_owned();
    let (first, second) = (shaky.recorded()[0].clone(), shaky.recorded()[1].clone());
    let results = surroundings.results.traceparents();
    surroundings.end(service, &[(&good, 1), (&shaky, 2)]).await;
    // The only trace is that of the attempt that failed: nothing stands in upstream's.
    let trace = collector.trace();
    insta::assert_snapshot!(trace.tree(), @r"
    POST (client, error) http.response.status_code=503 docrelay.subscription=crm docrelay.attempt=1 docrelay.outcome=attempt_failed error.type=503 link=0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331
      wait (internal) docrelay.subscription=crm docrelay.attempt=2 docrelay.wait=retry
      publish documents.results (producer) docrelay.subscription=crm docrelay.attempt=1 docrelay.outcome=attempt_failed
      POST (client) http.response.status_code=204 docrelay.subscription=crm docrelay.attempt=2 docrelay.outcome=delivered
      publish documents.results (producer) docrelay.subscription=crm docrelay.attempt=2 docrelay.outcome=delivered
    ");
    // Whoever comes after is not told that docrelay records it.
    assert_eq!((told.as_str(), first.header("traceparent")), (UNRECORDED, UNRECORDED));
    assert_eq!(second.header("traceparent"), traceparent(trace.named("POST")[1]));
    assert!(results.iter().any(|it| it == UNRECORDED) && !results.iter().any(|it| it == UPSTREAM), "{results:?}");
}

#[tokio::test]
async fn a_malformed_traceparent_is_as_if_none_had_come() {
    let collector = Collector::grpc().await;
    let receiver = Receiver::ok().await;
    let surroundings = traced(&collector).await;
    surroundings.subscribe(&[subscription("erp", &receiver.url("/"))]);
    let service = surroundings.start().await;
    let malformed = "00-00000000000000000000000000000000-b7ad6b7169203331-01";
    surroundings.publish_with(&event("evt-1"), &[("traceparent", malformed), ("tracestate", "vendor=1")]).await;
    surroundings.results.wait_for_outcome(Outcome::Delivered, 1, GENEROUS).await;
    let request = receiver.recorded().remove(0);
    surroundings.end(service, &[(&receiver, 1)]).await;
    let trace = collector.trace();
    assert!(trace.tree().starts_with("process "), "{}", trace.tree());
    assert_eq!(request.header("traceparent"), traceparent(trace.named("POST")[0]));
    assert_eq!(request.header("tracestate"), "", "it belongs to no trace");
}

#[tokio::test]
async fn without_an_endpoint_upstreams_trace_is_passed_on() {
    let receiver = Receiver::ok().await;
    let surroundings = crate::support::service::Surroundings::new().await;
    surroundings.subscribe(&[subscription("erp", &receiver.url("/"))]);
    let service = surroundings.start().await;
    surroundings.publish_with(&event("evt-1"), &[("traceparent", UPSTREAM), ("tracestate", "vendor=1")]).await;
    surroundings.results.wait_for_outcome(Outcome::Delivered, 1, GENEROUS).await;
    let request = receiver.recorded().remove(0);
    assert_eq!((request.header("traceparent"), request.header("tracestate")), (UPSTREAM, "vendor=1"));
    assert_eq!(surroundings.results.traceparents(), [UPSTREAM]);
    surroundings.end(service, &[(&receiver, 1)]).await;
}
