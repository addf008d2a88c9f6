//! Secrets go in and never come out.

use docrelay::domain::{SubscriptionId, Target};
use serde_json::{Value, json};

use super::{Served, little};
use crate::{
    store::Database,
    support::receiver::{Receiver, Reply},
};

const PATH: &str = "/v1/subscriptions";

/// A secret in every place that may have one.
pub(crate) fn full() -> Value {
    json!({
        "name": "full",
        "events": ["document_text"],
        "target": {
            "url": "https://user:hunter2@erp.example/hooks",
            "headers": {"X-Key": "hunter2", "Content-Type": "text/plain"},
        },
        "auth": {
            "authorization": "Bearer hunter2",
            "login": {
                "url": "https://user:hunter2@login.example/",
                "headers": {"X-Login": "hunter2", "Accept": "a/b"},
                "body": {"password": "hunter2"},
            },
        },
        "signing_secrets": ["whsec_aHVudGVyMmh1bnRlcjJodW50ZXIyaHVudGVyMg=="],
    })
}

/// What must not be seen: the planted ones, plain and in base64.
fn assert_hidden(text: &str) {
    assert!(!text.contains("hunter2") && !text.contains("aHVudGVyM"), "{text}");
}

async fn no_answer_shows_a_secret_and_none_is_readable_at_rest(database: Database) {
    let served = Served::of(&database).await;
    let (key, operator) = (served.key("acme").await, served.operators_key().await);
    let created = served.post(&key, PATH, &full()).await;
    assert_eq!(created.status, 201, "{created:?}");
    let path = created.headers["location"].to_str().unwrap();
    let answers = [
        served.get(&key, path).await,
        served.get(&operator, path).await,
        served.get(&key, PATH).await,
        served.patch(&key, path, &json!({"name": "renamed", "target": {"headers": {"X-More": "hunter2"}}})).await,
        served.patch(&key, path, &json!({"auth": {"oauth2": {"client_secret": "hunter2"}}})).await,
        served.patch(&key, path, &json!({"target": {"url": "https://user:hunter2@evil.example/"}})).await,
        served.patch(&key, path, &json!({"signing_secrets": "hunter2"})).await,
        served.patch(&key, path, &json!({"target": {"headers": ["hunter2"]}, "auth": ["hunter2"]})).await,
    ];
    for answer in answers.iter().chain([&created]) {
        assert_hidden(&answer.text);
    }
    let read = served.get(&key, path).await.json();
    assert_eq!(read["target"]["headers"], json!({"X-Key": "***", "Content-Type": "text/plain", "X-More": "***"}));
    assert_eq!(read["target"]["url"], "https://user:***@erp.example/hooks");
    assert_eq!((&read["auth"]["authorization"], &read["auth"]["login"]["body"]), (&json!("***"), &json!("***")));
    assert_eq!(read["signing_secrets"], json!(["***"]));

    assert_hidden(&database.text("SELECT document FROM subscriptions").await);
    assert_hidden(&String::from_utf8_lossy(&database.blob("SELECT secrets FROM subscriptions").await));
    // And yet all of them are in force.
    let id: SubscriptionId = path.rsplit('/').next().unwrap().parse().unwrap();
    let in_force = served.subscriptions.current().by_id(&id).cloned().unwrap();
    let Target::Http(target) = &in_force.target else { panic!("{in_force:?}") };
    assert_eq!(target.url.as_url().password(), Some("hunter2"));
    assert_eq!(
        (&target.headers["x-key"], &target.headers["authorization"]),
        (&"hunter2".parse().unwrap(), &"Bearer hunter2".parse().unwrap())
    );
    assert_eq!(in_force.signing_secrets.len(), 1);
    served.end().await;
}

#[tokio::test]
async fn a_secret_stays_at_its_address_until_it_is_given_again() {
    let database = Database::sqlite().await;
    let served = Served::of(&database).await;
    let key = served.key("acme").await;
    let mut body = little();
    body["target"]["headers"] = json!({"X-Key": "hunter2"});
    body["auth"] = json!({"authorization": "Bearer hunter2"});
    let path = served.create(&key, &body).await;
    for moved in [
        json!({"target": {"url": "https://evil.example/"}}),
        json!({"target": {"url": "https://evil.example/", "headers": {"X-Key": "***"}}, "auth": {"authorization": "***"}}),
        json!({"target": {"url": "https://evil.example/", "headers": {"x-key": "***"}}}),
    ] {
        let refused = served.patch(&key, &path, &moved).await;
        let problem = refused.problem(422, "invalid-fields");
        let errors = problem["errors"].as_array().unwrap();
        assert_eq!(errors.len(), 2, "{problem}");
        assert!(errors.iter().all(|error| error["detail"].as_str().unwrap().contains("given again")), "{problem}");
    }
    let given_again = json!({
        "target": {"url": "https://new.example/", "headers": {"X-Key": "other"}}, "auth": {"authorization": "other"},
    });
    assert_eq!(served.patch(&key, &path, &given_again).await.status, 200);
    served.end().await;
}

