//! What goes wrong is answered with a problem document, whatever it is.

use docrelay::{api::kind::Kind, domain::Secret, secrets::KeyRing};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Served, answer, little};
use crate::store::Database;

const PATH: &str = "/v1/subscriptions";

/// Fields of a subscription, each wrong, and what is pointed at.
fn mistakes() -> Vec<(Value, &'static str)> {
    vec![
        (json!({"events": null}), "/events"),
        (json!({"events": []}), "/events"),
        (json!({"events": ["document_tetx"]}), "/events/0"),
        (json!({"events": ["document_text", 5]}), "/events/1"),
        (json!({"target": null}), "/target"),
        (json!({"target": {"url": null}}), "/target/url"),
        (json!({"target": {"url": "erp.example"}}), "/target/url"),
        (json!({"target": {"timeout": "2h"}}), "/target/timeout"),
        (json!({"target": {"headers": {"a/b~c": "x"}}}), "/target/headers/a~1b~0c"),
        (json!({"target": {"headers": {"Host": "x"}}}), "/target/headers/Host"),
        (json!({"target": {"type": "amqp"}}), "/target/exchange"),
        (json!({"target": {"type": "ftp"}}), "/target/type"),
        (json!({"name": ""}), "/name"),
        (json!({"inboxes": "all"}), "/inboxes"),
        (json!({"inboxes": [""]}), "/inboxes/0"),
        (json!({"payload": "xml"}), "/payload"),
        (json!({"retry": {"max_attempts": 21}}), "/retry/max_attempts"),
        (json!({"retry": {"max_attempts": 1.5}}), "/retry/max_attempts"),
        (json!({"retry": {"backoff": "1h"}}), "/retry"),
        (json!({"retry": {"while_down": "wait"}}), "/retry/while_down"),
        (json!({"rate_limit": 10}), "/rate_limit"),
        (json!({"rate_limit": {"burst": 5}}), "/rate_limit/per_second"),
        (json!({"rate_limit": {"per_second": 0}}), "/rate_limit/per_second"),
        (json!({"rate_limit": {"per_second": 1e6}}), "/rate_limit/per_second"),
        (json!({"rate_limit": {"per_second": 1, "burst": 1.5}}), "/rate_limit/burst"),
        (json!({"max_in_flight": 0}), "/max_in_flight"),
        (json!({"enabled": "yes"}), "/enabled"),
        (json!({"signing_secrets": ["hunter2"]}), "/signing_secrets/0"),
        (json!({"signing_secrets": ["***"]}), "/signing_secrets"),
        (json!({"auth": {"authorization": "***"}}), "/auth/authorization"),
        (json!({"auth": {"login": {}, "oauth2": {}}}), "/auth"),
        (json!({"nmae": "x"}), "/nmae"),
        (json!({"id": "mine"}), "/id"),
        (json!({"origin": "api"}), "/origin"),
        (json!({"organization": 5}), "/organization"),
        (json!({"organization": ""}), "/organization"),
    ]
}

#[tokio::test]
async fn a_wrong_field_is_pointed_at() {
    let database = Database::sqlite().await;
    let served = Served::of(&database).await;
    let key = served.key("acme").await;
    for (mistake, pointer) in mistakes() {
        let mut body = little();
        for (name, value) in mistake.as_object().unwrap() {
            match (value, &mut body[name]) {
                (Value::Object(fields), Value::Object(target)) => target.extend(fields.clone()),
                (value, field) => *field = value.clone(),
            }
        }
        let refused = served.post(&key, PATH, &body).await;
        let problem = refused.problem(422, "invalid-fields");
        let pointers: Vec<_> = problem["errors"].as_array().unwrap().iter().map(|it| it["pointer"].clone()).collect();
        assert!(pointers.contains(&json!(pointer)), "{mistake}: {problem}");
        assert!(!refused.text.contains("hunter2"), "{refused:?}");
    }
    assert_eq!(served.get(&key, PATH).await.json()["items"], json!([]), "nothing was stored");
    served.end().await;
}

