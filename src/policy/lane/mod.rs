//! Lanes: what keeps one target from holding up another. A pure state machine: no I/O, no clock.
//!
//! A lane is what leads to one target: its rate, how many requests are in flight, who waits in its short line, whose turns
//! are promised, and whether the target answers. The time is an argument, counted from any moment that never changes.
//!
//! Reading order: [`Lanes::admit`] (go, line, or park), `health` (what is known of a target), `windows` (what all lanes
//! share), `limiter` (rates), `booking` (turns).

mod booking;
mod health;
mod limiter;
mod moment;
#[cfg(test)]
mod tests;
mod windows;

use std::{collections::HashMap, time::Duration};

use self::{
    booking::Bookings,
    health::Record,
    limiter::{HandClock, Limiter},
    moment::Moment,
    windows::{Class, Held, Windows},
};
pub use self::{health::Health, limiter::Rate, windows::WindowSizes};
use crate::{domain::LaneKey, policy::share::Share};

/// The line holds about what a lane can send within this time.
const LINE_WORTH: Duration = Duration::from_secs(1);

/// The longest wait before a lane is asked again, in units: a raised limit, or a target that is back, is felt by then.
const LONGEST_WAIT: u32 = 256;

/// `Retry-After` holds a whole lane for at most this long.
pub const MAX_HOLD: Duration = Duration::from_mins(1);

/// A lane that nobody used for so long is forgotten.
const IDLE: Duration = Duration::from_mins(10);

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
    next_sweep: Duration,
    next_relief: Duration,
}

#[derive(Debug, Default)]
struct Lane {
    in_flight: u32,
    in_line: u32,
    held: Held,
    record: Record,
    limiter: Option<Box<Limiter>>,
    bookings: Bookings,
    /// Turns of those that came at theirs and found no room.
    late: Bookings,
    /// Until when its target asked for a pause.
    held_until: Moment,
    /// When someone last asked for it.
    used: Moment,
    /// When the next probe of a target that is down may go, while deliveries are held for it; `None` while one is under way.
    next_probe: Probe,
}

/// The one probe of a target that is down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Probe {
    UnderWay,
    From(Duration),
}

impl Default for Probe {
    fn default() -> Self {
        Self::From(Duration::ZERO)
    }
}

/// The limits of a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Requests in flight.
    pub max_in_flight: u32,
    /// Requests in a time.
    pub rate: Option<Rate>,
}

/// A delivery that asks for its place.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// Where it goes.
    pub lane: &'a LaneKey,
    /// What the lane may do.
    pub limits: Limits,
    /// Whether it waited for its turn before.
    pub came: Came,
    /// How many bytes it keeps in memory.
    pub bytes: u64,
    /// How old its event is.
    pub age: Duration,
    /// How long it may still wait.
    pub left: Duration,
    /// Whether it spends no attempt on a target that is down.
    pub hold: bool,
}

/// Whether a delivery waited for its turn before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Came {
    /// It did not.
    New,
    /// It did, and its turn has come.
    Back,
    /// It did, and its turn comes after so long; but its lane may be free by now, or faster.
    Early(Duration),
}

impl Came {
    /// Whether it waited for its turn before.
    fn is_back(self) -> bool {
        match self {
            Self::New => false,
            Self::Back | Self::Early(_) => true,
        }
    }
}

/// What a delivery may do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Send. The place is taken: [`Lanes::finished`] gives it back.
    Go(Place),
    /// Wait in the lane's line. A place in it is taken: [`Lanes::step_up`] or [`Lanes::leave`] gives it back.
    Line,
    /// Not now: wait in the broker.
    Park(Park),
    /// Its turn would come too late: after so long.
    TooLate(Duration),
}

/// A wait in the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Park {
    /// How long, at least.
    pub wait: Duration,
    /// Whether it waits for a target that is down.
    pub down: bool,
}

/// What the first in line may do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Send.
    Go(Place),
    /// Wait on; ask again when a place comes free, or after so long.
    Wait(Option<Duration>),
}

/// A place in a lane, as it was given.
#[must_use = "a place that is not given back is lost to its lane"]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    bytes: u64,
    probe: bool,
    window: Window,
}

/// A place's place in the windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Window {
    /// One in the quick window is still to be taken.
    Wanted,
    Quick,
    Slow,
}

