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
        "retry": {"on": "any_failure", "backoff": "2s", "max_attempts": 10, "while_down": "count", "max_age": "24h"},
        "rate_limit": null,
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

async fn an_organization_has_one_idexa_webhook_however_it_was_made(database: Database) {
    let filed = "subscriptions: [{id: filed, organization: umbrella, payload: idexa, events: [document_finish], \
                 target: {url: 'http://h/:id'}}]";
    let served = Served::beside(&database, filed).await;
    let (acme, umbrella) = (served.key("acme").await, served.key("umbrella").await);
    let webhook = json!({"payload": "idexa", "events": ["document_finish"], "target": {"url": "https://h/:id"}});
    let (one, other) = tokio::join!(served.post(&acme, PATH, &webhook), served.post(&acme, PATH, &webhook));
    let (made, refused) = if one.status == 201 { (one, other) } else { (other, one) };
    assert_eq!(made.status, 201, "{made:?}");
    assert_eq!(refused.problem(409, "conflict")["existing"], made.json()["id"]);
    assert_eq!(served.post(&umbrella, PATH, &webhook).await.problem(409, "conflict")["existing"], "filed");

    let path = made.headers["location"].to_str().unwrap().to_owned();
    served.patch(&acme, &path, &json!({"payload": "cloudevents"})).await.wrong_fields(&["/payload"]);
    let plain = served.create(&acme, &little()).await;
    let becoming = json!({"payload": "idexa", "events": ["document_finish"], "target": {"url": "https://h/:id"}});
    served.patch(&acme, &plain, &becoming).await.wrong_fields(&["/payload"]);
    assert_eq!(served.delete(&acme, &path).await.status, 204);
    served.create(&acme, &webhook).await;
    served.end().await;
}

async fn changes_at_once_are_all_kept_and_a_version_that_is_no_more_is_refused(database: Database) {
    let served = Served::of(&database).await;
    let key = served.key("acme").await;
    let path = served.create(&key, &little()).await;
    let before = served.get(&key, &path).await.headers["etag"].clone();
    let changes = [json!({"name": "n"}), json!({"inboxes": ["i"]}), json!({"max_in_flight": 5})];
    let (one, other, third) = tokio::join!(
        served.patch(&key, &path, &changes[0]),
        served.patch(&key, &path, &changes[1]),
        served.patch(&key, &path, &changes[2]),
    );
    assert!([one, other, third].iter().all(|answer| answer.status == 200));
    let now = served.get(&key, &path).await;
    let body = now.json();
    assert_eq!((&body["name"], &body["inboxes"], &body["max_in_flight"]), (&json!("n"), &json!(["i"]), &json!(5)));

    let with = |method: &str, version: &reqwest::header::HeaderValue| {
        let request = served.request(method.parse().unwrap(), &path).bearer_auth(&key).header("if-match", version);
        super::answer(request.header("content-type", "application/merge-patch+json").body("{\"name\": \"late\"}"))
    };
    for method in ["PATCH", "DELETE"] {
        with(method, &before).await.problem(412, "changed-meanwhile");
        with(method, &"\"hunter2\"".parse().unwrap()).await.problem(412, "changed-meanwhile");
    }
    assert_eq!(with("PATCH", &now.headers["etag"]).await.json()["name"], "late");
    assert_eq!(with("DELETE", &"*".parse().unwrap()).await.status, 204);
    served.end().await;
}

async fn a_delete_of_a_version_deletes_no_later_one(database: Database) {
    let served = Served::of(&database).await;
    let key = served.key("acme").await;
    let path = served.create(&key, &little()).await;
    let (acme, id) = (crate::store::organization("acme"), path.rsplit('/').next().unwrap().parse().unwrap());
    let read = || async { served.store.get(&acme, &id).await.unwrap().unwrap() };
    let first = read().await.updated_at;
    // Somebody changes it between the look and the delete.
    assert_eq!(served.patch(&key, &path, &json!({"name": "new"})).await.status, 200);
    let second = read().await.updated_at;
    let delete = |version| served.store.delete_version(&acme, &id, Some(version), docrelay::domain::now());
    assert!(!delete(first).await.unwrap());
    assert_eq!(served.get(&key, &path).await.json()["name"], "new");
    assert!(delete(second).await.unwrap());
    assert!(!delete(second).await.unwrap(), "only once");
    served.get(&key, &path).await.problem(404, "not-found");
    served.end().await;
}

