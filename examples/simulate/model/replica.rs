//! A replica: its lanes, who stands in their lines, and who waits for the window that all share. As `flow::lanes` does it.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use docrelay::policy::{
    lane::{Came, Lanes, Place, WindowSizes},
    share::{Presence, Share},
};

use super::broker::Channel;

/// The windows of a service with the shipped settings.
const SIZES: WindowSizes = WindowSizes { quick: 256, slow: 768, slow_bytes: 64 << 20, lines: 256 };

/// The shortest wait in the broker.
pub(super) const UNIT: Duration = Duration::from_secs(1);

/// One process.
#[derive(Debug)]
pub(super) struct Replica {
    /// It takes messages.
    pub(super) consumes: bool,
    /// Rises with every start.
    pub(super) life: u32,
    pub(super) presence: Option<Presence>,
    pub(super) lanes: Lanes,
    pub(super) lines: HashMap<u32, Line>,
    /// Deliveries with a place of their lane that wait for one in the window.
    pub(super) hall: VecDeque<u32>,
    pub(super) looks: bool,
    pub(super) channels: [Channel; 2],
    /// When each channel is looked at again.
    pub(super) rotates: [bool; 2],
    pub(super) in_flight: u32,
    pub(super) in_line: u32,
}

impl Default for Replica {
    fn default() -> Self {
        Self {
            consumes: false,
            life: 0,
            presence: None,
            lanes: Lanes::new(SIZES, UNIT),
            lines: HashMap::new(),
            hall: VecDeque::new(),
            looks: false,
            channels: Default::default(),
            rotates: [false; 2],
            in_flight: 0,
            in_line: 0,
        }
    }
}

impl Replica {
    /// A process that has just started, in the place of one that has ended.
    pub(super) fn start(&mut self) {
        let life = self.life + 1;
        *self = Self { consumes: true, life, presence: Some(Presence::join(Share::NOT_JOINED)), ..Self::default() };
    }
}

/// Who stands in a lane's line: those that came back go first.
#[derive(Debug, Default)]
pub(super) struct Line {
    back: VecDeque<u32>,
    new: VecDeque<u32>,
    /// When the lane is asked again, where time alone decides.
    pub(super) wakes: Option<Duration>,
}

impl Line {
    pub(super) fn push(&mut self, delivery: u32, came: Came) {
        match came {
            Came::Back | Came::Early(_) => self.back.push_back(delivery),
            Came::New => self.new.push_back(delivery),
        }
    }

    pub(super) fn first(&self) -> Option<u32> {
        self.back.front().or_else(|| self.new.front()).copied()
    }

    pub(super) fn remove(&mut self, delivery: u32) {
        for queue in [&mut self.back, &mut self.new] {
            if let Some(position) = queue.iter().position(|waiting| *waiting == delivery) {
                queue.remove(position);
                return;
            }
        }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = u32> {
        self.back.iter().chain(&self.new).copied()
    }
}

/// Where a delivery is in its process.
#[derive(Debug, Clone, Copy)]
pub(super) enum At {
    /// Nowhere in a process: the broker has it.
    Broker,
    /// In its lane's line.
    Line,
    /// In the hall.
    Hall(Place),
    /// On its way to the target.
    Flight(Place),
}
