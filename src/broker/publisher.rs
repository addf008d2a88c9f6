//! Publishing with proof: one task, one channel, confirms pipelined.
//!
//! One task, because lapin gives out confirms in the order of the calls only if nobody else publishes on the channel:
//! with several, a refused message can be reported as confirmed. Whatever is unconfirmed when a connection is lost is
//! published again on the next one, with the same `message_id`; for as long as the process lives nothing is forgotten.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, Event, PublisherConfirm,
    options::{BasicPublishOptions, ConfirmSelectOptions},
    types::ShortString,
};
use tokio::{
    sync::{Semaphore, mpsc, oneshot, watch},
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    connection::{self, ConnectError},
    declare::{DeclareError, declare},
    topology::Topology,
};
use crate::{backoff::Backoff, config::BrokerConfig};

/// Confirms outstanding at once: measured, 100 to 500 are fastest, more than 1,000 are slower again.
const WINDOW: usize = 500;

/// Messages that wait to be published, before those who publish have to wait.
const QUEUE: usize = 1024;

/// A confirm that takes longer, on a connection that is not blocked, means that the connection is broken.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(30);

/// A channel this old that is refused something is left for a new one. RabbitMQ 3.10 tells a channel that a full queue has
/// room again when messages leave it, but not when its limit is lifted: it would be refused for ever.
const REFUSED_CHANNEL_AGE: Duration = Duration::from_secs(15);

/// Connecting, declaring and opening a channel take no longer; declaring is about twenty questions.
pub(super) const OPEN_TIMEOUT: Duration = Duration::from_mins(1);

/// A session that lasted this long was a good one: the next waits begin anew.
pub(super) const PROVEN: Duration = Duration::from_secs(5);

/// Proof that everything that was owed for a message is with the broker. Only a confirmed publish makes one, or
/// [`Confirmed::nothing_owed`], which says so.
#[derive(Debug, Clone)]
#[must_use = "proof is what an ack asks for"]
pub struct Confirmed {
    /// Whether the message may be with the broker twice: an earlier try stayed unanswered.
    repeated: bool,
}

impl Confirmed {
    /// Proof for something that owes nothing.
    pub fn nothing_owed() -> Self {
        Self { repeated: false }
    }

    /// Proof of both.
    pub fn and(self, other: &Self) -> Self {
        Self { repeated: self.repeated || other.repeated }
    }

    /// The same proof, of a message that may be with the broker twice if `repeated`.
    pub(super) fn or_repeated(self, repeated: bool) -> Self {
        Self { repeated: self.repeated || repeated }
    }

    /// Whether the message may be with the broker twice.
    #[must_use]
    pub fn may_be_repeated(&self) -> bool {
        self.repeated
    }

    /// Proof without a broker, for models of it.
    #[cfg(test)]
    pub(crate) fn in_a_model(repeated: bool) -> Self {
        Self { repeated }
    }
}

/// Why there is no proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The broker said no (a full queue, a queue without a leader). It may say yes later.
    #[error("the broker refused the message")]
    Refused {
        /// Whether an earlier try stayed unanswered: the broker may have the message all the same.
        repeated: bool,
    },
    /// The publisher has stopped; whatever it was asked for may or may not have happened.
    #[error("publishing has stopped")]
    Closed,
}

/// How publishing stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// No connection; one is being made.
    Disconnected,
    /// Connected, and the broker takes messages.
    Open,
    /// Connected, but the broker takes nothing (memory or disk alarm).
    Blocked,
}

/// Something to be published. Kept, shared, until it is confirmed.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) exchange: ShortString,
    pub(super) routing_key: ShortString,
    pub(super) properties: BasicProperties,
    pub(super) body: Bytes,
}

/// Hands messages to the publishing task. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Publisher {
    requests: mpsc::Sender<Request>,
    standing: watch::Receiver<Standing>,
}

#[derive(Debug)]
struct Request {
    outgoing: Arc<Outgoing>,
    tries: u32,
    answer: oneshot::Sender<Result<Confirmed, PublishError>>,
}

