//! All subscriptions at one moment, indexed for matching: by organization, then inbox or project, then event. Immutable:
//! a change makes another one that shares everything that did not change, and costs what changed.

use std::{collections::HashMap, hash::Hash, sync::Arc};

use rpds::HashTrieMapSync;

use super::{
    edits::{Change, Edits, Kept, Place},
    lanes::LaneIndex,
    scope::Scope,
};
use crate::domain::{
    EventName, InboxId, LaneKey, OrganizationId, ProjectId, State, Subscription, SubscriptionId, Timestamp,
};

/// All subscriptions at one moment. A clone costs nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Snapshot {
    by_id: HashTrieMapSync<SubscriptionId, Kept>,
    organizations: HashTrieMapSync<OrganizationId, OrganizationIndex>,
    /// Deleted ones, with whose they were, for as long as a delivery may wait.
    deleted: HashTrieMapSync<SubscriptionId, OrganizationId>,
    lanes: LaneIndex,
}

/// The subscriptions of one organization that match: all but those that their owner disabled. Nobody else's can be reached
/// from here.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct OrganizationIndex {
    unscoped: Scope,
    inboxes: HashTrieMapSync<InboxId, Scope>,
    projects: HashTrieMapSync<ProjectId, Scope>,
}

/// What is known of an id.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Found<'a> {
    /// It is there.
    Known(&'a Arc<Subscription>),
    /// It was deleted, and that is certain.
    Deleted,
    /// It is not there; it may come, or come back.
    Unknown,
}

/// Where a subscription is found.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Where {
    Anywhere,
    Inbox(InboxId),
    Project(ProjectId),
}

/// What becomes of one scope.
#[derive(Debug, Default)]
struct Touched {
    leave: Vec<(Place, Arc<Subscription>)>,
    come: Vec<(Place, Arc<Subscription>)>,
}

impl Snapshot {
    /// Indexes subscriptions; their order is the order of matches. No two may have the same id.
    #[must_use]
    pub fn new(subscriptions: Vec<Subscription>) -> Self {
        let mut edits = Edits::default();
        for (index, subscription) in subscriptions.into_iter().enumerate() {
            edits.put(Place::in_file(index), Arc::new(subscription));
        }
        Self::default().edited(edits).0
    }

    /// The snapshot after some edits. Costs as much as there are edits, and the scopes that they concern.
    #[must_use]
    pub fn edited(&self, edits: Edits) -> (Self, Change) {
        let (mut after, mut change) = (self.clone(), Change::default());
        let mut organizations: HashMap<OrganizationId, HashMap<Where, Touched>> = HashMap::new();
        for (id, new) in edits.by_id {
            let old = self.by_id.get(&id);
            match (old, &new) {
                (Some(old), Some(new)) if old == new => continue,
                (Some(old), Some(new)) => change.changed += usize::from(old.subscription != new.subscription),
                (Some(_), None) => change.removed += 1,
                (None, Some(_)) => change.added += 1,
                (None, None) => continue,
            }
            for kept in old.into_iter().filter(|kept| kept.matches()) {
                let scopes = organizations.entry(kept.subscription.organization.clone()).or_default();
                kept.scopes(|scope| scopes.entry(scope).or_default().leave.push(kept.clone().into_parts()));
            }
            for kept in new.iter().filter(|kept| kept.matches()) {
                let scopes = organizations.entry(kept.subscription.organization.clone()).or_default();
                kept.scopes(|scope| scopes.entry(scope).or_default().come.push(kept.clone().into_parts()));
            }
            after.lanes.change(old.map(|kept| &*kept.subscription), new.as_ref().map(|kept| &*kept.subscription));
            match new {
                Some(new) => after.by_id.insert_mut(id, new),
                None => drop(after.by_id.remove_mut(&id)),
            }
        }
        for (organization, scopes) in organizations {
            let index = self.organizations.get(&organization).cloned().unwrap_or_default().edited(scopes);
            if index == OrganizationIndex::default() {
                after.organizations.remove_mut(&organization);
            } else {
                after.organizations.insert_mut(organization, index);
            }
        }
        for (id, organization) in edits.deleted {
            match organization {
                Some(organization) => after.deleted.insert_mut(id, organization),
                None => drop(after.deleted.remove_mut(&id)),
            }
        }
        for (lane, (organization, at)) in edits.paused {
            change.pauses += usize::from(after.lanes.pause(organization, lane, at));
        }
        (after, change)
    }

    /// The subscription with this id, enabled or not.
    #[must_use]
    pub fn by_id(&self, id: &SubscriptionId) -> Option<&Arc<Subscription>> {
        self.by_id.get(id).map(|kept| &kept.subscription)
    }

