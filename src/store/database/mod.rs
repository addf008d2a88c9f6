//! The database of subscriptions that were made over the API, and of the keys to it: SQLite or PostgreSQL, through one
//! type. A subscription is a row with a canonical JSON document, so that a new field of it needs no new column; its
//! secrets are one encrypted blob beside it.
//!
//! Every write raises the change counter first, in its own transaction. That makes writers wait for each other, on any
//! replica, so nobody can see the change n + 1 before the change n: who remembers the counter can ask for what came after
//! it and misses nothing. A deleted row stays as a tombstone for that reason.

mod changes;
mod error;
mod filed;
mod keys;
mod paused;
mod pool;
mod row;
mod schema;
mod subscriptions;

use std::{future::Future, sync::Arc, time::Duration};

use tokio::time::timeout;

use self::pool::WithoutFile;
pub use self::{
    changes::{Changes, Loaded, Resealed, TOMBSTONE_AGE, TOMBSTONES},
    error::{InsertError, StoreError, UpdateError},
    filed::FiledRow,
    keys::{ApiKey, BadKeyName, KeyOwner},
    paused::PausedRow,
    row::{BadCursor, ChangeCounter, Content, Cursor, NewSubscription, Origin, Row, Tombstone, UnknownOrigin},
    subscriptions::Page,
};
use crate::{domain::Secret, secrets::KeyRing};

/// How long one call may take. Longer than a connection may take to come.
const DEADLINE: Duration = Duration::from_secs(10);

/// How long reading everything may take.
const LOAD_DEADLINE: Duration = Duration::from_mins(1);

/// The database. Cheap to clone; all clones share their connections.
#[derive(Debug, Clone)]
pub struct Store {
    pool: pool::Pool,
    keys: Arc<KeyRing>,
}

impl Store {
    /// Opens the database at a URL (`sqlite://PATH`, `postgres://…`) and brings its tables up to date. A SQLite file that
    /// is not there is away: its volume may not be mounted, and an empty store would be taken for no subscriptions.
    ///
    /// # Errors
    /// The URL is wrong, the database is away, or it belongs to a newer docrelay.
    pub async fn open(url: &Secret, keys: KeyRing) -> Result<Self, StoreError> {
        Self::open_or(url, keys, WithoutFile::Away).await
    }

    /// The same, for whoever sets a store up: a SQLite file that is not there is made.
    ///
    /// # Errors
    /// The same.
    pub async fn create(url: &Secret, keys: KeyRing) -> Result<Self, StoreError> {
        Self::open_or(url, keys, WithoutFile::Create).await
    }

    async fn open_or(url: &Secret, keys: KeyRing, without_file: WithoutFile) -> Result<Self, StoreError> {
        within(LOAD_DEADLINE, async {
            let pool = pool::Pool::open(url, without_file).await?;
            schema::migrate(&pool).await?;
            Ok(Self { pool, keys: Arc::new(keys) })
        })
        .await
    }

    /// Closes the connections. What is asked afterwards is answered with [`StoreError::Away`].
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// Gives up after a while. What is given up is rolled back by the database.
async fn within<T, E: From<StoreError>>(deadline: Duration, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    match timeout(deadline, work).await {
        Ok(done) => done,
        Err(elapsed) => Err(StoreError::away(elapsed).into()),
    }
}
