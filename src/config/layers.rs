//! The layers of settings, one over the other: compiled defaults, files, environment. Knows names and places, not meanings.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use ::config::{Config as Merged, ConfigError, FileFormat, Format, Map, Source, Value, ValueKind};

use super::{
    check,
    problems::{Problems, did_you_mean},
};

/// Every setting with its default and what it means.
pub(super) const DEFAULTS: &str = include_str!("../../config/default.toml");

/// Where a value comes from that nobody set.
const DEFAULTS_PLACE: &str = "default.toml (compiled in)";

/// What every variable of ours begins with. Kubernetes injects `DOCRELAY_SERVICE_HOST` and its kin beside a service of
/// that name: they have one underscore and are none of ours.
const PREFIX: &str = "DOCRELAY__";

/// What names the file that holds the value instead.
const FILE_SUFFIX: &str = "_FILE";

/// Settings of one place, by their full key, as `broker.url`.
#[derive(Debug, Clone, Default)]
struct Layer(BTreeMap<String, Value>);

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        Ok(self.0.clone().into_iter().collect())
    }
}

/// All layers as one; each value remembers its place. What is unknown or unreadable has become a problem.
pub(super) fn merge(
    files: &[PathBuf],
    environment: impl Iterator<Item = (String, String)>,
    problems: &mut Problems,
) -> Merged {
    let environment: Vec<_> = environment.collect();
    let defaults = default_layer(problems);
    let known: BTreeSet<String> = defaults.0.keys().cloned().collect();
    let mut builder = Merged::builder().add_source(defaults);
    for path in files {
        builder = builder.add_source(file_layer(path, &known, problems));
    }
    builder = builder.add_source(otel_layer(&environment));
    builder.add_source(environment_layer(environment.iter().cloned(), &known, problems)).build().unwrap_or_else(
        |error| {
            problems.add("settings", "", error.to_string());
            Merged::default()
        },
    )
}

/// The value of a key, in whichever layer it was set last.
pub(super) fn value_at<'a>(merged: &'a Merged, key: &str) -> Option<&'a Value> {
    // Not `Merged::get`: it forgets where a value came from.
    key.split('.').try_fold(&merged.cache, |value, name| match &value.kind {
        ValueKind::Table(table) => table.get(name),
        _ => None,
    })
}

/// The place a value was set at.
pub(super) fn place_of(value: &Value) -> &str {
    value.origin().unwrap_or(DEFAULTS_PLACE)
}

fn default_layer(problems: &mut Problems) -> Layer {
    let mut layer = Layer::default();
    match FileFormat::Toml.parse(Some(&DEFAULTS_PLACE.to_owned()), DEFAULTS) {
        Ok(table) => flatten("", table, &mut layer),
        Err(error) => problems.add(DEFAULTS_PLACE, "", without_source(&error.to_string())),
    }
    layer
}

fn file_layer(path: &Path, known: &BTreeSet<String>, problems: &mut Problems) -> Layer {
    let place = format!("file {}", path.display());
    let mut layer = Layer::default();
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            problems.add(place, "", format!("cannot be read: {error}"));
            return layer;
        }
    };
    match FileFormat::Toml.parse(Some(&place), text.trim_start_matches('\u{feff}')) {
        Ok(table) => flatten("", table, &mut layer),
        Err(error) => problems.add(place.as_str(), "", without_source(&error.to_string())),
    }
    layer.0.retain(|key, value| {
        let is_known = known.contains(key);
        if !is_known {
            problems.add(place.as_str(), key, unknown(key, value, known));
        }
        is_known
    });
    layer
}

/// What OpenTelemetry's variables say about settings of ours.
fn otel_layer(environment: &[(String, String)]) -> Layer {
    let found = check::otel::Variables::read(environment).settings.into_iter();
    Layer(
        found.map(|(key, name, text)| (key.to_owned(), Value::new(Some(&format!("variable {name}")), text))).collect(),
    )
}

