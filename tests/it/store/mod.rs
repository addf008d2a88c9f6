//! The database of subscriptions: one suite, and each of its tests on SQLite and on PostgreSQL.

mod conformance;
mod filed;
pub(crate) mod follow;
mod keys;
mod limits;
mod opening;
mod paused;
mod postgres;
mod sealed;
mod sqlite;

use std::{
    future::{Ready, ready},
    path::PathBuf,
};

use docrelay::{
    domain::{OrganizationId, Secret, SubscriptionId, Timestamp},
    secrets::{Key, KeyRing},
    store::database::{Content, NewSubscription, Origin, Row, Store},
};
use sqlx::{AnyConnection, AssertSqlSafe, Connection as _, Executor as _, any::install_default_drivers};
use tempfile::TempDir;
use uuid::Uuid;

/// A database of one test's own, empty at first.
pub(crate) struct Database {
    pub(crate) url: Secret,
    pub(crate) keys: KeyRing,
    /// The file, with SQLite.
    file: Option<PathBuf>,
    _folder: Option<TempDir>,
}

impl Database {
    /// Nothing is to be waited for; the suite waits for both.
    pub(crate) fn sqlite() -> Ready<Self> {
        let folder = tempfile::tempdir().unwrap();
        // A name that a URL would have to escape.
        let file = folder.path().join("a store.db");
        let url = Secret::new(format!("sqlite://{}", file.display()));
        ready(Self { url, keys: ring(), file: Some(file), _folder: Some(folder) })
    }

    pub(crate) async fn postgres() -> Self {
        let Some(server) = std::env::var_os("DOCRELAY_TEST_POSTGRES_URL") else {
            panic!("DOCRELAY_TEST_POSTGRES_URL is not set: run this with `scripts/database with`");
        };
        let server = server.into_string().unwrap();
        let name = format!("test_{}", Uuid::new_v4().simple());
        execute(&Secret::new(server.clone()), format!("CREATE DATABASE {name}")).await;
        let (server, _) = server.rsplit_once('/').unwrap();
        Self { url: Secret::new(format!("{server}/{name}")), keys: ring(), file: None, _folder: None }
    }

    pub(crate) async fn open(&self) -> Store {
        Store::create(&self.url, self.keys.clone()).await.unwrap()
    }

    /// Runs a statement of the test's own, past the store.
    pub(crate) async fn execute(&self, sql: &str) {
        execute(&self.url, sql.to_owned()).await;
    }

    /// The same, of a statement that may be refused.
    pub(crate) async fn try_execute(&self, sql: &str) -> Result<(), String> {
        let mut connection = connect(&self.url).await;
        connection.execute(AssertSqlSafe(sql)).await.map(drop).map_err(|error| error.to_string())
    }

    /// The one text that a statement of the test's own gives.
    pub(crate) async fn text(&self, sql: &str) -> String {
        sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut connect(&self.url).await).await.unwrap()
    }

    /// The one blob that it gives.
    pub(crate) async fn blob(&self, sql: &str) -> Vec<u8> {
        sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut connect(&self.url).await).await.unwrap()
    }

    /// Makes the file go away, or come back.
    pub(crate) fn hide(&self, hidden: bool) {
        let file = self.file.as_ref().expect("only with SQLite");
        let away = file.with_extension("away");
        let (from, to) = if hidden { (file, &away) } else { (&away, file) };
        std::fs::rename(from, to).unwrap();
    }

    /// Makes the database go away for good.
    pub(crate) async fn destroy(&self) {
        if let Some(file) = &self.file {
            return std::fs::remove_file(file).unwrap();
        }
        let (server, name) = self.url.reveal().rsplit_once('/').unwrap();
        let server = Secret::new(format!("{server}/postgres"));
        execute(&server, format!("DROP DATABASE {name} WITH (FORCE)")).await;
    }

    /// The settings that make the program use this database.
    pub(crate) fn environment(&self) -> [(&'static str, String); 1] {
        [("DOCRELAY__STORE__URL", self.url.reveal().to_owned())]
    }
}

async fn execute(url: &Secret, sql: String) {
    let mut connection = connect(url).await;
    connection.execute(AssertSqlSafe(sql)).await.unwrap();
    connection.close().await.unwrap();
}

async fn connect(url: &Secret) -> AnyConnection {
    install_default_drivers();
    AnyConnection::connect(&url.reveal().replace(' ', "%20")).await.unwrap()
}

/// A ring with one new key.
pub(crate) fn ring() -> KeyRing {
    KeyRing::new(vec![key()])
}

pub(crate) fn key() -> Key {
    Key::generate().unwrap().reveal().parse().unwrap()
}

pub(crate) fn organization(name: &str) -> OrganizationId {
    name.parse().unwrap()
}

pub(crate) fn id(text: &str) -> SubscriptionId {
    text.parse().unwrap()
}

/// A moment, so many seconds after a fixed one.
pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix(1_700_000_000 + seconds, 123_456_000).unwrap()
}

pub(crate) fn content(document: &str) -> Content {
    Content { document: document.to_owned(), secrets: None, disabled_reason: None }
}

/// A subscription of `acme` without secrets.
pub(crate) fn new(name: &str) -> NewSubscription {
    NewSubscription {
        id: id(name),
        organization: organization("acme"),
        origin: Origin::Api,
        singular: None,
        content: content("{\"name\":\"ä 'quoted'\"}"),
    }
}

pub(crate) fn ids(rows: &[Row]) -> Vec<&str> {
    rows.iter().map(|row| row.id.as_str()).collect()
}