#[tokio::test]
async fn patches_make_no_subscription_larger_than_a_body_may_be() {
    let database = Database::sqlite().await;
    let served = Served::of(&database).await;
    let key = served.key("acme").await;
    let path = served.create(&key, &little()).await;
    let names = |from: u32| (from..from + 700).map(|number| format!("{number:060}")).collect::<Vec<_>>();
    assert_eq!(served.patch(&key, &path, &json!({"inboxes": names(0)})).await.status, 200);
    let refused = served.patch(&key, &path, &json!({"projects": names(700)})).await;
    let problem = refused.wrong_fields(&[""]);
    assert!(problem["errors"][0]["expected"].as_str().unwrap().contains("65536"), "{problem}");
    let read = served.get(&key, &path).await.json();
    assert_eq!((read["inboxes"].as_array().unwrap().len(), &read["projects"]), (700, &json!([])), "as it was");
    assert_eq!(served.patch(&key, &path, &json!({"inboxes": null, "projects": names(0)})).await.status, 200);
    served.end().await;
}

#[tokio::test]
async fn what_the_file_declares_is_read_and_never_changed() {
    let database = Database::sqlite().await;
    let file = "subscriptions:\n- {id: filed, organization: acme, name: Filed, events: [document_text], enabled: false, \
                 target: {url: 'https://u:hunter2@h/', headers: {X-Key: hunter2, Accept: a/b}, timeout: 90ms}, \
                 auth: {login: {url: 'https://l/', body: {password: hunter2}}}, max_in_flight: 3, \
                 rate_limit: {per_second: 0.3}, retry: {while_down: hold}, \
                 signing_secrets: [whsec_aHVudGVyMmh1bnRlcjJodW50ZXIyaHVudGVyMg==]}\n\
                 - {id: fixed, organization: acme, events: [document_text], target: {url: 'https://h/'}, \
                 auth: {authorization: hunter2}, retry: {max_age: 3d}}\n";
    let served = Served::beside(&database, file).await;
    let key = served.key("acme").await;
    let read = served.get(&key, "/v1/subscriptions/filed").await;
    assert_eq!(
        read.json(),
        json!({
            "id": "filed", "organization": "acme", "name": "Filed", "inboxes": [], "projects": [],
            "events": ["document_text"], "payload": "contractfit", "file": null,
            "target": {
                "type": "http", "url": "https://u:***@h/", "template": false, "method": "POST",
                "headers": {"x-key": "***", "accept": "a/b"}, "timeout": "90ms",
            },
            "auth": {
                "authorization": null,
                "login": {
                    "url": "https://l/", "method": "POST", "headers": {}, "body": "***",
                    "token_attribute": "access_token", "scheme": "Bearer",
                },
                "oauth2": null,
            },
            "signing_secrets": ["***"],
            "retry": {"on": "any_failure", "backoff": "2s", "max_attempts": 10, "while_down": "hold", "max_age": "24h"},
            "rate_limit": {"per_second": 0.3, "burst": 1}, "max_in_flight": 3, "enabled": false, "origin": "file", "created_at": null, "updated_at": null,
            "disabled_reason": null,
        })
    );
    let fixed = served.get(&key, "/v1/subscriptions/fixed").await.json();
    assert_eq!(fixed["auth"], json!({"authorization": "***", "login": null, "oauth2": null}));
    assert_eq!((&fixed["target"]["headers"], &fixed["retry"]["max_age"]), (&json!({}), &json!("3d")));
    served.patch(&key, "/v1/subscriptions/filed", &json!({"name": "x"})).await.problem(409, "declared-in-file");
    served.delete(&key, "/v1/subscriptions/filed").await.problem(409, "declared-in-file");
    let other = served.key("umbrella").await;
    served.get(&other, "/v1/subscriptions/filed").await.problem(404, "not-found");
    served.delete(&other, "/v1/subscriptions/filed").await.problem(404, "not-found");
    served.end().await;
}

