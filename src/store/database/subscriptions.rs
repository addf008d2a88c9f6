//! Subscriptions, one at a time and in pages, for whoever may see one organization's. Another organization's id answers
//! exactly as one that was never there.

use sqlx::{Any, Transaction, query, query_scalar};

use super::{
    ChangeCounter, Content, Cursor, DEADLINE, InsertError, NewSubscription, Origin, Row, Store, StoreError,
    UpdateError,
    row::{columns, from_micros, kept, to_micros},
    within,
};
use crate::{
    domain::{OrganizationId, Secret, SubscriptionId, Timestamp},
    secrets::Owner,
};

/// A part of a list, in the order the subscriptions were made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The subscriptions.
    pub rows: Vec<Row>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<Cursor>,
}

impl Store {
    /// Stores a new subscription.
    ///
    /// # Errors
    /// The organization has one with this `singular` already, the id is taken, there is no key for its secrets, or the
    /// store is away. Nothing was stored then, unless it went away just when it was told to commit.
    pub async fn insert(&self, new: &NewSubscription, now: Timestamp) -> Result<Row, InsertError> {
        let secrets = self.seal(new.content.secrets.as_ref(), &new.organization, &new.id)?;
        within(DEADLINE, async {
            let mut write = self.pool.write().await?;
            // Nobody else writes now, so what is not there will not come; the constraint is there for other programs.
            if let Some(singular) = &new.singular
                && let Some(existing) = holder(&mut write.transaction, &new.organization, singular).await?
            {
                return Err(InsertError::Conflict { existing });
            }
            let inserted = query(
                "INSERT INTO subscriptions (id, organization, origin, singular, document, secrets, created_at, updated_at, \
                 disabled_reason, deleted_at, sequence, changed) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $7, $8, NULL, $9, $9) ON CONFLICT (id) DO NOTHING",
            )
            .bind(new.id.as_str())
            .bind(new.organization.as_str())
            .bind(new.origin.as_str())
            .bind(new.singular.as_deref())
            .bind(&*new.content.document)
            .bind(secrets)
            .bind(to_micros(now))
            .bind(new.content.disabled_reason.as_deref())
            .bind(write.counter.0)
            .execute(&mut *write.transaction)
            .await?;
            if inserted.rows_affected() == 0 {
                return Err(InsertError::IdTaken);
            }
            let row = self.row(&mut write.transaction, &new.organization, &new.id).await?;
            write.commit().await?;
            row.ok_or_else(|| damaged(&new.id).into())
        })
        .await
    }

    /// One subscription of an organization; `None` when it is not there, was deleted, or is somebody else's.
    ///
    /// # Errors
    /// The store is away.
    pub async fn get(&self, organization: &OrganizationId, id: &SubscriptionId) -> Result<Option<Row>, StoreError> {
        within(DEADLINE, async {
            let mut reader = self.pool.reader().await?;
            let row = query(SELECT_ONE).bind(organization.as_str()).bind(id.as_str()).fetch_optional(&mut *reader);
            row.await?.map(|row| kept(&row, &self.keys)).transpose()
        })
        .await
    }

    /// One subscription, whosever it is; `None` when it is not there or was deleted.
    ///
    /// # Errors
    /// The store is away.
    pub async fn find(&self, id: &SubscriptionId) -> Result<Option<Row>, StoreError> {
        within(DEADLINE, async {
            let mut reader = self.pool.reader().await?;
            let row = query(FIND_ONE).bind(id.as_str()).fetch_optional(&mut *reader);
            row.await?.map(|row| kept(&row, &self.keys)).transpose()
        })
        .await
    }

    /// An organization's subscriptions, of one origin or of all, at most `limit`, from the cursor on. What is made
    /// meanwhile comes last; nothing comes twice.
    ///
    /// # Errors
    /// The store is away.
    pub async fn list(
        &self,
        organization: &OrganizationId,
        origin: Option<Origin>,
        from: Option<Cursor>,
        limit: u32,
    ) -> Result<Page, StoreError> {
        self.page(LIST_ONES, organization.as_str(), origin, from, limit).await
    }

