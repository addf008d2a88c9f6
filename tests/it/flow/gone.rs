//! Subscriptions that are deleted, or whose targets are gone for good, while deliveries wait.

use docrelay::{
    broker::outbox::{Made, disabled_message_id},
    domain::{DeliveryId, FailureKind, Outcome, Secret, SubscriptionId, now},
    secrets::KeyRing,
    store::database::{Content, Store},
};
use serde_json::json;
use tempfile::TempDir;

use super::stored::{stored, stored_as};
use crate::support::{
    broker::eventually,
    receiver::{Receiver, Reply},
    service::{GENEROUS, Surroundings, event, subscription, with},
};

/// A SQLite store of a test's own.
struct Stored {
    store: Store,
    url: String,
    _folder: TempDir,
}

impl Stored {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("store.db").display());
        let store = Store::create(&Secret::new(url.clone()), KeyRing::default()).await.unwrap();
        Self { store, url, _folder: folder }
    }

    async fn surroundings(&self) -> Surroundings {
        Surroundings::with(&[("STORE__URL", &self.url)]).await
    }

    /// Waits until it says why a subscription is disabled.
    async fn until_disabled(&self, name: &str) -> String {
        eventually("the reason in the store", || async {
            self.store.get(&"acme".parse().unwrap(), &name.parse().unwrap()).await.unwrap()?.disabled_reason
        })
        .await
    }
}

/// The outcomes and errors of the results so far, in order.
fn told(surroundings: &Surroundings) -> Vec<(Outcome, Option<&'static str>)> {
    surroundings.results.all().into_iter().map(|result| (result.outcome, result.error)).collect()
}

const GONE: (Outcome, Option<&str>) = (Outcome::Rejected, Some("gone"));
const CANCELLED: (Outcome, Option<&str>) = (Outcome::Cancelled, Some("gone"));

#[tokio::test]
async fn a_delivery_whose_subscription_was_deleted_is_cancelled_when_it_comes_up() {
    let receiver = Receiver::scripted(|_| Reply::status(500)).await;
    let database = Stored::new().await;
    let retry = json!({"retry": {"backoff": "2s"}});
    for name in ["before", "while"] {
        let new = stored_as(&with(subscription(name, &receiver.url("/")), retry.clone()));
        database.store.insert(&new, now()).await.unwrap();
    }
    let surroundings = database.surroundings().await;
    let service = surroundings.start().await;
    surroundings.publish(&event("evt-1")).await;
    surroundings.results.wait_for_outcome(Outcome::AttemptFailed, 2, GENEROUS).await;
    let acme = "acme".parse().unwrap();
    assert!(database.store.delete(&acme, &"while".parse().unwrap(), now()).await.unwrap());
    let cancelled = surroundings.results.wait_for_outcome(Outcome::Cancelled, 1, GENEROUS).await.remove(0);
    assert_eq!((cancelled.error, cancelled.attempt, cancelled.target.as_str()), (Some("deleted"), 1, ""));
    assert_eq!(cancelled.subscription.unwrap().as_str(), "while");

    // The next service learns of it when it loads everything, and nothing is left to tell it as a change.
    assert!(service.stop().await.finished);
    assert!(database.store.delete(&acme, &"before".parse().unwrap(), now()).await.unwrap());
    let service = surroundings.start().await;
    let cancelled = surroundings.results.wait_for_outcome(Outcome::Cancelled, 2, GENEROUS).await.remove(1);
    assert_eq!(cancelled.error, Some("deleted"));
    assert_eq!(cancelled.subscription.unwrap().as_str(), "before");
    let requests = receiver.count();
    assert!((2..=4).contains(&requests), "{requests}");
    surroundings.end(service, &[(&receiver, requests)]).await;
}

