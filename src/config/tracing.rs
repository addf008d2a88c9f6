//! Where spans are sent, and which: the values of `tracing.*`, and what the variables say that OpenTelemetry has for it.

use std::time::Duration;

/// `tracing.*`
#[derive(Debug, Clone)]
pub struct TracingConfig {
    /// Where spans are sent; `None` when nothing is recorded.
    pub endpoint: Option<String>,
    /// How.
    pub protocol: TracingProtocol,
    /// The share of traces that begin here and are recorded, from 0 to 1.
    pub sample: f64,
    /// Whether an event that comes with a trace is recorded if that is.
    pub follows_parent: bool,
    /// What the service calls itself.
    pub service_name: String,
    /// What else is said of the process: names and values.
    pub resource: Vec<(String, String)>,
    /// How many spans may wait to be sent; what is more is dropped.
    pub queue: usize,
    /// How many are sent together.
    pub batch: usize,
    /// How long a span waits for others to be sent together.
    pub delay: Duration,
    /// Which of OpenTelemetry's variables are ignored, and why: one line each.
    pub warnings: Vec<String>,
}

/// `tracing.protocol`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TracingProtocol {
    /// OTLP over gRPC.
    Grpc,
    /// OTLP over HTTP, in protobuf.
    Http,
}
