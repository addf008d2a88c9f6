//! The document names every metric there is, and no other.

use std::{collections::BTreeSet, time::Duration};

use docrelay::telemetry::metrics::{
    Entry, Format, LaneReadings, Link, Metrics, Readings, ServiceReadings, TargetReading,
};

use crate::support::scrape::{Sample, Scraped};

const DOCUMENT: &str = include_str!("../../../docs/metrics.md");

/// A metric as a row of the document's tables.
fn rows(metrics: &Metrics) -> Vec<String> {
    let row = |entry: &Entry| {
        let labels: Vec<_> = entry.labels.iter().map(|label| format!("`{label}`")).collect();
        let (name, kind, unit, meaning) = (&entry.name, entry.kind, entry.unit, entry.meaning);
        format!("| `{name}` | {kind} | {} | {unit} | {meaning} |", labels.join(", "))
    };
    metrics.catalogue().iter().map(row).collect()
}

#[test]
fn every_metric_stands_in_the_document_as_it_is_and_every_one_that_stands_there_exists() {
    let rows = rows(&Metrics::default());
    let written: Vec<_> =
        DOCUMENT.lines().filter(|line| line.starts_with("| `docrelay_") || line.starts_with("| `process_")).collect();
    let missing: Vec<_> = rows.iter().filter(|row| !written.contains(&row.as_str())).map(String::as_str).collect();
    assert!(missing.is_empty(), "docs/metrics.md lacks:\n{}", missing.join("\n"));
    let gone: Vec<_> = written.iter().filter(|line| !rows.iter().any(|row| row == *line)).collect();
    assert!(gone.is_empty(), "docs/metrics.md has what is not there: {gone:#?}");
}

/// Everything that can be known.
fn readings() -> Readings {
    let service =
        ServiceReadings { store: Some(true), subscriptions: Some(1), replicas: Some(1), ..ServiceReadings::default() };
    let target =
        TargetReading { organization: "acme".parse().unwrap(), place: "https://erp.example".to_owned(), up: false };
    let lanes = LaneReadings { targets: vec![target], oldest: Some(Duration::from_secs(1)), ..LaneReadings::default() };
    Readings { service: Some(service), lanes: Some(lanes), spans_dropped: 0 }
}

fn scraped(metrics: &Metrics, format: Format, readings: &Readings) -> Scraped {
    Scraped::read(format.content_type().to_owned(), &metrics.write(format, readings).unwrap())
}

/// The samples of a metric, as plain text names them.
fn samples<'a>(scraped: &'a Scraped, entry: &Entry) -> Vec<&'a Sample> {
    let suffixes: &[&str] = if entry.kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
    let names: Vec<_> = suffixes.iter().map(|suffix| format!("{}{suffix}", entry.name)).collect();
    scraped.samples.iter().filter(|sample| names.contains(&sample.name)).collect()
}

#[tokio::test]
async fn what_is_shown_has_the_names_types_and_labels_of_the_catalogue() {
    let metrics = Metrics::default();
    metrics.connected(Link::Publishing);
    metrics.queue_holds("events", Some(1));
    let plain = scraped(&metrics, Format::Plain, &readings());
    for (name, kind) in &plain.types {
        let entry = metrics.catalogue().iter().find(|entry| entry.name == *name);
        let entry = entry.unwrap_or_else(|| panic!("{name} is not in the catalogue"));
        assert_eq!(*kind, entry.kind.replace("info", "gauge"), "{name}");
    }
    for entry in metrics.catalogue() {
        let samples = samples(&plain, entry);
        assert!(!samples.is_empty(), "{} is not shown", entry.name);
        let expected: BTreeSet<_> = entry.labels.iter().copied().collect();
        for sample in samples {
            // The end of a bucket is the format's own.
            let labels: BTreeSet<_> = sample.labels.keys().map(String::as_str).filter(|label| *label != "le").collect();
            assert_eq!(labels, expected, "{sample:?}");
        }
    }
    let open = scraped(&metrics, Format::OpenMetrics, &readings());
    assert_eq!(open.types["docrelay_events"], "counter");
    assert_eq!(open.types["docrelay_build"], "info");
}

#[tokio::test]
async fn what_is_not_known_is_absent_and_what_only_did_not_happen_is_0() {
    let scraped = scraped(&Metrics::default(), Format::OpenMetrics, &Readings::default());
    let none = [("error", "none"), ("target_kind", "http"), ("organization", "other")];
    for (name, labels) in [
        ("docrelay_dead_letters_total", &[("reason", "bad_json")][..]),
        ("docrelay_deliveries_total", &[("outcome", "exhausted"), ("organization", "other")]),
        ("docrelay_attempts_total", &none),
    ] {
        assert_eq!(scraped.value(name, labels), Some(0.0), "{name}");
    }
    for name in ["docrelay_oldest_delivery_seconds", "docrelay_queue_messages", "docrelay_store_up"] {
        assert_eq!(scraped.all(name).count(), 0, "{name}");
    }
}
