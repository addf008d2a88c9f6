//! The presence queue: every replica has one consumer there, and asks how many there are. What that means for its limits
//! is decided in `policy::share`; here is nothing but the asking.
//!
//! Nobody publishes there. What comes anyway is thrown away.

use std::{convert::Infallible, num::NonZeroU32, time::Duration};

use futures_util::StreamExt as _;
use lapin::{
    Channel, Connection, Consumer,
    options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions, QueueDeclareOptions},
    types::FieldTable,
};
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval, sleep, timeout_at},
};

use super::topology::Names;
use crate::policy::share::{Presence, Share};

/// How often a replica asks how many there are.
const PERIOD: Duration = Duration::from_secs(2);

/// With a shorter `broker.delay_unit`, which is for tests, so many units.
const PERIOD_UNITS: u32 = 2;

/// A busy machine may need longer than a short period to answer. Only with a short unit: then the bound of `policy::share`
/// is the lesser good.
const LEAST_PATIENCE: Duration = Duration::from_secs(1);

/// Before asking again when the answer was none: a quorum queue whose leader does not answer the broker within 250 ms has
/// no consumers at all, if one believes it.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// The consumer's name on its channel.
const TAG: &str = "docrelay-presence";

/// Why a replica is not counted, or not told how many there are.
#[derive(Debug, thiserror::Error)]
pub(super) enum AbsentError {
    #[error(
        "the broker's account may not consume from queue {queue}: {answer}. Every replica is counted by its consumer \
         there: grant the account the right to read it"
    )]
    Forbidden { queue: String, answer: String },
    #[error("queue {0} is gone: the broker cancelled the consumer")]
    Gone(String),
    #[error("counting the replicas by queue {queue} failed: {error}")]
    Failed {
        queue: String,
        #[source]
        error: lapin::Error,
    },
}

/// Is present on a connection, as long as this future lives, and tells what share of every limit that gives. Ends only when
/// the channel does.
pub(super) async fn attend(
    connection: &Connection,
    names: &Names,
    told: &watch::Sender<Share>,
) -> Result<Infallible, AbsentError> {
    let queue = &names.presence_queue;
    let failed = |error| failed(queue, error);
    let channel = connection.create_channel().await.map_err(failed)?;
    let consumer = consume(&channel, queue).await.map_err(failed)?;
    // Dropped before the connection is closed: limits are used no more before another replica can take over.
    let stay = Stay { presence: Some(Presence::join(*told.borrow())), told };
    tokio::select! {
        ended = ask_for_ever(&channel, names, stay) => ended.map_err(failed),
        ended = throw_away(consumer) => Err(ended.map_or_else(|| AbsentError::Gone(queue.clone()), failed)),
    }
}

async fn consume(channel: &Channel, queue: &str) -> Result<Consumer, lapin::Error> {
    channel.basic_qos(1, BasicQosOptions::default()).await?;
    let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
    channel.basic_consume(queue.into(), TAG.into(), options, arguments).await
}

async fn ask_for_ever(channel: &Channel, names: &Names, mut stay: Stay<'_>) -> Result<Infallible, lapin::Error> {
    let period = period(names.delay_unit);
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_silent = false;
    loop {
        ticks.tick().await;
        let deadline = Instant::now() + period.max(LEAST_PATIENCE);
        let mut asking = std::pin::pin!(ask(channel, &names.presence_queue));
        if let Ok(count) = timeout_at(deadline, &mut asking).await {
            let count = count?;
            is_silent = false;
            stay.is_told(|presence| presence.counted(count));
        } else {
            if !std::mem::replace(&mut is_silent, true) {
                tracing::warn!(
                    "The broker does not say how many replicas there are; nothing limited is sent meanwhile"
                );
            }
            stay.is_told(Presence::told_nothing);
            // What it says now is old, however new: nobody knows when it was true.
            asking.await?;
        }
    }
}

/// How many replicas there are, this one included.
async fn ask(channel: &Channel, queue: &str) -> Result<NonZeroU32, lapin::Error> {
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    loop {
        let declared = channel.queue_declare(queue.into(), passive, FieldTable::default()).await?;
        match NonZeroU32::new(declared.consumer_count()) {
            Some(count) => return Ok(count),
            None => sleep(ASK_AGAIN).await,
        }
    }
}

/// Acks whatever comes. Ends with the consumer.
async fn throw_away(mut consumer: Consumer) -> Option<lapin::Error> {
    while let Some(delivery) = consumer.next().await {
        let acked = match delivery {
            Ok(delivery) => delivery.ack(BasicAckOptions::default()).await,
            Err(error) => Err(error),
        };
        if let Err(error) = acked {
            return Some(error);
        }
        tracing::warn!("A message in the presence queue was thrown away; nothing is to be published there");
    }
    None
}

fn period(delay_unit: Duration) -> Duration {
    PERIOD.min(delay_unit.saturating_mul(PERIOD_UNITS))
}

fn failed(queue: &str, error: lapin::Error) -> AbsentError {
    let queue = queue.to_owned();
    match error.kind() {
        lapin::ErrorKind::ProtocolError(reply) if reply.get_id() == 403 => {
            AbsentError::Forbidden { queue, answer: reply.get_message().to_string() }
        }
        _ => AbsentError::Failed { queue, error },
    }
}

/// A stay among the replicas. Dropped, it ends.
struct Stay<'a> {
    presence: Option<Presence>,
    told: &'a watch::Sender<Share>,
}

impl Stay<'_> {
    fn is_told(&mut self, what: impl FnOnce(&mut Presence)) {
        if let Some(presence) = &mut self.presence {
            what(presence);
            tell(self.told, presence.share());
        }
    }
}

impl Drop for Stay<'_> {
    fn drop(&mut self) {
        if let Some(presence) = self.presence.take() {
            tell(self.told, presence.leave());
        }
    }
}

/// Says so if it is news.
fn tell(told: &watch::Sender<Share>, share: Share) {
    let is_new = told.send_if_modified(|last| std::mem::replace(last, share) != share);
    if is_new {
        let (replicas, limited) = (share.replicas, share.limited);
        tracing::info!(replicas, limited, "The share of every limit changed");
    }
}
