//! Who makes attempts: the HTTP client in the service, a script in the model test.

use crate::{domain::Attempt, webhook};

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
