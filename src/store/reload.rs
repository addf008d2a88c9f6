//! The subscriptions in force, those of the file and those of the store, and their renewal when the file changes. A bad
//! new file changes nothing.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use tokio::{
    fs,
    sync::{Mutex, Notify, watch},
    time::MissedTickBehavior,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    file::{Defaults, parse},
    snapshot::Snapshot,
    stored::Stored,
    yaml::FileProblems,
};
use crate::domain::{Subscription, SubscriptionId};

/// How often the file is looked at.
const POLL: Duration = Duration::from_secs(1);

/// The subscriptions of a file, as last read without a problem, and those of the store, as last seen.
#[derive(Debug)]
pub struct Subscriptions {
    parts: Mutex<Parts>,
    path: PathBuf,
    defaults: Defaults,
    /// The same for what is stored.
    stored_defaults: Defaults,
    current: ArcSwap<Snapshot>,
    loaded: watch::Sender<Option<usize>>,
    /// What the file looked like when it was read first.
    first: Option<Stamp>,
}

/// What is put together.
#[derive(Debug)]
struct Parts {
    file: Vec<Arc<Subscription>>,
    /// `None` before the store's first complete load. Without a store nothing is in it.
    stored: Option<Arc<Stored>>,
}

/// Why the subscriptions cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("cannot read the subscriptions from {} (setting subscriptions.file)", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        cause: io::Error,
    },
    /// The file's text is wrong.
    #[error("{} is not accepted:\n{problems}", .path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// Everything that is wrong with it.
        problems: FileProblems,
    },
    /// An id of the file is one of the store's.
    #[error("{} is not accepted: the store has a subscription with the id {id}, too", .path.display())]
    Clash {
        /// The file.
        path: PathBuf,
        /// The id.
        id: SubscriptionId,
    },
}

/// What tells one version of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    length: u64,
}

impl Subscriptions {
    /// Reads the file for the first time.
    ///
    /// # Errors
    /// The file cannot be read, or something in it is wrong. Nothing may be consumed then: an event would find nobody.
    pub async fn load(path: PathBuf, defaults: Defaults) -> Result<Self, LoadError> {
        let first = stamp(&path).await;
        let file = read(&path, defaults.clone()).await?;
        tracing::info!(subscriptions = file.len(), file = %path.display(), "Subscriptions loaded");
        let loaded = watch::Sender::new(Some(file.len()));
        let snapshot = index(file.clone()).await;
        let parts = Mutex::new(Parts { file, stored: Some(Arc::default()) });
        let stored_defaults = defaults.for_stored();
        Ok(Self { parts, path, defaults, stored_defaults, current: ArcSwap::from_pointee(snapshot), loaded, first })
    }

    /// The same beside a store, that is to say, not complete before the store was loaded, too.
    #[must_use]
    pub fn beside_a_store(mut self) -> Self {
        self.parts.get_mut().stored = None;
        self.loaded.send_replace(None);
        self
    }

    /// How many subscriptions are in force, now and later; `None` before a first complete load.
    #[must_use]
    pub fn loaded(&self) -> watch::Receiver<Option<usize>> {
        self.loaded.subscribe()
    }

