//! Lanes: what keeps one target from holding up another. A pure state machine: no I/O, no clock.
//!
//! A lane is what leads to one target: its rate, how many requests are in flight, who waits in its short line, whose turns
//! are promised, and whether the target answers. The time is an argument, counted from any moment that never changes.
//!
//! Reading order: `ask` (what is asked and answered), [`Lanes`], `single` (one lane: go, line, or park), `health` (what is
//! known of a target), `windows` (what all lanes share), `limiter` (rates), `booking` (turns).

mod ask;
mod booking;
mod census;
mod health;
mod limiter;
mod moment;
mod single;
#[cfg(test)]
mod tests;
mod windows;

use std::{collections::HashMap, time::Duration};

use self::{
    ask::Window,
    census::Census,
    limiter::HandClock,
    single::{Lane, Probe, World},
    windows::{Class, Windows},
};
pub use self::{
    ask::{Admission, Ask, Came, Heard, Limits, Park, Place, Reason, Step},
    health::Health,
    limiter::Rate,
    single::hold_for,
    windows::WindowSizes,
};
use crate::{domain::LaneKey, policy::share::Share};

/// `Retry-After` holds a whole lane for at most this long.
pub const MAX_HOLD: Duration = Duration::from_mins(1);

/// How often idle lanes are looked for.
const SWEEP_EVERY: Duration = Duration::from_mins(1);

/// How often, at most, it is looked for lanes that have fallen silent in a full window.
const RELIEF_EVERY: Duration = Duration::from_millis(50);

/// All lanes, and the windows they share.
#[derive(Debug)]
pub struct Lanes {
    by_key: HashMap<LaneKey, Lane>,
    windows: Windows,
    /// The shortest wait in the broker.
    unit: Duration,
    share: Share,
    /// When that share began.
    share_since: Duration,
    clock: HandClock,
    census: Census,
    next_sweep: Duration,
    next_relief: Duration,
}

impl Lanes {
    /// No lanes yet, with windows of these sizes and delay queues of this unit.
    #[must_use]
    pub fn new(sizes: WindowSizes, unit: Duration) -> Self {
        Self {
            by_key: HashMap::new(),
            windows: Windows::new(sizes),
            unit,
            share: Share::NOT_JOINED,
            share_since: Duration::ZERO,
            clock: HandClock::default(),
            census: Census::default(),
            next_sweep: SWEEP_EVERY,
            next_relief: Duration::ZERO,
        }
    }

    /// Another share of all limits from now on. Limiters begin anew, and empty.
    pub fn set_share(&mut self, now: Duration, share: Share) {
        if share != self.share {
            (self.share, self.share_since) = (share, now);
        }
    }

    /// Asks for a place.
    pub fn admit(&mut self, now: Duration, ask: &Ask<'_>) -> Admission {
        self.sweep(now);
        let lane = if let Some(lane) = self.by_key.get_mut(ask.lane) {
            lane
        } else {
            self.census.came();
            self.by_key.entry(ask.lane.clone()).or_default()
        };
        lane.used = now.into();
        let world =
            World { now, unit: self.unit, share: self.share, share_since: self.share_since, clock: &self.clock };
        let admission = lane.admit(&world, &mut self.windows, ask);
        self.census.in_flight += u32::from(matches!(admission, Admission::Go(_)));
        admission
    }

    /// How long a delivery may stand in its lane's line.
    #[must_use]
    pub fn patience(&self, ask: &Ask<'_>) -> Duration {
        single::patience(ask, self.unit, self.share)
    }

    /// Whether the first in line may go: takes a place in flight for it. The caller keeps the order of the line, those that
    /// came back before new ones.
    pub fn step_up(&mut self, now: Duration, ask: &Ask<'_>) -> Step {
        let Some(lane) = self.by_key.get_mut(ask.lane).filter(|lane| lane.in_line > 0) else { return Step::Wait(None) };
        let world =
            World { now, unit: self.unit, share: self.share, share_since: self.share_since, clock: &self.clock };
        if lane.holds(ask) {
            return Step::Wait(None);
        }
        match lane.go(&world, &mut self.windows, ask) {
            Ok(place) => {
                lane.used = now.into();
                lane.in_line -= 1;
                self.windows.leaves_line(ask.came.is_back());
                self.census.in_flight += 1;
                Step::Go(place)
            }
            Err(blocked) => Step::Wait(blocked.until),
        }
    }

    /// Leaves the line without having been sent: what now?
    pub fn leave(&mut self, now: Duration, ask: &Ask<'_>) -> Admission {
        let Some(lane) = self.by_key.get_mut(ask.lane) else {
            return Admission::Park(Park { wait: self.unit, reason: Reason::Turn });
        };
        lane.in_line = lane.in_line.saturating_sub(1);
        self.windows.leaves_line(ask.came.is_back());
        let world =
            World { now, unit: self.unit, share: self.share, share_since: self.share_since, clock: &self.clock };
        if lane.holds(ask) {
            return lane.held(&world, ask);
        }
        lane.park(&world, &self.windows, ask)
    }

