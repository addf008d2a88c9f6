//! Subscriptions that the system disabled, over the API: what is told of them, and how they are enabled again.

use docrelay::{
    domain::{State, Subscription, now},
    store::database::Store,
};
use serde_json::json;

use super::Served;
use crate::{
    store::{Database, id, organization},
    support::broker::eventually,
};

const FILE: &str =
    "subscriptions: [{id: filed, organization: acme, events: [document_text], target: {url: http://h/}}]\n";

fn state(served: &Served, name: &str) -> State {
    served.subscriptions.current().by_id(&id(name)).map(|it| it.state).unwrap()
}

async fn disable_filed(store: &Store, subscription: &Subscription) {
    let fingerprint = subscription.target.fingerprint();
    let disabled = store.disable_filed(&subscription.organization, &subscription.id, fingerprint, "gone", now()).await;
    assert!(disabled.unwrap());
}

#[tokio::test]
async fn one_that_the_file_declares_is_enabled_again_and_nothing_else_of_it_changes() {
    let database = Database::sqlite().await;
    let served = Served::beside(&database, FILE).await;
    let key = served.key("acme").await;
    let declared = served.subscriptions.declared_one(&id("filed")).unwrap();
    assert_eq!(declared.organization, organization("acme"));
    disable_filed(&served.store, &declared).await;
    eventually("the file's is gone", || async { (state(&served, "filed") == State::Gone).then_some(()) }).await;
    let shown = served.get(&key, "/v1/subscriptions/filed").await.json();
    assert_eq!((&shown["enabled"], &shown["disabled_reason"]), (&json!(false), &json!("gone")));

    for refused in [json!({"enabled": false}), json!({"enabled": true, "name": "n"}), json!({})] {
        assert_eq!(served.patch(&key, "/v1/subscriptions/filed", &refused).await.status, 409, "{refused}");
    }
    let enabled = served.patch(&key, "/v1/subscriptions/filed", &json!({"enabled": true})).await;
    assert_eq!(enabled.status, 200, "{enabled:?}");
    assert_eq!((&enabled.json()["enabled"], &enabled.json()["disabled_reason"]), (&json!(true), &json!(null)));
    assert_eq!(state(&served, "filed"), State::Enabled, "in force before it was answered");
    served.end().await;
}

#[tokio::test]
async fn a_stored_one_tells_why_and_is_enabled_again() {
    let database = Database::sqlite().await;
    let served = Served::of(&database).await;
    let key = served.key("acme").await;
    let body = json!({"name": "n", "events": ["document_text"], "target": {"url": "http://h/"}});
    let path = served.create(&key, &body).await;
    let name = path.rsplit('/').next().unwrap();
    assert!(served.store.disable(&id(name), "gone", now()).await.unwrap());
    let shown = served.get(&key, &path).await.json();
    assert_eq!((&shown["enabled"], &shown["disabled_reason"]), (&json!(false), &json!("gone")));
    eventually("it is gone", || async { (state(&served, name) == State::Gone).then_some(()) }).await;
    let enabled = served.patch(&key, &path, &json!({"enabled": true})).await.json();
    assert_eq!((&enabled["enabled"], &enabled["disabled_reason"]), (&json!(true), &json!(null)));
    assert_eq!(state(&served, name), State::Enabled, "in force before it was answered");
    served.end().await;
}
