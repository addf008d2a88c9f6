//! One delivery: may it start, how did the attempt go, what follows. As `flow::carry`, `flow::turn` and `flow::decide` do it.

use std::time::Duration;

use docrelay::{
    domain::{Wait, WhileDown},
    policy::{
        lane::{Admission, Ask, Came, Health, Heard, Park, Place, Reason, Step, hold_for},
        schedule,
        wait::{length, next_hop, units},
    },
};

use super::{
    broker::Source,
    replica::{At, UNIT},
    setting::Group,
    target::Target,
    world::{Happening, World},
};

/// A wait in the broker takes up to so much longer: for what is parked together, and for the broker's own steps.
const LATE: Duration = Duration::from_millis(100);

/// Who waits for the window looks this often for places that silent lanes hold.
const LOOK: Duration = Duration::from_millis(50);

/// So many attempts of a delivery that holds are a target that is down.
const DOWN_AFTER: u32 = 5;

/// How many bytes each delivery keeps in memory.
const BYTES: u64 = 2_000;

/// One delivery. Its number is used again after its end; its stay is not.
#[derive(Debug)]
pub(super) struct Delivery {
    pub(super) target: u32,
    born: Duration,
    /// When its next attempt should begin.
    pub(super) due: Duration,
    attempts: u32,
    hop: u32,
    pub(super) wait: Wait,
    pub(super) units_left: u64,
    /// The hops of this wait for a turn, and how many units were asked for at first.
    turn_hops: u32,
    asked: u64,
    /// Rises whenever it leaves a process.
    pub(super) stay: u32,
    pub(super) replica: Option<usize>,
    pub(super) source: Source,
    pub(super) at: At,
    /// Whether its message has been held for long.
    pub(super) is_long: bool,
    /// What its request comes to.
    comes: (Heard, bool),
}

impl Delivery {
    /// It is in no process any more.
    pub(super) fn leaves(&mut self) {
        self.stay += 1;
        (self.replica, self.at, self.is_long) = (None, At::Broker, false);
    }
}

/// How a delivery ends.
#[derive(Debug, Clone, Copy)]
enum End {
    Delivered,
    Exhausted,
    TooOld,
}

/// What a delivery asks its lane.
fn ask<'a>(targets: &'a [Target], groups: &[Group], delivery: &Delivery, now: Duration) -> Ask<'a> {
    let target = &targets[delivery.target as usize];
    let group = &groups[target.group];
    let age = now.saturating_sub(delivery.born);
    Ask {
        lane: &target.key,
        limits: group.limits,
        came: match delivery.wait {
            Wait::Limit if delivery.units_left > 0 => Came::Early(length(delivery.units_left, UNIT)),
            Wait::Limit if delivery.hop > 0 => Came::Back,
            Wait::Limit | Wait::Retry => Came::New,
        },
        bytes: BYTES,
        age,
        left: group.retry.max_age.saturating_sub(age),
        hold: group.retry.while_down == WhileDown::Hold,
        is_asked_later: false,
    }
}

impl World {
    pub(super) fn new_delivery(&mut self, target: u32) -> u32 {
        let number = self.free.pop();
        let delivery = Delivery {
            target,
            born: self.now,
            due: self.now,
            attempts: 0,
            hop: 0,
            wait: Wait::Retry,
            units_left: 0,
            turn_hops: 0,
            asked: 0,
            stay: number.map_or(0, |number| self.deliveries[number as usize].stay + 1),
            replica: None,
            source: Source::Events,
            at: At::Broker,
            is_long: false,
            comes: (Heard::Nothing, false),
        };
        if let Some(number) = number {
            self.deliveries[number as usize] = delivery;
            return number;
        }
        self.deliveries.push(delivery);
        self.deliveries.len() as u32 - 1
    }

    fn group(&self, delivery: u32) -> &Group {
        &self.setting.groups[self.targets[self.deliveries[delivery as usize].target as usize].group]
    }

