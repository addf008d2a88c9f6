//! One queue of a session: the channel that it is consumed on, and those before it that are left to their stragglers.
//!
//! Memory is bounded in bytes: the window opens small, and grows only while the messages that come are small. When big
//! ones exceed it the consumer is opened again with a smaller prefetch (a prefetch cannot be changed in place).
//!
//! When messages that do not finish hold up the head of the channel, the queue is consumed on a new one instead. The old
//! one takes nothing more, and is closed when what it gave is finished.

use std::{
    mem,
    pin::pin,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use lapin::Connection;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{Instant, sleep},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    consumer::{ConsumerSettings, Ended},
    head::MOST_LEFT,
    inbound::{Inbound, Source},
    publisher::Standing,
    sizing::Sizing,
    tap::Tap,
};

/// How soon it is asked again whether a channel that should be left can be.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// One queue of a session.
pub(super) struct Queue<'a> {
    connection: &'a Connection,
    settings: &'a ConsumerSettings,
    publishing: watch::Receiver<Standing>,
    tracker: &'a TaskTracker,
    source: Source,
    name: &'a str,
    /// Cancelled when the session ends.
    gone: CancellationToken,
    /// The bytes in hand, on all its channels.
    held: Arc<AtomicU64>,
    /// How many more channels may be left to their stragglers.
    places: Arc<Semaphore>,
    /// How many consumers were opened.
    opened: u32,
}

/// How to go on.
enum Next {
    /// With another prefetch.
    Prefetch(u16),
    /// On another channel; the old one has this place among those that are left.
    Channel(OwnedSemaphorePermit),
}

impl<'a> Queue<'a> {
    /// The queue `name` of a session that ends when `gone` is cancelled.
    pub(super) fn new(
        connection: &'a Connection,
        settings: &'a ConsumerSettings,
        publishing: watch::Receiver<Standing>,
        tracker: &'a TaskTracker,
        (source, name, gone): (Source, &'a str, CancellationToken),
    ) -> Self {
        let (held, places) = (Arc::default(), Arc::new(Semaphore::new(MOST_LEFT)));
        Self { connection, settings, publishing, tracker, source, name, gone, held, places, opened: 0 }
    }

    /// Consumes until any channel fails or `stop`; then lets acks go out until `stopped`.
    pub(super) async fn run(
        mut self,
        on_message: &(impl Fn(Inbound) + Sync),
        stop: &CancellationToken,
        stopped: &CancellationToken,
    ) -> Result<(), Ended> {
        if stop.is_cancelled() {
            return Ok(()); // Nothing was given on this connection.
        }
        let broker = &self.settings.broker;
        // Both queues share the window.
        let (window, largest) = (broker.window_bytes / 2, self.settings.largest_message);
        let mut sizing = Sizing::new(window, broker.prefetch, largest, Instant::now());
        let mut left = FuturesUnordered::new();
        let mut tap = self.tap().await?;
        loop {
            let gone = tap.gone();
            let was_closed = || Ended::GivenUp("a channel was closed");
            // A stop waits for it: RabbitMQ 3.10 crashes the channel of a consumer that is cancelled before it is there, and
            // acks are lost with it.
            tokio::select! {
                opened = beside(&mut left, tap.open(self.name, self.tag(), sizing.prefetch())) => opened?,
                () = gone.cancelled() => return Err(was_closed()),
            }
            let next = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                next = beside(&mut left, self.consume(&mut tap, &mut sizing, on_message, stop)) => next?,
                () = gone.cancelled() => return Err(was_closed()),
            };
            match next {
                Next::Prefetch(prefetch) => {
                    tracing::debug!(queue = self.name, prefetch, "The consumer is opened again with another prefetch");
                }
                Next::Channel(place) => {
                    let (head, already) = (tap.head(), left.len());
                    tracing::debug!(queue = self.name, ?head, left = already, "A channel is left to its stragglers");
                    // The new one is there before the old one is shut, and opens while that is being done.
                    let old = mem::replace(&mut tap, self.tap().await?);
                    left.push(old.leave(Some(place), on_message, stop, stopped));
                }
            }
            self.opened += 1;
        }
        left.push(tap.leave(None, on_message, stop, stopped));
        while let Some(ended) = left.next().await {
            ended?;
        }
        Ok(())
    }

    async fn tap(&self) -> Result<Tap, Ended> {
        Tap::new(self.connection, self.source, Arc::clone(&self.held), self.gone.child_token(), self.tracker).await
    }

    /// Consumes on a channel that is open, with one prefetch, until another one is better.
    async fn consume(
        &self,
        tap: &mut Tap,
        sizing: &mut Sizing,
        on_message: &(impl Fn(Inbound) + Sync),
        stop: &CancellationToken,
    ) -> Result<Next, Ended> {
        loop {
            let now = Instant::now();
            let leave = self.leave_at(tap, sizing).map(|at| at.max(now + ASK_AGAIN));
            let look = [sizing.next_look(now), leave].into_iter().flatten().min();
            if let Some(message) = tap.next(look).await? {
                sizing.saw(message.body.len() as u64, Instant::now());
                on_message(message);
            }
            if let Some(prefetch) = sizing.change(tap.held(), Instant::now()) {
                tap.shut(on_message, stop).await?;
                // Too much in hand: what is there goes first.
                while tap.held() > sizing.window() {
                    sleep(Duration::from_millis(10)).await;
                }
                return Ok(Next::Prefetch(prefetch));
            }
            if let Some(place) = self.place(tap, sizing, Instant::now()) {
                return Ok(Next::Channel(place));
            }
        }
    }

    /// When another channel should be consumed on, if at all.
    fn leave_at(&self, tap: &Tap, sizing: &Sizing) -> Option<Instant> {
        let left = MOST_LEFT.saturating_sub(self.places.available_permits());
        tap.head().leave_at(sizing.prefetch(), tap.made(), left)
    }

    /// A place among those that are left, when the channel should be one of them now and can be. While nothing can be
    /// published nothing finishes: that is not the messages' fault, and more of them would be of no use.
    fn place(&self, tap: &Tap, sizing: &Sizing, now: Instant) -> Option<OwnedSemaphorePermit> {
        let due = self.leave_at(tap, sizing).is_some_and(|at| at <= now);
        if !due || !sizing.has_room(tap.held()) || *self.publishing.borrow() != Standing::Open {
            return None;
        }
        Arc::clone(&self.places).try_acquire_owned().ok()
    }

    /// The next consumer's name, another one each time.
    fn tag(&self) -> String {
        match self.source {
            Source::Events => format!("docrelay-events-{}", self.opened),
            Source::Due => format!("docrelay-due-{}", self.opened),
        }
    }
}

/// Does something while the channels that are left finish; a failure of one of them ends it.
async fn beside<T>(
    left: &mut FuturesUnordered<impl Future<Output = Result<(), Ended>>>,
    doing: impl Future<Output = Result<T, Ended>>,
) -> Result<T, Ended> {
    let mut doing = pin!(doing);
    loop {
        tokio::select! {
            done = &mut doing => return done,
            Some(ended) = left.next() => ended?,
        }
    }
}
