//! What the subscriptions in force are put together of: the file's, the database's at one value of its counter, deletions,
//! and targets that are gone. A change costs what it changes. Pure but for a log line about each row that cannot be read.

#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
};

use super::{
    database::{ChangeCounter, Changes, FiledRow, Loaded, Row, TOMBSTONE_AGE, TOMBSTONES, Tombstone},
    document::{BadDocument, from_document, state},
    edits::{Change, Edits, Place},
    file::Defaults,
    gone::{GoneTargets, ToWrite},
    snapshot::Snapshot,
};
use crate::domain::{OrganizationId, Payload, State, Subscription, SubscriptionId, Timestamp};

/// Everything that the subscriptions in force are put together of, and themselves.
#[derive(Debug, Default)]
pub(super) struct Parts {
    snapshot: Snapshot,
    /// The file's, in its order.
    file: Arc<Vec<SubscriptionId>>,
    /// Of each organization the one with the payload `idexa` that the file declares.
    filed_idexa: HashMap<OrganizationId, SubscriptionId>,
    /// Of each organization the stored one that it may have only one of.
    singular: HashMap<OrganizationId, SubscriptionId>,
    /// Known deletions, the oldest first.
    deleted: VecDeque<(Timestamp, SubscriptionId)>,
    gone: GoneTargets,
    /// `None` before the store's first complete load. Without a store nothing is in it.
    counter: Option<ChangeCounter>,
}

/// The file and the store do not go together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Clash {
    /// An id is in both.
    #[error("the subscriptions file and the store both have the id {0}")]
    Id(SubscriptionId),
    /// An organization has one with the payload `idexa` in both.
    #[error(
        "the organization {organization} may have one subscription with the payload idexa, and has {filed} in the \
         subscriptions file and {stored} in the store"
    )]
    Idexa {
        /// Whose they are.
        organization: OrganizationId,
        /// The file's.
        filed: SubscriptionId,
        /// The store's.
        stored: SubscriptionId,
    },
}

/// Why a load changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotLoaded {
    #[error("the stored subscription {id}: {cause}")]
    Incomplete { id: SubscriptionId, cause: BadDocument },
    #[error(transparent)]
    Clash(#[from] Clash),
}

impl Parts {
    /// What the file declares, with nothing stored.
    pub(super) fn of_file(file: Vec<Arc<Subscription>>) -> Self {
        let mut parts = Self { counter: Some(ChangeCounter::default()), ..Self::default() };
        let edits = parts.edit_file(file);
        parts.apply(edits);
        parts
    }

    /// Makes them incomplete before the store was loaded, too.
    pub(super) fn wait_for_the_store(&mut self) {
        self.counter = None;
    }

    /// The subscriptions in force.
    pub(super) fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// The ids of the file's, in its order.
    pub(super) fn file(&self) -> &Arc<Vec<SubscriptionId>> {
        &self.file
    }

    /// Where the store's changes go on; `None` before its first complete load.
    pub(super) fn counter(&self) -> Option<ChangeCounter> {
        self.counter
    }

    /// Another file. Nothing changed when it does not go together with the store.
    pub(super) fn put_file(&mut self, file: Vec<Arc<Subscription>>) -> Result<Change, Clash> {
        for subscription in &file {
            if self.is_stored(&subscription.id) {
                return Err(Clash::Id(subscription.id.clone()));
            }
            let stored = self.singular.get(&subscription.organization);
            if let Some(stored) = stored.filter(|_| subscription.payload == Payload::Idexa) {
                return Err(idexa(&subscription.organization, &subscription.id, stored));
            }
        }
        let edits = self.edit_file(file);
        Ok(self.apply(edits))
    }

