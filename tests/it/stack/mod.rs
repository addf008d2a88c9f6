//! The stack around the service: what its files say of each other (`files`), what the dashboards search for among spans
//! (`spans`), and what Prometheus makes of the files and of the service (`prometheus`). Here is how they are read.

mod files;
mod prometheus;
mod spans;

use std::{collections::BTreeSet, path::PathBuf};

use saphyr::{LoadableYamlNode as _, Scalar, Yaml};
use serde_json::{Map, Value};

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn text(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// A YAML file as JSON, with what `<<` brings in.
fn yaml(name: &str) -> Value {
    let text = text(name);
    let documents = Yaml::load_from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(documents.len(), 1, "{name}");
    json(&documents[0])
}

fn json(node: &Yaml<'_>) -> Value {
    match node {
        Yaml::Value(Scalar::Boolean(it)) => Value::from(*it),
        Yaml::Value(Scalar::Integer(it)) => Value::from(*it),
        Yaml::Value(Scalar::FloatingPoint(it)) => Value::from(it.into_inner()),
        Yaml::Value(Scalar::String(it)) => Value::from(it.as_ref()),
        Yaml::Sequence(items) => items.iter().map(json).collect(),
        Yaml::Mapping(fields) => {
            let (mut own, mut merged) = (Map::new(), Map::new());
            for (key, field) in fields {
                match (key.as_str().expect("keys are text"), json(field)) {
                    ("<<", Value::Object(more)) => merged.extend(more),
                    ("<<", Value::Array(all)) => {
                        merged.extend(all.iter().flat_map(|more| more.as_object().unwrap().clone()));
                    }
                    (key, field) => {
                        own.insert(key.to_owned(), field);
                    }
                }
            }
            merged.extend(own);
            Value::Object(merged)
        }
        // Compose's `!reset` and `!override`: the value is what counts.
        Yaml::Tagged(_, inner) => json(inner),
        Yaml::Value(Scalar::Null) | Yaml::Representation(..) | Yaml::Alias(_) | Yaml::BadValue => Value::Null,
    }
}

/// The dashboards, by their files.
fn dashboards() -> Vec<(String, Value)> {
    let mut found: Vec<_> = std::fs::read_dir(path("deploy/grafana/dashboards"))
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap())
        })
        .collect();
    found.sort_by(|(one, _), (other, _)| one.cmp(other));
    assert!(found.len() >= 4, "the dashboards have moved");
    found
}

/// The panels of a dashboard, those in rows too.
fn panels(dashboard: &Value) -> Vec<&Value> {
    let own = dashboard["panels"].as_array().unwrap();
    own.iter()
        .flat_map(|panel| std::iter::once(panel).chain(panel["panels"].as_array().into_iter().flatten()))
        .collect()
}

/// A query in `PromQL`, and where it stands.
#[derive(Debug, Clone)]
struct Query {
    place: String,
    text: String,
}

/// Every query of every dashboard, with Grafana's variables replaced: `range` stands for each span of time.
fn dashboard_queries(range: &str) -> Vec<Query> {
    let mut queries = Vec::new();
    for (file, dashboard) in dashboards() {
        for panel in panels(&dashboard) {
            for target in panel["targets"].as_array().into_iter().flatten() {
                if let Some(text) = target["expr"].as_str() {
                    queries.push(Query {
                        place: format!("{file}: {}", panel["title"].as_str().unwrap_or_default()),
                        text: filled(text, &dashboard, range),
                    });
                }
            }
        }
    }
    assert!(queries.len() > 50, "the queries have moved");
    queries
}

fn filled(text: &str, dashboard: &Value, range: &str) -> String {
    let mut text = text.to_owned();
    for name in ["$__rate_interval", "$__interval", "$__range"] {
        text = text.replace(name, range);
    }
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        text = text.replace(&format!("${}", variable["name"].as_str().unwrap()), ".*");
    }
    assert!(!text.contains('$'), "a variable that the dashboard does not have: {text}");
    text
}

/// The alerts.
fn alerts() -> Vec<Value> {
    let groups = yaml("deploy/prometheus/alerts.yml");
    let rules =
        groups["groups"].as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap().clone());
    let alerts: Vec<_> = rules.filter(|rule| rule["alert"].is_string()).collect();
    assert!(alerts.len() >= 5, "the alerts have moved");
    alerts
}

/// The names in a text that begin so, such as `docrelay_events_total`.
fn names<'a>(text: &'a str, begin: &str) -> BTreeSet<&'a str> {
    let is_word = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let starts = text.match_indices(begin).filter(|(at, _)| !text[..*at].ends_with(is_word));
    starts.map(|(at, _)| &text[at..][..text[at..].find(|it: char| !is_word(it)).unwrap_or(text.len() - at)]).collect()
}
