//! The document names every metric there is, and no other.

use docrelay::telemetry::metrics::{Format, Metrics, Readings};

use crate::support::scrape::Scraped;

const DOCUMENT: &str = include_str!("../../../docs/metrics.md");

/// A metric as a row of the document's tables.
fn rows(metrics: &Metrics) -> Vec<String> {
    let row = |entry: &docrelay::telemetry::metrics::Entry| {
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

#[tokio::test]
async fn what_is_shown_has_the_names_types_and_labels_of_the_catalogue() {
    let metrics = Metrics::default();
    let scraped = |format: Format| {
        let text = metrics.write(format, &Readings::default()).unwrap();
        Scraped::read(format.content_type().to_owned(), text)
    };
    for (name, kind) in &scraped(Format::Plain).types {
        let entry = metrics.catalogue().iter().find(|entry| entry.name == *name);
        let entry = entry.unwrap_or_else(|| panic!("{name} is not in the catalogue"));
        assert_eq!(*kind, entry.kind.replace("info", "gauge"), "{name}");
    }
    let open = scraped(Format::OpenMetrics);
    assert_eq!(open.types["docrelay_events"], "counter");
    assert_eq!(open.types["docrelay_build"], "info");
    assert_eq!(open.value("docrelay_dead_letters_total", &[("reason", "bad_json")]), Some(0.0), "there from the start");
    assert_eq!(open.all("docrelay_oldest_delivery_seconds").count(), 0, "absent, and not 0");
}
