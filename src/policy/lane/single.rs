//! One lane: who may go, who stands in line, and how long the others wait.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    time::Duration,
};

use super::{
    ask::{Admission, Ask, Came, Limits, Park, Place, Reason, Window},
    booking::Bookings,
    health::{Health, Record},
    limiter::{HandClock, Limiter, Rate},
    moment::Moment,
    windows::{Class, Held, Windows},
};
use crate::{domain::LaneKey, policy::share::Share};

/// The line holds about what a lane can send within this time.
const LINE_WORTH: Duration = Duration::from_secs(1);

/// For those whose turn has come it is so many times as long, and they stand so many times as long: the broker brings all
/// turns of a unit at once, now a little sooner and now a little later, and a line that runs empty meanwhile wastes the rate.
const LINE_OF_TURNS: u32 = 2;

/// And it holds so many of them at least at a lane with a rate, where they wait no longer than this: a wait is whole units,
/// and at several replicas a turn comes up at any of them, so that two may come at once and then none for a while.
const LEAST_LINE: u32 = 2;
const LEAST_LINE_WORTH: Duration = Duration::from_secs(10);

/// The longest wait before a lane is asked again, in units: a raised limit, or a target that is back, is felt by then.
const LONGEST_WAIT: u32 = 256;

/// Who is first in line and finds no room in the slow window looks again so soon.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// A turn in a crowd is no later than so many, before it is rounded: after a short silence of all, even a busy lane's
/// deliveries are back soon.
const LONGEST_IN_A_CROWD: u32 = 16;

/// A lane that nobody used for so long, or for twice the longest wait, is forgotten.
const IDLE: Duration = Duration::from_mins(10);

/// One lane.
#[derive(Debug, Default)]
pub(super) struct Lane {
    pub(super) in_flight: u32,
    pub(super) in_line: u32,
    pub(super) held: Held,
    pub(super) record: Record,
    pub(super) limiter: Option<Box<Limiter>>,
    pub(super) bookings: Bookings,
    /// Turns of those that came at theirs and found no room.
    pub(super) late: Bookings,
    /// Until when its target asked for a pause.
    pub(super) held_until: Moment,
    /// When someone last asked for it.
    pub(super) used: Moment,
    /// When the next probe of a target that is down may go, while deliveries are held for it.
    pub(super) next_probe: Probe,
}

/// The one probe of a target that is down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Probe {
    UnderWay,
    From(Duration),
}

impl Default for Probe {
    fn default() -> Self {
        Self::From(Duration::ZERO)
    }
}

/// What a lane needs to know of the world when it decides.
pub(super) struct World<'a> {
    pub(super) now: Duration,
    pub(super) unit: Duration,
    pub(super) share: Share,
    pub(super) share_since: Duration,
    pub(super) clock: &'a HandClock,
}

/// Why nobody can go now.
pub(super) struct Blocked {
    /// How long until it can be otherwise, where time alone decides.
    pub(super) until: Option<Duration>,
}

impl Lane {
    /// Go, line, or park.
    pub(super) fn admit(&mut self, world: &World<'_>, windows: &mut Windows, ask: &Ask<'_>) -> Admission {
        if self.holds(ask) {
            return self.hold(world, windows, ask);
        }
        let promised = ask.came == Came::New && self.has_promised(world, windows, ask);
        if self.in_line == 0
            && !promised
            && let Ok(place) = self.go(world, windows, ask)
        {
            return Admission::Go(place);
        }
        if let Came::Early(left) = ask.came {
            return self.stays_or_moves(world, windows, ask, left);
        }
        let longest = windows.longest_line(ask.came.is_back());
        if !promised && self.in_line < self.line_bound(world, windows, ask).min(longest) {
            self.in_line += 1;
            windows.enters_line(ask.came.is_back());
            return Admission::Line;
        }
        match self.park(world, windows, ask) {
            // Turns may have been promised to some that do not come any more: the limiter knows better.
            Admission::TooLate(turn) => self.go(world, windows, ask).map_or(Admission::TooLate(turn), Admission::Go),
            admission => admission,
        }
    }

    /// Whether a delivery is held because the target is down.
    pub(super) fn holds(&self, ask: &Ask<'_>) -> bool {
        self.record.health == Health::Down && ask.hold
    }

    /// How the lane takes part in the windows.
    pub(super) fn class(&self, now: Duration) -> Class {
        self.record.class(self.is_overdue(now))
    }

    /// Whether its target should have answered by now. Who waits for the window has not asked it yet.
    pub(super) fn is_overdue(&self, now: Duration) -> bool {
        self.held.is_any() && self.record.is_overdue(now)
    }

