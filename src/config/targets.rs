//! Where deliveries may go besides webhooks: the values of `targets.*`.

use std::{path::PathBuf, sync::Arc};

use crate::domain::{ExchangePolicy, Secret};

/// `targets.*`
#[derive(Debug, Clone, Default)]
pub struct TargetsConfig {
    /// Exchanges.
    pub amqp: AmqpTargetsConfig,
}

/// `targets.amqp.*`
#[derive(Debug, Clone, Default)]
pub struct AmqpTargetsConfig {
    /// `amqp://` or `amqps://`, with credentials of its own; `None` without AMQP targets.
    pub url: Option<Secret>,
    /// A PEM file with certificate authorities to trust for `amqps`, besides the system's.
    pub ca_file: Option<PathBuf>,
    /// Which organization may use which exchange.
    pub exchanges: Arc<ExchangePolicy>,
}