    /// The same of all organizations.
    ///
    /// # Errors
    /// The store is away.
    pub async fn list_all(&self, origin: Option<Origin>, from: Option<Cursor>, limit: u32) -> Result<Page, StoreError> {
        self.page(LIST_ALL, "", origin, from, limit).await
    }

    async fn page(
        &self,
        statement: &'static str,
        organization: &str,
        origin: Option<Origin>,
        from: Option<Cursor>,
        limit: u32,
    ) -> Result<Page, StoreError> {
        within(DEADLINE, async {
            let mut reader = self.pool.reader().await?;
            let rows = query(statement)
                .bind(organization)
                .bind(from.map_or(0, |cursor| cursor.0))
                .bind(origin.map_or("", Origin::as_str))
                // One more, to know whether there is a next page.
                .bind(i64::from(limit) + 1)
                .fetch_all(&mut *reader)
                .await?;
            let limit = usize::try_from(limit).unwrap_or(usize::MAX);
            let more = rows.len() > limit;
            let rows: Vec<Row> =
                rows.iter().take(limit).map(|row| kept(row, &self.keys)).collect::<Result<_, StoreError>>()?;
            let next = rows.last().filter(|_| more).map(|row| Cursor(row.sequence));
            Ok(Page { rows, next })
        })
        .await
    }

    /// Gives a subscription other content, all of it. With `expected`, only if nothing changed since that `updated_at`.
    /// `None` when it is not there.
    ///
    /// # Errors
    /// It was changed meanwhile, there is no key for its secrets, or the store is away.
    pub async fn update(
        &self,
        organization: &OrganizationId,
        id: &SubscriptionId,
        expected: Option<Timestamp>,
        content: &Content,
        now: Timestamp,
    ) -> Result<Option<Row>, UpdateError> {
        let secrets = self.seal(content.secrets.as_ref(), organization, id)?;
        within(DEADLINE, async {
            let mut write = self.pool.write().await?;
            let Some(before) = self.row(&mut write.transaction, organization, id).await? else { return Ok(None) };
            if expected.is_some_and(|expected| to_micros(expected) != to_micros(before.updated_at)) {
                return Err(UpdateError::Changed { updated_at: before.updated_at });
            }
            query(
                "UPDATE subscriptions SET document = $1, secrets = $2, disabled_reason = $3, updated_at = $4, \
                 changed = $5 WHERE id = $6",
            )
            .bind(&*content.document)
            .bind(secrets)
            .bind(content.disabled_reason.as_deref())
            .bind(to_micros(later(before.updated_at, now)))
            .bind(write.counter.0)
            .bind(id.as_str())
            .execute(&mut *write.transaction)
            .await?;
            let row = self.row(&mut write.transaction, organization, id).await?;
            write.commit().await?;
            Ok(row)
        })
        .await
    }

    /// Deletes a subscription and leaves a tombstone. Says whether it was there.
    ///
    /// # Errors
    /// The store is away.
    pub async fn delete(
        &self,
        organization: &OrganizationId,
        id: &SubscriptionId,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        self.delete_version(organization, id, None, now).await
    }

    /// The same; with `expected`, only if nothing changed since that `updated_at`. Says whether it was there, as it was
    /// expected.
    ///
    /// # Errors
    /// The store is away.
    pub async fn delete_version(
        &self,
        organization: &OrganizationId,
        id: &SubscriptionId,
        expected: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        within(DEADLINE, async {
            let mut write = self.pool.write().await?;
            let deleted = query(
                "UPDATE subscriptions SET document = '', secrets = NULL, singular = NULL, disabled_reason = NULL, \
                 updated_at = $1, deleted_at = $1, changed = $2 \
                 WHERE organization = $3 AND id = $4 AND deleted_at IS NULL AND (updated_at = $5 OR $5 = 0)",
            )
            .bind(to_micros(now))
            .bind(write.counter.0)
            .bind(organization.as_str())
            .bind(id.as_str())
            // Nothing was changed at the beginning of time.
            .bind(expected.map_or(0, to_micros))
            .execute(&mut *write.transaction)
            .await?;
            if deleted.rows_affected() == 0 {
                return Ok(false);
            }
            write.commit().await?;
            Ok(true)
        })
        .await
    }

