//! Slots: whoever finds a lane at its limit is given a turn of its own, so that a backlog is parked about once per delivery
//! instead of again and again.

use std::time::Duration;

use super::moment::Moment;

/// Slots lie a little wider apart than the lane allows, so that what comes up late does not push everyone behind it.
const SLACK: f64 = 1.01;

/// How many turns of a lane are promised. Turns pass with time, whoever comes for them.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Bookings {
    ahead: f64,
    /// When `ahead` was right.
    at: Moment,
}

impl Bookings {
    /// How many promised turns are still to come, when turns are so far apart.
    pub(super) fn ahead(&self, now: Duration, spacing: Duration) -> f64 {
        let passed =
            now.saturating_sub(self.at.time()).as_secs_f64() / (spacing.as_secs_f64() * SLACK).max(f64::MIN_POSITIVE);
        (self.ahead - passed).max(0.0)
    }

    /// How long it is until the next turn after `before` others and all promised ones, from the moment `from` on (never
    /// before `now`).
    pub(super) fn next(&self, now: Duration, from: Duration, before: u32, spacing: Duration) -> Duration {
        let from = from.max(now);
        let turns = (f64::from(before) + self.ahead(from, spacing)) * spacing.as_secs_f64() * SLACK;
        let wait = Duration::try_from_secs_f64(turns).unwrap_or(Duration::MAX);
        from.saturating_sub(now).saturating_add(wait)
    }

    /// Promises that turn.
    pub(super) fn promise(&mut self, now: Duration, from: Duration, spacing: Duration) {
        let from = from.max(now);
        *self = Self { ahead: self.ahead(from, spacing) + 1.0, at: from.into() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn book(bookings: &mut Bookings, now: Duration, from: Duration, before: u32, spacing: Duration) -> Duration {
        let wait = bookings.next(now, from, before, spacing);
        bookings.promise(now, from, spacing);
        wait
    }

    #[test]
    fn turns_follow_each_other_and_pass() {
        let mut bookings = Bookings::default();
        let waits: Vec<_> =
            (0..4).map(|_| book(&mut bookings, SECOND, SECOND, 2, SECOND).as_secs_f64().round()).collect();
        assert_eq!(waits, [2.0, 3.0, 4.0, 5.0]);
        assert!(bookings.ahead(SECOND, SECOND) > 3.9);
        assert!(bookings.ahead(4 * SECOND, SECOND) < 1.1);
        assert!(bookings.ahead(60 * SECOND, SECOND) < f64::EPSILON);
    }

    #[test]
    fn a_faster_lane_brings_all_turns_forward() {
        let mut bookings = Bookings::default();
        (0..1000).for_each(|_| bookings.promise(Duration::ZERO, Duration::ZERO, SECOND));
        let wait = book(&mut bookings, Duration::ZERO, Duration::ZERO, 0, SECOND / 100);
        assert!(wait < 11 * SECOND, "{wait:?}");
    }

    #[test]
    fn turns_do_not_pass_while_the_lane_is_held() {
        let mut bookings = Bookings::default();
        let first = book(&mut bookings, Duration::ZERO, 60 * SECOND, 0, SECOND);
        let second = book(&mut bookings, 30 * SECOND, 60 * SECOND, 0, SECOND);
        assert_eq!((first, second.as_secs()), (60 * SECOND, 31));
    }
}
