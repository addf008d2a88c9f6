//! What the subscriptions in force are put together of: the file's, the database's at one value of its counter, deletions,
//! and targets that are gone. A change costs what it changes. Pure but for a log line about each row that cannot be read.

mod clash;
#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
};

use tokio::time::Instant;

pub use self::clash::Clash;
use self::clash::{Stored, Waiting};
use super::{
    database::{ChangeCounter, Changes, Loaded, PausedRow, Row, TOMBSTONE_AGE, TOMBSTONES, Tombstone},
    document::{BadDocument, from_document, state},
    edits::{Change, Edits, Place},
    file::Defaults,
    gone::{GoneTargets, ToWrite},
    snapshot::Snapshot,
};
use crate::domain::{FailureKind, OrganizationId, Payload, State, Subscription, SubscriptionId, Timestamp};

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
    /// Stored ones that clash with the file.
    waiting: Waiting,
    /// Stored ones whose rows cannot be read as they are now: what is in force of them is older.
    unread: HashSet<SubscriptionId>,
    /// Known deletions, the oldest first.
    deleted: VecDeque<(Timestamp, SubscriptionId)>,
    gone: GoneTargets,
    /// `None` before the store's first complete load. Without a store nothing is in it.
    counter: Option<ChangeCounter>,
}

