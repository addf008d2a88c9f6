//! Metrics: what happens is counted where it happens, by one call that writes its log line too; how things stand is read
//! when somebody asks. `prometheus_client` stops at this folder's edge.
//!
//! Reading order: `book` (how a metric is entered), `deliveries` and `broker` (what happens), `readings` (how things
//! stand), `labels` (why there are few series).
//!
//! Nothing here waits, and nothing on the way of an event takes memory: counters are found once, and those by
//! organization in a map that is only read.

mod book;
mod broker;
mod deliveries;
mod labels;
mod process;
mod readings;

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use prometheus_client::encoding::{prometheus_text, text};

use self::{book::Book, broker::Broker, deliveries::Deliveries, labels::Organizations, readings::Gauges};
pub use self::{
    book::Entry,
    broker::Link,
    deliveries::{InHand, Intake, ParkedFor},
    readings::{LaneReadings, Publishing, Readings, ServiceReadings, TargetReading},
};

/// How many organizations have series of their own unless the settings say otherwise.
const ORGANIZATIONS: usize = 100;

/// The metrics of a process. Cheap to clone; clones are the same metrics.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    book: Book,
    organizations: Organizations,
    deliveries: Deliveries,
    broker: Broker,
    gauges: Gauges,
    /// Held while gauges are set and written: two who ask at once see no halves.
    shown: Mutex<()>,
}

/// How metrics are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `OpenMetrics` 1.0, with exemplars.
    OpenMetrics,
    /// The text format of Prometheus, 0.0.4.
    Plain,
}

impl Format {
    /// The media type.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Plain => prometheus_text::CONTENT_TYPE,
        }
    }
}

impl Metrics {
    /// No happenings yet. Only the first so many organizations that are seen have series of their own; all others together
    /// are `other`.
    #[must_use]
    pub fn new(organizations: usize) -> Self {
        let mut book = Book::default();
        let (deliveries, broker) = (Deliveries::new(&mut book), Broker::new(&mut book));
        let gauges = Gauges::new(&mut book);
        let organizations = Organizations::new(organizations);
        Self(Arc::new(Inner { book, organizations, deliveries, broker, gauges, shown: Mutex::default() }))
    }

    /// Every metric there is.
    #[must_use]
    pub fn catalogue(&self) -> &[Entry] {
        &self.0.book.entries
    }

    /// All metrics as text, with these readings.
    ///
    /// # Errors
    /// Never, as long as the library writes into memory.
    pub fn write(&self, format: Format, readings: &Readings) -> Result<String, fmt::Error> {
        let _alone = self.0.shown.lock().unwrap_or_else(PoisonError::into_inner);
        self.show(readings);
        let mut text = String::new();
        match format {
            Format::OpenMetrics => text::encode(&mut text, &self.0.book.registry)?,
            Format::Plain => prometheus_text::encode(&mut text, &self.0.book.registry)?,
        }
        Ok(text)
    }

    fn organizations(&self) -> &Organizations {
        &self.0.organizations
    }

    fn deliveries(&self) -> &Deliveries {
        &self.0.deliveries
    }

    fn broker(&self) -> &Broker {
        &self.0.broker
    }

    fn gauges(&self) -> &Gauges {
        &self.0.gauges
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new(ORGANIZATIONS)
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}