#[tokio::test]
async fn a_410_disables_a_stored_subscription_here_and_in_the_store_until_its_owner_enables_it() {
    let receiver = Receiver::scripted(|request| Reply::status(if request.index == 0 { 410 } else { 200 })).await;
    let database = Stored::new().await;
    let new = stored("erp", &receiver.url("/hooks"));
    database.store.insert(&new, now()).await.unwrap();
    let surroundings = database.surroundings().await;
    let service = surroundings.start().await;
    surroundings.publish(&event("evt-1")).await;
    surroundings.results.wait_for(1, GENEROUS).await;
    // It matches still, and its deliveries end at once.
    surroundings.publish(&event("evt-2")).await;
    let cancelled = surroundings.results.wait_for(2, GENEROUS).await.remove(1);
    assert_eq!((cancelled.attempt, cancelled.fan_out), (0, 1));
    assert_eq!(told(&surroundings), [GONE, CANCELLED]);
    assert_eq!(database.until_disabled("erp").await, "gone");

    // A service that starts later knows it from the store.
    assert!(service.stop().await.finished);
    let service = surroundings.start().await;
    surroundings.publish(&event("evt-3")).await;
    surroundings.results.wait_for(3, GENEROUS).await;
    assert_eq!(told(&surroundings), [GONE, CANCELLED, CANCELLED]);
    assert_eq!(receiver.count(), 1);

    let disabled = surroundings.results.disabled();
    assert_eq!(disabled.len(), 1, "told once: {disabled:#?}");
    assert_eq!(disabled[0].key, "subscription_disabled.acme");
    let told = &disabled[0].told;
    assert_eq!(
        (told.subscription.as_str(), told.organization.as_str(), told.reason),
        ("erp", "acme", FailureKind::Gone)
    );
    assert_eq!(told.cause, DeliveryId::of(&"evt-1".parse().unwrap(), &"erp".parse().unwrap()));
    assert_eq!(disabled[0].message_id, disabled_message_id(told, Made { round: 0, attempt: 1 }).to_string());

    let enabled = Content { disabled_reason: None, ..new.content };
    let (acme, erp) = ("acme".parse().unwrap(), "erp".parse().unwrap());
    database.store.update(&acme, &erp, None, &enabled, now()).await.unwrap().unwrap();
    until_delivered(&surroundings).await;
    let requests = receiver.count();
    surroundings.end(service, &[(&receiver, requests)]).await;
}

/// Publishes events until one is delivered.
async fn until_delivered(surroundings: &Surroundings) {
    let mut published = surroundings.results.all().len();
    while !surroundings.results.all().iter().any(|result| result.outcome == Outcome::Delivered) {
        published += 1;
        surroundings.publish(&event(&format!("evt-after-{published}"))).await;
        surroundings.results.wait_for(published, GENEROUS).await;
    }
}

#[tokio::test]
async fn what_waits_while_its_subscription_is_disabled_by_a_410_is_cancelled_when_it_comes_up() {
    let receiver = Receiver::scripted(|request| {
        Reply::status(if request.header("webhook-id") == first_delivery() { 500 } else { 410 })
    })
    .await;
    let surroundings = Surroundings::new().await;
    surroundings.subscribe(&[with(subscription("erp", &receiver.url("/")), json!({"retry": {"backoff": "1s"}}))]);
    let service = surroundings.start().await;
    surroundings.publish(&event("evt-1")).await;
    surroundings.results.wait_for(1, GENEROUS).await;
    surroundings.publish(&event("evt-2")).await;
    surroundings.results.wait_for(3, GENEROUS).await;
    assert_eq!(told(&surroundings), [(Outcome::AttemptFailed, Some("status")), GONE, CANCELLED]);
    surroundings.end(service, &[(&receiver, 2)]).await;
}

fn first_delivery() -> String {
    DeliveryId::of(&"evt-1".parse().unwrap(), &"erp".parse::<SubscriptionId>().unwrap()).to_string()
}

#[tokio::test]
async fn a_410_of_a_templated_target_concerns_that_document_only() {
    let receiver = Receiver::scripted(|request| {
        Reply::status(if request.header("webhook-id") == first_delivery() { 410 } else { 200 })
    })
    .await;
    let surroundings = Surroundings::new().await;
    let target = json!({"target": {"url": receiver.url("/documents/:id"), "template": true}});
    surroundings.subscribe(&[with(subscription("erp", &receiver.url("/")), target)]);
    let service = surroundings.start().await;
    surroundings.publish(&event("evt-1")).await;
    surroundings.results.wait_for(1, GENEROUS).await;
    surroundings.publish(&event("evt-2")).await;
    surroundings.results.wait_for(2, GENEROUS).await;
    assert_eq!(told(&surroundings), [GONE, (Outcome::Delivered, None)]);
    assert!(surroundings.results.disabled().is_empty());
    surroundings.end(service, &[(&receiver, 2)]).await;
}

