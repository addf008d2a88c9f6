//! The subscriptions in force, those of the file and those of the store: whoever matches reads them without waiting, whoever
//! changes them takes turns.

use std::{convert::Infallible, path::PathBuf, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use tokio::{
    sync::{Mutex, Notify, OwnedMutexGuard, watch},
    task::JoinError,
    time::Instant,
};

use super::{
    database::{ChangeCounter, Changes, Loaded},
    edits::Change,
    file::Defaults,
    gone::ToWrite,
    parts::{NotLoaded, Parts},
    reload::Stamp,
    snapshot::Snapshot,
};
use crate::domain::{Subscription, SubscriptionId, Timestamp, now};

/// The subscriptions of a file, as last read without a problem, and those of the store, as last seen.
#[derive(Debug)]
pub struct Subscriptions {
    parts: Arc<Mutex<Parts>>,
    current: ArcSwap<Snapshot>,
    /// The file's, in its order.
    declared: ArcSwap<Vec<SubscriptionId>>,
    loaded: watch::Sender<Option<usize>>,
    /// Notified when the store is to be told of a target that is gone.
    gone: Notify,
    has_store: bool,
    defaults: Defaults,
    /// The same for what is stored.
    stored_defaults: Defaults,
    pub(super) path: PathBuf,
    /// What the file looked like when it was read first.
    pub(super) first: Option<Stamp>,
}

/// When the store is told again of a target that is gone, after it refused: somebody may have mended it.
const REFUSED: Duration = Duration::from_mins(1);

/// So few changes take less than handing them to another thread.
const FEW: usize = 16;

/// How much there is to change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Size {
    /// Next to nothing.
    Small,
    /// Perhaps all of it.
    Large,
}

impl Subscriptions {
    pub(super) fn of(parts: Parts, path: PathBuf, defaults: Defaults, first: Option<Stamp>) -> Self {
        let current = ArcSwap::from_pointee(parts.snapshot().clone());
        let declared = ArcSwap::new(Arc::clone(parts.file()));
        let loaded = watch::Sender::new(Some(parts.snapshot().len()));
        let (parts, gone) = (Arc::new(Mutex::new(parts)), Notify::new());
        Self {
            parts,
            current,
            declared,
            loaded,
            gone,
            has_store: false,
            stored_defaults: defaults.for_stored(),
            defaults,
            path,
            first,
        }
    }

    /// The same beside a store, that is to say, not complete before the store was loaded, too.
    #[must_use]
    pub fn beside_a_store(mut self) -> Self {
        // Nobody else has them yet.
        if let Some(parts) = Arc::get_mut(&mut self.parts) {
            parts.get_mut().wait_for_the_store();
        }
        self.loaded.send_replace(None);
        Self { has_store: true, ..self }
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

    /// Those of them that the file declares, in its order.
    #[must_use]
    pub fn declared(&self) -> Vec<Arc<Subscription>> {
        let (ids, current) = (self.declared.load(), self.current.load());
        ids.iter().filter_map(|id| current.by_id(id).cloned()).collect()
    }

    /// One of them, if the file declares it.
    #[must_use]
    pub fn declared_one(&self, id: &SubscriptionId) -> Option<Arc<Subscription>> {
        let current = self.current.load();
        current.placed(id).filter(|(place, _)| !place.is_in_store()).map(|(_, it)| Arc::clone(it))
    }

    /// A subscription's target answered 410: it is disabled here at once. Says whether it was not before; then upstream is
    /// to be told.
    pub async fn disable_gone(&self, subscription: &Subscription, at: Timestamp) -> bool {
        let mut parts = self.parts.lock().await;
        let disabled = parts.learn_gone(subscription, at);
        if disabled {
            self.bring_into_force(&parts);
            let lasts = if self.has_store { "in the store, too" } else { "until a restart: there is no store" };
            tracing::warn!(
                docrelay.subscription = %subscription.id, docrelay.organization = %subscription.organization, lasts,
                "Subscription disabled: its target answered 410 Gone"
            );
        }
        disabled
    }

    /// Upstream was told that it was disabled then, and the broker has confirmed that: now the store is told. Nothing is
    /// when it was changed meanwhile.
    pub async fn gone_was_told(&self, subscription: &Subscription, at: Timestamp) {
        self.parts.lock().await.gone_was_told(subscription, at);
        self.gone.notify_one();
    }

    /// Returns when the store is to be told something.
    pub(super) async fn gone_to_be_written(&self) {
        self.gone.notified().await;
    }

    pub(super) async fn gone_to_write(&self) -> Vec<ToWrite> {
        self.parts.lock().await.gone_to_write(Instant::now())
    }

    pub(super) async fn gone_was_written(&self, written: &ToWrite, changed: ChangeCounter) {
        self.parts.lock().await.gone_was_written(written, changed);
    }

    pub(super) async fn gone_was_refused(&self, refused: &ToWrite) {
        self.parts.lock().await.gone_was_refused(refused, Instant::now() + REFUSED);
    }

    /// Where the store's changes go on; `None` before its first complete load.
    pub(super) async fn counter(&self) -> Option<ChangeCounter> {
        self.parts.lock().await.counter()
    }

    pub(super) async fn put_loaded(&self, loaded: Loaded) -> Result<Result<(), NotLoaded>, JoinError> {
        let defaults = self.stored_defaults.clone();
        self.change("store", Size::Large, move |parts| parts.put_loaded(&loaded, &defaults)).await
    }

    pub(super) async fn put_changes(&self, changes: Changes) -> Result<(), JoinError> {
        let defaults = self.stored_defaults.clone();
        let many = changes.rows.len() + changes.gone.len() + changes.filed.len() + changes.paused.len();
        let size = if many < FEW { Size::Small } else { Size::Large };
        let put = move |parts: &mut Parts| Ok::<_, Infallible>(parts.put_changes(&changes, &defaults, now()));
        let Ok(()) = self.change("store", size, put).await?;
        Ok(())
    }

    /// What a subscription gets that does not say.
    #[must_use]
    pub fn defaults(&self) -> &Defaults {
        &self.defaults
    }

    /// What a stored subscription gets that does not say.
    #[must_use]
    pub fn stored_defaults(&self) -> &Defaults {
        &self.stored_defaults
    }

    /// Changes the parts; a large change, which takes a while, not on a thread that serves events.
    pub(super) async fn change<E: Send + 'static>(
        &self,
        source: &'static str,
        size: Size,
        change: impl FnOnce(&mut Parts) -> Result<Change, E> + Send + 'static,
    ) -> Result<Result<(), E>, JoinError> {
        let mut parts: OwnedMutexGuard<Parts> = Arc::clone(&self.parts).lock_owned().await;
        let work = move || {
            let changed = change(&mut parts);
            (parts, changed)
        };
        let (parts, changed) = match size {
            Size::Small => work(),
            Size::Large => tokio::task::spawn_blocking(work).await?,
        };
        let change = match changed {
            Ok(change) => change,
            Err(error) => return Ok(Err(error)),
        };
        let Change { added, changed, removed, pauses } = change;
        let subscriptions = parts.snapshot().len();
        tracing::info!(subscriptions, added, changed, removed, pauses, source, "Subscriptions reloaded");
        self.bring_into_force(&parts);
        Ok(Ok(()))
    }

    fn bring_into_force(&self, parts: &Parts) {
        self.declared.store(Arc::clone(parts.file()));
        self.current.store(Arc::new(parts.snapshot().clone()));
        self.loaded.send_replace(parts.counter().map(|_| parts.snapshot().len()));
    }
}
