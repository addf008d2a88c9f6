//! All subscriptions at once, and what changed since: for whoever keeps them in memory. And their secrets under another
//! key.

use std::time::Duration;

use futures_util::TryStreamExt as _;
use sqlx::{AnyConnection, Row as _, query, query_scalar};

use super::{
    ChangeCounter, DEADLINE, LOAD_DEADLINE, Row, Store, StoreError, Tombstone,
    filed::{self, FiledRow},
    paused::{self, PausedRow},
    row::{Entry, columns, entry, to_micros},
    within,
};
use crate::{
    domain::{MAX_RETRY_AGE, OrganizationId, SubscriptionId, now},
    secrets::{OpenError, Owner},
};

/// How long a deletion matters: longer than any delivery may wait.
pub const TOMBSTONE_AGE: Duration = Duration::from_hours(8 * 24);
const _: () = assert!(TOMBSTONE_AGE.as_secs() > MAX_RETRY_AGE.as_secs(), "no delivery may outlive its tombstone");

/// How many deletions are known at once; the oldest are forgotten first, and then their deliveries wait until `max_age`.
pub const TOMBSTONES: usize = 100_000;

/// Everything that is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// The subscriptions, in the order they were made.
    pub rows: Vec<Row>,
    /// The latest deleted ones, the oldest first: no more than [`TOMBSTONES`], none older than [`TOMBSTONE_AGE`].
    pub gone: Vec<Tombstone>,
    /// What is known of subscriptions that a file declares.
    pub filed: Vec<FiledRow>,
    /// Targets that are paused, or were not long ago.
    pub paused: Vec<PausedRow>,
    /// Where to go on with [`Store::changes_since`].
    pub counter: ChangeCounter,
}

/// What changed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    /// New and changed subscriptions as they are now, in the order of their changes.
    pub rows: Vec<Row>,
    /// Deleted ones.
    pub gone: Vec<Tombstone>,
    /// What changed about subscriptions that a file declares. Some may be told twice.
    pub filed: Vec<FiledRow>,
    /// Targets that were paused or resumed. Some may be told twice.
    pub paused: Vec<PausedRow>,
    /// Where to go on. Less than what was asked for when the database is not the one it was, restored from a backup, say:
    /// then only [`Store::load_all`] tells the truth.
    pub counter: ChangeCounter,
}

impl Changes {
    /// Whether nothing changed that anybody keeps in memory.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.gone.is_empty() && self.filed.is_empty() && self.paused.is_empty()
    }
}

/// What became of secrets that were to be encrypted with the first key.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resealed {
    /// How many are now, and were not.
    pub resealed: usize,
    /// How many were already.
    pub current: usize,
    /// Those that could not be read, and are as they were.
    pub unreadable: Vec<(SubscriptionId, OpenError)>,
}

impl Store {
    /// The change counter.
    ///
    /// # Errors
    /// The store is away.
    pub async fn counter(&self) -> Result<ChangeCounter, StoreError> {
        within(DEADLINE, async { counter(&mut *self.pool.reader().await?).await }).await
    }

    /// Everything that is stored.
    ///
    /// # Errors
    /// The store is away.
    pub async fn load_all(&self) -> Result<Loaded, StoreError> {
        within(LOAD_DEADLINE, async {
            let mut reader = self.pool.reader().await?;
            // The counter first: what comes in between is told again by the next look at the changes.
            let counter = counter(&mut reader).await?;
            let mut stored =
                query(concat!("SELECT ", columns!(), " FROM subscriptions WHERE deleted_at IS NULL ORDER BY sequence"))
                    .fetch(&mut *reader);
            let mut rows = Vec::new();
            while let Some(row) = stored.try_next().await? {
                if let Entry::Kept(row) = entry(&row, &self.keys)? {
                    rows.push(*row);
                }
            }
            drop(stored);
            let gone = self.tombstones(&mut reader).await?;
            let filed = filed::changed(&mut reader, ChangeCounter::default()).await?;
            let paused = paused::changed(&mut reader, ChangeCounter::default()).await?;
            Ok(Loaded { rows, gone, filed, paused, counter })
        })
        .await
    }

