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
    /// Of the URL that it concerns.
    pub fingerprint: Fingerprint,
    /// Why it is disabled; `None` when it is enabled again.
    pub reason: Option<String>,
    /// When it was disabled.
    pub disabled_at: Timestamp,
}

impl Store {
    /// Disables a subscription of the file while its target has this URL. Says whether it was not before.
    ///
    /// # Errors
    /// The store is away.
    pub async fn disable_filed(
        &self,
        organization: &OrganizationId,
        id: &SubscriptionId,
        fingerprint: Fingerprint,
        reason: &str,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        within(DEADLINE, async {
            let mut write = self.pool.write().await?;
            let disabled = query(
                "INSERT INTO filed_disabled (organization, id, fingerprint, reason, disabled_at, changed) \
                 VALUES ($1, $2, $3, $4, $5, $6) \
                 ON CONFLICT (organization, id) DO UPDATE SET fingerprint = excluded.fingerprint, \
                 reason = excluded.reason, disabled_at = excluded.disabled_at, changed = excluded.changed \
                 WHERE filed_disabled.reason IS NULL OR filed_disabled.reason <> excluded.reason \
                 OR filed_disabled.fingerprint <> excluded.fingerprint",
            )
            .bind(organization.as_str())
            .bind(id.as_str())
            .bind(fingerprint.to_string())
            .bind(reason)
            .bind(to_micros(now))
            .bind(write.counter.0)
            .execute(&mut *write.transaction)
            .await?;
            if disabled.rows_affected() == 0 {
                return Ok(false);
            }
            write.commit().await?;
            Ok(true)
        })
        .await
    }

    /// Enables a subscription of the file again that the system disabled. Says whether it was disabled.
    ///
    /// # Errors
    /// The store is away.
    pub async fn enable_filed(&self, organization: &OrganizationId, id: &SubscriptionId) -> Result<bool, StoreError> {
        within(DEADLINE, async {
            let mut write = self.pool.write().await?;
            let enabled = query(
                "UPDATE filed_disabled SET reason = NULL, changed = $1 \
                 WHERE organization = $2 AND id = $3 AND reason IS NOT NULL",
            )
            .bind(write.counter.0)
            .bind(organization.as_str())
            .bind(id.as_str())
            .execute(&mut *write.transaction)
            .await?;
            if enabled.rows_affected() == 0 {
                return Ok(false);
            }
            write.commit().await?;
            Ok(true)
        })
        .await
    }
}

/// What changed since the counter was there.
pub(super) async fn changed(reader: &mut AnyConnection, since: ChangeCounter) -> Result<Vec<FiledRow>, StoreError> {
    let rows = query(
        "SELECT organization, id, fingerprint, reason, disabled_at FROM filed_disabled WHERE changed > $1 \
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
                id: id.parse().map_err(|_| damaged("id"))?,
            })
        })
        .collect()
}
