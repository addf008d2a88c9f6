//! From arrivals to latencies: from the moment an event was due to the first byte of its request.

use std::{collections::HashSet, time::Duration};

use serde::Serialize;
use tokio::time::Instant;

use crate::{schedule::Plan, targets::Arrival};

/// How latencies are distributed. Milliseconds.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Latencies {
    /// How many there are.
    pub count: usize,
    /// Half are below.
    pub p50_ms: f64,
    /// Nine of ten are below.
    pub p90_ms: f64,
    /// All but one of a hundred are below.
    pub p99_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

impl Latencies {
    fn of(mut latencies: Vec<Duration>) -> Self {
        latencies.sort_unstable();
        let at = |share| quantile(&latencies, share).unwrap_or_default().as_secs_f64() * 1000.0;
        Self { count: latencies.len(), p50_ms: at(0.5), p90_ms: at(0.9), p99_ms: at(0.99), max_ms: at(1.0) }
    }
}

/// The latencies of the targets that are looked at.
#[derive(Debug, Clone, Serialize)]
pub struct Served {
    /// All of them.
    #[serde(flatten)]
    pub all: Latencies,
    /// Events that never came. They count with the time until nobody waited for them any more.
    pub missing: usize,
    /// Requests that came again.
    pub repeated: usize,
    /// The same in slices of five seconds, by when the event was due.
    pub slices: Vec<Latencies>,
}

/// How long a slice is.
const SLICE: Duration = Duration::from_secs(5);

/// What became of the events for the targets that are `wanted`, when nobody waited any more at `end`.
#[must_use]
pub fn served(
    plan: &Plan,
    began: Instant,
    arrivals: &[Arrival],
    end: Instant,
    wanted: impl Fn(usize) -> bool,
) -> Served {
    let turns = plan.turns();
    let mut first: Vec<Option<Instant>> = vec![None; turns.len()];
    let mut repeated = 0;
    for arrival in arrivals.iter().filter(|arrival| wanted(arrival.target)) {
        match first.get_mut(arrival.event) {
            Some(at @ None) => *at = Some(arrival.at),
            Some(Some(_)) | None => repeated += 1,
        }
    }
    let (mut all, mut slices, mut missing) = (Vec::new(), Vec::<Vec<Duration>>::new(), 0);
    for (event, came) in first.iter().enumerate() {
        if !turns.get(event).is_some_and(|target| wanted(*target)) {
            continue;
        }
        missing += usize::from(came.is_none());
        let due = plan.due(event);
        let latency = came.unwrap_or(end).saturating_duration_since(began + due);
        let slice = usize::try_from(due.as_secs() / SLICE.as_secs()).unwrap_or_default();
        slices.resize_with(slices.len().max(slice + 1), Vec::new);
        slices.get_mut(slice).into_iter().for_each(|slice| slice.push(latency));
        all.push(latency);
    }
    let slices = slices.into_iter().map(Latencies::of).collect();
    Served { all: Latencies::of(all), missing, repeated, slices }
}

/// How many different events came to the targets that are `wanted`.
#[must_use]
pub fn different(arrivals: &[Arrival], wanted: impl Fn(usize) -> bool) -> usize {
    arrivals.iter().filter(|arrival| wanted(arrival.target)).map(|arrival| arrival.event).collect::<HashSet<_>>().len()
}

/// The nearest rank.
#[must_use]
pub fn quantile(sorted: &[Duration], share: f64) -> Option<Duration> {
    #[expect(clippy::cast_precision_loss, reason = "at most millions")]
    let rank = (share * sorted.len() as f64).ceil();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within the slice")]
    let rank = rank as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_count_from_when_an_event_was_due_and_what_is_missing_counts_until_the_end() {
        let plan = Plan { run: "r".to_owned(), rate: 1.0, length: Duration::from_secs(10), targets: vec![0, 1] };
        let (turns, began) = (plan.turns(), Instant::now());
        let mut arrivals: Vec<Arrival> = (0..10)
            .map(|event| Arrival {
                target: turns[event],
                event,
                at: began + plan.due(event) + Duration::from_millis(3),
            })
            .collect();
        let lost = arrivals.iter().position(|arrival| arrival.target == 0).expect("one of them");
        let lost = arrivals.remove(lost);
        arrivals.push(arrivals[8]);
        let end = began + Duration::from_secs(20);
        let zero = served(&plan, began, &arrivals, end, |target| target == 0);
        let one = served(&plan, began, &arrivals, end, |target| target == 1);
        assert_eq!((zero.all.count, zero.missing, one.all.count, one.missing), (5, 1, 5, 0));
        assert_eq!(zero.repeated + one.repeated, 1);
        assert!((one.all.max_ms - 3.0).abs() < 0.01 && (zero.all.p50_ms - 3.0).abs() < 0.01, "{zero:?} {one:?}");
        let waited = (20.0 - plan.due(lost.event).as_secs_f64()) * 1000.0;
        assert!((zero.all.max_ms - waited).abs() < 0.01, "{zero:?}");
        assert_eq!(zero.slices.iter().map(|slice| slice.count).sum::<usize>(), 5);
        assert_eq!(different(&arrivals, |_| true), 9);
    }
}
