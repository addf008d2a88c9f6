//! Targets that answered 410, between memory and the database: what is written, when, and what is stronger than it.

use super::*;

#[tokio::test]
async fn what_is_gone_while_the_store_is_away_is_written_once_it_answers_again() {
    let database = Database::sqlite().await;
    let store = database.open().await;
    store.insert(&stored("a"), at(0)).await.unwrap();
    let mut followed = Followed::of(&database).await;
    followed.until_loaded(2).await;
    store.close().await;
    database.hide(true);
    timeout(DEADLINE, followed.answers.wait_for(|answers| !answers)).await.unwrap().unwrap();
    let learnt = now();
    for name in ["a", "filed"] {
        let it = followed.get(name).unwrap();
        assert!(followed.subscriptions.disable_gone(&it, learnt).await, "{name}");
        assert!(!followed.subscriptions.disable_gone(&it, now()).await, "{name} is disabled already");
        assert_eq!(followed.get(name).unwrap().state, State::Gone, "{name} is disabled here at once");
    }
    // What upstream was not told of is not written: a crash would leave it untold for ever.
    followed.subscriptions.gone_was_told(&followed.get("a").unwrap(), learnt).await;
    database.hide(false);
    timeout(DEADLINE, followed.answers.wait_for(|answers| *answers)).await.unwrap().unwrap();
    let store = database.open().await;
    let acme = organization("acme");
    eventually("the stored one in the store", || async {
        store.get(&acme, &id("a")).await.unwrap()?.disabled_reason.filter(|reason| reason == "gone")
    })
    .await;
    assert!(store.load_all().await.unwrap().filed.is_empty());
    let filed = followed.get("filed").unwrap();
    followed.subscriptions.gone_was_told(&filed, learnt).await;
    eventually("the file's in the store", || async { store.load_all().await.unwrap().filed.pop() }).await;

    // Its owner enables the one, and the operator the other.
    store.update(&acme, &id("a"), None, &document("https://first/"), at(1)).await.unwrap();
    store.enable_filed(&acme, &id("filed"), filed.target.fingerprint(), at(1)).await.unwrap();
    for name in ["a", "filed"] {
        eventually(name, || async { followed.get(name).filter(|it| it.state == State::Enabled) }).await;
    }
    followed.end().await;
}

#[tokio::test]
async fn what_is_gone_here_is_gone_on_another_replica_within_a_second() {
    let database = Database::sqlite().await;
    database.open().await.insert(&stored("a"), at(0)).await.unwrap();
    let (here, there) = tokio::join!(Followed::of(&database), Followed::of(&database));
    tokio::join!(here.until_loaded(2), there.until_loaded(2));
    let begun = tokio::time::Instant::now();
    for name in ["a", "filed"] {
        here.is_gone(name).await;
    }
    for name in ["a", "filed"] {
        eventually(name, || async { there.get(name).filter(|it| it.state == State::Gone) }).await;
        // And it is no news there any more.
        assert!(!there.subscriptions.disable_gone(&there.get(name).unwrap(), now()).await);
    }
    assert!(begun.elapsed() < Duration::from_secs(10), "a second, and what a busy machine takes");
    here.end().await;
    there.end().await;
}

#[tokio::test]
async fn what_its_owner_changed_meanwhile_is_not_disabled_by_what_was_found_before() {
    let database = Database::sqlite().await;
    let store = database.open().await;
    let (acme, names) = (organization("acme"), ["moved", "enabled", "filed"]);
    for name in ["moved", "enabled"] {
        store.insert(&stored(name), at(0)).await.unwrap();
    }
    let followed = Followed::of(&database).await;
    followed.until_loaded(3).await;
    let (found, learnt) = (names.map(|name| followed.get(name).unwrap()), now());
    for it in &found {
        assert!(followed.subscriptions.disable_gone(it, learnt).await);
    }
    // Their owners say otherwise, before this replica can write what it found.
    store.update(&acme, &id("moved"), None, &document("https://second/"), at(1)).await.unwrap();
    store.update(&acme, &id("enabled"), None, &document("https://first/"), at(1)).await.unwrap();
    store.enable_filed(&acme, &id("filed"), found[2].target.fingerprint(), at(1)).await.unwrap();
    for it in &found {
        followed.subscriptions.gone_was_told(it, learnt).await;
    }
    for name in names {
        eventually(name, || async { followed.get(name).filter(|it| it.state == State::Enabled) }).await;
    }
    // Two looks later it is still so, here and at rest.
    for _ in 0..2 {
        followed.handle.bring_into_force().await.unwrap();
    }
    let loaded = store.load_all().await.unwrap();
    assert!(loaded.rows.iter().all(|row| row.disabled_reason.is_none()) && loaded.filed[0].reason.is_none());
    assert!(names.iter().all(|name| followed.get(name).unwrap().state == State::Enabled));
    followed.end().await;
}

#[tokio::test]
async fn what_upstream_was_told_just_before_a_stop_is_kept() {
    let database = Database::sqlite().await;
    let store = database.open().await;
    store.insert(&stored("a"), at(0)).await.unwrap();
    let followed = Followed::of(&database).await;
    followed.until_loaded(2).await;
    // On this one thread nothing else runs between these and the stop.
    for name in ["a", "filed"] {
        followed.is_gone(name).await;
    }
    followed.end().await;
    let loaded = store.load_all().await.unwrap();
    assert_eq!(loaded.rows[0].disabled_reason.as_deref(), Some("gone"));
    assert_eq!(loaded.filed[0].reason.as_deref(), Some("gone"));
}
