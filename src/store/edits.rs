//! What is to become different about the subscriptions in force, and what did.

use std::{collections::BTreeMap, sync::Arc};

use crate::domain::{LaneKey, OrganizationId, Subscription, SubscriptionId, Timestamp};

/// A subscription's place in the order of matches: the file's first, then those of the store as they were made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place(i64);

/// A subscription in its place.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Kept {
    pub(super) place: Place,
    pub(super) subscription: Arc<Subscription>,
}

/// What is to become different. What comes later about an id counts.
#[derive(Debug, Default)]
pub struct Edits {
    pub(super) by_id: BTreeMap<SubscriptionId, Option<Kept>>,
    /// In order: deletions, and, without an organization, those to be forgotten.
    pub(super) deleted: Vec<(SubscriptionId, Option<OrganizationId>)>,
    /// Lanes, whose they are, and since when they are paused; those that are not, without a time.
    pub(super) paused: BTreeMap<LaneKey, (OrganizationId, Option<Timestamp>)>,
}

/// How one snapshot differs from the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Change {
    /// Ids that were not there before.
    pub added: usize,
    /// Ids whose subscription is another one now.
    pub changed: usize,
    /// Ids that are gone.
    pub removed: usize,
    /// Lanes that were paused or resumed.
    pub pauses: usize,
}

impl Place {
    /// The place of the subscription at `index` in the file.
    #[must_use]
    pub fn in_file(index: usize) -> Self {
        Self(i64::MIN.saturating_add(i64::try_from(index).unwrap_or(i64::MAX)).min(-1))
    }

    /// The place of a stored one, by its place among all that are stored.
    #[must_use]
    pub fn in_store(sequence: i64) -> Self {
        Self(sequence.max(0))
    }

    /// Whether it is a stored one's.
    #[must_use]
    pub fn is_in_store(self) -> bool {
        self.0 >= 0
    }
}

impl Edits {
    /// This subscription is to be there.
    pub fn put(&mut self, place: Place, subscription: Arc<Subscription>) {
        self.by_id.insert(subscription.id.clone(), Some(Kept { place, subscription }));
    }

    /// This one is not to be there.
    pub fn remove(&mut self, id: SubscriptionId) {
        self.by_id.insert(id, None);
    }

    /// That an organization's subscription was deleted is to be known.
    pub fn bury(&mut self, id: SubscriptionId, organization: OrganizationId) {
        self.deleted.push((id, Some(organization)));
    }

    /// An organization's lane is to be paused since then, or not to be paused.
    pub fn pause(&mut self, lane: LaneKey, organization: OrganizationId, at: Option<Timestamp>) {
        self.paused.insert(lane, (organization, at));
    }

    /// That this one was deleted need not be known any more.
    pub fn forget(&mut self, id: SubscriptionId) {
        self.deleted.push((id, None));
    }
}
