//! Sending: one attempt over real connections, good and bad.

mod exchange;
mod failures;
mod guard;
mod login;
mod signature;

use std::time::Duration;

use bytes::Bytes;
use docrelay::{
    config::EgressConfig,
    domain::{
        Answer, Attempt, DeliveryId, DocumentEvent, FailureKind, Happening, HttpTarget, Payload, Subscription, Target,
        TargetUrl, now,
    },
    webhook::{Client, Request},
};

use crate::support::subscription::subscription_of;

/// No test shall wait for this; it only ends one that hangs.
const GENEROUS: Duration = Duration::from_secs(30);

fn event() -> DocumentEvent {
    DocumentEvent {
        id: "evt-1".parse().unwrap(),
        occurred_at: None,
        organization: "org".parse().unwrap(),
        project: None,
        inbox: None,
        document: "doc 1".parse().unwrap(),
        metadata: [].into(),
        happening: Happening::Delete,
    }
}

fn subscription(url: &str) -> Subscription {
    let target = Target::Http(HttpTarget::post(TargetUrl::parse(url).unwrap(), GENEROUS));
    subscription_of("org", Payload::ContractFit, target)
}

fn http_of(subscription: &Subscription) -> &HttpTarget {
    let Target::Http(target) = &subscription.target else { panic!("{subscription:?}") };
    target
}

/// The target, to be changed.
fn http(subscription: &mut Subscription) -> &mut HttpTarget {
    let Target::Http(target) = &mut subscription.target else { panic!("not a webhook") };
    target
}

/// A client that may connect to `allow`.
fn client(allow: &[&str], roots: &[Vec<u8>]) -> Client {
    let allow = allow.iter().map(|net| net.parse().unwrap()).collect();
    Client::new(&EgressConfig { allow, deny: vec![] }, Duration::from_secs(5), roots).unwrap()
}

/// A client that may connect to this machine.
fn local_client() -> Client {
    client(&["127.0.0.0/8", "::1/128"], &[])
}

async fn send(client: &Client, subscription: &Subscription) -> Attempt {
    let event = event();
    let delivery = DeliveryId::of(&event.id, &subscription.id);
    let body = Bytes::from_static(b"{\"a\":1}");
    client
        .send(Request {
            event: &event,
            subscription,
            target: http_of(subscription),
            delivery,
            attempt: 3,
            at: now(),
            began: tokio::time::Instant::now(),
            body,
            trace: &docrelay::domain::TraceContext::default(),
            scope: None,
            trial: None,
            logged_in: None,
        })
        .await
}

fn status(attempt: &Attempt) -> u16 {
    match &attempt.answer {
        Answer::Response { status, .. } => *status,
        other => panic!("expected a response, got {other:?}"),
    }
}

/// Why there was no answer, with the text.
fn failure(attempt: &Attempt) -> (FailureKind, &str) {
    match &attempt.answer {
        Answer::None { kind, text } => (*kind, text),
        other => panic!("expected no answer, got {other:?}"),
    }
}
