//! Subscriptions in a database, while events flow.

use docrelay::{
    domain::Outcome,
    secrets::KeyRing,
    store::database::{Content, NewSubscription, Origin, Store},
};
use serde_json::Value;

use crate::support::{
    broker::eventually,
    receiver::Receiver,
    scrape::Scraped,
    service::{GENEROUS, Surroundings, event, subscription},
};

/// A subscription of the tests, as it is stored.
pub(super) fn stored(name: &str, url: &str) -> NewSubscription {
    stored_as(&subscription(name, url))
}

pub(super) fn stored_as(whole: &Value) -> NewSubscription {
    let name = whole["id"].as_str().unwrap();
    let mut document = whole.as_object().unwrap().clone();
    document.remove("id");
    let organization = document.remove("organization").unwrap();
    NewSubscription {
        id: name.parse().unwrap(),
        organization: organization.as_str().unwrap().parse().unwrap(),
        origin: Origin::Api,
        singular: None,
        content: Content { document: serde_json::to_string(&document).unwrap(), secrets: None, disabled_reason: None },
    }
}

#[tokio::test]
async fn a_service_that_starts_without_its_store_consumes_nothing_and_delivers_once_it_is_there() {
    let receiver = Receiver::ok().await;
    let folder = tempfile::tempdir().unwrap();
    // Away: there is the mount point, and nothing mounted on it.
    let missing = folder.path().join("volume");
    std::fs::create_dir(&missing).unwrap();
    let url = format!("sqlite://{}", missing.join("store.db").display());
    let surroundings = Surroundings::with(&[("STORE__URL", &url)]).await;
    let service = surroundings.start_unready().await;
    surroundings.publish(&event("evt-1")).await;
    let told = eventually("an answer", || async {
        let answer = surroundings.readiness(&service).await?;
        (answer.contains("subscriptions: not loaded") && answer.contains("store: away")).then_some(answer)
    })
    .await;
    assert!(told.contains("consuming: no"), "{told}");
    assert!(surroundings.results.all().is_empty());
    let is_up = async || Scraped::plain(service.admin).await.value("docrelay_store_up", &[]);
    assert_eq!(is_up().await, Some(0.0));

    let ready = folder.path().join("ready");
    std::fs::create_dir(&ready).unwrap();
    let filling = docrelay::domain::Secret::new(format!("sqlite://{}", ready.join("store.db").display()));
    let store = Store::create(&filling, KeyRing::default()).await.unwrap();
    store.insert(&stored("erp", &receiver.url("/")), docrelay::domain::now()).await.unwrap();
    store.close().await;
    assert!(!missing.join("store.db").exists(), "a volume that is not mounted is no empty store");
    std::fs::rename(&ready, &missing).unwrap();

    surroundings.results.wait_for(1, GENEROUS).await;
    assert_eq!(surroundings.results.all()[0].outcome, Outcome::Delivered);
    assert_eq!(is_up().await, Some(1.0));
    surroundings.end(service, &[(&receiver, 1)]).await;
}

#[tokio::test]
async fn two_services_on_one_store_learn_of_a_new_subscription_while_they_run() {
    let receiver = Receiver::ok().await;
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("store.db").display());
    let store = Store::create(&docrelay::domain::Secret::new(url.clone()), KeyRing::default()).await.unwrap();
    let surroundings = Surroundings::with(&[("STORE__URL", &url)]).await;
    let (one, other) = tokio::join!(surroundings.start(), surroundings.start());
    store.insert(&stored("erp", &receiver.url("/")), docrelay::domain::now()).await.unwrap();
    for service in [&one, &other] {
        eventually("the new subscription", || async {
            let answer = surroundings.readiness(service).await?;
            (answer.contains("subscriptions: 1 loaded") && answer.contains("store: connected")).then_some(())
        })
        .await;
    }
    surroundings.publish(&event("evt-1")).await;
    surroundings.results.wait_for(1, GENEROUS).await;
    assert_eq!(surroundings.results.all()[0].outcome, Outcome::Delivered);
    assert!(other.stop().await.finished);
    surroundings.end(one, &[(&receiver, 1)]).await;
}