#[tokio::test]
async fn without_a_store_a_410_disables_until_a_restart_or_another_url() {
    let receiver = Receiver::scripted(|_| Reply::status(410)).await;
    let other = Receiver::ok().await;
    let surroundings = Surroundings::new().await;
    surroundings.subscribe(&[subscription("erp", &receiver.url("/"))]);
    let service = surroundings.start().await;
    for number in 1..=2 {
        surroundings.publish(&event(&format!("evt-{number}"))).await;
        surroundings.results.wait_for(number, GENEROUS).await;
    }
    assert_eq!(told(&surroundings), [GONE, CANCELLED]);
    assert!(service.stop().await.finished);
    let service = surroundings.start().await;
    surroundings.publish(&event("evt-3")).await;
    surroundings.results.wait_for(3, GENEROUS).await;
    assert_eq!(told(&surroundings), [GONE, CANCELLED, GONE]);
    assert_eq!(surroundings.results.disabled().len(), 2, "it was disabled twice");
    surroundings.subscribe(&[subscription("erp", &other.url("/"))]);
    service.reload.notify_one();
    until_delivered(&surroundings).await;
    surroundings.end(service, &[(&receiver, 2), (&other, 1)]).await;
}

#[tokio::test]
async fn a_410_disables_a_subscription_of_the_file_beyond_a_restart_until_it_is_enabled_or_has_another_url() {
    let receiver = Receiver::scripted(|request| Reply::status(if request.index == 0 { 410 } else { 200 })).await;
    let other = Receiver::ok().await;
    let database = Stored::new().await;
    let surroundings = database.surroundings().await;
    surroundings.subscribe(&[subscription("erp", &receiver.url("/"))]);
    let service = surroundings.start().await;
    surroundings.publish(&event("evt-1")).await;
    surroundings.results.wait_for(1, GENEROUS).await;
    let loaded = || async {
        let filed = database.store.load_all().await.unwrap().filed;
        (!filed.is_empty()).then_some(filed)
    };
    let filed = eventually("the row", loaded).await;
    assert_eq!((filed[0].id.as_str(), filed[0].reason.as_deref()), ("erp", Some("gone")));
    assert!(service.stop().await.finished);
    let service = surroundings.start().await;
    surroundings.publish(&event("evt-2")).await;
    surroundings.results.wait_for(2, GENEROUS).await;
    assert_eq!(told(&surroundings), [GONE, CANCELLED]);

    surroundings.subscribe(&[subscription("erp", &other.url("/"))]);
    service.reload.notify_one();
    until_delivered(&surroundings).await;
    assert_eq!((receiver.count(), other.count()), (1, 1));

    // Back at the old address it is still gone, until somebody says that it is not.
    surroundings.subscribe(&[subscription("erp", &receiver.url("/"))]);
    service.reload.notify_one();
    let mut published = surroundings.results.all().len();
    while told(&surroundings).last() != Some(&CANCELLED) {
        published += 1;
        surroundings.publish(&event(&format!("evt-back-{published}"))).await;
        surroundings.results.wait_for(published, GENEROUS).await;
    }
    let (acme, erp) = ("acme".parse().unwrap(), "erp".parse().unwrap());
    database.store.enable_filed(&acme, &erp, filed[0].fingerprint, now()).await.unwrap();
    while receiver.count() < 2 {
        published += 1;
        surroundings.publish(&event(&format!("evt-back-{published}"))).await;
        surroundings.results.wait_for(published, GENEROUS).await;
    }
    let requests = other.count();
    surroundings.end(service, &[(&receiver, 2), (&other, requests)]).await;
}

#[tokio::test]
async fn another_replica_follows_when_a_410_disables_a_subscription() {
    // Once: whoever sends again is answered 200.
    let receiver = Receiver::scripted(|request| Reply::status(if request.index == 0 { 410 } else { 200 })).await;
    let database = Stored::new().await;
    database.store.insert(&stored("erp", &receiver.url("/")), now()).await.unwrap();
    let surroundings = database.surroundings().await;
    let (first, second) = (surroundings.start().await, surroundings.start().await);
    // The broker gives to both by turns: soon neither sends any more.
    let (mut published, mut in_a_row, mut requests) = (0, 0, 0);
    while in_a_row < 20 {
        assert!(published < 1_000, "the other replica goes on sending: {requests} requests");
        published += 1;
        surroundings.publish(&event(&format!("evt-{published}"))).await;
        let last = surroundings.results.wait_for(published, GENEROUS).await.pop().unwrap();
        let is_same = receiver.count() == requests;
        requests = receiver.count();
        in_a_row = if (last.outcome, last.error) == CANCELLED && is_same { in_a_row + 1 } else { 0 };
    }
    assert_eq!(told(&surroundings)[0], GONE);
    assert_eq!(database.until_disabled("erp").await, "gone");
    assert_eq!(surroundings.results.disabled().len(), 1, "told once");
    assert!(second.stop().await.finished);
    surroundings.end(first, &[(&receiver, requests)]).await;
}
