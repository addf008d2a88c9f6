//! Signatures, as a receiver sees them that uses the library of the specification.

use docrelay::domain::Subscription;
use http::{HeaderValue, Method};
use standardwebhooks::Webhook;

use super::{GENEROUS, http, local_client, send, subscription};
use crate::support::receiver::{Receiver, Recorded};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const NEXT: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const STRANGERS: &str = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// What a receiver gets from a subscription with these secrets.
async fn received(secrets: &[&str], change: impl FnOnce(&mut Subscription)) -> Recorded {
    let receiver = Receiver::ok().await;
    let mut subscription = subscription(&receiver.url("/"));
    subscription.signing_secrets = secrets.iter().map(|secret| secret.parse().unwrap()).collect();
    change(&mut subscription);
    send(&local_client(), &subscription).await;
    receiver.wait_for(1, GENEROUS).await.remove(0)
}

fn verifies(secret: &str, request: &Recorded) -> bool {
    Webhook::new(secret).unwrap().verify(&request.body, &request.headers).is_ok()
}

#[tokio::test]
async fn the_library_of_the_specification_verifies_a_request() {
    let request = received(&[SECRET], |_| ()).await;
    assert!(verifies(SECRET, &request), "{request:?}");
    assert!(!verifies(STRANGERS, &request), "another secret verifies nothing");
    assert!(request.header("webhook-signature").starts_with("v1,"));
}

#[tokio::test]
async fn while_a_secret_is_replaced_the_old_and_the_new_one_verify() {
    let request = received(&[NEXT, SECRET], |_| ()).await;
    assert_eq!(request.header("webhook-signature").split(' ').count(), 2);
    assert!(verifies(SECRET, &request) && verifies(NEXT, &request), "{request:?}");
    assert!(!verifies(STRANGERS, &request));
}

#[tokio::test]
async fn a_request_that_somebody_changed_is_refused() {
    let request = received(&[SECRET], |_| ()).await;
    let mut changed = request.clone();
    changed.body = "{\"a\":2}".into();
    assert!(!verifies(SECRET, &changed), "the body");
    for header in ["webhook-id", "webhook-timestamp"] {
        let mut changed = request.clone();
        let value = format!("{}0", &changed.header(header)[..changed.header(header).len() - 1]);
        let value = if value == changed.header(header) { value.replace('0', "1") } else { value };
        changed.headers.insert(header, HeaderValue::from_str(&value).unwrap());
        assert!(!verifies(SECRET, &changed), "{header}");
    }
}

#[tokio::test]
async fn a_request_without_a_body_is_signed_over_the_empty_body() {
    for method in [Method::GET, Method::DELETE] {
        let request = received(&[SECRET], |subscription| http(subscription).method = method).await;
        assert!(request.body.is_empty());
        assert!(verifies(SECRET, &request), "{request:?}");
    }
}

#[tokio::test]
async fn without_a_secret_nothing_is_signed() {
    let request = received(&[], |_| ()).await;
    assert!(!request.headers.contains_key("webhook-signature"));
}
