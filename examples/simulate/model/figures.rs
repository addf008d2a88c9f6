//! What is counted while a world runs.

use std::{collections::BTreeMap, time::Duration};

use docrelay::policy::lane::Rate;

use super::histogram::Histogram;

/// Limited targets are watched from here on: replicas that start wait before they use limits, and limiters begin empty.
const WARM: Duration = Duration::from_secs(30);

/// What came of a run.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    pub(crate) groups: Vec<GroupFigures>,
    pub(crate) most_in_flight: u32,
    pub(crate) most_in_line: u32,
    pub(crate) longest_queue: usize,
    /// Hops through delay queues.
    pub(crate) hops: u64,
    pub(crate) most_hops_in_a_second: u64,
    pub(super) second: (u64, u64),
    /// Messages that replicas held when they were killed.
    pub(crate) given_again: u64,
    /// The most lanes that all replicas had together.
    pub(crate) most_lanes: usize,
    /// When nothing was left to happen.
    pub(crate) ended: Duration,
    pub(super) limited: BTreeMap<u32, Limited>,
}

/// What came of a group.
#[derive(Debug, Clone, Default)]
pub(crate) struct GroupFigures {
    pub(crate) name: &'static str,
    pub(crate) published: u64,
    pub(crate) delivered: u64,
    /// No attempt was left.
    pub(crate) exhausted: u64,
    /// Too old, or its turn would have come too late.
    pub(crate) too_old: u64,
    /// From the moment that an attempt is due to the moment that it begins.
    pub(crate) waits: Histogram,
    /// The same, of first attempts only.
    pub(crate) first_waits: Histogram,
    pub(crate) attempts: u64,
    pub(crate) most_attempts: u32,
    /// The fewest attempts of those that ended without success.
    pub(crate) fewest_of_exhausted: Option<u32>,
    /// Hops of waits for a turn, and how many there may be by the bits of the first wait that was given.
    pub(crate) turn_hops: u64,
    pub(crate) turn_hops_bound: u64,
    /// The most that any turn took above its bound.
    pub(crate) worst_over_bound: Option<i64>,
    /// How many turns took more.
    pub(crate) turns_over_bound: u64,
    /// When the last of those ended that came before the moment which is watched.
    pub(crate) last_watched: Duration,
    /// The worst count above `max(burst, N) + rate * window` at any limited target.
    pub(crate) worst_over_rate: Option<f64>,
    /// The part of the allowed rate that was used while there was a backlog; of all limited targets, and of the worst one.
    pub(crate) rate_used: Option<f64>,
}

impl Figures {
    /// A message goes through a delay queue.
    pub(super) fn hop(&mut self, now: Duration) {
        self.hops += 1;
        if self.second.0 != now.as_secs() {
            self.second = (now.as_secs(), 0);
        }
        self.second.1 += 1;
        self.most_hops_in_a_second = self.most_hops_in_a_second.max(self.second.1);
    }

    /// Sums up the limited targets: which group each is in, and the most replicas that there were.
    pub(super) fn sum_up(&mut self, group_of: impl Fn(u32) -> usize, replicas: u32) {
        let mut sums: BTreeMap<usize, (f64, f64)> = BTreeMap::new();
        for (target, limited) in &self.limited {
            let group = &mut self.groups[group_of(*target)];
            let over = limited.worst_over(replicas);
            group.worst_over_rate = Some(group.worst_over_rate.map_or(over, |worst| worst.max(over)));
            let sum = sums.entry(group_of(*target)).or_default();
            sum.0 += limited.used as f64;
            sum.1 += limited.backlogged.as_secs_f64() / limited.rate.interval.as_secs_f64();
        }
        for (group, (used, allowed)) in sums {
            self.groups[group].rate_used = (allowed >= 1.0).then_some(used / allowed);
        }
    }
}

/// A limited target under watch.
#[derive(Debug)]
pub(super) struct Limited {
    rate: Rate,
    permits: i128,
    /// The least of `permits before * interval - time`, and the most that a permit was above it, in nanoseconds.
    least: i128,
    worst: i128,
    /// Deliveries that are due and have not begun.
    waiting: u32,
    since: Duration,
    backlogged: Duration,
    used: u64,
}

impl Limited {
    pub(super) fn new(rate: Rate) -> Self {
        Self {
            rate,
            permits: 0,
            least: i128::MAX,
            worst: i128::MIN,
            waiting: 0,
            since: Duration::ZERO,
            backlogged: Duration::ZERO,
            used: 0,
        }
    }

    /// Another limit from now on: what was counted so far says nothing about it.
    pub(super) fn changes(&mut self, now: Duration, rate: Rate) {
        *self = Self { waiting: self.waiting, since: now, ..Self::new(rate) };
    }

    /// One more is due, or one fewer.
    pub(super) fn waits(&mut self, now: Duration, more: bool) {
        if self.is_backlogged() {
            self.backlogged += now.saturating_sub(self.since.max(WARM));
        }
        self.since = now;
        self.waiting = if more { self.waiting + 1 } else { self.waiting.saturating_sub(1) };
    }

    pub(super) fn permit(&mut self, now: Duration) {
        let interval = self.rate.interval.as_nanos() as i128;
        let time = now.as_nanos() as i128;
        self.least = self.least.min(self.permits * interval - time);
        self.permits += 1;
        self.worst = self.worst.max(self.permits * interval - time - self.least);
        self.used += u64::from(now >= WARM && self.is_backlogged());
    }

    /// More than three seconds' worth is due. With less, the whole seconds of the delay queues leave gaps.
    fn is_backlogged(&self) -> bool {
        self.rate.interval * self.waiting > Duration::from_secs(3) + self.rate.interval
    }

    fn worst_over(&self, replicas: u32) -> f64 {
        let allowed = i128::from(self.rate.burst.get().max(replicas));
        let interval = self.rate.interval.as_nanos() as i128;
        if self.permits == 0 { -(allowed as f64) } else { (self.worst - allowed * interval) as f64 / interval as f64 }
    }
}
