//! Subscriptions whose targets answered 410: what was learnt here and is not in the store yet, and what the store knows of
//! those that the file declares. Each concerns one URL: a subscription that gets another one is enabled again. What was
//! learnt holds until the store says something newer of the subscription, whatever that is. Pure.

use std::{collections::HashMap, sync::Arc};

use tokio::time::Instant;

use super::{
    database::{ChangeCounter, FiledRow},
    edits::Place,
    snapshot::Snapshot,
};
use crate::domain::{Fingerprint, OrganizationId, State, Subscription, SubscriptionId, Timestamp};

/// How many are written in a row, so that looking at what changed never waits for long.
const MOST_WRITES: usize = 64;

/// Which targets are gone, besides what stored subscriptions say themselves.
#[derive(Debug, Default)]
pub(super) struct GoneTargets {
    /// Learnt here. No more than there are subscriptions.
    learnt: HashMap<SubscriptionId, Learnt>,
    /// The file's, as the store has it. No more than there are rows.
    filed: HashMap<SubscriptionId, HashMap<(OrganizationId, Fingerprint), Filed>>,
}

#[derive(Debug)]
struct Learnt {
    organization: OrganizationId,
    fingerprint: Fingerprint,
    at: Timestamp,
    is_stored: bool,
    /// The store's counter when it was learnt: a row of it that changed later knows better.
    seen: ChangeCounter,
    /// Whether upstream was told: only then it is written, so that a crash in between leaves nothing untold.
    told: bool,
    /// The store refused it: not to be written before.
    not_before: Option<Instant>,
}

/// What the store says of one URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Filed {
    is_gone: bool,
    changed: ChangeCounter,
}

/// A subscription that the store is to be told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ToWrite {
    pub(super) id: SubscriptionId,
    pub(super) organization: OrganizationId,
    pub(super) fingerprint: Fingerprint,
    pub(super) at: Timestamp,
    pub(super) is_stored: bool,
    /// What is known here of its row: one that changed later is not to be touched.
    pub(super) known: ChangeCounter,
}

impl GoneTargets {
    /// A subscription as it is to be in force: what its source says of it, and what is known here.
    pub(super) fn in_force(&self, place: Place, said: Arc<Subscription>) -> Arc<Subscription> {
        // Its file never says it.
        let base = if said.state == State::Gone && !place.is_in_store() { State::Enabled } else { said.state };
        let state = if base == State::Enabled && self.is_known(place, &said) { State::Gone } else { base };
        if state == said.state { said } else { Arc::new(Subscription { state, ..(*said).clone() }) }
    }

    /// A target answered 410, while nothing newer of its subscription was known than the counter says.
    pub(super) fn learn(&mut self, place: Place, subscription: &Subscription, at: Timestamp, seen: ChangeCounter) {
        let learnt = Learnt {
            organization: subscription.organization.clone(),
            fingerprint: subscription.target.fingerprint(),
            at,
            is_stored: place.is_in_store(),
            seen,
            told: false,
            not_before: None,
        };
        self.learnt.insert(subscription.id.clone(), learnt);
    }

    /// Upstream was told of what was learnt then.
    pub(super) fn told(&mut self, subscription: &Subscription, at: Timestamp) {
        let learnt = self.learnt.get_mut(&subscription.id).filter(|it| it.at == at);
        if let Some(learnt) = learnt.filter(|it| it.is_of(subscription)) {
            learnt.told = true;
        }
    }

    /// What the store is to be told of now.
    pub(super) fn to_write(&self, now: Instant, is_held: impl Fn(&SubscriptionId) -> bool) -> Vec<ToWrite> {
        let due = |learnt: &Learnt| learnt.told && learnt.not_before.is_none_or(|until| until <= now);
        let all = self.learnt.iter().filter(|(id, learnt)| due(learnt) && !is_held(id));
        all.take(MOST_WRITES)
            .map(|(id, learnt)| ToWrite {
                id: id.clone(),
                organization: learnt.organization.clone(),
                fingerprint: learnt.fingerprint,
                at: learnt.at,
                is_stored: learnt.is_stored,
                known: if learnt.is_stored { learnt.seen } else { self.known_of_filed(id, learnt) },
            })
            .collect()
    }

