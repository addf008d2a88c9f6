//! When what is to be parked leaves: at common moments, so that the broker writes and syncs once for many. Pure: time is
//! handed in.

use std::time::Duration;

use crate::policy::wait;

/// Where little is parked, the broker is free most of the time if it leaves this seldom. Late by so much is still little
/// beside the shortest wait.
const SELDOM: Duration = Duration::from_millis(100);

/// Where much is parked it leaves in so many smaller parts, and where very much is, each of them in so many again: a large one
/// holds up the events that come behind it.
const PARTS: u32 = 5;

/// So many messages in one part are little: in the last [`SELDOM`] or in this one, or in the same part of a shorter unit.
const LITTLE: u32 = 25;

/// So many in [`SELDOM`] are little in each of its parts.
const MUCH: u32 = LITTLE * PARTS;

/// And it is this part of the shortest wait, at most.
const PART_OF_UNIT: u32 = 10;

/// Says when each message leaves. One for each process.
#[derive(Debug)]
pub(super) struct Gathering {
    /// Everything leaves at whole multiples of this where little is parked.
    seldom: Duration,
    /// Which of these times it is,
    current: u128,
    /// how many messages came in it so far,
    came: u32,
    /// and how many in the one before.
    before: u32,
}

impl Gathering {
    /// For waits of at least one `unit`.
    pub(super) fn new(unit: Duration) -> Self {
        Self { seldom: SELDOM.min(unit / PART_OF_UNIT), current: 0, came: 0, before: 0 }
    }

    /// How long a message that comes at `now`, counted from a fixed moment, waits for others.
    pub(super) fn wait(&mut self, now: Duration) -> Duration {
        let current = now.as_nanos().checked_div(self.seldom.as_nanos()).unwrap_or_default();
        if current != self.current {
            self.before = if current == self.current + 1 { self.came } else { 0 };
            (self.current, self.came) = (current, 0);
        }
        self.came = self.came.saturating_add(1);
        let came = self.before.max(self.came);
        let parts = if came <= LITTLE {
            1
        } else if came <= MUCH {
            PARTS
        } else {
            PARTS * PARTS
        };
        wait::until_next(now, self.seldom / parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn gathering() -> Gathering {
        Gathering::new(Duration::from_secs(1))
    }

    #[test]
    fn little_leaves_every_100_ms() {
        let mut gathering = gathering();
        for at in [0, 30, 99, 100, 101, 599, 70_000] {
            assert_eq!(MS * at + gathering.wait(MS * at), MS * (at / 100 + 1) * 100, "came at {at} ms");
        }
    }

    #[test]
    fn much_leaves_every_20_ms_from_the_26th_on_and_in_the_100_ms_after_it() {
        let mut gathering = gathering();
        for nth in 1..=26 {
            assert_eq!(gathering.wait(MS * 210), MS * if nth <= 25 { 90 } else { 10 }, "the {nth}th");
        }
        assert_eq!(gathering.wait(MS * 305), MS * 15);
        assert_eq!(gathering.wait(MS * 399), MS);
        assert_eq!(gathering.wait(MS * 405), MS * 95);
    }

    #[test]
    fn very_much_leaves_every_4_ms_from_the_126th_on_and_in_the_100_ms_after_it() {
        let mut gathering = gathering();
        let waits: Vec<_> = (1..=126).map(|_| gathering.wait(MS * 201)).collect();
        assert_eq!((waits[124], waits[125]), (MS * 19, MS * 3));
        assert_eq!(gathering.wait(MS * 306), MS * 2);
        assert_eq!(gathering.wait(MS * 405), MS * 95);
    }

    #[test]
    fn much_that_came_longer_ago_does_not_count() {
        let mut gathering = gathering();
        for _ in 0..200 {
            gathering.wait(MS * 250);
        }
        assert_eq!(gathering.wait(MS * 405), MS * 95);
    }

    #[test]
    fn shorter_waits_gather_for_a_shorter_time() {
        assert_eq!(Gathering::new(MS * 100).wait(MS), MS * 9);
        assert_eq!(Gathering::new(Duration::ZERO).wait(MS), Duration::ZERO);
    }
}
