//! Where the subscriptions in force lead, lane by lane, and which lanes are paused. Immutable, like the snapshot that it is a
//! part of: a change makes another one that shares what did not change.

use std::ops::Bound;

use rpds::{HashTrieMapSync, RedBlackTreeMapSync};

use crate::domain::{LaneKey, OrganizationId, RateLimit, Subscription, TargetId, Timestamp};

/// A target's place in the order of all: one organization's lie together.
pub type TargetPlace = (OrganizationId, TargetId);

/// All lanes that a subscription leads to, enabled or not, and all that are paused.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LaneIndex {
    by_place: RedBlackTreeMapSync<TargetPlace, KnownLane>,
    paused: HashTrieMapSync<LaneKey, Paused>,
}

/// What is known of a lane on every replica.
#[derive(Debug, Clone, PartialEq)]
pub struct KnownLane {
    /// Which it is.
    pub key: LaneKey,
    /// How many subscriptions lead there, enabled or not.
    pub subscriptions: u32,
    /// Their limits, which they have in common; `None` when there are no subscriptions any more.
    pub limits: Option<Limits>,
}

/// The limits of a lane.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// How many requests may be in flight.
    pub max_in_flight: u32,
    /// How many may be sent in a time.
    pub rate_limit: Option<RateLimit>,
}

impl Limits {
    fn of(subscription: &Subscription) -> Self {
        Self { max_in_flight: subscription.max_in_flight, rate_limit: subscription.rate_limit }
    }
}

#[derive(Debug, Clone, PartialEq)]
struct Paused {
    organization: OrganizationId,
    at: Timestamp,
}

impl LaneIndex {
    /// Since when a lane is paused; `None` when it is not.
    #[must_use]
    pub fn paused(&self, lane: &LaneKey) -> Option<Timestamp> {
        // Nearly always, and for every delivery.
        if self.paused.is_empty() {
            return None;
        }
        self.paused.get(lane).map(|paused| paused.at)
    }

    /// The lane with this id, if it is the organization's; whosever it is, when none is named, which looks through all.
    #[must_use]
    pub fn find(&self, organization: Option<&OrganizationId>, id: TargetId) -> Option<(&OrganizationId, &KnownLane)> {
        match organization {
            Some(organization) => self.by_place.get_key_value(&(organization.clone(), id)),
            None => self.by_place.iter().find(|((_, it), _)| *it == id),
        }
        .map(|((organization, _), lane)| (organization, lane))
    }

