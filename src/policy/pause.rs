//! How long a delivery waits whose lane was paused by hand. Pure.

use std::time::Duration;

use super::wait::LONGEST_LIMIT_HOP;

/// The wait of a delivery that finds its lane paused for so long: one hop, the longest that is not longer than the pause
/// has lasted. So whoever resumes a target waits for its deliveries no longer than the pause lasted, and never longer than
/// the longest hop, and what is paused for long is looked at rarely.
#[must_use]
pub fn wait(paused_for: Duration, unit: Duration) -> Duration {
    let units = paused_for.as_nanos() / unit.as_nanos().max(1);
    let longest = units.clamp(1, u128::from(LONGEST_LIMIT_HOP)).ilog2();
    unit.saturating_mul(1 << longest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        domain::Wait,
        policy::wait::{next_hop, units},
    };

    const UNIT: Duration = Duration::from_secs(1);

    #[test]
    fn a_pause_is_looked_at_ever_more_rarely_but_every_256_units() {
        let table = [(0, 1), (1, 1), (2, 2), (3, 2), (4, 4), (255, 128), (256, 256), (511, 256), (86_400, 256)];
        for (paused_for, expected) in table {
            assert_eq!(wait(UNIT * paused_for, UNIT), UNIT * expected, "{paused_for} s");
        }
        assert_eq!(wait(Duration::from_millis(999), UNIT), UNIT);
        assert_eq!(wait(Duration::MAX, UNIT), UNIT * 256);
        assert_eq!(wait(Duration::MAX, Duration::ZERO), Duration::ZERO, "a unit that cannot be");
    }

    proptest! {
        #[test]
        fn after_a_resume_a_delivery_waits_no_longer_than_the_pause_lasted_nor_than_256_units(
            unit in 1u64..5_000, arrival in 0u64..10_000_000, lasted in 0u64..10_000_000,
        ) {
            let [unit, mut at, lasted] = [unit, arrival, lasted].map(Duration::from_millis);
            // It comes up again and again, as the pause grows older.
            while at < lasted {
                let wait = wait(at, unit);
                prop_assert_eq!(next_hop(Wait::Limit, units(wait, unit)).unwrap().units_left, 0, "one hop");
                let up = at + wait;
                if up >= lasted {
                    prop_assert!(up.saturating_sub(lasted) <= lasted.max(unit).min(unit * 256));
                }
                at = up;
            }
        }
    }
}
