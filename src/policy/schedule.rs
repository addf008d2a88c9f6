//! When a failed delivery is tried again. Pure.

use std::time::Duration;

use crate::domain::RetryPolicy;

/// The longest wait that `Retry-After` can ask for.
pub const MAX_RETRY_AFTER: Duration = Duration::from_hours(6);

/// The wait after the `failed`-th failed attempt (counted from 1): `backoff * 2^(failed - 1)`, or what the receiver
/// asked for with `Retry-After` when that is longer, at most six hours. `None` when no attempt is left.
///
/// With the default backoff of two seconds: 2, 4, 8 … 512 s.
#[must_use]
pub fn wait_after(failed: u32, policy: &RetryPolicy, retry_after: Option<Duration>) -> Option<Duration> {
    if failed >= policy.max_attempts {
        return None;
    }
    let factor = 1u32.checked_shl(failed.saturating_sub(1)).unwrap_or(u32::MAX);
    let scheduled = policy.backoff.saturating_mul(factor);
    Some(scheduled.max(retry_after.unwrap_or_default().min(MAX_RETRY_AFTER)))
}

/// How long all waits of a policy take together.
#[must_use]
pub fn total_wait(policy: &RetryPolicy) -> Duration {
    (1..policy.max_attempts)
        .map_while(|failed| wait_after(failed, policy, None))
        .try_fold(Duration::ZERO, Duration::checked_add)
        .unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn default_policy() -> RetryPolicy {
        RetryPolicy::shipped()
    }

    #[test]
    fn the_default_waits_are_2_4_8_to_512_seconds_and_then_none() {
        let waits: Vec<_> = (1..=10).map(|failed| wait_after(failed, &default_policy(), None)).collect();
        let expected = [2, 4, 8, 16, 32, 64, 128, 256, 512].map(|seconds| Some(Duration::from_secs(seconds)));
        assert_eq!(waits[..9], expected);
        assert_eq!(waits[9], None);
        assert_eq!(total_wait(&default_policy()), Duration::from_secs(1022));
    }

    #[test]
    fn a_backoff_of_thirty_seconds_gives_30_s_then_1_2_4_8_minutes() {
        let policy = RetryPolicy { backoff: Duration::from_secs(30), ..default_policy() };
        let waits: Vec<_> =
            (1..=5).filter_map(|failed| wait_after(failed, &policy, None)).map(|w| w.as_secs()).collect();
        assert_eq!(waits, [30, 60, 120, 240, 480]);
    }

    proptest! {
        #[test]
        fn retry_after_never_shortens_a_wait_and_never_lasts_longer_than_six_hours(
            failed in 1u32..10, asked in 0u64..1_000_000,
        ) {
            let scheduled = wait_after(failed, &default_policy(), None).unwrap();
            let wait = wait_after(failed, &default_policy(), Some(Duration::from_secs(asked))).unwrap();
            prop_assert!(wait >= scheduled);
            prop_assert!(wait >= Duration::from_secs(asked).min(MAX_RETRY_AFTER));
            prop_assert!(wait <= MAX_RETRY_AFTER.max(scheduled));
        }

        #[test]
        fn no_attempt_number_overflows(failed in any::<u32>(), max in any::<u32>(), backoff in any::<u64>()) {
            let (backoff, max_age) = (Duration::from_secs(backoff), Duration::MAX);
            let policy = RetryPolicy { backoff, max_attempts: max, max_age, ..RetryPolicy::shipped() };
            let wait = wait_after(failed, &policy, None);
            prop_assert_eq!(wait.is_none(), failed >= max);
        }
    }
}
