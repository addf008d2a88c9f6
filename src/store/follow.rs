//! Keeps the subscriptions in force up to date with the database: looks at its change counter twice a second and loads
//! only what changed. While the database is away, what is in memory stays in force.

use std::{error::Error, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{MissedTickBehavior, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    database::{ChangeCounter, Store, StoreError},
    gone::ToWrite,
    parts::NotLoaded,
    subscriptions::Subscriptions,
};
use crate::{
    domain::{FailureKind, Secret},
    secrets::KeyRing,
};

/// How often the counter is looked at. A change made on another replica is in force here within a second.
const POLL: Duration = Duration::from_millis(500);
const _: () = assert!(POLL.as_millis() < 1000, "a change is promised within a second");

/// How long it may take at a stop to keep what is not kept yet.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How many may wait to be asked for a look. Whoever comes later waits for a place; one look answers all of them.
const ASKING: usize = 1024;

/// The database that subscriptions come from.
#[derive(Debug)]
pub struct StoreSource {
    url: Secret,
    keys: KeyRing,
    /// Not there before it could be opened.
    store: watch::Sender<Option<Store>>,
    answers: watch::Sender<bool>,
    asking: mpsc::Sender<oneshot::Sender<bool>>,
    asked: mpsc::Receiver<oneshot::Sender<bool>>,
}

/// The database for whoever writes to it beside the service that follows it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct StoreHandle {
    store: watch::Receiver<Option<Store>>,
    asking: mpsc::Sender<oneshot::Sender<bool>>,
}

impl StoreHandle {
    /// The database; `None` while it could not be opened yet.
    #[must_use]
    pub fn store(&self) -> Option<Store> {
        self.store.borrow().clone()
    }

    /// Brings into force here what was written before: returns after the next look at the database.
    ///
    /// # Errors
    /// That look failed, and one of the next ones will bring it; or the service stops.
    pub async fn bring_into_force(&self) -> Result<(), StoreError> {
        let (done, looked) = oneshot::channel();
        let is_asked = self.asking.send(done).await.is_ok();
        if is_asked && looked.await.unwrap_or(false) {
            return Ok(());
        }
        Err(StoreError::Away("what was written is not in force here yet".into()))
    }
}

/// Why a look at the database brought nothing.
#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    NotLoaded(#[from] NotLoaded),
    #[error("reading what was stored ended in a panic")]
    Panicked(#[from] tokio::task::JoinError),
}

impl StoreSource {
    /// Opens the database. One that is away is opened later.
    ///
    /// # Errors
    /// Waiting will not help: the URL is wrong, or the database belongs to a newer docrelay.
    pub async fn open(url: Secret, keys: KeyRing) -> Result<Self, StoreError> {
        let store = match Store::open(&url, keys.clone()).await {
            Ok(store) => Some(store),
            Err(error @ StoreError::Away(_)) => {
                tell(&error.into());
                None
            }
            Err(error) => return Err(error),
        };
        let answers = watch::Sender::new(store.is_some());
        let (asking, asked) = mpsc::channel(ASKING);
        Ok(Self { url, keys, store: watch::Sender::new(store), answers, asking, asked })
    }

    /// The database, for whoever writes to it.
    #[must_use]
    pub fn handle(&self) -> StoreHandle {
        StoreHandle { store: self.store.subscribe(), asking: self.asking.clone() }
    }

    /// Whether the database answers, now and later.
    #[must_use]
    pub fn answers(&self) -> watch::Receiver<bool> {
        self.answers.subscribe()
    }

    /// Brings what is stored into force, and whatever changes, until `stop`.
    pub fn follow(mut self, subscriptions: Arc<Subscriptions>, tracker: &TaskTracker, stop: CancellationToken) {
        tracker.spawn(async move {
            // A look that is dropped has changed nothing, or all of it.
            stop.run_until_cancelled(self.look_on(&subscriptions)).await;
            let store = self.store.borrow().clone();
            if let Some(store) = store {
                last_words(&store, &subscriptions).await;
                store.close().await;
            }
        });
    }