    /// The subscriptions in force. What is held on to stays as it is; ask again for every event.
    #[must_use]
    pub fn current(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Reads the file again whenever it changes, and each time `reload` is notified (SIGHUP), until `stop`.
    pub fn watch(self: &Arc<Self>, tracker: &TaskTracker, stop: CancellationToken, reload: Arc<Notify>) {
        let subscriptions = Arc::clone(self);
        tracker.spawn(async move {
            // Reading twice is harmless, so a task that is dropped anywhere leaves nothing half done.
            stop.run_until_cancelled_owned(subscriptions.follow(&reload)).await;
        });
    }

    async fn follow(&self, reload: &Notify) {
        let mut ticks = tokio::time::interval(POLL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut read, mut seen) = (self.first, self.first);
        loop {
            let asked = tokio::select! {
                () = reload.notified() => true,
                _ = ticks.tick() => false,
            };
            let now = stamp(&self.path).await;
            // A file that is still being written looks different at every look: it is read when it has come to rest.
            if asked || (now != read && now == seen) {
                self.renew().await;
                read = now;
            }
            seen = now;
        }
    }

    async fn renew(&self) {
        let renewed = match read(&self.path, self.defaults.clone()).await {
            Ok(file) => self.put_file(file).await,
            Err(error) => Err(error),
        };
        if let Err(error) = renewed {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            tracing::error!(%error, cause, "Subscriptions not reloaded, the old ones stay in force");
        }
    }

    async fn put_file(&self, file: Vec<Arc<Subscription>>) -> Result<(), LoadError> {
        let mut parts = self.parts.lock().await;
        if let Some(stored) = &parts.stored
            && let Some(clash) = file.iter().find(|it| stored.has(&it.id))
        {
            return Err(LoadError::Clash { path: self.path.clone(), id: clash.id.clone() });
        }
        parts.file = file;
        let file = self.path.display().to_string();
        self.put_together(&parts, &file).await;
        Ok(())
    }

    /// Brings what is stored into force, beside the file.
    ///
    /// # Errors
    /// An id that the file has, too. Nothing changed then.
    pub(super) async fn put_stored(&self, stored: Stored) -> Result<(), SubscriptionId> {
        let mut parts = self.parts.lock().await;
        if let Some(clash) = parts.file.iter().find(|it| stored.has(&it.id)) {
            return Err(clash.id.clone());
        }
        parts.stored = Some(Arc::new(stored));
        self.put_together(&parts, "store").await;
        Ok(())
    }

    /// What is in force of the store; `None` before its first complete load.
    pub(super) async fn stored(&self) -> Option<Arc<Stored>> {
        self.parts.lock().await.stored.clone()
    }

    /// What a stored subscription gets that does not say.
    pub(super) fn stored_defaults(&self) -> &Defaults {
        &self.stored_defaults
    }

    async fn put_together(&self, parts: &Parts, source: &str) {
        let all = parts.file.iter().chain(parts.stored.iter().flat_map(|stored| stored.iter())).cloned().collect();
        let snapshot = index(all).await;
        let change = snapshot.change_since(&self.current.load());
        tracing::info!(
            subscriptions = snapshot.len(),
            added = change.added,
            changed = change.changed,
            removed = change.removed,
            source,
            "Subscriptions reloaded"
        );
        let complete = parts.stored.is_some().then_some(snapshot.len());
        self.current.store(Arc::new(snapshot));
        self.loaded.send_replace(complete);
    }
}

/// `None` when the file is not there.
async fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = fs::metadata(path).await.ok()?;
    Some(Stamp { modified: metadata.modified().ok(), length: metadata.len() })
}

async fn read(path: &Path, defaults: Defaults) -> Result<Vec<Arc<Subscription>>, LoadError> {
    let unreadable = |cause| LoadError::Unreadable { path: path.to_owned(), cause };
    let text = fs::read_to_string(path).await.map_err(unreadable)?;
    // A big file takes a second to parse: not on a thread that serves events.
    let parsed = tokio::task::spawn_blocking(move || parse(&text, &defaults)).await;
    parsed
        .map_err(|panicked| unreadable(io::Error::other(panicked)))?
        .map(|subscriptions| subscriptions.into_iter().map(Arc::new).collect())
        .map_err(|problems| LoadError::Refused { path: path.to_owned(), problems })
}

