//! What is read when somebody asks: how things stand, and not what happened.

use std::{collections::BTreeMap, sync::atomic::Ordering, time::Duration};

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge, info::Info},
    registry::Unit,
};

use super::{
    Metrics,
    book::{Book, Known, set},
    broker::Link,
    labels::{One, TargetLabels},
    process::Process,
};
use crate::domain::OrganizationId;

/// How things stand.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Readings {
    /// How the service stands.
    pub service: Option<ServiceReadings>,
    /// How its lanes stand.
    pub lanes: Option<LaneReadings>,
    /// Spans that were not sent.
    pub spans_dropped: u64,
}

/// How a service stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ServiceReadings {
    /// Whether events flow.
    pub ready: bool,
    /// How publishing stands.
    pub publishing: Publishing,
    /// Whether messages can come in.
    pub consuming: bool,
    /// Whether the store answers; `None` without one.
    pub store: Option<bool>,
    /// How many subscriptions there are; `None` before the first complete load.
    pub subscriptions: Option<usize>,
    /// How many replicas there are; `None` before they were counted.
    pub replicas: Option<u32>,
}

/// How publishing stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Publishing {
    /// There is no connection.
    #[default]
    Away,
    /// The broker takes messages.
    Open,
    /// It takes none.
    Blocked,
}

/// How lanes stand.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LaneReadings {
    /// Requests under way.
    pub in_flight: u32,
    /// Deliveries in lines.
    pub in_line: u32,
    /// Lanes whose targets answer, are in doubt, and are down.
    pub by_health: [usize; 3],
    /// Lanes that somebody paused.
    pub paused: usize,
    /// Places taken in the quick window, and all there are.
    pub quick: (u32, u32),
    /// The same of the slow window.
    pub slow: (u32, u32),
    /// Targets that are down, or were lately.
    pub targets: Vec<TargetReading>,
    /// The oldest event that came back lately; `None` while that is not known.
    pub oldest: Option<Duration>,
}

/// A target that is down, or was lately.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetReading {
    /// Whose it is.
    pub organization: OrganizationId,
    /// Scheme, host and port, or the exchange. No path, no query.
    pub place: String,
    /// Whether it is up again.
    pub up: bool,
}

/// The gauges of this file.
#[derive(Debug)]
pub(super) struct Gauges {
    in_flight: Known,
    in_line: Known,
    lanes: Family<One, Gauge>,
    paused: Known,
    targets: Family<TargetLabels, Gauge>,
    places: Family<One, Gauge>,
    places_max: Family<One, Gauge>,
    oldest: Known,
    ready: Known,
    blocked: Known,
    store: Known,
    subscriptions: Known,
    replicas: Known,
    tasks: Known,
    spans_dropped: Counter,
    process: Process,
}

impl Gauges {
    pub(super) fn new(book: &mut Book) -> Self {
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        book.enter_info("docrelay_build", &["version"], "Which version this is", build);
        Self {
            in_flight: book.known("docrelay_in_flight", None, "Requests under way, over all lanes"),
            in_line: book.known("docrelay_in_line", None, "Deliveries that stand in line, over all lanes"),
            lanes: book.enter(
                ("docrelay_lanes", None, &["health"]),
                "Lanes that were used lately, by whether their target answers",
                Family::default(),
            ),
            paused: book.known("docrelay_lanes_paused", None, "Lanes that somebody paused"),
            targets: book.enter(
                ("docrelay_target_up", None, &["organization", "target"]),
                "Whether a target answers: only of those that are down or were within the last ten minutes, and of 100 at most",
                Family::default(),
            ),
            places: book.enter(
                ("docrelay_window_places", None, &["window"]),
                "Places taken in the windows that all lanes share",
                Family::default(),
            ),
            places_max: book.enter(
                ("docrelay_window_places_max", None, &["window"]),
                "Places in the windows that all lanes share",
                Family::default(),
            ),
            oldest: book.known(
                "docrelay_oldest_delivery",
                Some(Unit::Seconds),
                "Age of the oldest event among those that came back from a delay queue lately; absent until everything \
                 that waits has had the time to come back once",
            ),
            ready: book.known("docrelay_ready", None, "Whether events flow, as /readyz says"),
            blocked: book.known("docrelay_broker_blocked", None, "Whether the broker takes no messages (an alarm)"),
            store: book.known("docrelay_store_up", None, "Whether the store answers; absent without one"),
            subscriptions: book.known("docrelay_subscriptions", None, "Subscriptions in force"),
            replicas: book.known("docrelay_replicas", None, "Replicas, as counted by the broker; absent until they are"),
            spans_dropped: book.counter(
                "docrelay_trace_spans_dropped",
                "Spans that could not be sent, or found no room to wait in",
            ),
            tasks: book.known("docrelay_tokio_tasks", None, "Tasks that are alive"),
            process: Process::new(book),
        }
    }
}

