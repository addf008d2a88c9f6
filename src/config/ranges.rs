//! What settings and subscriptions may ask for, in one place: a subscription's own value has the default's range.

use std::{ops::RangeInclusive, time::Duration};

use crate::domain::{self, EXCHANGE_CHANNELS, MAX_RETRY_AGE};

/// The deadline of one attempt (docs/subscriptions.md: at most 60 s).
pub const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_mins(1);

/// The wait after the first failed attempt.
pub const BACKOFF: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_hours(1);

/// Attempts in all. With the default backoff 16 of them take 18 hours: more would not fit any sensible age.
pub const ATTEMPTS: RangeInclusive<u32> = 1..=20;

/// The age that ends every kind of waiting (docs/subscriptions.md: at most 7 days).
pub const AGE: RangeInclusive<Duration> = Duration::from_secs(1)..=MAX_RETRY_AGE;

/// Requests a second of one lane.
pub const PER_SECOND: RangeInclusive<f64> = domain::PER_SECOND;

/// Requests at once of one lane that has a rate.
pub const BURST: RangeInclusive<u32> = domain::BURST;

/// Requests in flight at one lane.
pub const IN_FLIGHT: RangeInclusive<u32> = 1..=10_000;

/// The same where the target is an exchange: who has a place in the lane is not to wait for a channel.
pub const IN_FLIGHT_AT_EXCHANGE: RangeInclusive<u32> = 1..=EXCHANGE_CHANNELS;
