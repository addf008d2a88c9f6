//! The database's subscriptions in memory, beside the file's.

mod gone;

use std::{path::Path, sync::Arc, time::Duration};

use docrelay::{
    config,
    domain::{State, Subscription, now},
    secrets::KeyRing,
    store::{
        Defaults, Found, Snapshot, StoreHandle, StoreSource, Subscriptions,
        database::{Content, NewSubscription, Store, StoreError},
    },
};
use tempfile::TempDir;
use tokio::{sync::watch, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Database, at, id, new, organization};
use crate::support::broker::{DEADLINE, eventually};

/// A document that is a whole subscription.
fn document(url: &str) -> Content {
    let document = format!(r#"{{"events": ["document_text"], "target": {{"url": "{url}"}}}}"#);
    super::content(&document)
}

pub(crate) fn stored(name: &str) -> NewSubscription {
    NewSubscription { content: document("https://first/"), ..new(name) }
}

pub(crate) struct Followed {
    folder: TempDir,
    subscriptions: Arc<Subscriptions>,
    answers: watch::Receiver<bool>,
    handle: StoreHandle,
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Followed {
    /// A file with one subscription, `filed`, and the database.
    pub(crate) async fn of(database: &Database) -> Self {
        Self::with(database, &text("filed")).await
    }

    /// A file, and the database.
    async fn with(database: &Database, text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        write_text(folder.path(), text);
        let defaults = Defaults::from(&config::load(&[], std::iter::empty()).unwrap());
        let subscriptions = Subscriptions::load(folder.path().join("subscriptions.yaml"), defaults).await.unwrap();
        let subscriptions = Arc::new(subscriptions.beside_a_store());
        assert_eq!(*subscriptions.loaded().borrow(), None, "not complete before the store was read");
        let source = StoreSource::open(database.url.clone(), database.keys.clone()).await.unwrap();
        let (answers, handle) = (source.answers(), source.handle());
        let (tracker, stop) = (TaskTracker::new(), CancellationToken::new());
        source.follow(Arc::clone(&subscriptions), &tracker, stop.clone());
        Self { folder, subscriptions, answers, handle, tracker, stop }
    }

    pub(crate) async fn until_loaded(&self, count: usize) {
        let mut loaded = self.subscriptions.loaded();
        timeout(DEADLINE, loaded.wait_for(|loaded| *loaded == Some(count))).await.unwrap().unwrap();
    }

    pub(crate) fn handle(&self) -> StoreHandle {
        self.handle.clone()
    }

    /// The target of one answers 410, and upstream is told.
    async fn is_gone(&self, name: &str) {
        let (it, at) = (self.get(name).unwrap(), now());
        assert!(self.subscriptions.disable_gone(&it, at).await, "{name}");
        self.subscriptions.gone_was_told(&it, at).await;
    }

    fn current(&self) -> Arc<Snapshot> {
        self.subscriptions.current()
    }

    fn get(&self, name: &str) -> Option<Arc<Subscription>> {
        self.current().by_id(&id(name)).cloned()
    }

    pub(crate) async fn end(self) {
        self.stop.cancel();
        self.tracker.close();
        timeout(DEADLINE, self.tracker.wait()).await.unwrap();
    }
}

fn text(name: &str) -> String {
    format!("subscriptions: [{{id: {name}, organization: acme, events: [document_text], target: {{url: http://h/}}}}]")
}

fn write(folder: &Path, name: &str) {
    write_text(folder, &text(name));
}

fn write_text(folder: &Path, text: &str) {
    std::fs::write(folder.join("new"), text).unwrap();
    std::fs::rename(folder.join("new"), folder.join("subscriptions.yaml")).unwrap();
}

#[tokio::test]
async fn what_is_stored_is_in_force_beside_the_file_and_a_change_soon_after() {
    let database = Database::sqlite().await;
    let store = database.open().await;
    store.insert(&stored("a"), at(0)).await.unwrap();
    let followed = Followed::of(&database).await;
    followed.until_loaded(2).await;
    assert!(followed.get("filed").is_some() && followed.get("a").is_some());

    let made = tokio::time::Instant::now();
    store.insert(&stored("b"), at(1)).await.unwrap();
    followed.until_loaded(3).await;
    assert!(made.elapsed() < Duration::from_secs(10), "a second, and what a busy machine takes");
    store.update(&organization("acme"), &id("b"), None, &document("https://second/"), at(2)).await.unwrap();
    eventually("the update", || async { followed.get("b").filter(|it| it.target.address() == "second/") }).await;
    store.disable(&id("b"), "gone", store.counter().await.unwrap(), at(3)).await.unwrap();
    eventually("the disabled one", || async { followed.get("b").filter(|it| it.state == State::Gone) }).await;
    store.delete(&organization("acme"), &id("a"), at(4)).await.unwrap();
    followed.until_loaded(2).await;
    assert!(followed.get("a").is_none() && followed.get("filed").is_some());
    followed.end().await;
}

#[tokio::test]
async fn what_was_written_through_the_handle_is_in_force_once_it_was_brought() {
    let database = Database::sqlite().await;
    database.open().await;
    let followed = Followed::of(&database).await;
    followed.until_loaded(1).await;
    let store = followed.handle.store().expect("the database is there");
    for name in ["a", "b", "c", "d", "e"] {
        store.insert(&stored(name), at(0)).await.unwrap();
        timeout(DEADLINE, followed.handle.bring_into_force()).await.unwrap().unwrap();
        assert!(followed.get(name).is_some(), "{name} is in force at once, not after the next poll");
    }
    let handle = followed.handle.clone();
    followed.end().await;
    let asked = timeout(DEADLINE, handle.bring_into_force()).await;
    asked.expect("whoever asks when nothing is followed does not wait").unwrap_err();
}

#[tokio::test]
async fn whoever_asks_hears_that_a_look_failed() {
    let database = Database::sqlite().await;
    database.open().await;
    let followed = Followed::of(&database).await;
    followed.until_loaded(1).await;
    database.hide(true);
    let asked = timeout(DEADLINE, followed.handle.bring_into_force()).await.unwrap();
    assert!(matches!(asked, Err(StoreError::Away(_))), "{asked:?}");
    database.hide(false);
    timeout(DEADLINE, followed.handle.bring_into_force()).await.unwrap().unwrap();
    followed.end().await;
}

#[tokio::test]
async fn while_the_store_is_away_what_was_loaded_stays_in_force() {
    let database = Database::sqlite().await;
    database.open().await.insert(&stored("a"), at(0)).await.unwrap();
    let mut followed = Followed::of(&database).await;
    followed.until_loaded(2).await;
    assert!(*followed.answers.borrow());
    database.destroy().await;
    timeout(DEADLINE, followed.answers.wait_for(|answers| !answers)).await.unwrap().unwrap();
    assert!(followed.get("a").is_some());
    assert_eq!(*followed.subscriptions.loaded().borrow(), Some(2));
    followed.end().await;
}

#[tokio::test]
async fn a_database_that_is_an_older_one_is_loaded_whole() {
    let database = Database::sqlite().await;
    let store = database.open().await;
    for name in ["a", "b"] {
        store.insert(&stored(name), at(0)).await.unwrap();
    }
    let followed = Followed::of(&database).await;
    followed.until_loaded(3).await;
    // As a backup would have it.
    database.execute("DELETE FROM subscriptions WHERE id = 'b'; UPDATE change_counter SET value = 1").await;
    followed.until_loaded(2).await;
    assert!(followed.get("a").is_some() && followed.get("b").is_none());
    followed.end().await;
}

#[tokio::test]
async fn a_missing_key_keeps_the_first_load_from_being_complete() {
    let mut database = Database::sqlite().await;
    let content = Content { secrets: Some(docrelay::domain::Secret::new("{}")), ..document("https://h/") };
    let store = database.open().await;
    store.insert(&NewSubscription { content, ..new("a") }, at(0)).await.unwrap();
    store.insert(&stored("b"), at(0)).await.unwrap();
    let right = std::mem::replace(&mut database.keys, super::ring());
    let followed = Followed::of(&database).await;
    // Long enough for two looks.
    let complete = timeout(Duration::from_millis(1200), followed.until_loaded(3)).await;
    assert!(complete.is_err() && followed.get("b").is_none());
    followed.end().await;
    database.keys = right;
    let followed = Followed::of(&database).await;
    followed.until_loaded(3).await;
    followed.end().await;
}

#[tokio::test]
async fn a_changed_row_that_cannot_be_read_stays_in_force_as_it_was() {
    let database = Database::sqlite().await;
    let store = database.open().await;
    store.insert(&stored("a"), at(0)).await.unwrap();
    let followed = Followed::of(&database).await;
    followed.until_loaded(2).await;
    let newer = super::content(r#"{"events": ["document_of_the_future"]}"#);
    store.update(&organization("acme"), &id("a"), None, &newer, at(1)).await.unwrap();
    store.insert(&stored("b"), at(2)).await.unwrap();
    followed.until_loaded(3).await;
    assert_eq!(followed.get("a").unwrap().target.address(), "first/");
    followed.end().await;
}

#[tokio::test]
async fn a_new_file_with_an_id_of_the_store_is_refused() {
    let database = Database::sqlite().await;
    let store = database.open().await;
    store.insert(&stored("a"), at(0)).await.unwrap();
    let followed = Followed::of(&database).await;
    followed.until_loaded(2).await;
    let reload = Arc::new(tokio::sync::Notify::new());
    followed.subscriptions.watch(&followed.tracker, followed.stop.clone(), Arc::clone(&reload));
    write(followed.folder.path(), "a");
    reload.notify_one();
    // What comes after it is in force, so it has been read.
    store.insert(&stored("b"), at(1)).await.unwrap();
    followed.until_loaded(3).await;
    assert!(followed.get("filed").is_some());
    write(followed.folder.path(), "fine");
    reload.notify_one();
    eventually("the good file", || async { followed.get("fine") }).await;
    followed.end().await;
}

#[tokio::test]
async fn what_was_deleted_is_known_as_deleted_and_what_is_only_absent_is_not() {
    let database = Database::sqlite().await;
    let store = database.open().await;
    let acme = organization("acme");
    for name in ["a", "b", "c"] {
        store.insert(&stored(name), at(0)).await.unwrap();
    }
    store.delete(&acme, &id("a"), now()).await.unwrap();
    let followed = Followed::of(&database).await;
    followed.until_loaded(3).await;
    assert_eq!(followed.current().find(&acme, &id("a")), Found::Deleted, "known from the load");
    store.delete(&acme, &id("b"), now()).await.unwrap();
    followed.until_loaded(2).await;
    assert_eq!(followed.current().find(&acme, &id("b")), Found::Deleted, "known from the change");
    assert_eq!(followed.current().find(&organization("other"), &id("b")), Found::Unknown);
    // A backup of before the deletions, and without one that nobody deleted. The counter last: it is what is looked at, and a
    // backup is there at once.
    database.execute("DELETE FROM subscriptions WHERE id IN ('b', 'c'); UPDATE change_counter SET value = 1").await;
    followed.until_loaded(1).await;
    let current = followed.current();
    assert_eq!((current.find(&acme, &id("b")), current.find(&acme, &id("c"))), (Found::Unknown, Found::Unknown));
    assert_eq!(current.find(&acme, &id("a")), Found::Deleted);
    followed.end().await;
}

#[tokio::test]
async fn a_row_that_clashes_with_the_file_holds_no_other_up_and_comes_when_the_clash_ends() {
    let database = Database::sqlite().await;
    let store = database.open().await;
    let followed = Followed::of(&database).await;
    followed.until_loaded(1).await;
    store.insert(&stored("filed"), at(0)).await.unwrap();
    store.insert(&stored("a"), at(1)).await.unwrap();
    followed.until_loaded(2).await;
    assert!(followed.get("a").is_some());
    assert_eq!(followed.get("filed").unwrap().target.address(), "h/", "the file's");
    let reload = Arc::new(tokio::sync::Notify::new());
    followed.subscriptions.watch(&followed.tracker, followed.stop.clone(), Arc::clone(&reload));
    write(followed.folder.path(), "other");
    reload.notify_one();
    eventually("the stored one", || async { followed.get("filed").filter(|it| it.target.address() == "first/") }).await;
    assert!(followed.get("other").is_some());
    followed.end().await;
}

#[tokio::test]
async fn an_idexa_subscription_of_the_file_beside_a_stored_one_is_refused() {
    let database = Database::sqlite().await;
    let store = database.open().await;
    let idexa = r#"{"payload": "idexa", "events": ["document_finish"], "target": {"url": "https://h/:id"}}"#;
    let singular = NewSubscription { singular: Some("0".to_owned()), content: super::content(idexa), ..new("a") };
    store.insert(&singular, at(0)).await.unwrap();
    let followed = Followed::of(&database).await;
    followed.until_loaded(2).await;
    let reload = Arc::new(tokio::sync::Notify::new());
    followed.subscriptions.watch(&followed.tracker, followed.stop.clone(), Arc::clone(&reload));
    let filed = |name: &str, organization: &str| {
        format!(
            "subscriptions: [{{id: {name}, organization: {organization}, payload: idexa, events: [document_finish], \
             target: {{url: 'http://h/:id'}}}}]"
        )
    };
    write_text(followed.folder.path(), &filed("mine", "acme"));
    reload.notify_one();
    // What comes after it is in force, so it has been read.
    store.insert(&stored("b"), at(1)).await.unwrap();
    followed.until_loaded(3).await;
    assert!(followed.get("filed").is_some() && followed.get("mine").is_none());
    store.delete(&organization("acme"), &id("b"), now()).await.unwrap();
    write_text(followed.folder.path(), &filed("theirs", "other"));
    reload.notify_one();
    eventually("another organization's", || async { followed.get("theirs") }).await;
    store.delete(&organization("acme"), &id("a"), now()).await.unwrap();
    followed.until_loaded(1).await;
    write_text(followed.folder.path(), &filed("mine", "acme"));
    reload.notify_one();
    eventually("the only one", || async { followed.get("mine") }).await;
    followed.end().await;

    // At a first load nothing comes into force.
    store.insert(&NewSubscription { id: id("c"), ..singular }, at(1)).await.unwrap();
    let followed = Followed::with(&database, &filed("mine", "acme")).await;
    let complete = timeout(Duration::from_millis(1200), followed.until_loaded(2)).await;
    assert!(complete.is_err() && followed.subscriptions.loaded().borrow().is_none());
    followed.end().await;
}

#[tokio::test]
async fn a_newer_store_is_no_reason_to_wait() {
    let database = Database::sqlite().await;
    database.open().await.close().await;
    database.execute("INSERT INTO schema_version (version) VALUES (77)").await;
    let refused = StoreSource::open(database.url.clone(), KeyRing::default()).await.unwrap_err();
    assert!(matches!(refused, StoreError::Newer { .. }), "{refused:?}");
    let refused = Store::open(&docrelay::domain::Secret::new("mysql://u:hush@h/"), KeyRing::default()).await;
    assert!(!refused.unwrap_err().to_string().contains("hush"));
}
