//! Where commands get their settings from.

use std::path::PathBuf;

use crate::config::{self, Config};

/// The settings in force for a command.
///
/// # Errors
/// Every problem at once.
<<<<<<< HEAD
pub(super) fn load_config(files: &[PathBuf]) -> anyhow::Result<Config> {
    Ok(config::load(files, config::environment())?)
=======
pub(super) fn load_config(_files: &[PathBuf]) -> anyhow::Result<Config> {
    let mut config = defaults();
    for (name, value) in std::env::vars_os() {
        let (Some(name), Some(value)) = (name.to_str(), value.to_str()) else { continue };
        match name {
            "DOCRELAY__BROKER__URL" => config.broker.url = Secret::new(value),
            "DOCRELAY__BROKER__QUEUE_PREFIX" => value.clone_into(&mut config.broker.queue_prefix),
            "DOCRELAY__BROKER__EVENTS_EXCHANGE" => value.clone_into(&mut config.broker.events_exchange),
            "DOCRELAY__BROKER__RESULTS_EXCHANGE" => value.clone_into(&mut config.broker.results_exchange),
            "DOCRELAY__ADMIN__LISTEN" => config.admin.listen = value.parse().context("admin.listen")?,
            _ => {}
        }
    }
    Ok(config)
}

fn defaults() -> Config {
    Config {
        broker: BrokerConfig {
            url: Secret::new("amqp://guest:guest@127.0.0.1:5672/%2f"),
            ca_file: None,
            declare: Declare::Create,
            queue_prefix: "docrelay".to_owned(),
            events_exchange: "documents".to_owned(),
            events_binding: "#".to_owned(),
            results_exchange: "documents.results".to_owned(),
            prefetch: 500,
            window_bytes: 256 << 20,
            delay_unit: Duration::from_secs(1),
        },
        events: EventsConfig { max_bytes: 8 << 20 },
        subscriptions: SubscriptionsConfig { file: PathBuf::from("config/subscriptions.yaml") },
        admin: AdminConfig { listen: ([127, 0, 0, 1], 8081).into() },
        delivery: DeliveryConfig {
            timeout: Duration::from_secs(15),
            connect_timeout: Duration::from_secs(5),
            backoff: Duration::from_secs(2),
            max_attempts: 10,
            max_age: Duration::from_hours(24),
        },
        limits: LimitsConfig { max_in_flight: 32 },
        egress: EgressConfig { allow: Vec::new(), deny: Vec::new() },
        shutdown: ShutdownConfig { grace: Duration::from_secs(65) },
        log: LogConfig { format: LogFormat::Auto, level: "info".to_owned() },
    }
>>>>>>> cli
}
