//! The files that are shipped beside the program: they are examples only while the program accepts them.

use std::path::{Path, PathBuf};

use docrelay::{
    cli::check_config,
    config,
    store::{self, Defaults},
};
use saphyr::{LoadableYamlNode, Scalar, Yaml};
use serde_json::Value;

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(name)
}

fn text(name: &str) -> String {
    std::fs::read_to_string(shipped(name)).unwrap()
}

fn schema() -> jsonschema::Validator {
    jsonschema::validator_for(&serde_json::from_str(&text("subscriptions.schema.json")).unwrap()).unwrap()
}

fn defaults() -> Defaults {
    let targets = [("URL", "amqp://h/"), ("ALLOW", "b:erp.in")];
    let environment = targets.map(|(name, value)| (format!("DOCRELAY__TARGETS__AMQP__{name}"), value.to_owned()));
    Defaults { links: true, ..Defaults::from(&config::load(&[], environment.into_iter()).unwrap()) }
}

/// What an editor sees that knows YAML and the schema.
fn as_json(yaml: &Yaml<'_>) -> Value {
    match yaml {
        Yaml::Value(Scalar::Null) => Value::Null,
        Yaml::Value(Scalar::Boolean(claim)) => Value::from(*claim),
        Yaml::Value(Scalar::Integer(number)) => Value::from(*number),
        Yaml::Value(Scalar::FloatingPoint(number)) => Value::from(number.into_inner()),
        Yaml::Value(Scalar::String(text)) => Value::from(&**text),
        Yaml::Sequence(items) => items.iter().map(as_json).collect(),
        Yaml::Mapping(fields) => {
            fields.iter().map(|(name, value)| (name.as_str().unwrap().to_owned(), as_json(value))).collect()
        }
        other => panic!("unexpected YAML: {other:?}"),
    }
}

fn schema_accepts(schema: &jsonschema::Validator, text: &str) -> bool {
    schema.is_valid(&as_json(&Yaml::load_from_str(text).unwrap()[0]))
}

#[test]
fn the_examples_pass_check_config() {
    let subscriptions = shipped("subscriptions.example.yaml").to_str().unwrap().to_owned();
    let environment = [("DOCRELAY__SUBSCRIPTIONS__FILE".to_owned(), subscriptions)];
    let mut out = Vec::new();
    let is_well = check_config::run(&[shipped("production.example.toml")], environment.into_iter(), &mut out).unwrap();
    let out = String::from_utf8(out).unwrap();
    assert!(is_well, "{out}");
    assert!(out.contains("# 5 subscriptions in "), "{out}");
}

#[test]
fn the_example_of_subscriptions_passes_its_schema_and_names_it() {
    let text = text("subscriptions.example.yaml");
    let json = as_json(&Yaml::load_from_str(&text).unwrap()[0]);
    let complaints: Vec<String> = schema().iter_errors(&json).map(|error| error.to_string()).collect();
    assert_eq!(complaints, Vec::<String>::new());
    assert!(text.starts_with("# yaml-language-server: $schema=subscriptions.schema.json\n"));
}

#[test]
fn the_schema_is_a_valid_schema() {
    let schema = serde_json::from_str(&text("subscriptions.schema.json")).unwrap();
    jsonschema::meta::validate(&schema).unwrap();
}

/// Whole files that are refused.
const BAD_FILES: [&str; 10] = [
    "{}",
    "[]",
    "subscriptions:",
    "{subscriptions: [], more: 1}",
    "subscriptions: [{id: a, organization: b, events: [document_text]}]",
    "subscriptions: [{id: a, organization: b, target: {url: http://h/}}]",
    "subscriptions: [{id: a, organization: b, events: [], target: {url: http://h/}}]",
    "subscriptions: [{id: a, organization: b, events: [document_export], target: {url: http://h/}}]",
    "subscriptions: [{id: 1, organization: b, events: [document_text], target: {url: http://h/}}]",
    "subscriptions: [{id: '', organization: b, events: [document_text], target: {url: http://h/}}]",
];

/// Targets that are accepted.
const GOOD_TARGETS: [&str; 5] = [
    "url: https://h/",
    "url: 'http://h:1/:id', template: true, method: PURGE, timeout: 1m, type: http",
    "url: https://h/, headers: {X-A: b, hostess: c}",
    "type: amqp, exchange: erp.in, routing_key: a.b, timeout: 5s",
    "type: amqp, exchange: erp.in, routing_key: ''",
];

