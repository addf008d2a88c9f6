//! What both databases must know of subscriptions that a file declares.

use docrelay::{
    domain::{Fingerprint, TargetUrl},
    store::database::{ChangeCounter, FiledRow, Store},
};

use super::{Database, at, id, ids, new, organization};

fn url(host: &str) -> Fingerprint {
    TargetUrl::parse(&format!("https://{host}/?key=hush")).unwrap().fingerprint()
}

async fn disable(store: &Store, name: &str, host: &str, seconds: i64) -> bool {
    let known = store.counter().await.unwrap();
    let disabled = store.disable_filed(&organization("acme"), &id(name), url(host), "gone", known, at(seconds)).await;
    disabled.unwrap().is_some()
}

async fn enable(store: &Store, name: &str, host: &str, seconds: i64) {
    store.enable_filed(&organization("acme"), &id(name), url(host), at(seconds)).await.unwrap();
}

/// Without where in the order of changes they stand.
fn told(rows: Vec<FiledRow>) -> Vec<FiledRow> {
    rows.into_iter().map(|row| FiledRow { changed: ChangeCounter::default(), ..row }).collect()
}

fn row(name: &str, host: &str, reason: Option<&str>, seconds: i64) -> FiledRow {
    FiledRow {
        organization: organization("acme"),
        id: id(name),
        fingerprint: url(host),
        reason: reason.map(str::to_owned),
        disabled_at: at(seconds),
        changed: ChangeCounter::default(),
    }
}

pub(super) async fn what_is_known_of_the_files_is_loaded_and_followed(database: Database) {
    let store = database.open().await;
    assert!(disable(&store, "a", "one", 1).await);
    let loaded = store.load_all().await.unwrap();
    assert_eq!(told(loaded.filed), [row("a", "one", Some("gone"), 1)]);
    let nothing = store.changes_since(loaded.counter).await.unwrap();
    assert!(nothing.is_empty() && nothing.counter == loaded.counter);
    assert!(disable(&store, "b", "two", 2).await);
    enable(&store, "a", "one", 3).await;
    let changes = store.changes_since(loaded.counter).await.unwrap();
    assert_eq!(told(changes.filed.clone()), [row("b", "two", Some("gone"), 2), row("a", "one", None, 1)]);
    assert!(changes.rows.is_empty() && changes.gone.is_empty());
    store.close().await;
    let again = database.open().await;
    assert_eq!(again.load_all().await.unwrap().filed, changes.filed, "it is there after a restart");
}

pub(super) async fn a_filed_one_is_disabled_once_for_each_url_and_enabled_again(database: Database) {
    let store = database.open().await;
    assert!(disable(&store, "a", "one", 1).await);
    let counter = store.counter().await.unwrap();
    assert!(!disable(&store, "a", "one", 2).await, "it is disabled already");
    assert_eq!(store.counter().await.unwrap(), counter, "and nobody is told again");
    // Replicas may have different files for a while: neither overwrites what the other found out.
    assert!(disable(&store, "a", "two", 3).await, "another URL");
    let both = [row("a", "one", Some("gone"), 1), row("a", "two", Some("gone"), 3)];
    assert_eq!(told(store.load_all().await.unwrap().filed), both);
    store.enable_filed(&organization("other"), &id("a"), url("one"), at(4)).await.unwrap();
    let theirs = FiledRow { organization: organization("other"), ..row("a", "one", None, 4) };
    assert_eq!(
        told(store.load_all().await.unwrap().filed),
        [&both[..], std::slice::from_ref(&theirs)].concat(),
        "somebody else's"
    );
    enable(&store, "a", "two", 5).await;
    let enabled = row("a", "two", None, 3);
    assert_eq!(told(store.load_all().await.unwrap().filed), [both[0].clone(), theirs, enabled], "this URL");
    assert!(disable(&store, "a", "two", 6).await, "and gone again");
}

pub(super) async fn whoever_enables_a_filed_one_is_not_overruled_by_what_was_found_before(database: Database) {
    let store = database.open().await;
    let disable_knowing = async |known| {
        let disabled = store.disable_filed(&organization("acme"), &id("a"), url("one"), "gone", known, at(2)).await;
        disabled.unwrap().is_some()
    };
    // Found out by a replica, and not written yet.
    let known = store.counter().await.unwrap();
    enable(&store, "a", "one", 1).await;
    assert!(!disable_knowing(known).await);
    assert_eq!(told(store.load_all().await.unwrap().filed), [row("a", "one", None, 1)]);
    assert!(disable_knowing(store.counter().await.unwrap()).await, "found out after that");
}

/// Writers of both tables beside a follower: whoever goes on from the counter that it was given misses nothing.
pub(super) async fn following_the_files_passes_no_other_change(database: Database) {
    const EACH: i64 = 40;
    let store = database.open().await;
    let writers = async {
        let subscriptions = async {
            for number in 0..EACH {
                store.insert(&new(&format!("s{number}")), at(number)).await.unwrap();
            }
        };
        let files = async {
            for number in 0..EACH {
                disable(&store, &format!("f{number}"), "one", number).await;
            }
        };
        tokio::join!(subscriptions, files);
    };
    let follower = async {
        let (mut counter, mut stored, mut filed) = (ChangeCounter::default(), Vec::new(), Vec::new());
        while i64::try_from(stored.len()).unwrap() < EACH || i64::try_from(filed.len()).unwrap() < EACH {
            let changes = store.changes_since(counter).await.unwrap();
            stored.extend(ids(&changes.rows).into_iter().map(str::to_owned));
            filed.extend(
                changes.filed.into_iter().map(|row| row.id).filter(|id| !filed.contains(id)).collect::<Vec<_>>(),
            );
            counter = changes.counter;
        }
        assert_eq!(i64::try_from(stored.len()).unwrap(), EACH, "each subscription once: {stored:?}");
    };
    let both = async { tokio::join!(writers, follower) };
    tokio::time::timeout(crate::support::broker::DEADLINE, both).await.expect("the follower misses something");
}

pub(super) async fn a_database_of_version_1_gets_its_new_tables(database: Database) {
    let store = database.open().await;
    store.insert(&new("a"), at(0)).await.unwrap();
    store.close().await;
    // As version 1 left it.
    database.execute("DROP TABLE filed_disabled").await;
    database.execute("DROP INDEX subscriptions_deleted").await;
    database.execute("DROP TABLE paused_targets").await;
    database.execute("DELETE FROM schema_version WHERE version > 1").await;
    let store = database.open().await;
    assert_eq!(ids(&store.load_all().await.unwrap().rows), ["a"]);
    assert!(disable(&store, "f", "one", 1).await);
    assert!(store.load_all().await.unwrap().paused.is_empty());
}
