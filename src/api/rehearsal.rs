//! What would be wrong with a subscription, without storing it: for those who have found something wrong themselves, and
//! tell everything at once.

use super::{
    desk::{Desk, Refusal, Scope, unreadable},
    draft::{Draft, new_id},
    problem::FieldError,
    secrets::Json,
};
use crate::{
    domain::{OrganizationId, SubscriptionId},
    store,
};

impl Desk {
    /// What would be wrong with a new subscription, if anything.
    ///
    /// # Errors
    /// It could not be found out.
    pub(super) fn what_is_wrong(
        &self,
        organization: &OrganizationId,
        given: &Json,
    ) -> Result<Vec<FieldError>, Refusal> {
        problems_of(self.draft(organization, &new_id()?, &Json::new(), given))
    }

    /// What would be wrong with a subscription after a patch, if anything.
    ///
    /// # Errors
    /// It is not there, or the store is away.
    pub(super) async fn what_would_be_wrong(
        &self,
        scope: Scope<'_>,
        id: &SubscriptionId,
        patch: &Json,
    ) -> Result<Vec<FieldError>, Refusal> {
        let row = self.row(scope, id).await?;
        let stored = store::whole(&row).map_err(|error| unreadable(&row, error))?;
        problems_of(self.draft(&row.organization, id, &stored, patch))
    }
}

fn problems_of(draft: Result<Draft, Refusal>) -> Result<Vec<FieldError>, Refusal> {
    match draft {
        Ok(_) => Ok(Vec::new()),
        Err(Refusal::Invalid(errors)) => Ok(errors),
        Err(other) => Err(other),
    }
}
