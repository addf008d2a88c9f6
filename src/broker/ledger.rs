//! Which deliveries of a channel are finished, and how to ack them with the fewest frames. Pure.
//!
//! The finished prefix is acked with one `multiple`. What is finished behind a straggler waits for it, but not for long and
//! not too many: then each is acked on its own, which costs the broker a step for each. Otherwise one hanging request at the
//! head would fill the window with finished messages. What that costs, and how many messages do not finish, is told as the
//! channel's [`Head`].

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use super::head::{Head, PINNED_BY, PINNED_FOR, SILENT_FOR};

/// How long something finished waits for the messages before it, in any case.
const PATIENCE: Duration = Duration::from_millis(5);

/// For how long those of which there are few wait, and for how long one message may hold up others: longer than what is to be
/// parked gathers.
const HEAD_PATIENCE: Duration = Duration::from_millis(150);

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
    /// Since when the straggler at the head holds up others.
    held_up_since: Option<Instant>,
    /// So many may wait behind it for more than [`PATIENCE`].
    may_wait: usize,
    /// How many acks were written alone since `acked_to` last moved.
    alone: u32,
    /// When the first of them was written.
    alone_since: Option<Instant>,
    /// Up to which tag the channel had given messages, at some moments. At most one of them is older than [`SILENT_FOR`].
    given: VecDeque<(Instant, u64)>,
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
            self.held_up_since.get_or_insert(now);
        }
    }

    /// So many finished messages may wait for a straggler: a small part of what may be in hand.
    pub(super) fn may_wait(&mut self, messages: usize) {
        self.may_wait = messages;
    }

    /// The next ack that is due, if any. Call until it answers `None`.
    pub(super) fn next_ack(&mut self, now: Instant) -> Option<Ack> {
        self.prefix(now).or_else(|| self.straggling(now))
    }

    /// When [`Ledger::next_ack`] has something even if nothing more finishes.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.waiting.front().map(|(since, _)| self.due(*since))
    }

    /// When everything that is finished is due, if anything is and none may wait any longer.
    pub(super) fn all_due(&self) -> Option<Instant> {
        self.waiting.back().map(|(since, _)| *since + PATIENCE)
    }

    /// When something that finished then is acked alone.
    fn due(&self, since: Instant) -> Instant {
        let alone = since + PATIENCE;
        let held_up_since = self.held_up_since.filter(|_| self.waiting.len() <= self.may_wait);
        // A straggler that came to the head later makes it wait no longer.
        held_up_since.map_or(alone, |it| alone.max(it.min(since) + HEAD_PATIENCE))
    }

    /// The channel has given messages up to this tag by now. Say so now and then.
    pub(super) fn gave(&mut self, tag: u64, now: Instant) {
        self.given.push_back((now, tag));
        while self.given.get(1).is_some_and(|(since, _)| *since + SILENT_FOR <= now) {
            self.given.pop_front();
        }
    }

    /// Whether acks are written alone, again and again, behind one message that does not finish.
    pub(super) fn is_pinned(&self, now: Instant) -> bool {
        self.alone >= PINNED_BY && self.alone_since.is_some_and(|since| since + PINNED_FOR <= now)
    }

    /// What holds up the channel.
    pub(super) fn head(&self, now: Instant) -> Head {
        Head { pinned: self.is_pinned(now), silent: self.silent(now) }
    }

    /// How many messages are not finished that were given [`SILENT_FOR`] ago.
    fn silent(&self, now: Instant) -> usize {
        let old = self.given.iter().rev().find(|(since, _)| *since + SILENT_FOR <= now);
        let Some(count) = old.and_then(|(_, tag)| usize::try_from(tag.saturating_sub(self.acked_to)).ok()) else {
            return 0;
        };
        let unfinished = self.slots.iter().take(count).filter(|slot| **slot == Slot::Open).count();
        unfinished + count.saturating_sub(self.slots.len())
    }

    fn prefix(&mut self, now: Instant) -> Option<Ack> {
        let mut last = None;
        while let Some(slot) = self.slots.front() {
            match slot {
                Slot::Open => break,
                Slot::Finished => last = Some(self.acked_to + 1),
                Slot::Acked => {}
            }
            self.slots.pop_front();
            self.acked_to += 1;
            (self.alone, self.alone_since) = (0, None);
        }
        let acked_to = self.acked_to;
        if last.is_some() {
            // All of them: one that finished before another may stand behind it.
            self.waiting.retain(|(_, tag)| *tag > acked_to);
            self.held_up_since = (!self.waiting.is_empty()).then_some(now);
        }
        last.map(|tag| Ack { tag, multiple: true })
    }

    fn straggling(&mut self, now: Instant) -> Option<Ack> {
        while let Some((since, tag)) = self.waiting.front().copied() {
            if now < self.due(since) {
                return None;
            }
            self.waiting.pop_front();
            let position = tag.checked_sub(self.acked_to + 1).and_then(|position| usize::try_from(position).ok());
            if let Some(slot) = position.and_then(|position| self.slots.get_mut(position)) {
                *slot = Slot::Acked;
                self.alone = self.alone.saturating_add(1);
                self.alone_since.get_or_insert(now);
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
    fn where_nothing_may_wait_what_is_finished_is_acked_alone_after_five_milliseconds() {
        let (mut ledger, now) = (Ledger::default(), Instant::now());
        ledger.finish(2, now);
        assert_eq!(ledger.next_ack(now), None);
        assert_eq!(ledger.next_due(), Some(now + PATIENCE));
        assert_eq!(ledger.next_ack(now + PATIENCE), Some(Ack { tag: 2, multiple: false }));
        ledger.finish(1, now + PATIENCE);
        assert_eq!(ledger.next_ack(now + PATIENCE), Some(Ack { tag: 1, multiple: true }));
        assert_eq!(ledger.next_due(), None);
    }

    #[test]
    fn a_few_wait_for_a_straggler_that_is_finished_soon_and_are_acked_with_it() {
        let (mut ledger, start) = (Ledger::default(), Instant::now());
        ledger.may_wait(2);
        ledger.finish(2, start);
        ledger.finish(3, start + 2 * PATIENCE);
        assert_eq!(ledger.next_due(), Some(start + HEAD_PATIENCE));
        let end = start + HEAD_PATIENCE - PATIENCE;
        assert_eq!(ledger.next_ack(end), None);
        ledger.finish(1, end);
        assert_eq!(ledger.next_ack(end), Some(Ack { tag: 3, multiple: true }));
        assert_eq!((ledger.next_ack(end), ledger.next_due()), (None, None));
        // The next straggler may take as long.
        ledger.finish(5, end);
        assert_eq!(ledger.next_due(), Some(end + HEAD_PATIENCE));
    }

    #[test]
    fn nothing_waits_longer_because_of_a_second_straggler_nor_at_all_behind_one_that_stays() {
        let (mut ledger, start) = (Ledger::default(), Instant::now());
        ledger.may_wait(9);
        for tag in [2, 4] {
            ledger.finish(tag, start);
        }
        let second = start + HEAD_PATIENCE - PATIENCE;
        ledger.finish(1, second);
        assert_eq!(ledger.next_ack(second), Some(Ack { tag: 2, multiple: true }));
        assert_eq!(ledger.next_due(), Some(start + HEAD_PATIENCE), "as if the first were still there");
        assert_eq!(ledger.next_ack(start + HEAD_PATIENCE), Some(Ack { tag: 4, multiple: false }));
        ledger.finish(5, second + PATIENCE);
        assert_eq!(ledger.next_due(), Some(second + HEAD_PATIENCE));
        let end = second + HEAD_PATIENCE;
        assert_eq!(ledger.next_ack(end), Some(Ack { tag: 5, multiple: false }));
        ledger.finish(6, end);
        assert_eq!(ledger.next_due(), Some(end + PATIENCE), "it stays: nothing waits for it any more");
    }

    #[test]
    fn of_too_many_that_wait_the_oldest_are_acked_alone() {
        let (mut ledger, start) = (Ledger::default(), Instant::now());
        ledger.may_wait(2);
        for tag in 2..=5 {
            ledger.finish(tag, start);
        }
        assert_eq!(ledger.next_ack(start), None);
        let alone = |ledger: &mut Ledger| ledger.next_ack(start + PATIENCE);
        assert_eq!(alone(&mut ledger), Some(Ack { tag: 2, multiple: false }));
        assert_eq!(alone(&mut ledger), Some(Ack { tag: 3, multiple: false }));
        assert_eq!((alone(&mut ledger), ledger.next_due()), (None, Some(start + HEAD_PATIENCE)));
        ledger.may_wait(0);
        let end = ledger.all_due().unwrap();
        assert_eq!((end, write(&mut ledger, end)), (start + PATIENCE, 2), "at the end nothing is left");
    }

    #[test]
    fn when_all_is_due_nothing_that_is_finished_is_left() {
        let (mut ledger, start) = (Ledger::default(), Instant::now());
        for (tag, after) in [(2, 0), (5, 3), (4, 40)] {
            ledger.finish(tag, start + Duration::from_millis(after));
        }
        assert_eq!(write(&mut ledger, start + PATIENCE), 1);
        let end = ledger.all_due().unwrap();
        assert_eq!((write(&mut ledger, end), ledger.all_due()), (2, None));
    }

    /// Writes what is due; gives how many acks were written alone.
    fn write(ledger: &mut Ledger, now: Instant) -> usize {
        std::iter::from_fn(|| ledger.next_ack(now)).filter(|ack| !ack.multiple).count()
    }

    #[test]
    fn a_channel_is_pinned_by_many_acks_behind_one_message_for_a_while_and_free_when_that_is_finished() {
        let (mut ledger, start) = (Ledger::default(), Instant::now());
        let many = u64::from(PINNED_BY);
        for tag in 2..=many {
            ledger.finish(tag, start);
        }
        assert_eq!(write(&mut ledger, start + PATIENCE), 127);
        let later = start + PATIENCE + PINNED_FOR;
        assert!(!ledger.is_pinned(later), "one ack is missing");
        ledger.finish(many + 1, start + PATIENCE);
        assert_eq!(write(&mut ledger, start + 2 * PATIENCE), 1);
        assert!(!ledger.is_pinned(later - PATIENCE), "not for long enough");
        assert!(ledger.is_pinned(later));
        ledger.finish(1, later);
        assert_eq!(write(&mut ledger, later), 0);
        assert!(!ledger.is_pinned(later + PINNED_FOR));
    }

    #[test]
    fn what_was_given_a_second_ago_and_is_not_finished_is_silent_whether_anything_behind_it_is_or_not() {
        let (mut ledger, start) = (Ledger::default(), Instant::now());
        ledger.gave(10, start);
        assert_eq!(ledger.head(start + SILENT_FOR - PATIENCE).silent, 0);
        assert_eq!(ledger.head(start + SILENT_FOR).silent, 10);
        ledger.gave(30, start + SILENT_FOR);
        for tag in [1, 4, 20] {
            ledger.finish(tag, start + SILENT_FOR);
        }
        write(&mut ledger, start + SILENT_FOR + PATIENCE);
        assert_eq!(ledger.head(start + SILENT_FOR + PATIENCE).silent, 8);
        assert_eq!(ledger.head(start + 2 * SILENT_FOR).silent, 27);
    }

    proptest! {
        #[test]
        fn the_silent_are_those_that_were_there_at_an_old_look_and_are_unfinished(
            steps in proptest::collection::vec((0u64..4, proptest::option::of(0usize..40), 0u64..400), 1..80),
        ) {
            let (mut ledger, mut now) = (Ledger::default(), Instant::now());
            let (mut given, mut looks) = (0, Vec::new());
            let mut unfinished = BTreeSet::new();
            for (more, finishes, pause) in steps {
                now += Duration::from_millis(pause);
                unfinished.extend(given + 1..=given + more);
                given += more;
                if let Some(tag) = finishes.and_then(|at| unfinished.iter().nth(at).copied()) {
                    unfinished.remove(&tag);
                    ledger.finish(tag, now);
                }
                write(&mut ledger, now);
                ledger.gave(given, now);
                looks.push((now, given));
                let old = looks.iter().rev().find(|(at, _)| *at + SILENT_FOR <= now).map_or(0, |(_, tag)| *tag);
                prop_assert_eq!(ledger.head(now).silent, unfinished.range(..=old).count());
                prop_assert!(ledger.given.iter().filter(|(at, _)| *at + SILENT_FOR <= now).count() <= 1);
            }
        }

        #[test]
        fn only_finished_tags_are_acked_each_once_and_all_in_the_end(
            order in Just((1u64..=60).collect::<Vec<_>>()).prop_shuffle(),
            steps in proptest::collection::vec(prop_oneof![0u64..8, 0u64..90], 60),
            may_wait in 0usize..40,
        ) {
            let mut ledger = Ledger::default();
            ledger.may_wait(may_wait);
            let mut now = Instant::now();
            let mut unacked: BTreeSet<u64> = (1..=60).collect();
            let mut finished = BTreeSet::new();
            for (tag, step) in order.into_iter().zip(steps) {
                // What is due meanwhile is acked when it is.
                let end = now + Duration::from_millis(step);
                while let Some(due) = ledger.next_due().filter(|due| *due < end) {
                    prop_assert!(due >= now, "nothing is due before it was said to be");
                    now = due;
                    let ack = ledger.next_ack(now);
                    prop_assert!(ack.is_some(), "what is due can be acked");
                    prop_assert!(take(&mut unacked, ack.unwrap()).is_some());
                }
                now = end;
                ledger.finish(tag, now);
                finished.insert(tag);
                while let Some(ack) = ledger.next_ack(now) {
                    let acked = take(&mut unacked, ack);
                    prop_assert!(acked.is_some(), "an ack of nothing closes the channel");
                    prop_assert!(acked.unwrap_or_default().iter().all(|tag| finished.contains(tag)));
                }
                let waits = |since: &Instant| now.saturating_duration_since(*since);
                prop_assert!(ledger.waiting.iter().all(|(since, _)| waits(since) <= HEAD_PATIENCE), "none waits longer");
                let long = ledger.waiting.iter().filter(|(since, _)| waits(since) > PATIENCE).count();
                prop_assert!(long <= may_wait, "{long} wait for long");
            }
            prop_assert!(unacked.is_empty());
            prop_assert!(ledger.slots.is_empty() && ledger.waiting.is_empty());
        }
    }
}
