//! Keeps the subscriptions in force up to date with the database: looks at its change counter twice a second and loads
//! only what changed. While the database is away, what is in memory stays in force.

use std::{error::Error, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, oneshot, watch},
    time::MissedTickBehavior,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    database::{Store, StoreError},
    reload::Subscriptions,
    stored::{Incomplete, Stored},
};
use crate::{domain::Secret, secrets::KeyRing};

/// How often the counter is looked at. A change made on another replica is in force here within a second.
const POLL: Duration = Duration::from_millis(500);
const _: () = assert!(POLL.as_millis() < 1000, "a change is promised within a second");

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
    asking: mpsc::Sender<oneshot::Sender<()>>,
    asked: mpsc::Receiver<oneshot::Sender<()>>,
}

/// The database for whoever writes to it beside the service that follows it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct StoreHandle {
    store: watch::Receiver<Option<Store>>,
    asking: mpsc::Sender<oneshot::Sender<()>>,
}

impl StoreHandle {
    /// The database; `None` while it could not be opened yet.
    #[must_use]
    pub fn store(&self) -> Option<Store> {
        self.store.borrow().clone()
    }

    /// Brings into force here what was written before: returns after the next look at the database. Should that look
    /// fail, one of the next ones will bring it.
    pub async fn bring_into_force(&self) {
        let (done, looked) = oneshot::channel();
        if self.asking.send(done).await.is_ok() {
            // An error means that nothing is followed any more: the service stops.
            looked.await.ok();
        }
    }
}

/// Why a look at the database brought nothing.
#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Incomplete(#[from] Incomplete),
    #[error("the subscriptions file and the store both have the id {0}")]
    Clash(String),
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
            }
            // What was written before they asked is seen by this look.
            let looked = self.look(subscriptions).await;
            for asker in waiting.drain(..) {
                // Whoever does not wait any more need not be told.
                asker.send(()).ok();
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
        let before = subscriptions.stored().await;
        let defaults = subscriptions.stored_defaults().clone();
        let changes = match &before {
            Some(stored) => Some(store.changes_since(stored.counter()).await?),
            None => None,
        };
        let after = match (before, changes) {
            (Some(before), Some(changes)) if changes.counter >= before.counter() => {
                // The counter counts keys, too.
                if changes.rows.is_empty() && changes.gone.is_empty() {
                    return Ok(());
                }
                tokio::task::spawn_blocking(move || before.after(&changes, &defaults)).await?
            }
            // At first, and when the counter went back: then it is another database, or an older one.
            _ => {
                let loaded = store.load_all().await?;
                tokio::task::spawn_blocking(move || Stored::of(&loaded, &defaults)).await??
            }
        };
        subscriptions.put_stored(after).await.map_err(|id| LookError::Clash(id.to_string()))
    }
}

fn tell(error: &LookError) {
    let cause = error.source().map(ToString::to_string);
    tracing::error!(%error, cause, "The store brings nothing new, what was loaded stays in force");
}
