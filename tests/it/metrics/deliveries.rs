//! What becomes of events, counted.

use docrelay::{
    broker::codec,
    domain::{DocumentEvent, Outcome},
};
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable},
};
use serde_json::json;

use crate::support::{
    broker::eventually,
    receiver::{Receiver, Reply},
    scrape::Scraped,
    service::{GENEROUS, Surroundings, event, subscription, with},
};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

/// Publishes an event as a part of a trace that somebody keeps.
async fn publish_traced(surroundings: &Surroundings, event: &DocumentEvent) {
    let mut headers = FieldTable::default();
    let traceparent = format!("00-{TRACE}-b7ad6b7169203331-01");
    headers.insert("traceparent".into(), AMQPValue::LongString(traceparent.as_str().into()));
    let properties = BasicProperties::default()
        .with_content_type(codec::CONTENT_TYPE.into())
        .with_type(codec::EVENT_TYPE.into())
        .with_message_id(event.id.as_str().into())
        .with_delivery_mode(2)
        .with_headers(headers);
    surroundings.publish_raw(properties, &codec::encode_event(event)).await;
}

/// The name of a series, its labels, and its value.
type Series = (&'static str, &'static [(&'static str, &'static str)], f64);

/// What the first test lets happen, as it is counted: an event of `acme` for three subscriptions, one of `globex` for none,
/// and a message that is no event.
const COUNTED: &[Series] = &[
    ("docrelay_events_total", &[("source", "events")], 3.0),
    ("docrelay_events_total", &[("source", "due")], 1.0),
    ("docrelay_deliveries_total", &[("outcome", "delivered"), ("organization", "acme")], 2.0),
    ("docrelay_deliveries_total", &[("outcome", "rejected"), ("organization", "acme")], 1.0),
    ("docrelay_deliveries_total", &[("outcome", "unsubscribed"), ("organization", "globex")], 1.0),
    ("docrelay_deliveries_total", &[("outcome", "invalid"), ("organization", "other")], 1.0),
    ("docrelay_attempts_total", &[("error", "none"), ("target_kind", "http"), ("organization", "acme")], 2.0),
    ("docrelay_attempts_total", &[("error", "status"), ("target_kind", "http"), ("organization", "acme")], 1.0),
    ("docrelay_attempts_total", &[("error", "gone"), ("target_kind", "http"), ("organization", "acme")], 1.0),
    // What might have become of them is seen as a step when it does for the first time.
    ("docrelay_deliveries_total", &[("outcome", "exhausted"), ("organization", "acme")], 0.0),
    ("docrelay_attempts_total", &[("error", "timeout"), ("target_kind", "http"), ("organization", "acme")], 0.0),
    ("docrelay_attempt_responses_total", &[("status_class", "2xx")], 2.0),
    ("docrelay_attempt_responses_total", &[("status_class", "4xx")], 1.0),
    ("docrelay_attempt_responses_total", &[("status_class", "5xx")], 1.0),
    ("docrelay_parked_total", &[("reason", "retry")], 1.0),
    ("docrelay_gone_total", &[], 1.0),
    ("docrelay_delivery_latency_seconds_count", &[], 2.0),
    ("docrelay_attempt_duration_seconds_count", &[("target_kind", "http")], 4.0),
    ("docrelay_broker_connections_total", &[("connection", "publishing")], 1.0),
    ("docrelay_broker_connected", &[("connection", "consuming")], 1.0),
    ("docrelay_broker_blocked", &[], 0.0),
    // Results, the parked message, the dead letter, and the subscription that was disabled.
    ("docrelay_confirms_total", &[("verdict", "ack")], 8.0),
    ("docrelay_confirms_total", &[("verdict", "nack")], 0.0),
    ("docrelay_confirms_outstanding", &[], 0.0),
    ("docrelay_in_flight", &[], 0.0),
    ("docrelay_lanes", &[("health", "answering")], 3.0),
    ("docrelay_lanes_paused", &[], 0.0),
    ("docrelay_ready", &[], 1.0),
    ("docrelay_subscriptions", &[], 3.0),
    ("docrelay_replicas", &[], 1.0),
    ("docrelay_window_places", &[("window", "quick")], 0.0),
    ("docrelay_window_places", &[("window", "slow")], 0.0),
    ("docrelay_window_places_max", &[("window", "quick")], 256.0),
    ("docrelay_window_places_max", &[("window", "slow")], 768.0),
    ("docrelay_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1.0),
];

#[tokio::test]
async fn what_becomes_of_events_is_counted_and_leads_to_their_traces() {
    let good = Receiver::ok().await;
    let shaky = Receiver::scripted(|request| if request.index == 0 { Reply::status(503) } else { Reply::ok() }).await;
    let gone = Receiver::scripted(|_| Reply::status(410)).await;
    let surroundings = Surroundings::new().await;
    surroundings.subscribe(&[
        subscription("good", &good.url("/")),
        subscription("shaky", &shaky.url("/")),
        subscription("gone", &gone.url("/")),
    ]);
    let service = surroundings.start().await;
    publish_traced(&surroundings, &event("evt-1")).await;
    surroundings.results.wait_for_outcome(Outcome::Delivered, 2, GENEROUS).await;
    surroundings.results.wait_for_outcome(Outcome::Rejected, 1, GENEROUS).await;
    surroundings.publish_raw(BasicProperties::default(), b"no event").await;
    surroundings.publish(&DocumentEvent { organization: "globex".parse().unwrap(), ..event("evt-2") }).await;
    surroundings.results.wait_for_outcome(Outcome::Unsubscribed, 1, GENEROUS).await;

    let scraped = eventually("all of it in the metrics", || async {
        let scraped = Scraped::open(service.admin).await;
        let done = scraped.value("docrelay_messages_in_hand", &[("source", "due")]) == Some(0.0)
            && scraped.value("docrelay_messages_in_hand", &[("source", "events")]) == Some(0.0)
            && scraped.value("docrelay_dead_letters_total", &[("reason", "undecodable")]) == Some(1.0);
        done.then_some(scraped)
    })
    .await;
    assert_eq!(scraped.content_type, "application/openmetrics-text; version=1.0.0; charset=utf-8");
    for (name, labels, expected) in COUNTED {
        assert_eq!(scraped.value(name, labels), Some(*expected), "{name} {labels:?}");
    }
    // A result each, one more for the attempt that failed, and the subscription that was disabled.
    assert_eq!(scraped.value("docrelay_results_total", &[]), Some(6.0));
    let exemplars: Vec<_> = scraped.samples.iter().filter_map(|sample| sample.exemplar.as_ref()).collect();
    assert!(!exemplars.is_empty() && exemplars.iter().all(|it| it["trace_id"] == TRACE), "{exemplars:?}");
    assert!(scraped.value("process_resident_memory_bytes", &[]).unwrap() > 1e6);
    assert!(scraped.value("process_start_time_seconds", &[]).unwrap() > 1.7e9);
    assert!(scraped.value("docrelay_tokio_tasks", &[]).unwrap() > 3.0);
    assert!(scraped.value("process_cpu_seconds_total", &[]).unwrap() > 0.0);
    // The connections to the broker at least, and fewer than there may be.
    let (open, most) =
        (scraped.value("process_open_fds", &[]).unwrap(), scraped.value("process_max_fds", &[]).unwrap());
    assert!(open > 5.0 && open < most, "{open} of {most}");
    assert_eq!(scraped.all("docrelay_store_up").count(), 0, "there is none");

    let plain = Scraped::plain(service.admin).await;
    assert_eq!(plain.content_type, "text/plain; version=0.0.4; charset=utf-8");
    assert_eq!(plain.types["docrelay_events_total"], "counter");
    assert_eq!(plain.value("docrelay_events_total", &[("source", "due")]), Some(1.0));
    surroundings.end_with_dead(service, &[(&good, 1), (&shaky, 2), (&gone, 1)], 1).await;
}

#[tokio::test]
async fn queues_are_counted_while_the_broker_says_so() {
    let silent = Receiver::scripted(|_| Reply::status(500)).await;
    let surroundings = Surroundings::with(&[("BROKER__DELAY_UNIT", "1s"), ("DELIVERY__BACKOFF", "2m")]).await;
    surroundings.subscribe(&[subscription("erp", &silent.url("/"))]);
    let service = surroundings.start().await;
    surroundings.publish_raw(BasicProperties::default(), b"no event").await;
    surroundings.publish(&event("evt-1")).await;
    let scraped = eventually("the depth of a delay queue", || async {
        let scraped = Scraped::open(service.admin).await;
        (scraped.value("docrelay_queue_messages", &[("queue", "delay_64s")]) == Some(1.0)).then_some(scraped)
    })
    .await;
    assert_eq!(scraped.value("docrelay_queue_messages", &[("queue", "dead")]), Some(1.0));
    assert_eq!(scraped.value("docrelay_queue_messages", &[("queue", "events")]), Some(0.0));
    assert_eq!(scraped.labels("docrelay_queue_messages", "queue").len(), 13);
    assert_eq!(scraped.all("docrelay_oldest_delivery_seconds").count(), 0, "nothing had the time to come back");
    assert!(service.stop().await.finished);
}

#[tokio::test]
async fn organizations_beyond_the_number_share_one_name() {
    let receiver = Receiver::ok().await;
    let surroundings = Surroundings::with(&[("METRICS__ORGANIZATIONS", "3")]).await;
    let organization = |number: usize| format!("org-{number}");
    let subscriptions: Vec<_> = (0..8)
        .map(|n| with(subscription(&format!("s-{n}"), &receiver.url("/")), json!({"organization": organization(n)})))
        .collect();
    surroundings.subscribe(&subscriptions);
    let service = surroundings.start().await;
    for number in 0..8 {
        let organization = organization(number).parse().unwrap();
        surroundings.publish(&DocumentEvent { organization, ..event(&format!("evt-{number}")) }).await;
        surroundings.results.wait_for(number + 1, GENEROUS).await;
    }
    let scraped = Scraped::plain(service.admin).await;
    let names: Vec<_> = scraped.labels("docrelay_deliveries_total", "organization").into_iter().collect();
    assert_eq!(names, ["org-0", "org-1", "org-2", "other"]);
    let others = [("outcome", "delivered"), ("organization", "other")];
    assert_eq!(scraped.value("docrelay_deliveries_total", &others), Some(5.0));
    // Nothing that there may be any number of is a label.
    for id in ["evt-", "doc-1", "s-0"] {
        assert!(!scraped.text.contains(id), "{id} in {}", scraped.text);
    }
    surroundings.end(service, &[(&receiver, 8)]).await;
}

#[tokio::test]
async fn a_target_that_is_down_is_named_by_its_host_until_it_has_been_up_for_long() {
    let receiver = Receiver::ok().await;
    let url = receiver.url("/secret-path?token=secret");
    drop(receiver);
    let place = url.split("/secret").next().unwrap().to_owned();
    let surroundings = Surroundings::with(&[("DELIVERY__MAX_ATTEMPTS", "5")]).await;
    surroundings.subscribe(&[subscription("erp", &url)]);
    let service = surroundings.start().await;
    surroundings.publish(&event("evt-1")).await;
    surroundings.results.wait_for_outcome(Outcome::Exhausted, 1, GENEROUS).await;
    let scraped = Scraped::open(service.admin).await;
    let labels = [("organization", "acme"), ("target", place.as_str())];
    assert_eq!(scraped.value("docrelay_target_up", &labels), Some(0.0), "{}", scraped.text);
    assert_eq!(scraped.value("docrelay_lanes", &[("health", "down")]), Some(1.0));
    let refused = [("error", "connect"), ("target_kind", "http"), ("organization", "acme")];
    assert_eq!(scraped.value("docrelay_attempts_total", &refused), Some(5.0));
    assert!(!scraped.text.contains("secret"));
    assert!(service.stop().await.finished);
}

#[tokio::test]
async fn the_oldest_is_unknown_at_first_and_known_once_all_that_waits_came_back() {
    let failing = Receiver::scripted(|_| Reply::status(500)).await;
    // The longest delay queue is half a second.
    let surroundings = Surroundings::with(&[
        ("BROKER__DELAY_UNIT", "1ms"),
        ("DELIVERY__BACKOFF", "400ms"),
        ("DELIVERY__MAX_ATTEMPTS", "9"),
    ])
    .await;
    surroundings.subscribe(&[subscription("erp", &failing.url("/"))]);
    let service = surroundings.start().await;
    let oldest = || async {
        let scraped = Scraped::plain(service.admin).await;
        scraped.value("docrelay_oldest_delivery_seconds", &[])
    };
    let first = eventually("an oldest age", oldest).await;
    assert!(first <= 0.0, "nothing came back: {first}");
    surroundings.publish(&event("evt-1")).await;
    eventually("an event of two seconds", || async { oldest().await.filter(|age| *age > 2.0) }).await;
    assert!(service.stop().await.finished);
}
