//! When and how often a delivery is tried again, as a subscription says it. The schedule itself is the policy's.

use std::time::Duration;

/// The longest `max_age` that can be asked for (docs/subscriptions.md: 7 days).
pub const MAX_RETRY_AGE: Duration = Duration::from_hours(7 * 24);

/// Which failed attempts are tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RetryOn {
    /// Everything but a success.
    #[default]
    AnyFailure,
    /// No answer, and the statuses by which a server says that it did not judge the document: 429, 502, 503, 504. Every
    /// other answer is a verdict and ends the delivery.
    NoResponse,
}

impl RetryOn {
    /// Whether an answer with this status is the receiver's verdict.
    #[must_use]
    pub fn is_verdict(self, status: u16) -> bool {
        match self {
            Self::AnyFailure => false,
            Self::NoResponse => !matches!(status, 429 | 502 | 503 | 504),
        }
    }
}

/// What becomes of a delivery's attempts while its target is down: while nothing at all is answered there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum WhileDown {
    /// They are made by the schedule, and count.
    #[default]
    Count,
    /// None is spent: the delivery waits until the target answers again, or until its age ends it.
    Hold,
}

impl WhileDown {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::Count, Self::Hold];

    /// Its name, as in the field `retry.while_down`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Hold => "hold",
        }
    }
}

/// When and how often a delivery is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Which failures are tried again.
    pub on: RetryOn,
    /// The wait after the first failed attempt; it doubles with each further one.
    pub backoff: Duration,
    /// Attempts in all.
    pub max_attempts: u32,
    /// From the event's first sight: ends every kind of waiting.
    pub max_age: Duration,
    /// What a target that is down does to it.
    pub while_down: WhileDown,
}

/// A retry plan whose last attempt would come after the age that ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the retry plan does not fit: {max_attempts} attempts wait {} in all, which must be shorter than max_age {}",
    humantime::format_duration(*.waits),
    humantime::format_duration(*.max_age)
)]
pub struct PlanDoesNotFit {
    /// Attempts in all.
    pub max_attempts: u32,
    /// How long they wait in all.
    pub waits: Duration,
    /// How old a delivery may become.
    pub max_age: Duration,
}

impl RetryPolicy {
    /// Checks that the last attempt comes before `max_age` ends the delivery: the waits are `backoff * 2^(n-1)` after the
    /// n-th attempt, so all of them together `backoff * (2^(max_attempts-1) - 1)`.
    ///
    /// # Errors
    /// The plan does not fit and must be refused.
    pub fn check(&self) -> Result<(), PlanDoesNotFit> {
        let doublings = self.max_attempts.saturating_sub(1);
        let times = 1_u32.checked_shl(doublings).map_or(u32::MAX, |power| power - 1);
        // Whole seconds and milliseconds are exact; what overflows does not fit anyway.
        let waits = self.backoff.checked_mul(times).unwrap_or(Duration::from_secs(u64::from(u32::MAX)));
        if waits < self.max_age {
            return Ok(());
        }
        Err(PlanDoesNotFit { max_attempts: self.max_attempts, waits, max_age: self.max_age })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(backoff: Duration, max_attempts: u32, max_age: Duration) -> RetryPolicy {
        RetryPolicy { backoff, max_attempts, max_age, ..RetryPolicy::shipped() }
    }

    #[test]
    fn a_plan_fits_when_its_waits_are_shorter_than_its_age() {
        let two = Duration::from_secs(2);
        // 2 + 4 + ... + 512 = 1022 seconds.
        assert!(plan(two, 10, Duration::from_secs(1023)).check().is_ok());
        assert!(plan(two, 10, Duration::from_secs(1022)).check().is_err());
        assert!(plan(MAX_RETRY_AGE, 1, Duration::from_secs(1)).check().is_ok(), "one attempt never waits");
    }

    #[test]
    fn a_plan_beyond_all_numbers_does_not_fit() {
        for max_attempts in [33, 34, u32::MAX] {
            assert!(plan(Duration::MAX, max_attempts, MAX_RETRY_AGE).check().is_err());
        }
    }
}
