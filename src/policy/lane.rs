//! Lanes: what keeps one target from holding up another. A pure state machine: no I/O, no clock.
//!
//! A lane is what leads to one target: how many requests are in flight, who waits in its short line, and whether the
//! target answers. This is the first, simple rule set: a cap, a bounded line, and half of the window for suspects.

use std::{collections::HashMap, time::Duration};

use crate::domain::LaneKey;

/// The line holds about what a lane can send within this time.
const LINE_WORTH: Duration = Duration::from_secs(1);

/// No line holds more than this part of the window, however fast the target.
const LONGEST_LINE: u32 = 8;

/// How much a new latency weighs in the average.
const LATENCY_WEIGHT: f64 = 0.125;

/// All lanes, and the window they share.
#[derive(Debug)]
pub struct Lanes {
    by_key: HashMap<LaneKey, Lane>,
    /// How many deliveries of suspects may be in flight or in line, all together.
    suspects_allowed: u32,
    suspects_held: u32,
    /// How long one line may be.
    longest_line: u32,
}

#[derive(Debug, Default)]
struct Lane {
    in_flight: u32,
    in_line: u32,
    /// How many of those in flight and in line were admitted as suspects, since the lane last answered.
    as_suspect: u32,
    /// How often the lane has answered while it was suspect: places from before count no more.
    cleared: u32,
    health: Health,
    latency: Option<Duration>,
}

/// What a lane's last attempt says about its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Health {
    /// It did not answer its last attempt, or was never tried.
    #[default]
    Suspect,
    /// It answered its last attempt, with whatever status.
    Answering,
}

/// What a delivery may do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Send. The place is taken: [`Lanes::finished`] gives it back.
    Go(Place),
    /// Wait in the lane's line. A place in it is taken: [`Lanes::leave`] or [`Lanes::step_up`] gives it back.
    Line(Place),
    /// Not now: wait in the broker.
    Park,
}

/// A place in a lane, as it was given.
#[must_use = "a place that is not given back is lost to its lane"]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// For a suspect's: how often its lane had been cleared by then.
    suspect: Option<u32>,
}

impl Lanes {
    /// Lanes that share a window of `window` deliveries; half of it is open to suspects.
    #[must_use]
    pub fn new(window: u32) -> Self {
        Self {
            by_key: HashMap::new(),
            suspects_allowed: (window / 2).max(1),
            suspects_held: 0,
            longest_line: (window / LONGEST_LINE).max(1),
        }
    }

    /// Asks for a place in a lane that may have `cap` requests in flight.
    pub fn admit(&mut self, key: &LaneKey, cap: u32) -> Admission {
        let suspects_full = self.suspects_held >= self.suspects_allowed;
        let lane = match self.by_key.get_mut(key) {
            Some(lane) => lane,
            None => self.by_key.entry(key.clone()).or_default(),
        };
        let place = Place { suspect: (lane.health == Health::Suspect).then_some(lane.cleared) };
        if place.suspect.is_some() && suspects_full {
            self.forget_if_idle(key);
            return Admission::Park;
        }
        let admission = if lane.in_flight < cap && lane.in_line == 0 {
            lane.in_flight += 1;
            Admission::Go(place)
        } else if lane.in_line < lane.line_bound(cap).min(self.longest_line) {
            lane.in_line += 1;
            Admission::Line(place)
        } else {
            return Admission::Park;
        };
        if place.suspect.is_some() {
            lane.as_suspect += 1;
            self.suspects_held += 1;
        }
        admission
    }

    /// Whether the first in line may go: takes a place in flight for it. The caller keeps the order of the line.
    pub fn step_up(&mut self, key: &LaneKey, cap: u32) -> bool {
        match self.by_key.get_mut(key) {
            Some(lane) if lane.in_line > 0 && lane.in_flight < cap => {
                lane.in_line -= 1;
                lane.in_flight += 1;
                true
            }
            _ => false,
        }
    }

    /// Leaves the line without having been sent.
    pub fn leave(&mut self, key: &LaneKey, place: Place) {
        if let Some(lane) = self.by_key.get_mut(key) {
            lane.in_line = lane.in_line.saturating_sub(1);
        }
        self.give_back(key, place);
    }