/// Targets that are refused.
const BAD_TARGETS: [&str; 24] = [
    "method: POST",
    "url: ftp://h/",
    "url: h",
    "url: http://h/, type: amqp",
    "type: amqp",
    "type: amqp, exchange: ''",
    "type: amqp, exchange: amq.topic",
    "type: amqp, exchange: 1",
    "type: amqp, exchange: erp.in, url: http://h/",
    "type: amqp, exchange: erp.in, headers: {}",
    "type: amqp, exchange: erp.in, routing_key: 1",
    "type: mqtt, exchange: erp.in",
    "url: http://h/, exchange: erp.in",
    "url: http://h/, template: maybe",
    "url: http://h/, method: 'A B'",
    "url: http://h/, method: post",
    "url: http://h/, timeout: 15",
    "url: http://h/, timeout: soon",
    "url: http://h/, headers: {HOST: x}",
    "url: http://h/, headers: {Webhook-Signature: x}",
    "url: http://h/, headers: {'a b': x}",
    "url: http://h/, headers: {a: 1}",
    "url: http://h/, headers: {a: ä}",
    "url: http://h/, unknown: 1",
];

/// Further fields that are accepted.
const GOOD_FIELDS: [&str; 15] = [
    "name: ERP, inboxes: [a], projects: [], payload: contractfit, max_in_flight: 1, enabled: false",
    "retry: {backoff: 500ms, max_attempts: 1, max_age: 1h 30m}",
    "auth: {authorization: Bearer x}",
    "retry: {while_down: hold}",
    "retry: {while_down: count, max_attempts: 2}",
    "rate_limit: {per_second: 0.001, burst: 100000}",
    "rate_limit: {per_second: 100000}",
    "payload: cloudevents",
    "retry: {on: no_response}",
    "auth: {login: {url: 'http://h/'}}",
    "auth: {authorization: x, login: {url: http://h/, method: GET, headers: {X-A: b}, body: {a: '', b: 1, c: true}}}",
    "auth: {login: {url: http://h/, body: {}, token_attribute: a.b, scheme: ''}}",
    "auth: {oauth2: {token_url: http://h/, client_id: a, client_secret: b, scope: c d}}",
    "signing_secrets: []",
    "signing_secrets: [whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw, \
     whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==, \
     whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA, \
     whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=]",
];

/// Further fields that are refused.
const BAD_FIELDS: [&str; 48] = [
    "name: 1",
    "name: ''",
    "inboxes: a",
    "inboxes: [1]",
    "projects: [xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx]",
    "payload: idexa",
    "payload: protobuf",
    "max_in_flight: 0",
    "max_in_flight: 10001",
    "enabled: 1",
    "auth: {}",
    "auth: {authorization: x, login: {}}",
    "auth: {login: {url: ftp://h/}}",
    "auth: {login: {url: http://h/, method: HEAD}}",
    "auth: {login: {url: http://h/, method: post}}",
    "auth: {login: {url: http://h/, headers: {Host: x}}}",
    "auth: {login: {url: http://h/, body: x}}",
    "auth: {login: {url: http://h/, body: {a: [b]}}}",
    "auth: {login: {url: http://h/, body: {a: null}}}",
    "auth: {login: {url: http://h/, body: {a: 1.5}}}",
    "auth: {login: {url: http://h/, token_attribute: ''}}",
    "auth: {login: {url: http://h/, scheme: ä}}",
    "auth: {login: {url: http://h/, timeout: 1s}}",
    "auth: {oauth2: {token_url: http://h/, client_id: a}}",
    "auth: {oauth2: {token_url: http://h/, client_id: a, client_secret: b, scope: ''}}",
    "auth: {login: {url: http://h/}, oauth2: {token_url: http://h/, client_id: a, client_secret: b}}",
    "signing_secrets: whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "signing_secrets: [MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw]",
    "signing_secrets: [whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB=]",
    "signing_secrets: [whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=]",
    "signing_secrets: [whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=]",
    "retry: {max_attempts: 21}",
    "retry: {on: nothing}",
    "retry: {while_down: wait}",
    "retry: {while_down: true}",
    "rate_limit: 10",
    "rate_limit: {}",
    "rate_limit: {burst: 1}",
    "rate_limit: {per_second: 0}",
    "rate_limit: {per_second: 0.0005}",
    "rate_limit: {per_second: 100000.5}",
    "rate_limit: {per_second: '1'}",
    "rate_limit: {per_second: 1, burst: 0}",
    "rate_limit: {per_second: 1, burst: 1.5}",
    "rate_limit: {per_second: 1, per_minute: 60}",
    "file: {format: pdf}",
    "origin: file",
    "created_at: x",
];