fn environment_layer(
    environment: impl Iterator<Item = (String, String)>,
    known: &BTreeSet<String>,
    problems: &mut Problems,
) -> Layer {
    let mut layer = Layer::default();
    // In a fixed order, so that the same mistakes read the same every time.
    let variables: BTreeMap<String, String> = environment.filter(|(name, _)| name.starts_with(PREFIX)).collect();
    for (name, text) in variables {
        let Some((key, in_file)) = key_of(&name, known) else {
            let key = name.trim_start_matches(PREFIX).replace("__", ".").to_lowercase();
            let guess = did_you_mean(&key, known.iter().map(String::as_str));
            problems.add(format!("variable {name}"), "", format!("names no setting: there is no {key:?}{guess}"));
            continue;
        };
        if layer.0.contains_key(&key) {
            problems.add(format!("variable {name}"), &key, "is set twice: as itself and by a file; keep one");
            continue;
        }
        let (place, text) = if in_file {
            match fs::read_to_string(&text) {
                Ok(content) => {
                    let content = content.strip_suffix('\n').unwrap_or(&content);
                    let content = content.strip_suffix('\r').unwrap_or(content).to_owned();
                    (format!("variable {name} (file {text})"), content)
                }
                Err(error) => {
                    problems.add(format!("variable {name}"), &key, format!("cannot read the file {text}: {error}"));
                    continue;
                }
            }
        } else {
            (format!("variable {name}"), text)
        };
        layer.0.insert(key, Value::new(Some(&place), text));
    }
    layer
}

/// Which setting a variable names, and whether it names a file that holds the value.
fn key_of(name: &str, known: &BTreeSet<String>) -> Option<(String, bool)> {
    let as_key = |text: &str| text.replace("__", ".").to_lowercase();
    let rest = name.strip_prefix(PREFIX)?;
    // A setting whose own name ends in "file" comes first: DOCRELAY__BROKER__CA_FILE is broker.ca_file.
    let key = as_key(rest);
    if known.contains(&key) {
        return Some((key, false));
    }
    let key = as_key(rest.strip_suffix(FILE_SUFFIX)?);
    known.contains(&key).then_some((key, true))
}

/// Nested tables become full keys; lists stay values.
fn flatten(section: &str, table: Map<String, Value>, layer: &mut Layer) {
    for (name, value) in table {
        let key = if section.is_empty() { name } else { format!("{section}.{name}") };
        match value.kind {
            ValueKind::Table(inner) if !inner.is_empty() => flatten(&key, inner, layer),
            // An empty section sets nothing.
            ValueKind::Table(_) => {}
            _ => {
                layer.0.insert(key, value);
            }
        }
    }
}

fn unknown(key: &str, value: &Value, known: &BTreeSet<String>) -> String {
    let section = format!("{key}.");
    if known.iter().any(|name| name.starts_with(&section)) {
        return format!("is a section: expected [{key}] with settings below it, got {}", kind_of(value));
    }
    format!("unknown setting{}", did_you_mean(key, known.iter().map(String::as_str)))
}

/// What kind of value it is, for people. Not the value: it may be a secret.
pub(super) fn kind_of(value: &Value) -> &'static str {
    match value.kind {
        ValueKind::Nil => "nothing",
        ValueKind::Boolean(_) => "true or false",
        ValueKind::I64(_) | ValueKind::I128(_) | ValueKind::U64(_) | ValueKind::U128(_) => "a whole number",
        ValueKind::Float(_) => "a fraction",
        ValueKind::String(_) => "text",
        ValueKind::Table(_) => "a section",
        ValueKind::Array(_) => "a list",
    }
}