    /// The same with its place.
    #[must_use]
    pub fn placed(&self, id: &SubscriptionId) -> Option<(Place, &Arc<Subscription>)> {
        self.by_id.get(id).map(|kept| (kept.place, &kept.subscription))
    }

    /// What is known of an organization's id. Somebody else's is unknown.
    #[must_use]
    pub fn find(&self, organization: &OrganizationId, id: &SubscriptionId) -> Found<'_> {
        match (self.by_id(id), self.deleted.get(id)) {
            (Some(subscription), _) if subscription.organization == *organization => Found::Known(subscription),
            (_, Some(owner)) if owner == organization => Found::Deleted,
            _ => Found::Unknown,
        }
    }

    /// Whether it is known that somebody's subscription with this id was deleted.
    pub(super) fn is_buried(&self, id: &SubscriptionId) -> bool {
        self.deleted.contains_key(id)
    }

    /// Since when a lane is paused by hand; `None` when it is not.
    #[must_use]
    pub fn paused(&self, lane: &LaneKey) -> Option<Timestamp> {
        self.lanes.paused(lane)
    }

    /// How many lanes are paused by hand.
    #[must_use]
    pub fn lanes_paused(&self) -> usize {
        self.lanes.count_paused()
    }

    /// The lanes that subscriptions lead to, and those that are paused.
    #[must_use]
    pub fn lanes(&self) -> &LaneIndex {
        &self.lanes
    }

    /// The subscriptions of an organization that match; `None` when it has none.
    #[must_use]
    pub fn organization(&self, id: &OrganizationId) -> Option<&OrganizationIndex> {
        self.organizations.get(id)
    }

    /// Every subscription, enabled or not, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Subscription>> {
        self.by_id.values().map(|kept| &kept.subscription)
    }

    /// The ids of all that are stored.
    pub(super) fn stored(&self) -> impl Iterator<Item = &SubscriptionId> {
        self.by_id.iter().filter(|(_, kept)| kept.place.is_in_store()).map(|(id, _)| id)
    }

    /// How many subscriptions there are, enabled or not.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_id.size()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }
}

impl Kept {
    /// One that its owner disabled does not match. One whose target is gone does: its deliveries end at once, and are told.
    fn matches(&self) -> bool {
        self.subscription.state != State::Disabled
    }

    fn into_parts(self) -> (Place, Arc<Subscription>) {
        (self.place, self.subscription)
    }

    fn scopes(&self, mut each: impl FnMut(Where)) {
        let Subscription { inboxes, projects, .. } = &*self.subscription;
        if inboxes.is_empty() && projects.is_empty() {
            each(Where::Anywhere);
        }
        for inbox in inboxes {
            each(Where::Inbox(inbox.clone()));
        }
        for project in projects {
            each(Where::Project(project.clone()));
        }
    }
}

impl OrganizationIndex {
    /// All subscriptions that want an event of this name from this inbox and project, with their places. One that matches
    /// by inbox and by project is told twice. Each takes one step; those that do not match take none.
    pub fn candidates(
        &self,
        event: EventName,
        inbox: Option<&InboxId>,
        project: Option<&ProjectId>,
    ) -> impl Iterator<Item = (Place, &Arc<Subscription>)> {
        let by_inbox = inbox.and_then(|inbox| self.inboxes.get(inbox));
        let by_project = project.and_then(|project| self.projects.get(project));
        [Some(&self.unscoped), by_inbox, by_project].into_iter().flatten().flat_map(move |scope| scope.of(event))
    }

    fn edited(mut self, scopes: HashMap<Where, Touched>) -> Self {
        for (place, touched) in scopes {
            match place {
                Where::Anywhere => self.unscoped = self.unscoped.edited(touched.leave, touched.come),
                Where::Inbox(inbox) => edit(&mut self.inboxes, inbox, touched),
                Where::Project(project) => edit(&mut self.projects, project, touched),
            }
        }
        self
    }
}

