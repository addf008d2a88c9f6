//! What part of every limit a replica may use. A pure state machine: no I/O, no clock. Each poll of the presence queue
//! goes in, a [`Share`] comes out.
//!
//! The rules, a *period* being the time between two polls of one replica:
//! * A replica that joins may use no limit before it was counted by all others: not at the first poll that sees others,
//!   and not at the next. At the third it may. One that is alone may at once.
//! * More replicas count at once, fewer only after three equal polls in a row: one that left may not have heard of it.
//! * A poll that told nothing changes nothing; the second in a row ends the use of limits until a poll tells something.
//! * A replica that loses the broker uses no limit until it has joined anew. The number it knew stays.
//!
//! What follows, as the tests at the end try to disprove: at every moment the shares 1/N of all that use limits are
//! together at most 1, whoever joins, leaves, dies, loses the broker or hears nothing from it. For whoever uses limits was
//! counted by every other one that does: say `i` and `j` use them, and `j` joined after the last poll that told `i`
//! something. Then `j` saw `i`, and waited for two periods after its first poll; and in that time `i` was told of `j`, or
//! has stopped. So N of each is at least the number of all that use limits.
//!
//! The bound leaves out one that the broker counts no more and that does not know it. It stops within two periods of the
//! last poll that told it something, and until then nobody who was there takes over its share; only a newcomer may begin
//! beside it. A replica that hears nothing is not such a one: it stops long before the broker gives it up.

use std::num::NonZeroU32;

/// Polls that a replica lets pass before it uses limits, the first that sees others included.
const POLLS_BEFORE_USE: u32 = 2;

/// Equal polls in a row that it takes to believe in fewer replicas.
const POLLS_TO_FALL: u32 = 3;

/// Polls in a row that told nothing before limits are used no more.
const POLLS_IN_THE_DARK: u32 = 2;

/// A replica's part of every limit: one of so many equal ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// How many replicas share the limits.
    pub replicas: NonZeroU32,
    /// Whether anything limited may be sent at all.
    pub limited: bool,
    /// Rises with every change of the other two.
    pub since: u64,
}

impl Share {
    /// The share of a replica that has not joined.
    pub const NOT_JOINED: Self = Self { replicas: NonZeroU32::MIN, limited: false, since: 0 };

    fn changed(self, replicas: NonZeroU32, limited: bool) -> Self {
        if (replicas, limited) == (self.replicas, self.limited) {
            self
        } else {
            Self { replicas, limited, since: self.since + 1 }
        }
    }
}

/// One stay among the replicas, from the moment that this one is counted until it loses the broker.
#[derive(Debug)]
pub struct Presence {
    share: Share,
    /// Polls that must still pass before limits are used.
    must_pass: u32,
    /// Fewer replicas than the share says, and how many polls in a row said so.
    fewer: Option<(NonZeroU32, u32)>,
    /// Polls in a row that told nothing.
    in_the_dark: u32,
}

impl Presence {
    /// Begins a stay: the broker counts this replica from now on. `last` is the share at the end of the stay before.
    #[must_use]
    pub fn join(last: Share) -> Self {
        let share = last.changed(last.replicas, false);
        Self { share, must_pass: POLLS_BEFORE_USE, fewer: None, in_the_dark: 0 }
    }

    /// The share now.
    #[must_use]
    pub fn share(&self) -> Share {
        self.share
    }

    /// A poll counted so many replicas, this one included. None at all is no count: it tells nothing.
    pub fn counted(&mut self, count: u32) {
        let Some(count) = NonZeroU32::new(count) else { return self.told_nothing() };
        self.in_the_dark = 0;
        let alone = count == NonZeroU32::MIN;
        let replicas = match self.must_pass {
            1.. if alone => {
                self.must_pass = 0;
                self.fewer = None;
                count
            }
            _ => self.believed(count),
        };
        let may = self.must_pass == 0;
        self.must_pass = self.must_pass.saturating_sub(1);
        self.share = self.share.changed(replicas, may);
    }

    /// A poll was not answered within the period, or its answer tells nothing.
    pub fn told_nothing(&mut self) {
        self.in_the_dark = self.in_the_dark.saturating_add(1);
        if self.in_the_dark >= POLLS_IN_THE_DARK {
            self.share = self.share.changed(self.share.replicas, false);
        }
    }

    /// Ends a stay, before the broker counts this replica no more.
    #[must_use]
    pub fn leave(self) -> Share {
        self.share.changed(self.share.replicas, false)
    }

