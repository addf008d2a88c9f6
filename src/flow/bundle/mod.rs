//! What is about to be parked gathers for a moment, and leaves together: the broker writes and syncs once for many.
//!
//! Events that owe to the same few subscriptions and wait in the same delay queue share one message. They come back together,
//! and it is acked when all of them are settled: what others' events owe is never held by it, nor repeated after a crash.
//! What an event owes to many joins its message while that gathers: some deliveries know later than others that they must wait.

#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    hash::BuildHasher as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::gather::Gathering;
use crate::{
    broker::{BrokerOutbox, Confirmed, OutboxError, codec},
    domain::{OrganizationId, ParkedEvent, SubscriptionId, TraceContext},
    policy::wait::Tier,
};

/// So many events share a message at most: after a crash the deliveries of all are made again.
const MOST_EVENTS: usize = 16;

/// A message that gathers is no larger than this; a larger one leaves at once. Large events have gathered before, delivery by
/// delivery.
const MOST_BYTES: usize = 64 * 1024;

/// What owes to more subscriptions than this shares no message with other events: hardly another one owes to the same.
const MOST_SUBSCRIPTIONS: usize = 4;

/// What is about to be parked. One for each process.
#[derive(Debug)]
pub(super) struct Bundles {
    outbox: BrokerOutbox,
    draining: CancellationToken,
    epoch: Instant,
    open: Mutex<Open>,
}

/// What deliveries must share to share a message.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Key {
    /// Other events to the same.
    Subscriptions(Tier, OrganizationId, Vec<SubscriptionId>),
    /// More of the same event: where its bytes lie, which stay there while its message gathers.
    Event(Tier, usize),
}

/// How a bundle leaves, for everyone who has something in it: whoever waits for it, moves it on.
type Departure = Shared<BoxFuture<'static, Result<Confirmed, OutboxError>>>;

#[derive(Debug)]
struct Open {
    gathering: Gathering,
    bundles: HashMap<Key, Bundle>,
    /// How many were opened so far. One that is opened beside a full one of its kind is of a kind of its own.
    opened: u64,
    /// When the last of them leaves.
    until: Instant,
}

/// One message that is about to be published.
#[derive(Debug, Clone)]
struct Bundle {
    /// `None` once it leaves.
    content: Arc<Mutex<Option<Content>>>,
    departure: Departure,
}

/// At least one event.
#[derive(Debug)]
struct Content {
    events: Vec<ParkedEvent>,
    bytes: usize,
}

impl Bundles {
    /// Nothing is about to be parked. What is leaves for `outbox`, in waits of at least one `unit`; at once when `draining`.
    pub(super) fn new(outbox: BrokerOutbox, unit: Duration, draining: CancellationToken) -> Self {
        let now = Instant::now();
        let open = Open { gathering: Gathering::new(unit), bundles: HashMap::new(), opened: 0, until: now };
        Self { outbox, draining, epoch: now, open: Mutex::new(open) }
    }

    /// Parks what an event owes, in a moment.
    ///
    /// # Errors
    /// When it is too large for any broker, or the service stops.
    pub(super) async fn park(
        &self,
        tier: Tier,
        organization: &OrganizationId,
        parked: ParkedEvent,
    ) -> Result<Confirmed, OutboxError> {
        let content = Content::new(parked);
        if content.bytes > MOST_BYTES {
            // It shares with none, and copies of large ones are not to lie about.
            return content.leave(tier, &self.outbox).await;
        }
        self.add(tier, organization, content).await
    }

