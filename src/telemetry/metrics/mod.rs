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
        deliveries.begin(&organizations.other());
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::{AmqpTarget, Answer, FailureKind, HttpTarget, Subscription, Target, TargetUrl, TraceContext};

    const TIMEOUT: Duration = Duration::from_secs(15);

    fn subscription(organization: &str, target: Target) -> Subscription {
        Subscription::shipped(organization.parse().unwrap(), target)
    }

    fn over_http(organization: &str) -> Subscription {
        let url = TargetUrl::parse("https://erp.example/").unwrap();
        subscription(organization, Target::Http(HttpTarget::post(url, TIMEOUT)))
    }

    fn at_an_exchange(organization: &str) -> Subscription {
        let (exchange, routing_key) = ("erp".parse().unwrap(), "documents".parse().unwrap());
        subscription(organization, Target::Amqp(AmqpTarget { exchange, routing_key, timeout: TIMEOUT }))
    }

    /// How many series with such labels stand at 0, and how many do not.
    fn series(metrics: &Metrics, metric: &str, labels: &[&str]) -> (usize, usize) {
        let text = metrics.write(Format::Plain, &Readings::default()).unwrap();
        let begin = format!("{metric}{{");
        let lines = text.lines().filter(|line| line.starts_with(&begin));
        let (at_zero, others): (Vec<_>, Vec<_>) =
            lines.filter(|line| labels.iter().all(|it| line.contains(it))).partition(|line| line.ends_with(" 0"));
        (at_zero.len(), others.len())
    }

    #[test]
    fn what_may_become_of_deliveries_is_0_before_it_does() {
        const ENDED: &str = "docrelay_deliveries_total";
        const ATTEMPTS: &str = "docrelay_attempts_total";
        let metrics = Metrics::new(1);
        let organization = |name: &str| format!("organization=\"{name}\"");
        let (acme, other) = (organization("acme"), organization("other"));
        assert_eq!((series(&metrics, ENDED, &[&other]), series(&metrics, ATTEMPTS, &[&other])), ((6, 0), (13, 0)));
        assert_eq!((series(&metrics, ENDED, &[&acme]), series(&metrics, ATTEMPTS, &[&acme])), ((0, 0), (0, 0)));

        let made = |subscription: &Subscription, answer: &Answer| {
            metrics.attempt_made(subscription, answer, Duration::ZERO, &TraceContext::default());
        };
        let failed = |kind| Answer::None { kind, text: String::new() };
        made(&over_http("acme"), &failed(FailureKind::Timeout));
        assert_eq!((series(&metrics, ENDED, &[&acme]), series(&metrics, ATTEMPTS, &[&acme])), ((6, 0), (12, 1)));

        // The first attempt at an exchange brings what may become of others; of those that are one too many as well.
        made(&at_an_exchange("acme"), &Answer::Taken);
        made(&at_an_exchange("globex"), &failed(FailureKind::Unroutable));
        for labels in [[acme.as_str(), "target_kind=\"amqp\""], [other.as_str(), "target_kind=\"amqp\""]] {
            assert_eq!(series(&metrics, ATTEMPTS, &labels), (6, 1), "{labels:?}");
        }
        assert_eq!(series(&metrics, ATTEMPTS, &["globex"]), (0, 0));
    }
}
