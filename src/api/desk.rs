//! Subscriptions for those who may see them: create, read, list, change, delete, as canonical JSON, for any of the APIs
//! that speak of them in their own words. Knows no HTTP. Every change is in force here before it is answered.

use std::sync::{Arc, Weak};

use super::{
    draft::{Draft, new_id},
    lanes::Figures,
    place::Place,
    problem::FieldError,
    products,
    secrets::Json,
    trial::Trials,
    view::{self, Shown},
};
use crate::{
    domain::{FailureKind, OrganizationId, Payload, State, Subscription, SubscriptionId, Timestamp},
    flow::{LaneFigures, TryOut},
    secrets::OpenError,
    store::{
        self, BadDocument, StoreHandle, Subscriptions,
        database::{InsertError, NewSubscription, Origin, Row, Store, StoreError, UpdateError},
    },
};

/// How often a change is made anew when somebody else was faster.
const MOST_TRIES: usize = 5;

/// What an organization may have only one of: its webhook for finished documents.
const SINGULAR: &str = "idexa:0";

/// Subscriptions, at rest and in force.
#[derive(Debug, Clone)]
pub struct Desk {
    pub(super) store: StoreHandle,
    pub(super) subscriptions: Arc<Subscriptions>,
    pub(super) clock: fn() -> Timestamp,
    trials: Option<Trials>,
    figures: Option<Figures>,
}

/// Which subscriptions somebody may see.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scope<'a> {
    /// One organization's, or everybody's.
    pub(super) organization: Option<&'a OrganizationId>,
    /// Those that one API made, or all of them, those of the file included.
    pub(super) origin: Option<Origin>,
}

/// Part of a list.
#[derive(Debug)]
pub(super) struct Listed {
    /// The subscriptions.
    pub(super) items: Vec<Shown>,
    /// Where the rest begins.
    pub(super) next: Option<Place>,
}

