//! Reads `tracing.*`, and the variables that OpenTelemetry has for the same.
//!
//! `OTEL_*` win over files, as the environment does, and `DOCRELAY__TRACING__*` over them. Headers and deadlines of the
//! exporter are not read here: it reads those itself.

use std::time::Duration;

use url::Url;

use super::otel::{self, Variables};
use crate::config::{
    TracingConfig, TracingProtocol,
    layers::{place_of, value_at},
    read::Reader,
};

/// How many spans may wait to be sent: half a second's of a busy service, about 10 MiB.
const QUEUE: usize = 8192;

/// How many are sent together.
const BATCH: usize = 512;

/// How long a span waits for others.
const DELAY: Duration = Duration::from_secs(1);

/// Where OTLP over HTTP takes spans.
const PATH: &str = "v1/traces";

/// What a protocol may be called.
pub(super) const PROTOCOLS: [(&str, TracingProtocol); 3] =
    [("grpc", TracingProtocol::Grpc), ("http", TracingProtocol::Http), ("http/protobuf", TracingProtocol::Http)];

/// `tracing.*`
pub(super) fn tracing(read: &mut Reader<'_>, environment: &[(String, String)]) -> TracingConfig {
    let otel = Variables::read(environment);
    let protocol = read.choice("tracing.protocol", &PROTOCOLS, TracingProtocol::Grpc);
    let place = value_at(read.merged, "tracing.endpoint").map(place_of);
    let is_base = place.is_some_and(|place| place.strip_prefix("variable ") == Some(otel::BASE));
    let endpoint = read.parsed("tracing.endpoint", |text| endpoint(text, protocol, is_base));
    let sample = read.decimal_or_none("tracing.sample", 0.0..=1.0).unwrap_or(0.0);
    let endpoint = endpoint.filter(|_| !otel.is_off);
    // Where nobody wants traces nobody wants to hear of them.
    let is_wanted = endpoint.is_some() || otel.name_endpoint;
    TracingConfig {
        endpoint,
        protocol,
        sample,
        follows_parent: otel.follows_parent,
        service_name: otel.service_name.unwrap_or_else(|| "docrelay".to_owned()),
        resource: otel.resource,
        queue: otel.queue.unwrap_or(QUEUE),
        batch: otel.batch.unwrap_or(BATCH),
        delay: otel.delay.unwrap_or(DELAY),
        warnings: otel.warnings.into_iter().filter(|_| is_wanted).collect(),
    }
}

/// `is_base` says that it is the one for all signals: traces go below it where it has a path.
fn endpoint(text: &str, protocol: TracingProtocol, is_base: bool) -> Result<Option<String>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let mut url = address(text)?;
    if protocol == TracingProtocol::Http && (is_base || url.path() == "/") {
        let path = format!("{}/{PATH}", url.path().trim_end_matches('/'));
        url.set_path(&path);
    }
    Ok(Some(url.to_string()))
}