    /// Why a delivery waits that is not held. A target that was never asked has done nothing yet.
    fn reason(&self, world: &World<'_>, windows: &Windows, ask: &Ask<'_>) -> Reason {
        if self.record.is_doubted(self.is_overdue(world.now)) {
            return Reason::Silence;
        }
        let class = self.class(world.now);
        let is_slow = class == Class::Slow && self.spacing_by_latency(world, windows, ask, class) >= world.unit;
        if is_slow { Reason::Slowness } else { Reason::Turn }
    }

    /// An attempt begins that waited for the window: if it is the only one, the target is asked from now on.
    pub(super) fn begins(&mut self, now: Duration) {
        if !self.held.is_any() {
            self.record.begins(now);
        }
    }

    /// While the target is down, one delivery is sent as a probe, and all others wait without spending an attempt.
    fn hold(&mut self, world: &World<'_>, windows: &mut Windows, ask: &Ask<'_>) -> Admission {
        let may_probe = matches!(self.next_probe, Probe::From(from) if world.now >= from);
        if may_probe && let Ok(place) = self.go(world, windows, ask) {
            self.next_probe = Probe::UnderWay;
            return Admission::Go(Place { probe: true, ..place });
        }
        self.held(world, ask)
    }

    /// A delivery waits because the target is down: by how old it is, or by how long the target was seen to be away if that is
    /// longer, but not for more than half of the time it has left. What was away for long will be for a while, and waits of a
    /// second at a time would keep the broker busy for nothing.
    pub(super) fn held(&self, world: &World<'_>, ask: &Ask<'_>) -> Admission {
        let away = self.record.away().min(ask.left / 2);
        Admission::Park(Park { wait: hold_for(ask.age.max(away), world.unit), reason: Reason::Down })
    }

    /// Takes a place in flight, if one may be had now.
    pub(super) fn go(&mut self, world: &World<'_>, windows: &mut Windows, ask: &Ask<'_>) -> Result<Place, Blocked> {
        if ask.limits.rate.is_some() && !world.share.limited {
            return Err(Blocked { until: Some(world.unit) });
        }
        if world.now < self.held_until.time() {
            return Err(Blocked { until: Some(self.held_until.time().saturating_sub(world.now)) });
        }
        let class = self.class(world.now);
        if self.in_flight >= cap(ask.limits, world.share) {
            return Err(Blocked { until: None });
        }
        if !windows.has_room(self.held, class, ask.bytes) {
            // Another lane's place may come free: nobody tells this one.
            return Err(Blocked { until: Some(LOOK_AGAIN) });
        }
        if let Some(rate) = ask.limits.rate {
            self.limiter(world, rate).take(world.now).map_err(|wait| Blocked { until: Some(wait) })?;
        }
        if !ask.is_asked_later {
            self.record.asked(world.now, self.in_flight);
        }
        self.in_flight += 1;
        let window = if class == Class::Quick {
            Window::Wanted
        } else {
            windows.take_slow(&mut self.held, ask.bytes);
            Window::Slow
        };
        Ok(Place { bytes: ask.bytes, probe: false, window })
    }

    /// The wait of a delivery that cannot go and finds no room in the line.
    pub(super) fn park(&mut self, world: &World<'_>, windows: &Windows, ask: &Ask<'_>) -> Admission {
        let now = world.now;
        let class = self.class(now);
        if class == Class::Suspect && !windows.has_room(self.held, class, ask.bytes) {
            self.record.asked(now, self.in_flight);
        }
        let in_a_crowd = class == Class::Suspect && windows.part(self.held, class) <= 1.0;
        let mut wait = world.unit;
        if class == Class::Suspect && !in_a_crowd {
            // As long as the target has been silent: what waits comes up soon after a short silence, and seldom in a long one.
            wait = wait.max(power_of_two(self.record.silence(now), world.unit));
        }
        let by_silence = if in_a_crowd { self.spacing_in_a_crowd(world, ask.lane) } else { Duration::ZERO };
        let spacing = self.spacing(world, windows, ask, class).max(by_silence);
        let in_hops = |turn| {
            if in_a_crowd {
                about_a_power_of_two(turn, world.unit, ask)
            } else {
                in_few_hops(turn, spacing, world.unit)
            }
        };
        if !spacing.is_zero() {
            let from = self.held_until.time();
            let turn = if ask.came == Came::New {
                let apart = self.turn_spacing(world, windows, ask, spacing);
                // In a crowd the one in flight has the first turn, and keeps it for long.
                let before = self.in_line + u32::from(in_a_crowd && self.in_flight > 0);
                let turn = self.bookings.next(now, from, before, apart);
                if ask.limits.rate.is_some() && !in_a_crowd && turn >= ask.left {
                    return Admission::TooLate(turn);
                }
                self.bookings.promise(now, from, apart);
                if in_a_crowd { turn.min(spacing.saturating_mul(LONGEST_IN_A_CROWD)) } else { turn }
            } else {
                // It had its turn: another one behind those that were refused before it, never at the end of the line.
                let turn = self.late.next(now, from, 1, spacing);
                self.late.promise(now, from, spacing);
                turn.min(world.unit * LONGEST_WAIT)
            };
            wait = wait.max(in_hops(turn));
        }
        // Never before the lane's pause is over.
        let wait = wait.max(self.held_until.time().saturating_sub(now));
        Admission::Park(Park { wait, reason: self.reason(world, windows, ask) })
    }

