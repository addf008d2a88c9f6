//! The open loop: events are published when they are due, whatever became of those before.
//!
//! Event `n` of a run is due `n / rate` seconds after the first one, and its id holds `n`: that is how an event carries its
//! scheduled time. Targets take turns, in laps over all of them, each lap in an order of its own.

use std::{thread, time::Duration};

use anyhow::Result;
use lapin::{BasicProperties, Channel, options::BasicPublishOptions};
use tokio::{runtime::Handle, time::Instant};

use crate::{broker::EVENTS_EXCHANGE, events, latency::quantile};

/// A publisher that is later than this with one event of a hundred did not keep its schedule.
pub const MOST_LAG: Duration = Duration::from_millis(5);

/// What is to be published.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Names the run.
    pub run: String,
    /// Events per second.
    pub rate: f64,
    /// For how long.
    pub length: Duration,
    /// The targets that take turns.
    pub targets: Vec<usize>,
}

impl Plan {
    /// How many events there are.
    #[must_use]
    pub fn count(&self) -> usize {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most millions")]
        let count = (self.rate * self.length.as_secs_f64()) as usize;
        count
    }

    /// When an event is due, after the first one.
    #[must_use]
    pub fn due(&self, event: usize) -> Duration {
        #[expect(clippy::cast_precision_loss, reason = "at most millions")]
        let event = event as f64;
        Duration::from_secs_f64(event / self.rate)
    }

    /// Which target each event goes to.
    #[must_use]
    pub fn turns(&self) -> Vec<usize> {
        let mut random = Random(0x5eed);
        let mut turns = Vec::with_capacity(self.count() + self.targets.len());
        while turns.len() < self.count() && !self.targets.is_empty() {
            let mut lap = self.targets.clone();
            for place in (1..lap.len()).rev() {
                lap.swap(place, random.below(place + 1));
            }
            turns.extend(lap);
        }
        turns.truncate(self.count());
        turns
    }
}

/// What was published.
pub struct Published {
    /// When the first event was due.
    pub began: Instant,
    /// By how much the publisher was late with one event of a hundred.
    pub lag_p99: Duration,
}

/// Publishes everything, each when it is due. Blocks its thread: timers of threads are twenty times as fine as tokio's.
///
/// # Errors
/// When the connection is lost.
pub fn publish(handle: &Handle, channel: &Channel, plan: &Plan) -> Result<Published> {
    // A moment to get ready in.
    let began = Instant::now() + Duration::from_millis(50);
    let mut lags = Vec::with_capacity(plan.count());
    for (event, target) in plan.turns().into_iter().enumerate() {
        let due = began + plan.due(event);
        let (id, key, body) = events::event_for(&events::organization(target), &plan.run, event);
        thread::sleep(due.saturating_duration_since(Instant::now()));
        handle.block_on(channel.basic_publish(
            EVENTS_EXCHANGE.into(),
            key.into(),
            BasicPublishOptions::default(),
            &body,
            properties(id),
        ))?;
        lags.push(Instant::now().saturating_duration_since(due));
    }
    lags.sort_unstable();
    Ok(Published { began, lag_p99: quantile(&lags, 0.99).unwrap_or_default() })
}

/// What an event's message says of itself.
#[must_use]
pub fn properties(id: String) -> BasicProperties {
    BasicProperties::default()
        .with_content_type("application/protobuf".into())
        .with_type("docrelay.v1.DocumentEvent".into())
        .with_message_id(id.into())
        .with_delivery_mode(2)
}

/// `SplitMix64`: orders that look random, and are the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) >> 32).unwrap_or_default() % bound.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_lap_serves_every_target_once_and_in_another_order() {
        let plan =
            Plan { run: "r".to_owned(), rate: 100.0, length: Duration::from_secs(3), targets: (0..100).collect() };
        let turns = plan.turns();
        let laps: Vec<&[usize]> = turns.chunks(100).collect();
        for lap in &laps {
            let mut lap = lap.to_vec();
            lap.sort_unstable();
            assert_eq!(lap, plan.targets);
        }
        assert_eq!(laps.len(), 3);
        assert_ne!(laps[0], laps[1]);
    }

    #[test]
    fn the_last_event_is_due_just_before_the_end() {
        let plan = Plan { run: "r".to_owned(), rate: 250.0, length: Duration::from_secs(2), targets: vec![0] };
        assert_eq!(plan.count(), 500);
        assert_eq!(plan.due(499), Duration::from_millis(1996));
    }
}
