//! Subscriptions that are made over the API, while events flow.

use std::net::SocketAddr;

use docrelay::{
    domain::{Outcome, Secret, now},
    secrets::Key,
    store::database::{KeyOwner, Store},
};
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{
    broker::eventually,
    receiver::{Receiver, Reply},
    service::{GENEROUS, Surroundings, event},
};

/// A database with a key of `acme`, and the settings that make a service serve it.
pub(super) struct Made {
    _folder: TempDir,
    url: String,
    secrets: String,
    key: String,
}

impl Made {
    pub(super) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("store.db").display());
        let secrets = Key::generate().unwrap().reveal().to_owned();
        let store = Store::create(&Secret::new(url.clone()), docrelay::secrets::KeyRing::default()).await.unwrap();
        let owner = KeyOwner::Organization("acme".parse().unwrap());
        let (_, key) = store.create_key(owner, "test", now()).await.unwrap();
        store.close().await;
        Self { _folder: folder, url, secrets, key: key.reveal().to_owned() }
    }

    pub(super) fn settings(&self) -> [(&'static str, &str); 3] {
        [("STORE__URL", &self.url), ("SECRETS__KEYS", &self.secrets), ("API__LISTEN", "127.0.0.1:0")]
    }

    pub(super) async fn send(
        &self,
        address: SocketAddr,
        method: Method,
        path: &str,
        body: &Value,
    ) -> (StatusCode, String) {
        let client = Client::builder().no_proxy().build().unwrap();
        let request = client.request(method, format!("http://{address}{path}")).bearer_auth(&self.key);
        let request = request.header("content-type", "application/json").body(body.to_string());
        let answer = request.send().await.unwrap();
        (answer.status(), answer.text().await.unwrap())
    }

    /// Makes a subscription and gives its path.
    async fn create(&self, address: SocketAddr, url: &str) -> String {
        let body = json!({"events": ["document_text"], "target": {"url": url}});
        let (status, text) = self.send(address, Method::POST, "/v1/subscriptions", &body).await;
        assert_eq!(status, StatusCode::CREATED, "{text}");
        let created: Value = serde_json::from_str(&text).unwrap();
        format!("/v1/subscriptions/{}", created["id"].as_str().unwrap())
    }
}

#[tokio::test]
async fn the_very_next_event_finds_what_was_made_and_not_what_was_deleted() {
    let made = Made::new().await;
    let receiver = Receiver::ok().await;
    let surroundings = Surroundings::with(&made.settings()).await;
    let service = surroundings.start().await;
    let address = service.api.unwrap();
    let path = made.create(address, &receiver.url("/")).await;
    surroundings.publish(&event("evt-1")).await;
    surroundings.results.wait_for(1, GENEROUS).await;
    assert_eq!(surroundings.results.all()[0].outcome, Outcome::Delivered);

    let off = json!({"enabled": false});
    assert_eq!(made.send(address, Method::PATCH, &path, &off).await.0, StatusCode::OK);
    surroundings.publish(&event("evt-2")).await;
    surroundings.results.wait_for(2, GENEROUS).await;
    assert_eq!(surroundings.results.all()[1].outcome, Outcome::Unsubscribed);

    let on = json!({"enabled": true});
    assert_eq!(made.send(address, Method::PATCH, &path, &on).await.0, StatusCode::OK);
    surroundings.publish(&event("evt-3")).await;
    surroundings.results.wait_for(3, GENEROUS).await;
    assert_eq!(surroundings.results.all()[2].outcome, Outcome::Delivered);

    assert_eq!(made.send(address, Method::DELETE, &path, &json!({})).await.0, StatusCode::NO_CONTENT);
    surroundings.publish(&event("evt-4")).await;
    surroundings.results.wait_for(4, GENEROUS).await;
    assert_eq!(surroundings.results.all()[3].outcome, Outcome::Unsubscribed);
    surroundings.end(service, &[(&receiver, 2)]).await;
}

#[tokio::test]
async fn what_is_made_at_one_replica_is_in_force_at_the_other_soon_after() {
    let made = Made::new().await;
    let receiver = Receiver::ok().await;
    let surroundings = Surroundings::with(&made.settings()).await;
    let (one, other) = tokio::join!(surroundings.start(), surroundings.start());
    made.create(one.api.unwrap(), &receiver.url("/")).await;
    let answer = surroundings.readiness(&one).await.unwrap();
    assert!(answer.contains("subscriptions: 1 loaded"), "in force where it was made before it was answered: {answer}");
    eventually("the subscription at the other replica", || async {
        surroundings.readiness(&other).await?.contains("subscriptions: 1 loaded").then_some(())
    })
    .await;
    assert!(one.stop().await.finished);
    surroundings.publish(&event("evt-1")).await;
    surroundings.results.wait_for(1, GENEROUS).await;
    assert_eq!(surroundings.results.all()[0].outcome, Outcome::Delivered);
    surroundings.end(other, &[(&receiver, 1)]).await;
}