#[tokio::test]
async fn all_wrong_fields_are_told_at_once_with_what_was_expected_and_got() {
    let database = Database::sqlite().await;
    let served = Served::of(&database).await;
    let key = served.key("acme").await;
    let body = json!({
        "nmae": "x", "events": ["document_tetx"], "target": {"url": "ftp://h/", "timeout": 5}, "enabled": "yes",
        "retry": {"max_attempts": 0},
    });
    let wrong = ["/nmae", "/events/0", "/target/url", "/target/timeout", "/enabled", "/retry/max_attempts"];
    let problem = served.post(&key, PATH, &body).await.wrong_fields(&wrong);
    let errors = problem["errors"].as_array().unwrap();
    let of = |pointer: &str| errors.iter().find(|error| error["pointer"] == pointer).unwrap();
    assert_eq!(of("/retry/max_attempts")["expected"], "a whole number from 1 to 20");
    assert_eq!(of("/retry/max_attempts")["got"], "0");
    assert_eq!(of("/enabled")["expected"], "true or false");
    assert!(of("/nmae")["detail"].as_str().unwrap().contains("did you mean \"name\""), "{problem}");
    assert!(of("/events/0")["detail"].as_str().unwrap().contains("document_text"), "{problem}");
    served.end().await;
}

#[tokio::test]
async fn a_body_must_be_one_json_object_of_the_right_type_and_size() {
    let database = Database::sqlite().await;
    let served = Served::of(&database).await;
    let key = served.key("acme").await;
    let send = |content_type: &'static str, body: String| {
        let request = served.request(Method::POST, PATH).bearer_auth(&key).header("content-type", content_type);
        answer(request.body(body))
    };
    for (body, place) in [("", "line 1"), ("{", "line 1"), ("{\n\"hunter2\" 5}", "line 2"), ("{} {}", "line 1")] {
        let malformed = send("application/json", body.to_owned()).await;
        let problem = malformed.problem(400, "malformed-json");
        assert!(problem["detail"].as_str().unwrap().contains(place), "{problem}");
        assert!(!malformed.text.contains("hunter2"));
    }
    send("application/json", "[]".to_owned()).await.wrong_fields(&[""]);
    for content_type in ["text/plain", "application/x-www-form-urlencoded", "application/merge-patch+json"] {
        send(content_type, little().to_string()).await.problem(415, "unsupported-media-type");
    }
    let without = served.request(Method::POST, PATH).bearer_auth(&key).body(little().to_string());
    answer(without).await.problem(415, "unsupported-media-type");
    assert_eq!(send("application/json; charset=utf-8", little().to_string()).await.status, 201);

    let mut large = little();
    large["name"] = json!("x".repeat(64 * 1024));
    served.post(&key, PATH, &large).await.problem(413, "too-large");
    // The same without saying so before.
    let chunks = futures_util::stream::iter((0..10).map(|_| Ok::<_, std::io::Error>("x".repeat(8 * 1024))));
    let request = served.request(Method::POST, PATH).bearer_auth(&key).header("content-type", "application/json");
    answer(request.body(reqwest::Body::wrap_stream(chunks))).await.problem(413, "too-large");
    served.end().await;
}

#[tokio::test]
async fn a_path_or_method_that_is_none_is_a_problem_too() {
    let database = Database::sqlite().await;
    let served = Served::of(&database).await;
    let key = served.key("acme").await;
    for path in ["/", "/v1", "/v1/subscriptions/", "/v2/subscriptions", "/v1/subscriptions/a/b", "/problems/none"] {
        served.get(&key, path).await.problem(404, "not-found");
    }
    for id in ["x".repeat(65), "%20".to_owned(), "%FF".to_owned(), "..%2F..".to_owned()] {
        served.get(&key, &format!("{PATH}/{id}")).await.problem(404, "not-found");
    }
    let put = answer(served.request(Method::PUT, PATH).bearer_auth(&key)).await;
    put.problem(405, "method-not-allowed");
    assert!(put.headers["allow"].to_str().unwrap().contains("POST"), "{put:?}");
    served.end().await;
}

