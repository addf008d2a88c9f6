//! How both databases are opened, and what becomes of one that goes away.

use docrelay::store::database::{ChangeCounter, InsertError, Store, StoreError};

use super::{Database, at, conformance::with_secret, id, new, organization};

pub(super) async fn a_newer_schema_is_refused_with_both_versions(database: Database) {
    database.open().await.close().await;
    database.execute("INSERT INTO schema_version (version) VALUES (77)").await;
    let refused = Store::open(&database.url, database.keys.clone()).await.unwrap_err();
    assert!(matches!(refused, StoreError::Newer { found: 77, known: 3 }), "{refused:?}");
    let text = refused.to_string();
    assert!(text.contains("version 77") && text.contains("up to 3"), "{text}");
}

pub(super) async fn many_may_open_an_empty_database_at_once(database: Database) {
    let stores = futures_util::future::join_all((0..6).map(|_| database.open())).await;
    for (index, store) in stores.iter().enumerate() {
        store.insert(&new(&format!("s{index}")), at(0)).await.unwrap();
    }
    assert_eq!(stores[0].load_all().await.unwrap().rows.len(), 6);
}

pub(super) async fn a_database_that_is_opened_again_is_as_it_was(database: Database) {
    let store = database.open().await;
    store.insert(&with_secret("a", "hush"), at(0)).await.unwrap();
    let (loaded, counter) = (store.load_all().await.unwrap(), store.counter().await.unwrap());
    store.close().await;
    let again = database.open().await;
    assert_eq!(again.load_all().await.unwrap(), loaded);
    assert_eq!(again.counter().await.unwrap(), counter);
    assert!(matches!(store.counter().await, Err(StoreError::Away(_))), "closed is closed");
}

pub(super) async fn a_database_that_is_gone_is_an_error_of_each_call(database: Database) {
    let store = database.open().await;
    store.insert(&new("a"), at(0)).await.unwrap();
    database.destroy().await;
    let acme = organization("acme");
    assert!(matches!(store.get(&acme, &id("a")).await, Err(StoreError::Away(_))));
    assert!(matches!(store.insert(&new("b"), at(0)).await, Err(InsertError::Store(StoreError::Away(_)))));
    assert!(matches!(store.load_all().await, Err(StoreError::Away(_))));
    let away = store.changes_since(ChangeCounter::default()).await.unwrap_err();
    assert_eq!(away.to_string(), "the store is away");
}
