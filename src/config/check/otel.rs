//! The variables that OpenTelemetry has for traces, `OTEL_*`. Clusters set them in every pod, for services of all kinds: what
//! we cannot use of them is told and ignored, and never stops the service. Where they switch traces off no other is read.

use std::time::Duration;

use percent_encoding::percent_decode_str;

use super::tracing::{PROTOCOLS, address};

/// The address for all signals: each has a path of its own below it.
pub(super) const BASE: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

const SAMPLER: &str = "OTEL_TRACES_SAMPLER";

/// What the variables say, as far as it can be used.
#[derive(Debug)]
pub(in crate::config) struct Variables {
    /// Settings of ours, with the variable's name.
    pub(in crate::config) settings: Vec<(&'static str, &'static str, String)>,
    /// Whether nothing is recorded, whatever the settings say.
    pub(super) is_off: bool,
    /// Whether one of them names an endpoint, be it a good one or not.
    pub(super) name_endpoint: bool,
    /// Whether what upstream decided holds.
    pub(super) follows_parent: bool,
    pub(super) service_name: Option<String>,
    pub(super) resource: Vec<(String, String)>,
    pub(super) queue: Option<usize>,
    pub(super) batch: Option<usize>,
    pub(super) delay: Option<Duration>,
    /// Which are ignored, and why: one line each.
    pub(super) warnings: Vec<String>,
}

impl Variables {
    /// Reads them.
    pub(in crate::config) fn read(environment: &[(String, String)]) -> Self {
        let mut read = Variable { environment, warnings: Vec::new() };
        let mut found = Self {
            settings: Vec::new(),
            is_off: read.switch_off(),
            name_endpoint: false,
            follows_parent: true,
            service_name: None,
            resource: Vec::new(),
            queue: None,
            batch: None,
            delay: None,
            warnings: Vec::new(),
        };
        if found.is_off {
            return found;
        }
        if let Some((name, protocol)) =
            read.first(&["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"], protocol)
        {
            found.settings.push(("tracing.protocol", name, protocol));
        }
        let endpoints = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", BASE];
        found.name_endpoint = endpoints.iter().any(|name| read.find(name).is_some());
        if let Some((name, endpoint)) = read.first(&endpoints, |text| address(text).map(|_| text.to_owned())) {
            found.settings.push(("tracing.endpoint", name, endpoint));
        }
        if let Some((name, (follows_parent, share))) = read.first(&[SAMPLER], sampler) {
            let share = share.map(str::to_owned);
            let share = share.or_else(|| Some(read.first(&["OTEL_TRACES_SAMPLER_ARG"], ratio)?.1));
            found.follows_parent = follows_parent;
            found.settings.push(("tracing.sample", name, share.unwrap_or_else(|| "1".to_owned())));
        }
        let resource = resource(read.find("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default());
        let given = resource.iter().find(|(name, _)| name == "service.name").map(|(_, value)| value.clone());
        found.service_name = read.find("OTEL_SERVICE_NAME").map(str::to_owned).or(given);
        found.resource = resource.into_iter().filter(|(name, _)| name != "service.name").collect();
        found.queue = read.first(&["OTEL_BSP_MAX_QUEUE_SIZE"], number).map(|(_, number)| number);
        found.batch = read.first(&["OTEL_BSP_MAX_EXPORT_BATCH_SIZE"], number).map(|(_, number)| number);
        found.delay = read.first(&["OTEL_BSP_SCHEDULE_DELAY"], number).map(|(_, it)| Duration::from_millis(it));
        found.warnings = read.warnings;
        found
    }
}

/// Finds variables.
struct Variable<'a> {
    environment: &'a [(String, String)],
    warnings: Vec<String>,
}

impl<'a> Variable<'a> {
    /// One that is empty is not set, as OpenTelemetry has it.
    fn find(&self, name: &str) -> Option<&'a str> {
        let found = self.environment.iter().find(|(found, _)| found == name);
        found.map(|(_, value)| value.trim()).filter(|value| !value.is_empty())
    }

