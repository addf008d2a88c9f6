//! Subscriptions whose targets answered 410: what was learnt here and is not in the store yet, and what the store knows of
//! those that the file declares. Each concerns one URL: a subscription that gets another one is enabled again. Pure.

use std::{collections::HashMap, sync::Arc};

use super::{edits::Place, snapshot::Snapshot};
use crate::domain::{Fingerprint, OrganizationId, State, Subscription, SubscriptionId, Timestamp};

/// How many are written in a row, so that looking at what changed never waits for long.
const MOST_WRITES: usize = 64;

/// Which targets are gone, besides what stored subscriptions say themselves.
#[derive(Debug, Default)]
pub(super) struct GoneTargets {
    /// Learnt here. No more than there are subscriptions.
    learnt: HashMap<SubscriptionId, Learnt>,
    /// The file's, as the store has it.
    filed: HashMap<(OrganizationId, SubscriptionId), Fingerprint>,
}

#[derive(Debug)]
struct Learnt {
    organization: OrganizationId,
    fingerprint: Fingerprint,
    at: Timestamp,
    /// Whether upstream was told: only then it is written, so that a crash in between leaves nothing untold.
    told: bool,
}

/// A subscription that the store is to be told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ToWrite {
    pub(super) id: SubscriptionId,
    pub(super) organization: OrganizationId,
    pub(super) fingerprint: Fingerprint,
    pub(super) at: Timestamp,
    pub(super) place: Place,
}

impl GoneTargets {
    /// A subscription as it is to be in force: what its source says of it, and what is known here.
    pub(super) fn in_force(&self, place: Place, said: Arc<Subscription>) -> Arc<Subscription> {
        // Its file never says it.
        let base = if said.state == State::Gone && !place.is_in_store() { State::Enabled } else { said.state };
        let state = if base == State::Enabled && self.is_known(place, &said) { State::Gone } else { base };
        if state == said.state { said } else { Arc::new(Subscription { state, ..(*said).clone() }) }
    }

    /// A target answered 410. Says whether the subscription was not known to be gone before.
    pub(super) fn learn(&mut self, subscription: &Subscription, at: Timestamp) -> bool {
        let learnt = Learnt {
            organization: subscription.organization.clone(),
            fingerprint: subscription.target.fingerprint(),
            at,
            told: false,
        };
        let before = self.learnt.insert(subscription.id.clone(), learnt);
        before.is_none_or(|before| before.fingerprint != subscription.target.fingerprint())
    }

    /// Upstream was told.
    pub(super) fn told(&mut self, id: &SubscriptionId) {
        if let Some(learnt) = self.learnt.get_mut(id) {
            learnt.told = true;
        }
    }

    /// What the store is to be told of now.
    pub(super) fn to_write(&self, snapshot: &Snapshot) -> Vec<ToWrite> {
        let told = self.learnt.iter().filter(|(_, learnt)| learnt.told);
        let place = |id| snapshot.placed(id).map(|(place, _)| place);
        told.filter_map(|(id, learnt)| {
            Some(ToWrite {
                place: place(id)?,
                id: id.clone(),
                organization: learnt.organization.clone(),
                fingerprint: learnt.fingerprint,
                at: learnt.at,
            })
        })
        .take(MOST_WRITES)
        .collect()
    }

    /// The store knows it now.
    pub(super) fn written(&mut self, written: &ToWrite) {
        if self.learnt.get(&written.id).is_some_and(|learnt| learnt.fingerprint == written.fingerprint) {
            self.learnt.remove(&written.id);
        }
        if !written.place.is_in_store() {
            let key = (written.organization.clone(), written.id.clone());
            self.filed.insert(key, written.fingerprint);
        }
    }

    /// What the store says of one that the file declares; `None`: it is enabled.
    pub(super) fn put_filed(&mut self, key: (OrganizationId, SubscriptionId), fingerprint: Option<Fingerprint>) {
        match fingerprint {
            Some(fingerprint) => drop(self.filed.insert(key, fingerprint)),
            None => drop(self.filed.remove(&key)),
        }
    }

    /// Nothing is known of the file's any more: everything will be told again.
    pub(super) fn clear_filed(&mut self) {
        self.filed.clear();
    }

    /// Forgets what was learnt of subscriptions that are not there any more, or were changed meanwhile.
    pub(super) fn forget_what_changed(&mut self, snapshot: &Snapshot) {
        self.learnt.retain(|id, learnt| {
            snapshot.by_id(id).is_some_and(|it| {
                it.organization == learnt.organization && it.target.fingerprint() == learnt.fingerprint
            })
        });
    }

    fn is_known(&self, place: Place, subscription: &Subscription) -> bool {
        if self.learnt.is_empty() && self.filed.is_empty() {
            return false;
        }
        let fingerprint = subscription.target.fingerprint();
        let learnt = self.learnt.get(&subscription.id);
        if learnt.is_some_and(|it| it.organization == subscription.organization && it.fingerprint == fingerprint) {
            return true;
        }
        let filed = || self.filed.get(&(subscription.organization.clone(), subscription.id.clone()));
        !place.is_in_store() && filed() == Some(&fingerprint)
    }
}
