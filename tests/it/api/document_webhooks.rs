//! `/document_webhooks`: IDEXA's webhooks over its own API, in both of its generations.

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use super::{Answer, Served, answer};
use crate::store::Database;

const PATH: &str = "/document_webhooks";
const OLDER: &str = "/api_document/document_webhooks";

/// The pages' example.
fn page() -> Value {
    json!({
        "name": "Webhook 1",
        "type": 0,
        "method": "POST",
        "headers": {"Content-Type": "application/json"},
        "headerAuth": "Bearer",
        "url": "http://localhost:5000/ocr_feedback/:id",
        "authorizationUrl": "http://localhost:5000/login",
        "authorizationMethod": "POST",
        "authorizationHeaders": {"Content-Type": "application/x-www-form-urlencoded"},
        "authorizationBody": {"username": "root", "password": "toor-the-secret"},
        "authorizationResponseTokenAttr": "access_token"
    })
}

/// What is told of the pages' example.
fn told(made: &Value) -> Value {
    json!({
        "id": made["id"],
        "clientId": "2b47ce59-c976-503a-8633-313cce10ead7",
        "name": "Webhook 1",
        "type": 0,
        "method": "POST",
        "headers": {"Content-Type": "application/json"},
        "headerAuth": "Bearer",
        "url": "http://localhost:5000/ocr_feedback/:id",
        "authorization": null,
        "authorizationUrl": "http://localhost:5000/login",
        "authorizationMethod": "POST",
        "authorizationHeaders": {"Content-Type": "application/x-www-form-urlencoded"},
        "authorizationResponseTokenAttr": "access_token",
        "createdAt": made["createdAt"],
        "updatedAt": made["createdAt"],
    })
}

async fn ask(served: &Served, method: Method, (header, key): (&str, &str), path: &str, body: Option<&Value>) -> Answer {
    let request = served.request(method, path).header(header, key);
    answer(match body {
        Some(body) => request.header("content-type", "application/json").body(body.to_string()),
        None => request,
    })
    .await
}

fn one(path: &str, made: &Value) -> String {
    format!("{path}/{}", made["id"].as_str().unwrap())
}

async fn a_webhook_is_made_over_one_generation_and_is_there_over_the_other(database: Database) {
    let served = Served::of(&database).await;
    let key = served.key("acme").await;
    for ((path, header), (other, others)) in
        [((PATH, "IDEXA-API-KEY"), (OLDER, "X-API-KEY")), ((OLDER, "X-API-KEY"), (PATH, "IDEXA-API-KEY"))]
    {
        let made = ask(&served, Method::POST, (header, &key), path, Some(&page())).await;
        assert_eq!(made.status, 200, "{made:?}");
        assert!(!made.text.contains("toor-the-secret"));
        let made = made.json();
        assert_eq!(made.to_string(), told(&made).to_string());
        for name in ["createdAt", "updatedAt"] {
            let time = made[name].as_str().unwrap();
            assert!(time.len() == "2024-04-11T14:12:33.741194+00:00".len() && time.ends_with("+00:00"), "{time}");
        }
        let theirs = (others, key.as_str());
        assert_eq!(ask(&served, Method::GET, theirs, other, None).await.json(), json!([made]));
        assert_eq!(ask(&served, Method::GET, theirs, &one(other, &made), None).await.json(), made);
        assert_eq!(ask(&served, Method::DELETE, theirs, &one(other, &made), None).await.status, 204);
        ask(&served, Method::GET, (header, &key), &one(path, &made), None).await.problem(404, "not-found");
        assert_eq!(ask(&served, Method::GET, (header, &key), path, None).await.json(), json!([]));
    }
    for path in [PATH, OLDER] {
        answer(served.request(Method::POST, path).body("{}")).await.problem(401, "unauthorized");
        ask(&served, Method::POST, ("X-API-KEY", "wrong"), path, Some(&page())).await.problem(401, "unauthorized");
    }
    served.end().await;
}

