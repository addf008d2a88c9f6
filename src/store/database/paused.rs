//! Targets that somebody paused. A pause lasts until it is taken back, whatever becomes of the subscriptions that lead there.

use std::time::Duration;

use sqlx::{AnyConnection, Row as _, query};

use super::{
    ChangeCounter, DEADLINE, Store, StoreError,
    row::{from_micros, to_micros},
    within,
};
use crate::domain::{LaneKey, OrganizationId, SubscriptionId, Timestamp};

/// How long it is remembered that a target was resumed: longer than any replica runs on without seeing the store.
const RESUMED_AGE: Duration = Duration::from_hours(30 * 24);

/// Whether a target is paused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PausedRow {
    /// Whose it is.
    pub organization: OrganizationId,
    /// The lane that leads there.
    pub lane: LaneKey,
    /// Since when; `None` when it was resumed.
    pub paused_at: Option<Timestamp>,
    /// What the change counter was raised to by its last change.
    pub changed: ChangeCounter,
}

impl Store {
    /// Pauses a target of an organization. One that is paused stays so since it was paused first.
    ///
    /// # Errors
    /// The store is away.
    pub async fn pause(&self, organization: &OrganizationId, lane: &LaneKey, now: Timestamp) -> Result<(), StoreError> {
        within(DEADLINE, async {
            let mut write = self.pool.write().await?;
            let paused = query(
                "INSERT INTO paused_targets (organization, target, subscription, paused_at, resumed_at, changed) \
                 VALUES ($1, $2, $3, $4, NULL, $5) \
                 ON CONFLICT (organization, target, subscription) DO UPDATE SET \
                 paused_at = excluded.paused_at, resumed_at = NULL, changed = excluded.changed \
                 WHERE paused_targets.paused_at IS NULL",
            )
            .bind(organization.as_str())
            .bind(lane.place())
            .bind(own(lane))
            .bind(to_micros(now))
            .bind(write.counter.0)
            .execute(&mut *write.transaction)
            .await?;
            if paused.rows_affected() == 0 {
                return Ok(());
            }
            let age = i64::try_from(RESUMED_AGE.as_micros()).unwrap_or(i64::MAX);
            query("DELETE FROM paused_targets WHERE paused_at IS NULL AND resumed_at < $1")
                .bind(to_micros(now).saturating_sub(age))
                .execute(&mut *write.transaction)
                .await?;
            write.commit().await
        })
        .await
    }

    /// Takes a pause back, if there is one.
    ///
    /// # Errors
    /// The store is away.
    pub async fn resume(
        &self,
        organization: &OrganizationId,
        lane: &LaneKey,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        within(DEADLINE, async {
            let mut write = self.pool.write().await?;
            let resumed = query(
                "UPDATE paused_targets SET paused_at = NULL, resumed_at = $1, changed = $2 \
                 WHERE organization = $3 AND target = $4 AND subscription = $5 AND paused_at IS NOT NULL",
            )
            .bind(to_micros(now))
            .bind(write.counter.0)
            .bind(organization.as_str())
            .bind(lane.place())
            .bind(own(lane))
            .execute(&mut *write.transaction)
            .await?;
            if resumed.rows_affected() == 0 {
                return Ok(());
            }
            write.commit().await
        })
        .await
    }
}

/// What changed since the counter was there.
pub(super) async fn changed(reader: &mut AnyConnection, since: ChangeCounter) -> Result<Vec<PausedRow>, StoreError> {
    let rows = query(
        "SELECT organization, target, subscription, paused_at, changed FROM paused_targets WHERE changed > $1 \
         ORDER BY changed",
    )
    .bind(since.0)
    .fetch_all(reader)
    .await?;
    rows.iter()
        .map(|row| {
            let target: String = row.try_get("target")?;
            let damaged =
                |what: &str| StoreError::Damaged { id: target.clone(), what: format!("{what} cannot be read") };
            let organization: String = row.try_get("organization")?;
            let organization = organization.parse().map_err(|_| damaged("organization"))?;
            let own: String = row.try_get("subscription")?;
            let own = (!own.is_empty()).then(|| own.parse::<SubscriptionId>()).transpose();
            let own = own.map_err(|_| damaged("subscription"))?;
            let paused_at = row.try_get::<Option<i64>, _>("paused_at")?;
            let paused_at = paused_at.map(|micros| from_micros(micros).ok_or_else(|| damaged("paused_at"))).transpose();
            Ok(PausedRow {
                lane: LaneKey::of_place(&organization, &target, own.as_ref()),
                paused_at: paused_at?,
                changed: ChangeCounter(row.try_get("changed")?),
                organization,
            })
        })
        .collect()
}

/// The subscription that a lane is the own one of, as it is stored.
fn own(lane: &LaneKey) -> String {
    lane.subscription().map(|id| id.as_str().to_owned()).unwrap_or_default()
}
