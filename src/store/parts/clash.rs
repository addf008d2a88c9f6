//! Subscriptions of the file and of the store that do not go together, and those of the store that wait until they do.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    domain::{OrganizationId, Subscription, SubscriptionId},
    store::{
        database::{ChangeCounter, Row},
        edits::Place,
    },
};

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

impl Clash {
    pub(super) fn idexa(organization: &OrganizationId, filed: &SubscriptionId, stored: &SubscriptionId) -> Self {
        Self::Idexa { organization: organization.clone(), filed: filed.clone(), stored: stored.clone() }
    }
}

/// A stored subscription as its row says.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) place: Place,
    pub(super) is_singular: bool,
    pub(super) changed: ChangeCounter,
    pub(super) subscription: Arc<Subscription>,
}

impl Stored {
    pub(super) fn of(row: &Row, subscription: Subscription) -> Self {
        Self {
            place: Place::in_store(row.sequence),
            is_singular: row.singular.is_some(),
            changed: row.changed,
            subscription: Arc::new(subscription),
        }
    }
}

/// Stored ones that clash with the file: left out until they do not. No more than there are rows.
pub(super) type Waiting = BTreeMap<SubscriptionId, Stored>;

pub(super) fn tell(row: &Row, clash: &Clash) {
    tracing::error!(
        docrelay.subscription = %row.id, docrelay.organization = %row.organization, %clash,
        "Stored subscription left out until the file or the store is changed"
    );
}
