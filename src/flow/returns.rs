//! How old the oldest event is among those that came back from a delay queue lately: whether docrelay keeps up, and since
//! when not.
//!
//! What waits comes back after each hop, and no hop is longer than the longest delay queue. So whoever has watched for that
//! long, and a little longer, has seen everything that waits, and whoever has not knows nothing yet: it may have come back
//! just before.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    domain::{Timestamp, now},
    policy::wait::Tier,
};

/// What is remembered is forgotten in so many steps.
const SLOTS: u32 = 12;

/// The longest hop takes so many of them. The rest is for what has been in `docrelay.due` for a moment.
const LONGEST_HOP: u32 = 10;

/// What came back lately.
#[derive(Debug)]
pub(super) struct Returns {
    began: Instant,
    watch: Mutex<Watch>,
}

impl Returns {
    /// Nothing came back yet, from delay queues of this unit.
    pub(super) fn new(unit: Duration) -> Self {
        let longest = Tier::all().next_back().map_or(unit, |tier| tier.length(unit));
        Self { began: Instant::now(), watch: Mutex::new(Watch::new(longest / LONGEST_HOP)) }
    }

    /// Whether messages come in.
    pub(super) fn consuming(&self, consuming: bool) {
        self.lock().consuming(self.began.elapsed(), consuming);
    }

    /// An event came back that was first seen then.
    pub(super) fn came_back(&self, first_seen: Timestamp) {
        self.lock().came_back(self.began.elapsed(), first_seen);
    }

    /// The age of the oldest; zero when nothing came back; `None` while that says nothing.
    pub(super) fn oldest(&self) -> Option<Duration> {
        self.lock().oldest(self.began.elapsed(), now())
    }

    fn lock(&self) -> MutexGuard<'_, Watch> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The same without a clock.
#[derive(Debug)]
struct Watch {
    /// How long a slot is.
    slot: Duration,
    /// Since when messages come in, but for moments.
    since: Option<Duration>,
    /// Since when they do not.
    lost_at: Option<Duration>,
    /// The first sight of the oldest event in each slot, by its number, the newest slot last.
    slots: VecDeque<(u128, Timestamp)>,
}

impl Watch {
    fn new(slot: Duration) -> Self {
        Self {
            slot: slot.max(Duration::from_nanos(1)),
            since: None,
            lost_at: Some(Duration::ZERO),
            slots: VecDeque::new(),
        }
    }

    fn consuming(&mut self, now: Duration, consuming: bool) {
        match (consuming, self.lost_at) {
            (true, Some(lost_at)) => {
                // What fell due in a short loss comes right after it.
                let is_short = now.saturating_sub(lost_at) < self.slot * (SLOTS - LONGEST_HOP);
                self.since = self.since.filter(|_| is_short).or(Some(now));
                self.lost_at = None;
            }
            (false, None) => self.lost_at = Some(now),
            (true, None) | (false, Some(_)) => {}
        }
    }

    fn came_back(&mut self, now: Duration, first_seen: Timestamp) {
        let number = self.number(now);
        match self.slots.back_mut() {
            Some((last, oldest)) if *last == number => *oldest = first_seen.min(*oldest),
            _ => {
                self.forget(number);
                self.slots.push_back((number, first_seen));
            }
        }
    }

    fn oldest(&mut self, now: Duration, wall: Timestamp) -> Option<Duration> {
        let since = self.since.filter(|_| self.lost_at.is_none())?;
        if now.saturating_sub(since) < self.slot * SLOTS {
            return None;
        }
        self.forget(self.number(now));
        let first_seen = self.slots.iter().map(|(_, at)| *at).min();
        Some(first_seen.map_or(Duration::ZERO, |at| at.age_at(wall)))
    }

    fn number(&self, now: Duration) -> u128 {
        now.as_nanos() / self.slot.as_nanos()
    }

    fn forget(&mut self, now: u128) {
        while self.slots.front().is_some_and(|(number, _)| number + u128::from(SLOTS) < now) {
            self.slots.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix(seconds, 0).unwrap()
    }

    /// In seconds, a hundred seconds after 1970.
    fn oldest(watch: &mut Watch, now: u32) -> Option<u64> {
        watch.oldest(now * SECOND, at(100)).map(|age| age.as_secs())
    }

    #[test]
    fn nothing_is_known_until_all_that_waits_has_had_the_time_to_come_back() {
        let mut watch = Watch::new(SECOND);
        assert_eq!(oldest(&mut watch, 99), None, "nothing comes in");
        watch.consuming(100 * SECOND, true);
        watch.came_back(101 * SECOND, at(7));
        assert_eq!(oldest(&mut watch, 111), None);
        assert_eq!(oldest(&mut watch, 112), Some(93));
    }

    #[test]
    fn the_oldest_counts_until_it_would_have_come_back_again() {
        let mut watch = Watch::new(SECOND);
        watch.consuming(Duration::ZERO, true);
        watch.came_back(20 * SECOND, at(5));
        watch.came_back(20 * SECOND, at(9));
        watch.came_back(25 * SECOND, at(8));
        assert_eq!(oldest(&mut watch, 30), Some(95));
        assert_eq!(oldest(&mut watch, 33), Some(92));
        assert_eq!(oldest(&mut watch, 38), Some(0), "nothing waits");
        assert!(watch.slots.is_empty());
    }

    #[test]
    fn a_long_loss_begins_anew_and_a_short_one_does_not() {
        let mut watch = Watch::new(SECOND);
        watch.consuming(Duration::ZERO, true);
        watch.consuming(20 * SECOND, false);
        assert_eq!(oldest(&mut watch, 20), None, "what is lost brings nothing");
        watch.consuming(21 * SECOND, true);
        assert_eq!(oldest(&mut watch, 21), Some(0));
        watch.consuming(30 * SECOND, false);
        watch.consuming(32 * SECOND, true);
        assert_eq!(oldest(&mut watch, 43), None);
        assert_eq!(oldest(&mut watch, 44), Some(0));
    }
}
