//! What both databases must know of targets that are paused.

use docrelay::{
    domain::{LaneKey, Timestamp},
    store::database::{ChangeCounter, PausedRow, Store},
};

use super::{Database, at, id, ids, new, organization};

const ERP: &str = "https://erp.example";

fn lane(owner: &str, place: &str, own: Option<&str>) -> LaneKey {
    LaneKey::of_place(&organization(owner), place, own.map(id).as_ref())
}

async fn pause(store: &Store, place: &str, seconds: i64) {
    store.pause(&organization("acme"), &lane("acme", place, None), at(seconds)).await.unwrap();
}

async fn resume(store: &Store, place: &str, seconds: i64) {
    store.resume(&organization("acme"), &lane("acme", place, None), at(seconds)).await.unwrap();
}

/// What is told, but for where in the order of changes it stands.
fn told(rows: &[PausedRow]) -> Vec<(LaneKey, Option<Timestamp>)> {
    rows.iter().map(|row| (row.lane.clone(), row.paused_at)).collect()
}

fn row(place: &str, seconds: Option<i64>) -> (LaneKey, Option<Timestamp>) {
    (lane("acme", place, None), seconds.map(at))
}

pub(super) async fn what_is_paused_is_loaded_and_followed_until_it_is_resumed(database: Database) {
    let store = database.open().await;
    pause(&store, ERP, 1).await;
    let loaded = store.load_all().await.unwrap();
    assert_eq!(told(&loaded.paused), [row(ERP, Some(1))]);
    let nothing = store.changes_since(loaded.counter).await.unwrap();
    assert!(nothing.is_empty() && nothing.counter == loaded.counter);
    pause(&store, "amqp:erp.in", 2).await;
    resume(&store, ERP, 3).await;
    let changes = store.changes_since(loaded.counter).await.unwrap();
    assert_eq!(told(&changes.paused), [row("amqp:erp.in", Some(2)), row(ERP, None)]);
    assert!(!changes.is_empty() && changes.rows.is_empty() && changes.filed.is_empty());
    store.close().await;
    let again = database.open().await;
    assert_eq!(again.load_all().await.unwrap().paused, changes.paused, "it is there after a restart");
    pause(&again, ERP, 4).await;
    let changes = again.changes_since(changes.counter).await.unwrap();
    assert_eq!(told(&changes.paused), [row(ERP, Some(4))], "and paused again, from then on");
}

pub(super) async fn a_pause_keeps_its_beginning_and_what_changes_nothing_is_no_change(database: Database) {
    let store = database.open().await;
    resume(&store, ERP, 0).await;
    assert_eq!(store.counter().await.unwrap(), ChangeCounter::default(), "there was nothing to take back");
    pause(&store, ERP, 1).await;
    let counter = store.counter().await.unwrap();
    pause(&store, ERP, 2).await;
    assert_eq!(told(&store.load_all().await.unwrap().paused), [row(ERP, Some(1))], "it keeps its beginning");
    assert_eq!(store.counter().await.unwrap(), counter, "and nobody is told again");
    resume(&store, ERP, 3).await;
    let counter = store.counter().await.unwrap();
    resume(&store, ERP, 4).await;
    assert_eq!(store.counter().await.unwrap(), counter);
}

pub(super) async fn targets_are_told_apart_whatever_they_are_called(database: Database) {
    let store = database.open().await;
    let lanes = [
        lane("acme", ERP, None),
        lane("acme", ERP, Some("erp")),
        lane("umbrella", ERP, None),
        // As if it were the name of the second.
        lane("acme", &format!("{ERP} erp"), None),
        lane(&format!("acme {ERP}"), "erp", None),
        lane("acme", "amqp:a 100% ä 'quoted'", Some("s %20")),
    ];
    let owners = ["acme", "acme", "umbrella", "acme", "acme https://erp.example", "acme"].map(organization);
    for (seconds, (owner, lane)) in (0..).zip(owners.iter().zip(&lanes)) {
        store.pause(owner, lane, at(seconds)).await.unwrap();
    }
    let loaded = store.load_all().await.unwrap().paused;
    let expected: Vec<_> = (0..).zip(&lanes).map(|(seconds, lane)| (lane.clone(), Some(at(seconds)))).collect();
    assert_eq!(told(&loaded), expected);
    let told_owners: Vec<_> = loaded.into_iter().map(|row| row.organization).collect();
    assert_eq!(told_owners, owners);
    store.resume(&owners[0], &lanes[0], at(10)).await.unwrap();
    let paused = told(&store.load_all().await.unwrap().paused);
    let paused: Vec<_> = paused.into_iter().filter(|(_, at)| at.is_some()).collect();
    assert_eq!(paused, expected[1..], "and nothing else is resumed");
}

/// Writers of both tables beside a follower: whoever goes on from the counter that it was given misses nothing.
pub(super) async fn following_pauses_passes_no_other_change(database: Database) {
    const EACH: i64 = 40;
    let store = database.open().await;
    let writers = async {
        let subscriptions = async {
            for number in 0..EACH {
                store.insert(&new(&format!("s{number}")), at(number)).await.unwrap();
            }
        };
        let pauses = async {
            for number in 0..EACH {
                pause(&store, &format!("http://h{number}"), number).await;
            }
        };
        tokio::join!(subscriptions, pauses);
    };
    let follower = async {
        let (mut counter, mut stored, mut paused) = (ChangeCounter::default(), Vec::new(), Vec::new());
        while i64::try_from(stored.len()).unwrap() < EACH || i64::try_from(paused.len()).unwrap() < EACH {
            let changes = store.changes_since(counter).await.unwrap();
            stored.extend(ids(&changes.rows).into_iter().map(str::to_owned));
            let new: Vec<_> = told(&changes.paused).into_iter().filter(|row| !paused.contains(row)).collect();
            paused.extend(new);
            counter = changes.counter;
        }
        assert_eq!(i64::try_from(stored.len()).unwrap(), EACH, "each subscription once: {stored:?}");
    };
    let both = async { tokio::join!(writers, follower) };
    tokio::time::timeout(crate::support::broker::DEADLINE, both).await.expect("the follower misses something");
}

pub(super) async fn that_something_was_resumed_is_forgotten_after_thirty_days(database: Database) {
    const DAY: i64 = 24 * 3600;
    let store = database.open().await;
    for (place, seconds) in [("http://old", 1), ("http://new", 2), ("http://kept", 3)] {
        pause(&store, place, seconds).await;
    }
    resume(&store, "http://old", 4).await;
    resume(&store, "http://new", 20 * DAY).await;
    pause(&store, ERP, 31 * DAY).await;
    let left = told(&store.load_all().await.unwrap().paused);
    let expected = [row("http://kept", Some(3)), row("http://new", None), row(ERP, Some(31 * DAY))];
    assert_eq!(left, expected, "what is paused is kept, however old");
}