impl Publisher {
    /// Publishes and waits for the broker's answer, over any number of lost connections.
    pub(super) async fn publish(&self, outgoing: Arc<Outgoing>) -> Result<Confirmed, PublishError> {
        let (answer, answered) = oneshot::channel();
        self.requests.send(Request { outgoing, tries: 0, answer }).await.map_err(|_| PublishError::Closed)?;
        answered.await.unwrap_or(Err(PublishError::Closed))
    }

    /// How publishing stands, now and later.
    #[must_use]
    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.clone()
    }

    /// The publisher and its task, which runs until every clone of the publisher is dropped and all is confirmed, or
    /// until `give_up` is cancelled.
    pub fn new(
        config: BrokerConfig,
        topology: Arc<Topology>,
        give_up: CancellationToken,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (requests, queue) = mpsc::channel(QUEUE);
        let (standing, seen) = watch::channel(Standing::Disconnected);
        let task = Task { config, topology, queue, backlog: VecDeque::new(), standing };
        let run = async move {
            tokio::select! {
                () = task.run() => {}
                () = give_up.cancelled() => {}
            }
        };
        (Self { requests, standing: seen }, run)
    }
}

/// What a model of a broker sees of publishing.
#[cfg(test)]
pub(crate) mod model {
    use super::{Bytes, Confirmed, PublishError, Publisher, Request, Standing, mpsc, watch};

    /// Something that was handed to the publisher.
    pub(crate) struct Published(Request);

    /// A publisher whose other end is in the hands of a model.
    pub(crate) fn publisher(standing: watch::Receiver<Standing>) -> (Publisher, Publications) {
        let (requests, queue) = mpsc::channel(super::QUEUE);
        (Publisher { requests, standing }, Publications(queue))
    }

    /// Everything that is handed to the publisher, in order.
    pub(crate) struct Publications(mpsc::Receiver<Request>);

    impl Publications {
        pub(crate) async fn next(&mut self) -> Option<Published> {
            self.0.recv().await.map(Published)
        }
    }

    impl Published {
        pub(crate) fn exchange(&self) -> &str {
            self.0.outgoing.exchange.as_str()
        }

        pub(crate) fn routing_key(&self) -> &str {
            self.0.outgoing.routing_key.as_str()
        }

        pub(crate) fn body(&self) -> Bytes {
            self.0.outgoing.body.clone()
        }

        pub(crate) fn answer(self, answer: Result<Confirmed, PublishError>) {
            drop(self.0.answer.send(answer));
        }
    }
}

struct Task {
    config: BrokerConfig,
    topology: Arc<Topology>,
    queue: mpsc::Receiver<Request>,
    /// What a lost connection left unconfirmed, in order.
    backlog: VecDeque<Request>,
    standing: watch::Sender<Standing>,
}

/// How a session ended.
enum Ended {
    /// Nobody publishes any more and everything is confirmed.
    Done,
    /// The connection is of no use any more.
    Lost(String),
}

