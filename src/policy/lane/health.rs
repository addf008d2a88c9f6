//! What is known of a target: whether it answers, how fast, and for how long it has been silent.

use std::time::Duration;

use super::{moment::Moment, windows::Class};

/// So many attempts in a row without any answer are a target that is down.
const DOWN_AFTER: u32 = 5;

/// How much a new latency weighs in the average.
const LATENCY_WEIGHT: f32 = 0.25;

/// A lane that takes longer than this to answer is slow: it would hold a place of the quick window for too long.
const SLOW: f32 = 0.25;

/// A target that has not answered for so many times its usual latency is silent,
const OVERDUE_TIMES: u32 = 8;
/// but not before this,
const OVERDUE_LEAST: Duration = Duration::from_millis(100);
/// and no later than this, or twice its usual latency.
const OVERDUE_MOST: Duration = Duration::from_secs(1);

/// What a lane's attempts say about its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Health {
    /// It did not answer its last attempt, or was never tried.
    #[default]
    Suspect,
    /// It answered its last attempt, with whatever status.
    Answering,
    /// It did not answer any of its last five attempts, or more.
    Down,
}

/// The record of a target.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Record {
    pub(super) health: Health,
    /// Since when.
    pub(super) since: Moment,
    /// Attempts without any answer, in a row.
    unanswered: u32,
    /// The average, in seconds; 0 while there is none.
    latency: f32,
    /// Since when it is asked for something and gives no answer.
    silent_since: Option<Moment>,
    /// When its last attempt ended.
    last_end: Moment,
}

impl Record {
    /// It is asked for something: an attempt begins, or one could not begin for want of a place.
    pub(super) fn asked(&mut self, now: Duration, in_flight: u32) {
        let is_old = self.silent_since.is_some_and(|since| {
            // After a pause that was longer than all of its silence, that silence says little.
            let (since, last_end) = (since.time(), self.last_end.time());
            in_flight == 0 && now.saturating_sub(last_end) > last_end.saturating_sub(since).max(OVERDUE_MOST)
        });
        if is_old || self.silent_since.is_none() {
            self.silent_since = Some(now.into());
        }
    }

    /// The only attempt begins, and nothing was in flight before: no silence yet, unless others failed before it.
    pub(super) fn begins(&mut self, now: Duration) {
        if self.unanswered == 0 && self.silent_since.is_some() {
            self.silent_since = Some(now.into());
        }
    }

    /// An attempt was answered; so many others are still in flight.
    pub(super) fn answered(&mut self, now: Duration, latency: Duration, in_flight: u32) {
        self.became(Health::Answering, now);
        self.unanswered = 0;
        self.last_end = now.into();
        let latency = latency.as_secs_f32().max(f32::MIN_POSITIVE);
        self.latency =
            if self.latency > 0.0 { self.latency + (latency - self.latency) * LATENCY_WEIGHT } else { latency };
        self.silent_since = (in_flight > 0).then_some(now.into());
    }

    /// An attempt ended without any answer.
    pub(super) fn unanswered(&mut self, now: Duration) {
        self.unanswered = self.unanswered.saturating_add(1);
        self.last_end = now.into();
        self.became(if self.unanswered >= DOWN_AFTER { Health::Down } else { Health::Suspect }, now);
    }

    /// An attempt ended that says nothing about the target.
    pub(super) fn learnt_nothing(&mut self, now: Duration, in_flight: u32) {
        self.last_end = now.into();
        if in_flight == 0 && self.unanswered == 0 {
            self.silent_since = None;
        }
    }

    fn became(&mut self, health: Health, now: Duration) {
        if self.health != health || self.since.time().is_zero() {
            (self.health, self.since) = (health, now.into());
        }
    }

    /// The average latency of its answers.
    pub(super) fn latency(&self) -> Option<Duration> {
        (self.latency > 0.0).then(|| Duration::from_secs_f32(self.latency))
    }

    /// For how long it has been asked without giving any answer.
    pub(super) fn silence(&self, now: Duration) -> Duration {
        self.silent_since.map_or(Duration::ZERO, |since| now.saturating_sub(since.time()))
    }