    async fn look_on(&mut self, subscriptions: &Subscriptions) {
        let mut ticks = tokio::time::interval(POLL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut told, mut waiting) = (None, Vec::new());
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                // Never none: one sender is our own.
                _ = self.asked.recv_many(&mut waiting, ASKING) => {}
                () = subscriptions.gone_to_be_written() => {}
            }
            // What was written before they asked is seen by this look.
            let looked = self.look(subscriptions).await;
            for asker in waiting.drain(..) {
                // Whoever does not wait any more need not be told.
                asker.send(looked.is_ok()).ok();
            }
            self.answers.send_replace(!matches!(looked, Err(LookError::Store(_))));
            // The same trouble is told once, not twice a second.
            let trouble = looked.err();
            let text = trouble.as_ref().map(ToString::to_string);
            if text != told {
                if let Some(error) = &trouble {
                    tell(error);
                } else {
                    tracing::info!("The store answers again");
                }
                told = text;
            }
        }
    }

    /// The database, opened now if it could not be before.
    async fn opened(&self) -> Result<Store, StoreError> {
        let known = self.store.borrow().clone();
        if let Some(store) = known {
            return Ok(store);
        }
        let opened = Store::open(&self.url, self.keys.clone()).await?;
        self.store.send_replace(Some(opened.clone()));
        Ok(opened)
    }

    async fn look(&self, subscriptions: &Subscriptions) -> Result<(), LookError> {
        let store = self.opened().await?;
        bring(&store, subscriptions).await?;
        // After what was brought: what somebody else said meanwhile is heard first.
        write_gone(&store, subscriptions).await?;
        Ok(())
    }
}

/// Brings what changed, or everything.
async fn bring(store: &Store, subscriptions: &Subscriptions) -> Result<(), LookError> {
    if let Some(counter) = subscriptions.counter().await {
        let changes = store.changes_since(counter).await?;
        // Should the counter have gone back, it is another database, or an older one.
        if changes.counter >= counter {
            // The counter counts keys, too.
            if !changes.is_empty() {
                subscriptions.put_changes(changes).await?;
            }
            return Ok(());
        }
    }
    let loaded = store.load_all().await?;
    Ok(subscriptions.put_loaded(loaded).await??)
}

/// Tells the store of the targets that were found gone here, and says of how many. What it cannot be told now, it is told
/// next time; what was changed by somebody else meanwhile it is not told, and the next look says why.
async fn write_gone(store: &Store, subscriptions: &Subscriptions) -> Result<usize, StoreError> {
    let mut count = 0;
    for gone in subscriptions.gone_to_write().await {
        match write_one(store, &gone).await {
            Ok(Some(changed)) => {
                subscriptions.gone_was_written(&gone, changed).await;
                count += 1;
            }
            Ok(None) => {}
            Err(error @ StoreError::Away(_)) => return Err(error),
            // Here it stays disabled.
            Err(error) => {
                let cause = error.source().map(ToString::to_string);
                let id = &gone.id;
                tracing::error!(docrelay.subscription = %id, %error, cause, "The store does not disable what is gone");
                subscriptions.gone_was_refused(&gone).await;
            }
        }
    }
    Ok(count)
}

/// `None` when its row was changed by somebody else.
async fn write_one(store: &Store, gone: &ToWrite) -> Result<Option<ChangeCounter>, StoreError> {
    let ToWrite { id, organization, fingerprint, at, is_stored, known } = gone;
    let reason = FailureKind::Gone.as_str();
    if *is_stored {
        store.disable(id, reason, *known, *at).await
    } else {
        store.disable_filed(organization, id, *fingerprint, reason, *known, *at).await
    }
}

/// At the end: what upstream was told is kept, so that the next process need not find it out again.
async fn last_words(store: &Store, subscriptions: &Subscriptions) {
    let all = async {
        while write_gone(store, subscriptions).await? > 0 {}
        Ok::<_, StoreError>(())
    };
    if let Err(error) = timeout(LAST_WORDS, all).await.unwrap_or_else(|elapsed| Err(StoreError::Away(elapsed.into()))) {
        let cause = error.source().map(ToString::to_string);
        tracing::warn!(%error, cause, "Not every target that is gone could be kept; its next 410 will tell it again");
    }
}

fn tell(error: &LookError) {
    let cause = error.source().map(ToString::to_string);
    tracing::error!(%error, cause, "The store brings nothing new, what was loaded stays in force");
}
