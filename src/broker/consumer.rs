//! Consuming: one connection, a channel for each queue, an acker for each channel, begun anew after every failure.
//!
//! Memory is bounded in bytes: the window opens small, and grows only while the messages that come are small. When big
//! ones exceed it the consumer is opened again with a smaller prefetch (a prefetch cannot be changed in place).

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::StreamExt as _;
use lapin::{
    Channel, Connection, Consumer, Event,
    message::Delivery,
    options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions},
    types::FieldTable,
};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    acker,
    connection::{self, ConnectError},
    declare::{DeclareError, declare},
    inbound::{Inbound, Source, properties},
    presence::{self, AbsentError},
    publisher::{self, OPEN_TIMEOUT, PROVEN, Standing},
    receipt::Receipt,
    sizing::Sizing,
    topology::Topology,
};
use crate::{backoff::Backoff, config::BrokerConfig, policy::share::Share};

/// How long publishing may be blocked before what is in hand is given back; the broker itself closes a channel that
/// leaves a message unanswered for thirty minutes.
const BLOCKED_TOO_LONG: Duration = Duration::from_mins(10);

/// A quorum queue takes acks through a buffer of the channel's, which is lost when the channel closes: RabbitMQ 3.10 was
/// seen to give 40 acked messages again that were acked just before. The channel stays open for this long after the
/// last ack.
const ACKS_SINK_IN: Duration = Duration::from_millis(500);

/// More finished messages than this cannot wait for the acker: no channel has more unacked.
const ACKS: usize = 2 * u16::MAX as usize;

/// What consuming needs to know.
#[derive(Debug, Clone)]
pub struct ConsumerSettings {
    /// The broker.
    pub broker: BrokerConfig,
    /// What is declared and consumed.
    pub topology: Arc<Topology>,
    /// The largest message that may come.
    pub largest_message: u64,
}

/// The consuming side.
#[derive(Debug)]
pub struct Consumers {
    settings: ConsumerSettings,
    publishing: watch::Receiver<Standing>,
    consuming: watch::Sender<bool>,
    share: watch::Sender<Share>,
    tracker: TaskTracker,
}