async fn what_is_not_accepted_is_refused_whole_and_nothing_is_stored(database: Database) {
    let served = Served::of(&database).await;
    let key = served.key("acme").await;
    served.post(&key, PATH, &json!({})).await.wrong_fields(&["/name", "/type", "/method", "/url"]);
    for (name, wrong) in [
        ("type", json!(1)),
        ("type", json!("0")),
        ("method", json!("PATCH")),
        ("method", json!("post")),
        ("url", json!("http://localhost:5000/")),
        ("url", json!("http://user:id@host/:identity")),
        ("headers", json!("X: secret-word")),
        ("authorization", json!("secret-word\n")),
        ("authorizationUrl", json!("localhost")),
        ("authorizationMethod", json!("HEAD")),
        ("authorizationBody", json!("password=secret-word")),
        ("authorizationResponseTokenAttr", json!("")),
        ("headerAuth", json!(1)),
        ("webhook", json!(1)),
        ("clientId", json!("a")),
        ("authorization", json!("***")),
        ("authorizationBody", json!("***")),
    ] {
        let mut body = page();
        body[name] = wrong.clone();
        let answer = served.post(&key, PATH, &body).await;
        answer.wrong_fields(&[&format!("/{name}")]);
        assert!(!answer.text.contains("secret-word"), "{wrong}: {answer:?}");
    }
    let mut body = page();
    body["authorizationBody"] = json!({"username": ["root"], "password": null});
    body["authorizationHeaders"] = json!({"Host": "h"});
    let below = ["/authorizationBody/username", "/authorizationBody/password", "/authorizationHeaders/Host"];
    served.post(&key, PATH, &body).await.wrong_fields(&below);
    assert_eq!(served.get(&key, PATH).await.json(), json!([]));
    served.end().await;
}

async fn a_client_has_one_webhook_and_may_make_a_new_one_once_it_is_deleted(database: Database) {
    let served = Served::of(&database).await;
    let (key, other) = (served.key("acme").await, served.key("umbrella").await);
    let made = served.post(&key, PATH, &page()).await.json();
    let conflict = served.post(&key, OLDER, &page()).await.problem(409, "conflict");
    assert_eq!(conflict["existing"], made["id"]);
    assert!(conflict["detail"].as_str().unwrap().contains(made["id"].as_str().unwrap()));
    let others = served.post(&other, PATH, &page()).await;
    assert_eq!(others.status, 200, "another client has its own: {others:?}");
    assert_ne!(others.json()["clientId"], made["clientId"]);

    for path in [PATH, OLDER] {
        for method in [Method::PUT, Method::PATCH] {
            let refused = ask(&served, method, ("X-API-KEY", &key), &one(path, &made), Some(&page())).await;
            let problem = refused.problem(405, "method-not-allowed");
            assert!(problem["detail"].as_str().unwrap().contains("delete it, and create it again"), "{problem}");
            assert_eq!(refused.headers["allow"], "GET,HEAD,DELETE");
        }
    }
    served.delete(&other, &one(PATH, &made)).await.problem(404, "not-found");
    assert_eq!(served.delete(&key, &one(PATH, &made)).await.status, 204);
    let again = served.post(&key, PATH, &page()).await;
    assert_eq!(again.status, 200);
    assert_ne!(again.json()["id"], made["id"]);
    served.end().await;
}

async fn of_creates_at_once_exactly_one_succeeds(database: Database) {
    let (one, two) = (Served::of(&database).await, Served::of(&database).await);
    let key = one.key("acme").await;
    for _ in 0..5 {
        let body = page();
        let creates = (0..4).map(|number| [&one, &two][number % 2].post(&key, [PATH, OLDER][number / 2], &body));
        let answers = join_all(creates).await;
        let (good, bad): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 200);
        assert_eq!((good.len(), bad.len()), (1, 3), "{answers:#?}");
        let made = good[0].json();
        for answer in bad {
            assert_eq!(answer.problem(409, "conflict")["existing"], made["id"]);
        }
        assert_eq!(one.delete(&key, &super::document_webhooks::one(PATH, &made)).await.status, 204);
    }
    one.end().await;
    two.end().await;
}

