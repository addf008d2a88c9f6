//! What happens next.

use std::{cmp::Reverse, collections::BinaryHeap, num::NonZeroU32, time::Duration};

use docrelay::domain::Wait;
use fastrand::Rng;

use super::{
    broker::{Queue, Source},
    carry::Delivery,
    figures::{Figures, GroupFigures, Limited},
    replica::{At, Replica},
    setting::{Change, Setting},
    target::Target,
};

/// The time between two polls of the presence queue.
const POLL: Duration = Duration::from_secs(2);

/// Traffic is looked at this often, at least: it changes.
const LONGEST_LULL: Duration = Duration::from_secs(10);

/// How often the lanes of all replicas are counted.
const COUNT_LANES: Duration = Duration::from_mins(5);

/// Everything, at one moment.
#[derive(Debug)]
pub(crate) struct World {
    pub(super) setting: Setting,
    pub(super) now: Duration,
    heap: BinaryHeap<Reverse<(Duration, u64, Happening)>>,
    order: u64,
    /// For each group: when its events come, and what becomes of its requests.
    pub(super) dice: Vec<(Rng, Rng)>,
    pub(super) targets: Vec<Target>,
    /// Where each group's targets begin.
    first_of: Vec<usize>,
    pub(super) deliveries: Vec<Delivery>,
    pub(super) free: Vec<u32>,
    pub(super) queues: [Queue; 2],
    pub(super) replicas: Vec<Replica>,
    most_replicas: u32,
    counts_lanes: Duration,
    pub(super) figures: Figures,
}

/// Something that happens at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Happening {
    /// A group's next event.
    Publish(usize),
    /// A group's events that come at once.
    AtOnce(usize, usize),
    /// A limit changes.
    Raised(usize),
    /// A parked message's wait is over.
    Due(u32),
    /// A delivery has stood in line for long enough.
    Patience(u32, u32),
    /// A request ends.
    Ends(u32, u32),
    /// Time alone may give the first in line its place.
    Wakes { replica: usize, life: u32, target: u32 },
    /// The first in the hall looks again.
    Looks(usize, u32),
    /// Messages have been held for long.
    Rotates(usize, u32, Source),
    /// A replica asks how many there are.
    Polls(usize, u32),
    /// A replica comes or goes.
    Changes(usize, Change),
}

