//! From merged layers to a checked [`Config`]: the meaning of every setting, and what several must be together.

use std::{
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
    LogFormat, ShutdownConfig, SubscriptionsConfig,
    layers::{self, value_at},
    problems::Problems,
    ranges,
    read::{Reader, size},
};
use crate::domain::{RetryPolicy, Secret};

/// Settings whose meaning is still to come. They stand in `default.toml` so that their names are settled; accepting
/// another value and ignoring it would be a lie.
const RESERVED: [&str; 21] = [
    "store.url",
    "api.listen",
    "api.public_url",
    "limits.per_second",
    "limits.burst",
    "egress.proxy",
    "targets.amqp",
    "artifacts.url",
    "artifacts.public_url",
    "artifacts.signing_keys",
    "failed.retention",
    "failed.max_bytes",
    "record.enabled",
    "record.delivered",
    "archive.enabled",
    "archive.max_age",
    "archive.max_bytes",
    "secrets.keys",
    "telemetry.otlp_endpoint",
    "telemetry.sampling",
    "telemetry.organization_labels",
];

/// The smallest and the largest event limit. RabbitMQ 4 takes messages of 16 MiB by default; a parked event needs room
/// for what it owes.
const EVENT_BYTES: (u64, u64) = (1 << 10, 15 << 20);

/// The window: at least a megabyte, at most more than any machine has.
const WINDOW_BYTES: (u64, u64) = (1 << 20, 1 << 40);

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
    let merged = layers::merge(files, environment, &mut problems);
    let mut reader = Reader { merged: &merged, problems: &mut problems };
    let config = config(&mut reader);
    refuse_reserved(&mut reader);
    check_together(&mut reader, &config);
    problems.unless_any(config)
}