    /// Everything that is stored, whatever was known before. A row that cannot be read is left out, and told, only if it is
    /// disabled: the events of any other would find nobody. Nothing changed when it is refused.
    pub(super) fn put_loaded(&mut self, loaded: &Loaded, defaults: &Defaults) -> Result<Change, NotLoaded> {
        self.check(&loaded.rows)?;
        let (mut edits, mut left_out) = (Edits::default(), Vec::new());
        let mut absent: HashSet<_> = self.snapshot.stored().cloned().collect();
        for row in &loaded.rows {
            match from_document(row, defaults) {
                Ok(subscription) => {
                    absent.remove(&row.id);
                    self.put(&mut edits, row, subscription);
                }
                Err(cause) if row.disabled_reason.is_some() => left_out.push((row, cause)),
                Err(cause) => return Err(NotLoaded::Incomplete { id: row.id.clone(), cause }),
            }
        }
        // At the end: a load that is not complete is done again and again, and would tell it again and again.
        for (row, cause) in left_out {
            tell(row, &cause);
        }
        for id in absent {
            edits.remove(id);
        }
        self.singular = loaded.rows.iter().filter_map(singular).collect();
        for (_, id) in self.deleted.drain(..) {
            edits.forget(id);
        }
        self.bury(&mut edits, &loaded.gone);
        self.gone.clear_filed();
        self.file_states(&mut edits, &loaded.filed);
        for id in self.file.iter() {
            self.judge_again(&mut edits, id);
        }
        self.counter = Some(loaded.counter);
        Ok(self.apply(edits))
    }

    /// Some changes. A changed row that cannot be read is told, and stays in force as it was; but one that was disabled is
    /// disabled. Nothing changed when they do not go together with the file.
    pub(super) fn put_changes(
        &mut self,
        changes: &Changes,
        defaults: &Defaults,
        now: Timestamp,
    ) -> Result<Change, Clash> {
        self.check(&changes.rows)?;
        let mut edits = Edits::default();
        for row in &changes.rows {
            match from_document(row, defaults) {
                Ok(subscription) => self.put(&mut edits, row, subscription),
                Err(cause) => {
                    tell(row, &cause);
                    self.disable_unread(&mut edits, row);
                }
            }
        }
        self.singular.extend(changes.rows.iter().filter_map(singular));
        for tombstone in &changes.gone {
            if self.singular.get(&tombstone.organization) == Some(&tombstone.id) {
                self.singular.remove(&tombstone.organization);
            }
            if self.is_stored(&tombstone.id) {
                edits.remove(tombstone.id.clone());
            }
        }
        self.bury(&mut edits, &changes.gone);
        self.forget_old(&mut edits, now);
        self.file_states(&mut edits, &changes.filed);
        self.counter = Some(changes.counter);
        Ok(self.apply(edits))
    }

    /// A subscription's target answered 410. Says whether that disables it: not when it is disabled already, or goes
    /// somewhere else by now.
    pub(super) fn learn_gone(&mut self, subscription: &Subscription, at: Timestamp) -> bool {
        let Some((place, current)) = self.snapshot.placed(&subscription.id) else { return false };
        let is_the_same = current.organization == subscription.organization
            && current.target.fingerprint() == subscription.target.fingerprint();
        if current.state != State::Enabled || !is_the_same || !self.gone.learn(subscription, at) {
            return false;
        }
        let mut edits = Edits::default();
        edits.put(place, self.gone.in_force(place, Arc::clone(current)));
        self.apply(edits);
        true
    }

    /// Upstream was told that it is disabled: the store may be told, too.
    pub(super) fn gone_was_told(&mut self, id: &SubscriptionId) {
        self.gone.told(id);
    }

    /// What the store is to be told of now.
    pub(super) fn gone_to_write(&self) -> Vec<ToWrite> {
        self.gone.to_write(&self.snapshot)
    }

    /// The store was told.
    pub(super) fn gone_was_written(&mut self, written: &ToWrite) {
        self.gone.written(written);
    }

    fn is_stored(&self, id: &SubscriptionId) -> bool {
        self.snapshot.placed(id).is_some_and(|(place, _)| place.is_in_store())
    }