    /// What the first of them says that `parse` understands, and which one that is.
    fn first<T>(
        &mut self,
        names: &[&'static str],
        parse: impl Fn(&'a str) -> Result<T, String>,
    ) -> Option<(&'static str, T)> {
        for name in names {
            match self.find(name).map(&parse) {
                Some(Ok(value)) => return Some((name, value)),
                Some(Err(why)) => self.warnings.push(format!("The variable {name} is ignored: {why}")),
                None => {}
            }
        }
        None
    }

    /// Whether nothing is to be recorded.
    fn switch_off(&mut self) -> bool {
        let is_disabled = self.first(&["OTEL_SDK_DISABLED"], |text| match text.to_ascii_lowercase().as_str() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(format!("expected true or false, got {text:?}")),
        });
        let no_exporter = self.first(&["OTEL_TRACES_EXPORTER"], |text| match text {
            "none" => Ok(true),
            _ if text.split(',').any(|name| name.trim() == "otlp") => Ok(false),
            _ => Err(format!("expected otlp or none, got {text:?}")),
        });
        [is_disabled, no_exporter].iter().flatten().any(|(_, is_off)| *is_off)
            || self.find(SAMPLER) == Some("always_off")
    }
}

fn protocol(text: &str) -> Result<String, String> {
    let is_known = PROTOCOLS.iter().any(|(name, _)| *name == text);
    if is_known { Ok(text.to_owned()) } else { Err(format!("expected grpc or http/protobuf, got {text:?}")) }
}

/// Whether a sampler asks what upstream decided, and its share if it has no argument.
fn sampler(name: &str) -> Result<(bool, Option<&'static str>), String> {
    match name {
        "always_on" => Ok((false, Some("1"))),
        "traceidratio" => Ok((false, None)),
        "parentbased_always_on" => Ok((true, Some("1"))),
        "parentbased_always_off" => Ok((true, Some("0"))),
        "parentbased_traceidratio" => Ok((true, None)),
        _ => Err(format!(
            "expected always_on, always_off, traceidratio, or one of them after \"parentbased_\", got {name:?}"
        )),
    }
}

fn ratio(text: &str) -> Result<String, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(text.to_owned()),
        _ => Err(format!("expected a number from 0 to 1, got {text:?}")),
    }
}

fn number<T: std::str::FromStr + Default + PartialOrd>(text: &str) -> Result<T, String> {
    let number = text.parse::<T>().ok().filter(|number| *number > T::default());
    number.ok_or_else(|| format!("expected a whole number from 1 on, got {text:?}"))
}

/// `name=value,name=value`, percent-encoded. What is no pair is left out, as OpenTelemetry has it.
fn resource(text: &str) -> Vec<(String, String)> {
    let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
    let decoded = |text: &str| percent_decode_str(text.trim()).decode_utf8_lossy().into_owned();
    pairs.map(|(name, value)| (decoded(name), decoded(value))).filter(|(name, _)| !name.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, TracingConfig, TracingProtocol, load};

    const ENDPOINT: (&str, &str) = ("DOCRELAY__TRACING__ENDPOINT", "http://tempo:4317");

    /// What no service of ours can use, as it is found in clusters.
    const ODD: [(&str, &str); 8] = [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://u:hunter2@collector"),
        ("OTEL_TRACES_SAMPLER", "jaeger_remote"),
        ("OTEL_TRACES_EXPORTER", "zipkin"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "many"),
        ("OTEL_BSP_SCHEDULE_DELAY", "-1"),
        ("OTEL_SDK_DISABLED", "perhaps"),
    ];

    fn with(variables: &[(&str, &str)]) -> TracingConfig {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let Config { tracing, .. } = load(&[], variables).unwrap();
        tracing
    }

    #[test]
    fn what_is_odd_is_told_and_ignored() {
        for odd in ODD {
            let tracing = with(&[ENDPOINT, odd]);
            let [warning] = &tracing.warnings[..] else { panic!("{odd:?}: {:?}", tracing.warnings) };
            assert!(warning.starts_with(&format!("The variable {} is ignored: expected ", odd.0)), "{warning}");
            assert!(!warning.contains('\n') && !warning.contains("hunter2"), "{warning}");
            assert_eq!(
                (tracing.endpoint.as_deref(), tracing.protocol),
                (Some("http://tempo:4317/"), TracingProtocol::Grpc)
            );
            assert!((tracing.sample - 1.0).abs() < f64::EPSILON && tracing.follows_parent, "{tracing:?}");
        }
        let argument = ("OTEL_TRACES_SAMPLER_ARG", "2");
        let tracing = with(&[ENDPOINT, ("OTEL_TRACES_SAMPLER", "traceidratio"), argument]);
        assert!((tracing.sample - 1.0).abs() < f64::EPSILON && tracing.warnings.len() == 1, "{tracing:?}");
        // The next one that says the same holds.
        let (bad, good) =
            (("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"));
        assert_eq!(with(&[ENDPOINT, bad, good]).protocol, TracingProtocol::Http);
    }

    #[test]
    fn nothing_is_said_of_them_where_traces_are_off() {
        let no_endpoint = ODD.into_iter().filter(|(name, _)| !name.ends_with("ENDPOINT")).collect::<Vec<_>>();
        let tracing = with(&no_endpoint);
        assert_eq!((tracing.endpoint, tracing.warnings), (None, Vec::new()));
        for off in
            [("OTEL_SDK_DISABLED", "TRUE"), ("OTEL_TRACES_EXPORTER", "none"), ("OTEL_TRACES_SAMPLER", "always_off")]
        {
            let mut variables = vec![ENDPOINT, off];
            variables.extend(ODD.into_iter().filter(|(name, _)| *name != off.0));
            let tracing = with(&variables);
            assert_eq!((tracing.endpoint, tracing.warnings), (None, Vec::new()), "{off:?}");
        }
        // An endpoint that cannot be used is why they are off.
        let tracing = with(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317")]);
        assert_eq!((tracing.endpoint, tracing.warnings.len()), (None, 1));
    }
}