    /// Puts it with what it may share a message with, if that has room, or opens a bundle.
    fn add(&self, tier: Tier, organization: &OrganizationId, mut content: Content) -> Departure {
        let mut open = lock(&self.open);
        let now = Instant::now();
        if open.until <= now {
            open.bundles.clear();
        }
        let keys = content.keys(tier, organization);
        let mut is_another = false;
        for key in &keys {
            let Some(bundle) = open.bundles.get(key) else { continue };
            match bundle.take_in(key, content) {
                Ok(()) => return bundle.departure.clone(),
                Err(not_in_this) => content = not_in_this,
            }
            is_another |= matches!(key, Key::Subscriptions(..));
        }
        open.opened += 1;
        let hasher = open.bundles.hasher();
        let kind = if is_another { hasher.hash_one(open.opened) } else { hasher.hash_one(keys.last()) };
        let leaves_at = now + open.gathering.wait(now - self.epoch, kind);
        open.until = open.until.max(leaves_at);
        let content = Arc::new(Mutex::new(Some(content)));
        let departure = self.depart(tier, leaves_at, Arc::clone(&content));
        let bundle = Bundle { content, departure: departure.clone() };
        open.bundles.extend(keys.into_iter().map(|key| (key, bundle.clone())));
        departure
    }

    fn depart(&self, tier: Tier, at: Instant, content: Arc<Mutex<Option<Content>>>) -> Departure {
        let (outbox, draining) = (self.outbox.clone(), self.draining.clone());
        async move {
            tokio::select! {
                () = sleep_until(at) => {}
                () = draining.cancelled() => {}
            }
            let taken = lock(&content).take();
            // It is taken once, here.
            let Some(content) = taken else { return Err(OutboxError::Closed) };
            content.leave(tier, &outbox).await
        }
        .boxed()
        .shared()
    }
}

impl Bundle {
    /// Gives back what is not of its kind, finds no room, or comes too late.
    fn take_in(&self, key: &Key, more: Content) -> Result<(), Content> {
        let mut content = lock(&self.content);
        let Some(all) = content.as_mut() else { return Err(more) };
        match key {
            Key::Subscriptions(..) => all.take_others(more),
            Key::Event(..) => all.take_same(more),
        }
    }
}

impl Content {
    fn new(event: ParkedEvent) -> Self {
        Self { bytes: codec::parked_bytes(&event), events: vec![event] }
    }

    /// By what it may find others, first what saves most. The last one says of what kind it is.
    fn keys(&self, tier: Tier, organization: &OrganizationId) -> Vec<Key> {
        let Some(event) = self.events.first() else { return Vec::new() };
        let same = Key::Event(tier, event.event.as_ptr().addr());
        if event.owed.len() > MOST_SUBSCRIPTIONS {
            return vec![same];
        }
        let mut to: Vec<_> = event.owed.iter().map(|owed| owed.subscription.clone()).collect();
        to.sort_unstable();
        vec![same, Key::Subscriptions(tier, organization.clone(), to)]
    }

    /// More events, which owe to those that it owed to when it was opened.
    fn take_others(&mut self, more: Self) -> Result<(), Self> {
        let owes_to_more = self.events.iter().any(|event| event.owed.len() > MOST_SUBSCRIPTIONS);
        let bytes = self.bytes + more.bytes;
        if owes_to_more || bytes > MOST_BYTES || self.events.len() + more.events.len() > MOST_EVENTS {
            return Err(more);
        }
        self.bytes = bytes;
        self.events.extend(more.events);
        Ok(())
    }

    /// More that its only event owes. Few and few are apart: each may be shared with other events.
    fn take_same(&mut self, more: Self) -> Result<(), Self> {
        let ([event], [part]) = (self.events.as_mut_slice(), more.events.as_slice()) else { return Err(more) };
        // The event itself is there already.
        let bytes = self.bytes + more.bytes.saturating_sub(part.event.len());
        if event.owed.len().max(part.owed.len()) <= MOST_SUBSCRIPTIONS || bytes > MOST_BYTES {
            return Err(more);
        }
        self.bytes = bytes;
        event.owed.extend_from_slice(&part.owed);
        // It may have begun with the last of them.
        event.trace = part.trace.clone();
        Ok(())
    }

    async fn leave(self, tier: Tier, outbox: &BrokerOutbox) -> Result<Confirmed, OutboxError> {
        let trace = match self.events.as_slice() {
            [only] => only.trace.clone(),
            _ => TraceContext::default(),
        };
        outbox.park(tier, codec::encode_parked(&self.events).into(), &trace).await
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