#[tokio::test]
async fn no_part_of_a_login_body_goes_to_another_address() {
    let receiver = Receiver::scripted(|_| Reply::ok().body(r#"{"access_token": "t"}"#)).await;
    let database = Database::sqlite().await;
    let served = Served::of(&database).await;
    let key = served.key("acme").await;
    let mut body = little();
    body["target"]["url"] = json!(receiver.url("/hooks"));
    body["auth"] = json!({"login": {"url": "https://login.example/", "body": {"user": "u", "password": "hunter2"}}});
    let path = served.create(&key, &body).await;
    let moved = json!({"auth": {"login": {"url": receiver.url("/login"), "body": {"user": "evil"}}}});
    assert_eq!(served.patch(&key, &path, &moved).await.status, 200);
    assert_eq!(served.post(&key, &format!("{path}/test"), &json!({})).await.json()["status"], 200);
    let login = receiver.recorded().remove(0);
    assert_eq!((login.path.as_str(), login.json()), ("/login", json!({"user": "evil"})), "what was given, and no more");
    let inside = json!({"auth": {"login": {"body": {"password": "***"}}}});
    served.patch(&key, &path, &inside).await.wrong_fields(&["/auth/login/body"]);
    served.end().await;
}

#[tokio::test]
async fn a_signing_secret_of_one_receiver_is_not_the_next_ones() {
    let database = Database::sqlite().await;
    let served = Served::of(&database).await;
    let key = served.key("acme").await;
    let mut body = little();
    body["signing_secrets"] = json!(["generate"]);
    let path = served.create(&key, &body).await;
    let to = |secrets: Value| json!({"target": {"url": "https://new.example/"}, "signing_secrets": secrets});
    let refused = served.patch(&key, &path, &to(json!(["***"]))).await.wrong_fields(&["/signing_secrets"]);
    assert!(refused.to_string().contains("generate"), "{refused}");
    let moved = json!({"target": {"url": "https://new.example/"}});
    served.patch(&key, &path, &moved).await.wrong_fields(&["/signing_secrets"]);
    let made = served.patch(&key, &path, &to(json!(["generate"]))).await.json();
    assert!(made["signing_secrets"][0].as_str().unwrap().starts_with("whsec_"), "{made}");
    served.end().await;
}

#[tokio::test]
async fn a_signing_secret_that_is_made_is_shown_once_and_rotated_by_name() {
    let database = Database::sqlite().await;
    let served = Served::of(&database).await;
    let key = served.key("acme").await;
    let mut body = little();
    body["signing_secrets"] = json!(["generate"]);
    let created = served.post(&key, PATH, &body).await;
    let path = created.headers["location"].to_str().unwrap();
    let first = created.json()["signing_secrets"][0].as_str().unwrap().to_owned();
    assert!(first.starts_with("whsec_") && first.len() > 40, "{first}");
    assert_eq!(served.get(&key, path).await.json()["signing_secrets"], json!(["***"]));

    let rotated = served.patch(&key, path, &json!({"signing_secrets": ["generate", "***"]})).await.json();
    let second = rotated["signing_secrets"][0].as_str().unwrap().to_owned();
    assert!(second.starts_with("whsec_") && second != first, "{rotated}");
    assert_eq!(rotated["signing_secrets"][1], "***");
    let id: SubscriptionId = path.rsplit('/').next().unwrap().parse().unwrap();
    let in_force = || served.subscriptions.current().by_id(&id).unwrap().signing_secrets.clone();
    assert_eq!(in_force(), [second.parse().unwrap(), first.parse().unwrap()]);

    let dropped = served.patch(&key, path, &json!({"signing_secrets": ["***"]})).await.json();
    assert_eq!(dropped["signing_secrets"], json!(["***"]));
    assert_eq!(in_force(), [second.parse().unwrap()]);
    served.patch(&key, path, &json!({"signing_secrets": ["***", "***"]})).await.wrong_fields(&["/signing_secrets"]);
    served.end().await;
}

#[tokio::test]
async fn one_whose_secrets_cannot_be_read_is_still_listed_and_deleted() {
    let mut database = Database::sqlite().await;
    let served = Served::of(&database).await;
    let key = served.key("acme").await;
    let path = served.create(&key, &full()).await;
    served.end().await;
    database.keys = crate::store::ring();
    let served = Served::of(&database).await;
    let read = served.get(&key, &path).await;
    assert_eq!((read.status.as_u16(), read.json()["name"].as_str()), (200, Some("full")));
    assert_hidden(&read.text);
    served.patch(&key, &path, &json!({"name": "n"})).await.problem(503, "secrets-locked");
    let tried = served.post(&key, &format!("{path}/test"), &json!({})).await.problem(503, "secrets-locked");
    assert!(tried["detail"].as_str().unwrap().contains("secrets.keys does not have"), "{tried}");
    assert_eq!(served.delete(&key, &path).await.status, 204);
    served.end().await;
}

super::on_both! {
    no_answer_shows_a_secret_and_none_is_readable_at_rest
}