    /// A replica takes a message.
    pub(super) fn take(&mut self, replica: usize, source: Source, delivery: u32) {
        let of = &mut self.deliveries[delivery as usize];
        (of.replica, of.source) = (Some(replica), source);
        self.replicas[replica].channels[source as usize].take(self.now, delivery, of.stay);
        if of.units_left > 0 && of.wait == Wait::Retry {
            let left = of.units_left;
            return self.park(delivery, Wait::Retry, left);
        }
        let retry = self.group(delivery).retry;
        if self.now.saturating_sub(self.deliveries[delivery as usize].born) >= retry.max_age {
            self.waits(delivery, false);
            return self.end(delivery, End::TooOld);
        }
        let of = &self.deliveries[delivery as usize];
        let ask = ask(&self.targets, &self.setting.groups, of, self.now);
        let (came, admission) = (ask.came, self.replicas[replica].lanes.admit(self.now, &ask));
        if admission == Admission::Line {
            self.line_up(replica, delivery, came);
        } else {
            self.admitted(replica, delivery, admission);
        }
    }

    fn line_up(&mut self, replica: usize, delivery: u32, came: Came) {
        let of = &mut self.deliveries[delivery as usize];
        let (target, stay) = (of.target, of.stay);
        of.at = At::Line;
        self.replicas[replica].lines.entry(target).or_default().push(delivery, came);
        self.replicas[replica].in_line += 1;
        let ask = ask(&self.targets, &self.setting.groups, &self.deliveries[delivery as usize], self.now);
        let patience = self.replicas[replica].lanes.patience(&ask);
        self.at(self.now + patience, Happening::Patience(delivery, stay));
        self.call(replica, target);
        let in_line = self.replicas.iter().map(|replica| replica.in_line).sum();
        self.figures.most_in_line = self.figures.most_in_line.max(in_line);
    }

    fn admitted(&mut self, replica: usize, delivery: u32, admission: Admission) {
        match admission {
            Admission::Go(place) => self.permitted(replica, delivery, place),
            Admission::Park(park) => self.wait_for_a_turn(delivery, park),
            Admission::TooLate(_) => {
                self.waits(delivery, false);
                self.end(delivery, End::TooOld);
            }
            // Nobody is admitted to a line who was in one.
            Admission::Line => self.wait_for_a_turn(delivery, Park { wait: UNIT, reason: Reason::Turn }),
        }
    }

    /// It has its lane's place, and needs one in the window.
    fn permitted(&mut self, replica: usize, delivery: u32, mut place: Place) {
        let target = self.deliveries[delivery as usize].target;
        if let Some((now, limited)) = self.limited(target) {
            limited.permit(now);
        }
        let of = &mut self.replicas[replica];
        let key = &self.targets[target as usize].key;
        if !place.wants_window() || of.hall.is_empty() && of.lanes.take_window(self.now, key, &mut place) {
            return self.begin_request(delivery, place);
        }
        of.hall.push_back(delivery);
        self.deliveries[delivery as usize].at = At::Hall(place);
        self.look(replica);
    }

    fn look(&mut self, replica: usize) {
        let of = &mut self.replicas[replica];
        if !of.looks {
            of.looks = true;
            let life = of.life;
            self.at(self.now + LOOK, Happening::Looks(replica, life));
        }
    }

    /// Places in the window may be free.
    pub(super) fn call_hall(&mut self, replica: usize) {
        while let Some(first) = self.replicas[replica].hall.front().copied() {
            let of = &self.deliveries[first as usize];
            let At::Hall(mut place) = of.at else { break };
            let key = &self.targets[of.target as usize].key;
            if !self.replicas[replica].lanes.take_window(self.now, key, &mut place) {
                return self.look(replica);
            }
            self.replicas[replica].hall.pop_front();
            self.begin_request(first, place);
        }
    }

    /// Places in a lane may be free.
    pub(super) fn call(&mut self, replica: usize, target: u32) {
        while let Some(line) = self.replicas[replica].lines.get_mut(&target) {
            let Some(first) = line.first() else {
                self.replicas[replica].lines.remove(&target);
                break;
            };
            let ask = ask(&self.targets, &self.setting.groups, &self.deliveries[first as usize], self.now);
            match self.replicas[replica].lanes.step_up(self.now, &ask) {
                Step::Go(place) => {
                    self.leave_line(replica, first);
                    self.permitted(replica, first, place);
                }
                Step::Wait(until) => {
                    let at = until.map(|until| self.now + until);
                    let Some(line) = self.replicas[replica].lines.get_mut(&target) else { break };
                    if let Some(at) = at.filter(|at| line.wakes.is_none_or(|wakes| *at < wakes)) {
                        line.wakes = Some(at);
                        self.wake(replica, target, at);
                    }
                    break;
                }
            }
        }
    }

