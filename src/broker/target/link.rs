//! The connection to the broker of AMQP targets: made when somebody needs it, given up when nobody does, and its channels.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::StreamExt as _;
use lapin::{Channel, Connection, Event};
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    backoff::Backoff,
    broker::{
        connection::{self, Endpoint},
        publisher::{OPEN_TIMEOUT, PROVEN, close},
        session::confirming_channel,
    },
    config::AmqpTargetsConfig,
    telemetry::metrics::{self, Metrics},
};

/// How often it is looked at what is unused, unless that is shorter.
const SWEEP: Duration = Duration::from_secs(5);

/// Where those who publish find the connection.
#[derive(Debug)]
pub(super) struct Link {
    state: watch::Sender<State>,
    /// How many publish, or wait for it.
    users: watch::Sender<usize>,
    metrics: Metrics,
}

#[derive(Debug, Clone)]
enum State {
    /// Nobody needs a connection, or one is being made, and the last one was not lost.
    None,
    /// There it is.
    Open(Arc<Live>),
    /// It was lost, or could not be made, and it is not there again.
    Away(Arc<str>),
}

/// Somebody who publishes.
#[derive(Debug)]
pub(super) struct User(watch::Sender<usize>);

impl Link {
    /// No connection, and nobody who needs one.
    pub(super) fn new(metrics: Metrics) -> Self {
        Self { state: watch::Sender::new(State::None), users: watch::Sender::new(0), metrics }
    }

    /// Says that somebody publishes: there will be a connection.
    pub(super) fn enter(&self) -> User {
        self.users.send_modify(|users| *users += 1);
        User(self.users.clone())
    }

    /// The connection; waits while one is being made. The error says why there is none.
    pub(super) async fn live(&self) -> Result<Arc<Live>, Arc<str>> {
        let mut state = self.state.subscribe();
        let settled = state.wait_for(|state| !matches!(state, State::None)).await;
        match settled.as_deref() {
            Ok(State::Open(live)) => Ok(Arc::clone(live)),
            Ok(State::Away(why)) => Err(Arc::clone(why)),
            // Never: the sender is ours.
            Ok(State::None) | Err(_) => Err("is away".into()),
        }
    }

    fn is_away(&self) -> bool {
        matches!(*self.state.borrow(), State::Away(_))
    }

    fn is_unused(&self) -> bool {
        *self.users.borrow() == 0
    }
}

impl Drop for User {
    fn drop(&mut self) {
        self.0.send_modify(|users| *users -= 1);
    }
}

/// How a connection, or the try to make one, ended.
enum Ended {
    /// Nobody used it.
    Unused,
    /// The service stops.
    Stopped,
    /// It broke, or was refused; and whether it was a good one before.
    Lost { why: String, proven: bool },
}

impl Ended {
    fn not_made(why: impl Into<String>) -> Self {
        Self::Lost { why: why.into(), proven: false }
    }
}

/// Connects whenever somebody publishes, until `stop`.
pub(super) async fn run(link: Arc<Link>, (config, idle): (AmqpTargetsConfig, Duration), stop: CancellationToken) {
    let mut backoff = Backoff::new();
    let mut users = link.users.subscribe();
    loop {
        // While it is tried again nobody waits for it.
        if !link.is_away() {
            // Never an error: the sender is ours.
            let used = async { users.wait_for(|users| *users > 0).await.is_ok() };
            if stop.run_until_cancelled(used).await != Some(true) {
                break;
            }
        }
        users.mark_unchanged();
        match connected(&link, (&config, idle), &stop).await {
            Ended::Unused => link.metrics.is_connected(metrics::Link::Targets, None),
            Ended::Stopped => break,
            Ended::Lost { why, proven } => {
                tracing::warn!(
                    broker.connection = "targets",
                    reason = why,
                    "No connection to the broker of AMQP targets"
                );
                if proven {
                    backoff.reset();
                }
                link.metrics.is_connected(metrics::Link::Targets, Some(false));
                link.state.send_replace(State::Away(why.into()));
                let wait = tokio::time::sleep(backoff.next_wait(fastrand::f64()));
                if stop.run_until_cancelled(wait).await.is_none() {
                    break;
                }
                // Somebody came or went since the last try: whoever comes while it is tried again is told at once that there
                // is no connection, and waits for none. If nobody did, the next one waits, and it is tried for them.
                if link.is_unused() && !users.has_changed().unwrap_or(false) {
                    link.state.send_replace(State::None);
                    link.metrics.is_connected(metrics::Link::Targets, None);
                }
            }
        }
    }
    link.state.send_replace(State::Away("docrelay stops".into()));
}

