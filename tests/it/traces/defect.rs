//! A defect while an attempt is under way: its span ends, and says so.
//!
//! What breaks is the log that the HTTP client writes a line to before it connects: it runs within the attempt, and nothing in
//! the service knows of it.

use std::fmt::Debug;

use docrelay::domain::Outcome;
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    Layer,
    layer::{Context, SubscriberExt as _},
    util::SubscriberInitExt as _,
};

use super::traced;
use crate::support::{
    collector::Collector,
    receiver::Receiver,
    service::{GENEROUS, event, subscription},
};

/// Nobody else goes there, and nobody gets there.
const HOST: &str = "127.66.6.6";

/// Panics when a line says that the client connects to the host. What is said while the client holds a lock of all its
/// connections is let be.
struct Breaks;

impl<S: Subscriber> Layer<S> for Breaks {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        event.record(&mut Reads);
    }
}

struct Reads;

impl Visit for Reads {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let line = if field.name() == "message" { format!("{value:?}") } else { String::new() };
        assert!(!(line.starts_with("starting new connection") && line.contains(HOST)), "a defect");
    }
}

#[tokio::test]
async fn an_attempt_that_panics_is_told_as_failed_and_disturbs_no_other() {
    // All that the service does is done by this thread.
    let _breaks = tracing_subscriber::registry().with(Breaks).set_default();
    let collector = Collector::grpc().await;
    let receiver = Receiver::ok().await;
    let surroundings = traced(&collector).await;
    surroundings.subscribe(&[
        subscription("breaks", &format!("http://{HOST}:9/hook")),
        subscription("erp", &receiver.url("/")),
    ]);
    let service = surroundings.start().await;
    surroundings.publish(&event("evt-1")).await;
    surroundings.results.wait_for_outcome(Outcome::Delivered, 1, GENEROUS).await;
    let ended = surroundings.results.wait_for_outcome(Outcome::Rejected, 1, GENEROUS).await.remove(0);
    assert_eq!((ended.error, ended.attempt), (Some("internal"), 0));
    surroundings.end(service, &[(&receiver, 1)]).await;
    insta::assert_snapshot!(collector.trace().tree(), @r"
    process docrelay.events (consumer)
      attempt (internal, error) error.type=internal
      publish documents.results (producer) docrelay.subscription=breaks docrelay.attempt=0 docrelay.outcome=rejected
      POST (client) http.response.status_code=200 docrelay.subscription=erp docrelay.attempt=1 docrelay.outcome=delivered
      publish documents.results (producer) docrelay.subscription=erp docrelay.attempt=1 docrelay.outcome=delivered
    ");
}