/// A TOML error without the source line that it quotes between gutters: that line may hold a secret.
fn without_source(error: &str) -> String {
    let mut lines: Vec<&str> = error.lines().collect();
    if lines.len() > 4 {
        lines.drain(1..4);
    }
    lines.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(text: &str, environment: &[(&str, &str)]) -> (Merged, Problems) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("docrelay.toml");
        fs::write(&path, text).unwrap();
        let mut problems = Problems::none();
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let merged = merge(&[path], environment, &mut problems);
        (merged, problems)
    }

    fn text_at(merged: &Merged, key: &str) -> String {
        merged.get_string(key).unwrap()
    }

    #[test]
    fn the_environment_wins_over_files_and_files_over_defaults() {
        let (merged, problems) = merged(
            "[broker]\nqueue_prefix = \"from-file\"\nevents_exchange = \"from-file\"",
            &[("DOCRELAY__BROKER__QUEUE_PREFIX", "from-environment")],
        );
        assert!(problems.is_empty(), "{problems}");
        assert_eq!(text_at(&merged, "broker.queue_prefix"), "from-environment");
        assert_eq!(text_at(&merged, "broker.events_exchange"), "from-file");
        assert_eq!(text_at(&merged, "broker.results_exchange"), "documents.results");
    }

    #[test]
    fn later_files_win_over_earlier_ones() {
        let folder = tempfile::tempdir().unwrap();
        let paths = ["one", "two"].map(|name| folder.path().join(name));
        fs::write(&paths[0], "[broker]\nprefetch = 1\nqueue_prefix = \"one\"").unwrap();
        fs::write(&paths[1], "[broker]\nprefetch = 2").unwrap();
        let merged = merge(&paths, std::iter::empty(), &mut Problems::none());
        assert_eq!(text_at(&merged, "broker.prefetch"), "2");
        assert_eq!(text_at(&merged, "broker.queue_prefix"), "one");
    }

    #[test]
    fn a_value_remembers_its_place() {
        let (merged, _) = merged("[log]\nlevel = \"warn\"", &[("DOCRELAY__LOG__FORMAT", "json")]);
        assert!(place_of(value_at(&merged, "log.level").unwrap()).ends_with("docrelay.toml"));
        assert_eq!(place_of(value_at(&merged, "log.format").unwrap()), "variable DOCRELAY__LOG__FORMAT");
        assert_eq!(place_of(value_at(&merged, "admin.listen").unwrap()), DEFAULTS_PLACE);
    }

    #[test]
    fn a_variable_may_name_a_file_with_the_value() {
        let folder = tempfile::tempdir().unwrap();
        let secret = folder.path().join("url");
        fs::write(&secret, "amqp://mounted/\r\n").unwrap();
        let (merged, problems) = merged("", &[("DOCRELAY__BROKER__URL_FILE", secret.to_str().unwrap())]);
        assert!(problems.is_empty(), "{problems}");
        assert_eq!(text_at(&merged, "broker.url"), "amqp://mounted/");
    }

    #[test]
    fn settings_that_end_in_file_are_not_taken_for_mounted_values() {
        let (merged, problems) = merged(
            "",
            &[("DOCRELAY__BROKER__CA_FILE", "/no/ca.pem"), ("DOCRELAY__SUBSCRIPTIONS__FILE", "/no/subscriptions.yaml")],
        );
        assert!(problems.is_empty(), "{problems}");
        assert_eq!(text_at(&merged, "broker.ca_file"), "/no/ca.pem");
        assert_eq!(text_at(&merged, "subscriptions.file"), "/no/subscriptions.yaml");
    }

    #[test]
    fn a_mounted_value_that_cannot_be_read_is_a_problem_that_names_variable_and_path() {
        let (_, problems) = merged("", &[("DOCRELAY__BROKER__URL_FILE", "/nowhere/url")]);
        let text = problems.to_string();
        assert!(text.contains("DOCRELAY__BROKER__URL_FILE") && text.contains("/nowhere/url"), "{text}");
    }

    #[test]
    fn a_setting_given_both_ways_is_a_problem() {
        let (_, problems) =
            merged("", &[("DOCRELAY__BROKER__URL", "amqp://a/"), ("DOCRELAY__BROKER__URL_FILE", "/nowhere")]);
        assert!(problems.to_string().contains("set twice"), "{problems}");
    }

    #[test]
    fn unknown_settings_are_problems_that_name_place_and_key() {
        let (_, problems) =
            merged("[broker]\nprefech = 1\n[brokr]\nurl = \"x\"", &[("DOCRELAY__BROKER__URI", "amqp://a/")]);
        let text = problems.to_string();
        assert_eq!(problems.len(), 3, "{text}");
        assert!(text.contains("docrelay.toml: broker.prefech: unknown setting (did you mean \"broker.prefetch\"?)"));
        assert!(text.contains("docrelay.toml: brokr.url: unknown setting (did you mean \"broker.url\"?)"));
        assert!(text.contains("variable DOCRELAY__BROKER__URI: names no setting"));
    }

    #[test]
    fn variables_that_kubernetes_injects_are_none_of_ours() {
        let (_, problems) =
            merged("", &[("DOCRELAY_SERVICE_HOST", "10.0.0.1"), ("DOCRELAY_PORT", "tcp://10.0.0.1:80")]);
        assert!(problems.is_empty(), "{problems}");
    }

    #[test]
    fn a_section_set_as_a_value_is_a_problem_that_says_so() {
        let (_, problems) = merged("broker = \"amqp://user:hunter2@host\"", &[]);
        assert!(problems.to_string().contains("broker: is a section: expected [broker]"), "{problems}");
        assert!(!problems.to_string().contains("hunter2"));
    }

    #[test]
    fn a_syntax_error_names_the_line_and_never_quotes_it() {
        let (_, problems) = merged("[broker]\nurl = \"amqp://user:hunter2@host", &[]);
        let text = problems.to_string();
        assert_eq!(problems.len(), 1, "{text}");
        assert!(text.contains("line 2") && !text.contains("hunter2"), "{text}");
    }

    #[test]
    fn a_missing_file_is_a_problem() {
        let mut problems = Problems::none();
        merge(&[PathBuf::from("/nowhere/docrelay.toml")], std::iter::empty(), &mut problems);
        assert!(problems.to_string().contains("file /nowhere/docrelay.toml: cannot be read"), "{problems}");
    }
}
