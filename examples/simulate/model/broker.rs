//! The broker: two queues, and which replica has room for what. Delay queues are moments in the heap: a queue's messages all
//! wait for as long.

use std::{collections::VecDeque, time::Duration};

/// Messages that a replica takes from each queue before it acks any.
const PREFETCH: usize = 500;

/// A channel whose first message is held for long is replaced, with others beside it: what is held for long does not count,
/// up to so many times the prefetch in all.
const ROTATED: usize = 8;

/// Held for so long, a message does not count.
const LONG: Duration = Duration::from_secs(1);

/// Where a message comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    Events,
    Due,
}

impl Source {
    pub(super) const ALL: [Self; 2] = [Self::Events, Self::Due];
}

/// A queue, and whose turn it is.
#[derive(Debug, Default)]
pub(super) struct Queue {
    pub(super) waiting: VecDeque<u32>,
    pub(super) next: usize,
}

/// What one replica holds of one queue.
#[derive(Debug, Default)]
pub(super) struct Channel {
    held: usize,
    long: usize,
    /// What was taken within the last moments: when, and which stay of which delivery.
    recent: VecDeque<(Duration, u32, u32)>,
}

impl Channel {
    pub(super) fn take(&mut self, now: Duration, delivery: u32, stay: u32) {
        self.held += 1;
        self.recent.push_back((now, delivery, stay));
    }

    /// An ack; a message that was held for long was counted apart.
    pub(super) fn ack(&mut self, was_long: bool) {
        self.held = self.held.saturating_sub(1);
        self.long = self.long.saturating_sub(usize::from(was_long));
    }

    pub(super) fn has_room(&self) -> bool {
        self.held - self.long < PREFETCH && self.held < PREFETCH * ROTATED
    }

    /// The next message that has been held for long by now.
    pub(super) fn next_long(&mut self, now: Duration) -> Option<(u32, u32)> {
        let (taken, delivery, stay) = *self.recent.front()?;
        (taken + LONG <= now).then(|| {
            self.recent.pop_front();
            (delivery, stay)
        })
    }

    pub(super) fn is_held_for_long(&mut self) {
        self.long += 1;
    }

    /// When the next one will have been held for long.
    pub(super) fn looks_again(&self) -> Option<Duration> {
        self.recent.front().map(|(taken, ..)| *taken + LONG)
    }
}