#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Declare(#[from] DeclareError),
    #[error(transparent)]
    Absent(#[from] AbsentError),
    #[error("{0}")]
    Lost(#[from] lapin::Error),
    #[error("{0}")]
    GivenUp(&'static str),
}

impl Ended {
    /// Whether only a person can mend it.
    fn needs_a_person(&self) -> bool {
        match self {
            Self::Declare(error) => error.needs_a_person(),
            Self::Absent(error) => matches!(error, AbsentError::Forbidden { .. }),
            Self::Connect(_) | Self::Lost(_) | Self::GivenUp(_) => false,
        }
    }
}

impl Consumers {
    /// Nothing is consumed before [`Consumers::run`].
    #[must_use]
    pub fn new(settings: ConsumerSettings, publishing: watch::Receiver<Standing>, tracker: TaskTracker) -> Self {
        let (consuming, share) = (watch::Sender::new(false), watch::Sender::new(Share::NOT_JOINED));
        Self { settings, publishing, consuming, share, tracker }
    }

    /// Whether messages can come in, now and later.
    #[must_use]
    pub fn consuming(&self) -> watch::Receiver<bool> {
        self.consuming.subscribe()
    }

    /// What part of every limit this replica may use, now and later.
    #[must_use]
    pub fn share(&self) -> watch::Receiver<Share> {
        self.share.subscribe()
    }

    /// Consumes until `stop`, over any number of lost connections, and hands each message to `on_message`. After `stop`
    /// no message comes any more, but acks still go out; returns after `stopped`, when the last acks are written.
    pub async fn run(self, on_message: impl Fn(Inbound) + Sync, stop: CancellationToken, stopped: CancellationToken) {
        let mut backoff = Backoff::new();
        while !stop.is_cancelled() {
            let ended = tokio::select! {
                ended = self.session(&on_message, (&stop, &stopped), &mut backoff) => ended,
                () = stopped.cancelled() => Ok(()),
            };
            self.consuming.send_replace(false);
            match ended {
                Ok(()) => return,
                Err(error) if error.needs_a_person() => {
                    tracing::error!(broker.connection = "consuming", %error, "Cannot consume");
                }
                Err(error) => {
                    tracing::warn!(broker.connection = "consuming", %error, "Not consuming; trying again");
                }
            }
            tokio::select! {
                () = sleep(backoff.next_wait(fastrand::f64())) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    async fn session(
        &self,
        on_message: &(impl Fn(Inbound) + Sync),
        (stop, stopped): (&CancellationToken, &CancellationToken),
        backoff: &mut Backoff,
    ) -> Result<(), Ended> {
        self.wait_until_unblocked().await;
        let connection = connection::connect(&self.settings.broker, "docrelay consuming").await?;
        let declaring = declare(&connection, &self.settings.topology, self.settings.broker.declare);
        timeout(OPEN_TIMEOUT, declaring).await.map_err(|_| Ended::GivenUp("the broker answers too slowly"))??;
        let names = &self.settings.topology.names;
        // Cancelled when the session ends, however it ends: receipts of it are stale from then on.
        let gone = CancellationToken::new();
        let _gone = gone.clone().drop_guard();
        let events = self.queue(&connection, Source::Events, &names.events_queue, &gone);
        let due = self.queue(&connection, Source::Due, &names.due_queue, &gone);
        tracing::info!(broker.connection = "consuming", "Connected to the broker");
        self.consuming.send_replace(true);
        let began = Instant::now();
        let ended = tokio::select! {
            ended = async { tokio::try_join!(events.run(on_message, stop, stopped), due.run(on_message, stop, stopped)) } => {
                ended.map(|_| ())
            }
            Err(ended) = presence::attend(&connection, names, &self.share) => Err(ended.into()),
            ended = watch_over(&connection) => Err(ended),
            () = self.blocked_too_long() => Err(Ended::GivenUp("publishing is blocked for too long")),
        };
        if began.elapsed() >= PROVEN {
            backoff.reset();
        }
        gone.cancel();
        publisher::close(&connection).await;
        ended
    }

    fn queue<'a>(
        &'a self,
        connection: &'a Connection,
        source: Source,
        name: &'a str,
        gone: &CancellationToken,
    ) -> Queue<'a> {
        Queue { consumers: self, connection, source, name, gone: gone.clone() }
    }

    async fn wait_until_unblocked(&self) {
        let mut publishing = self.publishing.clone();
        // An error means that publishing has ended, and then nothing is consumed for long.
        drop(publishing.wait_for(|standing| *standing != Standing::Blocked).await);
    }

    async fn blocked_too_long(&self) {
        let mut publishing = self.publishing.clone();
        loop {
            if publishing.wait_for(|standing| *standing == Standing::Blocked).await.is_err() {
                return std::future::pending().await;
            }
            tokio::select! {
                () = sleep(BLOCKED_TOO_LONG) => return,
                _ = publishing.wait_for(|standing| *standing != Standing::Blocked) => {}
            }
        }
    }
}

/// One queue of a session.
struct Queue<'a> {
    consumers: &'a Consumers,
    connection: &'a Connection,
    source: Source,
    name: &'a str,
    gone: CancellationToken,
}

impl Queue<'_> {
    /// Consumes until the channel fails or `stop`; then lets acks go out until `stopped`.
    async fn run(
        self,
        on_message: &(impl Fn(Inbound) + Sync),
        stop: &CancellationToken,
        stopped: &CancellationToken,
    ) -> Result<(), Ended> {
        let channel = self.connection.create_channel().await?;
        let channel_gone = self.gone.child_token();
        let (acks, finished) = mpsc::channel(ACKS);
        let acker = self.consumers.tracker.spawn(acker::run(channel.clone(), finished, channel_gone.clone()));
        let receipts = Receipts { acks, held: Arc::default(), channel: channel_gone.clone() };
        let broker = &self.consumers.settings.broker;
        // Both queues share the window.
        let mut sizing = Sizing::new(
            broker.window_bytes / 2,
            broker.prefetch,
            self.consumers.settings.largest_message,
            Instant::now(),
        );
        let (mut opened, mut tag) = (0, self.tag(0));
        loop {
            let again = tokio::select! {
                again = self.consume(&channel, &tag, &mut sizing, &receipts, on_message) => again?,
                () = stop.cancelled() => break,
                () = channel_gone.cancelled() => return Err(Ended::GivenUp("a channel was closed")),
            };
            tracing::debug!(queue = self.name, prefetch = again, "The consumer is opened again with another prefetch");
            opened += 1;
            tag = self.tag(opened);
        }
        cancel(&channel, &tag).await?;
        // What is in hand is finished elsewhere; its acks go out through the acker until the last receipt is gone.
        drop(receipts);
        tokio::select! {
            ended = acker => drop(ended),
            () = stopped.cancelled() => {}
        }
        sleep(ACKS_SINK_IN).await;
        channel.close(200, "done".into()).await?;
        Ok(())
    }

    /// Consumes with one prefetch; returns the next one when it should be another.
    async fn consume(
        &self,
        channel: &Channel,
        tag: &str,
        sizing: &mut Sizing,
        receipts: &Receipts,
        on_message: &(impl Fn(Inbound) + Sync),
    ) -> Result<u16, Ended> {
        let mut stream = open(channel, self.name, tag, sizing.prefetch()).await?;
        loop {
            let look = sizing.next_look(Instant::now());
            tokio::select! {
                biased;
                delivery = stream.next() => {
                    let Some(delivery) = delivery else { break };
                    let delivery = delivery?;
                    sizing.saw(delivery.data.len() as u64, Instant::now());
                    on_message(receipts.inbound(self.source, delivery));
                }
                () = sleep_until(look.unwrap_or_else(Instant::now)), if look.is_some() => {}
            }
            if let Some(next) = sizing.change(receipts.held(), Instant::now()) {
                cancel(channel, tag).await?;
                // What the broker had sent before it heard of the cancel still comes.
                while let Some(delivery) = stream.next().await {
                    on_message(receipts.inbound(self.source, delivery?));
                }
                // Too much in hand: what is there goes first.
                while receipts.held() > sizing.window() {
                    sleep(Duration::from_millis(10)).await;
                }
                return Ok(next);
            }
        }
        Err(Ended::GivenUp("the broker cancelled the consumer (was the queue deleted?)"))
    }

    /// The consumer's name on its channel, another one each time that it is opened: RabbitMQ 3.10 crashes the channel when
    /// a consumer of a quorum queue comes back under a name that still has unacked messages.
    fn tag(&self, opened: u32) -> String {
        match self.source {
            Source::Events => format!("docrelay-events-{opened}"),
            Source::Due => format!("docrelay-due-{opened}"),
        }
    }
}

/// Makes receipts for one channel.
struct Receipts {
    acks: mpsc::Sender<u64>,
    held: Arc<AtomicU64>,
    channel: CancellationToken,
}

impl Receipts {
    /// The bytes in hand.
    fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    fn inbound(&self, source: Source, delivery: Delivery) -> Inbound {
        let bytes = delivery.data.len() as u64;
        let (held, acks) = (Arc::clone(&self.held), self.acks.clone());
        Inbound {
            source,
            properties: properties(&delivery),
            body: Bytes::from(delivery.data),
            receipt: Receipt::new(delivery.delivery_tag, bytes, held, acks, self.channel.clone()),
        }
    }
}

async fn open(channel: &Channel, queue: &str, tag: &str, prefetch: u16) -> Result<Consumer, lapin::Error> {
    channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
    let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
    channel.basic_consume(queue.into(), tag.into(), options, arguments).await
}

async fn cancel(channel: &Channel, tag: &str) -> Result<(), lapin::Error> {
    channel.basic_cancel(tag.into(), BasicCancelOptions::default()).await
}

/// Ends when the connection does.
async fn watch_over(connection: &Connection) -> Ended {
    let mut events = std::pin::pin!(connection.events_listener());
    while let Some(event) = events.next().await {
        if let Event::Error(error) = event {
            return Ended::Lost(error);
        }
    }
    Ended::GivenUp("the connection ended")
}
