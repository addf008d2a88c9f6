//! Publishing with proof: one task, one channel, confirms pipelined.
//!
//! One task, because lapin gives out confirms in the order of the calls only if nobody else publishes on the channel:
//! with several, a refused message can be reported as confirmed. Whatever is unconfirmed when a connection is lost is
//! published again on the next one, with the same `message_id`; for as long as the process lives nothing is forgotten.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;
use lapin::{BasicProperties, Channel, Connection, types::ShortString};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    connection::{self, ConnectError},
    declare::{DeclareError, declare},
    session::{Ended, Outstanding, confirming_channel, watch_over, work},
    topology::Topology,
};
use crate::{
    backoff::Backoff,
    config::BrokerConfig,
    telemetry::metrics::{Link, Metrics},
};

/// Messages that wait to be published, before those who publish have to wait.
const QUEUE: usize = 1024;

/// Connecting, declaring and opening a channel take no longer; declaring is about twenty questions.
pub(super) const OPEN_TIMEOUT: Duration = Duration::from_mins(1);

/// A connection that lasted this long was a good one: the next waits begin anew. Time that a try took does not count.
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
    metrics: Metrics,
}

#[derive(Debug)]
pub(super) struct Request {
    pub(super) outgoing: Arc<Outgoing>,
    pub(super) tries: u32,
    answer: oneshot::Sender<Result<Confirmed, PublishError>>,
}

impl Request {
    /// The broker has answered. Here, and nowhere else, proof is made.
    pub(super) fn answer(self, taken: bool) {
        let repeated = self.tries > 1;
        let answer = if taken { Ok(Confirmed { repeated }) } else { Err(PublishError::Refused { repeated }) };
        // Whoever asked may be gone: then nobody needs the answer.
        drop(self.answer.send(answer));
    }
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

    /// What is told of what happens.
    pub(super) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The publisher and its task, which runs until every clone of the publisher is dropped and all is confirmed, or
    /// until `give_up` is cancelled.
    pub fn new(
        config: BrokerConfig,
        topology: Arc<Topology>,
        metrics: Metrics,
        give_up: CancellationToken,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (requests, queue) = mpsc::channel(QUEUE);
        let (standing, seen) = watch::channel(Standing::Disconnected);
        let task = Task { config, topology, queue, backlog: VecDeque::new(), standing, metrics: metrics.clone() };
        let run = async move {
            tokio::select! {
                () = task.run() => {}
                () = give_up.cancelled() => {}
            }
        };
        (Self { requests, standing: seen, metrics }, run)
    }
}

/// What a model of a broker sees of publishing.
#[cfg(test)]
pub(crate) mod model {
    use super::{Bytes, Confirmed, Metrics, PublishError, Publisher, Request, Standing, mpsc, watch};

    /// Something that was handed to the publisher.
    pub(crate) struct Published(Request);

    /// A publisher whose other end is in the hands of a model.
    pub(crate) fn publisher(standing: watch::Receiver<Standing>) -> (Publisher, Publications) {
        let (requests, queue) = mpsc::channel(super::QUEUE);
        (Publisher { requests, standing, metrics: Metrics::default() }, Publications(queue))
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

        pub(crate) fn kind(&self) -> Option<&str> {
            self.0.outgoing.properties.kind().as_ref().map(lapin::types::ShortString::as_str)
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
    metrics: Metrics,
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
            match timeout(OPEN_TIMEOUT, self.open()).await.unwrap_or(Err(OpenError::TooLong)) {
                Ok((connection, mut channel)) => {
                    self.metrics.connected(Link::Publishing);
                    let began = Instant::now();
                    let ended = self.session(&connection, &mut channel).await;
                    if began.elapsed() >= PROVEN {
                        backoff.reset();
                    }
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
            sleep(backoff.next_wait(fastrand::f64())).await;
        }
    }

    async fn open(&self) -> Result<(Connection, Channel), OpenError> {
        let connection = connection::connect_to_publish(&self.config, "docrelay publishing").await?;
        declare(&connection, &self.topology, self.config.declare).await?;
        let channel = confirming_channel(&connection).await?;
        Ok((connection, channel))
    }

    /// Publishes until the connection is lost or nothing is left to do. Whatever is unconfirmed at the end goes back to
    /// the backlog, in its order.
    async fn session(&mut self, connection: &Connection, channel: &mut Channel) -> Ended {
        let outstanding = Outstanding::new(self.metrics.clone());
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

pub(super) async fn close(connection: &Connection) {
    let closing = connection.close(200, "done".into());
    match timeout(Duration::from_secs(2), closing).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "Closing the connection failed"),
        Err(_elapsed) => tracing::debug!("Closing the connection took too long"),
    }
}