/// Subscriptions of the products' payloads that are accepted.
const GOOD_PRODUCTS: [&str; 6] = [
    "payload: idexa, events: [document_finish], target: {url: 'http://h/:id', method: PUT}",
    "payload: idexa, events: [document_finish], target: {url: 'http://h/?d=:id', template: true}",
    "payload: smartdocumentor_file, events: [document_export], file: {format: PDF, expires_hours: 168}, target: {url: http://h/}",
    "payload: cloudevents, events: [document_export, document_finish, document_text], target: {url: http://h/}",
    "payload: protobuf, events: [document_export, document_finish, document_text], target: {type: amqp, exchange: erp.in}",
    "payload: cloudevents, events: [document_text], signing_secrets: [], target: {type: amqp, exchange: erp.in}",
];

/// Subscriptions of the products' payloads that are refused.
const BAD_PRODUCTS: [&str; 15] = [
    "payload: idexa, events: [document_finish], target: {url: http://h/}",
    "payload: idexa, events: [document_finish], target: {url: 'http://h/:id', template: false}",
    "payload: idexa, events: [document_finish], target: {url: 'http://h/:id', method: PATCH}",
    "payload: idexa, events: [document_text], target: {url: 'http://h/:id'}",
    "payload: smartdocumentor_file, events: [document_export], target: {url: http://h/}",
    "payload: smartdocumentor_file, events: [document_export], file: {format: pdf, expires_hours: 169}, target: {url: http://h/}",
    "payload: smartdocumentor_file, events: [document_export], file: {format: pdf, expires_hours: 1.5}, target: {url: http://h/}",
    "payload: smartdocumentor_file, events: [document_finish], file: {format: pdf, expires_hours: 1}, target: {url: http://h/}",
    "payload: smartdocumentor_file, events: [document_export], file: {format: pdf, expires_hours: 1}, target: {url: http://h/, method: PUT}",
    "events: [document_finish], target: {url: http://h/}",
    "events: [document_finish], target: {type: amqp, exchange: erp.in}",
    "payload: idexa, events: [document_finish], target: {type: amqp, exchange: erp.in}",
    "payload: smartdocumentor_file, events: [document_export], file: {format: pdf, expires_hours: 1}, target: {type: amqp, exchange: erp.in}",
    "events: [document_text], auth: {authorization: x}, target: {type: amqp, exchange: erp.in}",
    "events: [document_text], signing_secrets: [whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw], target: {type: amqp, exchange: erp.in}",
];

#[test]
fn the_schema_and_the_program_accept_the_same() {
    let (schema, defaults) = (schema(), defaults());
    let file = |target: &str, fields: &str| {
        format!("subscriptions: [{{id: a, organization: b, events: [document_text], target: {{{target}}}{fields}}}]")
    };
    let product = |fields: &&str| format!("subscriptions: [{{id: a, organization: b, {fields}}}]");
    let with_target = |target: &&str| file(target, "");
    let with_field = |field: &&str| file("url: https://h/", &format!(", {field}"));
    let good = GOOD_TARGETS.iter().map(with_target).chain(GOOD_FIELDS.iter().map(with_field));
    let bad = BAD_TARGETS.iter().map(with_target).chain(BAD_FIELDS.iter().map(with_field));
    let bad = bad.chain(BAD_FILES.map(str::to_owned));
    let good = good.chain(["subscriptions: []".to_owned()]).chain(GOOD_PRODUCTS.iter().map(product));
    let bad = bad.chain(BAD_PRODUCTS.iter().map(product));
    for (text, expected) in good.map(|text| (text, true)).chain(bad.map(|text| (text, false))) {
        assert_eq!(schema_accepts(&schema, &text), expected, "schema: {text}");
        assert_eq!(store::parse(&text, &defaults).is_ok(), expected, "program: {text}");
    }
}
