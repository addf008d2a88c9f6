//! A collector that is not there: the service runs on, says so once, and says once when it is there again.

use std::{
    net::TcpListener,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use docrelay::domain::Outcome;
use tokio::time::Instant;

use super::traced;
use crate::support::{
    broker::eventually,
    collector::Collector,
    receiver::{Receiver, Reply},
    scrape::Scraped,
    service::{GENEROUS, Surroundings, event, subscription},
};

#[tokio::test]
async fn a_collector_that_comes_late_is_missed_once_and_found_once() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let receiver = Receiver::ok().await;
    let surroundings = Surroundings::with(&[("TRACING__ENDPOINT", &format!("http://{free}"))]).await;
    surroundings.subscribe(&[subscription("erp", &receiver.url("/"))]);
    let program = surroundings.run_with(&[("LOG__FORMAT", "json")]).await;
    let log = program.log().to_owned();
    let lines = |text: &str| std::fs::read_to_string(&log).unwrap().lines().filter(|line| line.contains(text)).count();
    for number in 0..3 {
        surroundings.publish(&event(&format!("evt-{number}"))).await;
        surroundings.results.wait_for(number + 1, GENEROUS).await;
        // Long enough for a try of its own.
        tokio::time::sleep(Duration::from_millis(1200)).await;
    }
    eventually("a line about the collector", || async { (lines("Spans cannot be exported") > 0).then_some(()) }).await;
    eventually("three spans of each event that are dropped", || async {
        let scraped = Scraped::plain(program.admin()).await;
        (scraped.value("docrelay_trace_spans_dropped_total", &[]) == Some(9.0)).then_some(())
    })
    .await;
    let collector = Collector::grpc_at(free).await;
    let number = AtomicU32::new(3);
    eventually("a line about its return", || async {
        let number = number.fetch_add(1, Ordering::Relaxed);
        surroundings.publish(&event(&format!("evt-{number}"))).await;
        (lines("Spans are exported again") > 0).then_some(())
    })
    .await;
    assert!(!collector.spans().is_empty());
    assert_eq!((lines("Spans cannot be exported"), lines("Spans are exported again")), (1, 1));
    program.stop().await;
}

#[tokio::test]
async fn a_collector_that_never_answers_holds_up_neither_deliveries_nor_the_stop_for_long() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let receiver = Receiver::ok().await;
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let surroundings = Surroundings::with(&[("TRACING__ENDPOINT", &endpoint)]).await;
    surroundings.subscribe(&[subscription("erp", &receiver.url("/"))]);
    let service = surroundings.start().await;
    surroundings.publish(&event("evt-1")).await;
    surroundings.results.wait_for_outcome(Outcome::Delivered, 1, GENEROUS).await;
    surroundings.nothing_is_left(0).await;
    let began = Instant::now();
    assert!(service.stop().await.finished);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_collector_whose_certificate_the_system_trusts_is_reached_over_tls() {
    for (protocol, path) in
        [("grpc", "/opentelemetry.proto.collector.trace.v1.TraceService/Export"), ("http", "/v1/traces")]
    {
        let collector = Receiver::tls(&["h2"], |_| Reply::ok()).await;
        let folder = tempfile::tempdir().unwrap();
        let trusted = folder.path().join("trusted.pem");
        let certificate = STANDARD.encode(collector.certificate());
        let pem = format!("-----BEGIN CERTIFICATE-----\n{certificate}\n-----END CERTIFICATE-----\n");
        std::fs::write(&trusted, pem).unwrap();
        let surroundings = Surroundings::with(&[("TRACING__PROTOCOL", protocol)]).await;
        let surroundings = surroundings.set("TRACING__ENDPOINT", &collector.url(""));
        let program = surroundings.run_with(&[("SSL_CERT_FILE", trusted.to_str().unwrap())]).await;
        surroundings.publish(&event("evt-1")).await;
        assert_eq!(collector.wait_for(1, GENEROUS).await[0].path, path);
        program.stop().await;
    }
}

#[tokio::test]
async fn what_was_told_last_is_still_sent_when_the_service_stops() {
    let collector = Collector::grpc().await;
    let receiver = Receiver::ok().await;
    let surroundings = traced(&collector).await;
    surroundings.subscribe(&[subscription("erp", &receiver.url("/"))]);
    let service = surroundings.start().await;
    let events: Vec<_> = (0..300).map(|number| event(&format!("evt-{number}"))).collect();
    surroundings.publish_all(&events).await;
    surroundings.results.wait_for(300, GENEROUS).await;
    surroundings.end(service, &[(&receiver, 300)]).await;
    let count = |name: &str| collector.spans().iter().filter(|span| span.name.starts_with(name)).count();
    assert_eq!((count("process"), count("POST"), count("publish")), (300, 300, 300));
}
