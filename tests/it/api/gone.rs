//! Subscriptions whose targets answered 410, over the API: they say so, and whoever may change them enables them again.

use docrelay::{
    domain::{Secret, State, now},
    store::database::{Content, NewSubscription},
};
use serde_json::json;

use super::{Served, little};
use crate::{
    store::{Database, content, id, new, ring},
    support::broker::eventually,
};

const FILED: &str =
    "subscriptions: [{id: filed, organization: acme, events: [document_text], target: {url: http://h/}}]\n";

/// Its target answers 410, and upstream is told.
async fn gone(served: &Served, name: &str) {
    let subscription = served.subscriptions.current().by_id(&id(name)).unwrap().clone();
    let at = now();
    assert!(served.subscriptions.disable_gone(&subscription, at).await);
    served.subscriptions.gone_was_told(&subscription, at).await;
}

#[tokio::test]
async fn one_whose_target_is_gone_says_so_until_it_is_enabled_the_files_too() {
    let database = Database::sqlite().await;
    let served = Served::beside(&database, FILED).await;
    let (key, theirs) = (served.key("acme").await, served.key("umbrella").await);
    let stored = served.create(&key, &little()).await;
    for path in [stored.as_str(), "/v1/subscriptions/filed"] {
        let name = path.rsplit('/').next().unwrap();
        assert_eq!(served.get(&key, path).await.json()["disabled_reason"], json!(null));
        gone(&served, name).await;
        let shown = eventually("the reason", || async {
            let shown = served.get(&key, path).await.json();
            (shown["disabled_reason"] == "gone").then_some(shown)
        })
        .await;
        assert_eq!(shown["enabled"], json!(false), "{path}");
        served.patch(&theirs, path, &json!({"enabled": true})).await.problem(404, "not-found");
        if name == "filed" {
            let more = served.patch(&key, path, &json!({"enabled": true, "name": "New"})).await;
            assert_eq!(more.status, 409, "the file says its name: {more:?}");
            // It has no version that somebody could mean.
            let versioned = served.request(reqwest::Method::PATCH, path).bearer_auth(&key);
            let versioned = versioned.header("content-type", "application/json").body(r#"{"enabled": true}"#);
            super::answer(versioned.header("if-match", "\"1795632600000000\"")).await.problem(412, "changed-meanwhile");
        }
        let enabled = served.patch(&key, path, &json!({"enabled": true})).await;
        assert_eq!(enabled.status, 200, "{enabled:?}");
        assert_eq!((&enabled.json()["enabled"], &enabled.json()["disabled_reason"]), (&json!(true), &json!(null)));
        let state = served.subscriptions.current().by_id(&id(name)).unwrap().state;
        assert_eq!(state, State::Enabled, "in force before it was answered");
    }
    // Of one that is not gone the file says whether it is enabled.
    assert_eq!(served.patch(&key, "/v1/subscriptions/filed", &json!({"enabled": true})).await.status, 409);
    let listed = served.get(&key, "/v1/subscriptions").await.json();
    assert!(listed["items"].as_array().unwrap().iter().all(|item| item["disabled_reason"].is_null()), "{listed}");
    served.end().await;
}

#[tokio::test]
async fn a_new_url_enables_one_whose_old_target_is_gone_and_nothing_else_does() {
    let database = Database::sqlite().await;
    let served = Served::of(&database).await;
    let key = served.key("acme").await;
    let path = served.create(&key, &little()).await;
    gone(&served, path.rsplit('/').next().unwrap()).await;
    eventually("the reason", || async {
        Some(served.get(&key, &path).await.json()).filter(|shown| shown["disabled_reason"] == "gone")
    })
    .await;
    let renamed = served.patch(&key, &path, &json!({"name": "New", "target": {"timeout": "5s"}})).await.json();
    assert_eq!((&renamed["enabled"], &renamed["disabled_reason"]), (&json!(false), &json!("gone")));
    let moved = served.patch(&key, &path, &json!({"target": {"url": "https://new.example/hooks"}})).await;
    assert_eq!(moved.status, 200, "{moved:?}");
    assert_eq!((&moved.json()["enabled"], &moved.json()["disabled_reason"]), (&json!(true), &json!(null)));
    let state = served.subscriptions.current().by_id(&id(path.rsplit('/').next().unwrap())).unwrap().state;
    assert_eq!(state, State::Enabled);
    served.end().await;
}

#[tokio::test]
async fn what_is_stored_and_not_in_force_is_not_answered_as_done() {
    let mut database = Database::sqlite().await;
    // A row that needs a key which is not there keeps everything that is stored from coming into force.
    let secrets = Some(Secret::new("{}"));
    let locked = NewSubscription { content: Content { secrets, ..content("{}") }, ..new("locked") };
    database.open().await.insert(&locked, now()).await.unwrap();
    database.keys = ring();
    let served = Served::of(&database).await;
    let key = served.key("acme").await;
    served.post(&key, "/v1/subscriptions", &little()).await.problem(503, "store-away");
    let rows = served.store.load_all().await.unwrap().rows;
    assert_eq!(rows.len(), 2, "it has happened");
    let path = format!("/v1/subscriptions/{}", rows[1].id);
    served.patch(&key, &path, &json!({"name": "New"})).await.problem(503, "store-away");
    served.delete(&key, &path).await.problem(503, "store-away");
    assert_eq!(served.store.load_all().await.unwrap().rows.len(), 1);
    served.end().await;
}
