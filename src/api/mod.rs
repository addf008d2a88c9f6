//! The HTTP API: subscriptions over `/v1`, for whoever has a key. axum stops here. `desk` is what the APIs have in common;
//! each of them only translates between its own words and the canonical JSON.

mod answer;
mod desk;
mod doorman;
mod draft;
mod guesses;
pub mod kind;
mod lanes;
mod merge;
pub mod openapi;
mod patience;
mod place;
mod problem;
mod products;
mod rehearsal;
mod render;
mod request;
mod secrets;
mod server;
mod subscriptions;
mod targets;
mod trial;
mod view;

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, LazyLock},
    time::Duration,
};

use axum::{
    Router,
    extract::Request,
    http::{StatusCode, Uri},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    routing::get,
};
use futures_util::FutureExt as _;
use tokio::time::timeout;

pub use self::{desk::Desk, server::Server};
use self::{doorman::Doorman, kind::Kind, problem::Problem};

/// How long a request may take in all. The store has ten seconds, and so has the body.
const DEADLINE: Duration = Duration::from_secs(30);

/// When to try again what took too long.
const LATER: Duration = Duration::from_secs(10);

/// What is served.
pub type Routes = Router;

/// What requests are answered with.
#[derive(Debug)]
struct Api {
    desk: Desk,
    doorman: Doorman,
}

/// Everything that is served to others: the API, if there is a store, and download links, if their files are here.
pub fn routes(desk: Option<Desk>, downloads: Option<Router>) -> Routes {
    // The path of downloads is the operator's, whatever its segments begin with.
    let mut routes = Router::new()
        .without_v07_checks()
        .route(kind::PAGES, get(pages))
        .route(&format!("{}/{{name}}", kind::PAGES), get(page));
    if let Some(desk) = desk {
        let api = Arc::new(Api { desk, doorman: Doorman::default() });
        let all = openapi::operations().fold(Router::new(), |routes, operation| operation.route(routes));
        routes = routes.route(openapi::PATH, get(machines)).merge(all.with_state(api));
    }
    // Downloads may take as long as they need.
    let routes = routes.layer(middleware::from_fn(guard)).merge(downloads.unwrap_or_default());
    routes.fallback(nothing_here).method_not_allowed_fallback(other_method)
}

/// Answers in time, whatever happens.
async fn guard(request: Request, next: Next) -> Response {
    match AssertUnwindSafe(timeout(DEADLINE, next.run(request))).catch_unwind().await {
        Ok(Ok(response)) => response,
        Ok(Err(_elapsed)) => {
            tracing::warn!("A request took too long");
            Problem::new(Kind::Overloaded, "The answer took too long.").retry_after(LATER).into_response()
        }
        Err(_panic) => {
            tracing::error!("A request ended in a panic");
            Problem::new(Kind::Internal, "docrelay could not do its part; its log says why.").into_response()
        }
    }
}

/// The API for machines. It is the same for everybody, and says nothing about anybody.
async fn machines() -> Response {
    /// It is large, and never changes.
    static DOCUMENT: LazyLock<serde_json::Value> = LazyLock::new(openapi::document);
    answer::json(StatusCode::OK, &*DOCUMENT)
}

async fn nothing_here() -> Problem {
    Problem::new(Kind::NotFound, "There is nothing at this path.")
}

async fn other_method() -> Problem {
    Problem::new(Kind::MethodNotAllowed, "This path has other methods: see the header Allow.")
}

async fn pages() -> Response {
    let lines = Kind::ALL.map(|kind| format!("{} {:<24} {}\n", kind.status().as_u16(), kind.name(), kind.title()));
    answer::text(lines.concat())
}

async fn page(uri: Uri) -> Response {
    match uri.path().rsplit('/').next().and_then(Kind::of_name) {
        Some(kind) => {
            answer::text(format!("{} (status {})\n\n{}\n", kind.title(), kind.status().as_u16(), kind.advice()))
        }
        None => nothing_here().await.into_response(),
    }
}
