//! Publishing to the exchanges of subscribers: one attempt of one delivery over AMQP.
//!
//! One connection of its own, made when the first delivery needs it, with an account of its own: whatever becomes of it,
//! docrelay's two connections know nothing of it. On each channel one message is under way at a time. So a confirm and a
//! returned message can only be that message's, and a channel that the broker closes (no such exchange, no right to it)
//! takes no other message with it. [`TargetPublisher::send`] makes exactly one attempt and says how it went; it never
//! publishes twice, and never decides what comes next.

mod link;
mod message;
mod places;
mod publish;

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::message::Message;
use self::{
    link::{Link, Live},
    places::Places,
};
use crate::{
    config::AmqpTargetsConfig,
    domain::{Answer, Attempt, ExchangePolicy, FailureKind},
};

/// A channel, or the connection, that was not used for so long is closed.
pub const IDLE: Duration = Duration::from_mins(1);

/// Makes attempts. Cheap to clone; clones share their connection.
#[derive(Debug, Clone)]
pub struct TargetPublisher {
    exchanges: Arc<ExchangePolicy>,
    link: Arc<Link>,
    places: Arc<Places>,
    publishing: TaskTracker,
}

impl TargetPublisher {
    /// The publisher and its task, which connects when somebody publishes, and closes the connection in order when `stop`
    /// is cancelled: what is under way then is cut off. What is unused for `idle` is closed.
    pub fn new(
        config: AmqpTargetsConfig,
        idle: Duration,
        stop: CancellationToken,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let exchanges = Arc::clone(&config.exchanges);
        let (link, places) = (Arc::new(Link::default()), Arc::new(Places::default()));
        let run = link::run(Arc::clone(&link), (config, idle), stop);
        (Self { exchanges, link, places, publishing: TaskTracker::new() }, run)
    }

    /// Makes one attempt. All of it, a wait for the connection included, ends with the subscription's deadline.
    ///
    /// It never fails: what went wrong is the attempt's answer. Dropping the future gives the message up: the broker may
    /// have it all the same.
    pub async fn send(&self, message: Message<'_>) -> Attempt {
        let time = message.target.timeout;
        let answer = timeout_at(message.began + time, self.attempt(&message)).await.unwrap_or_else(|_elapsed| {
            let text = format!("the broker did not confirm within {}", humantime::format_duration(time));
            Answer::None { kind: FailureKind::Timeout, text }
        });
        Attempt { started_at: message.at, latency: Instant::now() - message.began, answer }
    }

    async fn attempt(&self, message: &Message<'_>) -> Answer {
        // Asked again: a stored subscription may be older than the operator's list.
        if let Err(refused) = self.exchanges.check(&message.subscription.organization, &message.target.exchange) {
            return Answer::None { kind: FailureKind::Egress, text: format!("the exchange {refused}") };
        }
        let user = self.link.enter();
        let place = Arc::clone(&self.places).take(&message.target.exchange).await;
        let room = self.places.room(message.body.len()).await;
        let live = match self.link.live().await {
            Ok(live) => live,
            Err(why) => return away(&why),
        };
        if live.is_blocked() {
            return away("it takes no messages (a memory or disk alarm)");
        }
        let (answer, answered) = oneshot::channel();
        // A task of its own: when the deadline passes, the channel is occupied until it is closed, and so is the place.
        self.publishing.spawn(publish::run(live, message.outgoing(), (user, place, room), answer));
        // Gone without an answer only by a panic.
        answered.await.unwrap_or_else(|_| away("publishing ended unexpectedly"))
    }
}

/// Nobody answered.
fn away(why: &str) -> Answer {
    Answer::None { kind: FailureKind::Broker, text: format!("the broker of AMQP targets: {why}") }
}