async fn one_in_the_file_or_made_over_v1_stands_in_the_way_and_is_not_here(database: Database) {
    let file = "subscriptions:
  - {id: declared, organization: acme, payload: idexa, events: [document_finish], target: {url: 'http://h/:id'}}";
    let served = Served::beside(&database, file).await;
    let (key, other) = (served.key("acme").await, served.key("umbrella").await);
    assert_eq!(served.post(&key, PATH, &page()).await.problem(409, "conflict")["existing"], "declared");
    assert_eq!(served.get(&key, PATH).await.json(), json!([]));
    served.get(&key, &format!("{PATH}/declared")).await.problem(404, "not-found");

    let over_v1 = json!({"payload": "idexa", "events": ["document_finish"], "target": {"url": "http://h/:id"}});
    let path = served.create(&other, &over_v1).await;
    let id = path.rsplit('/').next().unwrap();
    assert_eq!(served.post(&other, PATH, &page()).await.problem(409, "conflict")["existing"], id);
    served.get(&other, &format!("{PATH}/{id}")).await.problem(404, "not-found");
    served.end().await;
}

async fn what_has_no_canonical_place_is_told_again_and_stays_when_v1_changes_the_rest(database: Database) {
    let served = Served::of(&database).await;
    let key = served.key("acme").await;
    let body = json!({
        "name": "w", "type": 0, "method": "PUT", "url": "http://h/:id", "authorization": "Token a-secret",
        "headerAuth": "Token", "authorizationHeaders": {"X-Key": "b-secret"}, "authorizationBody": {"p": "c-secret"}
    });
    let made = served.post(&key, PATH, &body).await;
    assert_eq!(made.status, 200, "{made:?}");
    let made = made.json();
    for (name, value) in [
        ("authorization", json!("***")),
        ("headerAuth", json!("Token")),
        ("authorizationHeaders", json!({"X-Key": "***"})),
        ("authorizationUrl", json!(null)),
        ("authorizationMethod", json!(null)),
    ] {
        assert_eq!(made[name], value, "{name}");
    }
    let v1 = format!("/v1/subscriptions/{}", made["id"].as_str().unwrap());
    let canonical = served.get(&key, &v1).await;
    let told = format!("{made}{}", canonical.text);
    assert!(canonical.json().get("aside").is_none() && !told.contains("-secret"), "{told}");
    assert_eq!(canonical.json()["origin"], "idexa");

    assert_eq!(served.patch(&key, &v1, &json!({"name": "n", "target": {"timeout": "3s"}})).await.status, 200);
    let after = served.get(&key, &one(PATH, &made)).await.json();
    assert_eq!((&after["name"], &after["headerAuth"]), (&json!("n"), &json!("Token")));
    // With a login the login knows what is sent.
    let login = json!({"auth": {"login": {"url": "http://h/login"}}});
    assert_eq!(served.patch(&key, &v1, &login).await.status, 200);
    let after = served.get(&key, &one(PATH, &made)).await.json();
    assert_eq!((&after["authorizationUrl"], &after["headerAuth"]), (&json!("http://h/login"), &json!(null)));
    served.patch(&key, &v1, &json!({"payload": "cloudevents"})).await.wrong_fields(&["/payload"]);
    served.end().await;
}

super::on_both! {
    a_webhook_is_made_over_one_generation_and_is_there_over_the_other
    what_is_not_accepted_is_refused_whole_and_nothing_is_stored
    a_client_has_one_webhook_and_may_make_a_new_one_once_it_is_deleted
    of_creates_at_once_exactly_one_succeeds
    one_in_the_file_or_made_over_v1_stands_in_the_way_and_is_not_here
    what_has_no_canonical_place_is_told_again_and_stays_when_v1_changes_the_rest
}
