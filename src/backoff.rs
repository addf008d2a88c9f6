//! How long to wait before the next try to reach the broker. Pure: the dice roll is an argument.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(10);

/// Doubling waits with jitter, for ever: 100 ms at first, 10 s at most.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(crate) fn new() -> Self {
        Self { next: FIRST }
    }

    /// Begins again after a success.
    pub(crate) fn reset(&mut self) {
        self.next = FIRST;
    }

    /// The next wait: between half of it and all of it, so that many replicas do not come back at once. `roll` is in
    /// `0.0..1.0`.
    pub(crate) fn next_wait(&mut self, roll: f64) -> Duration {
        let wait = self.next;
        self.next = (wait * 2).min(LONGEST);
        wait.mul_f64(0.5 + roll.clamp(0.0, 1.0) / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_wait_stays_inside_its_bounds_for_ever(rolls in proptest::collection::vec(0.0f64..1.0, 1..100)) {
            let mut backoff = Backoff::new();
            for roll in rolls {
                let wait = backoff.next_wait(roll);
                prop_assert!(wait >= FIRST / 2 && wait <= LONGEST);
            }
        }
    }
}
