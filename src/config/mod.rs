//! The service's settings: typed, checked, every problem reported at once.
//!
//! Layers, later ones win: `config/default.toml` (compiled in), files given by `--config`, environment variables:
//! OpenTelemetry's own, then ours.

mod artifacts;
mod check;
mod layers;
mod problems;
pub mod ranges;
mod read;
mod render;
mod targets;
mod tracing;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use ipnet::IpNet;

pub use self::{
    artifacts::{ApiConfig, ArtifactsConfig, ArtifactsPlace, Cloud, SigningKey},
    check::load,
    problems::{Problem, Problems, did_you_mean},
    render::render,
    targets::{AmqpTargetsConfig, TargetsConfig},
    tracing::{TracingConfig, TracingProtocol},
};
use crate::{
    domain::{RateLimit, Secret},
    secrets::KeyRing,
};

/// The process's environment, for [`load`]. What is not Unicode is read with its bad bytes replaced.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
pub fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
}

/// All settings. Each part of the service gets only its slice.
#[derive(Debug, Clone)]
pub struct Config {
    /// The broker and the topology.
    pub broker: BrokerConfig,
    /// Limits on what comes in.
    pub events: EventsConfig,
    /// Where subscriptions come from.
    pub subscriptions: SubscriptionsConfig,
    /// What is served to others.
    pub api: ApiConfig,
    /// The database.
    pub store: StoreConfig,
    /// What stored secrets are encrypted with.
    pub secrets: SecretsConfig,
    /// Health and metrics.
    pub admin: AdminConfig,
    /// Defaults for deliveries.
    pub delivery: DeliveryConfig,
    /// Defaults for lanes.
    pub limits: LimitsConfig,
    /// Which addresses may be connected to.
    pub egress: EgressConfig,
    /// Targets that are no webhooks.
    pub targets: TargetsConfig,
    /// Exported files, and links to them.
    pub artifacts: ArtifactsConfig,
    /// Where spans are sent.
    pub tracing: TracingConfig,
    /// Stopping.
    pub shutdown: ShutdownConfig,
    /// Metrics.
    pub metrics: MetricsConfig,
    /// Logs.
    pub log: LogConfig,
}

/// `broker.*`
#[derive(Debug, Clone)]
pub struct BrokerConfig {
    /// `amqp://` or `amqps://`, with credentials.
    pub url: Secret,
    /// A PEM file with certificate authorities to trust for `amqps`, besides the system's.
    pub ca_file: Option<PathBuf>,
    /// Whether docrelay declares what is missing.
    pub declare: Declare,
    /// What the names of docrelay's own queues and exchanges begin with.
    pub queue_prefix: String,
    /// Where upstream publishes.
    pub events_exchange: String,
    /// Which routing keys of it docrelay takes.
    pub events_binding: String,
    /// Where results go.
    pub results_exchange: String,
    /// How many messages may be in hand at once, at most.
    pub prefetch: u16,
    /// How many bytes of messages may be in hand at once.
    pub window_bytes: u64,
    /// The shortest wait in a delay queue.
    pub delay_unit: Duration,
}

/// `broker.declare`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Declare {
    /// Declare what is missing; refuse what differs.
    Create,
    /// Only check that everything is there, for brokers that forbid configuring.
    Verify,
}

/// `events.*`
#[derive(Debug, Clone)]
pub struct EventsConfig {
    /// The largest event message.
    pub max_bytes: u64,
}

/// `subscriptions.*`
#[derive(Debug, Clone)]
pub struct SubscriptionsConfig {
    /// The YAML file.
    pub file: PathBuf,
}

/// `store.*`
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// Where the database is, with credentials; `None` without one.
    pub url: Option<Secret>,
}

/// `secrets.*`
#[derive(Debug, Clone)]
pub struct SecretsConfig {
    /// The first key encrypts, all of them decrypt.
    pub keys: KeyRing,
}

/// `admin.*`
#[derive(Debug, Clone)]
pub struct AdminConfig {
    /// Where health and metrics are served.
    pub listen: SocketAddr,
}

/// `delivery.*`
#[derive(Debug, Clone)]
pub struct DeliveryConfig {
    /// The deadline of one whole exchange.
    pub timeout: Duration,
    /// The part of it that connecting may take.
    pub connect_timeout: Duration,
    /// The wait after the first failed attempt.
    pub backoff: Duration,
    /// Attempts in all.
    pub max_attempts: u32,
    /// The age that ends every kind of waiting.
    pub max_age: Duration,
}

/// `limits.*`
#[derive(Debug, Clone)]
pub struct LimitsConfig {
    /// How fast a target's lane may send; `None` without a limit.
    pub rate: Option<RateLimit>,
    /// Requests in flight per target.
    pub max_in_flight: u32,
}

/// `egress.*`
#[derive(Debug, Clone)]
pub struct EgressConfig {
    /// Otherwise refused networks that may be connected to.
    pub allow: Vec<IpNet>,
    /// Networks that may not be connected to, even if public.
    pub deny: Vec<IpNet>,
}

/// `shutdown.*`
#[derive(Debug, Clone)]
pub struct ShutdownConfig {
    /// How long what is in flight may take to finish.
    pub grace: Duration,
}

/// `metrics.*`
#[derive(Debug, Clone)]
pub struct MetricsConfig {
    /// How many organizations have series of their own; all others together are `other`.
    pub organizations: usize,
}

/// `log.*`
#[derive(Debug, Clone)]
pub struct LogConfig {
    /// How lines look.
    pub format: LogFormat,
    /// Which lines appear: a `tracing` filter such as `info` or `docrelay=debug,warn`.
    pub level: String,
}

/// `log.format`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    Auto,
    /// Text for people.
    Text,
    /// One JSON object a line.
    Json,
}