/// Makes a connection and watches over it to its end.
async fn connected(link: &Link, (config, idle): (&AmqpTargetsConfig, Duration), stop: &CancellationToken) -> Ended {
    let Some(url) = &config.url else { return Ended::not_made("targets.amqp.url is not set") };
    let endpoint = Endpoint { url, ca_file: config.ca_file.as_deref(), section: "targets.amqp" };
    let connecting = timeout(OPEN_TIMEOUT, connection::open_to_publish(endpoint, "docrelay targets"));
    let connection = match stop.run_until_cancelled(connecting).await {
        None => return Ended::Stopped,
        Some(Ok(Ok(connection))) => connection,
        Some(Ok(Err(error))) => return Ended::not_made(error.to_string()),
        Some(Err(_elapsed)) => return Ended::not_made("it answers too slowly"),
    };
    link.metrics.connected(metrics::Link::Targets);
    let live = Arc::new(Live::new(connection));
    let ended = loop {
        link.state.send_replace(State::Open(Arc::clone(&live)));
        let ended = live.watch_over(link, idle, stop).await;
        link.state.send_replace(match &ended {
            Ended::Lost { why, .. } => State::Away(why.as_str().into()),
            Ended::Unused | Ended::Stopped => State::None,
        });
        // Whoever came at the last moment has it already, and whoever comes now waits for the next one.
        if !matches!(ended, Ended::Unused) || link.is_unused() {
            break ended;
        }
    };
    close(&live.connection).await;
    live.ended.cancel();
    if matches!(ended, Ended::Unused) {
        tracing::info!(broker.connection = "targets", "Nobody needs the broker of AMQP targets; disconnected");
    }
    ended
}

/// A connection and its channels.
#[derive(Debug)]
pub(super) struct Live {
    connection: Connection,
    /// Channels with nothing under way, since when, the last one last.
    free: Mutex<Vec<(Channel, Instant)>>,
    blocked: AtomicBool,
    since: Instant,
    ended: CancellationToken,
}

impl Live {
    fn new(connection: Connection) -> Self {
        Self {
            connection,
            free: Mutex::default(),
            blocked: AtomicBool::new(false),
            since: Instant::now(),
            ended: CancellationToken::new(),
        }
    }

    /// Waits until the connection is closed.
    pub(super) async fn ended(&self) {
        self.ended.cancelled().await;
    }

    fn lost(&self, why: impl Into<String>) -> Ended {
        Ended::Lost { why: why.into(), proven: self.since.elapsed() >= PROVEN }
    }

    /// Whether the broker takes no messages.
    pub(super) fn is_blocked(&self) -> bool {
        self.blocked.load(Ordering::Acquire)
    }

    /// A channel with nothing under way, that confirms.
    pub(super) async fn channel(&self) -> Result<Channel, lapin::Error> {
        while let Some((channel, _)) = self.pop() {
            if channel.status().connected() {
                return Ok(channel);
            }
        }
        confirming_channel(&self.connection).await
    }

    /// For the next message.
    pub(super) fn put_back(&self, channel: Channel) {
        self.lock().push((channel, Instant::now()));
    }

    async fn watch_over(&self, link: &Link, idle: Duration, stop: &CancellationToken) -> Ended {
        let mut events = std::pin::pin!(self.connection.events_listener());
        let mut ticks = interval(SWEEP.min(idle));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut used = Instant::now();
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(Event::ConnectionBlocked(reason)) => {
                        self.blocked.store(true, Ordering::Release);
                        tracing::warn!(reason, "The broker of AMQP targets takes no messages");
                    }
                    Some(Event::ConnectionUnblocked) => {
                        self.blocked.store(false, Ordering::Release);
                        tracing::info!("The broker of AMQP targets takes messages again");
                    }
                    // What closes one channel concerns the message on it, and nobody else.
                    Some(Event::Error(error)) if error.is_amqp_soft_error() => {}
                    Some(Event::Error(error)) => return self.lost(error.to_string()),
                    Some(_) => {}
                    None => return self.lost("the connection ended"),
                },
                _ = ticks.tick() => {
                    if !self.connection.status().connected() {
                        return self.lost("the connection ended");
                    }
                    self.close_unused(idle);
                    if !link.is_unused() {
                        used = Instant::now();
                    } else if used.elapsed() >= idle && self.lock().is_empty() {
                        return Ended::Unused;
                    }
                }
                () = stop.cancelled() => return Ended::Stopped,
            }
        }
    }

    /// Dropping a channel closes it.
    fn close_unused(&self, idle: Duration) {
        self.lock().retain(|(_, since)| since.elapsed() < idle);
    }

    fn pop(&self) -> Option<(Channel, Instant)> {
        self.lock().pop()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(Channel, Instant)>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::silent::Silent;

    #[tokio::test(start_paused = true)]
    async fn a_broker_that_says_nothing_is_tried_ever_more_seldom_although_each_try_takes_long() {
        let silent = Silent::new();
        let config = AmqpTargetsConfig { url: Some(silent.url()), ..AmqpTargetsConfig::default() };
        let link = Arc::new(Link::new(Metrics::default()));
        let _user = link.enter();
        silent.tried_by(run(link, (config, Duration::from_mins(1)), CancellationToken::new())).await;
    }
}
