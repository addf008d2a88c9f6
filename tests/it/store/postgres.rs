//! The suite on PostgreSQL, and what only a server does: it ends, and comes back.

use std::time::Duration;

use docrelay::store::database::{Store, StoreError};
use tokio::time::Instant;

use super::{Database, at, id, new, organization, ring};
use crate::support::{
    broker::{docrelay, eventually, ran},
    database::Server,
};

super::conformance::conformance!(Database::postgres);

#[tokio::test]
async fn several_processes_may_make_the_tables_at_once() {
    let database = Database::postgres().await;
    let all = (0..4).map(|_| {
        let mut command = docrelay(&["keys", "create", "--operator"]);
        command.envs(database.environment());
        ran(command)
    });
    for ran in futures_util::future::join_all(all).await {
        ran.fine();
    }
    assert_eq!(database.open().await.list_keys().await.unwrap().len(), 4);
}

#[tokio::test]
async fn a_server_that_crashed_is_away_until_it_is_back_and_what_was_committed_is_there() {
    let server = Server::new();
    let url = docrelay::domain::Secret::new(server.start().await);
    let store = Store::open(&url, ring()).await.unwrap();
    store.insert(&new("a"), at(0)).await.unwrap();
    let counter = store.counter().await.unwrap();
    server.kill().await;
    let asked = Instant::now();
    let away = store.insert(&new("b"), at(1)).await.unwrap_err();
    assert_eq!(away.to_string(), "the store is away");
    assert!(matches!(store.counter().await, Err(StoreError::Away(_))));
    assert!(asked.elapsed() < Duration::from_secs(30), "it does not wait for ever");
    assert_eq!(server.start().await, url.reveal(), "the same port");
    eventually("a server that answers", || async { store.counter().await.ok() }).await;
    assert_eq!(store.counter().await.unwrap(), counter);
    assert!(store.get(&organization("acme"), &id("a")).await.unwrap().is_some());
    assert!(store.get(&organization("acme"), &id("b")).await.unwrap().is_none());
    store.insert(&new("b"), at(2)).await.unwrap();
}
