//! How fast a lane may send, as a subscription or the settings say it. Who may send when is the lane's rule, not this one's.

use std::{num::NonZeroU32, ops::RangeInclusive, time::Duration};

/// Requests a second that can be asked for: from one in a quarter of an hour to more than one process can send.
pub const PER_SECOND: RangeInclusive<f64> = 0.001..=100_000.0;

/// Requests at once that can be asked for: at most a second's worth of the fastest rate.
pub const BURST: RangeInclusive<u32> = 1..=100_000;

/// Why numbers are no limit.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum BadRateLimit {
    /// Too few requests a second, too many, or no number at all.
    #[error("per_second: expected a number from {} to {}, got {}", PER_SECOND.start(), PER_SECOND.end(), .0)]
    PerSecond(f64),
    /// Too few requests at once, or too many.
    #[error("burst: expected a whole number from {} to {}, got {}", BURST.start(), BURST.end(), .0)]
    Burst(u32),
}

/// How fast a lane may send: so many requests a second, and so many at once after a rest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RateLimit {
    per_second: f64,
    burst: NonZeroU32,
}

// The rate is never NaN.
impl Eq for RateLimit {}

impl RateLimit {
    /// A limit. Without a burst it is what the rate gives in a second, and one at least.
    ///
    /// # Errors
    /// A number is out of its range; NaN is out of every range.
    pub fn new(per_second: f64, burst: Option<u32>) -> Result<Self, BadRateLimit> {
        if !PER_SECOND.contains(&per_second) {
            return Err(BadRateLimit::PerSecond(per_second));
        }
        let burst = burst.unwrap_or_else(|| seconds_worth(per_second));
        let fitting = NonZeroU32::new(burst).filter(|_| BURST.contains(&burst));
        Ok(Self { per_second, burst: fitting.ok_or(BadRateLimit::Burst(burst))? })
    }

    /// Requests a second, as they were asked for.
    #[must_use]
    pub fn per_second(self) -> f64 {
        self.per_second
    }

    /// The same where it is a whole number.
    #[must_use]
    pub fn whole_per_second(self) -> Option<u32> {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole, and within PER_SECOND")]
        (self.per_second.fract() == 0.0).then_some(self.per_second as u32)
    }

    /// The time that each request takes, to the nanosecond, and rather longer than shorter: so the rate is never exceeded.
    #[must_use]
    pub fn interval(self) -> Duration {
        const NANOS: f64 = 1e9;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 1e4 to 1e12, by PER_SECOND")]
        Duration::from_nanos((NANOS / self.per_second).ceil() as u64)
    }

    /// Requests that may be sent at once after a rest.
    #[must_use]
    pub fn burst(self) -> NonZeroU32 {
        self.burst
    }
}

/// What a rate gives in a second, rounded up: one at least.
fn seconds_worth(per_second: f64) -> u32 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 1 to 100,000, by PER_SECOND")]
    let whole = per_second.ceil() as u32;
    whole
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn without_a_burst_it_is_a_seconds_worth_and_one_at_least() {
        for (per_second, burst) in [(0.001, 1), (0.5, 1), (1.0, 1), (1.5, 2), (10.0, 10), (99_999.5, 100_000)] {
            assert_eq!(RateLimit::new(per_second, None).unwrap().burst().get(), burst, "{per_second}");
        }
        assert_eq!(RateLimit::new(10.0, Some(1)).unwrap().burst().get(), 1);
        assert_eq!(RateLimit::new(0.5, Some(100_000)).unwrap().burst().get(), 100_000);
    }

    #[test]
    fn numbers_out_of_range_are_refused_by_name() {
        for (per_second, shown) in [
            (0.0, "0"),
            (-1.0, "-1"),
            (0.000_999, "0.000999"),
            (100_000.5, "100000.5"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "inf"),
        ] {
            let told = RateLimit::new(per_second, None).unwrap_err().to_string();
            assert_eq!(told, format!("per_second: expected a number from 0.001 to 100000, got {shown}"));
        }
        for burst in [0, 100_001, u32::MAX] {
            let told = RateLimit::new(1.0, Some(burst)).unwrap_err().to_string();
            assert_eq!(told, format!("burst: expected a whole number from 1 to 100000, got {burst}"));
        }
    }

    #[test]
    fn an_interval_is_the_time_of_one_request() {
        for (per_second, nanos) in [
            (0.001, 1_000_000_000_000),
            (0.1, 10_000_000_000),
            (1.0, 1_000_000_000),
            (3.0, 333_333_334),
            (200.0, 5_000_000),
            (100_000.0, 10_000),
        ] {
            let found = RateLimit::new(per_second, None).unwrap().interval();
            assert_eq!(found, Duration::from_nanos(nanos), "{per_second}");
        }
    }

    proptest! {
        #[test]
        fn a_rate_is_what_was_asked_for_and_its_interval_never_exceeds_it(per_second in PER_SECOND, whole in BURST) {
            let limit = RateLimit::new(per_second, None).unwrap();
            prop_assert_eq!(limit.per_second().to_bits(), per_second.to_bits());
            // A nanosecond of rounding is all that is lost; what a `f64` cannot tell is a billionth.
            let used = limit.interval().as_secs_f64() * per_second;
            prop_assert!(used >= 1.0 - 1e-9, "{used}");
            prop_assert!(used <= 1.0 + per_second * 1e-9 + 1e-9, "{used}");
            prop_assert!(BURST.contains(&limit.burst().get()));
            let limit = RateLimit::new(f64::from(whole), Some(whole)).unwrap();
            prop_assert_eq!(limit.whole_per_second(), Some(whole));
        }
    }
}
