//! What the flow needs of others: who makes attempts (the HTTP client in the service, a script in the model test), and who
//! knows the subscriptions in force.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::{
    domain::{Attempt, Subscription, SubscriptionId, Timestamp},
    store::{Snapshot, Subscriptions},
    webhook,
};

/// Makes attempts.
pub trait Courier: Send + Sync + 'static {
    /// Makes one attempt. Never fails: what went wrong is the attempt's answer.
    fn send(&self, request: webhook::Request<'_>) -> impl Future<Output = Attempt> + Send;
}

impl Courier for webhook::Client {
    async fn send(&self, request: webhook::Request<'_>) -> Attempt {
        Self::send(self, request).await
    }
}

/// Knows the subscriptions in force.
pub trait Directory: Send + Sync + 'static {
    /// Those in force now.
    fn current(&self) -> Arc<Snapshot>;

    /// A subscription's target answered 410: it is disabled. Says whether it was not before; then upstream is to be told.
    fn disable_gone<'a>(&'a self, subscription: &'a Subscription, at: Timestamp) -> BoxFuture<'a, bool>;

    /// Upstream was told of it, and that is confirmed.
    fn gone_was_told<'a>(&'a self, id: &'a SubscriptionId) -> BoxFuture<'a, ()>;
}

impl Directory for Subscriptions {
    fn current(&self) -> Arc<Snapshot> {
        Self::current(self)
    }

    fn disable_gone<'a>(&'a self, subscription: &'a Subscription, at: Timestamp) -> BoxFuture<'a, bool> {
        Box::pin(Self::disable_gone(self, subscription, at))
    }

    fn gone_was_told<'a>(&'a self, id: &'a SubscriptionId) -> BoxFuture<'a, ()> {
        Box::pin(Self::gone_was_told(self, id))
    }
}