    /// A place in the quick window for a place that needs one. `false`: it is full; wait, oldest first, and ask again when a
    /// place comes free, or from time to time.
    pub fn take_window(&mut self, now: Duration, key: &LaneKey, place: &mut Place) -> bool {
        if self.windows.is_full() {
            self.relieve(now);
        }
        let Some(lane) = self.by_key.get_mut(key) else { return true };
        if !self.windows.is_full() {
            lane.begins(now);
            self.windows.take_quick(&mut lane.held, place.bytes);
            place.window = Window::Quick;
        } else if lane.class(now) != Class::Quick && self.windows.has_room(lane.held, Class::Slow, place.bytes) {
            // It is not quick any more: it counts with the slow.
            self.windows.take_slow(&mut lane.held, place.bytes);
            place.window = Window::Slow;
        } else {
            return false;
        }
        true
    }

    /// An attempt ended, or was never made. Says whether the target counts as down.
    pub fn finished(&mut self, now: Duration, key: &LaneKey, place: Place, heard: Heard) -> Health {
        let Some(lane) = self.by_key.get_mut(key) else { return Health::Suspect };
        let health_before = lane.record.health;
        lane.in_flight = lane.in_flight.saturating_sub(1);
        self.census.in_flight = self.census.in_flight.saturating_sub(1);
        if !place.wants_window() {
            self.windows.give_back(&mut lane.held, place.bytes);
        }
        if place.probe {
            lane.next_probe = Probe::From(now + self.unit);
        }
        match heard {
            Heard::Answer { latency, retry_after } => {
                lane.record.answered(now, latency, lane.in_flight);
                if lane.class(now) == Class::Quick {
                    self.windows.clear(&mut lane.held);
                }
                if let Some(asked) = retry_after {
                    lane.held_until = lane.held_until.max((now + asked.min(MAX_HOLD)).into());
                }
            }
            Heard::Silence => lane.record.unanswered(now),
            Heard::Nothing => lane.record.learnt_nothing(now, lane.in_flight),
        }
        self.census.changed(now, key, (health_before, lane.record.health));
        lane.record.health
    }

    /// What a lane does now; `None` when nothing is known of it.
    #[must_use]
    pub fn figure(&self, key: &LaneKey) -> Option<Figure> {
        self.by_key.get(key).map(|lane| Figure {
            health: lane.record.health,
            since: lane.record.since.time(),
            in_flight: lane.in_flight,
            in_line: lane.in_line,
            held_until: lane.held_until.time(),
        })
    }

    /// What all lanes do together. Looks through none of them.
    #[must_use]
    pub fn totals(&self) -> Totals {
        Totals {
            lanes: self.by_key.len(),
            by_health: self.census.by_health(),
            in_flight: self.census.in_flight,
            in_line: self.windows.in_line(),
            quick: self.windows.quick(),
            slow: self.windows.slow(),
        }
    }

    /// Lanes whose targets are down, or were within the last ten minutes, and whether they are up again; 100 at most.
    pub fn fallen(&mut self, now: Duration) -> Vec<(LaneKey, bool)> {
        self.census.fallen(now)
    }

    /// Takes their places in the quick window from lanes that have fallen silent.
    fn relieve(&mut self, now: Duration) {
        if now < self.next_relief {
            return;
        }
        self.next_relief = now + RELIEF_EVERY;
        for lane in self.by_key.values_mut() {
            if lane.held.quick > 0 && lane.is_overdue(now) {
                self.windows.demote(&mut lane.held);
            }
        }
    }

    /// Forgets lanes that nobody has used for long. What is waiting for them has come up meanwhile.
    fn sweep(&mut self, now: Duration) {
        if now < self.next_sweep {
            return;
        }
        self.next_sweep = now + SWEEP_EVERY;
        let unit = self.unit;
        let census = &mut self.census;
        self.by_key.retain(|key, lane| {
            let is_forgotten = lane.is_forgettable(now, unit);
            if is_forgotten {
                census.went(key, lane.record.health);
            }
            !is_forgotten
        });
    }
}

/// What a lane does now. Times are of the lanes' own clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figure {
    /// Whether its target answers.
    pub health: Health,
    /// Since when.
    pub since: Duration,
    /// Requests under way.
    pub in_flight: u32,
    /// Deliveries in its line.
    pub in_line: u32,
    /// Until when its target asked for a pause; in the past when it does not.
    pub held_until: Duration,
}

/// Sums over all lanes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Lanes with any state.
    pub lanes: usize,
    /// Of them those whose targets answer, are in doubt, and are down.
    pub by_health: [usize; 3],
    /// Requests under way.
    pub in_flight: u32,
    /// Deliveries in lines.
    pub in_line: u32,
    /// Places taken in the quick window, and all there are.
    pub quick: (u32, u32),
    /// The same of the slow window.
    pub slow: (u32, u32),
}
