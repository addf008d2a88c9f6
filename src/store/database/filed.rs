//! Subscriptions that a file declares and that the system disabled. The file says what they are; here stands only that,
//! why, and for which URL: one that the file gives another URL is not concerned any more.

use sqlx::{AnyConnection, Row as _, query};

use super::{
    ChangeCounter, DEADLINE, Store, StoreError,
    row::{from_micros, to_micros},
    within,
};
use crate::domain::{Fingerprint, OrganizationId, SubscriptionId, Timestamp};

/// Whether a subscription of the file is disabled by the system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FiledRow {
    /// Whose it is.
    pub organization: OrganizationId,
    /// Its id.
    pub id: SubscriptionId,
    /// Of the URL that it concerns. Each URL has a row of its own: replicas may have different files for a while.
    pub fingerprint: Fingerprint,
    /// Why it is disabled; `None` when it is enabled again.
    pub reason: Option<String>,
    /// When it was disabled; where it never was, when it was enabled.
    pub disabled_at: Timestamp,
    /// What the change counter was raised to by its last change.
    pub changed: ChangeCounter,
}

impl Store {
    /// Disables a subscription of the file while its target has this URL, unless that was changed after `known`. `None`
    /// when it was, or when it is disabled already; otherwise what the change counter was raised to.
    ///
    /// # Errors
    /// The store is away.
    pub async fn disable_filed(
        &self,
        organization: &OrganizationId,
        id: &SubscriptionId,
        fingerprint: Fingerprint,
        reason: &str,
        known: ChangeCounter,
        now: Timestamp,
    ) -> Result<Option<ChangeCounter>, StoreError> {
        within(DEADLINE, async {
            let mut write = self.pool.write().await?;
            let disabled = query(
                "INSERT INTO filed_disabled (organization, id, fingerprint, reason, disabled_at, changed) \
                 VALUES ($1, $2, $3, $4, $5, $6) \
                 ON CONFLICT (organization, id, fingerprint) DO UPDATE SET \
                 reason = excluded.reason, disabled_at = excluded.disabled_at, changed = excluded.changed \
                 WHERE filed_disabled.changed <= $7 \
                 AND (filed_disabled.reason IS NULL OR filed_disabled.reason <> excluded.reason)",
            )
            .bind(organization.as_str())
            .bind(id.as_str())
            .bind(fingerprint.to_string())
            .bind(reason)
            .bind(to_micros(now))
            .bind(write.counter.0)
            .bind(known.0)
            .execute(&mut *write.transaction)
            .await?;
            if disabled.rows_affected() == 0 {
                return Ok(None);
            }
            let changed = write.counter;
            write.commit().await?;
            Ok(Some(changed))
        })
        .await
    }

    /// Enables a subscription of the file again while its target has this URL. That is written even if it was never
    /// disabled here: a replica may be about to do so, and must learn that somebody said otherwise.
    ///
    /// # Errors
    /// The store is away.
    pub async fn enable_filed(
        &self,
        organization: &OrganizationId,
        id: &SubscriptionId,
        fingerprint: Fingerprint,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        within(DEADLINE, async {
            let mut write = self.pool.write().await?;
            query(
                "INSERT INTO filed_disabled (organization, id, fingerprint, reason, disabled_at, changed) \
                 VALUES ($1, $2, $3, NULL, $4, $5) \
                 ON CONFLICT (organization, id, fingerprint) DO UPDATE SET reason = NULL, changed = excluded.changed",
            )
            .bind(organization.as_str())
            .bind(id.as_str())
            .bind(fingerprint.to_string())
            .bind(to_micros(now))
            .bind(write.counter.0)
            .execute(&mut *write.transaction)
            .await?;
            write.commit().await
        })
        .await
    }
}

/// What changed since the counter was there.
pub(super) async fn changed(reader: &mut AnyConnection, since: ChangeCounter) -> Result<Vec<FiledRow>, StoreError> {
    let rows = query(
        "SELECT organization, id, fingerprint, reason, disabled_at, changed FROM filed_disabled WHERE changed > $1 \
         ORDER BY changed",
    )
    .bind(since.0)
    .fetch_all(reader)
    .await?;
    rows.iter()
        .map(|row| {
            let id: String = row.try_get("id")?;
            let damaged = |what: &str| StoreError::Damaged { id: id.clone(), what: format!("{what} cannot be read") };
            let organization: String = row.try_get("organization")?;
            let fingerprint: String = row.try_get("fingerprint")?;
            Ok(FiledRow {
                organization: organization.parse().map_err(|_| damaged("organization"))?,
                fingerprint: fingerprint.parse().map_err(|_| damaged("fingerprint"))?,
                reason: row.try_get("reason")?,
                disabled_at: from_micros(row.try_get("disabled_at")?).ok_or_else(|| damaged("disabled_at"))?,
                changed: ChangeCounter(row.try_get("changed")?),
                id: id.parse().map_err(|_| damaged("id"))?,
            })
        })
        .collect()
}