    /// The store knows it now, since its counter was raised to this.
    pub(super) fn written(&mut self, written: &ToWrite, changed: ChangeCounter) {
        if self.learnt.get(&written.id).is_some_and(|learnt| learnt.is_what(written)) {
            self.learnt.remove(&written.id);
        }
        if !written.is_stored {
            let key = (written.organization.clone(), written.fingerprint);
            self.filed.entry(written.id.clone()).or_default().insert(key, Filed { is_gone: true, changed });
        }
    }

    /// The store refused it: it stays learnt, and is not written before.
    pub(super) fn refused(&mut self, refused: &ToWrite, until: Instant) {
        if let Some(learnt) = self.learnt.get_mut(&refused.id).filter(|learnt| learnt.is_what(refused)) {
            learnt.not_before = Some(until);
        }
    }

    /// A stored subscription's row, changed then, says what it is: that it is gone, or that its owner wants it.
    pub(super) fn put_row(&mut self, id: &SubscriptionId, changed: ChangeCounter) {
        if self.learnt.get(id).is_some_and(|learnt| learnt.is_stored && changed > learnt.seen) {
            self.learnt.remove(id);
        }
    }

    /// What the store says of one that the file declares. What is not newer than what is known was told before.
    pub(super) fn put_filed(&mut self, row: &FiledRow) {
        let known = self.filed.get(&row.id).and_then(|urls| urls.get(&key(row)));
        if known.is_none_or(|known| known.changed < row.changed) {
            self.file(row);
            self.forget_filed(row);
        }
    }

    /// Everything that the store says of those that a file declares, whatever was known before.
    pub(super) fn load_filed(&mut self, rows: &[FiledRow], counter: ChangeCounter) {
        let before = std::mem::take(&mut self.filed);
        for row in rows {
            let new = self.file(row);
            if before.get(&row.id).and_then(|urls| urls.get(&key(row))) != Some(&new) {
                self.forget_filed(row);
            }
        }
        // It may be another database, whose counter is behind.
        self.learnt.values_mut().for_each(|learnt| learnt.seen = learnt.seen.min(counter));
    }

    /// Forgets what was learnt of subscriptions that are not there any more, or were changed meanwhile; of these only.
    pub(super) fn forget_what_changed<'a>(
        &mut self,
        snapshot: &Snapshot,
        touched: impl Iterator<Item = &'a SubscriptionId>,
    ) {
        for id in touched {
            let Some(learnt) = self.learnt.get(id) else { continue };
            let now = snapshot.placed(id);
            if !now.is_some_and(|(place, it)| learnt.is_stored == place.is_in_store() && learnt.is_of(it)) {
                self.learnt.remove(id);
            }
        }
    }

    fn file(&mut self, row: &FiledRow) -> Filed {
        let new = Filed { is_gone: row.reason.is_some(), changed: row.changed };
        self.filed.entry(row.id.clone()).or_default().insert(key(row), new);
        new
    }

    fn forget_filed(&mut self, row: &FiledRow) {
        let is_it = |learnt: &Learnt| {
            !learnt.is_stored && learnt.organization == row.organization && learnt.fingerprint == row.fingerprint
        };
        if self.learnt.get(&row.id).is_some_and(is_it) {
            self.learnt.remove(&row.id);
        }
    }

    fn known_of_filed(&self, id: &SubscriptionId, learnt: &Learnt) -> ChangeCounter {
        let key = (learnt.organization.clone(), learnt.fingerprint);
        self.filed.get(id).and_then(|urls| urls.get(&key)).map_or_else(ChangeCounter::default, |filed| filed.changed)
    }

    fn is_known(&self, place: Place, subscription: &Subscription) -> bool {
        let learnt = self.learnt.get(&subscription.id);
        if learnt.is_some_and(|it| it.is_stored == place.is_in_store() && it.is_of(subscription)) {
            return true;
        }
        let filed = self.filed.get(&subscription.id).filter(|_| !place.is_in_store());
        // Only now: a fingerprint is not for nothing.
        let key = || (subscription.organization.clone(), subscription.target.fingerprint());
        filed.and_then(|urls| urls.get(&key())).is_some_and(|filed| filed.is_gone)
    }
}

impl Learnt {
    fn is_of(&self, subscription: &Subscription) -> bool {
        self.organization == subscription.organization && self.fingerprint == subscription.target.fingerprint()
    }

    fn is_what(&self, written: &ToWrite) -> bool {
        self.fingerprint == written.fingerprint && self.at == written.at && self.is_stored == written.is_stored
    }
}

fn key(row: &FiledRow) -> (OrganizationId, Fingerprint) {
    (row.organization.clone(), row.fingerprint)
}