#[derive(Debug, thiserror::Error)]
enum OpenError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Declare(#[from] DeclareError),
    #[error("opening a channel failed: {0}")]
    Channel(#[from] lapin::Error),
    #[error("the broker answers too slowly")]
    TooLong,
}

impl Task {
    async fn run(mut self) {
        let mut backoff = Backoff::new();
        loop {
            let began = Instant::now();
            match timeout(OPEN_TIMEOUT, self.open()).await.unwrap_or(Err(OpenError::TooLong)) {
                Ok((connection, mut channel)) => {
                    tracing::info!(broker.connection = "publishing", "Connected to the broker");
                    let ended = self.session(&connection, &mut channel).await;
                    self.standing.send_replace(Standing::Disconnected);
                    close(&connection).await;
                    match ended {
                        Ended::Done => return,
                        Ended::Lost(reason) => tracing::warn!(
                            broker.connection = "publishing",
                            reason,
                            unconfirmed = self.backlog.len(),
                            "Lost the connection to the broker; what is unconfirmed is published again"
                        ),
                    }
                }
                Err(error) => tracing::warn!(broker.connection = "publishing", %error, "Cannot publish yet"),
            }
            if self.queue.is_closed() && self.queue.is_empty() && self.backlog.is_empty() {
                return;
            }
            if began.elapsed() >= PROVEN {
                backoff.reset();
            }
            sleep(backoff.next_wait(fastrand::f64())).await;
        }
    }

    async fn open(&self) -> Result<(Connection, Channel), OpenError> {
        let connection = connection::connect(&self.config, "docrelay publishing").await?;
        declare(&connection, &self.topology, self.config.declare).await?;
        let channel = confirming_channel(&connection).await?;
        Ok((connection, channel))
    }

    /// Publishes until the connection is lost or nothing is left to do. Whatever is unconfirmed at the end goes back to
    /// the backlog, in its order.
    async fn session(&mut self, connection: &Connection, channel: &mut Channel) -> Ended {
        let outstanding = Outstanding::default();
        self.standing.send_replace(Standing::Open);
        let ended = tokio::select! {
            biased;
            ended = work(connection, channel, &mut self.queue, &mut self.backlog, &outstanding) => ended,
            lost = watch_over(connection, &outstanding, &self.standing) => lost,
        };
        let left = outstanding.drain();
        for request in left.into_iter().rev() {
            self.backlog.push_front(request);
        }
        ended
    }
}

async fn confirming_channel(connection: &Connection) -> Result<Channel, lapin::Error> {
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok(channel)
}

/// Publishes on one channel after another, until the connection is lost or nothing is left to do. A channel is only left
/// when everything on it is confirmed: nothing is published twice because of it.
async fn work(
    connection: &Connection,
    channel: &mut Channel,
    queue: &mut mpsc::Receiver<Request>,
    backlog: &mut VecDeque<Request>,
    outstanding: &Outstanding,
) -> Ended {
    loop {
        let (room, leave) = (Semaphore::new(WINDOW), CancellationToken::new());
        let (written, confirms) = mpsc::channel(WINDOW);
        let ended = {
            let writer = write(channel, queue, backlog, outstanding, (&room, &leave), written);
            let confirmer = confirm(outstanding, &room, &leave, confirms);
            tokio::pin!(writer, confirmer);
            let mut writing = true;
            loop {
                tokio::select! {
                    biased;
                    // Ends when the writer is done and everything is confirmed.
                    ended = &mut confirmer => break ended,
                    lost = &mut writer, if writing => match lost {
                        Some(lost) => break lost,
                        None => writing = false,
                    },
                }
            }
        };
        if !(matches!(ended, Ended::Done) && leave.is_cancelled()) {
            return ended;
        }
        tracing::info!("The broker refuses messages; going on with a new channel");
        if let Err(error) = channel.close(200, "done".into()).await {
            return Ended::Lost(error.to_string());
        }
        *channel = match confirming_channel(connection).await {
            Ok(channel) => channel,
            Err(error) => return Ended::Lost(error.to_string()),
        };
    }
}

/// Writes what is to be published; `None` when nobody publishes any more, or the channel is to be left.
async fn write(
    channel: &Channel,
    queue: &mut mpsc::Receiver<Request>,
    backlog: &mut VecDeque<Request>,
    outstanding: &Outstanding,
    (room, leave): (&Semaphore, &CancellationToken),
    written: mpsc::Sender<(u64, PublisherConfirm)>,
) -> Option<Ended> {
    loop {
        // The semaphore is never closed.
        let Ok(place) = room.acquire().await else { return None };
        if leave.is_cancelled() {
            return None;
        }
        let mut request = if let Some(request) = backlog.pop_front() {
            request
        } else {
            tokio::select! {
                request = queue.recv() => request?,
                () = leave.cancelled() => return None,
            }
        };
        place.forget();
        request.tries += 1;
        let outgoing = Arc::clone(&request.outgoing);
        let number = outstanding.add(request);
        let publishing = channel.basic_publish(
            outgoing.exchange.clone(),
            outgoing.routing_key.clone(),
            BasicPublishOptions::default(),
            &outgoing.body,
            outgoing.properties.clone(),
        );
        match publishing.await {
            Ok(confirm) => written.send((number, confirm)).await.ok()?,
            Err(error) => return Some(Ended::Lost(error.to_string())),
        }
    }
}

/// Answers each request when the broker has. Says when the channel is to be left.
async fn confirm(
    outstanding: &Outstanding,
    room: &Semaphore,
    leave: &CancellationToken,
    mut written: mpsc::Receiver<(u64, PublisherConfirm)>,
) -> Ended {
    let (mut confirms, opened) = (FuturesUnordered::new(), Instant::now());
    let mut writing = true;
    loop {
        tokio::select! {
            biased;
            Some((number, confirmation)) = confirms.next() => {
                let taken = match confirmation {
                    Ok(Confirmation::Ack(_)) => true,
                    Ok(Confirmation::Nack(_)) => {
                        if opened.elapsed() >= REFUSED_CHANNEL_AGE {
                            leave.cancel();
                        }
                        false
                    }
                    Ok(Confirmation::NotRequested) => return Ended::Lost("the channel does not confirm".to_owned()),
                    Err(error) => return Ended::Lost(lapin::Error::to_string(&error)),
                };
                room.add_permits(1);
                outstanding.answer(number, taken);
            }
            next = written.recv(), if writing => match next {
                Some((number, confirm)) => confirms.push(confirm.map(move |confirmation| (number, confirmation))),
                None => writing = false,
            },
            else => return Ended::Done,
        }
    }
}

/// Follows the connection's own events, and the age of the oldest confirm.
async fn watch_over(connection: &Connection, outstanding: &Outstanding, standing: &watch::Sender<Standing>) -> Ended {
    let mut events = std::pin::pin!(connection.events_listener());
    let mut ticks = interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(Event::ConnectionBlocked(reason)) => {
                    standing.send_replace(Standing::Blocked);
                    tracing::warn!(reason, "The broker takes no messages; no new attempt starts until it does");
                }
                Some(Event::ConnectionUnblocked) => {
                    // Confirm timers stood still meanwhile.
                    outstanding.restart_timers(Instant::now());
                    standing.send_replace(Standing::Open);
                    tracing::info!("The broker takes messages again");
                }
                Some(Event::Error(error)) => return Ended::Lost(error.to_string()),
                Some(_) => {}
                None => return Ended::Lost("the connection ended".to_owned()),
            },
            _ = ticks.tick() => {
                let overdue = outstanding.oldest().is_some_and(|since| since.elapsed() > CONFIRM_TIMEOUT);
                if overdue && *standing.borrow() == Standing::Open {
                    return Ended::Lost("a confirm is overdue".to_owned());
                }
            }
        }
    }
}

