//! Who may come in.

use docrelay::domain::now;
use reqwest::Method;

use super::{Served, answer, little};
use crate::store::Database;

const PATH: &str = "/v1/subscriptions";

#[tokio::test]
async fn a_key_opens_in_any_of_its_headers_on_any_path() {
    let database = Database::sqlite().await;
    let served = Served::of(&database).await;
    let key = served.key("acme").await;
    let bearer = format!("Bearer {key}");
    for (header, value) in [("authorization", &bearer), ("x-api-key", &key), ("idexa-api-key", &key)] {
        assert_eq!(answer(served.request(Method::GET, PATH).header(header, value)).await.status, 200, "{header}");
    }
    let other = served.key("acme").await;
    let two = served.request(Method::GET, PATH).header("x-api-key", &key);
    answer(two.header("idexa-api-key", &other)).await.problem(401, "unauthorized");
    served.end().await;
}

#[tokio::test]
async fn without_a_key_or_with_a_wrong_one_nothing_opens_and_nothing_is_read() {
    let database = Database::sqlite().await;
    let served = Served::of(&database).await;
    let key = served.key("acme").await;
    for wrong in
        ["", "Bearer", "Bearer drk_wrong", &format!("Basic {key}"), &format!("Bearer {}", &key[..key.len() - 1])]
    {
        let request = served.request(Method::POST, PATH).header("authorization", wrong).body("{");
        let refused = answer(request).await;
        refused.problem(401, "unauthorized");
        assert!(refused.headers["www-authenticate"].to_str().unwrap().starts_with("Bearer"), "{refused:?}");
    }
    served.end().await;
}

async fn a_revoked_key_opens_nothing_from_then_on_at_any_replica(database: Database) {
    let (one, other) = (Served::of(&database).await, Served::of(&database).await);
    let key = one.key("acme").await;
    for served in [&one, &other] {
        assert_eq!(served.get(&key, PATH).await.status, 200);
    }
    let id = one.store.list_keys().await.unwrap().remove(0).id;
    one.store.revoke_key(&id, now()).await.unwrap();
    for served in [&one, &other] {
        served.get(&key, PATH).await.problem(401, "unauthorized");
    }
    one.end().await;
    other.end().await;
}

#[tokio::test]
async fn whoever_guesses_is_told_to_wait_and_a_right_key_from_there_opens_all_the_same() {
    let database = Database::sqlite().await;
    let served = Served::of(&database).await;
    let (known, unknown) = (served.key("acme").await, served.key("acme").await);
    assert_eq!(served.get(&known, PATH).await.status, 200);
    let mut refused = served.get("drk_wrong", PATH).await;
    for _ in 0..200 {
        if refused.status == 429 {
            break;
        }
        refused.problem(401, "unauthorized");
        refused = served.get("drk_wrong", PATH).await;
    }
    refused.problem(429, "too-many-wrong-keys");
    assert!((1..=60).contains(&refused.headers["retry-after"].to_str().unwrap().parse::<u32>().unwrap()));
    assert_eq!(served.get(&known, PATH).await.status, 200);
    assert_eq!(served.post(&known, PATH, &little()).await.status, 201);
    // So does one that was never used before: everybody behind a proxy has its address.
    assert_eq!(served.get(&unknown, PATH).await.status, 200);
    served.get("drk_wrong", PATH).await.problem(429, "too-many-wrong-keys");
    served.end().await;
}

super::on_both! {
    a_revoked_key_opens_nothing_from_then_on_at_any_replica
}
