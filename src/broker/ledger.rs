//! Which deliveries of a channel are finished, and how to ack them with the fewest frames. Pure.
//!
//! The finished prefix is acked with one `multiple`. What is finished behind a straggler is acked on its own after a
//! few milliseconds: otherwise one hanging request at the head would fill the window with finished messages.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

/// How long something finished waits for the messages before it.
const PATIENCE: Duration = Duration::from_millis(5);

/// An ack to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ack {
    /// The delivery tag.
    pub(super) tag: u64,
    /// Whether everything before it is acked with it.
    pub(super) multiple: bool,
}

/// The finished and unfinished deliveries of one channel.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// Every tag up to this one is acked. A channel's tags begin with 1.
    acked_to: u64,
    /// The states of the tags after `acked_to`.
    slots: VecDeque<Slot>,
    /// Finished tags behind a straggler, in the order in which they finished.
    waiting: VecDeque<(Instant, u64)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    Open,
    Finished,
    Acked,
}

impl Ledger {
    /// A delivery is finished. A tag that is finished already, or was never given, changes nothing.
    pub(super) fn finish(&mut self, tag: u64, now: Instant) {
        let Some(position) = tag.checked_sub(self.acked_to + 1).and_then(|position| usize::try_from(position).ok())
        else {
            return;
        };
        if position >= self.slots.len() {
            self.slots.resize(position + 1, Slot::Open);
        }
        if let Some(slot) = self.slots.get_mut(position)
            && *slot == Slot::Open
        {
            *slot = Slot::Finished;
            self.waiting.push_back((now, tag));
        }
    }

    /// The next ack that is due, if any. Call until it answers `None`.
    pub(super) fn next_ack(&mut self, now: Instant) -> Option<Ack> {
        self.prefix().or_else(|| self.straggling(now))
    }

    /// When [`Ledger::next_ack`] has something even if nothing more finishes.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.waiting.front().map(|(since, _)| *since + PATIENCE)
    }

    fn prefix(&mut self) -> Option<Ack> {
        let mut last = None;
        while let Some(slot) = self.slots.front() {
            match slot {
                Slot::Open => break,
                Slot::Finished => last = Some(self.acked_to + 1),
                Slot::Acked => {}
            }
            self.slots.pop_front();
            self.acked_to += 1;
        }
        let acked_to = self.acked_to;
        while self.waiting.front().is_some_and(|(_, tag)| *tag <= acked_to) {
            self.waiting.pop_front();
        }
        last.map(|tag| Ack { tag, multiple: true })
    }

    fn straggling(&mut self, now: Instant) -> Option<Ack> {
        while let Some((since, tag)) = self.waiting.front().copied() {
            if tag > self.acked_to && now < since + PATIENCE {
                return None;
            }
            self.waiting.pop_front();
            let position = tag.checked_sub(self.acked_to + 1).and_then(|position| usize::try_from(position).ok());
            if let Some(slot) = position.and_then(|position| self.slots.get_mut(position)) {
                *slot = Slot::Acked;
                return Some(Ack { tag, multiple: false });
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// What the broker does with an ack: which tags it takes off; `None` when it would close the channel.
    fn take(unacked: &mut BTreeSet<u64>, ack: Ack) -> Option<Vec<u64>> {
        let tags: Vec<_> = if ack.multiple {
            unacked.range(..=ack.tag).copied().collect()
        } else {
            unacked.get(&ack.tag).copied().into_iter().collect()
        };
        unacked.retain(|tag| !tags.contains(tag));
        (!tags.is_empty()).then_some(tags)
    }

    #[test]
    fn a_finished_prefix_is_one_ack() {
        let (mut ledger, now) = (Ledger::default(), Instant::now());
        for tag in [3, 1, 2, 5] {
            ledger.finish(tag, now);
        }
        assert_eq!(ledger.next_ack(now), Some(Ack { tag: 3, multiple: true }));
        assert_eq!(ledger.next_ack(now), None);
    }

    #[test]
    fn what_is_finished_behind_a_straggler_is_acked_alone_after_five_milliseconds() {
        let (mut ledger, now) = (Ledger::default(), Instant::now());
        ledger.finish(2, now);
        assert_eq!(ledger.next_ack(now), None);
        assert_eq!(ledger.next_due(), Some(now + PATIENCE));
        assert_eq!(ledger.next_ack(now + PATIENCE), Some(Ack { tag: 2, multiple: false }));
        ledger.finish(1, now + PATIENCE);
        assert_eq!(ledger.next_ack(now + PATIENCE), Some(Ack { tag: 1, multiple: true }));
        assert_eq!(ledger.next_due(), None);
    }

    proptest! {
        #[test]
        fn only_finished_tags_are_acked_each_once_and_all_in_the_end(
            order in Just((1u64..=60).collect::<Vec<_>>()).prop_shuffle(),
            steps in proptest::collection::vec(0u64..8, 60),
        ) {
            let mut ledger = Ledger::default();
            let mut now = Instant::now();
            let mut unacked: BTreeSet<u64> = (1..=60).collect();
            let mut finished = BTreeSet::new();
            for (tag, step) in order.into_iter().zip(steps) {
                now += Duration::from_millis(step);
                ledger.finish(tag, now);
                finished.insert(tag);
                while let Some(ack) = ledger.next_ack(now) {
                    let acked = take(&mut unacked, ack);
                    prop_assert!(acked.is_some(), "an ack of nothing closes the channel");
                    prop_assert!(acked.unwrap_or_default().iter().all(|tag| finished.contains(tag)));
                }
            }
            prop_assert!(unacked.is_empty());
            prop_assert!(ledger.slots.is_empty() && ledger.waiting.is_empty());
        }
    }
}
