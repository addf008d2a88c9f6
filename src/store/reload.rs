//! The subscriptions file, read again when it changes. A bad new file changes nothing.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{fs, sync::Notify, time::MissedTickBehavior};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    file::{Defaults, parse},
    parts::{Clash, Parts},
    subscriptions::{Size, Subscriptions},
    yaml::FileProblems,
};
use crate::domain::Subscription;

/// How often the file is looked at.
const POLL: Duration = Duration::from_secs(1);

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
    /// The file does not go together with the store.
    #[error("{} is not accepted: {clash}", .path.display())]
    Clash {
        /// The file.
        path: PathBuf,
        /// What is in both.
        clash: Clash,
    },
}

/// What tells one version of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
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
        let parts = tokio::task::spawn_blocking(move || Parts::of_file(file)).await;
        let parts = parts
            .map_err(|panicked| LoadError::Unreadable { path: path.clone(), cause: io::Error::other(panicked) })?;
        Ok(Self::of(parts, path, defaults, first))
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
        let renewed = match read(&self.path, self.defaults().clone()).await {
            Ok(file) => self.put_file(file).await,
            Err(error) => Err(error),
        };
        if let Err(error) = renewed {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            tracing::error!(%error, cause, "Subscriptions not reloaded, the old ones stay in force");
        }
    }

    async fn put_file(&self, file: Vec<Arc<Subscription>>) -> Result<(), LoadError> {
        let put = self.change("file", Size::Large, move |parts| parts.put_file(file)).await;
        put.map_err(|panicked| LoadError::Unreadable { path: self.path.clone(), cause: io::Error::other(panicked) })?
            .map_err(|clash| LoadError::Clash { path: self.path.clone(), clash })
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
}