/// The address of a collector. What is wrong with it is told without repeating it: it may hold a secret.
pub(super) fn address(text: &str) -> Result<Url, String> {
    const EXPECTED: &str = "expected the address of an OTLP collector such as \"http://tempo:4317\"";
    let url = Url::parse(text).map_err(|error| format!("{EXPECTED}, got something that is no URL: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err(format!("{EXPECTED}: http:// or https:// and a host"));
    }
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
        return Err(format!("{EXPECTED}, without a password or a query: use OTEL_EXPORTER_OTLP_HEADERS for a key"));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, Problems, TracingProtocol, load, render};

    fn with(variables: &[(&str, &str)]) -> Result<Config, Problems> {
        load(&[], variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
    }

    fn endpoint(variables: &[(&str, &str)]) -> Option<String> {
        with(variables).unwrap().tracing.endpoint
    }

    #[test]
    fn nothing_is_exported_unless_an_endpoint_is_named() {
        let tracing = with(&[]).unwrap().tracing;
        assert_eq!((tracing.endpoint, tracing.protocol), (None, TracingProtocol::Grpc));
        assert!((tracing.sample - 1.0).abs() < f64::EPSILON && tracing.follows_parent);
        assert_eq!(tracing.service_name, "docrelay");
    }

    #[test]
    fn the_standard_variables_hold_and_ours_win_over_them() {
        let generic = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://tempo:4318/otlp/");
        let http = ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf");
        assert_eq!(endpoint(&[generic, http]).as_deref(), Some("http://tempo:4318/otlp/v1/traces"));
        let traces = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://tempo:4318/spans");
        assert_eq!(endpoint(&[generic, traces, http]).as_deref(), Some("http://tempo:4318/spans"));
        let ours = ("DOCRELAY__TRACING__ENDPOINT", "http://other:4317");
        assert_eq!(endpoint(&[generic, traces, ours]).as_deref(), Some("http://other:4317/"));
        let by_http = ("DOCRELAY__TRACING__PROTOCOL", "http");
        assert_eq!(endpoint(&[ours, by_http]).as_deref(), Some("http://other:4317/v1/traces"));
        for off in
            [("OTEL_SDK_DISABLED", "TRUE"), ("OTEL_TRACES_SAMPLER", "always_off"), ("OTEL_TRACES_EXPORTER", "none")]
        {
            assert_eq!(endpoint(&[ours, off]), None, "{off:?}");
        }
        let resource = ("OTEL_RESOURCE_ATTRIBUTES", "service.name=relay,deployment.environment.name=a%20b,nothing");
        let tracing = with(&[resource, ("OTEL_BSP_SCHEDULE_DELAY", "250")]).unwrap().tracing;
        assert_eq!(tracing.service_name, "relay");
        assert_eq!(tracing.resource, [("deployment.environment.name".to_owned(), "a b".to_owned())]);
        assert_eq!(tracing.delay.as_millis(), 250);
        assert_eq!(with(&[resource, ("OTEL_SERVICE_NAME", "x")]).unwrap().tracing.service_name, "x");
    }

    #[test]
    fn the_path_of_traces_is_added_once_the_protocol_is_known() {
        let base = ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://x/otlp");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("docrelay.toml");
        std::fs::write(&path, "[tracing]\nprotocol = \"http\"").unwrap();
        let config = load(&[path], [(base.0.to_owned(), base.1.to_owned())].into_iter()).unwrap();
        assert_eq!(config.tracing.endpoint.as_deref(), Some("https://x/otlp/v1/traces"));
        let (http, grpc) = (("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"), ("DOCRELAY__TRACING__PROTOCOL", "grpc"));
        assert_eq!(endpoint(&[base, http, grpc]).as_deref(), Some("https://x/otlp"));
        // What names traces alone is taken as it is, and so is a setting of ours.
        let ours = ("DOCRELAY__TRACING__ENDPOINT", "https://x/otlp");
        assert_eq!(endpoint(&[base, ours, http]).as_deref(), Some("https://x/otlp"));
    }

    #[test]
    fn samplers_are_known_by_their_names() {
        let of = |sampler: &str, argument: &str| {
            let variables = [("OTEL_TRACES_SAMPLER", sampler), ("OTEL_TRACES_SAMPLER_ARG", argument)];
            let tracing = with(&variables).unwrap().tracing;
            (tracing.sample.to_string(), tracing.follows_parent)
        };
        for (sampler, argument, share, follows_parent) in [
            ("always_on", "", "1", false),
            ("traceidratio", "0.25", "0.25", false),
            ("parentbased_always_on", "", "1", true),
            ("parentbased_always_off", "0.5", "0", true),
            ("parentbased_traceidratio", "0.01", "0.01", true),
        ] {
            assert_eq!(of(sampler, argument), (share.to_owned(), follows_parent), "{sampler}");
        }
    }

    #[test]
    fn an_endpoint_holds_no_secret_and_is_an_address() {
        for bad in ["tempo:4317", "ftp://tempo", "http://u:hunter2@tempo:4317", "http://tempo/?key=hunter2"] {
            let told = with(&[("DOCRELAY__TRACING__ENDPOINT", bad)]).unwrap_err().to_string();
            assert!(told.contains("tracing.endpoint: expected") && !told.contains("hunter2"), "{told}");
        }
        let told = with(&[("DOCRELAY__TRACING__PROTOCOL", "http/json")]).unwrap_err().to_string();
        assert!(told.contains("variable DOCRELAY__TRACING__PROTOCOL: tracing.protocol"), "{told}");
        let shown = render(&with(&[("DOCRELAY__TRACING__ENDPOINT", "http://tempo:4317")]).unwrap());
        assert!(
            shown.contains("[tracing]\nendpoint = \"http://tempo:4317/\"\nprotocol = \"grpc\"\nsample = 1"),
            "{shown}"
        );
    }
}
