//! What the flow needs of others: who makes attempts (the couriers of the service, one for each type of target, or a script
//! in the model test), and who knows the subscriptions in force.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::{sync::Notify, time::Instant};

use crate::{
    broker::target,
    domain::{Attempt, DeliveryId, DocumentEvent, LaneKey, Subscription, Target, Timestamp, TraceContext, Trial},
    store::{Snapshot, Subscriptions},
    telemetry::trace::Scope,
    webhook,
};

/// One attempt to be made, wherever it goes.
#[derive(Debug)]
pub struct Sending<'a> {
    /// What happened.
    pub event: &'a DocumentEvent,
    /// To whom it is told.
    pub subscription: &'a Subscription,
    /// The delivery: the same on every attempt.
    pub delivery: DeliveryId,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// When the attempt begins.
    pub at: Timestamp,
    /// The same by the clock that deadlines go by.
    pub began: Instant,
    /// The rendered payload.
    pub body: Bytes,
    /// The trace that the receiver is told: of this attempt, or upstream's where nothing is recorded.
    pub trace: &'a TraceContext,
    /// The attempt's span.
    pub scope: Option<&'a Scope>,
    /// A test send, which says so and keeps the answer's headers.
    pub trial: Option<&'a Trial>,
    /// To be notified when a login that comes first has answered, or was not needed.
    pub logged_in: Option<&'a Notify>,
}

/// Makes attempts.
pub trait Courier: Send + Sync + 'static {
    /// The right to make one attempt, where there are only so many.
    type Place: Send;

    /// The lane of a login that comes before an attempt for this subscription, if one does now.
    fn login(&self, subscription: &Subscription) -> Option<LaneKey>;

    /// Waits for that right: no attempt is made yet, and its deadline has not begun.
    fn place(&self, subscription: &Subscription) -> impl Future<Output = Self::Place> + Send;

    /// Makes one attempt. Never fails: what went wrong is the attempt's answer.
    fn send(&self, sending: Sending<'_>, place: Self::Place) -> impl Future<Output = Attempt> + Send;
}

/// The couriers of the service: each target gets the one for its type.
#[derive(Debug, Clone)]
pub struct Couriers {
    /// For webhooks.
    pub http: webhook::Client,
    /// For exchanges.
    pub amqp: target::TargetPublisher,
}

impl Courier for Couriers {
    /// A channel to an exchange. A webhook needs no other place than its lane's.
    type Place = Option<target::Place>;

    fn login(&self, subscription: &Subscription) -> Option<LaneKey> {
        self.http.login_ahead(subscription)
    }

    async fn place(&self, subscription: &Subscription) -> Self::Place {
        match &subscription.target {
            Target::Http(_) => None,
            // Boxed: webhooks need not carry the room for it.
            Target::Amqp(target) => Box::pin(self.amqp.place(&subscription.organization, target)).await,
        }
    }

    async fn send(&self, sending: Sending<'_>, place: Self::Place) -> Attempt {
        let Sending { event, subscription, delivery, attempt, at, began, body, trace, scope, trial, logged_in } =
            sending;
        match &subscription.target {
            Target::Http(target) => {
                let request = webhook::Request {
                    event,
                    subscription,
                    target,
                    delivery,
                    attempt,
                    at,
                    began,
                    body,
                    trace,
                    scope,
                    trial,
                    logged_in,
                };
                self.http.send(request).await
            }
            Target::Amqp(target) => {
                let message =
                    target::Message { event, subscription, target, delivery, attempt, at, began, body, trace, trial };
                Box::pin(self.amqp.send(message, place)).await
            }
        }
    }
}

/// Knows the subscriptions in force.
pub trait Directory: Send + Sync + 'static {
    /// Those in force now.
    fn current(&self) -> Arc<Snapshot>;

    /// A subscription's target answered 410: it is disabled. Says whether it was not before; then upstream is to be told.
    fn disable_gone<'a>(&'a self, subscription: &'a Subscription, at: Timestamp) -> BoxFuture<'a, bool>;

    /// Upstream was told that it was disabled then, and that is confirmed.
    fn gone_was_told<'a>(&'a self, subscription: &'a Subscription, at: Timestamp) -> BoxFuture<'a, ()>;
}

impl Directory for Subscriptions {
    fn current(&self) -> Arc<Snapshot> {
        Self::current(self)
    }

    fn disable_gone<'a>(&'a self, subscription: &'a Subscription, at: Timestamp) -> BoxFuture<'a, bool> {
        Box::pin(Self::disable_gone(self, subscription, at))
    }

    fn gone_was_told<'a>(&'a self, subscription: &'a Subscription, at: Timestamp) -> BoxFuture<'a, ()> {
        Box::pin(Self::gone_was_told(self, subscription, at))
    }
}
