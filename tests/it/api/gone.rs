//! Subscriptions whose targets answered 410, over the API: they say so, and whoever may change them enables them again.

use docrelay::domain::{State, now};
use serde_json::json;

use super::{Served, little};
use crate::{
    store::{Database, id},
    support::broker::eventually,
};

const FILED: &str =
    "subscriptions: [{id: filed, organization: acme, events: [document_text], target: {url: http://h/}}]\n";

/// Its target answers 410, and upstream is told.
async fn gone(served: &Served, name: &str) {
    let subscription = served.subscriptions.current().by_id(&id(name)).unwrap().clone();
    assert!(served.subscriptions.disable_gone(&subscription, now()).await);
    served.subscriptions.gone_was_told(&subscription.id).await;
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
            // The store may not know it yet, and what it does not know it cannot take back.
            eventually("the row", || async { served.store.load_all().await.unwrap().filed.pop() }).await;
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