fn config(read: &mut Reader<'_>) -> Config {
    Config {
        broker: broker(read),
        events: EventsConfig { max_bytes: read.bytes("events.max_bytes", EVENT_BYTES.0..=EVENT_BYTES.1) },
        subscriptions: SubscriptionsConfig { file: read.parsed("subscriptions.file", path) },
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
        limits: LimitsConfig { max_in_flight: read.number("limits.max_in_flight", ranges::IN_FLIGHT) },
        egress: EgressConfig {
            allow: read.list("egress.allow", NETWORK, network),
            deny: read.list("egress.deny", NETWORK, network),
        },
        shutdown: ShutdownConfig { grace: read.duration("shutdown.grace", Duration::ZERO..=Duration::from_hours(1)) },
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

/// What settings must be together. Only sound ones are compared, so that one mistake makes one problem.
fn check_together(read: &mut Reader<'_>, config: &Config) {
    let delivery = &config.delivery;
    if read.are_sound(&["delivery.timeout", "delivery.connect_timeout"]) && delivery.connect_timeout > delivery.timeout
    {
        let timeout = humantime::format_duration(delivery.timeout);
        let found = humantime::format_duration(delivery.connect_timeout);
        read.problem(
            "delivery.connect_timeout",
            format!("is part of delivery.timeout: expected at most {timeout}, got {found}"),
        );
    }
    let plan =
        RetryPolicy { backoff: delivery.backoff, max_attempts: delivery.max_attempts, max_age: delivery.max_age };
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
mod tests {
    use super::{super::render, *};

    fn with(variables: &[(&str, &str)]) -> Result<Config, Problems> {
        load(&[], variables.iter().map(|(name, value)| (format!("DOCRELAY__{name}"), (*value).to_owned())))
    }

    fn file(text: &str) -> Result<Config, Problems> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("docrelay.toml");
        std::fs::write(&path, text).unwrap();
        load(&[path], std::iter::empty())
    }

    fn only_problem(config: Result<Config, Problems>) -> String {
        let problems = config.unwrap_err();
        assert_eq!(problems.len(), 1, "{problems}");
        problems.to_string()
    }

    #[test]
    fn the_defaults_have_no_problem() {
        let config = with(&[]).unwrap();
        assert_eq!(config.broker.url.reveal(), "amqp://guest:guest@127.0.0.1:5672/%2f");
        assert_eq!(config.broker.ca_file, None);
        assert_eq!(config.broker.declare, Declare::Create);
        assert_eq!(config.broker.prefetch, 500);
        assert_eq!(config.broker.window_bytes, 256 << 20);
        assert_eq!(config.events.max_bytes, 8 << 20);
        assert_eq!(config.delivery.max_attempts, 10);
        assert!(config.admin.listen.ip().is_loopback());
        assert_eq!(config.egress.allow, []);
        assert_eq!(config.shutdown.grace, Duration::from_secs(65));
        assert_eq!(config.log.format, LogFormat::Auto);
    }

    #[test]
    fn every_default_that_is_not_read_is_reserved() {
        // What `render` shows is what is read.
        let read = render(&with(&[]).unwrap());
        let mut section = String::new();
        for line in layers::DEFAULTS.lines() {
            if let Some(name) = line.strip_prefix('[') {
                section = name.trim_end_matches(']').to_owned();
            } else if let Some((name, _)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) {
                let is_read = read
                    .split(&format!("[{section}]\n"))
                    .nth(1)
                    .and_then(|rest| rest.split("\n\n").next())
                    .is_some_and(|lines| lines.lines().any(|line| line.starts_with(&format!("{name} = "))));
                let is_reserved = RESERVED.contains(&format!("{section}.{name}").as_str());
                assert!(is_read != is_reserved, "{section}.{name}: read {is_read}, reserved {is_reserved}");
            }
        }
    }

    #[test]
    fn reserved_settings_are_refused_until_they_mean_something() {
        for (name, value) in [
            ("STORE__URL", "postgres://user:hunter2@db/docrelay"),
            ("API__LISTEN", "0.0.0.0:8080"),
            ("LIMITS__PER_SECOND", "10"),
            ("TARGETS__AMQP", "erp"),
            ("RECORD__ENABLED", "true"),
            ("EGRESS__PROXY", "http://proxy:3128"),
            ("TELEMETRY__SAMPLING", "0.1"),
        ] {
            let text = only_problem(with(&[(name, value)]));
            assert!(text.contains("not supported yet") && text.contains(name), "{text}");
            assert!(!text.contains("hunter2"), "{text}");
        }
        let text = only_problem(file("[[targets.amqp]]\norganization = \"acme\""));
        assert!(text.contains("targets.amqp: not supported yet"), "{text}");
    }

    #[test]
    fn reserved_settings_may_be_given_as_they_are() {
        assert!(with(&[("RECORD__ENABLED", "false"), ("TARGETS__AMQP", ""), ("LIMITS__BURST", "0")]).is_ok());
        assert!(file("[record]\nenabled = false\n[targets]\namqp = []").is_ok());
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let problems = with(&[
            ("BROKER__URL", "http://host/"),
            ("BROKER__PREFETCH", "0"),
            ("DELIVERY__TIMEOUT", "61s"),
            ("EGRESS__ALLOW", "10.0.0.0/8, nowhere"),
            ("LOG__FORMAT", "xml"),
            ("STORE__URL", "sqlite:x"),
        ])
        .unwrap_err();
        for key in ["broker.url", "broker.prefetch", "delivery.timeout", "egress.allow", "log.format", "store.url"] {
            assert!(problems.iter().any(|problem| problem.key == key), "{key} is missing in\n{problems}");
        }
        assert_eq!(problems.len(), 6, "{problems}");
    }

    #[test]
    fn a_problem_says_what_was_expected_and_what_was_found() {
        let text = only_problem(with(&[("DELIVERY__TIMEOUT", "2 fortnights")]));
        assert_eq!(
            text,
            "variable DOCRELAY__DELIVERY__TIMEOUT: delivery.timeout: expected a duration such as \"15s\", from 1ms to 1m, got \"2 fortnights\""
        );
    }

    #[test]
    fn what_is_wrong_with_the_brokers_url_is_said_without_repeating_it() {
        for url in
            ["http://user:hunter2@host/", "hunter2", "amqp:hunter2", "amqp://user:hunter2@", "amqp://u:hunter2@h:x/"]
        {
            let text = only_problem(with(&[("BROKER__URL", url)]));
            assert!(text.contains("broker.url") && !text.contains("hunter2"), "{text}");
        }
        let text = only_problem(file("[broker]\nurl = [\"hunter2\"]"));
        assert!(!text.contains("hunter2"), "{text}");
    }

    #[test]
    fn values_of_the_wrong_kind_are_problems() {
        for text in [
            "[broker]\nprefetch = \"many\"",
            "[broker]\nprefetch = 1.5",
            "[broker]\nprefetch = 65536",
            "[broker]\nprefetch = -1",
            "[broker]\nqueue_prefix = \"a b\"",
            "[broker]\nqueue_prefix = \"amq.x\"",
            "[broker]\nevents_exchange = \"\"",
            "[broker]\ndelay_unit = 1",
            "[events]\nmax_bytes = \"16MiB\"",
            "[admin]\nlisten = \"localhost\"",
            "[delivery]\nmax_attempts = 0",
            "[delivery]\nmax_age = \"8d\"",
            "[egress]\nallow = [1]",
            "[log]\nlevel = \"verbose\"",
            "[log]\nlevel = \"info,docrelay=loud\"",
        ] {
            only_problem(file(text));
        }
    }

    #[test]
    fn settings_that_do_not_go_together_are_problems() {
        for (variables, expected) in [
            (&[("DELIVERY__TIMEOUT", "2s")][..], "delivery.connect_timeout"),
            (&[("DELIVERY__MAX_ATTEMPTS", "20")], "the retry plan does not fit"),
            (&[("DELIVERY__MAX_AGE", "17m 2s")], "the retry plan does not fit"),
            (&[("BROKER__WINDOW_BYTES", "7MiB")], "at least events.max_bytes (8MiB)"),
            (&[("BROKER__RESULTS_EXCHANGE", "documents")], "broker.results_exchange"),
        ] {
            let text = only_problem(with(variables));
            assert!(text.contains(expected), "{text}");
        }
        // 2 + 4 + ... + 512 seconds are 17 minutes and 2 seconds.
        assert!(with(&[("DELIVERY__MAX_AGE", "17m 3s")]).is_ok());
    }

    #[test]
    fn lists_are_read_from_files_and_from_the_environment() {
        let from_file = file("[egress]\nallow = [\"10.0.0.0/8\", \"::1\"]").unwrap();
        let from_environment = with(&[("EGRESS__ALLOW", "10.0.0.0/8,::1")]).unwrap();
        assert_eq!(from_file.egress.allow, from_environment.egress.allow);
        assert_eq!(from_file.egress.allow.len(), 2);
    }

    #[test]
    fn planted_secrets_are_never_shown() {
        let url = "amqps://relay:hunter2@host:5671/v?token=hunter2#hunter2";
        let config = with(&[("BROKER__URL", url)]).unwrap();
        let shown = render(&config);
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(shown.contains("url = \"amqps://relay:***@host:5671/v?***\""), "{shown}");
        assert!(!format!("{config:?}").contains("hunter2"));
        assert!(!format!("{config:#?}").contains("hunter2"));
    }

    #[test]
    fn what_is_rendered_reads_back_as_the_same_settings() {
        let variables =
            [("EGRESS__DENY", "8.8.8.0/24"), ("BROKER__CA_FILE", "/etc/\"ca\\.pem"), ("EVENTS__MAX_BYTES", "1000000")];
        let shown = render(&with(&variables).unwrap());
        assert_eq!(render(&file(&shown).unwrap()), shown);
    }
}