    /// For how long its health was seen to be what it is: up to the last attempt. Whether that is still so, nobody has asked.
    pub(super) fn away(&self) -> Duration {
        self.last_end.time().saturating_sub(self.since.time())
    }

    /// Whether it should have answered by now.
    pub(super) fn is_overdue(&self, now: Duration) -> bool {
        let usual = self.latency().unwrap_or_default();
        let patience = (usual * OVERDUE_TIMES).clamp(OVERDUE_LEAST, OVERDUE_MOST.max(usual * 2));
        self.silence(now) > patience
    }

    /// How it takes part in the windows.
    pub(super) fn class(&self, is_overdue: bool) -> Class {
        match self.health {
            Health::Answering if is_overdue => Class::Suspect,
            Health::Answering if self.latency > SLOW => Class::Slow,
            Health::Answering => Class::Quick,
            Health::Suspect | Health::Down => Class::Suspect,
        }
    }

    /// Whether anything speaks against it: it failed, or is overdue. A target that was never tried has done nothing yet.
    pub(super) fn is_doubted(&self, is_overdue: bool) -> bool {
        self.unanswered > 0 || is_overdue
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLIS: Duration = Duration::from_millis(1);
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn five_attempts_without_an_answer_are_down_and_any_answer_is_up() {
        let mut record = Record::default();
        let health: Vec<_> = (1..=6)
            .map(|n| {
                record.unanswered(n * SECOND);
                record.health
            })
            .collect();
        assert_eq!(health[3..], [Health::Suspect, Health::Down, Health::Down]);
        assert_eq!(record.since.time(), 5 * SECOND);
        record.answered(7 * SECOND, MILLIS, 0);
        assert_eq!((record.health, record.since.time()), (Health::Answering, 7 * SECOND));
    }

    #[test]
    fn a_quick_target_is_suspect_soon_after_it_falls_silent_and_a_slow_one_later() {
        for (latency, soon, late) in [(5, 100, 101), (50, 400, 401), (10_000, 20_000, 20_001)] {
            let mut record = Record::default();
            record.answered(SECOND, latency * MILLIS, 0);
            record.asked(2 * SECOND, 0);
            assert_ne!(record.class(record.is_overdue(2 * SECOND + soon * MILLIS)), Class::Suspect, "{latency} ms");
            assert_eq!(record.class(record.is_overdue(2 * SECOND + late * MILLIS)), Class::Suspect, "{latency} ms");
        }
    }

    #[test]
    fn each_answer_ends_the_silence_of_a_busy_target() {
        let mut record = Record::default();
        record.answered(SECOND, MILLIS, 3);
        assert_eq!(record.silence(3 * SECOND), 2 * SECOND);
        record.answered(3 * SECOND, MILLIS, 2);
        assert_eq!(record.silence(3 * SECOND), Duration::ZERO);
        record.answered(3 * SECOND, MILLIS, 0);
        assert_eq!(record.silence(9 * SECOND), Duration::ZERO, "nobody asks");
    }

    #[test]
    fn silence_lasts_over_failed_attempts_and_is_forgotten_after_a_longer_pause() {
        let mut record = Record::default();
        record.asked(SECOND, 0);
        record.unanswered(16 * SECOND);
        record.asked(20 * SECOND, 0);
        assert_eq!(record.silence(21 * SECOND), 20 * SECOND);
        record.unanswered(35 * SECOND);
        record.asked(100 * SECOND, 0);
        assert_eq!(record.silence(101 * SECOND), SECOND);
    }

    #[test]
    fn a_target_that_is_slow_to_answer_is_slow_until_it_is_quick_again() {
        let mut record = Record::default();
        record.answered(SECOND, 10 * SECOND, 0);
        assert_eq!(record.class(false), Class::Slow);
        let answers = (1..50).find(|_| {
            record.answered(SECOND, 5 * MILLIS, 0);
            record.class(false) == Class::Quick
        });
        assert_eq!(answers, Some(13));
    }
}