/// What a row says, or why it cannot be read.
type Read = Result<Subscription, BadDocument>;

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

    /// Another file. Nothing changed when it does not go together with what is in force of the store. What had to wait for
    /// another file comes into force.
    pub(super) fn put_file(&mut self, file: Vec<Arc<Subscription>>) -> Result<Change, Clash> {
        for subscription in &file {
            if self.is_stored(&subscription.id) {
                return Err(Clash::Id(subscription.id.clone()));
            }
            let stored = self.singular.get(&subscription.organization);
            if let Some(stored) = stored.filter(|_| subscription.payload == Payload::Idexa) {
                return Err(Clash::idexa(&subscription.organization, &subscription.id, stored));
            }
        }
        let mut edits = self.edit_file(file);
        for (id, stored) in std::mem::take(&mut self.waiting) {
            // So far the edits hold nothing but the file's.
            let is_filed = matches!(edits.by_id.get(&id), Some(Some(_)));
            if self.clash(&id, &stored.subscription.organization, stored.is_singular, is_filed).is_some() {
                self.waiting.insert(id, stored);
            } else {
                self.put(&mut edits, &stored);
            }
        }
        Ok(self.apply(edits))
    }

    /// Everything that is stored, whatever was known before. A row that cannot be read is left out, and told, only if it was
    /// disabled for a reason that makes it match nothing: the events of any other would find nobody. Nothing changed when
    /// it is refused; a first load is when anything clashes with the file.
    pub(super) fn put_loaded(&mut self, loaded: &Loaded, defaults: &Defaults) -> Result<Change, NotLoaded> {
        let rows = self.read(&loaded.rows, defaults)?;
        let mut edits = Edits::default();
        let mut absent: HashSet<_> = self.snapshot.stored().cloned().collect();
        self.gone.load_filed(&loaded.filed, loaded.counter);
        self.singular.clear();
        self.unread.clear();
        let waited = std::mem::take(&mut self.waiting);
        for (row, read) in rows {
            match (self.clash_of(row), read) {
                (Some(clash), read) => {
                    self.wait(row, read, &clash, waited.contains_key(&row.id));
                }
                (None, Ok(subscription)) => {
                    absent.remove(&row.id);
                    self.put(&mut edits, &Stored::of(row, subscription));
                }
                (None, Err(cause)) => tell(row, &cause),
            }
        }
        for id in absent {
            edits.remove(id);
        }
        for (_, id) in self.deleted.drain(..) {
            edits.forget(id);
        }
        self.bury(&mut edits, loaded.gone.iter());
        for id in self.file.iter() {
            self.judge_again(&mut edits, id);
        }
        for (lane, organization) in self.snapshot.lanes().all_paused() {
            edits.pause(lane.clone(), organization.clone(), None);
        }
        pause(&mut edits, &loaded.paused);
        self.counter = Some(loaded.counter);
        Ok(self.apply(edits))
    }

    /// Some changes. A changed row that cannot be read is told, and stays in force as it was; but one that was disabled is
    /// disabled. One that does not go together with the file is told and left out, and holds no other up.
    pub(super) fn put_changes(&mut self, changes: &Changes, defaults: &Defaults, now: Timestamp) -> Change {
        let mut edits = Edits::default();
        for row in &changes.rows {
            let waited = self.waiting.remove(&row.id).is_some();
            match (self.clash_of(row), from_document(row, defaults)) {
                (Some(clash), read) => self.wait(row, read, &clash, waited),
                (None, Ok(subscription)) => self.put(&mut edits, &Stored::of(row, subscription)),
                (None, Err(cause)) => {
                    tell(row, &cause);
                    self.unread.insert(row.id.clone());
                    self.disable_unread(&mut edits, row);
                }
            }
        }
        for tombstone in &changes.gone {
            if self.singular.get(&tombstone.organization) == Some(&tombstone.id) {
                self.singular.remove(&tombstone.organization);
            }
            self.waiting.remove(&tombstone.id);
            self.unread.remove(&tombstone.id);
            if self.is_stored(&tombstone.id) {
                edits.remove(tombstone.id.clone());
            }
        }
        // A deletion may be told twice: by a load that it came in between, and by the next look.
        let news: Vec<_> = changes.gone.iter().filter(|it| !self.snapshot.is_buried(&it.id)).collect();
        self.bury(&mut edits, news.into_iter());
        self.forget_old(&mut edits, now);
        for row in &changes.filed {
            self.gone.put_filed(row);
            self.judge_again(&mut edits, &row.id);
        }
        pause(&mut edits, &changes.paused);
        self.counter = Some(changes.counter);
        self.apply(edits)
    }

    /// A subscription's target answered 410. Says whether that disables it: not when it is disabled already, or goes
    /// somewhere else by now.
    pub(super) fn learn_gone(&mut self, subscription: &Subscription, at: Timestamp) -> bool {
        let Some((place, current)) = self.snapshot.placed(&subscription.id) else { return false };
        let is_the_same = current.organization == subscription.organization
            && current.target.fingerprint() == subscription.target.fingerprint();
        if current.state != State::Enabled || !is_the_same {
            return false;
        }
        self.gone.learn(place, subscription, at, self.counter.unwrap_or_default());
        let mut edits = Edits::default();
        edits.put(place, self.gone.in_force(place, Arc::clone(current)));
        self.apply(edits);
        true
    }

    /// Upstream was told that it is disabled since then: the store may be told, too.
    pub(super) fn gone_was_told(&mut self, subscription: &Subscription, at: Timestamp) {
        self.gone.told(subscription, at);
    }

    /// What the store is to be told of now. Not of what cannot be read: it may have another URL by now.
    pub(super) fn gone_to_write(&self, now: Instant) -> Vec<ToWrite> {
        self.gone.to_write(now, |id| self.unread.contains(id))
    }

    /// The store was told, which raised its counter to this.
    pub(super) fn gone_was_written(&mut self, written: &ToWrite, changed: ChangeCounter) {
        self.gone.written(written, changed);
    }

    /// The store refused to be told.
    pub(super) fn gone_was_refused(&mut self, refused: &ToWrite, until: Instant) {
        self.gone.refused(refused, until);
    }

    fn is_stored(&self, id: &SubscriptionId) -> bool {
        self.snapshot.placed(id).is_some_and(|(place, _)| place.is_in_store())
    }

    /// Rows with what they say.
    fn read<'a>(&self, rows: &'a [Row], defaults: &Defaults) -> Result<Vec<(&'a Row, Read)>, NotLoaded> {
        let is_first = self.counter.is_none();
        let read = |row: &'a Row| match (self.clash_of(row).filter(|_| is_first), from_document(row, defaults)) {
            (Some(clash), _) => Err(clash.into()),
            (None, Err(cause)) if !matches_nothing(row) => Err(NotLoaded::Incomplete { id: row.id.clone(), cause }),
            (None, read) => Ok((row, read)),
        };
        rows.iter().map(read).collect()
    }

    /// Why a row does not go together with the file, if it does not.
    fn clash_of(&self, row: &Row) -> Option<Clash> {
        let is_filed = self.snapshot.placed(&row.id).is_some_and(|(place, _)| !place.is_in_store());
        self.clash(&row.id, &row.organization, row.singular.is_some(), is_filed)
    }

    fn clash(
        &self,
        id: &SubscriptionId,
        organization: &OrganizationId,
        is_singular: bool,
        is_filed: bool,
    ) -> Option<Clash> {
        if is_filed {
            return Some(Clash::Id(id.clone()));
        }
        let filed = self.filed_idexa.get(organization).filter(|_| is_singular);
        filed.map(|filed| Clash::idexa(organization, filed, id))
    }

    /// Leaves a row out. It is told once.
    fn wait(&mut self, row: &Row, read: Read, clash: &Clash, is_told: bool) {
        if !is_told {
            clash::tell(row, clash);
        }
        match read {
            Ok(subscription) => drop(self.waiting.insert(row.id.clone(), Stored::of(row, subscription))),
            Err(cause) => tell(row, &cause),
        }
    }

    fn put(&mut self, edits: &mut Edits, stored: &Stored) {
        let Stored { place, subscription, .. } = stored;
        self.unread.remove(&subscription.id);
        if stored.is_singular {
            self.singular.insert(subscription.organization.clone(), subscription.id.clone());
        }
        self.gone.put_row(&subscription.id, stored.changed);
        edits.put(*place, self.gone.in_force(*place, Arc::clone(subscription)));
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

    fn judge_again(&self, edits: &mut Edits, id: &SubscriptionId) {
        if let Some((place, current)) = self.snapshot.placed(id).filter(|(place, _)| !place.is_in_store()) {
            edits.put(place, self.gone.in_force(place, Arc::clone(current)));
        }
    }

    fn bury<'a>(&mut self, edits: &mut Edits, gone: impl Iterator<Item = &'a Tombstone>) {
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
        let touched: Vec<_> = edits.by_id.keys().cloned().collect();
        let (snapshot, change) = self.snapshot.edited(edits);
        self.snapshot = snapshot;
        self.gone.forget_what_changed(&self.snapshot, touched.iter());
        change
    }
}

/// Whether a row is disabled so that no event finds it. One whose target is gone is found: its deliveries are cancelled.
fn matches_nothing(row: &Row) -> bool {
    row.disabled_reason.as_deref().is_some_and(|reason| reason != FailureKind::Gone.as_str())
}

fn pause(edits: &mut Edits, rows: &[PausedRow]) {
    for PausedRow { organization, lane, paused_at, .. } in rows {
        edits.pause(lane.clone(), organization.clone(), *paused_at);
    }
}

fn tell(row: &Row, error: &BadDocument) {
    tracing::error!(
        docrelay.subscription = %row.id, docrelay.organization = %row.organization, %error,
        "Stored subscription cannot be read"
    );
}
