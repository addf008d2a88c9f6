//! What a run is made of: groups of targets, their traffic and troubles, and what happens to replicas.

use std::time::Duration;

use docrelay::{
    domain::{RetryOn, RetryPolicy, WhileDown},
    policy::lane::{Limits, Rate},
};

use super::target::Latency;

/// A whole run.
#[derive(Debug, Clone)]
pub(crate) struct Setting {
    /// The seed of all dice.
    pub(crate) seed: u64,
    /// How long events are published and everything is watched.
    pub(crate) length: Duration,
    /// Whether the run goes on behind `length` until nothing waits any more.
    pub(crate) drains: bool,
    /// Replicas at the start.
    pub(crate) replicas: usize,
    /// What happens to replicas, by number; a new number joins.
    pub(crate) changes: Vec<(Duration, usize, Change)>,
    /// The targets.
    pub(crate) groups: Vec<Group>,
    /// Limits of groups that change while it runs.
    pub(crate) raised: Vec<(Duration, usize, Limits)>,
}

/// What happens to a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Change {
    /// It starts.
    Joins,
    /// It is stopped: what is in flight finishes, what waits is parked.
    Leaves,
    /// It is killed: the broker gives what it held to others.
    Dies,
}

/// Targets that are alike.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    /// Its name in the table.
    pub(crate) name: &'static str,
    /// How many targets.
    pub(crate) targets: usize,
    /// Events a second, together, on average.
    pub(crate) per_second: f64,
    /// How unequal they are: 1 is all alike, 3 gives the busiest hundredth a fifth.
    pub(crate) skew: f64,
    /// Whether there is a day's curve in it.
    pub(crate) daily: bool,
    /// Times with so many times the traffic.
    pub(crate) storms: Vec<(Duration, Duration, f64)>,
    /// Events that come all at once: when, and how many.
    pub(crate) at_once: Vec<(Duration, usize)>,
    /// When its events begin and end.
    pub(crate) active: (Duration, Duration),
    /// The limits of each target's lane.
    pub(crate) limits: Limits,
    /// What failed attempts do.
    pub(crate) retry: RetryPolicy,
    /// How long answers take.
    pub(crate) latency: Latency,
    /// When what is wrong.
    pub(crate) troubles: Vec<Troubled>,
    /// A moment that matters: what came before it is watched until its last has ended.
    pub(crate) watched: Option<Duration>,
}

impl Group {
    /// Targets that answer at once and have no limits of their own.
    pub(crate) fn new(name: &'static str, targets: usize, per_second: f64) -> Self {
        let retry = RetryPolicy {
            on: RetryOn::AnyFailure,
            backoff: Duration::from_secs(2),
            max_attempts: 10,
            max_age: Duration::from_hours(24),
            while_down: WhileDown::Count,
        };
        Self {
            name,
            targets,
            per_second,
            skew: 1.0,
            daily: false,
            storms: Vec::new(),
            at_once: Vec::new(),
            active: (Duration::ZERO, Duration::MAX),
            limits: Limits { max_in_flight: 32, rate: None },
            retry,
            latency: Latency { median: Duration::from_millis(20), spread: 5.0 },
            troubles: Vec::new(),
            watched: None,
        }
    }

    /// The same, limited to so many a second.
    pub(crate) fn limited(mut self, per_second: f64, burst: u32) -> Self {
        let burst = std::num::NonZeroU32::new(burst).unwrap_or(std::num::NonZeroU32::MIN);
        let rate = Rate { interval: Duration::from_secs_f64(1.0 / per_second), burst };
        self.limits.rate = Some(rate);
        self
    }

    /// The same, holding what waits for a target that is down.
    pub(crate) fn holding(mut self) -> Self {
        self.retry.while_down = WhileDown::Hold;
        self
    }

    /// The same in trouble, from one moment to another.
    pub(crate) fn troubled(mut self, trouble: Trouble, from: Duration, to: Duration) -> Self {
        self.troubles.push(Troubled { trouble, from, to, part: 1.0, every: None });
        self
    }

    /// How many times the average traffic there is now.
    pub(super) fn busyness(&self, now: Duration) -> f64 {
        if now < self.active.0 || now >= self.active.1 {
            return 0.0;
        }
        let daily = if self.daily {
            let hour = now.as_secs_f64() / 3600.0 % 24.0;
            // From a fifth at night to almost twice the average in the afternoon.
            1.0 - 0.8 * ((hour - 2.0) / 24.0 * std::f64::consts::TAU).cos()
        } else {
            1.0
        };
        let storm = self.storms.iter().find(|(from, to, _)| (*from..*to).contains(&now)).map_or(1.0, |storm| storm.2);
        daily * storm
    }
}

/// What can be wrong with a target.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Trouble {
    /// It takes connections and never answers.
    Hangs,
    /// It refuses connections.
    Refuses,
    /// It takes so long.
    Slow(Latency),
    /// It answers 429, and to come back after so long.
    Busy(Duration),
}

/// A trouble, and whom it befalls when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Troubled {
    pub(crate) trouble: Trouble,
    pub(crate) from: Duration,
    pub(crate) to: Duration,
    /// The part of the group's targets.
    pub(crate) part: f64,
    /// It comes again after so long, and finds others.
    pub(crate) every: Option<Duration>,
}

impl Troubled {
    /// Whether it befalls the target at this place between 0 and 1.
    pub(super) fn concerns(&self, phase: f64, now: Duration) -> bool {
        let Some(since) = now.checked_sub(self.from) else { return false };
        let (round, now) = match self.every {
            Some(every) => {
                let round = since.as_nanos() / every.as_nanos().max(1);
                (round as f64, now.saturating_sub(every * round as u32))
            }
            None => (0.0, now),
        };
        // Each round falls on others: by the golden ratio, which meets nobody twice soon.
        now < self.to && (phase + round * 0.618_034).fract() < self.part
    }
}