    /// How many replicas to reckon with after a poll counted so many.
    fn believed(&mut self, count: NonZeroU32) -> NonZeroU32 {
        if count >= self.share.replicas {
            self.fewer = None;
            return count;
        }
        let polls = match self.fewer {
            Some((fewer, polls)) if fewer == count => polls + 1,
            _ => 1,
        };
        self.fewer = (polls < POLLS_TO_FALL).then_some((count, polls));
        if polls < POLLS_TO_FALL { self.share.replicas } else { count }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn share(replicas: u32, limited: bool) -> (u32, bool) {
        (replicas, limited)
    }

    /// What a replica says after each of these polls.
    fn polled(presence: &mut Presence, counts: &[u32]) -> Vec<(u32, bool)> {
        let after = |count: &u32| {
            presence.counted(*count);
            share(presence.share().replicas.get(), presence.share().limited)
        };
        counts.iter().map(after).collect()
    }

    #[test]
    fn who_is_alone_may_send_at_once_and_who_sees_others_lets_two_polls_pass() {
        assert_eq!(Presence::join(Share::NOT_JOINED).share(), Share::NOT_JOINED);
        let mut first = Presence::join(Share::NOT_JOINED);
        assert_eq!(polled(&mut first, &[1, 1]), [share(1, true), share(1, true)]);
        let mut second = Presence::join(Share::NOT_JOINED);
        assert_eq!(polled(&mut second, &[2, 3, 3]), [share(2, false), share(3, false), share(3, true)]);
        let mut left_behind = Presence::join(Share::NOT_JOINED);
        assert_eq!(polled(&mut left_behind, &[2, 1]), [share(2, false), share(1, true)]);
    }

    #[test]
    fn more_count_at_once_and_fewer_after_three_equal_polls_in_a_row() {
        let mut presence = Presence::join(Share::NOT_JOINED);
        let told = polled(&mut presence, &[1, 4, 3, 3, 4, 3, 3, 2, 2, 2, 5]);
        let replicas: Vec<_> = told.iter().map(|(replicas, _)| *replicas).collect();
        assert_eq!(replicas, [1, 4, 4, 4, 4, 4, 4, 4, 4, 2, 5]);
        assert!(told.iter().all(|(_, limited)| *limited), "who has joined stays");
    }

    #[test]
    fn a_poll_that_tells_nothing_is_overlooked_and_the_second_in_a_row_is_not() {
        let mut presence = Presence::join(Share::NOT_JOINED);
        polled(&mut presence, &[1]);
        let joined = presence.share();
        presence.told_nothing();
        assert_eq!(presence.share(), joined);
        assert_eq!(polled(&mut presence, &[0, 0, 1]), [share(1, false), share(1, false), share(1, true)]);
        assert_eq!(presence.share().since, joined.since + 2);
    }

    #[test]
    fn who_loses_the_broker_keeps_the_number_and_joins_anew() {
        let mut presence = Presence::join(Share::NOT_JOINED);
        polled(&mut presence, &[1, 3]);
        let lost = presence.leave();
        assert_eq!(share(lost.replicas.get(), lost.limited), share(3, false));
        let mut again = Presence::join(lost);
        assert_eq!(again.share(), lost);
        assert_eq!(polled(&mut again, &[2, 2, 2]), [share(3, false), share(3, false), share(2, true)]);
        let mut alone = Presence::join(lost);
        assert_eq!(polled(&mut alone, &[1]), [share(1, true)]);
    }

    /// Replicas at once, at most.
    const REPLICAS: usize = 6;

    /// One share of 1, so that every 1/N of so many replicas is whole.
    const WHOLE: u32 = 60;

    /// Moments in a period.
    const PERIOD: u64 = 6;

    #[derive(Debug, Clone, Copy)]
    enum Happens {
        /// It connects, and polls after so many moments, then each period.
        Joins(u64),
        /// It loses the broker, or leaves, and both know it.
        Leaves,
        /// It is killed; the next to join under its number knows nothing.
        Dies,
        /// The broker counts it no more, and it does not know it yet.
        IsCutOff,
        /// Its next poll tells nothing.
        HearsNothing,
    }

    /// A broker and its replicas.
    #[derive(Debug, Default)]
    struct Model {
        now: u64,
        replicas: [Replica; REPLICAS],
    }

    #[derive(Debug)]
    struct Replica {
        presence: Option<Presence>,
        /// What it remembers while it is away.
        last: Share,
        is_counted: bool,
        next_poll: u64,
        /// When a poll last told it something.
        told: u64,
        hears_nothing: bool,
        /// It began to use limits while somebody who was cut off went on.
        began_beside: bool,
    }

    impl Default for Replica {
        fn default() -> Self {
            let (last, presence) = (Share::NOT_JOINED, None);
            let (is_counted, hears_nothing, began_beside) = (false, false, false);
            Self { presence, last, is_counted, next_poll: 0, told: 0, hears_nothing, began_beside }
        }
    }

    impl Replica {
        /// Its part of [`WHOLE`], while it uses limits.
        fn uses(&self) -> u32 {
            let share = self.presence.as_ref().map_or(Share::NOT_JOINED, Presence::share);
            if share.limited { WHOLE / share.replicas } else { 0 }
        }

        fn happens(&mut self, what: Happens, now: u64) {
            match (what, self.presence.take()) {
                (Happens::Joins(after), None) => {
                    self.presence = Some(Presence::join(self.last));
                    (self.is_counted, self.next_poll, self.told) = (true, now + after, now);
                    (self.hears_nothing, self.began_beside) = (false, false);
                }
                (Happens::Leaves, Some(presence)) => (self.last, self.is_counted) = (presence.leave(), false),
                (Happens::Dies, _) => *self = Self::default(),
                (Happens::IsCutOff, presence) => (self.is_counted, self.presence) = (false, presence),
                (Happens::HearsNothing, presence) => (self.hears_nothing, self.presence) = (true, presence),
                (Happens::Joins(_) | Happens::Leaves, presence) => self.presence = presence,
            }
        }
    }

    impl Model {
        fn count(&self) -> u32 {
            self.replicas.iter().map(|replica| u32::from(replica.is_counted)).sum()
        }

        /// What those use together that the broker counts, or that it counts no more.
        fn used(&self, counted: bool) -> u32 {
            self.replicas.iter().filter(|replica| replica.is_counted == counted).map(Replica::uses).sum()
        }

        /// All polls up to a moment, and that moment's.
        fn until(&mut self, end: u64) {
            loop {
                let (count, somebody_goes_on) = (self.count(), self.used(false) > 0);
                for replica in &mut self.replicas {
                    let before = replica.uses();
                    let Some(presence) = replica.presence.as_mut().filter(|_| replica.next_poll == self.now) else {
                        continue;
                    };
                    if !replica.is_counted || std::mem::take(&mut replica.hears_nothing) {
                        presence.told_nothing();
                    } else {
                        presence.counted(count);
                        replica.told = self.now;
                    }
                    replica.next_poll += PERIOD;
                    replica.began_beside |= before == 0 && replica.uses() > 0 && somebody_goes_on;
                }
                self.check();
                if self.now == end {
                    return;
                }
                self.now += 1;
            }
        }

        fn check(&self) {
            assert!(self.used(true) <= WHOLE, "{self:#?}");
            let goes_on = |replica: &&Replica| !replica.is_counted && replica.uses() > 0;
            for replica in self.replicas.iter().filter(goes_on) {
                assert!(self.now < replica.told + 2 * PERIOD, "{self:#?}");
            }
            if !self.replicas.iter().any(|replica| replica.began_beside) {
                assert!(self.used(true) + self.used(false) <= WHOLE, "{self:#?}");
            }
        }
    }

    fn happens() -> impl Strategy<Value = Happens> {
        prop_oneof![
            3 => (0..PERIOD).prop_map(Happens::Joins),
            1 => Just(Happens::Leaves),
            1 => Just(Happens::Dies),
            1 => Just(Happens::IsCutOff),
            2 => Just(Happens::HearsNothing),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn whoever_joins_leaves_dies_or_hears_nothing_all_shares_in_use_are_together_at_most_one(
            story in prop::collection::vec((0..2 * PERIOD, 0..REPLICAS, happens()), 1..60),
        ) {
            let mut model = Model::default();
            for (after, number, what) in story {
                model.until(model.now + after);
                let now = model.now;
                model.replicas[number].happens(what, now);
                // Not before this moment's polls: several things may happen at once.
            }
            // Once nothing happens any more, everybody soon uses exactly its part.
            model.until(model.now + 8 * PERIOD);
            let expected = model.count().min(1) * (WHOLE / model.count().max(1)) * model.count();
            prop_assert_eq!(model.used(true) + model.used(false), expected, "{:#?}", model);
        }
    }
}
