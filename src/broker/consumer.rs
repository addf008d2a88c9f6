//! Consuming: one connection for both queues, begun anew after every failure. What happens on it is `queue`'s
//! business.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::StreamExt as _;
use lapin::{Connection, Event};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    connection::{self, ConnectError},
    declare::{DeclareError, declare},
    depths,
    inbound::{Inbound, Source},
    presence::{self, AbsentError},
    publisher::{self, OPEN_TIMEOUT, PROVEN, Standing},
    queue::Queue,
    topology::Topology,
};
use crate::{
    backoff::Backoff,
    config::BrokerConfig,
    policy::share::Share,
    telemetry::metrics::{Link, Metrics},
};

/// How long publishing may be blocked before what is in hand is given back; the broker itself closes a channel that
/// leaves a message unanswered for thirty minutes.
const BLOCKED_TOO_LONG: Duration = Duration::from_mins(10);

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
    /// What is told of what happens. Without it nobody asks how many messages wait.
    metrics: Option<Metrics>,
}

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
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
        Self { settings, publishing, consuming, share, tracker, metrics: None }
    }

    /// The same, telling these metrics what happens, and how many messages wait.
    #[must_use]
    pub fn with_metrics(self, metrics: Metrics) -> Self {
        Self { metrics: Some(metrics), ..self }
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
    /// no message comes any more, but acks still go out; returns when the broker has taken the last of them, or after
    /// `stopped`. Says whether it has taken all those of the last connection: it has not when that was lost, or `stopped` came
    /// first.
    pub async fn run(
        self,
        on_message: impl Fn(Inbound) + Sync,
        stop: CancellationToken,
        stopped: CancellationToken,
    ) -> bool {
        let mut backoff = Backoff::new();
        let handed_on = AtomicBool::new(false);
        let on_message = |message| {
            handed_on.store(true, Ordering::Relaxed);
            on_message(message);
        };
        while !stop.is_cancelled() {
            let ended = tokio::select! {
                ended = self.session(&on_message, (&stop, &stopped), &mut backoff) => ended,
                () = stopped.cancelled() => break,
            };
            self.consuming.send_replace(false);
            match ended {
                Ok(()) => return true,
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
        // Who had nothing in hand owes no ack.
        !handed_on.into_inner()
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
        if let Some(metrics) = &self.metrics {
            metrics.connected(Link::Consuming);
        }
        self.consuming.send_replace(true);
        let began = Instant::now();
        let ended = tokio::select! {
            ended = async { tokio::try_join!(events.run(on_message, stop, stopped), due.run(on_message, stop, stopped)) } => {
                ended.map(|_| ())
            }
            Err(ended) = presence::attend(&connection, names, &self.share) => Err(ended.into()),
            ended = watch_over(&connection) => Err(ended),
            Some(never) = async { Some(depths::watch(&connection, names, self.metrics.as_ref()?).await) } => match never {},
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
        let Self { settings, publishing, tracker, .. } = self;
        Queue::new(connection, settings, publishing.clone(), tracker, (source, name, gone.clone()))
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

/// Ends when the connection does.
async fn watch_over(connection: &Connection) -> Ended {
    let mut events = std::pin::pin!(connection.events_listener());
    while let Some(event) = events.next().await {
        match event {
            // That a queue is gone, or may not be used, is told to whoever asked for it. Whoever counts the replicas says more.
            Event::Error(error) if is_refused(&error) => {}
            Event::Error(error) => return Ended::Lost(error),
            _ => {}
        }
    }
    Ended::GivenUp("the connection ended")
}

fn is_refused(error: &lapin::Error) -> bool {
    matches!(error.kind(), lapin::ErrorKind::ProtocolError(reply) if matches!(reply.get_id(), 403 | 404))
}