/// Why something was not done.
#[derive(Debug)]
pub(super) enum Refusal {
    /// It is not there, or not for whoever asks.
    Absent,
    /// No subscription leads to such a target, and it is not paused; or not for whoever asks.
    NoTarget,
    /// Fields are not accepted.
    Invalid(Vec<FieldError>),
    /// The organization may have one only, and has this one.
    Conflict(SubscriptionId),
    /// The subscriptions file declares it.
    Declared,
    /// Somebody else changed it.
    Changed,
    /// No test send can be made now; says why.
    Busy(String),
    /// A defect of ours; says which.
    Defect(String),
    /// Its secrets cannot be read.
    Locked(OpenError),
    /// The database did not do its part.
    Store(StoreError),
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Desk {
    /// A desk before these subscriptions. `clock` tells the time of changes.
    #[must_use]
    pub fn new(store: StoreHandle, subscriptions: Arc<Subscriptions>, clock: fn() -> Timestamp) -> Self {
        Self { store, subscriptions, clock, trials: None, figures: None }
    }

    /// The same with somebody who makes test sends.
    #[must_use]
    pub fn with_trials(self, trials: Weak<dyn TryOut>) -> Self {
        Self { trials: Some(Trials(trials)), ..self }
    }

    /// The same with somebody who knows how lanes stand.
    #[must_use]
    pub fn with_figures(self, figures: Weak<dyn LaneFigures>) -> Self {
        Self { figures: Some(Figures(figures)), ..self }
    }

    pub(super) fn figures(&self) -> Option<&Figures> {
        self.figures.as_ref()
    }

    pub(super) fn trials(&self) -> Option<&Trials> {
        self.trials.as_ref()
    }

    /// One subscription as it is now, wherever it is declared.
    ///
    /// # Errors
    /// It is not there, it cannot be read, or the store is away.
    pub(super) async fn subscription(&self, scope: Scope<'_>, id: &SubscriptionId) -> Result<Subscription, Refusal> {
        if let Some(declared) = self.declared(scope, id) {
            return Ok((*declared).clone());
        }
        let row = self.row(scope, id).await?;
        store::from_document(&row, self.subscriptions.stored_defaults()).map_err(|error| unreadable(&row, error))
    }

    /// The database.
    ///
    /// # Errors
    /// It could not be opened yet.
    pub(super) fn store(&self) -> Result<Store, StoreError> {
        self.store.store().ok_or_else(|| StoreError::Away("it could not be opened yet".into()))
    }

    /// Makes a subscription of canonical JSON, without id and organization. `aside` is kept beside it for the API that
    /// makes it, and means nothing. A signing secret that is asked for stands in
    /// the answer, this once.
    ///
    /// # Errors
    /// Fields are not accepted, the organization has one of its kind, or the store is away.
    pub(super) async fn create(
        &self,
        organization: &OrganizationId,
        origin: Origin,
        given: &Json,
        aside: &Json,
    ) -> Result<Shown, Refusal> {
        view::told_by_nobody(given).map_err(Refusal::Invalid)?;
        let id = new_id()?;
        let draft = self.draft(organization, &id, &Json::new(), given)?;
        let is_singular = draft.subscription.payload == Payload::Idexa;
        if is_singular && let Some(declared) = self.declared_idexa(organization) {
            return Err(Refusal::Conflict(declared));
        }
        let new = NewSubscription {
            id,
            organization: organization.clone(),
            origin,
            singular: is_singular.then(|| SINGULAR.to_owned()),
            content: draft.content(aside, None),
        };
        let row = self.store()?.insert(&new, (self.clock)()).await.map_err(|error| match error {
            InsertError::Conflict { existing } => Refusal::Conflict(existing),
            // Random ids do not meet; should they, the next try draws another one.
            InsertError::IdTaken => Refusal::Changed,
            InsertError::Store(error) => Refusal::Store(error),
        })?;
        self.store.bring_into_force().await?;
        Ok(self.show(&row).with_generated(draft.generated))
    }

    /// One subscription.
    ///
    /// # Errors
    /// It is not there, or the store is away.
    pub(super) async fn get(&self, scope: Scope<'_>, id: &SubscriptionId) -> Result<Shown, Refusal> {
        if let Some(declared) = self.declared(scope, id) {
            return Ok(view::declared(&declared));
        }
        Ok(self.show(&self.row(scope, id).await?))
    }

    /// Subscriptions from a place on, those of the file first, then the others as they were made; at most `limit`.
    ///
    /// # Errors
    /// The store is away.
    pub(super) async fn list(&self, scope: Scope<'_>, from: Option<&Place>, limit: u32) -> Result<Listed, Refusal> {
        let store = self.store()?;
        let most = usize::try_from(limit).unwrap_or(usize::MAX);
        let (mut items, from) = match from {
            Some(Place::Stored(cursor)) => (Vec::new(), Some(*cursor)),
            before => {
                let after = before.and_then(Place::declared);
                let all = self.subscriptions.declared();
                let mut found: Vec<_> = all.iter().filter(|it| is_within(scope, it)).collect();
                found.sort_unstable_by_key(|it| &it.id);
                let left: Vec<_> = found.into_iter().filter(|it| after.is_none_or(|after| it.id > *after)).collect();
                let shown: Vec<_> = left.iter().take(most).map(|it| view::declared(it)).collect();
                if left.len() > most {
                    let next = shown.last().map(|last| Place::Declared(last.id.clone()));
                    return Ok(Listed { items: shown, next });
                }
                (shown, None)
            }
        };
        // One at least, to know whether there is more.
        let room = limit.saturating_sub(u32::try_from(items.len()).unwrap_or(u32::MAX));
        let page = match scope.organization {
            Some(organization) => store.list(organization, scope.origin, from, room.max(1)).await?,
            None => store.list_all(scope.origin, from, room.max(1)).await?,
        };
        if room == 0 {
            let last = items.last().map(|last| Place::Declared(last.id.clone()));
            return Ok(Listed { items, next: last.filter(|_| !page.rows.is_empty()) });
        }
        items.extend(page.rows.iter().map(|row| self.show(row)));
        Ok(Listed { items, next: page.next.map(Place::Stored) })
    }

    /// Lays a merge patch (RFC 7396) over a subscription. With `expected`, only if nothing changed since that time.
    ///
    /// # Errors
    /// It is not there, belongs to the file, was changed, fields are not accepted, or the store is away.
    pub(super) async fn patch(
        &self,
        scope: Scope<'_>,
        id: &SubscriptionId,
        expected: Option<Timestamp>,
        patch: &Json,
    ) -> Result<Shown, Refusal> {
        if let Some(declared) = self.declared(scope, id) {
            return self.enable_declared(&declared, expected, patch).await;
        }
        for _ in 0..MOST_TRIES {
            let row = self.row(scope, id).await?;
            if expected.is_some_and(|expected| !view::is_same(expected, row.updated_at)) {
                return Err(Refusal::Changed);
            }
            match self.patch_once(&row, patch).await {
                Err(Refusal::Changed) => {}
                done => return done,
            }
        }
        Err(Refusal::Changed)
    }

    /// Deletes a subscription. With `expected`, only if nothing changed since that time.
    ///
    /// # Errors
    /// It is not there, belongs to the file, was changed, or the store is away.
    pub(super) async fn delete(
        &self,
        scope: Scope<'_>,
        id: &SubscriptionId,
        expected: Option<Timestamp>,
    ) -> Result<(), Refusal> {
        if self.declared(scope, id).is_some() {
            return Err(Refusal::Declared);
        }
        let row = self.row(scope, id).await?;
        if expected.is_some_and(|expected| !view::is_same(expected, row.updated_at)) {
            return Err(Refusal::Changed);
        }
        let version = expected.map(|_| row.updated_at);
        if !self.store()?.delete_version(&row.organization, id, version, (self.clock)()).await? {
            // Somebody else was faster, and deleted it or changed it.
            self.row(scope, id).await?;
            return Err(Refusal::Changed);
        }
        self.store.bring_into_force().await?;
        Ok(())
    }

    /// The file says what its subscriptions are; that one's target is not gone any more, it cannot say.
    async fn enable_declared(
        &self,
        declared: &Subscription,
        expected: Option<Timestamp>,
        patch: &Json,
    ) -> Result<Shown, Refusal> {
        let is_to_be_enabled = patch.len() == 1 && patch.get("enabled") == Some(&true.into());
        if !is_to_be_enabled || declared.state != State::Gone {
            return Err(Refusal::Declared);
        }
        if expected.is_some() {
            // It has no version, so it is none that was ever told.
            return Err(Refusal::Changed);
        }
        let fingerprint = declared.target.fingerprint();
        self.store()?.enable_filed(&declared.organization, &declared.id, fingerprint, (self.clock)()).await?;
        self.store.bring_into_force().await?;
        self.subscriptions.declared_one(&declared.id).map(|now| view::declared(&now)).ok_or(Refusal::Absent)
    }

    async fn patch_once(&self, row: &Row, patch: &Json) -> Result<Shown, Refusal> {
        let patch = view::without_what_is_told(&self.show(row), patch).map_err(Refusal::Invalid)?;
        let stored = store::whole(row).map_err(|error| unreadable(row, error))?;
        let draft = self.draft(&row.organization, &row.id, &stored, &patch)?;
        if (draft.subscription.payload == Payload::Idexa) != row.singular.is_some() {
            let text = "cannot become idexa, or something else: delete the subscription and create another one";
            return Err(Refusal::Invalid(vec![FieldError::at("/payload", text)]));
        }
        let untold = products::untold(row.origin, &draft.subscription);
        if !untold.is_empty() {
            return Err(Refusal::Invalid(untold));
        }
        // Whoever enables it says that the reason is no more. What is gone is a URL, not a subscription.
        let is_enabled = patch.get("enabled") == Some(&true.into());
        let before = store::from_document(row, self.subscriptions.defaults());
        let is_elsewhere =
            before.is_ok_and(|before| before.target.fingerprint() != draft.subscription.target.fingerprint());
        let is_over = |reason: &str| is_enabled || (is_elsewhere && reason == FailureKind::Gone.as_str());
        let reason = row.disabled_reason.clone().filter(|reason| !is_over(reason));
        let content = draft.content(&store::aside(row), reason);
        let updated =
            self.store()?.update(&row.organization, &row.id, Some(row.updated_at), &content, (self.clock)()).await;
        let row = updated.map_err(|error| match error {
            UpdateError::Changed { .. } => Refusal::Changed,
            UpdateError::Store(error) => Refusal::Store(error),
        })?;
        let row = row.ok_or(Refusal::Absent)?;
        self.store.bring_into_force().await?;
        Ok(self.show(&row).with_generated(draft.generated))
    }

    /// What becomes of a subscription by a patch, checked by the rules of the file.
    pub(super) fn draft(
        &self,
        organization: &OrganizationId,
        id: &SubscriptionId,
        stored: &Json,
        patch: &Json,
    ) -> Result<Draft, Refusal> {
        Draft::of(&self.subscriptions, organization, id, stored, patch)
    }

    pub(super) async fn row(&self, scope: Scope<'_>, id: &SubscriptionId) -> Result<Row, Refusal> {
        let store = self.store()?;
        let row = match scope.organization {
            Some(organization) => store.get(organization, id).await?,
            None => store.find(id).await?,
        };
        row.filter(|row| scope.origin.is_none_or(|origin| origin == row.origin)).ok_or(Refusal::Absent)
    }

    fn show(&self, row: &Row) -> Shown {
        view::stored(row, self.subscriptions.stored_defaults())
    }

    fn declared(&self, scope: Scope<'_>, id: &SubscriptionId) -> Option<Arc<Subscription>> {
        self.subscriptions.declared_one(id).filter(|it| is_within(scope, it))
    }

    fn declared_idexa(&self, organization: &OrganizationId) -> Option<SubscriptionId> {
        let all = self.subscriptions.declared();
        let found = all.iter().find(|it| it.payload == Payload::Idexa && it.organization == *organization);
        found.map(|it| it.id.clone())
    }
}

/// Whether a subscription of the file may be seen.
fn is_within(scope: Scope<'_>, subscription: &Subscription) -> bool {
    scope.origin.is_none() && scope.organization.is_none_or(|organization| subscription.organization == *organization)
}

pub(super) fn unreadable(row: &Row, error: BadDocument) -> Refusal {
    match error {
        BadDocument::Secrets(error) => Refusal::Locked(error),
        error => Refusal::Store(StoreError::Damaged { id: row.id.to_string(), what: error.to_string() }),
    }
}
