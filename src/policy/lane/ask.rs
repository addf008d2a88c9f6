//! What is asked of lanes and what they answer.

use std::time::Duration;

#[cfg(doc)]
use super::Lanes;
use super::limiter::Rate;
use crate::domain::LaneKey;

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
    /// Whether something else comes first, such as a login: the target is not silent meanwhile.
    pub is_asked_later: bool,
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
    /// The same for another lane on the way: who waited, for whatever, goes before who is new.
    #[must_use]
    pub fn or_back(self) -> Self {
        if self.is_back() { Self::Back } else { Self::New }
    }

    /// Whether it waited for its turn before.
    pub(super) fn is_back(self) -> bool {
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
    /// Why.
    pub reason: Reason,
}

/// Why a delivery waits in the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Its turn has not come.
    Turn,
    /// The same, and its target gives no answer now: its last attempt failed without one, or one should have been answered by
    /// now.
    Silence,
    /// The same, and its target answers so slowly, for the places that its lane has, that its turns are a unit apart or more.
    Slowness,
    /// Its target is down, and no attempt is spent on it.
    Down,
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
    pub(super) bytes: u64,
    pub(super) probe: bool,
    pub(super) window: Window,
}

/// A place's place in the windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Window {
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
