//! A moment in eight bytes: a hundred thousand lanes keep several each.

use std::time::Duration;

/// Nanoseconds since the moment that all times count from; enough for 584 years.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Moment(u64);

impl Moment {
    /// The time since all times count from.
    pub(super) fn time(self) -> Duration {
        Duration::from_nanos(self.0)
    }
}

impl From<Duration> for Moment {
    fn from(time: Duration) -> Self {
        Self(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
    }
}