    fn wake(&mut self, replica: usize, target: u32, at: Duration) {
        let life = self.replicas[replica].life;
        self.at(at, Happening::Wakes { replica, life, target });
    }

    fn leave_line(&mut self, replica: usize, delivery: u32) {
        let target = self.deliveries[delivery as usize].target;
        if let Some(line) = self.replicas[replica].lines.get_mut(&target) {
            line.remove(delivery);
            self.replicas[replica].in_line -= 1;
        }
    }

    pub(super) fn patience_ends(&mut self, delivery: u32, stay: u32) {
        let of = &self.deliveries[delivery as usize];
        let (target, Some(replica)) = (of.target, of.replica) else { return };
        if of.stay != stay || !matches!(of.at, At::Line) {
            return;
        }
        self.call(replica, target);
        if self.deliveries[delivery as usize].stay == stay && matches!(self.deliveries[delivery as usize].at, At::Line)
        {
            self.give_up_line(replica, delivery);
            self.call(replica, target);
        }
    }

    fn give_up_line(&mut self, replica: usize, delivery: u32) {
        self.leave_line(replica, delivery);
        let ask = ask(&self.targets, &self.setting.groups, &self.deliveries[delivery as usize], self.now);
        let admission = self.replicas[replica].lanes.leave(self.now, &ask);
        self.admitted(replica, delivery, admission);
    }

    fn begin_request(&mut self, delivery: u32, place: Place) {
        self.waits(delivery, false);
        let of = &mut self.deliveries[delivery as usize];
        let target = &self.targets[of.target as usize];
        let group = &self.setting.groups[target.group];
        let figures = &mut self.figures.groups[target.group];
        let wait = self.now.saturating_sub(of.due);
        figures.waits.add(wait);
        if of.attempts == 0 {
            figures.first_waits.add(wait);
        }
        if of.turn_hops > 0 {
            let bound = (of.asked % 256).count_ones() + (of.asked / 256) as u32 + 2;
            let over = i64::from(of.turn_hops) - i64::from(bound);
            figures.turn_hops += u64::from(of.turn_hops);
            figures.turn_hops_bound += u64::from(bound);
            figures.worst_over_bound = Some(figures.worst_over_bound.map_or(over, |worst| worst.max(over)));
            figures.turns_over_bound += u64::from(over > 0);
        }
        figures.attempts += 1;
        of.turn_hops = 0;
        of.at = At::Flight(place);
        let dice = &mut self.dice[target.group].1;
        let (after, heard, is_success) = target.respond((&group.troubles, group.latency), self.now, dice);
        of.comes = (heard, is_success);
        let stay = of.stay;
        if let Some(replica) = of.replica {
            self.replicas[replica].in_flight += 1;
        }
        let in_flight = self.replicas.iter().map(|replica| replica.in_flight).sum();
        self.figures.most_in_flight = self.figures.most_in_flight.max(in_flight);
        self.at(self.now + after, Happening::Ends(delivery, stay));
    }

    pub(super) fn request_ends(&mut self, delivery: u32, stay: u32) {
        let of = &self.deliveries[delivery as usize];
        let (At::Flight(place), Some(replica), target) = (of.at, of.replica, of.target) else { return };
        if of.stay != stay {
            return;
        }
        let (heard, is_success) = of.comes;
        self.replicas[replica].in_flight -= 1;
        let key = &self.targets[target as usize].key;
        let health = self.replicas[replica].lanes.finished(self.now, key, place, heard);
        self.follows(delivery, (heard, is_success), health, place.is_probe());
        self.call(replica, target);
        self.call_hall(replica);
    }