    /// An attempt ended: `answered` says whether the target gave any answer at all, even a 500. `None` says that
    /// nothing was learnt about the target.
    pub fn finished(&mut self, key: &LaneKey, place: Place, answered: Option<(bool, Duration)>) {
        if let Some(lane) = self.by_key.get_mut(key) {
            lane.in_flight = lane.in_flight.saturating_sub(1);
            if let Some((answered, latency)) = answered {
                lane.health = if answered { Health::Answering } else { Health::Suspect };
                lane.latency = Some(match lane.latency {
                    Some(known) => known.mul_f64(1.0 - LATENCY_WEIGHT) + latency.mul_f64(LATENCY_WEIGHT),
                    None => latency,
                });
                if answered {
                    // A lane that answers gets its place back at once: what it still has there is no suspect any more.
                    self.suspects_held = self.suspects_held.saturating_sub(lane.as_suspect);
                    lane.as_suspect = 0;
                    lane.cleared = lane.cleared.wrapping_add(1);
                }
            }
        }
        self.give_back(key, place);
    }

    /// How many deliveries are in flight and in line, and how many lanes have any state.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.by_key.values().fold(Totals { lanes: self.by_key.len(), ..Totals::default() }, |sum, lane| Totals {
            in_flight: sum.in_flight + lane.in_flight,
            in_line: sum.in_line + lane.in_line,
            ..sum
        })
    }

    fn give_back(&mut self, key: &LaneKey, place: Place) {
        if let Some(lane) = self.by_key.get_mut(key)
            && place.suspect == Some(lane.cleared)
            && lane.as_suspect > 0
        {
            lane.as_suspect -= 1;
            self.suspects_held = self.suspects_held.saturating_sub(1);
        }
        self.forget_if_idle(key);
    }

    /// A lane that nobody uses and that says nothing that a new one would not say needs no memory.
    fn forget_if_idle(&mut self, key: &LaneKey) {
        if self
            .by_key
            .get(key)
            .is_some_and(|lane| lane.in_flight == 0 && lane.in_line == 0 && lane.health == Health::Suspect)
        {
            self.by_key.remove(key);
        }
    }
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
}

