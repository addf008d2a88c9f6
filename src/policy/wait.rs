//! Splits a wait into hops through the delay queues. Pure.
//!
//! A wait is rounded up to whole units once and split into powers of two, the longest first. Each hop subtracts its
//! own units from what is left, so no clock is ever compared: clocks that differ or step cannot make a delivery early.

use std::time::Duration;

use crate::domain::Wait;

/// There is a delay queue for each 2^k units with k below this.
pub const TIERS: u32 = 10;

/// The longest hop of a wait for a limit, as a power of two: 256 units, so that a raised limit or a resumed target is
/// felt within five minutes.
const LONGEST_LIMIT_TIER: u32 = 8;

/// The same in units.
pub const LONGEST_LIMIT_HOP: u64 = 1 << LONGEST_LIMIT_TIER;

/// The longest wait that can be asked for, in units. Far above any `max_age`, far below overflow.
pub const MAX_UNITS: u64 = 1 << 40;

/// One stay in a delay queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hop {
    /// Which delay queue: it waits 2^tier units.
    pub tier: Tier,
    /// What remains to be waited after it.
    pub units_left: u64,
}

/// A delay queue: `Tier(k)` waits 2^k units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tier(u32);

impl Tier {
    /// All delay queues, the shortest first.
    pub fn all() -> impl DoubleEndedIterator<Item = Self> {
        (0..TIERS).map(Self)
    }

    /// How many units it waits.
    #[must_use]
    pub fn units(self) -> u64 {
        1 << self.0
    }

    /// Its part of a time that is divided evenly among all delay queues: none for the shortest, nearly all for the longest.
    #[must_use]
    pub fn part_of(self, time: Duration) -> Duration {
        time / TIERS * self.0
    }

    /// How long it waits.
    #[must_use]
    pub fn length(self, unit: Duration) -> Duration {
        unit.saturating_mul(1 << self.0)
    }
}

/// A wait in whole units, rounded up; at least one.
#[must_use]
pub fn units(wait: Duration, unit: Duration) -> u64 {
    let units = wait.as_nanos().div_ceil(unit.as_nanos().max(1));
    u64::try_from(units).unwrap_or(MAX_UNITS).clamp(1, MAX_UNITS)
}

/// How long so many units are.
#[must_use]
pub fn length(units: u64, unit: Duration) -> Duration {
    unit.saturating_mul(u32::try_from(units).unwrap_or(u32::MAX))
}

/// The next hop of a wait; `None` when nothing is left to be waited.
#[must_use]
pub fn next_hop(wait: Wait, units_left: u64) -> Option<Hop> {
    let longest = match wait {
        Wait::Retry => TIERS - 1,
        Wait::Limit => LONGEST_LIMIT_TIER,
    };
    let tier = Tier(units_left.checked_ilog2()?.min(longest));
    Some(Hop { tier, units_left: units_left - tier.units() })
}

/// How long until the next whole multiple of `every`: all that ask meanwhile end at one moment.
#[must_use]
pub fn until_next(elapsed: Duration, every: Duration) -> Duration {
    let since = elapsed.as_nanos().checked_rem(every.as_nanos()).unwrap_or_default();
    every.saturating_sub(Duration::from_nanos(u64::try_from(since).unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hops(wait: Wait, mut left: u64) -> Vec<u64> {
        let mut hops = Vec::new();
        while let Some(hop) = next_hop(wait, left) {
            hops.push(hop.tier.units());
            left = hop.units_left;
        }
        hops
    }

    #[test]
    fn every_wait_of_the_default_schedule_is_one_hop() {
        for n in 1..=9u32 {
            let wait = Duration::from_secs(1 << n);
            assert_eq!(hops(Wait::Retry, units(wait, Duration::from_secs(1))), [1 << n]);
        }
    }

    #[test]
    fn a_wait_for_a_limit_never_hops_longer_than_256_units() {
        assert_eq!(hops(Wait::Limit, 1000), [256, 256, 256, 128, 64, 32, 8]);
        assert_eq!(hops(Wait::Retry, 1000), [512, 256, 128, 64, 32, 8]);
    }

    #[test]
    fn part_of_a_unit_is_waited_as_a_whole_one() {
        assert_eq!(units(Duration::from_millis(1), Duration::from_secs(1)), 1);
        assert_eq!(units(Duration::from_millis(1001), Duration::from_secs(1)), 2);
        assert_eq!(units(Duration::ZERO, Duration::from_secs(1)), 1);
    }

    #[test]
    fn all_that_gather_leave_at_one_moment() {
        let (every, micro) = (Duration::from_millis(20), Duration::from_micros(1));
        for elapsed in [every * 7, every * 7 + micro, every * 7 + 19_999 * micro] {
            assert_eq!(elapsed + until_next(elapsed, every), every * 8);
        }
        assert_eq!(until_next(micro, Duration::ZERO), Duration::ZERO);
    }

    proptest! {
        #[test]
        fn the_hops_add_up_to_the_wait_exactly(left in 0u64..100_000, retry in any::<bool>()) {
            let wait = if retry { Wait::Retry } else { Wait::Limit };
            let hops = hops(wait, left);
            prop_assert_eq!(hops.iter().sum::<u64>(), left);
            let longest = if retry { 512 } else { 256 };
            let whole = left / longest;
            prop_assert!(hops.len() as u64 <= whole + u64::from((left % longest).count_ones()));
        }

        #[test]
        fn a_wait_is_never_shorter_than_asked_and_at_most_one_unit_longer(millis in 1u64..100_000_000, unit in 1u64..10_000) {
            let (wait, unit) = (Duration::from_millis(millis), Duration::from_millis(unit));
            let units = units(wait, unit);
            let waited = unit * u32::try_from(units).unwrap();
            prop_assert!(waited >= wait && waited < wait + unit);
        }
    }
}