    /// What changed since the counter was there, tombstones included.
    ///
    /// # Errors
    /// The store is away.
    pub async fn changes_since(&self, since: ChangeCounter) -> Result<Changes, StoreError> {
        within(LOAD_DEADLINE, async {
            let mut reader = self.pool.reader().await?;
            let mut changes = Changes { counter: counter(&mut reader).await?, ..Changes::default() };
            if changes.counter <= since {
                return Ok(changes);
            }
            let mut rows =
                query(concat!("SELECT ", columns!(), " FROM subscriptions WHERE changed > $1 ORDER BY changed"))
                    .bind(since.0)
                    .fetch(&mut *reader);
            while let Some(row) = rows.try_next().await? {
                let at = match entry(&row, &self.keys)? {
                    Entry::Kept(row) => {
                        let at = row.changed;
                        changes.rows.push(*row);
                        at
                    }
                    Entry::Gone(tombstone) => {
                        let at = tombstone.changed;
                        changes.gone.push(tombstone);
                        at
                    }
                };
                // What was written since the counter was read is complete up to here, too: writers take turns.
                changes.counter = changes.counter.max(at);
            }
            drop(rows);
            let told = i64::try_from(changes.rows.len() + changes.gone.len()).unwrap_or(i64::MAX);
            // Each write has a number of its own, so nothing else was written when all of them are told.
            if told < changes.counter.0.saturating_sub(since.0) {
                // After the others, and without raising the counter: it would pass what was written in between.
                changes.filed = filed::changed(&mut reader, since).await?;
                changes.paused = paused::changed(&mut reader, since).await?;
            }
            Ok(changes)
        })
        .await
    }

    async fn tombstones(&self, reader: &mut AnyConnection) -> Result<Vec<Tombstone>, StoreError> {
        let age = i64::try_from(TOMBSTONE_AGE.as_micros()).unwrap_or(i64::MAX);
        let rows = query(concat!(
            "SELECT ",
            columns!(),
            " FROM subscriptions WHERE deleted_at > $1 ORDER BY changed DESC LIMIT $2"
        ))
        .bind(to_micros(now()).saturating_sub(age))
        .bind(i64::try_from(TOMBSTONES).unwrap_or(i64::MAX))
        .fetch_all(reader)
        .await?;
        let mut gone = Vec::with_capacity(rows.len());
        for row in rows.iter().rev() {
            if let Entry::Gone(tombstone) = entry(row, &self.keys)? {
                gone.push(tombstone);
            }
        }
        Ok(gone)
    }

    /// Encrypts all secrets with the first key that are not. Each row by itself, so that the service can go on writing;
    /// stopped in between, it can simply be done again.
    ///
    /// # Errors
    /// There is no key, or the store is away. What was done so far is done.
    pub async fn reseal(&self) -> Result<Resealed, StoreError> {
        if self.keys.first().is_none() {
            return Err(crate::secrets::SealError::NoKey.into());
        }
        let ids: Vec<String> = within(LOAD_DEADLINE, async {
            let mut reader = self.pool.reader().await?;
            let ids = query_scalar("SELECT id FROM subscriptions WHERE secrets IS NOT NULL ORDER BY sequence");
            Ok::<_, StoreError>(ids.fetch_all(&mut *reader).await?)
        })
        .await?;
        let mut told = Resealed::default();
        for id in ids {
            let id: SubscriptionId =
                id.parse().map_err(|error| StoreError::Damaged { what: format!("id {error}"), id })?;
            match within(DEADLINE, self.reseal_one(&id)).await? {
                Some(Ok(true)) => told.resealed += 1,
                Some(Ok(false)) => told.current += 1,
                Some(Err(error)) => told.unreadable.push((id, error)),
                None => {}
            }
        }
        Ok(told)
    }

    /// `None` when there is nothing secret any more; otherwise whether anything had to be done.
    async fn reseal_one(&self, id: &SubscriptionId) -> Result<Option<Result<bool, OpenError>>, StoreError> {
        let mut write = self.pool.write().await?;
        let row = query("SELECT organization, secrets FROM subscriptions WHERE id = $1 AND secrets IS NOT NULL")
            .bind(id.as_str())
            .fetch_optional(&mut *write.transaction)
            .await?;
        let Some(row) = row else { return Ok(None) };
        let organization: String = row.try_get("organization")?;
        let organization: OrganizationId = organization
            .parse()
            .map_err(|error| StoreError::Damaged { id: id.to_string(), what: format!("organization {error}") })?;
        let blob: Vec<u8> = row.try_get("secrets")?;
        let secret = match self.keys.open(&blob, Owner { organization: &organization, id }) {
            Ok(_) if self.keys.is_current(&blob) => return Ok(Some(Ok(false))),
            Ok(secret) => secret,
            Err(error) => return Ok(Some(Err(error))),
        };
        query("UPDATE subscriptions SET secrets = $1, changed = $2 WHERE id = $3")
            .bind(self.seal(Some(&secret), &organization, id)?)
            .bind(write.counter.0)
            .bind(id.as_str())
            .execute(&mut *write.transaction)
            .await?;
        write.commit().await?;
        Ok(Some(Ok(true)))
    }
}

async fn counter(connection: &mut AnyConnection) -> Result<ChangeCounter, StoreError> {
    let counter: i64 = query_scalar("SELECT value FROM change_counter").fetch_one(connection).await?;
    Ok(ChangeCounter(counter))
}
