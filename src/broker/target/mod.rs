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

use self::{
    link::{Link, Live},
    places::Places,
};
pub use self::{message::Message, places::Place};
use crate::{
    config::AmqpTargetsConfig,
    domain::{AmqpTarget, Answer, Attempt, ExchangePolicy, FailureKind, OrganizationId},
    telemetry::metrics::Metrics,
};

/// A channel, or the connection, that was not used for so long is closed.
pub const IDLE: Duration = Duration::from_mins(1);

/// What a broker with a memory or disk alarm is said to do.
const BLOCKED: &str = "it takes no messages (a memory or disk alarm)";

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
        metrics: Metrics,
        stop: CancellationToken,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let exchanges = Arc::clone(&config.exchanges);
        let (link, places) = (Arc::new(Link::new(metrics)), Arc::new(Places::default()));
        let run = link::run(Arc::clone(&link), (config, idle), stop);
        (Self { exchanges, link, places, publishing: TaskTracker::new() }, run)
    }

    /// The right to a channel for one attempt, as soon as there is one. Whoever waits for it makes no attempt yet. `None`
    /// where the exchange is not allowed, which the attempt will say.
    pub async fn place(&self, organization: &OrganizationId, target: &AmqpTarget) -> Option<Place> {
        self.exchanges.check(organization, &target.exchange).ok()?;
        Some(self.places.take(&target.exchange).await)
    }

    /// Makes one attempt. All of it, a wait for the connection included, ends with the subscription's deadline.
    ///
    /// It never fails: what went wrong is the attempt's answer. Dropping the future gives the message up: the broker may
    /// have it all the same.
    pub async fn send(&self, message: Message<'_>, place: Option<Place>) -> Attempt {
        let time = message.target.timeout;
        let mut missing = "";
        let attempt = self.attempt(&message, place, &mut missing);
        let answer = timeout_at(message.began + time, attempt).await.unwrap_or_else(|_elapsed| {
            let text = format!("{missing} within {}", humantime::format_duration(time));
            Answer::None { kind: FailureKind::Timeout, text }
        });
        Attempt { started_at: message.at, latency: Instant::now() - message.began, answer }
    }

    /// `missing` says what it waits for.
    async fn attempt(&self, message: &Message<'_>, place: Option<Place>, missing: &mut &str) -> Answer {
        // Asked again: a stored subscription may be older than the operator's list.
        if let Err(refused) = self.exchanges.check(&message.subscription.organization, &message.target.exchange) {
            return Answer::None { kind: FailureKind::Egress, text: format!("the exchange {refused}") };
        }
        *missing = "no channel was free for the exchange";
        let place = match place {
            Some(place) => place,
            None => self.places.take(&message.target.exchange).await,
        };
        *missing = "there was no connection to the broker of AMQP targets";
        let user = self.link.enter();
        let live = match self.link.live().await {
            Ok(live) => live,
            Err(why) => return away(&why),
        };
        // What an alarm keeps from being written holds its room: whoever comes then is told so, and does not wait for it.
        if live.is_blocked() {
            return away(BLOCKED);
        }
        *missing = "there was no room for the message beside what is being written to the broker";
        let room = self.places.room(message.body.len()).await;
        if live.is_blocked() {
            return away(BLOCKED);
        }
        *missing = "the broker did not confirm";
        let (answer, answered) = oneshot::channel();
        // A task of its own: when the deadline passes, the channel is occupied until it is closed, and so is the place.
        let (outgoing, time) = (message.outgoing(), message.target.timeout);
        self.publishing.spawn(publish::run(live, (outgoing, time), (user, place, room), answer));
        // Gone without an answer only by a panic.
        answered.await.unwrap_or_else(|_| away("publishing ended unexpectedly"))
    }
}

/// Nobody answered.
fn away(why: &str) -> Answer {
    Answer::None { kind: FailureKind::Broker, text: format!("the broker of AMQP targets: {why}") }
}
