//! The book of all metrics: each is entered once, with its name, its labels and its meaning, and docs/metrics.md is held
//! against it.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        MetricType, TypedMetric, counter::Counter, exemplar::HistogramWithExemplars, family::Family, gauge::Gauge,
        histogram::Histogram, info::Info,
    },
    registry::{Metric, Registry, Unit},
};

use super::labels::{One, TraceLabel};

/// A metric, as people read of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name, as it is queried; of a histogram without `_bucket`, `_sum` and `_count`.
    pub name: String,
    /// `counter`, `gauge`, `histogram` or `info`.
    pub kind: &'static str,
    /// What it is measured in; empty for counts.
    pub unit: &'static str,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it means.
    pub meaning: &'static str,
}

/// The registry, and what stands in it.
#[derive(Debug, Default)]
pub(super) struct Book {
    pub(super) registry: Registry,
    pub(super) entries: Vec<Entry>,
}

/// A gauge that is absent while its value is not known.
pub(super) type Known = Family<[(&'static str, &'static str); 0], Gauge<f64, AtomicU64>>;

/// A histogram whose buckets lead to traces.
pub(super) type Traced = HistogramWithExemplars<TraceLabel>;

impl Book {
    /// Enters a metric; its name is without what its type and unit put behind it.
    pub(super) fn enter<M: Metric + TypedMetric + Clone>(
        &mut self,
        (name, unit, labels): (&'static str, Option<Unit>, &'static [&'static str]),
        meaning: &'static str,
        metric: M,
    ) -> M {
        let (kind, suffix) = match M::TYPE {
            MetricType::Counter => ("counter", "_total"),
            MetricType::Gauge => ("gauge", ""),
            MetricType::Histogram => ("histogram", ""),
            MetricType::Info => ("info", "_info"),
            MetricType::Unknown => ("unknown", ""),
        };
        let full = match &unit {
            Some(unit) => format!("{name}_{}{suffix}", unit.as_str()),
            None => format!("{name}{suffix}"),
        };
        self.entries.push(Entry { name: full, kind, unit: unit_of(unit.as_ref()), labels, meaning });
        // The library puts a full stop behind the meaning.
        match unit {
            Some(unit) => self.registry.register_with_unit(name, meaning, unit, metric.clone()),
            None => self.registry.register(name, meaning, metric.clone()),
        }
        metric
    }

    /// Enters what says something about the program itself.
    pub(super) fn enter_info<S>(
        &mut self,
        name: &'static str,
        labels: &'static [&'static str],
        meaning: &'static str,
        info: Info<S>,
    ) where
        Info<S>: Metric,
    {
        self.entries.push(Entry { name: format!("{name}_info"), kind: "info", unit: "", labels, meaning });
        self.registry.register(name, meaning, info);
    }

    pub(super) fn counter(&mut self, name: &'static str, meaning: &'static str) -> Counter {
        self.enter((name, None, &[]), meaning, Counter::default())
    }

    /// Counters for every value of one label, all there from the beginning: a first increment is seen as one.
    pub(super) fn counters<const N: usize>(
        &mut self,
        name: &'static str,
        label: &'static [&'static str; 1],
        meaning: &'static str,
        values: [&'static str; N],
    ) -> [Counter; N] {
        let family: Family<One, Counter> = self.enter((name, None, label), meaning, Family::default());
        let [label] = *label;
        values.map(|value| family.get_or_create_owned(&One(label, value)))
    }

    pub(super) fn gauges<const N: usize>(
        &mut self,
        name: &'static str,
        label: &'static [&'static str; 1],
        meaning: &'static str,
        values: [&'static str; N],
    ) -> [Gauge; N] {
        let family: Family<One, Gauge> = self.enter((name, None, label), meaning, Family::default());
        let [label] = *label;
        values.map(|value| family.get_or_create_owned(&One(label, value)))
    }

    pub(super) fn known(&mut self, name: &'static str, unit: Option<Unit>, meaning: &'static str) -> Known {
        self.enter((name, unit, &[]), meaning, Known::default())
    }

    pub(super) fn family<S>(
        &mut self,
        name: &'static str,
        labels: &'static [&'static str],
        meaning: &'static str,
    ) -> Family<S, Counter>
    where
        S: EncodeLabelSet + Clone + std::hash::Hash + Eq + std::fmt::Debug + Send + Sync + 'static,
    {
        self.enter((name, None, labels), meaning, Family::default())
    }

    pub(super) fn traced(&mut self, name: &'static str, meaning: &'static str, buckets: &[f64]) -> Traced {
        self.enter((name, Some(Unit::Seconds), &[]), meaning, Traced::new(buckets.iter().copied()))
    }

    pub(super) fn seconds(&mut self, name: &'static str, meaning: &'static str, buckets: &[f64]) -> Histogram {
        self.enter((name, Some(Unit::Seconds), &[]), meaning, Histogram::new(buckets.iter().copied()))
    }
}

/// Only those that are in use.
fn unit_of(unit: Option<&Unit>) -> &'static str {
    match unit {
        Some(Unit::Seconds) => "seconds",
        Some(Unit::Bytes) => "bytes",
        Some(_) | None => "",
    }
}

/// Makes a gauge known, or absent.
pub(super) fn set(gauge: &Known, value: Option<f64>) {
    match value {
        Some(value) => {
            gauge.get_or_create(&[]).set(value);
        }
        None => gauge.clear(),
    }
}
