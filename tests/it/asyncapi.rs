//! The description of the AMQP side says what the code does.

use std::path::Path;

use docrelay::{
    broker::{codec, topology::Topology},
    config,
    domain::{EventName, Outcome, Payload},
};
use saphyr::{LoadableYamlNode, Yaml};

fn text(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

fn at<'a>(yaml: &'a Yaml<'a>, path: &[&str]) -> &'a Yaml<'a> {
    path.iter()
        .fold(yaml, |yaml, name| yaml.as_mapping_get(name).unwrap_or_else(|| panic!("{path:?}: there is no {name}")))
}

fn text_at<'a>(yaml: &'a Yaml<'a>, path: &[&str]) -> &'a str {
    at(yaml, path).as_str().unwrap()
}

fn texts_at<'a>(yaml: &'a Yaml<'a>, path: &[&str]) -> Vec<&'a str> {
    at(yaml, path).as_sequence().unwrap().iter().map(|item| item.as_str().unwrap()).collect()
}

#[test]
fn exchanges_keys_and_messages_are_described_as_they_are() {
    let text_of_it = text("docs/asyncapi.yaml");
    let yaml = &Yaml::load_from_str(&text_of_it).unwrap()[0];
    let topology = Topology::new(&config::load(&[], std::iter::empty()).unwrap().broker);
    let names = &topology.names;
    for (channel, exchange) in [("events", &names.events_exchange), ("results", &names.results_exchange)] {
        let described = at(yaml, &["channels", channel, "bindings", "amqp", "exchange"]);
        let declared = topology.exchanges.iter().find(|it| it.name == *exchange).unwrap();
        assert_eq!(text_at(described, &["name"]), exchange);
        assert_eq!(text_at(described, &["type"]), declared.kind.as_str());
    }
    let outcomes: Vec<_> = Outcome::ALL.iter().map(|outcome| outcome.as_str()).collect();
    assert_eq!(texts_at(yaml, &["channels", "results", "parameters", "outcome", "enum"]), outcomes);
    let events: Vec<_> = EventName::ALL.iter().map(|event| event.as_str()).chain(["_"]).collect();
    assert_eq!(texts_at(yaml, &["components", "parameters", "event", "enum"]), events);

    for (message, content_type, kind) in [
        ("DocumentEvent", codec::CONTENT_TYPE, Some(codec::EVENT_TYPE)),
        ("DeliveryResult", codec::CONTENT_TYPE, Some(codec::RESULT_TYPE)),
        ("TargetProtobuf", Payload::Protobuf.content_type(), Some(codec::EVENT_TYPE)),
        ("TargetContractFit", Payload::ContractFit.content_type(), None),
        ("TargetCloudEvents", Payload::CloudEvents.content_type(), None),
    ] {
        let described = at(yaml, &["components", "messages", message]);
        assert_eq!(text_at(described, &["contentType"]), content_type, "{message}");
        if let Some(kind) = kind {
            assert_eq!(text_at(described, &["bindings", "amqp", "messageType"]), kind, "{message}");
            let (file, name) =
                (text_at(described, &["x-protobuf", "file"]), text_at(described, &["x-protobuf", "message"]));
            assert!(text(file).contains(&format!("\nmessage {name} {{")), "{file} has no {name}");
            assert!(kind.ends_with(&format!(".{name}")), "{message}");
        }
    }
    let targets = at(yaml, &["channels", "targets", "messages"]).as_mapping().unwrap();
    let described: Vec<_> = targets.keys().map(|name| name.as_str().unwrap()).collect();
    let mut payloads: Vec<_> = Payload::ALL.into_iter().filter(|it| it.goes_over_amqp()).map(Payload::as_str).collect();
    payloads.sort_by_key(|name| described.iter().position(|it| it == name));
    assert_eq!(described, payloads);
}
