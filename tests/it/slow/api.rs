//! Many subscriptions over the API.

use std::{sync::Arc, time::Duration};

use tokio::{task::JoinSet, time::Instant};

use crate::{
    api::{Served, little},
    store::Database,
};

/// How many clients there are at once.
const CLIENTS: usize = 32;

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_are_made_over_the_api_and_in_force_in_under_a_minute() {
    let database = Database::sqlite().await;
    let served = Arc::new(Served::of(&database).await);
    let key: Arc<str> = served.key("acme").await.into();
    let begun = Instant::now();
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let (served, key) = (Arc::clone(&served), Arc::clone(&key));
        clients.spawn(async move {
            for _ in 0..10_000_usize.div_ceil(CLIENTS) {
                served.create(&key, &little()).await;
            }
        });
    }
    clients.join_all().await;
    let all = begun.elapsed();
    assert!(served.subscriptions.current().len() >= 10_000, "each was in force before it was answered");
    println!("10,000 subscriptions over the API: {all:?}");
    assert!(all < Duration::from_mins(1), "{all:?}");
    Arc::into_inner(served).unwrap().end().await;
}
