//! Wall-clock time. The clock is read here and nowhere else, and never below the flow: decisions take the time as an
//! argument.

use std::time::{Duration, SystemTime};

/// The last second of the year 9999: RFC 3339 has four digits for a year.
const LAST_SECOND: u64 = 253_402_300_799;

/// A moment by the wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(SystemTime);

/// The current time.
#[must_use]
pub fn now() -> Timestamp {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
    Timestamp(SystemTime::now())
}

impl From<Timestamp> for SystemTime {
    fn from(at: Timestamp) -> Self {
        at.0
    }
}

impl Timestamp {
    /// A moment given as seconds and nanoseconds since 1970. Out of range gives `None`.
    #[must_use]
    pub fn from_unix(seconds: i64, nanos: i32) -> Option<Self> {
        let nanos = u32::try_from(nanos).ok().filter(|nanos| *nanos < 1_000_000_000)?;
        let whole = Duration::from_secs(seconds.unsigned_abs());
        let base = if seconds < 0 {
            SystemTime::UNIX_EPOCH.checked_sub(whole)?
        } else {
            SystemTime::UNIX_EPOCH.checked_add(whole)?
        };
        base.checked_add(Duration::from_nanos(u64::from(nanos))).map(Self)
    }

    /// Seconds and nanoseconds since 1970.
    #[must_use]
    pub fn to_unix(self) -> (i64, i32) {
        match self.0.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(since) => {
                (i64::try_from(since.as_secs()).unwrap_or(i64::MAX), i32::try_from(since.subsec_nanos()).unwrap_or(0))
            }
            Err(before) => {
                let before = before.duration();
                let seconds = i64::try_from(before.as_secs()).unwrap_or(i64::MAX);
                match i32::try_from(before.subsec_nanos()).unwrap_or(0) {
                    0 => (-seconds, 0),
                    nanos => (-seconds - 1, 1_000_000_000 - nanos),
                }
            }
        }
    }

    /// How long ago this was at `now`; zero when the clock went backwards.
    #[must_use]
    pub fn age_at(self, now: Self) -> Duration {
        now.0.duration_since(self.0).unwrap_or_default()
    }

    /// The moment `wait` later.
    #[must_use]
    pub fn after(self, wait: Duration) -> Self {
        Self(self.0.checked_add(wait).unwrap_or(self.0))
    }

    /// The moment `ago` earlier.
    #[must_use]
    pub fn before(self, ago: Duration) -> Self {
        Self(self.0.checked_sub(ago).unwrap_or(self.0))
    }

    /// RFC 3339 in UTC with milliseconds, for people and JSON. What is before 1970 or after 9999 is written as the end
    /// of that range.
    #[must_use]
    pub fn to_rfc3339(self) -> String {
        humantime::format_rfc3339_millis(self.writable()).to_string()
    }

    /// The same with microseconds.
    #[must_use]
    pub fn to_rfc3339_micros(self) -> String {
        humantime::format_rfc3339_micros(self.writable()).to_string()
    }

    /// Within what RFC 3339 has four digits for.
    fn writable(self) -> SystemTime {
        let last = SystemTime::UNIX_EPOCH + Duration::from_secs(LAST_SECOND);
        self.0.clamp(SystemTime::UNIX_EPOCH, last)
    }

    /// Reads RFC 3339. `None` when it is not that.
    #[must_use]
    pub fn from_rfc3339(text: &str) -> Option<Self> {
        humantime::parse_rfc3339(text).ok().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn unix_time_survives_the_round_trip(seconds in -10_000_000_000i64..10_000_000_000, nanos in 0i32..1_000_000_000) {
            let moment = Timestamp::from_unix(seconds, nanos).unwrap();
            prop_assert_eq!(moment.to_unix(), (seconds, nanos));
        }

        #[test]
        fn strange_times_never_panic(seconds in any::<i64>(), nanos in any::<i32>()) {
            if let Some(moment) = Timestamp::from_unix(seconds, nanos) {
                let _ = (moment.to_unix(), moment.to_rfc3339(), moment.age_at(Timestamp(SystemTime::UNIX_EPOCH)));
            }
        }
    }
}
