//! The rate of a lane: the generic cell rate algorithm of `governor`, with the time as an argument.

use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use governor::{
    Quota, RateLimiter,
    clock::{Clock, Reference as _},
    middleware::NoOpMiddleware,
    nanos::Nanos,
    state::{InMemoryState, NotKeyed},
};

use crate::policy::share::Share;

/// How many requests may go to a lane in a time: `burst` at once, and one more with each `interval`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// The time for one request.
    pub interval: Duration,
    /// How many may go at once after a pause.
    pub burst: NonZeroU32,
}

impl Rate {
    /// What one of `replicas` may take: together they stay within `max(burst, replicas)` and the rate.
    #[must_use]
    pub fn shared(self, replicas: NonZeroU32) -> Self {
        let burst = NonZeroU32::new(self.burst.get() / replicas).unwrap_or(NonZeroU32::MIN);
        Self { interval: self.interval.saturating_mul(replicas.get()), burst }
    }

    /// How long it takes until nothing is remembered of what went before.
    pub(super) fn forgets_after(self) -> Duration {
        self.interval.saturating_mul(self.burst.get())
    }
}

/// The clock that the limiters read: it stands where it was put.
#[derive(Debug, Clone, Default)]
pub(super) struct HandClock(Arc<AtomicU64>);

impl HandClock {
    fn put(&self, now: Duration) {
        self.0.store(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

impl Clock for HandClock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.0.load(Ordering::Relaxed).into()
    }
}

/// One lane's limiter. Its quota is fixed when it is made: another rate, or another share, is another limiter.
#[derive(Debug)]
pub(super) struct Limiter {
    inner: RateLimiter<NotKeyed, InMemoryState, HandClock, NoOpMiddleware<Nanos>>,
    clock: HandClock,
    /// What it was made for.
    rate: Rate,
    share: Share,
}

impl Limiter {
    /// A limiter whose burst was used up at the moment `empty_at`: nobody knows what went before.
    pub(super) fn new(clock: &HandClock, rate: Rate, share: Share, empty_at: Duration) -> Self {
        let own = rate.shared(share.replicas);
        let interval = own.interval.max(Duration::from_nanos(1));
        let quota = Quota::with_period(interval).unwrap_or_else(|| Quota::per_second(NonZeroU32::MIN));
        clock.put(empty_at);
        let inner = RateLimiter::direct_with_clock(quota.allow_burst(own.burst), clock.clone());
        // A burst always fits into itself.
        drop(inner.check_n(own.burst));
        Self { inner, clock: clock.clone(), rate, share }
    }

    /// Whether it was made for this.
    pub(super) fn is_for(&self, rate: Rate, share: Share) -> bool {
        self.rate == rate && self.share == share
    }

    /// Takes one permit; when there is none, says how long until there can be.
    pub(super) fn take(&self, now: Duration) -> Result<(), Duration> {
        self.clock.put(now);
        let not_until = match self.inner.check() {
            Ok(()) => return Ok(()),
            Err(not_until) => not_until,
        };
        let wait: Duration = not_until.earliest_possible().duration_since(self.clock.now()).into();
        Err(wait.max(Duration::from_nanos(1)))
    }

    /// Whether it remembers nothing that a new one would not know, when it was last used at `used`.
    pub(super) fn is_forgettable(&self, used: Duration, now: Duration) -> bool {
        let own = self.rate.shared(self.share.replicas);
        now.saturating_sub(used) > own.forgets_after()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rate(interval_ms: u64, burst: u32) -> Rate {
        Rate { interval: Duration::from_millis(interval_ms), burst: NonZeroU32::new(burst).unwrap() }
    }

    fn share(replicas: u32) -> Share {
        Share { replicas: NonZeroU32::new(replicas).unwrap(), limited: true, since: 0 }
    }

    #[test]
    fn a_limiter_begins_empty_and_fills() {
        let (clock, ten) = (HandClock::default(), rate(100, 10));
        let limiter = Limiter::new(&clock, ten, share(1), Duration::from_secs(5));
        assert_eq!(limiter.take(Duration::from_secs(5)), Err(Duration::from_millis(100)));
        let went = (0..100).filter(|_| limiter.take(Duration::from_millis(5_500)).is_ok()).count();
        assert_eq!(went, 5);
        let late = Limiter::new(&clock, ten, share(1), Duration::from_secs(5));
        let went = (0..100).filter(|_| late.take(Duration::from_mins(1)).is_ok()).count();
        assert_eq!(went, 10, "full again, and never more than full");
    }

    #[test]
    fn replicas_take_their_parts_of_burst_and_rate() {
        assert_eq!(rate(100, 10).shared(4.try_into().unwrap()), rate(400, 2));
        assert_eq!(rate(100, 1).shared(4.try_into().unwrap()), rate(400, 1));
    }

    proptest! {
        /// The bound of docs/operations.md: `max(burst, N) + rate * window`, exactly, whenever replicas ask and as often as
        /// they like.
        #[test]
        fn replicas_together_never_exceed_the_bound_in_any_window(
            asks in proptest::collection::vec((0u64..400, 0usize..4), 1..400),
            (interval, burst, replicas) in (1u64..500, 1u32..20, 1u32..5),
        ) {
            let rate = rate(interval, burst);
            let limiters: Vec<_> = (0..replicas)
                .map(|_| Limiter::new(&HandClock::default(), rate, share(replicas), Duration::ZERO))
                .collect();
            let (mut now, mut went) = (Duration::ZERO, Vec::new());
            for (step, who) in asks {
                now += Duration::from_millis(step);
                if limiters[who % limiters.len()].take(now).is_ok() {
                    went.push(now);
                }
            }
            for (first, from) in went.iter().enumerate() {
                for (last, to) in went.iter().enumerate().skip(first) {
                    let window = Duration::saturating_sub(*to, *from);
                    let allowed = u128::from(burst.max(replicas)) + window.as_nanos() / rate.interval.as_nanos();
                    let in_window = u128::try_from(last - first + 1).unwrap();
                    // A window over several replicas may cut each one's interval: the rates' parts add up, rounded down.
                    prop_assert!(in_window <= allowed, "{in_window} in {window:?}, {allowed} allowed");
                }
            }
        }
    }
}
