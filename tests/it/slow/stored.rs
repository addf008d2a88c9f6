//! Many subscriptions in the database.

use std::time::Duration;

use tokio::time::Instant;

use crate::store::{
    Database, at,
    follow::{Followed, stored},
};

#[tokio::test]
async fn ten_thousand_are_stored_and_in_force_in_under_a_minute() {
    let database = Database::sqlite().await;
    let store = database.open().await;
    let followed = Followed::of(&database).await;
    let begun = Instant::now();
    for index in 0..10_000 {
        store.insert(&stored(&format!("s{index}")), at(index)).await.unwrap();
    }
    followed.until_loaded(10_001).await;
    let all = begun.elapsed();
    assert!(all < Duration::from_mins(1), "{all:?}");
    followed.end().await;
}