    /// Disables a subscription for a reason of the system's own, whosever it is, unless it was changed after `known`.
    /// `None` when it was, is not there, or is disabled for that reason already; otherwise what the change counter was
    /// raised to.
    ///
    /// # Errors
    /// The store is away.
    pub async fn disable(
        &self,
        id: &SubscriptionId,
        reason: &str,
        known: ChangeCounter,
        now: Timestamp,
    ) -> Result<Option<ChangeCounter>, StoreError> {
        within(DEADLINE, async {
            let mut write = self.pool.write().await?;
            let before: Option<i64> = query_scalar(
                "SELECT updated_at FROM subscriptions WHERE id = $1 AND deleted_at IS NULL \
                 AND (disabled_reason IS NULL OR disabled_reason <> $2) AND changed <= $3",
            )
            .bind(id.as_str())
            .bind(reason)
            .bind(known.0)
            .fetch_optional(&mut *write.transaction)
            .await?;
            let Some(before) = before else { return Ok(None) };
            let before = from_micros(before).ok_or_else(|| damaged(id))?;
            query("UPDATE subscriptions SET disabled_reason = $1, updated_at = $2, changed = $3 WHERE id = $4")
                .bind(reason)
                .bind(to_micros(later(before, now)))
                .bind(write.counter.0)
                .bind(id.as_str())
                .execute(&mut *write.transaction)
                .await?;
            let changed = write.counter;
            write.commit().await?;
            Ok(Some(changed))
        })
        .await
    }

    pub(super) fn seal(
        &self,
        secrets: Option<&Secret>,
        organization: &OrganizationId,
        id: &SubscriptionId,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let seal = |secrets| self.keys.seal(secrets, Owner { organization, id });
        Ok(secrets.map(seal).transpose()?)
    }

    async fn row(
        &self,
        transaction: &mut Transaction<'static, Any>,
        organization: &OrganizationId,
        id: &SubscriptionId,
    ) -> Result<Option<Row>, StoreError> {
        let row = query(SELECT_ONE).bind(organization.as_str()).bind(id.as_str()).fetch_optional(&mut **transaction);
        row.await?.map(|row| kept(&row, &self.keys)).transpose()
    }
}

const SELECT_ONE: &str =
    concat!("SELECT ", columns!(), " FROM subscriptions WHERE organization = $1 AND id = $2 AND deleted_at IS NULL");

const FIND_ONE: &str = concat!("SELECT ", columns!(), " FROM subscriptions WHERE id = $1 AND deleted_at IS NULL");

const LIST_ONES: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM subscriptions WHERE organization = $1 AND sequence > $2 AND deleted_at IS NULL \
     AND ($3 = '' OR origin = $3) ORDER BY sequence LIMIT $4"
);

/// Takes the same values as [`LIST_ONES`]; the first is empty.
const LIST_ALL: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM subscriptions WHERE $1 = '' AND sequence > $2 AND deleted_at IS NULL \
     AND ($3 = '' OR origin = $3) ORDER BY sequence LIMIT $4"
);

/// Which subscription holds what an organization may have only one of.
async fn holder(
    transaction: &mut Transaction<'static, Any>,
    organization: &OrganizationId,
    singular: &str,
) -> Result<Option<SubscriptionId>, StoreError> {
    let id: Option<String> = query_scalar("SELECT id FROM subscriptions WHERE organization = $1 AND singular = $2")
        .bind(organization.as_str())
        .bind(singular)
        .fetch_optional(&mut **transaction)
        .await?;
    let parse = |id: String| id.parse().map_err(|error| StoreError::Damaged { what: format!("id {error}"), id });
    id.map(parse).transpose()
}

/// The time of a change: never the same as that of the one before, however clocks stand.
fn later(before: Timestamp, now: Timestamp) -> Timestamp {
    now.max(before.after(std::time::Duration::from_micros(1)))
}

fn damaged(id: &SubscriptionId) -> StoreError {
    StoreError::Damaged { id: id.to_string(), what: "it cannot be read back".to_owned() }
}