impl Place {
    /// Whether it is the probe of a target that is down.
    #[must_use]
    pub fn is_probe(self) -> bool {
        self.probe
    }

    /// Whether a place in the quick window must be taken before sending: [`Lanes::take_window`].
    #[must_use]
    pub fn wants_window(self) -> bool {
        self.window == Window::Wanted
    }

    /// Whether it counts with those of slow, silent and new targets.
    #[must_use]
    pub fn is_slow(self) -> bool {
        self.window == Window::Slow
    }
}

/// What an attempt says about its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// It answered, with whatever status.
    Answer {
        /// How long that took.
        latency: Duration,
        /// What it asked for with `Retry-After`, on a status that may: 429 or 503.
        retry_after: Option<Duration>,
    },
    /// No answer at all.
    Silence,
    /// Nothing: the attempt was our own doing, or never reached it.
    Nothing,
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
        let lane = match self.by_key.get_mut(ask.lane) {
            Some(lane) => lane,
            None => self.by_key.entry(ask.lane.clone()).or_default(),
        };
        lane.used = now.into();
        let world =
            World { now, unit: self.unit, share: self.share, share_since: self.share_since, clock: &self.clock };
        lane.admit(&world, &mut self.windows, ask)
    }

    /// Whether the first in line may go: takes a place in flight for it. The caller keeps the order of the line, those that
    /// came back before new ones.
    pub fn step_up(&mut self, now: Duration, ask: &Ask<'_>) -> Step {
        let Some(lane) = self.by_key.get_mut(ask.lane).filter(|lane| lane.in_line > 0) else { return Step::Wait(None) };
        let world =
            World { now, unit: self.unit, share: self.share, share_since: self.share_since, clock: &self.clock };
        match lane.go(&world, &mut self.windows, ask) {
            Ok(place) => {
                lane.in_line -= 1;
                self.windows.leaves_line(ask.came.is_back());
                Step::Go(place)
            }
            Err(blocked) => Step::Wait(blocked.until),
        }
    }

    /// Leaves the line without having been sent: what now?
    pub fn leave(&mut self, now: Duration, ask: &Ask<'_>) -> Admission {
        let Some(lane) = self.by_key.get_mut(ask.lane) else {
            return Admission::Park(Park { wait: self.unit, down: false });
        };
        lane.in_line = lane.in_line.saturating_sub(1);
        self.windows.leaves_line(ask.came.is_back());
        let world =
            World { now, unit: self.unit, share: self.share, share_since: self.share_since, clock: &self.clock };
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
            self.windows.take_quick(&mut lane.held, place.bytes);
            place.window = Window::Quick;
        } else if lane.record.class(now) != Class::Quick && self.windows.has_room(lane.held, Class::Slow, place.bytes) {
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
        lane.in_flight = lane.in_flight.saturating_sub(1);
        if !place.wants_window() {
            self.windows.give_back(&mut lane.held, place.bytes);
        }
        if place.probe {
            lane.next_probe = Probe::From(now + self.unit);
        }
        match heard {
            Heard::Answer { latency, retry_after } => {
                lane.record.answered(now, latency, lane.in_flight);
                if lane.record.class(now) == Class::Quick {
                    self.windows.clear(&mut lane.held);
                }
                if let Some(asked) = retry_after {
                    lane.held_until = lane.held_until.max((now + asked.min(MAX_HOLD)).into());
                }
            }
            Heard::Silence => lane.record.unanswered(now),
            Heard::Nothing => lane.record.learnt_nothing(now, lane.in_flight),
        }
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

    /// How many deliveries are in flight and in line, and how many lanes have any state.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.by_key.values().fold(Totals { lanes: self.by_key.len(), ..Totals::default() }, |sum, lane| Totals {
            in_flight: sum.in_flight + lane.in_flight,
            in_line: sum.in_line + lane.in_line,
            down: sum.down + usize::from(lane.record.health == Health::Down),
            ..sum
        })
    }

    /// Takes their places in the quick window from lanes that have fallen silent.
    fn relieve(&mut self, now: Duration) {
        if now < self.next_relief {
            return;
        }
        self.next_relief = now + RELIEF_EVERY;
        for lane in self.by_key.values_mut() {
            if lane.held.quick > 0 && lane.record.is_overdue(now) {
                self.windows.demote(&mut lane.held);
            }
        }
    }

    /// Forgets lanes that nobody has used for long and that know nothing which a new one would not.
    fn sweep(&mut self, now: Duration) {
        if now < self.next_sweep {
            return;
        }
        self.next_sweep = now + SWEEP_EVERY;
        self.by_key.retain(|_, lane| !lane.is_forgettable(now));
    }
}