    /// The lanes behind a place, in order; of one organization, or of all.
    pub fn after<'a>(
        &'a self,
        organization: Option<&'a OrganizationId>,
        place: Option<&TargetPlace>,
    ) -> impl Iterator<Item = (&'a TargetPlace, &'a KnownLane)> {
        let first = organization.map(|organization| Bound::Included((organization.clone(), TargetId::LEAST)));
        let behind = place.filter(|place| organization.is_none_or(|it| *it <= place.0));
        let begin = behind.map(|place| Bound::Excluded(place.clone())).or(first).unwrap_or(Bound::Unbounded);
        self.by_place
            .range::<TargetPlace, _>((begin, Bound::Unbounded))
            .take_while(move |((owner, _), _)| organization.is_none_or(|it| it == owner))
    }

    /// How many lanes are paused.
    pub(super) fn count_paused(&self) -> usize {
        self.paused.size()
    }

    /// Every lane that is paused, with whose it is.
    pub(super) fn all_paused(&self) -> impl Iterator<Item = (&LaneKey, &OrganizationId)> {
        self.paused.iter().map(|(lane, paused)| (lane, &paused.organization))
    }

    /// A subscription is another one now, or comes, or goes.
    pub(super) fn change(&mut self, old: Option<&Subscription>, new: Option<&Subscription>) {
        if let (Some(old), Some(new)) = (old, new)
            && old.lane == new.lane
            && Limits::of(old) == Limits::of(new)
        {
            return;
        }
        if let Some(old) = old {
            let place = (old.organization.clone(), old.lane.id());
            if let Some(lane) = self.by_place.get(&place) {
                let subscriptions = lane.subscriptions.saturating_sub(1);
                let limits = lane.limits.filter(|_| subscriptions > 0);
                let lane = KnownLane { subscriptions, limits, ..lane.clone() };
                self.keep(place, lane);
            }
        }
        if let Some(new) = new {
            let place = (new.organization.clone(), new.lane.id());
            let subscriptions = self.by_place.get(&place).map_or(0, |lane| lane.subscriptions).saturating_add(1);
            let lane = KnownLane { key: new.lane.clone(), subscriptions, limits: Some(Limits::of(new)) };
            self.keep(place, lane);
        }
    }

    /// A lane is paused since then, or resumed. Says whether it was not before.
    pub(super) fn pause(&mut self, organization: OrganizationId, key: LaneKey, at: Option<Timestamp>) -> bool {
        if self.paused(&key) == at {
            return false;
        }
        match at {
            Some(at) => self.paused.insert_mut(key.clone(), Paused { organization: organization.clone(), at }),
            None => drop(self.paused.remove_mut(&key)),
        }
        let place = (organization, key.id());
        let known = self.by_place.get(&place).cloned();
        self.keep(place, known.unwrap_or(KnownLane { key, subscriptions: 0, limits: None }));
        true
    }

    /// Keeps a lane as long as there is a reason to.
    fn keep(&mut self, place: TargetPlace, lane: KnownLane) {
        if lane.subscriptions > 0 || self.paused.contains_key(&lane.key) {
            self.by_place.insert_mut(place, lane);
        } else {
            self.by_place.remove_mut(&place);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::{collection::vec, option, prelude::*, sample::select};

    use super::*;
    use crate::store::{file::tests::defaults, parse};

    type Model = BTreeMap<&'static str, Subscription>;

    #[derive(Debug, Clone)]
    enum Happens {
        Put(&'static str, Option<Box<Subscription>>),
        Pause(LaneKey, OrganizationId, Option<i64>),
    }

    fn subscription() -> impl Strategy<Value = Subscription> {
        (select(&["acme", "umbrella"][..]), select(&["http://one/a", "http://one/b", "http://two/"][..]), option::of(1..3u32))
            .prop_map(|(organization, url, own)| {
                let own = own.map(|own| format!(", max_in_flight: {own}")).unwrap_or_default();
                let text = format!(
                    "subscriptions: [{{id: s, organization: {organization}, events: [document_text], target: {{url: '{url}'}}{own}}}]"
                );
                parse(&text, &defaults()).unwrap().remove(0)
            })
    }

    fn happens() -> impl Strategy<Value = Happens> {
        prop_oneof![
            3 => (select(&["a", "b", "c", "d"][..]), option::weighted(0.7, subscription().prop_map(Box::new)))
                .prop_map(|(id, put)| Happens::Put(id, put)),
            1 => (subscription(), option::of(0i64..3))
                .prop_map(|(it, at)| Happens::Pause(it.lane, it.organization, at)),
        ]
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix(seconds, 0).unwrap()
    }

    proptest! {
        #[test]
        fn after_any_changes_exactly_what_is_used_or_paused_is_known_each_with_its_owner(all in vec(happens(), 0..40)) {
            let (mut index, mut model) = (LaneIndex::default(), Model::new());
            let mut paused: BTreeMap<LaneKey, (OrganizationId, Timestamp)> = BTreeMap::new();
            for it in all {
                match it {
                    Happens::Put(id, new) => {
                        let old = model.remove(id);
                        index.change(old.as_ref(), new.as_deref());
                        model.extend(new.map(|new| (id, *new)));
                    }
                    Happens::Pause(lane, owner, seconds) => {
                        let before = paused.remove(&lane).map(|it| it.1);
                        paused.extend(seconds.map(|it| (lane.clone(), (owner.clone(), at(it)))));
                        prop_assert_eq!(index.pause(owner, lane, seconds.map(at)), before != seconds.map(at));
                    }
                }
            }
            let mut expected: BTreeMap<TargetPlace, (LaneKey, u32)> = BTreeMap::new();
            for it in model.values() {
                expected.entry((it.organization.clone(), it.lane.id())).or_insert((it.lane.clone(), 0)).1 += 1;
            }
            for (lane, (owner, since)) in &paused {
                expected.entry((owner.clone(), lane.id())).or_insert((lane.clone(), 0));
                prop_assert_eq!(index.paused(lane), Some(*since));
            }
            let found: BTreeMap<_, _> = index
                .after(None, None)
                .map(|(place, lane)| (place.clone(), (lane.key.clone(), lane.subscriptions)))
                .collect();
            prop_assert_eq!(&found, &expected);
            for (place, lane) in index.after(None, None) {
                prop_assert_eq!(lane.limits.is_some(), lane.subscriptions > 0);
                prop_assert_eq!(index.paused(&lane.key), paused.get(&lane.key).map(|it| it.1));
                prop_assert_eq!(index.find(Some(&place.0), place.1), Some((&place.0, lane)));
                prop_assert_eq!(index.find(None, place.1), Some((&place.0, lane)));
                prop_assert_eq!(index.find(Some(&"other".parse().unwrap()), place.1), None);
            }
        }

        #[test]
        fn pages_of_one_organization_hold_its_lanes_once_and_no_others(all in vec(subscription(), 0..12), page in 1usize..4) {
            let mut index = LaneIndex::default();
            for it in &all { index.change(None, Some(it)); }
            for owner in [Some("acme"), Some("umbrella"), Some("nobody"), None] {
                let owner: Option<OrganizationId> = owner.map(|it| it.parse().unwrap());
                let (mut told, mut last) = (Vec::new(), None);
                loop {
                    let found: Vec<_> =
                        index.after(owner.as_ref(), last.as_ref()).take(page).map(|(place, _)| place.clone()).collect();
                    last = found.last().cloned();
                    told.extend(found);
                    if last.is_none() { break; }
                }
                let mut expected: Vec<_> = all.iter()
                    .filter(|it| owner.as_ref().is_none_or(|owner| it.organization == *owner))
                    .map(|it| (it.organization.clone(), it.lane.id()))
                    .collect();
                expected.sort();
                expected.dedup();
                prop_assert_eq!(told, expected);
            }
        }
    }
}