impl Metrics {
    /// Shows how things stand. What is not known is absent.
    pub(super) fn show(&self, readings: &Readings) {
        self.show_service(readings.service);
        self.show_lanes(readings.lanes.as_ref());
        let gauges = self.gauges();
        let tasks = tokio::runtime::Handle::try_current().ok().map(|it| it.metrics().num_alive_tasks());
        set(&gauges.tasks, tasks.map(count));
        gauges.spans_dropped.inner().store(readings.spans_dropped, Ordering::Relaxed);
        gauges.process.show();
    }

    fn show_service(&self, service: Option<ServiceReadings>) {
        let gauges = self.gauges();
        let flag = |read: fn(&ServiceReadings) -> bool| service.as_ref().map(|it| f64::from(u8::from(read(it))));
        set(&gauges.ready, flag(|it| it.ready));
        set(&gauges.blocked, flag(|it| it.publishing == Publishing::Blocked));
        let Some(service) = service else { return };
        self.is_connected(Link::Publishing, Some(service.publishing != Publishing::Away));
        self.is_connected(Link::Consuming, Some(service.consuming));
        set(&gauges.store, service.store.map(|up| f64::from(u8::from(up))));
        set(&gauges.subscriptions, service.subscriptions.map(count));
        set(&gauges.replicas, service.replicas.map(f64::from));
    }

    fn show_lanes(&self, lanes: Option<&LaneReadings>) {
        let gauges = self.gauges();
        set(&gauges.in_flight, lanes.map(|it| it.in_flight.into()));
        set(&gauges.in_line, lanes.map(|it| it.in_line.into()));
        set(&gauges.paused, lanes.map(|it| count(it.paused)));
        set(&gauges.oldest, lanes.and_then(|it| it.oldest).map(|age| age.as_secs_f64()));
        let Some(lanes) = lanes else { return };
        for (health, number) in ["answering", "suspect", "down"].into_iter().zip(lanes.by_health) {
            gauges.lanes.get_or_create(&One("health", health)).set(i64::try_from(number).unwrap_or(i64::MAX));
        }
        for (window, (taken, all)) in [("quick", lanes.quick), ("slow", lanes.slow)] {
            gauges.places.get_or_create(&One("window", window)).set(taken.into());
            gauges.places_max.get_or_create(&One("window", window)).set(all.into());
        }
        // Several lanes may lead to one target, and several organizations be `other`: it is up when all of them say so.
        let mut up: BTreeMap<TargetLabels, bool> = BTreeMap::new();
        for target in &lanes.targets {
            let organization = self.organization(Some(&target.organization));
            let labels = TargetLabels { organization, target: target.place.clone() };
            *up.entry(labels).or_insert(true) &= target.up;
        }
        gauges.targets.clear();
        for (labels, up) in up {
            gauges.targets.get_or_create(&labels).set(up.into());
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of what fits into memory")]
fn count(number: usize) -> f64 {
    number as f64
}