impl World {
    /// A world at its first moment.
    pub(crate) fn new(setting: Setting) -> Self {
        let mut placing = Rng::with_seed(setting.seed);
        let (mut targets, mut first_of) = (Vec::new(), Vec::new());
        for (number, group) in setting.groups.iter().enumerate() {
            first_of.push(targets.len());
            for _ in 0..group.targets {
                targets.extend(Target::new(targets.len(), number, placing.f64()));
            }
        }
        let dice = |number| {
            let seed = setting.seed.wrapping_mul(1_000_003).wrapping_add(number as u64 * 2);
            (Rng::with_seed(seed), Rng::with_seed(seed + 1))
        };
        let figures = Figures {
            groups: setting.groups.iter().map(|it| GroupFigures { name: it.name, ..GroupFigures::default() }).collect(),
            ..Figures::default()
        };
        let mut world = Self {
            dice: (0..setting.groups.len()).map(dice).collect(),
            now: Duration::ZERO,
            heap: BinaryHeap::new(),
            order: 0,
            targets,
            first_of,
            deliveries: Vec::new(),
            free: Vec::new(),
            queues: Default::default(),
            replicas: Vec::new(),
            most_replicas: 0,
            counts_lanes: COUNT_LANES,
            figures,
            setting,
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        for replica in 0..self.setting.replicas {
            self.change(replica, Change::Joins);
        }
        for (at, replica, change) in self.setting.changes.clone() {
            self.at(at, Happening::Changes(replica, change));
        }
        for number in 0..self.setting.raised.len() {
            self.at(self.setting.raised[number].0, Happening::Raised(number));
        }
        for group in 0..self.setting.groups.len() {
            if self.setting.groups[group].per_second > 0.0 {
                self.at(self.setting.groups[group].active.0, Happening::Publish(group));
            }
            for (number, (at, _)) in self.setting.groups[group].at_once.clone().into_iter().enumerate() {
                self.at(at, Happening::AtOnce(group, number));
            }
        }
    }

    /// Lets everything happen, and tells what came of it.
    pub(crate) fn run(mut self) -> Figures {
        while let Some(Reverse((at, _, happening))) = self.heap.pop() {
            if at >= self.setting.length && self.is_over() {
                break;
            }
            self.now = at;
            self.happen(happening);
            for source in Source::ALL {
                self.hand_out(source);
            }
        }
        self.figures.ended = self.now;
        let (targets, mut figures) = (self.targets, self.figures);
        figures.sum_up(|target| targets[target as usize].group, self.most_replicas);
        figures
    }

    /// Whether nothing is left to be waited for.
    fn is_over(&self) -> bool {
        !self.setting.drains || self.free.len() == self.deliveries.len()
    }

    pub(super) fn at(&mut self, at: Duration, happening: Happening) {
        self.order += 1;
        self.heap.push(Reverse((at, self.order, happening)));
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Publish(group) => self.publish_next(group),
            Happening::AtOnce(group, number) => {
                for _ in 0..self.setting.groups[group].at_once[number].1 {
                    self.publish(group);
                }
            }
            Happening::Raised(number) => self.raise(number),
            Happening::Due(delivery) => self.is_due(delivery),
            Happening::Patience(delivery, stay) => self.patience_ends(delivery, stay),
            Happening::Ends(delivery, stay) => self.request_ends(delivery, stay),
            Happening::Wakes { replica, life, target } if self.replicas[replica].life == life => {
                if let Some(line) = self.replicas[replica].lines.get_mut(&target) {
                    line.wakes = None;
                }
                self.call(replica, target);
            }
            Happening::Looks(replica, life) if self.replicas[replica].life == life => {
                self.replicas[replica].looks = false;
                self.call_hall(replica);
            }
            Happening::Rotates(replica, life, source) if self.replicas[replica].life == life => {
                self.replicas[replica].rotates[source as usize] = false;
            }
            Happening::Polls(replica, life) if self.replicas[replica].life == life => self.poll(replica),
            Happening::Changes(replica, change) => self.change(replica, change),
            Happening::Wakes { .. } | Happening::Looks(..) | Happening::Rotates(..) | Happening::Polls(..) => {}
        }
    }

    fn publish_next(&mut self, group: usize) {
        let of = &self.setting.groups[group];
        let per_second = of.per_second * of.busyness(self.now);
        let dice = &mut self.dice[group].0;
        let lull = if per_second > 0.0 { -(1.0 - dice.f64()).ln() / per_second } else { f64::MAX };
        let next = Duration::try_from_secs_f64(lull).unwrap_or(Duration::MAX);
        // What comes later than that may come at another rate, and is drawn anew then.
        let (at, comes) = if next > LONGEST_LULL { (self.now + LONGEST_LULL, false) } else { (self.now + next, true) };
        if at >= self.setting.length.min(of.active.1) {
            return;
        }
        self.at(at, Happening::Publish(group));
        if comes {
            self.publish(group);
        }
    }

    /// An event for one of the group's targets.
    fn publish(&mut self, group: usize) {
        let of = &self.setting.groups[group];
        let place = (of.targets as f64 * self.dice[group].0.f64().powf(of.skew)) as usize;
        let target = (self.first_of[group] + place.min(of.targets.saturating_sub(1))) as u32;
        self.figures.groups[group].published += 1;
        let delivery = self.new_delivery(target);
        self.waits(delivery, true);
        self.queue(Source::Events, delivery);
    }

    fn raise(&mut self, number: usize) {
        let (_, group, limits) = self.setting.raised[number];
        self.setting.groups[group].limits = limits;
        let first = self.first_of[group];
        for target in first..first + self.setting.groups[group].targets {
            if let (Some(limited), Some(rate)) = (self.figures.limited.get_mut(&(target as u32)), limits.rate) {
                limited.changes(self.now, rate);
            }
        }
    }

    pub(super) fn queue(&mut self, source: Source, delivery: u32) {
        let queue = &mut self.queues[source as usize];
        queue.waiting.push_back(delivery);
    }

    /// Gives what waits in a queue to replicas that have room, in turn.
    fn hand_out(&mut self, source: Source) {
        while !self.queues[source as usize].waiting.is_empty() {
            let Some(replica) = self.next_with_room(source) else { break };
            let Some(delivery) = self.queues[source as usize].waiting.pop_front() else { break };
            self.queues[source as usize].next = replica + 1;
            self.take(replica, source, delivery);
        }
        let longest = self.queues[source as usize].waiting.len();
        self.figures.longest_queue = self.figures.longest_queue.max(longest);
    }