/// What is published and not answered yet, by its number. Locked for moments only, by futures of one task.
#[derive(Default)]
struct Outstanding(Mutex<Unanswered>);

#[derive(Default)]
struct Unanswered {
    next: u64,
    requests: BTreeMap<u64, (Instant, Request)>,
}

impl Outstanding {
    fn add(&self, request: Request) -> u64 {
        let mut unanswered = self.lock();
        let number = unanswered.next;
        unanswered.next += 1;
        unanswered.requests.insert(number, (Instant::now(), request));
        number
    }

    fn answer(&self, number: u64, taken: bool) {
        let request = self.lock().requests.remove(&number);
        if let Some((_, request)) = request {
            let repeated = request.tries > 1;
            let answer = if taken { Ok(Confirmed { repeated }) } else { Err(PublishError::Refused { repeated }) };
            // Whoever asked may be gone: then nobody needs the answer.
            drop(request.answer.send(answer));
        }
    }

    fn oldest(&self) -> Option<Instant> {
        self.lock().requests.values().next().map(|(since, _)| *since)
    }

    fn restart_timers(&self, now: Instant) {
        self.lock().requests.values_mut().for_each(|(since, _)| *since = now);
    }

    fn drain(self) -> Vec<Request> {
        let unanswered = self.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        unanswered.requests.into_values().map(|(_, request)| request).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Unanswered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) async fn close(connection: &Connection) {
    let closing = connection.close(200, "done".into());
    match timeout(Duration::from_secs(2), closing).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "Closing the connection failed"),
        Err(_elapsed) => tracing::debug!("Closing the connection took too long"),
    }
}
