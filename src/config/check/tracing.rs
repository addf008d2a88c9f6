//! Reads `tracing.*`, and the variables that OpenTelemetry has for the same.
//!
//! `OTEL_*` win over files, as the environment does, and `DOCRELAY__TRACING__*` over them. Headers, deadlines and
//! certificates of the exporter are not read here: it reads those itself.

use std::time::Duration;

use percent_encoding::percent_decode_str;
use url::Url;

use crate::config::{TracingConfig, TracingProtocol, read::Reader};

/// How many spans may wait to be sent: half a second's of a busy service, about 10 MiB.
const QUEUE: usize = 8192;

/// How many are sent together.
const BATCH: usize = 512;

/// How long a span waits for others.
const DELAY: Duration = Duration::from_secs(1);

/// Where OTLP over HTTP takes spans.
const PATH: &str = "v1/traces";

/// What the variables say, as settings of ours with the variable's name. What they say wrong is found when it is read.
pub(in crate::config) fn variables(environment: &[(String, String)]) -> Vec<(&'static str, &'static str, String)> {
    let find = |name: &str| variable(environment, name);
    let mut found = Vec::new();
    let protocol = ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"];
    let protocol = protocol.into_iter().find_map(|name| Some((name, find(name)?)));
    if let Some((name, protocol)) = protocol {
        found.push(("tracing.protocol", name, protocol.to_owned()));
    }
    if let Some(endpoint) = find("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") {
        found.push(("tracing.endpoint", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", endpoint.to_owned()));
    } else if let Some(endpoint) = find("OTEL_EXPORTER_OTLP_ENDPOINT") {
        // This one is for all signals: each has a path of its own below it.
        let is_http = protocol.is_some_and(|(_, protocol)| protocol.starts_with("http"));
        let endpoint = if is_http { format!("{}/{PATH}", endpoint.trim_end_matches('/')) } else { endpoint.to_owned() };
        found.push(("tracing.endpoint", "OTEL_EXPORTER_OTLP_ENDPOINT", endpoint));
    }
    if let Some(sampler) = find("OTEL_TRACES_SAMPLER") {
        let share = match sampler {
            "always_on" | "parentbased_always_on" => Some("1"),
            "always_off" | "parentbased_always_off" => Some("0"),
            "traceidratio" | "parentbased_traceidratio" => Some(find("OTEL_TRACES_SAMPLER_ARG").unwrap_or("1")),
            _ => None,
        };
        found.push(("tracing.sample", "OTEL_TRACES_SAMPLER", share.unwrap_or(sampler).to_owned()));
    }
    found
}

/// `tracing.*`
pub(super) fn tracing(read: &mut Reader<'_>, environment: &[(String, String)]) -> TracingConfig {
    let find = |name: &str| variable(environment, name);
    let protocols =
        [("grpc", TracingProtocol::Grpc), ("http", TracingProtocol::Http), ("http/protobuf", TracingProtocol::Http)];
    let protocol = read.choice("tracing.protocol", &protocols, TracingProtocol::Grpc);
    let endpoint = read.parsed("tracing.endpoint", |text| endpoint(text, protocol));
    let sample = read.decimal_or_none("tracing.sample", 0.0..=1.0).unwrap_or(0.0);
    let sampler = find("OTEL_TRACES_SAMPLER").unwrap_or_default();
    let is_off = find("OTEL_SDK_DISABLED").is_some_and(|it| it.eq_ignore_ascii_case("true"))
        || find("OTEL_TRACES_EXPORTER") == Some("none")
        || sampler == "always_off";
    let resource = resource(find("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default());
    let given = resource.iter().find(|(name, _)| name == "service.name").map(|(_, value)| value.clone());
    let number = |name: &str| find(name)?.parse::<usize>().ok().filter(|number| *number > 0);
    let delay = find("OTEL_BSP_SCHEDULE_DELAY").and_then(|it| it.parse().ok()).map(Duration::from_millis);
    TracingConfig {
        endpoint: endpoint.filter(|_| !is_off),
        protocol,
        sample,
        follows_parent: !matches!(sampler, "always_on" | "traceidratio"),
        service_name: find("OTEL_SERVICE_NAME").map(str::to_owned).or(given).unwrap_or_else(|| "docrelay".to_owned()),
        resource: resource.into_iter().filter(|(name, _)| name != "service.name").collect(),
        queue: number("OTEL_BSP_MAX_QUEUE_SIZE").unwrap_or(QUEUE),
        batch: number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE").unwrap_or(BATCH),
        delay: delay.filter(|delay| !delay.is_zero()).unwrap_or(DELAY),
    }
}

/// One that is empty is not set, as OpenTelemetry has it.
fn variable<'a>(environment: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let found = environment.iter().find(|(found, _)| found == name);
    found.map(|(_, value)| value.trim()).filter(|value| !value.is_empty())
}

fn endpoint(text: &str, protocol: TracingProtocol) -> Result<Option<String>, String> {
    const EXPECTED: &str = "expected the address of an OTLP collector such as \"http://tempo:4317\"";
    if text.is_empty() {
        return Ok(None);
    }
    let mut url = Url::parse(text).map_err(|error| format!("{EXPECTED}, got something that is no URL: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err(format!("{EXPECTED}: http:// or https:// and a host"));
    }
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
        return Err(format!("{EXPECTED}, without a password or a query: use OTEL_EXPORTER_OTLP_HEADERS for a key"));
    }
    if protocol == TracingProtocol::Http && url.path() == "/" {
        url.set_path(PATH);
    }
    Ok(Some(url.to_string()))
}

/// `name=value,name=value`, percent-encoded. What is no pair is left out, as OpenTelemetry has it.
fn resource(text: &str) -> Vec<(String, String)> {
    let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
    let decoded = |text: &str| percent_decode_str(text.trim()).decode_utf8_lossy().into_owned();
    pairs.map(|(name, value)| (decoded(name), decoded(value))).filter(|(name, _)| !name.is_empty()).collect()
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
    fn samplers_are_known_by_their_names() {
        let of = |sampler: &str, argument: &str| {
            let variables = [("OTEL_TRACES_SAMPLER", sampler), ("OTEL_TRACES_SAMPLER_ARG", argument)];
            with(&variables).map(|config| (config.tracing.sample.to_string(), config.tracing.follows_parent))
        };
        for (sampler, argument, share, follows_parent) in [
            ("always_on", "", "1", false),
            ("traceidratio", "0.25", "0.25", false),
            ("parentbased_always_on", "", "1", true),
            ("parentbased_always_off", "0.5", "0", true),
            ("parentbased_traceidratio", "0.01", "0.01", true),
        ] {
            assert_eq!(of(sampler, argument).unwrap(), (share.to_owned(), follows_parent), "{sampler}");
        }
        let told = of("jaeger_remote", "").unwrap_err().to_string();
        assert!(told.contains("variable OTEL_TRACES_SAMPLER: tracing.sample: expected"), "{told}");
        let told = of("parentbased_traceidratio", "2").unwrap_err().to_string();
        assert!(told.contains("from 0 to 1, got \"2\""), "{told}");
    }

    #[test]
    fn an_endpoint_holds_no_secret_and_is_an_address() {
        for bad in ["tempo:4317", "ftp://tempo", "http://u:hunter2@tempo:4317", "http://tempo/?key=hunter2"] {
            let told = with(&[("DOCRELAY__TRACING__ENDPOINT", bad)]).unwrap_err().to_string();
            assert!(told.contains("tracing.endpoint: expected") && !told.contains("hunter2"), "{told}");
        }
        let told = with(&[("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")]).unwrap_err().to_string();
        assert!(told.contains("variable OTEL_EXPORTER_OTLP_PROTOCOL: tracing.protocol"), "{told}");
        let shown = render(&with(&[("DOCRELAY__TRACING__ENDPOINT", "http://tempo:4317")]).unwrap());
        assert!(
            shown.contains("[tracing]\nendpoint = \"http://tempo:4317/\"\nprotocol = \"grpc\"\nsample = 1"),
            "{shown}"
        );
    }
}
