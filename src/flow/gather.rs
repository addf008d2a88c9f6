//! When what is to be parked leaves: at common moments of each delay queue, so that few messages hold much. The moments of one
//! queue lie between those of the others, so that little comes back at once. Pure: time is handed in.

use std::{collections::HashSet, time::Duration};

use crate::policy::wait::{self, Tier};

/// Where little is parked, what is for one delay queue leaves this seldom: few messages hold much. Late by so much is still
/// little beside the shortest wait.
const SELDOM: Duration = Duration::from_millis(100);

/// Where much is parked, or very many messages come in, it leaves in so many smaller parts, and where very much is parked, each
/// of them in so many again: a large one holds up the events that come behind it.
const PARTS: u32 = 5;

/// So many kinds of parked messages in [`SELDOM`] are little,
const LITTLE: usize = 25;

/// and more than so many are very much.
const MUCH: usize = LITTLE * PARTS as usize;

/// Where more messages than this come in, in [`SELDOM`], parking seldom costs the broker more than it saves: while one of them
/// waits for what it parks, only some of those behind it wait with their acks (`broker::acker`), and every other ack is one of its
/// own. Seldom was better with 240 of them, and worse with 800.
const BUSY: usize = 512;

/// And it is this part of the shortest wait, at most.
const PART_OF_UNIT: u32 = 10;

/// Says when each message leaves. One for each process.
#[derive(Debug)]
pub(super) struct Gathering {
    /// How far apart the moments of a delay queue are where little is parked.
    seldom: Duration,
    /// Which such time it is, counted from the beginning,
    current: u128,
    /// what kinds of messages are parked in it so far,
    parked: HashSet<u64>,
    /// how many messages came in,
    came_in: usize,
    /// how many kinds were parked in the one before,
    parked_before: usize,
    /// and how many messages came in.
    came_in_before: usize,
}

impl Gathering {
    /// For waits of at least one `unit`.
    pub(super) fn new(unit: Duration) -> Self {
        let seldom = SELDOM.min(unit / PART_OF_UNIT);
        Self { seldom, current: 0, parked: HashSet::new(), came_in: 0, parked_before: 0, came_in_before: 0 }
    }

    /// A message came in at `now`, counted from a fixed moment, whether or not something of it will be parked.
    pub(super) fn came_in(&mut self, now: Duration) {
        self.turn_to(now);
        self.came_in += 1;
    }

    /// Something is to be parked at `now`, counted likewise. What is of one kind would be one message if all waited as long as
    /// they may, and counts once: who waits less makes more messages, and not more to park.
    pub(super) fn parks(&mut self, now: Duration, kind: u64) {
        self.turn_to(now);
        self.parked.insert(kind);
    }

    fn turn_to(&mut self, now: Duration) {
        let current = now.as_nanos().checked_div(self.seldom.as_nanos()).unwrap_or_default();
        if current > self.current {
            let follows = current == self.current + 1;
            (self.parked_before, self.came_in_before) =
                if follows { (self.parked.len(), self.came_in) } else { (0, 0) };
            self.current = current;
            self.parked.clear();
            self.came_in = 0;
        }
    }

    /// How long a message that opens at `now` for a delay queue, for what was just said to be parked, waits for others of its
    /// kind.
    pub(super) fn wait(&self, now: Duration, tier: Tier) -> Duration {
        until_its_moment(now, tier, self.seldom / self.parts())
    }

    /// The same for a message that takes several kinds. However much there is, that is few messages, and sooner they would be
    /// many: it never leaves as soon as the others do where very much is parked.
    pub(super) fn wait_together(&self, now: Duration, tier: Tier) -> Duration {
        until_its_moment(now, tier, self.seldom / self.parts().min(PARTS))
    }

    fn parts(&self) -> u32 {
        let parked = self.parked_before.max(self.parked.len());
        let came_in = self.came_in_before.max(self.came_in);
        if parked > MUCH {
            PARTS * PARTS
        } else if parked > LITTLE || came_in > BUSY {
            PARTS
        } else {
            1
        }
    }
}

