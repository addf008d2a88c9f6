//! How fast events are published.

use std::{num::NonZeroU32, str::FromStr, time::Duration};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

const EXPECTED: &str = "expected a rate such as 50/s, 600/m or 10/h";

/// Events per second, minute or hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rate {
    count: NonZeroU32,
    per: Duration,
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (count, unit) = text.split_once('/').unwrap_or((text, "s"));
        let seconds = match unit.trim() {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            _ => return Err(EXPECTED.to_owned()),
        };
        let count = count.trim().parse().map_err(|_| EXPECTED.to_owned())?;
        Ok(Self { count, per: Duration::from_secs(seconds) })
    }
}

/// Lets events through at a rate.
#[derive(Debug)]
pub(super) struct Pace(DefaultDirectRateLimiter);

impl Pace {
    pub(super) fn new(rate: Rate) -> Self {
        Self(RateLimiter::direct(quota(rate)))
    }

    /// Waits for the next event's turn.
    pub(super) async fn wait(&self) {
        self.0.until_ready().await;
    }
}

/// Even spacing, with what timers of a millisecond need to keep up at high rates: ten milliseconds' worth at once.
fn quota(rate: Rate) -> Quota {
    let each = rate.per / rate.count.get();
    let at_once = Duration::from_millis(10).as_nanos() / each.as_nanos().max(1);
    let at_once = u32::try_from(at_once).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN);
    // Only a period of zero has no quota: more than a billion a second, which is no limit.
    Quota::with_period(each).unwrap_or(Quota::per_second(NonZeroU32::MAX)).allow_burst(at_once)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_read_with_its_unit_and_spaced_evenly() {
        let spacing = |text: &str| {
            let quota = quota(text.parse().unwrap());
            (quota.replenish_interval(), quota.burst_size().get())
        };
        assert_eq!(spacing("50/s"), (Duration::from_millis(20), 1));
        assert_eq!(spacing("50"), (Duration::from_millis(20), 1));
        assert_eq!(spacing("600/m"), (Duration::from_millis(100), 1));
        assert_eq!(spacing("10/h"), (Duration::from_mins(6), 1));
        assert_eq!(spacing("5000/s"), (Duration::from_micros(200), 50));
        for bad in ["", "0/s", "-1/s", "1.5/s", "5/d", "/s", "99999999999/s"] {
            assert!(bad.parse::<Rate>().is_err(), "{bad}");
        }
    }
}