#[tokio::test]
async fn a_410_to_a_test_send_disables_nothing_and_no_result_tells_of_it() {
    let made = Made::new().await;
    let receiver = Receiver::scripted(|request| {
        if request.headers.contains_key("docrelay-test") { Reply::status(410) } else { Reply::ok() }
    })
    .await;
    let surroundings = Surroundings::with(&made.settings()).await;
    let service = surroundings.start().await;
    let address = service.api.unwrap();
    let path = made.create(address, &receiver.url("/")).await;
    let (status, text) = made.send(address, Method::POST, &format!("{path}/test"), &json!({})).await;
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((status, &report["status"]), (StatusCode::OK, &json!(410)), "{text}");
    let (_, text) = made.send(address, Method::GET, &path, &json!({})).await;
    let shown: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&shown["enabled"], &shown["disabled_reason"]), (&json!(true), &json!(null)), "{shown}");

    // What comes next is delivered, and is the first that anybody is told of.
    surroundings.publish(&event("evt-1")).await;
    surroundings.results.wait_for(1, GENEROUS).await;
    let (results, disabled) = (&surroundings.results, surroundings.results.disabled());
    assert_eq!(results.all()[0].event_id.to_string(), "evt-1");
    assert_eq!(results.all()[0].outcome, Outcome::Delivered);
    assert!(disabled.is_empty(), "{disabled:?}");
    assert_eq!(results.all().len(), 1);
    surroundings.end(service, &[(&receiver, 2)]).await;
}

#[tokio::test]
async fn no_secret_that_goes_through_the_api_is_logged() {
    let made = Made::new().await;
    let receiver = Receiver::scripted(|_| Reply::ok().body(r#"{"access_token": "hunter2"}"#)).await;
    let surroundings = Surroundings::with(&made.settings()).await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let listen = free.to_string();
    let program = surroundings.run_with(&[("API__LISTEN", &listen), ("LOG__LEVEL", "trace")]).await;
    let mut body = crate::api::secrets::full();
    // The login that wins once the fixed authorization is gone.
    body["auth"]["login"]["url"] = json!(receiver.url("/login").replace("://", "://user:hunter2@"));
    body["target"]["url"] = json!(receiver.url("/").replace("://", "://user:hunter2@"));
    let (status, text) = made.send(free, Method::POST, "/v1/subscriptions", &body).await;
    assert_eq!(status, StatusCode::CREATED, "{text}");
    let broken = json!({"target": {"url": "https://u:hunter2@evil.example/"}, "auth": {"authorization": "hunter2\n"}});
    let path = format!("/v1/subscriptions/{}", serde_json::from_str::<Value>(&text).unwrap()["id"].as_str().unwrap());
    assert_eq!(made.send(free, Method::PATCH, &path, &broken).await.0, StatusCode::UNPROCESSABLE_ENTITY);
    let with_login = json!({"auth": {"authorization": null}});
    assert_eq!(made.send(free, Method::PATCH, &path, &with_login).await.0, StatusCode::OK);
    for body in [json!({}), json!({"hunter2": "hunter2"})] {
        made.send(free, Method::POST, &format!("{path}/test"), &body).await;
    }
    assert_eq!(receiver.count(), 2, "the login of the test send, and the test send");
    through_the_products(&made, free, &receiver).await;
    surroundings.publish(&event("evt-1")).await;
    surroundings.results.wait_for(2, GENEROUS).await;
    assert!(surroundings.results.all().iter().all(|result| result.outcome == Outcome::Delivered));
    let log = program.log().to_owned();
    program.stop().await;
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.contains("Subscription created"), "{log}");
    for secret in ["hunter2", "aHVudGVyM", &made.key, &made.secrets] {
        let line = log.lines().find(|line| line.contains(secret));
        assert!(line.is_none(), "{line:?}");
    }
    surroundings.nothing_is_left(0).await;
}

/// Makes, changes and tries out what the products' APIs make, with a secret wherever there may be one, and mistakes beside.
async fn through_the_products(made: &Made, address: SocketAddr, receiver: &Receiver) {
    let integration = json!({
        "type": "webhook", "events": ["document_text"],
        "target": receiver.url("/integration").replace("://", "://user:hunter2@"), "headers": {"X-Key": "hunter2"},
    });
    let webhook = json!({
        "name": "w", "type": 0, "method": "POST", "url": receiver.url("/:id").replace("://", "://user:hunter2@"),
        "headers": {"X-Key": "hunter2"}, "authorizationUrl": receiver.url("/login"),
        "authorizationHeaders": {"X-Login": "hunter2"}, "authorizationBody": {"password": "hunter2"},
    });
    for (path, body) in [("/integrations", integration), ("/document_webhooks", webhook)] {
        let mut wrong = body.clone();
        wrong["hunter"] = json!("hunter2");
        assert_eq!(made.send(address, Method::POST, path, &wrong).await.0, StatusCode::UNPROCESSABLE_ENTITY);
        let (status, text) = made.send(address, Method::POST, path, &body).await;
        assert_eq!(status, StatusCode::OK, "{text}");
        let id = serde_json::from_str::<Value>(&text).unwrap()["id"].as_str().unwrap().to_owned();
        let change = json!({"headers": {"X-Key": "hunter2!"}});
        made.send(address, Method::PATCH, &format!("{path}/{id}"), &change).await;
        let tried = made.send(address, Method::POST, &format!("/v1/subscriptions/{id}/test"), &json!({})).await;
        assert_eq!(tried.0, StatusCode::OK, "{}", tried.1);
    }
}
