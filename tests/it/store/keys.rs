//! Keys of the API, on both databases.

use docrelay::{
    domain::Secret,
    store::database::{KeyOwner, StoreError},
};

use super::{Database, at, organization};

pub(super) async fn a_key_is_found_by_its_text_until_it_is_revoked(database: Database) {
    let store = database.open().await;
    let acme = KeyOwner::Organization(organization("acme"));
    let (key, text) = store.create_key(acme.clone(), "ERP", at(0)).await.unwrap();
    let (operators, operators_text) = store.create_key(KeyOwner::Operator, "", at(1)).await.unwrap();
    assert_eq!((&key.owner, key.name.as_str(), key.created_at, key.revoked_at), (&acme, "ERP", at(0), None));
    assert!(text.reveal().starts_with("drk_") && text.reveal().len() == 4 + 43);
    assert!(text.reveal().ends_with(&key.ending));
    assert_eq!(store.find_key(&text).await.unwrap(), Some(key.clone()));
    assert_eq!(store.find_key(&operators_text).await.unwrap(), Some(operators.clone()));
    for wrong in ["", "drk_", &text.reveal()[1..], &format!("{}x", text.reveal())] {
        assert_eq!(store.find_key(&Secret::new(wrong)).await.unwrap(), None, "{wrong}");
    }
    let revoked = store.revoke_key(&key.id, at(2)).await.unwrap().unwrap();
    assert_eq!(revoked.revoked_at, Some(at(2)));
    assert_eq!(store.revoke_key(&key.id, at(3)).await.unwrap(), Some(revoked.clone()), "the first time counts");
    assert_eq!(store.revoke_key("nobody's", at(3)).await.unwrap(), None);
    assert_eq!(store.find_key(&text).await.unwrap(), None);
    assert_eq!(store.list_keys().await.unwrap(), [revoked, operators]);
}

pub(super) async fn the_text_of_a_key_is_nowhere_in_the_database(database: Database) {
    let store = database.open().await;
    let (_, text) = store.create_key(KeyOwner::Operator, "name", at(0)).await.unwrap();
    let stored = database.text("SELECT id || ' ' || name || ' ' || ending FROM api_keys").await;
    let hash = database.blob("SELECT hash FROM api_keys").await;
    assert_eq!(hash.len(), 32);
    for part in text.reveal().as_bytes().windows(8) {
        assert!(![stored.as_bytes(), &hash].iter().any(|stored| stored.windows(8).any(|found| found == part)));
    }
    database.destroy().await;
    assert!(matches!(store.list_keys().await, Err(StoreError::Away(_))));
}