    /// Whether rows go together with the file.
    fn check(&self, rows: &[Row]) -> Result<(), Clash> {
        for row in rows {
            if self.snapshot.placed(&row.id).is_some_and(|(place, _)| !place.is_in_store()) {
                return Err(Clash::Id(row.id.clone()));
            }
            let filed = self.filed_idexa.get(&row.organization);
            if let Some(filed) = filed.filter(|_| row.singular.is_some()) {
                return Err(idexa(&row.organization, filed, &row.id));
            }
        }
        Ok(())
    }

    fn put(&self, edits: &mut Edits, row: &Row, subscription: Subscription) {
        let place = Place::in_store(row.sequence);
        edits.put(place, self.gone.in_force(place, Arc::new(subscription)));
    }

    /// A row that cannot be read still says whether it is disabled.
    fn disable_unread(&self, edits: &mut Edits, row: &Row) {
        let Some((place, before)) = self.snapshot.placed(&row.id).filter(|_| row.disabled_reason.is_some()) else {
            return;
        };
        let state = state(before.state, row.disabled_reason.as_deref());
        edits.put(place, Arc::new(Subscription { state, ..(**before).clone() }));
    }

    fn edit_file(&mut self, file: Vec<Arc<Subscription>>) -> Edits {
        let mut edits = Edits::default();
        self.file.iter().for_each(|id| edits.remove(id.clone()));
        self.file = Arc::new(file.iter().map(|it| it.id.clone()).collect());
        self.filed_idexa.clear();
        for (index, subscription) in file.into_iter().enumerate() {
            let place = Place::in_file(index);
            if subscription.payload == Payload::Idexa {
                self.filed_idexa.insert(subscription.organization.clone(), subscription.id.clone());
            }
            edits.put(place, self.gone.in_force(place, subscription));
        }
        edits
    }

    /// What the store says of those that the file declares.
    fn file_states(&mut self, edits: &mut Edits, filed: &[FiledRow]) {
        for row in filed {
            let fingerprint = row.reason.as_ref().map(|_| row.fingerprint);
            self.gone.put_filed((row.organization.clone(), row.id.clone()), fingerprint);
            self.judge_again(edits, &row.id);
        }
    }

    fn judge_again(&self, edits: &mut Edits, id: &SubscriptionId) {
        if let Some((place, current)) = self.snapshot.placed(id).filter(|(place, _)| !place.is_in_store()) {
            edits.put(place, self.gone.in_force(place, Arc::clone(current)));
        }
    }

    fn bury(&mut self, edits: &mut Edits, gone: &[Tombstone]) {
        for Tombstone { id, organization, deleted_at, .. } in gone {
            edits.bury(id.clone(), organization.clone());
            self.deleted.push_back((*deleted_at, id.clone()));
        }
        while self.deleted.len() > TOMBSTONES
            && let Some((_, id)) = self.deleted.pop_front()
        {
            edits.forget(id);
        }
    }

    fn forget_old(&mut self, edits: &mut Edits, now: Timestamp) {
        while let Some((_, id)) = self.deleted.pop_front_if(|(at, _)| at.age_at(now) > TOMBSTONE_AGE) {
            edits.forget(id);
        }
    }

    fn apply(&mut self, edits: Edits) -> Change {
        let (snapshot, change) = self.snapshot.edited(edits);
        self.snapshot = snapshot;
        self.gone.forget_what_changed(&self.snapshot);
        change
    }
}

fn singular(row: &Row) -> Option<(OrganizationId, SubscriptionId)> {
    row.singular.as_ref().map(|_| (row.organization.clone(), row.id.clone()))
}

fn idexa(organization: &OrganizationId, filed: &SubscriptionId, stored: &SubscriptionId) -> Clash {
    Clash::Idexa { organization: organization.clone(), filed: filed.clone(), stored: stored.clone() }
}

fn tell(row: &Row, error: &BadDocument) {
    tracing::error!(
        subscription.id = %row.id, organization.id = %row.organization, %error,
        "Stored subscription cannot be read"
    );
}