#[tokio::test]
async fn what_was_read_can_be_given_back_as_a_whole() {
    let database = Database::sqlite().await;
    let served = Served::of(&database).await;
    let key = served.key("acme").await;
    let mut body = little();
    body["auth"] = json!({"authorization": "Bearer hunter2"});
    body["target"]["headers"] = json!({"X-Key": "hunter2"});
    let path = served.create(&key, &body).await;
    let read = served.get(&key, &path).await.json();
    let before = served.subscriptions.current().by_id(&read["id"].as_str().unwrap().parse().unwrap()).cloned();
    let given_back = served.patch(&key, &path, &read).await;
    assert_eq!(given_back.status, 200, "{given_back:?}");
    let after = served.subscriptions.current().by_id(&read["id"].as_str().unwrap().parse().unwrap()).cloned();
    let (before, after) = (before.unwrap(), after.unwrap());
    assert_eq!((&before.target, &before.auth), (&after.target, &after.auth), "secrets included");
    let mut moved = read;
    moved["organization"] = json!("umbrella");
    moved["created_at"] = json!("2020-01-01T00:00:00Z");
    let moved = served.patch(&key, &path, &moved).await;
    // What was changed meanwhile is another one's, too.
    moved.wrong_fields(&["/organization", "/created_at", "/updated_at"]);
    served.end().await;
}

#[tokio::test]
async fn one_that_the_system_disabled_says_why_and_is_enabled_by_saying_so() {
    let database = Database::sqlite().await;
    let served = Served::of(&database).await;
    let key = served.key("acme").await;
    let path = served.create(&key, &little()).await;
    let id = path.rsplit('/').next().unwrap().parse().unwrap();
    let counter = served.store.counter().await.unwrap();
    served.store.disable(&id, "gone", counter, docrelay::domain::now()).await.unwrap();
    let read = served.get(&key, &path).await.json();
    assert_eq!((&read["enabled"], &read["disabled_reason"]), (&json!(false), &json!("gone")));
    let renamed = served.patch(&key, &path, &json!({"name": "n"})).await.json();
    assert_eq!((&renamed["enabled"], &renamed["disabled_reason"]), (&json!(false), &json!("gone")));
    let enabled = served.patch(&key, &path, &json!({"enabled": true})).await.json();
    assert_eq!((&enabled["enabled"], &enabled["disabled_reason"]), (&json!(true), &json!(null)));
    assert_eq!(served.subscriptions.current().by_id(&id).unwrap().state, State::Enabled);
    served.end().await;
}

#[tokio::test]
async fn null_takes_away_and_a_merge_patch_says_so_by_its_type() {
    let database = Database::sqlite().await;
    let served = Served::of(&database).await;
    let key = served.key("acme").await;
    let mut body = little();
    body["name"] = json!(null);
    body["auth"] = json!(null);
    body["inboxes"] = json!(["i"]);
    body["target"]["headers"] = json!({"X-A": "1", "X-B": "2", "X-C": null});
    let path = served.create(&key, &body).await;
    let request = served.request(reqwest::Method::PATCH, &path).header("x-api-key", &key);
    let request = request.header("content-type", "application/merge-patch+json");
    let nulls = json!({"inboxes": null, "target": {"headers": {"X-A": null}}, "auth": {"authorization": null}});
    let changed = super::answer(request.body(nulls.to_string())).await.json();
    assert_eq!(changed["inboxes"], json!([]));
    assert_eq!(changed["target"]["headers"], json!({"X-B": "***"}));
    served.patch(&key, &path, &json!({"events": null})).await.wrong_fields(&["/events"]);
    served.end().await;
}

super::on_both! {
    a_subscription_is_made_read_changed_and_deleted
    another_organizations_are_as_if_they_had_never_been
    an_organization_has_one_idexa_webhook_however_it_was_made
    changes_at_once_are_all_kept_and_a_version_that_is_no_more_is_refused
    a_delete_of_a_version_deletes_no_later_one
}
