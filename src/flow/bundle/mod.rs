//! What is about to be parked gathers for a moment, and leaves together: the broker writes and syncs once for many.
//!
//! Events that owe to the same few subscriptions and wait in the same delay queue share one message. They come back together,
//! and it is acked when all of them are settled: what others' events owe is never held by it, nor repeated after a crash. What
//! waits for targets that do not answer, or so slowly that their turns are a unit apart or more, shares one with whatever else does,
//! whosever it is.
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

/// One that is shared by whatever waits for such targets is no larger than this: room for sixteen events of 2.5 KB. It is in hand
/// for as long as one of its deliveries is under way: with the widest window that may be 768 messages, 30 MiB.
const MOST_ANY_BYTES: usize = 40 * 1024;

/// What owes to more subscriptions than this shares no message with other events: hardly another one owes to the same, and a
/// crash would repeat too many deliveries.
const MOST_SUBSCRIPTIONS: usize = 4;

/// How often bundles that have left are forgotten, at most.
const FORGET_EVERY: Duration = Duration::from_millis(100);

/// What is about to be parked. One for each process.
#[derive(Debug)]
pub(super) struct Bundles {
    outbox: BrokerOutbox,
    draining: CancellationToken,
    epoch: Instant,
    open: Mutex<Open>,
}

/// Where something waits, and for what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waits<'a> {
    /// The delay queue.
    pub(super) tier: Tier,
    /// Whose it is.
    pub(super) organization: &'a OrganizationId,
    /// Whether all that it waits for gives no answer, or answers so slowly that its turns are a unit apart or more.
    pub(super) shares_with_any: bool,
}

/// What deliveries must share to share a message.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    /// Other events to the same.
    Subscriptions(Tier, OrganizationId, Vec<SubscriptionId>),
    /// Other events to targets that do not answer, or so slowly that their turns are a unit apart or more.
    Any(Tier),
    /// More of the same event: where its bytes lie, which stay there while its message gathers.
    Event(Tier, usize),
}

/// What something may share a message by.
struct Keys {
    /// First what saves most.
    by: Vec<Key>,
    /// What it counts as where it is counted how much is parked.
    kind: Key,
}

/// How a bundle leaves, for everyone who has something in it: whoever waits for it, moves it on.
type Departure = Shared<BoxFuture<'static, Result<Confirmed, OutboxError>>>;

#[derive(Debug)]
struct Open {
    gathering: Gathering,
    bundles: HashMap<Key, Bundle>,
    /// How many were opened so far. One that is opened beside a full one of its kind is of a kind of its own.
    opened: u64,
    /// When those that have left are forgotten next.
    forgets_at: Instant,
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
        let open = Open { gathering: Gathering::new(unit), bundles: HashMap::new(), opened: 0, forgets_at: now };
        Self { outbox, draining, epoch: now, open: Mutex::new(open) }
    }

    /// A message came in. Where very many do, what is parked leaves sooner.
    pub(super) fn message_came(&self) {
        let mut open = lock(&self.open);
        let time = self.epoch.elapsed();
        open.gathering.came_in(time);
    }

    /// Parks what an event owes, in a moment.
    ///
    /// # Errors
    /// When it is too large for any broker, or the service stops.
    pub(super) async fn park(&self, waits: Waits<'_>, parked: ParkedEvent) -> Result<Confirmed, OutboxError> {
        let content = Content::new(parked);
        if content.bytes > MOST_BYTES {
            // It shares with none, and copies of large ones are not to lie about.
            return content.leave(waits.tier, &self.outbox).await;
        }
        self.add(waits, content).await
    }

    /// Puts it with what it may share a message with, if that has room, or opens a bundle.
    fn add(&self, waits: Waits<'_>, mut content: Content) -> Departure {
        let mut open = lock(&self.open);
        let now = Instant::now();
        if open.forgets_at <= now {
            // Something always gathers where much is parked: each delay queue has moments of its own.
            open.bundles.retain(|_, bundle| bundle.gathers());
            open.forgets_at = now + FORGET_EVERY;
        }
        let Keys { by, kind } = content.keys(waits);
        let (time, kind) = (now - self.epoch, open.bundles.hasher().hash_one(kind));
        let mut is_beside_a_full_one = false;
        for key in &by {
            let Some(bundle) = open.bundles.get(key) else { continue };
            let is_of_others = !matches!(key, Key::Event(..));
            match bundle.take_in(key, content) {
                Ok(()) => {
                    let departure = bundle.departure.clone();
                    if is_of_others {
                        open.gathering.parks(time, kind);
                    }
                    return departure;
                }
                Err(not_in_this) => content = not_in_this,
            }
            is_beside_a_full_one |= is_of_others && bundle.gathers();
        }
        open.opened += 1;
        open.gathering.parks(time, kind);
        if is_beside_a_full_one {
            let of_its_own = open.bundles.hasher().hash_one(open.opened);
            open.gathering.parks(time, of_its_own);
        }
        let is_for_any = by.iter().any(|key| matches!(key, Key::Any(_)));
        let gathering = &open.gathering;
        let wait =
            if is_for_any { gathering.wait_together(time, waits.tier) } else { gathering.wait(time, waits.tier) };
        let leaves_at = now + wait;
        let content = Arc::new(Mutex::new(Some(content)));
        let departure = self.depart(waits.tier, leaves_at, Arc::clone(&content));
        let bundle = Bundle { content, departure: departure.clone() };
        open.bundles.extend(by.into_iter().map(|key| (key, bundle.clone())));
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
    /// Whether it has not left.
    fn gathers(&self) -> bool {
        lock(&self.content).is_some()
    }

    /// Gives back what is not of its kind, finds no room, or comes too late.
    fn take_in(&self, key: &Key, more: Content) -> Result<(), Content> {
        let mut content = lock(&self.content);
        let Some(all) = content.as_mut() else { return Err(more) };
        match key {
            Key::Subscriptions(..) => all.take_others(more, MOST_BYTES),
            Key::Any(_) => all.take_others(more, MOST_ANY_BYTES),
            Key::Event(..) => all.take_same(more),
        }
    }
}

impl Content {
    fn new(event: ParkedEvent) -> Self {
        Self { bytes: codec::parked_bytes(&event), events: vec![event] }
    }

    /// By what it may find others.
    fn keys(&self, Waits { tier, organization, shares_with_any }: Waits<'_>) -> Keys {
        let owed = || self.events.iter().flat_map(|event| &event.owed);
        let same = Key::Event(tier, self.events.first().map_or(0, |event| event.event.as_ptr().addr()));
        if owed().count() > MOST_SUBSCRIPTIONS {
            return Keys { by: vec![same.clone()], kind: same };
        }
        let mut to: Vec<_> = owed().map(|owed| owed.subscription.clone()).collect();
        to.sort_unstable();
        let kind = Key::Subscriptions(tier, organization.clone(), to);
        // A larger one would hardly find room that way, and would end the message that gathers.
        let is_small = self.bytes <= MOST_ANY_BYTES / 2;
        let others = if shares_with_any && is_small { Key::Any(tier) } else { kind.clone() };
        Keys { by: vec![same, others], kind }
    }

    /// More events, which it may be shared with.
    fn take_others(&mut self, more: Self, most_bytes: usize) -> Result<(), Self> {
        let owes_to_more = self.events.iter().any(|event| event.owed.len() > MOST_SUBSCRIPTIONS);
        let bytes = self.bytes + more.bytes;
        if owes_to_more || bytes > most_bytes || self.events.len() + more.events.len() > MOST_EVENTS {
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
