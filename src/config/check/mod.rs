//! From merged layers to a checked [`Config`]: the meaning of every setting, and what several must be together.

mod artifacts;
pub(super) mod otel;
mod targets;
mod tracing;

use std::{
    collections::HashSet,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use ::config::{Config as Merged, ValueKind};
use ipnet::IpNet;
use tracing_subscriber::filter::EnvFilter;
use url::Url;

use super::{
    AdminConfig, BrokerConfig, Config, Declare, DeliveryConfig, EgressConfig, EventsConfig, LimitsConfig, LogConfig,
    LogFormat, MetricsConfig, SecretsConfig, ShutdownConfig, StoreConfig, SubscriptionsConfig,
    layers::{self, value_at},
    problems::Problems,
    ranges,
    read::{Reader, size},
};
use crate::{
    domain::{RateLimit, RetryOn, RetryPolicy, Secret, WhileDown},
    secrets::{BadKey, Key, KeyRing},
};

/// Settings whose meaning is still to come. They stand in `default.toml` so that their names are settled; accepting
/// another value and ignoring it would be a lie.
const RESERVED: [&str; 9] = [
    "api.public_url",
    "egress.proxy",
    "failed.retention",
    "failed.max_bytes",
    "record.enabled",
    "record.delivered",
    "archive.enabled",
    "archive.max_age",
    "archive.max_bytes",
];

/// The smallest and the largest event limit. RabbitMQ 4 takes messages of 16 MiB by default; a parked event needs room
/// for what it owes.
const EVENT_BYTES: (u64, u64) = (1 << 10, 15 << 20);

/// The window: at least a megabyte, at most more than any machine has.
const WINDOW_BYTES: (u64, u64) = (1 << 20, 1 << 40);

/// More series than these bring would be too many for most who collect them.
const MOST_ORGANIZATIONS: u32 = 10_000;

/// The most bytes the name of an AMQP exchange or routing key may have.
const MAX_AMQP_NAME: usize = 255;

/// The longest prefix: what is put behind it must still fit into a queue's name.
const MAX_PREFIX: usize = 64;

/// Reads the settings: compiled defaults, then the files in their order, then the environment.
///
/// # Errors
/// Every problem of every layer at once, each with its place and key. None repeats a secret.
pub fn load(files: &[PathBuf], environment: impl Iterator<Item = (String, String)>) -> Result<Config, Problems> {
    let mut problems = Problems::none();
    let environment: Vec<(String, String)> = environment.collect();
    let merged = layers::merge(files, environment.iter().cloned(), &mut problems);
    let mut reader = Reader { merged: &merged, problems: &mut problems };
    let config = config(&mut reader, &environment);
    refuse_reserved(&mut reader);
    check_together(&mut reader, &config);
    problems.unless_any(config)
}

fn config(read: &mut Reader<'_>, environment: &[(String, String)]) -> Config {
    let broker = broker(read);
    Config {
        targets: targets::targets(read, &broker),
        broker,
        events: EventsConfig { max_bytes: read.bytes("events.max_bytes", EVENT_BYTES.0..=EVENT_BYTES.1) },
        subscriptions: SubscriptionsConfig { file: read.parsed("subscriptions.file", path) },
        api: artifacts::api(read),
        store: StoreConfig { url: read.parsed("store.url", store_url) },
        secrets: SecretsConfig { keys: key_ring(read) },
        admin: AdminConfig {
            listen: read
                .parsed("admin.listen", |text| {
                    text.parse().map(Some).map_err(|_| {
                        format!("expected an IP address and a port such as \"127.0.0.1:8081\", got {text:?}")
                    })
                })
                .unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0))),
        },
        delivery: DeliveryConfig {
            timeout: read.duration("delivery.timeout", ranges::TIMEOUT),
            connect_timeout: read.duration("delivery.connect_timeout", ranges::TIMEOUT),
            backoff: read.duration("delivery.backoff", ranges::BACKOFF),
            max_attempts: read.number("delivery.max_attempts", ranges::ATTEMPTS),
            max_age: read.duration("delivery.max_age", ranges::AGE),
        },
        limits: limits(read),
        egress: EgressConfig {
            allow: read.list("egress.allow", NETWORK, network),
            deny: read.list("egress.deny", NETWORK, network),
        },
        artifacts: artifacts::artifacts(read, environment),
        tracing: tracing::tracing(read, environment),
        shutdown: ShutdownConfig { grace: read.duration("shutdown.grace", Duration::ZERO..=Duration::from_hours(1)) },
        metrics: MetricsConfig { organizations: read.number("metrics.organizations", 0..=MOST_ORGANIZATIONS) as usize },
        log: LogConfig {
            format: read.choice(
                "log.format",
                &[("auto", LogFormat::Auto), ("text", LogFormat::Text), ("json", LogFormat::Json)],
                LogFormat::Auto,
            ),
            level: read.parsed("log.level", log_level),
        },
    }
}

