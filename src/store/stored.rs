//! What is in memory of the database's subscriptions: all of them as they were at one value of the change counter. Pure
//! but for a log line about each row that cannot be read.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::{
    database::{ChangeCounter, Changes, Loaded, Row},
    document::{BadDocument, from_document},
    file::Defaults,
};
use crate::domain::{Subscription, SubscriptionId};

/// The database's subscriptions at one value of its counter.
#[derive(Debug, Clone, Default)]
pub(super) struct Stored {
    /// By their place among all, which is the order of matches.
    by_place: BTreeMap<i64, Arc<Subscription>>,
    places: HashMap<SubscriptionId, i64>,
    counter: ChangeCounter,
}

/// Why a first load is not complete.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the stored subscription {id}: {cause}")]
pub(super) struct Incomplete {
    id: SubscriptionId,
    cause: BadDocument,
}

impl Stored {
    /// Everything that was loaded. A row that cannot be read is left out, and told, only if it is disabled: the events of
    /// any other would find nobody.
    ///
    /// # Errors
    /// Secrets of a row cannot be read: a key is missing, and nothing may be consumed before somebody gives it.
    pub(super) fn of(loaded: &Loaded, defaults: &Defaults) -> Result<Self, Incomplete> {
        let mut stored = Self { counter: loaded.counter, ..Self::default() };
        let mut left_out = Vec::new();
        for row in &loaded.rows {
            match stored.put(row, defaults) {
                Ok(()) => {}
                Err(cause) if row.disabled_reason.is_some() => left_out.push((row, cause)),
                Err(cause) => return Err(Incomplete { id: row.id.clone(), cause }),
            }
        }
        // At the end: a load that is not complete is done again and again, and would tell it again and again.
        for (row, cause) in left_out {
            tell(row, &cause);
        }
        Ok(stored)
    }

    /// The same after some changes. A changed row that cannot be read is told, and stays in force as it was; but one that
    /// was disabled is disabled.
    pub(super) fn after(&self, changes: &Changes, defaults: &Defaults) -> Self {
        let mut after = self.clone();
        after.counter = changes.counter;
        for row in &changes.rows {
            if let Err(cause) = after.put(row, defaults) {
                tell(row, &cause);
                if row.disabled_reason.is_some() {
                    after.disable(&row.id);
                }
            }
        }
        for tombstone in &changes.gone {
            if let Some(place) = after.places.remove(&tombstone.id) {
                after.by_place.remove(&place);
            }
        }
        after
    }

    /// Where to go on.
    pub(super) fn counter(&self) -> ChangeCounter {
        self.counter
    }

    /// Whether one with this id is here.
    pub(super) fn has(&self, id: &SubscriptionId) -> bool {
        self.places.contains_key(id)
    }

    /// Each of them, in the order they were made.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Subscription>> {
        self.by_place.values()
    }

    fn put(&mut self, row: &Row, defaults: &Defaults) -> Result<(), BadDocument> {
        let subscription = from_document(row, defaults)?;
        self.places.insert(row.id.clone(), row.sequence);
        self.by_place.insert(row.sequence, Arc::new(subscription));
        Ok(())
    }
}

impl Stored {
    fn disable(&mut self, id: &SubscriptionId) {
        let place = self.places.get(id).and_then(|place| self.by_place.get_mut(place));
        if let Some(subscription) = place {
            *subscription = Arc::new(Subscription { enabled: false, ..(**subscription).clone() });
        }
    }
}

fn tell(row: &Row, error: &BadDocument) {
    tracing::error!(
        subscription.id = %row.id, organization.id = %row.organization, %error,
        "Stored subscription cannot be read"
    );
}
