//! Connections to the database, SQLite or PostgreSQL, behind one type. What differs between the two is here and in the
//! schema; every other statement is the same for both.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sqlx::{
    Any, ConnectOptions as _, Connection as _, Executor as _, Transaction,
    any::{AnyConnectOptions, AnyPoolOptions, install_default_drivers},
    pool::PoolConnection,
    query_scalar,
};
use tokio::{
    fs,
    sync::{Mutex, OwnedMutexGuard},
    time::{Instant, sleep},
};
use url::Url;

use super::{ChangeCounter, StoreError};
use crate::domain::Secret;

/// How long a connection may take to come.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);

/// How long SQLite waits for another process that writes.
const BUSY_DEADLINE: Duration = Duration::from_secs(8);

/// Connections at once. SQLite has one writer at a time and readers beside it.
const MOST_CONNECTIONS: u32 = 8;

/// What stays as it is in the path of a URL.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'.').remove(b'-').remove(b'_');

/// Which database it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Backend {
    Sqlite,
    PostgreSql,
}

/// Connections to one database.
#[derive(Debug, Clone)]
pub(super) struct Pool {
    connections: sqlx::AnyPool,
    backend: Backend,
    /// The file, with SQLite.
    file: Option<PathBuf>,
    /// Who writes in this process, with SQLite: its writers do not queue by themselves, they try again and again.
    turn: Arc<Mutex<()>>,
}

/// A transaction that has raised the change counter: it is the only one that writes until it ends. Dropped, nothing of it
/// has happened.
pub(super) struct Write {
    /// To write with.
    pub(super) transaction: Transaction<'static, Any>,
    /// What the counter will be when it is committed.
    pub(super) counter: ChangeCounter,
    _turn: Option<OwnedMutexGuard<()>>,
}

/// What a SQLite file that is not there means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WithoutFile {
    /// It is to be made.
    Create,
    /// The database is away.
    Away,
}

impl Write {
    /// Makes it so.
    ///
    /// # Errors
    /// The database is away. Whether it happened is not known then.
    pub(super) async fn commit(self) -> Result<(), StoreError> {
        Ok(self.transaction.commit().await?)
    }
}

impl Pool {
    /// Connects.
    ///
    /// # Errors
    /// The URL is none of a database, or the database is away.
    pub(super) async fn open(url: &Secret, without_file: WithoutFile) -> Result<Self, StoreError> {
        install_default_drivers();
        let (backend, file, options) = if let Some(path) = url.reveal().strip_prefix("sqlite://") {
            let file = std::path::absolute(path).map_err(StoreError::away)?;
            let options = sqlite_options(&file)?;
            match without_file {
                WithoutFile::Create => create(&file).await.map_err(StoreError::away)?,
                WithoutFile::Away => {
                    fs::metadata(&file).await.map_err(|_| StoreError::away(no_file(&file)))?;
                }
            }
            log_ahead(&options).await?;
            (Backend::Sqlite, Some(file), options)
        } else {
            (Backend::PostgreSql, None, postgres_options(url)?)
        };
        let connections = AnyPoolOptions::new()
            .max_connections(MOST_CONNECTIONS)
            .acquire_timeout(CONNECT_DEADLINE)
            // A file has no connection to lose.
            .test_before_acquire(backend == Backend::PostgreSql)
            .after_connect(move |connection, _| {
                Box::pin(async move {
                    if backend == Backend::Sqlite {
                        connection.execute(BUSY_PRAGMA).await?;
                    }
                    Ok(())
                })
            })
            .connect_lazy_with(options);
        Ok(Self { connections, backend, file, turn: Arc::default() })
    }

    /// Which database it is.
    pub(super) fn backend(&self) -> Backend {
        self.backend
    }

    /// A connection to read with.
    pub(super) async fn reader(&self) -> Result<PoolConnection<Any>, StoreError> {
        self.look_for_the_file().await?;
        self.connections.acquire().await.map_err(StoreError::away)
    }

    /// A transaction that may change tables; on SQLite the only one that writes.
    pub(super) async fn begin_alone(&self) -> Result<Transaction<'static, Any>, StoreError> {
        self.look_for_the_file().await?;
        let begun = match self.backend {
            Backend::Sqlite => self.connections.begin_with("BEGIN IMMEDIATE").await,
            Backend::PostgreSql => self.connections.begin().await,
        };
        begun.map_err(StoreError::away)
    }

    /// Begins to write.
    pub(super) async fn write(&self) -> Result<Write, StoreError> {
        let turn = match self.backend {
            Backend::Sqlite => Some(Arc::clone(&self.turn).lock_owned().await),
            Backend::PostgreSql => None,
        };
        let mut transaction = self.begin_alone().await?;
        let counter = query_scalar("UPDATE change_counter SET value = value + 1 RETURNING value")
            .fetch_one(&mut *transaction)
            .await?;
        Ok(Write { transaction, counter: ChangeCounter(counter), _turn: turn })
    }

    /// Closes all connections.
    pub(super) async fn close(&self) {
        self.connections.close().await;
    }

    /// What is written to a file that was deleted is written to nowhere, and SQLite does not notice.
    async fn look_for_the_file(&self) -> Result<(), StoreError> {
        match &self.file {
            Some(file) => fs::metadata(file).await.map(|_| ()).map_err(StoreError::away),
            None => Ok(()),
        }
    }
}

fn no_file(file: &Path) -> String {
    format!("{} is not there; is its volume mounted? `docrelay store init` makes a new store", file.display())
}

const BUSY_PRAGMA: &str = "PRAGMA busy_timeout = 8000";

fn sqlite_options(file: &Path) -> Result<AnyConnectOptions, StoreError> {
    let path = file.to_str().ok_or(StoreError::BadUrl)?;
    let url = format!("sqlite://{}?mode=rw", utf8_percent_encode(path, PATH));
    Ok(AnyConnectOptions::from_url(&Url::parse(&url).map_err(|_| StoreError::BadUrl)?)?)
}

fn postgres_options(url: &Secret) -> Result<AnyConnectOptions, StoreError> {
    let url = Url::parse(url.reveal()).map_err(|_| StoreError::BadUrl)?;
    if !matches!(url.scheme(), "postgres" | "postgresql") {
        return Err(StoreError::BadUrl);
    }
    Ok(AnyConnectOptions::from_url(&url)?)
}

/// Makes the file if it is not there. It is nobody else's: the files that SQLite puts beside it get the same rights.
async fn create(file: &Path) -> io::Result<()> {
    fs::OpenOptions::new().create(true).append(true).mode(0o600).open(file).await.map(drop)
}

/// Turns to write-ahead logging, where readers and a writer do not wait for each other. The file remembers it. Two
/// processes that do so at once are not made to wait by SQLite: one of them is told that it is busy.
async fn log_ahead(options: &AnyConnectOptions) -> Result<(), StoreError> {
    let end = Instant::now() + BUSY_DEADLINE;
    loop {
        let mut connection = options.connect().await.map_err(StoreError::away)?;
        let turned = match connection.execute(BUSY_PRAGMA).await {
            Ok(_) => connection.execute("PRAGMA journal_mode = WAL").await,
            Err(error) => Err(error),
        };
        drop(connection.close().await);
        match turned.map_err(StoreError::from) {
            Ok(_) => return Ok(()),
            Err(StoreError::Away(_)) if Instant::now() < end => sleep(Duration::from_millis(20)).await,
            Err(error) => return Err(error),
        }
    }
}
