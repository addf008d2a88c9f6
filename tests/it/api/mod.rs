//! The HTTP API: a real server, a real database, real requests; no broker.

mod document_webhooks;
mod gone;
mod guide;
mod integrations;
mod keys;
mod limits;
mod lists;
mod openapi;
mod problems;
pub(crate) mod secrets;
mod subscriptions;
mod targets;
mod trial;

use std::{net::SocketAddr, sync::Arc};

use docrelay::{
    api::{self, Desk, Server},
    config,
    domain::{Secret, now},
    store::{
        Defaults, StoreSource, Subscriptions,
        database::{KeyOwner, Store},
    },
};
use reqwest::{Method, RequestBuilder, Response, StatusCode, header::HeaderMap};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::timeout;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    store::{Database, organization},
    support::{bench::Bench, broker::DEADLINE},
};

/// A subscriptions file with nothing in it.
const NO_FILE: &str = "subscriptions: []\n";

/// One process that serves the API.
pub(crate) struct Served {
    pub(crate) address: SocketAddr,
    pub(crate) subscriptions: Arc<Subscriptions>,
    pub(crate) store: Store,
    client: reqwest::Client,
    _folder: TempDir,
    /// What test sends go through.
    _bench: Bench,
    tracker: TaskTracker,
    stop: CancellationToken,
}

/// What was answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Served {
    pub(crate) async fn of(database: &Database) -> Self {
        Self::beside(database, NO_FILE).await
    }

    /// Beside a subscriptions file with this text.
    pub(crate) async fn beside(database: &Database, file: &str) -> Self {
        Self::start(database, file, database.open().await).await
    }

    /// With a store of the test's own beside.
    pub(crate) async fn start(database: &Database, file: &str, store: Store) -> Self {
        // As if there were an artifact store.
        Self::set(database, file, store, &[("ARTIFACTS__URL", "s3://exports")]).await
    }

    /// With settings.
    pub(crate) async fn set(database: &Database, file: &str, store: Store, settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("subscriptions.yaml");
        std::fs::write(&path, file).unwrap();
        let settings = settings.iter().map(|(name, value)| (format!("DOCRELAY__{name}"), (*value).to_owned()));
        let defaults = Defaults::from(&config::load(&[], settings).unwrap());
        let subscriptions = Subscriptions::load(path, defaults).await.unwrap().beside_a_store();
        let subscriptions = Arc::new(subscriptions);
        let source = StoreSource::open(database.url.clone(), database.keys.clone()).await.unwrap();
        let bench = Bench::new().await;
        let desk = Desk::new(source.handle(), Arc::clone(&subscriptions), now)
            .with_trials(Arc::downgrade(&bench.flow) as _)
            .with_figures(Arc::downgrade(&bench.flow) as _);
        let (tracker, stop) = (TaskTracker::new(), CancellationToken::new());
        source.follow(Arc::clone(&subscriptions), &tracker, stop.clone());
        let server = Server::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let address = server.address();
        tracker.spawn(server.serve(api::routes(Some(desk), None), stop.clone()));
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { address, subscriptions, store, client, _folder: folder, _bench: bench, tracker, stop }
    }

    /// A key of an organization.
    pub(crate) async fn key(&self, name: &str) -> String {
        self.key_of(KeyOwner::Organization(organization(name))).await
    }

    /// A key of the operator.
    pub(crate) async fn operators_key(&self) -> String {
        self.key_of(KeyOwner::Operator).await
    }

    async fn key_of(&self, owner: KeyOwner) -> String {
        let (_, key) = self.store.create_key(owner, "test", now()).await.unwrap();
        Secret::reveal(&key).to_owned()
    }

    /// A request without a key.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("http://{}{path}", self.address))
    }

    pub(crate) async fn get(&self, key: &str, path: &str) -> Answer {
        answer(self.request(Method::GET, path).bearer_auth(key)).await
    }

    pub(crate) async fn post(&self, key: &str, path: &str, body: &Value) -> Answer {
        self.send(Method::POST, key, path, body).await
    }

    pub(crate) async fn patch(&self, key: &str, path: &str, body: &Value) -> Answer {
        self.send(Method::PATCH, key, path, body).await
    }

    pub(crate) async fn delete(&self, key: &str, path: &str) -> Answer {
        answer(self.request(Method::DELETE, path).bearer_auth(key)).await
    }

    async fn send(&self, method: Method, key: &str, path: &str, body: &Value) -> Answer {
        let request = self.request(method, path).bearer_auth(key);
        answer(request.header("content-type", "application/json").body(body.to_string())).await
    }

    /// Makes a subscription and gives its path.
    pub(crate) async fn create(&self, key: &str, body: &Value) -> String {
        let created = self.post(key, "/v1/subscriptions", body).await;
        assert_eq!(created.status, StatusCode::CREATED, "{created:?}");
        created.headers["location"].to_str().unwrap().to_owned()
    }

    pub(crate) async fn end(self) {
        self.stop.cancel();
        self.tracker.close();
        timeout(DEADLINE, self.tracker.wait()).await.unwrap();
    }
}

pub(crate) async fn answer(request: RequestBuilder) -> Answer {
    read(request.send().await.unwrap()).await
}

async fn read(response: Response) -> Answer {
    let (status, headers) = (response.status(), response.headers().clone());
    Answer { status, headers, text: response.text().await.unwrap() }
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Checks that it is a problem of this kind, with this status, and gives it.
    #[track_caller]
    pub(crate) fn problem(&self, status: u16, kind: &str) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.headers["content-type"], "application/problem+json");
        let problem = self.json();
        assert_eq!(problem["type"], format!("/problems/{kind}"), "{problem}");
        assert_eq!(problem["status"], status);
        assert!(problem["title"].is_string() && problem["detail"].is_string(), "{problem}");
        problem
    }

    /// Checks that these fields, and no others, are told to be wrong.
    #[track_caller]
    pub(crate) fn wrong_fields(&self, expected: &[&str]) -> Value {
        let problem = self.problem(422, "invalid-fields");
        let errors = problem["errors"].as_array().unwrap();
        let mut found: Vec<_> = errors.iter().map(|error| error["pointer"].as_str().unwrap()).collect();
        let mut expected = expected.to_vec();
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected, "{problem}");
        problem
    }
}

/// A subscription that says little.
pub(crate) fn little() -> Value {
    json!({"events": ["document_text"], "target": {"url": "https://erp.example/hooks"}})
}

/// Each of these tests, on both databases.
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
use on_both;