    /// How far apart the turns of a silent lane are while so many are silent that each has but one place: as long as its
    /// silence has lasted, or up to twice that, each lane differently. What came up sooner would find no room, and all of it
    /// together would keep the broker busy.
    fn spacing_in_a_crowd(&self, world: &World<'_>, lane: &LaneKey) -> Duration {
        self.record.silence(world.now).mul_f64(1.0 + spreads(lane).0).max(world.unit)
    }

    /// Its turn stands, unless the lane is so much faster by now that another comes sooner.
    fn stays_or_moves(&mut self, world: &World<'_>, windows: &Windows, ask: &Ask<'_>, left: Duration) -> Admission {
        let spacing = self.spacing(world, windows, ask, self.class(world.now));
        let spacing = if spacing.is_zero() { spacing } else { self.turn_spacing(world, windows, ask, spacing) };
        let turn = self.bookings.next(world.now, self.held_until.time(), self.in_line, spacing).max(world.unit);
        let wait = if spacing.is_zero() || turn.saturating_add(world.unit) >= left {
            Duration::ZERO
        } else {
            self.bookings.promise(world.now, self.held_until.time(), spacing);
            turn
        };
        Admission::Park(Park { wait, reason: self.reason(world, windows, ask) })
    }

    /// How far apart promised turns are: the broker brings all of a unit at once, and they must find room.
    fn turn_spacing(&self, world: &World<'_>, windows: &Windows, ask: &Ask<'_>, spacing: Duration) -> Duration {
        let room = windows.room_for_turns(self.in_line).saturating_add(cap(ask.limits, world.share));
        spacing.max(world.unit / room.max(1))
    }

    /// Whether turns are promised to others, so that a newcomer must wait for its own.
    fn has_promised(&self, world: &World<'_>, windows: &Windows, ask: &Ask<'_>) -> bool {
        let spacing = self.spacing(world, windows, ask, self.class(world.now));
        !spacing.is_zero() && self.bookings.ahead(world.now, spacing) >= 1.0
    }

    /// How far apart the turns of the lane are: the longer of its rate's and of what its target's latency allows. Zero when
    /// neither is known.
    fn spacing(&self, world: &World<'_>, windows: &Windows, ask: &Ask<'_>, class: Class) -> Duration {
        let by_rate = ask.limits.rate.map_or(Duration::ZERO, |rate| rate.shared(world.share.replicas).interval);
        by_rate.max(self.spacing_by_latency(world, windows, ask, class))
    }

    /// How far apart its target's latency lets them be, with the places that the lane has.
    fn spacing_by_latency(&self, world: &World<'_>, windows: &Windows, ask: &Ask<'_>, class: Class) -> Duration {
        match (class, self.record.latency()) {
            (Class::Quick | Class::Slow, Some(latency)) => {
                latency.div_f64(f64::from(cap(ask.limits, world.share)).min(windows.part(self.held, class)).max(1e-6))
            }
            (Class::Suspect, _) | (_, None) => Duration::ZERO,
        }
    }

    /// How many may stand in line: what the lane can send within [`LINE_WORTH`]. The cap for a target of unknown speed, and
    /// nobody for one that is known to be silent.
    fn line_bound(&self, world: &World<'_>, windows: &Windows, ask: &Ask<'_>) -> u32 {
        // One that never answered is doubted also while it finds no place.
        let is_new = self.record.latency().is_none();
        let is_overdue = if is_new { self.record.is_overdue(world.now) } else { self.is_overdue(world.now) };
        if self.record.is_doubted(is_overdue) || world.now + LINE_WORTH < self.held_until.time() {
            return 0;
        }
        let spacing = self.spacing(world, windows, ask, self.class(world.now));
        let worth = if ask.came.is_back() { LINE_WORTH * LINE_OF_TURNS } else { LINE_WORTH };
        let worth = worth.as_nanos().checked_div(spacing.as_nanos()).and_then(|worth| u32::try_from(worth).ok());
        let unknown = self.record.latency().is_none().then_some(cap(ask.limits, world.share));
        let is_short = ask.came.is_back() && least_line_takes(ask, world.share).is_some();
        let least = if is_short { LEAST_LINE } else { 1 };
        worth.unwrap_or(u32::MAX).min(unknown.unwrap_or(u32::MAX)).max(least)
    }