/// How long until the next moment of a delay queue whose moments are `every` apart.
fn until_its_moment(now: Duration, tier: Tier, every: Duration) -> Duration {
    wait::until_next((now + every).saturating_sub(tier.part_of(every)), every)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn shortest() -> Tier {
        Tier::all().next().unwrap()
    }

    /// So many kinds at once; the wait of the last one, in the shortest delay queue.
    fn wait(gathering: &mut Gathering, at: u32, kinds: u64) -> Duration {
        for kind in 1..=kinds {
            gathering.parks(MS * at, kind);
        }
        gathering.wait(MS * at, shortest())
    }

    fn gathering() -> Gathering {
        Gathering::new(Duration::from_secs(1))
    }

    #[test]
    fn little_leaves_every_100_ms() {
        let mut gathering = gathering();
        for at in [0, 30, 99, 100, 101, 599, 70_000] {
            assert_eq!(MS * at + wait(&mut gathering, at, 1), MS * (at / 100 + 1) * 100, "came at {at} ms");
        }
    }

    #[test]
    fn each_delay_queue_has_moments_of_its_own_as_far_apart_as_the_others() {
        let mut gathering = gathering();
        let leaves_at = |gathering: &mut Gathering, at, kinds| {
            (1..=kinds).for_each(|kind| gathering.parks(MS * at, kind));
            Tier::all().map(|tier| (MS * at + gathering.wait(MS * at, tier)).as_millis()).collect::<Vec<_>>()
        };
        assert_eq!(
            leaves_at(&mut gathering, 1_000, 1),
            [1_100, 1_010, 1_020, 1_030, 1_040, 1_050, 1_060, 1_070, 1_080, 1_090]
        );
        assert_eq!(
            leaves_at(&mut gathering, 1_050, 1),
            [1_100, 1_110, 1_120, 1_130, 1_140, 1_150, 1_060, 1_070, 1_080, 1_090]
        );
        assert_eq!(
            leaves_at(&mut gathering, 1_061, 26),
            [1_080, 1_062, 1_064, 1_066, 1_068, 1_070, 1_072, 1_074, 1_076, 1_078]
        );
    }

    #[test]
    fn much_leaves_every_20_ms_from_the_26th_on_and_in_the_100_ms_after_it() {
        let mut gathering = gathering();
        assert_eq!((wait(&mut gathering, 210, 25), wait(&mut gathering, 210, 26)), (MS * 90, MS * 10));
        assert_eq!(wait(&mut gathering, 305, 1), MS * 15);
        assert_eq!(wait(&mut gathering, 399, 1), MS);
        assert_eq!(wait(&mut gathering, 405, 1), MS * 95);
    }

    #[test]
    fn very_much_leaves_every_4_ms_from_the_126th_on_and_in_the_100_ms_after_it() {
        let mut gathering = gathering();
        assert_eq!((wait(&mut gathering, 201, 125), wait(&mut gathering, 201, 126)), (MS * 19, MS * 3));
        assert_eq!(wait(&mut gathering, 306, 1), MS * 2);
        assert_eq!(wait(&mut gathering, 405, 1), MS * 95);
    }

    #[test]
    fn where_very_many_messages_come_in_little_leaves_every_20_ms() {
        let mut gathering = gathering();
        let after = |gathering: &mut Gathering, at, messages| {
            (0..messages).for_each(|_| gathering.came_in(MS * at));
            wait(gathering, at, 1)
        };
        assert_eq!((after(&mut gathering, 210, 512), after(&mut gathering, 210, 1)), (MS * 90, MS * 10));
        assert_eq!((after(&mut gathering, 305, 0), after(&mut gathering, 405, 0)), (MS * 15, MS * 95));
        assert_eq!(after(&mut gathering, 701, 512 * 20), MS * 19, "however many come in");
    }

    #[test]
    fn very_much_leaves_every_4_ms_also_where_very_many_messages_come_in() {
        let mut gathering = gathering();
        (0..513).for_each(|_| gathering.came_in(MS * 201));
        assert_eq!(wait(&mut gathering, 201, 126), MS * 3);
        assert_eq!(gathering.wait_together(MS * 201, shortest()), MS * 19);
    }

    #[test]
    fn what_is_told_late_forgets_nothing() {
        let mut gathering = gathering();
        wait(&mut gathering, 301, 126);
        gathering.came_in(MS * 299);
        assert_eq!(wait(&mut gathering, 302, 1), MS * 2);
    }

    #[test]
    fn very_much_of_several_kinds_together_leaves_every_20_ms() {
        let mut gathering = gathering();
        wait(&mut gathering, 201, 126);
        assert_eq!(gathering.wait_together(MS * 201, shortest()), MS * 19);
    }

    #[test]
    fn many_messages_of_few_kinds_are_little_however_soon_they_leave() {
        let mut gathering = gathering();
        for at in 210..300 {
            assert_eq!(wait(&mut gathering, at, 25), MS * (300 - at));
        }
    }

    #[test]
    fn much_that_came_longer_ago_does_not_count() {
        let mut gathering = gathering();
        wait(&mut gathering, 250, 200);
        assert_eq!(wait(&mut gathering, 405, 1), MS * 95);
    }

    #[test]
    fn shorter_waits_gather_for_a_shorter_time() {
        assert_eq!(wait(&mut Gathering::new(MS * 100), 1, 1), MS * 9);
        assert_eq!(wait(&mut Gathering::new(Duration::ZERO), 1, 1), Duration::ZERO);
    }
}
