//! Shows the settings in force as TOML, secrets hidden: what `check-config` prints.

use url::Url;

use super::{
    ApiConfig, ArtifactsConfig, ArtifactsPlace, BrokerConfig, Config, Declare, LogFormat, SecretsConfig, StoreConfig,
    TargetsConfig, TracingConfig, TracingProtocol, read::size,
};
use crate::domain::{RateLimit, Secret, Timestamp};

/// What stands for a secret.
const HIDDEN: &str = "***";

/// All settings in force as TOML. Secrets are hidden, so it is safe to show; it is not meant to be read back.
#[must_use]
pub fn render(config: &Config) -> String {
    let Config {
        broker,
        events,
        subscriptions,
        api,
        store,
        secrets,
        admin,
        delivery,
        limits,
        egress,
        targets,
        artifacts,
        tracing,
        shutdown,
        metrics,
        log,
    } = config;
    let mut toml = Toml(Vec::new());
    render_broker(&mut toml, broker);
    toml.section("events");
    toml.text("max_bytes", &size(events.max_bytes));
    toml.section("subscriptions");
    toml.text("file", &subscriptions.file.display().to_string());
    render_api(&mut toml, api);
    render_store(&mut toml, store, secrets);
    toml.section("admin");
    toml.text("listen", &admin.listen.to_string());
    toml.section("delivery");
    toml.duration("timeout", delivery.timeout);
    toml.duration("connect_timeout", delivery.connect_timeout);
    toml.duration("backoff", delivery.backoff);
    toml.plain("max_attempts", delivery.max_attempts);
    toml.duration("max_age", delivery.max_age);
    toml.section("limits");
    toml.plain("max_in_flight", limits.max_in_flight);
    // Numbers that are whole are written so, and read back as the same.
    toml.plain("per_second", limits.rate.map_or(0.0, RateLimit::per_second));
    toml.plain("burst", limits.rate.map_or(0, |rate| rate.burst().get()));
    toml.section("egress");
    toml.list("allow", &egress.allow);
    toml.list("deny", &egress.deny);
    render_targets(&mut toml, targets);
    render_artifacts(&mut toml, artifacts);
    render_tracing(&mut toml, tracing);
    toml.section("shutdown");
    toml.duration("grace", shutdown.grace);
    toml.section("metrics");
    toml.plain("organizations", metrics.organizations);
    toml.section("log");
    toml.text(
        "format",
        match log.format {
            LogFormat::Auto => "auto",
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        },
    );
    toml.text("level", &log.level);
    toml.0.concat()
}

fn render_broker(toml: &mut Toml, broker: &BrokerConfig) {
    toml.section("broker");
    toml.text("url", &without_password(&broker.url));
    toml.text("ca_file", &broker.ca_file.as_ref().map(|path| path.display().to_string()).unwrap_or_default());
    toml.text(
        "declare",
        match broker.declare {
            Declare::Create => "create",
            Declare::Verify => "verify",
        },
    );
    toml.text("queue_prefix", &broker.queue_prefix);
    toml.text("events_exchange", &broker.events_exchange);
    toml.text("events_binding", &broker.events_binding);
    toml.text("results_exchange", &broker.results_exchange);
    toml.plain("prefetch", broker.prefetch);
    toml.text("window_bytes", &size(broker.window_bytes));
    toml.duration("delay_unit", broker.delay_unit);
}

fn render_store(toml: &mut Toml, store: &StoreConfig, secrets: &SecretsConfig) {
    toml.section("store");
    toml.text("url", &store.url.as_ref().map(without_password).unwrap_or_default());
    toml.section("secrets");
    let keys: Vec<String> = secrets.keys.iter().map(|key| format!("{}:{HIDDEN}", key.id())).collect();
    toml.list("keys", &keys);
}

fn render_api(toml: &mut Toml, api: &ApiConfig) {
    toml.section("api");
    toml.text("listen", &api.listen.map(|address| address.to_string()).unwrap_or_default());
}

fn render_targets(toml: &mut Toml, targets: &TargetsConfig) {
    let amqp = &targets.amqp;
    toml.section("targets.amqp");
    toml.text("url", &amqp.url.as_ref().map(without_password).unwrap_or_default());
    toml.text("ca_file", &amqp.ca_file.as_ref().map(|path| path.display().to_string()).unwrap_or_default());
    toml.list("allow", &amqp.exchanges.listed());
}

/// What comes from `AZURE_*`, `AWS_*` and `GOOGLE_*` is not shown: those variables are not ours.
fn render_artifacts(toml: &mut Toml, artifacts: &ArtifactsConfig) {
    toml.section("artifacts");
    toml.text("url", &artifacts.place.as_ref().map(ArtifactsPlace::to_url).unwrap_or_default());
    toml.text("public_url", artifacts.public_url.as_ref().map(Url::as_str).unwrap_or_default());
    let keys: Vec<String> = artifacts.signing_keys.iter().map(|key| format!("{}:{HIDDEN}", key.id)).collect();
    toml.list("signing_keys", &keys);
    let options: Vec<String> = artifacts.options.keys().map(|name| format!("{name}={HIDDEN}")).collect();
    toml.list("options", &options);
    toml.text("credentials_expire", &artifacts.credentials_expire.map(Timestamp::to_rfc3339).unwrap_or_default());
}

fn render_tracing(toml: &mut Toml, tracing: &TracingConfig) {
    toml.section("tracing");
    toml.text("endpoint", tracing.endpoint.as_deref().unwrap_or_default());
    toml.text(
        "protocol",
        match tracing.protocol {
            TracingProtocol::Grpc => "grpc",
            TracingProtocol::Http => "http",
        },
    );
    toml.plain("sample", tracing.sample);
}

/// TOML in the making, line by line.
struct Toml(Vec<String>);

impl Toml {
    fn section(&mut self, name: &str) {
        let gap = if self.0.is_empty() { "" } else { "\n" };
        self.0.push(format!("{gap}[{name}]\n"));
    }

    fn plain(&mut self, key: &str, value: impl std::fmt::Display) {
        self.0.push(format!("{key} = {value}\n"));
    }

    fn text(&mut self, key: &str, value: &str) {
        self.plain(key, quoted(value));
    }

    fn duration(&mut self, key: &str, value: std::time::Duration) {
        self.text(key, &humantime::format_duration(value).to_string());
    }

    fn list(&mut self, key: &str, values: &[impl std::fmt::Display]) {
        let items: Vec<String> = values.iter().map(|value| quoted(&value.to_string())).collect();
        self.plain(key, format!("[{}]", items.join(", ")));
    }
}

/// A TOML basic string.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            letter if letter.is_control() => quoted.extend(format!("\\u{:04X}", u32::from(letter)).chars()),
            letter => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}

/// A URL without password and query, which may hold keys.
fn without_password(url: &Secret) -> String {
    let Ok(mut url) = Url::parse(url.reveal()) else { return HIDDEN.to_owned() };
    if url.query().is_some() {
        url.set_query(Some(HIDDEN));
    }
    url.set_fragment(None);
    if url.password().is_some() && url.set_password(Some(HIDDEN)).is_err() {
        return HIDDEN.to_owned();
    }
    url.to_string()
}
