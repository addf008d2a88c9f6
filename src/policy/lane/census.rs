//! Counts lanes and what they do as it changes, so that nobody has to look through all of them; and remembers which
//! targets are down, or were lately.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use super::health::Health;
use crate::domain::LaneKey;

/// No more targets are remembered than this: who watches a hundred that are down knows what is the matter.
const MOST_FALLEN: usize = 100;

/// For how long one that is up again is remembered.
const REMEMBERED: Duration = Duration::from_mins(10);

/// The counts.
#[derive(Debug, Default)]
pub(super) struct Census {
    pub(super) in_flight: u32,
    by_health: [usize; 3],
    /// Lanes whose targets are down, and since when they are up again.
    fallen: HashMap<LaneKey, Option<Duration>>,
}

impl Census {
    /// A lane is known now.
    pub(super) fn came(&mut self) {
        *self.count(Health::default()) += 1;
    }

    /// A lane is forgotten.
    pub(super) fn went(&mut self, lane: &LaneKey, health: Health) {
        let count = self.count(health);
        *count = count.saturating_sub(1);
        self.fallen.remove(lane);
    }

    /// What is known of a lane's target is another thing now.
    pub(super) fn changed(&mut self, now: Duration, lane: &LaneKey, (old, new): (Health, Health)) {
        if old == new {
            return;
        }
        let count = self.count(old);
        *count = count.saturating_sub(1);
        *self.count(new) += 1;
        match new {
            Health::Down => {
                self.make_room(now);
                if self.fallen.len() < MOST_FALLEN || self.fallen.contains_key(lane) {
                    self.fallen.insert(lane.clone(), None);
                }
            }
            Health::Answering => {
                if let Some(up) = self.fallen.get_mut(lane) {
                    *up = up.or(Some(now));
                }
            }
            // It was answering: it is not down yet.
            Health::Suspect => {}
        }
    }

    /// Lanes whose targets answer, are in doubt, and are down.
    pub(super) fn by_health(&self) -> [usize; 3] {
        self.by_health
    }

    /// Lanes whose targets are down, or were lately, and whether they are up again.
    pub(super) fn fallen(&mut self, now: Duration) -> Vec<(LaneKey, bool)> {
        self.forget(now);
        let fallen: BTreeMap<_, _> = self.fallen.iter().map(|(lane, up)| (lane.clone(), up.is_some())).collect();
        fallen.into_iter().collect()
    }

    /// Those that are up again go first, the one that has been up for longest before the others.
    fn make_room(&mut self, now: Duration) {
        if self.fallen.len() < MOST_FALLEN {
            return;
        }
        self.forget(now);
        if self.fallen.len() >= MOST_FALLEN {
            let up = self.fallen.iter().filter_map(|(lane, up)| Some(((*up)?, lane)));
            let longest = up.min().map(|(_, lane)| lane.clone());
            longest.map(|lane| self.fallen.remove(&lane));
        }
    }

    fn forget(&mut self, now: Duration) {
        self.fallen.retain(|_, up| up.is_none_or(|since| now.saturating_sub(since) <= REMEMBERED));
    }

    fn count(&mut self, health: Health) -> &mut usize {
        let [answering, suspect, down] = &mut self.by_health;
        match health {
            Health::Answering => answering,
            Health::Suspect => suspect,
            Health::Down => down,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn key(n: u32) -> LaneKey {
        LaneKey::of_place(&"acme".parse().unwrap(), &format!("https://h{n:04}"), None)
    }

    #[test]
    fn a_target_that_was_down_is_remembered_for_ten_minutes_after_it_answers() {
        let mut census = Census::default();
        census.came();
        census.changed(SECOND, &key(1), (Health::Suspect, Health::Down));
        assert_eq!(census.fallen(9000 * SECOND), [(key(1), false)]);
        census.changed(9000 * SECOND, &key(1), (Health::Down, Health::Answering));
        census.changed(9001 * SECOND, &key(1), (Health::Answering, Health::Suspect));
        assert_eq!(census.fallen(9600 * SECOND), [(key(1), true)]);
        assert_eq!(census.fallen(9601 * SECOND), []);
        assert_eq!(census.by_health(), [0, 1, 0]);
    }

    #[test]
    fn a_hundred_are_remembered_and_those_that_are_up_again_make_room() {
        let mut census = Census::default();
        for n in 0..150 {
            census.came();
            census.changed(SECOND, &key(n), (Health::Suspect, Health::Down));
        }
        assert_eq!((census.fallen(SECOND).len(), census.by_health()), (MOST_FALLEN, [0, 0, 150]));
        census.changed(2 * SECOND, &key(7), (Health::Down, Health::Answering));
        census.came();
        census.changed(3 * SECOND, &key(200), (Health::Suspect, Health::Down));
        let fallen = census.fallen(3 * SECOND);
        assert!(fallen.contains(&(key(200), false)) && fallen.iter().all(|(lane, _)| *lane != key(7)));
        census.went(&key(200), Health::Down);
        assert_eq!(census.fallen(3 * SECOND).len(), MOST_FALLEN - 1);
    }
}
