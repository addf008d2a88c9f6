//! `/v1/subscriptions`: create, read, list, change, delete.

use docrelay::domain::State;
use serde_json::{Value, json};

use super::{Served, little};
use crate::store::Database;

const PATH: &str = "/v1/subscriptions";

/// What a subscription reads as that said little.
fn shown(created: &Value) -> Value {
    json!({
        "id": created["id"],
        "organization": "acme",
        "name": created["id"],
        "inboxes": [],
        "projects": [],
        "events": ["document_text"],
        "payload": "contractfit",
        "file": null,
        "target": {
            "type": "http", "url": "https://erp.example/hooks", "template": false, "method": "POST", "headers": {},
            "timeout": "15s",
        },
        "auth": {"authorization": null, "login": null, "oauth2": null},
        "signing_secrets": [],
        "retry": {"on": "any_failure", "backoff": "2s", "max_attempts": 10, "max_age": "24h"},
        "max_in_flight": 32,
        "enabled": true,
        "origin": "api",
        "created_at": created["created_at"],
        "updated_at": created["updated_at"],
        "disabled_reason": null,
    })
}

async fn a_subscription_is_made_read_changed_and_deleted(database: Database) {
    let served = Served::of(&database).await;
    let key = served.key("acme").await;
    let created = served.post(&key, PATH, &little()).await;
    assert_eq!(created.status, 201, "{created:?}");
    let body = created.json();
    assert_eq!(body, shown(&body));
    let path = format!("{PATH}/{}", body["id"].as_str().unwrap());
    assert_eq!(created.headers["location"], path.as_str());
    let id = body["id"].as_str().unwrap().parse().unwrap();
    assert!(served.subscriptions.current().by_id(&id).is_some(), "in force before it was answered");

    let read = served.get(&key, &path).await;
    assert_eq!((read.status.as_u16(), read.json()), (200, body.clone()));
    assert_eq!(read.headers["etag"], created.headers["etag"]);

    let change = json!({"name": "ERP", "target": {"timeout": "3s"}, "inboxes": ["a", "b"], "enabled": false});
    let changed = served.patch(&key, &path, &change).await;
    assert_eq!(changed.status, 200, "{changed:?}");
    let mut expected = shown(&changed.json());
    expected["name"] = json!("ERP");
    expected["target"]["timeout"] = json!("3s");
    expected["inboxes"] = json!(["a", "b"]);
    expected["enabled"] = json!(false);
    assert_eq!(changed.json(), expected);
    assert_ne!(changed.headers["etag"], created.headers["etag"]);
    let now = served.subscriptions.current().by_id(&id).unwrap().state;
    assert_eq!(now, State::Disabled, "in force before it was answered");

    let listed = served.get(&key, PATH).await;
    assert_eq!(listed.json(), json!({"items": [changed.json()], "next_cursor": null}));

    let deleted = served.delete(&key, &path).await;
    assert_eq!((deleted.status.as_u16(), deleted.text.as_str()), (204, ""));
    assert!(served.subscriptions.current().by_id(&id).is_none(), "in force before it was answered");
    for gone in
        [served.get(&key, &path).await, served.delete(&key, &path).await, served.patch(&key, &path, &json!({})).await]
    {
        gone.problem(404, "not-found");
    }
    assert_eq!(served.get(&key, PATH).await.json(), json!({"items": [], "next_cursor": null}));
    served.end().await;
}

async fn another_organizations_are_as_if_they_had_never_been(database: Database) {
    let served = Served::of(&database).await;
    let (ours, theirs, operator) =
        (served.key("acme").await, served.key("umbrella").await, served.operators_key().await);
    let path = served.create(&ours, &little()).await;
    let never = format!("{PATH}/00000000-0000-4000-8000-000000000000");
    for (method, path) in [("GET", &path), ("PATCH", &path), ("DELETE", &path)] {
        let answer = |path: String| {
            let request = served.request(method.parse().unwrap(), &path).bearer_auth(&theirs);
            super::answer(request.header("content-type", "application/json").body("{}"))
        };
        let (other, never) = (answer(path.clone()).await, answer(never.clone()).await);
        other.problem(404, "not-found");
        assert_eq!((other.text, other.status), (never.text, never.status), "{method}");
    }
    assert_eq!(served.get(&theirs, PATH).await.json()["items"], json!([]));
    assert_eq!(served.get(&theirs, &format!("{PATH}?organization=acme")).await.json()["items"], json!([]));

    let mut foreign = little();
    foreign["organization"] = json!("acme");
    served.post(&theirs, PATH, &foreign).await.wrong_fields(&["/organization"]);
    served.post(&operator, PATH, &little()).await.wrong_fields(&["/organization"]);
    foreign["organization"] = json!("umbrella");
    let umbrellas = served.create(&operator, &foreign).await;
    assert_eq!(served.get(&theirs, &umbrellas).await.status, 200);
    assert_eq!(served.get(&operator, &path).await.status, 200);
    assert_eq!(served.get(&operator, PATH).await.json()["items"].as_array().unwrap().len(), 2);
    let acmes = served.get(&operator, &format!("{PATH}?organization=acme")).await.json();
    assert_eq!(acmes["items"].as_array().unwrap().len(), 1);
    assert_eq!(served.patch(&operator, &path, &json!({"name": "n"})).await.json()["organization"], "acme");
    assert_eq!(served.delete(&operator, &path).await.status, 204);
    served.end().await;
}

/// Each test of this file, on both databases.
macro_rules! on_both {
    ($($test:ident)*) => {
        mod sqlite {
            $(#[tokio::test]
            async fn $test() {
                super::$test(crate::store::Database::sqlite().await).await;
            })*
        }

        mod postgres {
            $(#[tokio::test]
            async fn $test() {
                super::$test(crate::store::Database::postgres().await).await;
            })*
        }
    };
}

on_both! {
    a_subscription_is_made_read_changed_and_deleted
    another_organizations_are_as_if_they_had_never_been
}