fn broker(read: &mut Reader<'_>) -> BrokerConfig {
    BrokerConfig {
        url: Secret::new(read.parsed("broker.url", amqp_url)),
        ca_file: Some(read.text("broker.ca_file")).filter(|path| !path.is_empty()).map(PathBuf::from),
        declare: read.choice(
            "broker.declare",
            &[("create", Declare::Create), ("verify", Declare::Verify)],
            Declare::Create,
        ),
        queue_prefix: read.parsed("broker.queue_prefix", prefix),
        events_exchange: read.parsed("broker.events_exchange", amqp_name),
        events_binding: read.parsed("broker.events_binding", amqp_name),
        results_exchange: read.parsed("broker.results_exchange", amqp_name),
        // The range ends where u16 does; 0 would mean no limit at all to the broker.
        prefetch: u16::try_from(read.number("broker.prefetch", 1..=u32::from(u16::MAX))).unwrap_or(u16::MAX),
        window_bytes: read.bytes("broker.window_bytes", WINDOW_BYTES.0..=WINDOW_BYTES.1),
        delay_unit: read.duration("broker.delay_unit", Duration::from_millis(1)..=Duration::from_mins(1)),
    }
}

/// 0 stands for no limit, and for a burst of a second's worth.
fn limits(read: &mut Reader<'_>) -> LimitsConfig {
    let max_in_flight = read.number("limits.max_in_flight", ranges::IN_FLIGHT);
    let per_second = read.decimal_or_none("limits.per_second", ranges::PER_SECOND);
    let burst = read.number_or_none("limits.burst", ranges::BURST);
    if burst.is_some() && per_second.is_none() && read.are_sound(&["limits.per_second"]) {
        read.problem("limits.burst", "needs limits.per_second, which is 0: there is no limit that it could belong to");
    }
    let rate = per_second.map(|per_second| RateLimit::new(per_second, burst)).transpose();
    // Both numbers were checked: no other problem is left.
    let rate = rate.map_err(|error| read.problem("limits.per_second", error.to_string())).unwrap_or_default();
    LimitsConfig { rate, max_in_flight }
}

/// What settings must be together. Only sound ones are compared, so that one mistake makes one problem.
fn check_together(read: &mut Reader<'_>, config: &Config) {
    let delivery = &config.delivery;
    let plan = RetryPolicy {
        on: RetryOn::AnyFailure,
        backoff: delivery.backoff,
        max_attempts: delivery.max_attempts,
        max_age: delivery.max_age,
        while_down: WhileDown::default(),
    };
    if read.are_sound(&["delivery.backoff", "delivery.max_attempts", "delivery.max_age"])
        && let Err(misfit) = plan.check()
    {
        read.problem("delivery.max_age", misfit.to_string());
    }
    if read.are_sound(&["broker.window_bytes", "events.max_bytes"])
        && config.broker.window_bytes < config.events.max_bytes
    {
        let (least, found) = (size(config.events.max_bytes), size(config.broker.window_bytes));
        read.problem(
            "broker.window_bytes",
            format!("must hold one event: expected at least events.max_bytes ({least}), got {found}"),
        );
    }
    if read.are_sound(&["broker.events_exchange", "broker.results_exchange"])
        && config.broker.events_exchange == config.broker.results_exchange
    {
        read.problem("broker.results_exchange", "must not be broker.events_exchange: results would come in as events");
    }
    artifacts::check_together(read, config);
    targets::check_together(read, &config.targets);
}

fn refuse_reserved(read: &mut Reader<'_>) {
    let defaults = layers::merge(&[], std::iter::empty(), &mut Problems::none());
    for key in RESERVED {
        if !is_still_off(read.merged, &defaults, key) {
            read.problem(key, "not supported yet: leave it as it is in default.toml");
        }
    }
}