/// Indexes them, not on a thread that serves events: many take a while.
async fn index(all: Vec<Arc<Subscription>>) -> Snapshot {
    let shared = all.clone();
    // It does not panic; if it did, it would not have done so for want of another thread.
    tokio::task::spawn_blocking(move || Snapshot::of(shared)).await.unwrap_or_else(|_| Snapshot::of(all))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::file::tests::defaults;

    const LONG: Duration = Duration::from_secs(30);

    fn file(ids: &[&str]) -> String {
        let items: Vec<String> = ids
            .iter()
            .map(|id| format!("{{id: {id}, organization: acme, events: [document_text], target: {{url: http://h/}}}}"))
            .collect();
        format!("subscriptions: [{}]\n", items.join(", "))
    }

    struct Watched {
        folder: tempfile::TempDir,
        subscriptions: Arc<Subscriptions>,
        reload: Arc<Notify>,
        tracker: TaskTracker,
        stop: CancellationToken,
    }

    impl Watched {
        async fn with(text: &str) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("subscriptions.yaml");
            std::fs::write(&path, text).unwrap();
            let subscriptions = Arc::new(Subscriptions::load(path, defaults()).await.unwrap());
            let (reload, tracker, stop) = (Arc::new(Notify::new()), TaskTracker::new(), CancellationToken::new());
            subscriptions.watch(&tracker, stop.clone(), Arc::clone(&reload));
            Self { folder, subscriptions, reload, tracker, stop }
        }

        fn replace(&self, text: &str) {
            let new = self.folder.path().join("new");
            std::fs::write(&new, text).unwrap();
            std::fs::rename(new, &self.subscriptions.path).unwrap();
        }

        fn has(&self, id: &str) -> bool {
            self.subscriptions.current().by_id(&id.parse().unwrap()).is_some()
        }

        async fn until_it_has(&self, id: &str) {
            let appears = async {
                while !self.has(id) {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            tokio::time::timeout(LONG, appears).await.expect("the new file should come into force");
        }
    }

    #[tokio::test]
    async fn a_changed_file_comes_into_force_by_itself() {
        let watched = Watched::with(&file(&["one"])).await;
        watched.replace(&file(&["one", "two"]));
        watched.until_it_has("two").await;
        assert!(watched.has("one"));
    }

    #[tokio::test]
    async fn a_bad_file_leaves_the_old_one_in_force_and_a_good_one_ends_that() {
        let watched = Watched::with(&file(&["one"])).await;
        watched.replace("subscriptions: [{id: broken}]");
        watched.subscriptions.renew().await;
        assert!(watched.has("one") && !watched.has("broken"));
        std::fs::remove_file(&watched.subscriptions.path).unwrap();
        watched.subscriptions.renew().await;
        assert!(watched.has("one"));
        watched.replace(&file(&["two"]));
        watched.until_it_has("two").await;
        assert!(!watched.has("one"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_reload_can_be_asked_for() {
        let watched = Watched::with(&file(&["one"])).await;
        // The same length and the same time of modification: only asking can tell.
        let modified = std::fs::metadata(&watched.subscriptions.path).unwrap().modified().unwrap();
        watched.replace(&file(&["two"]));
        std::fs::File::options().write(true).open(&watched.subscriptions.path).unwrap().set_modified(modified).unwrap();
        tokio::time::sleep(POLL * 5).await;
        assert!(!watched.has("two"));
        watched.reload.notify_one();
        watched.until_it_has("two").await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_is_still_being_written_is_not_read() {
        let watched = Watched::with(&file(&["one"])).await;
        tokio::time::sleep(POLL / 2).await;
        // Every state is valid by itself, as the beginning of a long file can be.
        for length in 1..6 {
            watched.replace(&file(&["two", "three", "four", "five", "six"][..length]));
            tokio::time::sleep(POLL).await;
            assert!(watched.has("one") && !watched.has("two"), "read at length {length}");
        }
        watched.until_it_has("six").await;
    }

    #[tokio::test]
    async fn watching_ends_when_asked_to() {
        let watched = Watched::with(&file(&[])).await;
        watched.stop.cancel();
        watched.tracker.close();
        tokio::time::timeout(LONG, watched.tracker.wait()).await.expect("the task should end");
    }

    #[tokio::test]
    async fn a_missing_file_is_named_with_its_setting() {
        let error = Subscriptions::load("/nowhere/subscriptions.yaml".into(), defaults()).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains("/nowhere/subscriptions.yaml") && text.contains("subscriptions.file"), "{text}");
    }

    #[tokio::test]
    async fn a_file_that_is_refused_at_start_tells_every_problem() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("subscriptions.yaml");
        std::fs::write(&path, "subscriptions:\n  - id: one\n  - id: two\n").unwrap();
        let text = Subscriptions::load(path, defaults()).await.unwrap_err().to_string();
        assert!(text.contains("subscriptions[0]") && text.contains("subscriptions[1]"), "{text}");
    }

    #[test]
    fn a_change_is_counted_by_id() {
        let snapshot = |text: &str| Snapshot::new(parse(text, &defaults()).unwrap());
        let before = snapshot(&file(&["kept", "changed", "removed"]));
        let after = snapshot(&file(&["kept", "changed", "added"]).replace("id: changed", "id: changed, name: New"));
        let change = after.change_since(&before);
        assert_eq!((change.added, change.changed, change.removed), (1, 1, 1));
    }
}