/// What a lane needs to know of the world when it decides.
struct World<'a> {
    now: Duration,
    unit: Duration,
    share: Share,
    share_since: Duration,
    clock: &'a HandClock,
}

/// Why nobody can go now.
struct Blocked {
    /// How long until it can be otherwise, where time alone decides.
    until: Option<Duration>,
}

impl Lane {
    fn admit(&mut self, world: &World<'_>, windows: &mut Windows, ask: &Ask<'_>) -> Admission {
        if self.record.health == Health::Down && ask.hold {
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
        self.park(world, windows, ask)
    }

    /// While the target is down, one delivery that came back is sent as a probe, and all others wait without spending an
    /// attempt.
    fn hold(&mut self, world: &World<'_>, windows: &mut Windows, ask: &Ask<'_>) -> Admission {
        let may_probe = matches!(self.next_probe, Probe::From(from) if world.now >= from);
        if ask.came != Came::New
            && may_probe
            && let Ok(place) = self.go(world, windows, ask)
        {
            self.next_probe = Probe::UnderWay;
            return Admission::Go(Place { probe: true, ..place });
        }
        Admission::Park(Park { wait: hold_for(ask.age, world.unit), down: true })
    }

    /// Takes a place in flight, if one may be had now.
    fn go(&mut self, world: &World<'_>, windows: &mut Windows, ask: &Ask<'_>) -> Result<Place, Blocked> {
        if ask.limits.rate.is_some() && !world.share.limited {
            return Err(Blocked { until: Some(world.unit) });
        }
        if world.now < self.held_until.time() {
            return Err(Blocked { until: Some(self.held_until.time().saturating_sub(world.now)) });
        }
        let class = self.record.class(world.now);
        if self.in_flight >= cap(ask.limits, world.share) || !windows.has_room(self.held, class, ask.bytes) {
            return Err(Blocked { until: None });
        }
        if let Some(rate) = ask.limits.rate {
            self.limiter(world, rate).take(world.now).map_err(|wait| Blocked { until: Some(wait) })?;
        }
        self.record.asked(world.now, self.in_flight);
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
    fn park(&mut self, world: &World<'_>, windows: &Windows, ask: &Ask<'_>) -> Admission {
        let now = world.now;
        let class = self.record.class(now);
        let mut wait = world.unit;
        if class == Class::Suspect {
            // As long as the target has been silent: what waits comes up soon after a short silence, and seldom in a long one.
            if !windows.has_room(self.held, class, ask.bytes) {
                self.record.asked(now, self.in_flight);
            }
            wait = wait.max(power_of_two(self.record.silence(now), world.unit));
        }
        let spacing = self.spacing(world, windows, ask, class);
        if spacing.is_zero() {
            wait = wait.max(self.held_until.time().saturating_sub(now));
        } else if ask.came == Came::New {
            let spacing = self.turn_spacing(world, windows, ask, spacing);
            let turn = self.bookings.next(now, self.held_until.time(), self.in_line, spacing);
            if ask.limits.rate.is_some() && turn >= ask.left {
                return Admission::TooLate(turn);
            }
            self.bookings.promise(now, self.held_until.time(), spacing);
            wait = wait.max(turn);
        } else {
            // It had its turn: another one behind those that were refused before it, never at the end of the line.
            let turn = self.late.next(now, self.held_until.time(), 1, spacing);
            self.late.promise(now, self.held_until.time(), spacing);
            wait = wait.max(turn.min(world.unit * LONGEST_WAIT)).max(self.held_until.time().saturating_sub(now));
        }
        Admission::Park(Park { wait, down: false })
    }

    /// Its turn stands, unless the lane is so much faster by now that another comes sooner.
    fn stays_or_moves(&mut self, world: &World<'_>, windows: &Windows, ask: &Ask<'_>, left: Duration) -> Admission {
        let spacing = self.spacing(world, windows, ask, self.record.class(world.now));
        let spacing = if spacing.is_zero() { spacing } else { self.turn_spacing(world, windows, ask, spacing) };
        let turn = self.bookings.next(world.now, self.held_until.time(), self.in_line, spacing).max(world.unit);
        let wait = if spacing.is_zero() || turn.saturating_add(world.unit) >= left {
            Duration::ZERO
        } else {
            self.bookings.promise(world.now, self.held_until.time(), spacing);
            turn
        };
        Admission::Park(Park { wait, down: false })
    }

    /// How far apart promised turns are: the broker brings all of a unit at once, and they must find room.
    fn turn_spacing(&self, world: &World<'_>, windows: &Windows, ask: &Ask<'_>, spacing: Duration) -> Duration {
        let room = windows.room_for_turns(self.in_line).saturating_add(cap(ask.limits, world.share));
        spacing.max(world.unit / room.max(1))
    }

    /// Whether turns are promised to others, so that a newcomer must wait for its own.
    fn has_promised(&self, world: &World<'_>, windows: &Windows, ask: &Ask<'_>) -> bool {
        let spacing = self.spacing(world, windows, ask, self.record.class(world.now));
        !spacing.is_zero() && self.bookings.ahead(world.now, spacing) >= 1.0
    }

    /// How far apart the turns of the lane are: the longer of its rate's and of what its target's latency allows. Zero when
    /// neither is known.
    fn spacing(&self, world: &World<'_>, windows: &Windows, ask: &Ask<'_>, class: Class) -> Duration {
        let by_rate = ask.limits.rate.map_or(Duration::ZERO, |rate| rate.shared(world.share.replicas).interval);
        let by_latency = match (class, self.record.latency()) {
            (Class::Quick | Class::Slow, Some(latency)) => {
                latency.div_f64(f64::from(cap(ask.limits, world.share)).min(windows.part(self.held, class)).max(1e-6))
            }
            (Class::Suspect, _) | (_, None) => Duration::ZERO,
        };
        by_rate.max(by_latency)
    }

    /// How many may stand in line: what the lane can send within [`LINE_WORTH`]. The cap for a target of unknown speed, and
    /// nobody for one that is known to be silent.
    fn line_bound(&self, world: &World<'_>, windows: &Windows, ask: &Ask<'_>) -> u32 {
        if self.record.is_doubted(world.now) || world.now + LINE_WORTH < self.held_until.time() {
            return 0;
        }
        let spacing = self.spacing(world, windows, ask, self.record.class(world.now));
        let worth = LINE_WORTH.as_nanos().checked_div(spacing.as_nanos()).and_then(|worth| u32::try_from(worth).ok());
        let unknown = self.record.latency().is_none().then_some(cap(ask.limits, world.share));
        worth.unwrap_or(u32::MAX).min(unknown.unwrap_or(u32::MAX)).max(1)
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

    fn is_forgettable(&self, now: Duration) -> bool {
        self.in_flight == 0
            && self.in_line == 0
            && now >= self.held_until.time()
            && now.saturating_sub(self.used.time()) > IDLE
            && self.limiter.as_ref().is_none_or(|limiter| limiter.is_forgettable(self.used.time(), now))
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
    /// Requests under way.
    pub in_flight: u32,
    /// Deliveries in lines.
    pub in_line: u32,
    /// Lanes whose targets are down.
    pub down: usize,
}

/// How long a delivery of this age waits for a target that is down: half its age, from one unit to 256.
#[must_use]
pub fn hold_for(age: Duration, unit: Duration) -> Duration {
    (age / 2).clamp(unit, unit * LONGEST_WAIT)
}

/// The longest power of two of units that is no longer than `time`: one hop through one delay queue. From 1 to 256.
fn power_of_two(time: Duration, unit: Duration) -> Duration {
    let units = u32::try_from(time.as_nanos() / unit.as_nanos().max(1)).unwrap_or(u32::MAX);
    unit * units.checked_ilog2().map_or(1, |power| 1 << power).min(LONGEST_WAIT)
}

/// This replica's part of a cap.
fn cap(limits: Limits, share: Share) -> u32 {
    (limits.max_in_flight / share.replicas).max(1)
}