fn is_still_off(merged: &Merged, defaults: &Merged, key: &str) -> bool {
    let (Some(value), Some(default)) = (value_at(merged, key), value_at(defaults, key)) else { return true };
    match (&value.kind, &default.kind) {
        // The environment has texts only: "false" is false, "" is no list.
        (ValueKind::String(text), ValueKind::Array(_)) => text.is_empty(),
        (ValueKind::String(text), off) => *text == off.to_string(),
        (found, off) => found == off,
    }
}

fn amqp_url(text: &str) -> Result<String, String> {
    let url = Url::parse(text).map_err(|error| {
        format!("expected amqp://user:password@host:5672/vhost, got something that is no URL: {error}")
    })?;
    if !matches!(url.scheme(), "amqp" | "amqps") {
        return Err("must begin with amqp:// or amqps://".to_owned());
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err("has no host: expected amqp://user:password@host:5672/vhost".to_owned());
    }
    Ok(text.to_owned())
}

fn store_url(text: &str) -> Result<Option<Secret>, String> {
    const EXPECTED: &str = "expected sqlite://PATH or postgres://user:password@host/database";
    if text.is_empty() {
        return Ok(None);
    }
    if let Some(path) = text.strip_prefix("sqlite://") {
        if path.is_empty() || path.contains(['?', '#']) {
            return Err(format!("{EXPECTED}, got a sqlite:// without a plain path"));
        }
        return Ok(Some(Secret::new(text)));
    }
    let url = Url::parse(text).map_err(|error| format!("{EXPECTED}, got something that is no URL: {error}"))?;
    match url.scheme() {
        "postgres" | "postgresql" if url.host_str().is_some() => Ok(Some(Secret::new(text))),
        "postgres" | "postgresql" => Err(format!("{EXPECTED}, got no host")),
        _ => Err(format!("{EXPECTED}, got something else")),
    }
}

fn key_ring(read: &mut Reader<'_>) -> KeyRing {
    let keys: Vec<Key> = read.secrets("secrets.keys", "keys as `docrelay secrets init` makes them", |text| {
        text.parse().map_err(|error: BadKey| error.to_string())
    });
    let mut names = HashSet::new();
    if let Some(twice) = keys.iter().find(|key| !names.insert(key.id())) {
        read.problem("secrets.keys", format!("the key {:?} is there twice: names must differ", twice.id()));
    }
    KeyRing::new(keys)
}

fn prefix(text: &str) -> Result<String, String> {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '-' | '_');
    if text.is_empty() || text.len() > MAX_PREFIX || !text.chars().all(plain) {
        return Err(format!("expected 1 to {MAX_PREFIX} letters, digits, '.', '-' or '_', got {text:?}"));
    }
    if text.starts_with("amq.") {
        return Err("must not begin with \"amq.\": the broker keeps those names for itself".to_owned());
    }
    Ok(text.to_owned())
}

fn amqp_name(text: &str) -> Result<String, String> {
    match text.len() {
        0 => Err("must not be empty".to_owned()),
        length if length > MAX_AMQP_NAME => Err(format!("must have at most {MAX_AMQP_NAME} bytes, has {length}")),
        _ => Ok(text.to_owned()),
    }
}

fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() { Err("expected a path, got nothing".to_owned()) } else { Ok(PathBuf::from(text)) }
}

const NETWORK: &str = "an IP address or network such as \"10.0.0.0/8\"";

fn network(text: &str) -> Option<IpNet> {
    text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).ok()
}

fn log_level(text: &str) -> Result<String, String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let expected =
        "expected off, error, warn, info, debug or trace, or a filter such as \"info,docrelay::broker=debug\"";
    let bad = |why: &str| Err(format!("{expected}, got {text:?}{why}"));
    // The filter would take a misspelt level for the name of a module, and then show nothing.
    let first = text.split(',').next().unwrap_or_default().trim();
    if !first.contains(['=', '[']) && !LEVELS.contains(&first.to_lowercase().as_str()) {
        return bad("");
    }
    match EnvFilter::builder().parse(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => bad(&format!(": {error}")),
    }
}

#[cfg(test)]
mod tests;
