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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_made_and_in_force_one_by_one_cost_as_much_at_the_end_as_at_the_beginning() {
    let database = Database::sqlite().await;
    let store = database.open().await;
    let followed = Followed::of(&database).await;
    followed.until_loaded(1).await;
    let handle = followed.handle();
    let mut thousands = Vec::new();
    for thousand in 0..10 {
        let begun = Instant::now();
        for index in 0..1_000 {
            let index = thousand * 1_000 + index;
            store.insert(&stored(&format!("s{index}")), at(index)).await.unwrap();
            handle.bring_into_force().await.unwrap();
        }
        thousands.push(begun.elapsed());
    }
    followed.until_loaded(10_001).await;
    let (all, first, last) = (thousands.iter().sum::<Duration>(), thousands[0], thousands[9]);
    eprintln!("10,000 made and in force one by one: {all:?}, by the thousand: {thousands:?}");
    // Were everything put together anew each time, the last thousand would cost nineteen times the first.
    assert!(last < first * 6, "{thousands:?}");
    // A debug build on a busy machine; most of it is the database and its threads.
    assert!(all < Duration::from_secs(100), "{all:?}");
    followed.end().await;
}