    fn limiter(&mut self, world: &World<'_>, rate: Rate) -> &Limiter {
        // A first one fills since this share began: a lane that is new here may have been used by a replica that is gone.
        // One for another rate or share fills from now on.
        let empty_at = if self.limiter.is_none() { world.share_since } else { world.now };
        if self.limiter.as_ref().is_some_and(|limiter| !limiter.is_for(rate, world.share)) {
            self.limiter = None;
        }
        self.limiter.get_or_insert_with(|| Box::new(Limiter::new(world.clock, rate, world.share, empty_at)))
    }

    /// Whether nobody used it for long, and its limiter remembers nothing.
    pub(super) fn is_forgettable(&self, now: Duration, unit: Duration) -> bool {
        self.in_flight == 0
            && self.in_line == 0
            && now >= self.held_until.time()
            && now.saturating_sub(self.used.time()) > IDLE.max(unit * LONGEST_WAIT * 2)
            && self.limiter.as_ref().is_none_or(|limiter| limiter.is_forgettable(self.used.time(), now))
    }
}

/// How long a delivery stands in line at most: a second, or a unit if that is shorter. Who came at its turn stands longer.
pub(super) fn patience(ask: &Ask<'_>, unit: Duration, share: Share) -> Duration {
    let patience = unit.min(LINE_WORTH);
    if ask.came.is_back() {
        (patience * LINE_OF_TURNS).max(least_line_takes(ask, share).unwrap_or_default())
    } else {
        patience
    }
}

/// How long the shortest line at a lane with a rate takes, if it is to be kept.
fn least_line_takes(ask: &Ask<'_>, share: Share) -> Option<Duration> {
    let takes = ask.limits.rate?.shared(share.replicas).interval.saturating_mul(LEAST_LINE);
    (takes <= LEAST_LINE_WORTH).then_some(takes)
}

/// How long a delivery waits for a target that is down, when it is so old, or the target was away for so long: half of that
/// time at least and all of it at most, as one hop, from one unit to 256.
#[must_use]
pub fn hold_for(time: Duration, unit: Duration) -> Duration {
    let half = u32::try_from((time / 2).as_nanos().div_ceil(unit.as_nanos().max(1))).unwrap_or(u32::MAX);
    unit * half.min(LONGEST_WAIT).next_power_of_two()
}

/// The longest power of two of units that is no longer than `time`: one hop through one delay queue. From 1 to 256.
fn power_of_two(time: Duration, unit: Duration) -> Duration {
    let units = u32::try_from(time.as_nanos() / unit.as_nanos().max(1)).unwrap_or(u32::MAX);
    unit * units.checked_ilog2().map_or(1, |power| 1 << power).min(LONGEST_WAIT)
}

/// The power of two of units below a turn or the one above it, as one hop: above for so many lanes that on average it is the
/// turn. What many lanes are refused within seconds of each other would else come back within seconds of each other too. Never
/// above where a delivery would be too old by then.
fn about_a_power_of_two(turn: Duration, unit: Duration, ask: &Ask<'_>) -> Duration {
    let below = power_of_two(turn, unit);
    let above = (below * 2).min(unit * LONGEST_WAIT);
    let is_above = turn.saturating_sub(below) > below.mul_f64(spreads(ask.lane).1);
    if is_above && above < ask.left { above } else { below }
}

/// The multiple of a power of two of units that is nearest to a turn; of the longest that is no longer than the turns are
/// apart. Where they lie far apart, each takes fewer hops, and no two come at once.
fn in_few_hops(turn: Duration, spacing: Duration, unit: Duration) -> Duration {
    let step = power_of_two(spacing, unit);
    if step <= unit {
        return turn;
    }
    let steps = (turn.saturating_add(step / 2).as_nanos() / step.as_nanos().max(1)).max(1);
    step.saturating_mul(u32::try_from(steps).unwrap_or(u32::MAX))
}

/// Two figures from 0 to 1 that are each lane's own, always the same, and have nothing to do with each other.
fn spreads(lane: &LaneKey) -> (f64, f64) {
    let mut hasher = DefaultHasher::new();
    lane.hash(&mut hasher);
    let hash = hasher.finish();
    let part =
        |bits: u64| f64::from(u32::try_from(bits & u64::from(u32::MAX)).unwrap_or_default()) / f64::from(u32::MAX);
    (part(hash >> 32), part(hash))
}

/// This replica's part of a cap.
fn cap(limits: Limits, share: Share) -> u32 {
    (limits.max_in_flight / share.replicas).max(1)
}
