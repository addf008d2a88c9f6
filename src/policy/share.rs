//! What part of every limit a replica may use. A pure state machine: no I/O, no clock. Each poll of the presence queue
//! goes in, a [`Share`] comes out.
//!
//! The rules, a *period* being the time between two polls of one replica:
//! * A replica that joins may use no limit before it was counted by all others: not at the first poll that sees others,
//!   and not at the next. At the third it may. One that is alone may at once.
//! * More replicas count at once, fewer only after three equal polls in a row: one that left may not have heard of it.
//! * A poll that told nothing for a period ends the use of limits until one tells something.
//! * A replica that loses the broker uses no limit until it has joined anew. The number it knew stays.
//!
//! What follows, as the tests at the end try to disprove: at every moment the shares 1/N of all that use limits are
//! together at most 1, whoever joins, leaves, dies, loses the broker or hears nothing from it. For whoever uses limits was
//! counted by every other one that does: say `i` and `j` use them, and `j` joined after the last poll that told `i`
//! something. Then `j` saw `i`, and waited for two periods from its first poll. In that time `i` began its next poll,
//! within one period, and was told of `j` or has stopped, within another. So N of each is at least the number of all that
//! use limits.
//!
//! The bound leaves out one that the broker counts no more and that does not know it. It stops within two periods of the
//! last poll that told it something. Until then a newcomer may begin beside it, and whoever is told late may take over
//! its share too soon; nobody else does. Whoever just falls silent is none of these: it stops long before the broker
//! gives it up.

use std::num::NonZeroU32;

/// Polls that a replica lets pass before it uses limits, the first that sees others included.
const POLLS_BEFORE_USE: u32 = 2;

/// Equal polls in a row that it takes to believe in fewer replicas.
const POLLS_TO_FALL: u32 = 3;

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
}

impl Presence {
    /// Begins a stay: the broker counts this replica from now on. `last` is the share at the end of the stay before.
    #[must_use]
    pub fn join(last: Share) -> Self {
        let share = last.changed(last.replicas, false);
        Self { share, must_pass: POLLS_BEFORE_USE, fewer: None }
    }

    /// The share now.
    #[must_use]
    pub fn share(&self) -> Share {
        self.share
    }

    /// A poll counted so many replicas, this one included.
    pub fn counted(&mut self, count: NonZeroU32) {
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

    /// A poll told nothing for a whole period.
    pub fn told_nothing(&mut self) {
        self.share = self.share.changed(self.share.replicas, false);
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
            presence.counted(NonZeroU32::new(*count).unwrap());
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
    fn a_poll_that_tells_nothing_ends_the_use_of_limits_until_one_tells_something() {
        let mut presence = Presence::join(Share::NOT_JOINED);
        polled(&mut presence, &[1, 2]);
        let joined = presence.share();
        for _ in 0..2 {
            presence.told_nothing();
            assert_eq!(presence.share(), Share { limited: false, since: joined.since + 1, ..joined });
        }
        assert_eq!(polled(&mut presence, &[2]), [share(2, true)]);
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
        /// The broker counts it. It polls after so many moments, then each period.
        Joins(u64),
        /// It loses the broker, or leaves, and both know it.
        Leaves,
        /// It is killed; the next to join under its number knows nothing.
        Dies,
        /// The broker counts it no more, and it does not know it yet.
        IsCutOff,
        /// Its next poll is answered after so many moments; after a period it has told nothing.
        IsSlow(u64),
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
        /// When the next poll begins, and when it is answered.
        poll: u64,
        answer: u64,
        /// When a poll last told it something.
        told: u64,
        /// It began to use limits while somebody who was cut off went on, or was told something late.
        may_exceed: bool,
    }

    impl Default for Replica {
        fn default() -> Self {
            let (last, presence, is_counted, may_exceed) = (Share::NOT_JOINED, None, false, false);
            Self { presence, last, is_counted, poll: 0, answer: 0, told: 0, may_exceed }
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
                    (self.is_counted, self.told, self.may_exceed) = (true, now, false);
                    (self.poll, self.answer) = (now + after, now + after);
                }
                (Happens::Leaves, Some(presence)) => (self.last, self.is_counted) = (presence.leave(), false),
                (Happens::Dies, _) => *self = Self::default(),
                (Happens::IsCutOff, presence) => (self.is_counted, self.presence) = (false, presence),
                (Happens::IsSlow(moments), presence) => {
                    self.may_exceed |= moments > 0;
                    (self.answer, self.presence) = ((self.poll + moments).max(now), presence);
                }
                (Happens::Joins(_) | Happens::Leaves, presence) => self.presence = presence,
            }
        }

        /// Takes the answers of this moment.
        fn is_answered(&mut self, now: u64, count: u32) {
            while self.due() == now
                && let Some(presence) = &mut self.presence
            {
                match NonZeroU32::new(count) {
                    Some(count) if self.is_counted && now < self.poll + PERIOD => {
                        presence.counted(count);
                        self.told = now;
                    }
                    _ => presence.told_nothing(),
                }
                (self.poll, self.answer) = (self.poll + PERIOD, self.poll + PERIOD);
            }
        }

        /// When its poll ends. Whoever is cut off is not answered.
        fn due(&self) -> u64 {
            if self.is_counted { self.answer } else { self.poll + PERIOD }
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
                    replica.is_answered(self.now, count);
                    replica.may_exceed |= before == 0 && replica.uses() > 0 && somebody_goes_on;
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
            if !self.replicas.iter().any(|replica| replica.may_exceed) {
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
            2 => (0..=PERIOD).prop_map(Happens::IsSlow),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        #[test]
        fn whoever_joins_leaves_dies_or_hears_nothing_all_shares_in_use_are_together_at_most_one(
            story in prop::collection::vec((0..2 * PERIOD, 0..REPLICAS, happens()), 1..60),
        ) {
            let mut model = Model::default();
            for (after, number, what) in story {
                model.until(model.now + after);
                let now = model.now;
                model.replicas[number].happens(what, now);
            }
            // Once nothing happens any more, everybody soon uses exactly its part.
            model.until(model.now + 8 * PERIOD);
            let expected = model.count().min(1) * (WHOLE / model.count().max(1)) * model.count();
            prop_assert_eq!(model.used(true) + model.used(false), expected, "{:#?}", model);
        }
    }
}
