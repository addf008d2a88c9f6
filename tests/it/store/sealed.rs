//! What both databases must do with secrets.

use docrelay::{
    domain::Secret,
    secrets::{KeyRing, OpenError},
    store::database::Content,
};

use super::{Database, at, conformance::with_secret, content, id, key, new, organization};

pub(super) async fn secrets_are_encrypted_at_rest_and_open_with_any_key_of_the_ring(mut database: Database) {
    let old = database.keys.first().unwrap().clone();
    let store = database.open().await;
    store.insert(&with_secret("a", "hush-hush"), at(0)).await.unwrap();
    let stored = database.blob("SELECT secrets FROM subscriptions").await;
    assert!(!stored.windows(4).any(|part| part == b"hush"));
    database.keys = KeyRing::new(vec![key(), old]);
    let row = database.open().await.get(&organization("acme"), &id("a")).await.unwrap().unwrap();
    assert_eq!(row.secrets, Ok(Some(Secret::new("hush-hush"))));
    database.keys = KeyRing::new(vec![key()]);
    let stranger = database.open().await;
    let row = stranger.get(&organization("acme"), &id("a")).await.unwrap().unwrap();
    assert!(matches!(row.secrets, Err(OpenError::UnknownKey(_))), "the row is there, its secrets are not");
    assert!(stranger.delete(&organization("acme"), &id("a"), at(1)).await.unwrap());
}

pub(super) async fn without_a_key_nothing_secret_is_stored(mut database: Database) {
    database.keys = KeyRing::default();
    let store = database.open().await;
    let refused = store.insert(&with_secret("a", "hush"), at(0)).await.unwrap_err();
    assert!(refused.to_string().contains("docrelay secrets init"), "{refused}");
    assert!(store.load_all().await.unwrap().rows.is_empty());
    store.insert(&new("b"), at(0)).await.unwrap();
    let content = Content { secrets: Some(Secret::new("hush")), ..content("{}") };
    let refused = store.update(&organization("acme"), &id("b"), None, &content, at(1)).await.unwrap_err();
    assert!(refused.to_string().contains("docrelay secrets init"), "{refused}");
    let refused = store.reseal().await.unwrap_err();
    assert!(refused.to_string().contains("docrelay secrets init"), "{refused}");
}

pub(super) async fn secrets_of_another_row_do_not_open(database: Database) {
    let store = database.open().await;
    store.insert(&with_secret("a", "of a"), at(0)).await.unwrap();
    store.insert(&with_secret("b", "of b"), at(0)).await.unwrap();
    database
        .execute("UPDATE subscriptions SET secrets = (SELECT secrets FROM subscriptions WHERE id = 'a') WHERE id = 'b'")
        .await;
    let row = store.get(&organization("acme"), &id("b")).await.unwrap().unwrap();
    assert_eq!(row.secrets, Err(OpenError::Damaged));
}

pub(super) async fn resealing_leaves_nothing_under_an_old_key_and_can_be_done_beside_writers(mut database: Database) {
    let (old, new_key) = (database.keys.first().unwrap().clone(), key());
    let before = database.open().await;
    for index in 0..20 {
        before.insert(&with_secret(&format!("s{index}"), "old"), at(0)).await.unwrap();
    }
    before.insert(&new("plain"), at(0)).await.unwrap();
    database.keys = KeyRing::new(vec![new_key.clone(), old]);
    let store = database.open().await;
    let writing = async {
        for index in 0..20 {
            let content = Content { secrets: Some(Secret::new("new")), ..content("{}") };
            store.update(&organization("acme"), &id(&format!("s{index}")), None, &content, at(1)).await.unwrap();
        }
    };
    let (told, ()) = tokio::join!(store.reseal(), writing);
    let told = told.unwrap();
    assert_eq!((told.resealed + told.current, told.unreadable.len()), (20, 0));
    assert_eq!(store.reseal().await.unwrap().resealed, 0, "again changes nothing");
    database.keys = KeyRing::new(vec![new_key]);
    for row in database.open().await.load_all().await.unwrap().rows {
        let expected = if row.id == id("plain") { None } else { Some(Secret::new("new")) };
        assert_eq!(row.secrets, Ok(expected), "{}", row.id);
    }
}
