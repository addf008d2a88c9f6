//! Targets: how long they take, and when they are in trouble.

use std::time::Duration;

use docrelay::{
    domain::{HttpTarget, LaneKey, OrganizationId, Target as Place, TargetUrl},
    policy::lane::Heard,
};
use fastrand::Rng;

use super::setting::{Trouble, Troubled};

/// A request ends after so long.
const DEADLINE: Duration = Duration::from_secs(15);

/// A refused connection takes so long.
const REFUSED: Duration = Duration::from_millis(1);

/// How long answers take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Latency {
    /// Half of them are quicker.
    pub(crate) median: Duration,
    /// One in a hundred takes more than so many times as long; 1 for always the same.
    pub(crate) spread: f64,
}

impl Latency {
    /// Always the same.
    pub(crate) const fn always(median: Duration) -> Self {
        Self { median, spread: 1.0 }
    }

    fn draw(self, rng: &mut Rng) -> Duration {
        // About the normal distribution; 2.33 of its deviations are exceeded once in a hundred.
        let normal = (0..12).map(|_| rng.f64()).sum::<f64>() - 6.0;
        self.median.mul_f64((normal / 2.33 * self.spread.ln()).exp())
    }
}

/// One target.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) key: LaneKey,
    pub(super) group: usize,
    /// Where its turn begins in the troubles that go round.
    pub(super) phase: f64,
}

impl Target {
    pub(super) fn new(number: usize, group: usize, phase: f64) -> Option<Self> {
        let url = TargetUrl::parse(&format!("https://hooks.customer-{number}.example/")).ok()?;
        let organization: OrganizationId = format!("organization-{number}").parse().ok()?;
        let place = Place::Http(HttpTarget::post(url, DEADLINE));
        Some(Self { key: LaneKey::of_target(&organization, &place), group, phase })
    }

    /// The trouble it is in.
    fn trouble(&self, troubles: &[Troubled], now: Duration) -> Option<Trouble> {
        troubles.iter().find(|it| it.concerns(self.phase, now)).map(|it| it.trouble)
    }

    /// What a request that begins now will come to, and after how long; the flag says whether it is delivered.
    pub(super) fn respond(
        &self,
        (troubles, latency): (&[Troubled], Latency),
        now: Duration,
        rng: &mut Rng,
    ) -> (Duration, Heard, bool) {
        let answer = |latency: Duration, retry_after, is_success| {
            let heard = Heard::Answer { latency, retry_after };
            if latency < DEADLINE { (latency, heard, is_success) } else { (DEADLINE, Heard::Silence, false) }
        };
        match self.trouble(troubles, now) {
            None => answer(latency.draw(rng), None, true),
            Some(Trouble::Hangs) => (DEADLINE, Heard::Silence, false),
            Some(Trouble::Refuses) => (REFUSED, Heard::Silence, false),
            Some(Trouble::Slow(latency)) => answer(latency.draw(rng), None, true),
            Some(Trouble::Busy(after)) => answer(latency.draw(rng), Some(after), false),
        }
    }
}