    /// What follows an attempt.
    fn follows(&mut self, delivery: u32, (heard, is_success): (Heard, bool), health: Health, is_probe: bool) {
        let retry = self.group(delivery).retry;
        let (now, of) = (self.now, &mut self.deliveries[delivery as usize]);
        let age = now.saturating_sub(of.born);
        let is_down = health == Health::Down || is_probe || of.attempts + 1 >= DOWN_AFTER;
        let is_held = retry.while_down == WhileDown::Hold && is_down;
        if heard == Heard::Silence && is_held {
            of.due = now;
            self.waits(delivery, true);
            return self.wait_for_a_turn(delivery, Park { wait: hold_for(age, UNIT), reason: Reason::Down });
        }
        of.attempts += 1;
        if is_success {
            return self.end(delivery, End::Delivered);
        }
        let retry_after = if let Heard::Answer { retry_after, .. } = heard { retry_after } else { None };
        match schedule::wait_after(of.attempts, &retry, retry_after) {
            None => self.end(delivery, End::Exhausted),
            Some(wait) if age.saturating_add(wait) >= retry.max_age => self.end(delivery, End::TooOld),
            Some(wait) => {
                let units = units(wait, UNIT);
                of.due = now + UNIT * units as u32;
                self.park(delivery, Wait::Retry, units);
            }
        }
    }

    fn wait_for_a_turn(&mut self, delivery: u32, Park { wait, reason }: Park) {
        let left = self.group(delivery).retry.max_age;
        let of = &mut self.deliveries[delivery as usize];
        if of.units_left > 0 && reason != Reason::Down && wait.is_zero() {
            // It was early: its turn stands.
            let (wait, left) = (of.wait, of.units_left);
            return self.park(delivery, wait, left);
        }
        let left = left.saturating_sub(self.now.saturating_sub(of.born));
        let units = units(wait.min(left), UNIT);
        if of.turn_hops == 0 {
            of.asked = units;
        }
        self.park(delivery, Wait::Limit, units);
    }

    /// Waits in the broker for the next hop.
    fn park(&mut self, delivery: u32, wait: Wait, units: u64) {
        let Some(hop) = next_hop(wait, units) else { return };
        let of = &mut self.deliveries[delivery as usize];
        of.hop += 1;
        of.turn_hops += u32::from(wait == Wait::Limit);
        (of.wait, of.units_left) = (wait, hop.units_left);
        let group = self.targets[of.target as usize].group;
        self.ack(delivery);
        self.figures.hop(self.now);
        let late = LATE.mul_f64(self.dice[group].1.f64());
        self.at(self.now + UNIT * hop.tier.units() as u32 + late, Happening::Due(delivery));
    }

    fn ack(&mut self, delivery: u32) {
        let of = &mut self.deliveries[delivery as usize];
        if let Some(replica) = of.replica {
            self.replicas[replica].channels[of.source as usize].ack(of.is_long);
        }
        of.leaves();
    }

    fn end(&mut self, delivery: u32, end: End) {
        let of = &self.deliveries[delivery as usize];
        let group = self.targets[of.target as usize].group;
        let figures = &mut self.figures.groups[group];
        figures.most_attempts = figures.most_attempts.max(of.attempts);
        if self.setting.groups[group].watched.is_some_and(|moment| of.born < moment) {
            figures.last_watched = self.now;
        }
        match end {
            End::Delivered => figures.delivered += 1,
            End::Exhausted => {
                figures.exhausted += 1;
                let fewest = figures.fewest_of_exhausted.map_or(of.attempts, |fewest| fewest.min(of.attempts));
                figures.fewest_of_exhausted = Some(fewest);
            }
            End::TooOld => figures.too_old += 1,
        }
        self.ack(delivery);
        self.free.push(delivery);
    }

    /// A stop: what stands in line is parked, and who waits in the hall too.
    pub(super) fn stop(&mut self, replica: usize) {
        let lined: Vec<u32> = self.replicas[replica].lines.values().flat_map(super::replica::Line::all).collect();
        let mut lined = lined;
        lined.sort_unstable();
        for delivery in lined {
            self.give_up_line(replica, delivery);
        }
        while let Some(delivery) = self.replicas[replica].hall.pop_front() {
            let of = &self.deliveries[delivery as usize];
            if let At::Hall(place) = of.at {
                let key = &self.targets[of.target as usize].key;
                self.replicas[replica].lanes.finished(self.now, key, place, Heard::Nothing);
            }
            self.wait_for_a_turn(delivery, Park { wait: UNIT, reason: Reason::Turn });
        }
    }
}