fn edit<K: Eq + Hash>(scopes: &mut HashTrieMapSync<K, Scope>, name: K, touched: Touched) {
    let after = scopes.get(&name).unwrap_or(&Scope::default()).edited(touched.leave, touched.come);
    if after.is_empty() {
        scopes.remove_mut(&name);
    } else {
        scopes.insert_mut(name, after);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::{collection::vec, prelude::*, sample::select};

    use super::*;
    use crate::store::{file::tests::defaults, parse};

    const IDS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

    /// One change: a place, and what is there; without it, the id goes.
    #[derive(Debug, Clone)]
    struct Step {
        id: &'static str,
        put: Option<(i64, String)>,
    }

    fn step() -> impl Strategy<Value = Step> {
        let text = (
            select(&["acme", "globex"][..]),
            select(&["", "inboxes: [i], ", "projects: [i], ", "inboxes: [i, j], projects: [i], "][..]),
            select(&["[document_text]", "[document_text, document_fail]"][..]),
            any::<bool>(),
        )
            .prop_map(|(organization, scope, events, enabled)| {
                format!("organization: {organization}, {scope}events: {events}, enabled: {enabled}")
            });
        (select(&IDS[..]), prop::option::weighted(0.8, (0i64..1000, text))).prop_map(|(id, put)| Step { id, put })
    }

    fn subscription(id: &str, rest: &str) -> Arc<Subscription> {
        let text = format!("subscriptions: [{{id: {id}, {rest}, target: {{url: http://h/}}}}]");
        Arc::new(parse(&text, &defaults()).unwrap().remove(0))
    }

    proptest! {
        #[test]
        fn any_sequence_of_changes_gives_what_building_it_anew_gives(
            batches in vec(vec(step(), 0..6), 0..8),
        ) {
            let (mut changed, mut kept) = (Snapshot::default(), BTreeMap::new());
            for (number, batch) in batches.into_iter().enumerate() {
                let mut edits = Edits::default();
                for Step { id, put } in batch {
                    let id: SubscriptionId = id.parse().unwrap();
                    if let Some((place, rest)) = put {
                        // No two have the same place.
                        let own = i64::try_from(IDS.iter().position(|it| *it == id.as_str()).unwrap()).unwrap();
                        let place = Place::in_store(place * 10 + own);
                        let subscription = subscription(id.as_str(), &rest);
                        edits.put(place, Arc::clone(&subscription));
                        kept.insert(id, (place, subscription));
                    } else {
                        edits.remove(id.clone());
                        kept.remove(&id);
                    }
                }
                changed = changed.edited(edits).0;
                let mut all = Edits::default();
                for (place, subscription) in kept.values() {
                    all.put(*place, Arc::clone(subscription));
                }
                prop_assert_eq!(&changed, &Snapshot::default().edited(all).0, "after batch {}", number);
            }
        }
    }

    #[test]
    fn a_change_is_counted_by_id() {
        let rest = "organization: acme, events: [document_text]";
        let edits = |all: &[(&str, &str)]| {
            let mut edits = Edits::default();
            for (index, (id, rest)) in all.iter().enumerate() {
                edits.put(Place::in_file(index), subscription(id, rest));
            }
            edits
        };
        let (before, added) =
            Snapshot::default().edited(edits(&[("kept", rest), ("changed", rest), ("removed", rest)]));
        assert_eq!(added, Change { added: 3, ..Change::default() });
        let mut next = edits(&[("changed", &format!("{rest}, name: New")), ("kept", rest), ("added", rest)]);
        next.remove("removed".parse().unwrap());
        next.remove("never".parse().unwrap());
        let (after, change) = before.edited(next);
        // One that only moved did not change.
        assert_eq!(change, Change { added: 1, changed: 1, removed: 1, pauses: 0 });
        assert_eq!((before.len(), after.len()), (3, 3), "and the one before is as it was");
    }

    #[test]
    fn only_what_was_deleted_is_deleted_and_only_for_its_organization() {
        let (acme, other): (OrganizationId, OrganizationId) = ("acme".parse().unwrap(), "other".parse().unwrap());
        let id: SubscriptionId = "a".parse().unwrap();
        let rest = "organization: acme, events: [document_text]";
        let mut edits = Edits::default();
        edits.put(Place::in_store(1), subscription("a", rest));
        let (there, _) = Snapshot::default().edited(edits);
        assert!(matches!(there.find(&acme, &id), Found::Known(_)));
        assert_eq!(there.find(&other, &id), Found::Unknown);
        let mut edits = Edits::default();
        edits.remove(id.clone());
        let (absent, _) = there.edited(edits);
        assert_eq!(absent.find(&acme, &id), Found::Unknown, "absence is no deletion");
        let mut edits = Edits::default();
        edits.bury(id.clone(), acme.clone());
        let (deleted, _) = absent.edited(edits);
        assert_eq!((deleted.find(&acme, &id), deleted.find(&other, &id)), (Found::Deleted, Found::Unknown));
        let mut edits = Edits::default();
        edits.forget(id.clone());
        assert_eq!(deleted.edited(edits).0.find(&acme, &id), Found::Unknown);
    }
}