    fn next_with_room(&mut self, source: Source) -> Option<usize> {
        let (count, next) = (self.replicas.len(), self.queues[source as usize].next);
        for replica in (next..next + count).map(|number| number % count) {
            if !self.replicas[replica].consumes {
                continue;
            }
            let channel = &mut self.replicas[replica].channels[source as usize];
            while let Some((delivery, stay)) = channel.next_long(self.now) {
                let delivery = &mut self.deliveries[delivery as usize];
                if delivery.stay == stay {
                    delivery.is_long = true;
                    channel.is_held_for_long();
                }
            }
            if channel.has_room() {
                return Some(replica);
            }
            if let Some(at) = channel.looks_again().filter(|_| !self.replicas[replica].rotates[source as usize]) {
                self.replicas[replica].rotates[source as usize] = true;
                self.at(at, Happening::Rotates(replica, self.replicas[replica].life, source));
            }
        }
        None
    }

    fn poll(&mut self, replica: usize) {
        let count = self.replicas.iter().filter(|replica| replica.presence.is_some()).count();
        let count = NonZeroU32::new(count as u32).unwrap_or(NonZeroU32::MIN);
        if self.now >= self.counts_lanes {
            self.counts_lanes = self.now + COUNT_LANES;
            let lanes = self.replicas.iter().map(|replica| replica.lanes.totals().lanes).sum();
            self.figures.most_lanes = self.figures.most_lanes.max(lanes);
        }
        self.most_replicas = self.most_replicas.max(count.get());
        let of = &mut self.replicas[replica];
        if let Some(presence) = &mut of.presence {
            presence.counted(count);
            of.lanes.set_share(self.now, presence.share());
            self.at(self.now + POLL, Happening::Polls(replica, self.replicas[replica].life));
        }
    }

    fn change(&mut self, replica: usize, change: Change) {
        while self.replicas.len() <= replica {
            self.replicas.push(Replica::default());
        }
        match change {
            Change::Joins => {
                let of = &mut self.replicas[replica];
                of.start();
                if let Some(presence) = &of.presence {
                    of.lanes.set_share(self.now, presence.share());
                }
                // Each polls at moments of its own.
                let phase = POLL.mul_f64(replica as f64 * 0.618_034 % 1.0);
                let life = of.life;
                self.at(self.now + phase, Happening::Polls(replica, life));
            }
            Change::Leaves => {
                let of = &mut self.replicas[replica];
                (of.consumes, of.presence) = (false, None);
                self.stop(replica);
            }
            Change::Dies => {
                self.replicas[replica] = Replica { life: self.replicas[replica].life + 1, ..Replica::default() };
                self.give_again(replica);
            }
        }
    }

    /// What a replica held when it was killed comes to others.
    fn give_again(&mut self, replica: usize) {
        for number in (0..self.deliveries.len() as u32).rev() {
            let delivery = &mut self.deliveries[number as usize];
            if delivery.replica != Some(replica) {
                continue;
            }
            let source = delivery.source;
            let had_begun = matches!(delivery.at, At::Flight(_));
            delivery.leaves();
            self.figures.given_again += 1;
            if had_begun {
                self.waits(number, true);
                self.deliveries[number as usize].due = self.now;
            }
            self.queues[source as usize].waiting.push_front(number);
        }
    }

    /// One more delivery of its target is due, or one fewer.
    pub(super) fn waits(&mut self, delivery: u32, more: bool) {
        if let Some(limited) = self.limited(self.deliveries[delivery as usize].target) {
            let now = limited.0;
            limited.1.waits(now, more);
        }
    }

    pub(super) fn limited(&mut self, target: u32) -> Option<(Duration, &mut Limited)> {
        let rate = self.setting.groups[self.targets[target as usize].group].limits.rate?;
        Some((self.now, self.figures.limited.entry(target).or_insert_with(|| Limited::new(rate))))
    }

    fn is_due(&mut self, delivery: u32) {
        let of = &self.deliveries[delivery as usize];
        if of.wait == Wait::Retry && of.units_left == 0 {
            self.waits(delivery, true);
        }
        self.queue(Source::Due, delivery);
    }
}