#[tokio::test]
async fn a_parameter_that_is_wrong_or_unknown_is_named() {
    let database = Database::sqlite().await;
    let served = Served::of(&database).await;
    let key = served.key("acme").await;
    for (query, name) in [
        ("limit=0", "limit"),
        ("limit=501", "limit"),
        ("limit=x", "limit"),
        ("cursor=x", "cursor"),
        ("organization=", "organization"),
        ("limti=5", "limti"),
        ("limit=5&limit=6", "limit"),
    ] {
        let problem = served.get(&key, &format!("{PATH}?{query}")).await.problem(422, "invalid-fields");
        assert_eq!(problem["errors"][0]["parameter"], name, "{problem}");
        assert!(problem["errors"][0].get("pointer").is_none(), "{problem}");
    }
    served.end().await;
}

#[tokio::test]
async fn every_problem_has_a_page_that_says_what_to_do() {
    let database = Database::sqlite().await;
    let served = Served::of(&database).await;
    let list = answer(served.request(Method::GET, "/problems")).await;
    let guide = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/errors.md")).unwrap();
    for kind in Kind::ALL {
        let page = answer(served.request(Method::GET, &kind.reference())).await;
        assert_eq!(page.status, 200, "{page:?}");
        assert!(page.text.contains(kind.title()) && page.text.contains(kind.advice()), "{page:?}");
        assert!(list.text.contains(kind.name()), "{list:?}");
        let status = kind.status().as_u16();
        assert!(guide.contains(&format!("\n### {}\n", kind.name())), "docs/errors.md has no section {}", kind.name());
        assert!(guide.contains(&format!("Status {status}. {}", kind.title())), "{kind:?} in docs/errors.md");
    }
    served.end().await;
}

#[tokio::test]
async fn while_the_store_is_away_the_answer_is_503_and_says_when_to_try_again() {
    let (there, mut nowhere) = (Database::sqlite().await, Database::sqlite().await);
    nowhere.url = Secret::new("sqlite:///nowhere/store.db");
    let served = Served::start(&nowhere, super::NO_FILE, there.open().await).await;
    for path in [PATH, "/v1/subscriptions/x"] {
        let away = served.get("drk_any", path).await;
        away.problem(503, "store-away");
        assert!(away.headers["retry-after"].to_str().unwrap().parse::<u32>().unwrap() > 0);
        assert!(!away.text.contains("nowhere"), "{away:?}");
    }
    served.end().await;
}

#[tokio::test]
async fn a_secret_is_not_stored_without_a_key_and_the_answer_says_how_to_make_one() {
    let mut database = Database::sqlite().await;
    database.keys = KeyRing::default();
    let served = Served::of(&database).await;
    let key = served.key("acme").await;
    let mut body = little();
    body["auth"] = json!({"authorization": "Bearer hunter2"});
    let refused = served.post(&key, PATH, &body).await;
    let problem = refused.problem(503, "no-secrets-key");
    assert!(problem["detail"].as_str().unwrap().contains("docrelay secrets init"), "{problem}");
    assert!(!refused.text.contains("hunter2"));
    let path = served.create(&key, &little()).await;
    served.patch(&key, &path, &json!({"signing_secrets": ["generate"]})).await.problem(503, "no-secrets-key");
    assert_eq!(served.patch(&key, &path, &json!({"name": "n"})).await.status, 200);
    served.end().await;
}

mod postgres {
    use super::*;

    #[tokio::test]
    async fn a_store_that_goes_away_while_it_is_used_is_503() {
        let database = Database::postgres().await;
        let served = Served::of(&database).await;
        let key = served.key("acme").await;
        let path = served.create(&key, &little()).await;
        database.destroy().await;
        let away = [
            served.get(&key, &path).await,
            served.post(&key, PATH, &little()).await,
            served.patch(&key, &path, &json!({"name": "n"})).await,
            served.delete(&key, &path).await,
        ];
        for answer in away {
            answer.problem(503, "store-away");
        }
        served.end().await;
    }
}