impl Lane {
    /// What the lane can send within [`LINE_WORTH`]: the cap for a target of unknown speed.
    fn line_bound(&self, cap: u32) -> u32 {
        match (self.health, self.latency) {
            (Health::Answering, Some(latency)) => {
                let worth = LINE_WORTH.as_nanos().saturating_mul(u128::from(cap)) / latency.as_nanos().max(1);
                u32::try_from(worth).unwrap_or(u32::MAX).max(1)
            }
            (Health::Answering | Health::Suspect, _) => cap,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::{HttpTarget, Target, TargetUrl};

    fn key(n: u32) -> LaneKey {
        let url = TargetUrl::parse(&format!("http://host{n}.example/")).unwrap();
        LaneKey::of_target(&"acme".parse().unwrap(), &Target::Http(HttpTarget::post(url, Duration::from_secs(15))))
    }

    fn answer(lanes: &mut Lanes, key: &LaneKey) {
        let Admission::Go(place) = lanes.admit(key, 32) else { panic!("must go") };
        lanes.finished(key, place, Some((true, Duration::from_millis(5))));
    }

    #[test]
    fn beyond_the_cap_deliveries_stand_in_line_and_beyond_the_line_they_park() {
        let mut lanes = Lanes::new(1000);
        let admissions: Vec<_> = (0..6).map(|_| lanes.admit(&key(1), 2)).collect();
        assert!(matches!(
            admissions[..],
            [
                Admission::Go(_),
                Admission::Go(_),
                Admission::Line(_),
                Admission::Line(_),
                Admission::Park,
                Admission::Park
            ]
        ));
    }

    #[test]
    fn suspects_together_hold_at_most_half_of_the_window() {
        let mut lanes = Lanes::new(100);
        let admitted = (0..1000).filter(|n| lanes.admit(&key(*n), 32) != Admission::Park).count();
        assert_eq!(admitted, 50);
    }

    #[test]
    fn a_lane_that_answers_finds_its_place_however_many_suspects_there_are() {
        let mut lanes = Lanes::new(100);
        answer(&mut lanes, &key(0));
        for n in 1..1000 {
            let _ = lanes.admit(&key(n), 32);
        }
        assert!(matches!(lanes.admit(&key(0), 32), Admission::Go(_)));
    }

    #[test]
    fn a_fast_target_has_a_long_line_and_a_slow_one_a_short_line() {
        let mut lanes = Lanes::new(100_000);
        answer(&mut lanes, &key(1));
        let fast = (0..20_000).filter(|_| lanes.admit(&key(1), 32) != Admission::Park).count();
        assert_eq!(fast, 32 + 6_400);
        let Admission::Go(place) = lanes.admit(&key(2), 32) else { panic!("must go") };
        lanes.finished(&key(2), place, Some((true, Duration::from_secs(10))));
        let slow = (0..20_000).filter(|_| lanes.admit(&key(2), 32) != Admission::Park).count();
        assert_eq!(slow, 32 + 3);
    }

    #[test]
    fn an_idle_lane_that_never_answered_is_forgotten() {
        let mut lanes = Lanes::new(100);
        let Admission::Go(place) = lanes.admit(&key(1), 32) else { panic!("must go") };
        lanes.finished(&key(1), place, Some((false, Duration::from_secs(15))));
        assert_eq!(lanes.totals(), Totals::default());
    }

    #[derive(Debug, Clone)]
    enum Move {
        Admit(u32),
        Finish(usize, Option<bool>),
        Leave(usize),
        StepUp(usize),
    }

    fn moves() -> impl Strategy<Value = Vec<Move>> {
        let one = prop_oneof![
            4 => (0u32..6).prop_map(Move::Admit),
            2 => (any::<usize>(), any::<Option<bool>>()).prop_map(|(n, answered)| Move::Finish(n, answered)),
            1 => any::<usize>().prop_map(Move::Leave),
            1 => any::<usize>().prop_map(Move::StepUp),
        ];
        proptest::collection::vec(one, 0..400)
    }

    proptest! {
        #[test]
        fn no_place_is_ever_lost_and_no_bound_ever_broken(moves in moves(), cap in 1u32..5, window in 2u32..20) {
            let mut lanes = Lanes::new(window);
            let (mut flying, mut lining) = (Vec::new(), Vec::new());
            for step in moves {
                match step {
                    Move::Admit(n) => match lanes.admit(&key(n), cap) {
                        Admission::Go(place) => flying.push((key(n), place)),
                        Admission::Line(place) => lining.push((key(n), place)),
                        Admission::Park => {}
                    },
                    Move::Finish(n, answered) if !flying.is_empty() => {
                        let (key, place) = flying.swap_remove(n % flying.len());
                        lanes.finished(&key, place, answered.map(|answered| (answered, Duration::from_millis(20))));
                    }
                    Move::Leave(n) if !lining.is_empty() => {
                        let (key, place) = lining.swap_remove(n % lining.len());
                        lanes.leave(&key, place);
                    }
                    Move::StepUp(n) if !lining.is_empty() => {
                        let n = n % lining.len();
                        if lanes.step_up(&lining[n].0, cap) {
                            flying.push(lining.swap_remove(n));
                        }
                    }
                    Move::Finish(..) | Move::Leave(_) | Move::StepUp(_) => {}
                }
                let totals = lanes.totals();
                prop_assert_eq!(totals.in_flight as usize, flying.len());
                prop_assert_eq!(totals.in_line as usize, lining.len());
                prop_assert!(lanes.suspects_held <= lanes.suspects_allowed);
                prop_assert_eq!(lanes.suspects_held, lanes.by_key.values().map(|lane| lane.as_suspect).sum::<u32>());
                prop_assert!(lanes.by_key.values().all(|lane| lane.in_flight <= cap));
            }
            for (key, place) in flying { lanes.finished(&key, place, Some((false, Duration::ZERO))); }
            for (key, place) in lining { lanes.leave(&key, place); }
            prop_assert_eq!(lanes.suspects_held, 0);
            prop_assert_eq!((lanes.totals().in_flight, lanes.totals().in_line), (0, 0));
        }
    }
}
