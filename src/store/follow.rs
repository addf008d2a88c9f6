//! Keeps the subscriptions in force up to date with the database: looks at its change counter twice a second and loads
//! only what changed. While the database is away, what is in memory stays in force.

use std::{error::Error, sync::Arc, time::Duration};

use tokio::{sync::watch, time::MissedTickBehavior};
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

/// The database that subscriptions come from.
#[derive(Debug)]
pub struct StoreSource {
    url: Secret,
    keys: KeyRing,
    /// Not there before it could be opened.
    store: Option<Store>,
    answers: watch::Sender<bool>,
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
        Ok(Self { url, keys, store, answers })
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
            if let Some(store) = &self.store {
                store.close().await;
            }
        });
    }

    async fn look_on(&mut self, subscriptions: &Subscriptions) {
        let mut ticks = tokio::time::interval(POLL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told = None;
        loop {
            ticks.tick().await;
            let looked = self.look(subscriptions).await;
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

    async fn look(&mut self, subscriptions: &Subscriptions) -> Result<(), LookError> {
        let store = match &self.store {
            Some(store) => store,
            None => self.store.insert(Store::open(&self.url, self.keys.clone()).await?),
        };
        let before = subscriptions.stored().await;
        let defaults = *subscriptions.defaults();
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
