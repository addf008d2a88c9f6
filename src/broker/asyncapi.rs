//! The AMQP side as an `AsyncAPI` 3 document: which exchanges, keys, properties and messages there are. Made from the names
//! and constants that the service itself uses, with the proto files as they are. No I/O.

use serde_json::{Map, Value, json};

use super::{codec, topology::Names};
use crate::domain::{EventName, MAX_ID_BYTES, Outcome};

const EVENT_PROTO: &str = include_str!("../../proto/docrelay/v1/event.proto");
const RESULT_PROTO: &str = include_str!("../../proto/docrelay/v1/result.proto");
const DISABLED_PROTO: &str = include_str!("../../proto/docrelay/v1/disabled.proto");

/// How `AsyncAPI` calls the proto files' syntax.
const SCHEMA_FORMAT: &str = "application/vnd.google.protobuf;version=3";

/// The `AsyncAPI` document for exchanges of these names.
#[must_use]
pub fn document(names: &Names) -> Value {
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "docrelay over AMQP",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Document events in, result events out. Delivery is at least once on both sides: drop what you have seen by `message_id`.",
            "license": { "name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0" }
        },
        "defaultContentType": codec::CONTENT_TYPE,
        "servers": {
            "broker": {
                "host": "rabbitmq:5672",
                "protocol": "amqp",
                "protocolVersion": "0.9.1",
                "description": "The RabbitMQ of broker.url; `amqps` as well."
            }
        },
        "channels": { "events": events(names), "results": results(names), "disabled": disabled(names) },
        "operations": operations(),
        "components": {
            "messages": messages(),
            "messageTraits": { "traced": { "headers": trace_headers() } }
        }
    })
}

fn operations() -> Value {
    json!({
        "receiveEvent": {
            "action": "receive",
            "channel": { "$ref": "#/channels/events" },
            "title": "Publish document events",
            "summary": "Upstream publishes persistent messages, with confirms; docrelay delivers each to every subscription that matches. It routes by the content, never by the key.",
            "messages": [{ "$ref": "#/channels/events/messages/documentEvent" }]
        },
        "sendResult": {
            "action": "send",
            "channel": { "$ref": "#/channels/results" },
            "title": "Hear of results",
            "summary": "What became of every attempt and every delivery. Bind a queue of your own; nobody has to.",
            "messages": [{ "$ref": "#/channels/results/messages/deliveryResult" }]
        },
        "sendDisabled": {
            "action": "send",
            "channel": { "$ref": "#/channels/disabled" },
            "title": "Hear of subscriptions that docrelay disabled",
            "summary": "At least once for each time that a subscription is disabled because its target answered 410 Gone.",
            "messages": [{ "$ref": "#/channels/disabled/messages/subscriptionDisabled" }]
        }
    })
}

fn messages() -> Value {
    json!({
        "documentEvent": message(
            codec::EVENT_TYPE,
            "Something happened to a document",
            "`message_id` is the event's id; a producer that repeats itself reuses it. Properties that are missing are accepted, wrong ones are set aside in the dead letters.",
            EVENT_PROTO,
        ),
        "deliveryResult": message(
            codec::RESULT_TYPE,
            "What became of a delivery, or of one attempt of it",
            "`message_id` is the same for every repeat of the same result.",
            RESULT_PROTO,
        ),
        "subscriptionDisabled": message(
            codec::DISABLED_TYPE,
            "A subscription was disabled by docrelay itself",
            "`message_id` is the same for every repeat of the same message.",
            DISABLED_PROTO,
        )
    })
}

fn events(names: &Names) -> Value {
    json!({
        "address": "{event}.{organization}.{inbox}",
        "title": "Document events",
        "servers": [{ "$ref": "#/servers/broker" }],
        "parameters": parameters(&["event", "organization", "inbox"]),
        "messages": { "documentEvent": { "$ref": "#/components/messages/documentEvent" } },
        "bindings": topic(&names.events_exchange)
    })
}

fn results(names: &Names) -> Value {
    json!({
        "address": "{outcome}.{event}.{organization}.{inbox}",
        "title": "Results",
        "servers": [{ "$ref": "#/servers/broker" }],
        "parameters": with_no_event(parameters(&["outcome", "event", "organization", "inbox"])),
        "messages": { "deliveryResult": { "$ref": "#/components/messages/deliveryResult" } },
        "bindings": topic(&names.results_exchange)
    })
}

fn disabled(names: &Names) -> Value {
    json!({
        "address": "subscription_disabled.{organization}",
        "title": "Disabled subscriptions",
        "servers": [{ "$ref": "#/servers/broker" }],
        "parameters": parameters(&["organization"]),
        "messages": { "subscriptionDisabled": { "$ref": "#/components/messages/subscriptionDisabled" } },
        "bindings": topic(&names.results_exchange)
    })
}

/// The words of a routing key.
fn parameters(words: &[&str]) -> Value {
    let every: Map<String, Value> = words.iter().map(|word| ((*word).to_owned(), parameter(word))).collect();
    every.into()
}

/// The same where the event may not be known.
fn with_no_event(mut parameters: Value) -> Value {
    if let Some(event) = parameters.get_mut("event").and_then(Value::as_object_mut) {
        let names = EventName::ALL.iter().map(|name| name.as_str()).chain(["_"]);
        event.insert("enum".to_owned(), names.collect());
        event.insert("description".to_owned(), "The event's name; `_` where it could not be read.".into());
    }
    parameters
}

fn parameter(word: &str) -> Value {
    match word {
        "event" => json!({
            "description": "The event's name.",
            "enum": EventName::ALL.map(EventName::as_str)
        }),
        "outcome" => json!({
            "description": "What became of it.",
            "enum": Outcome::ALL.iter().map(|outcome| outcome.as_str()).collect::<Vec<_>>()
        }),
        "organization" => json!({
            "description": format!(
                "Whose it is: at most {MAX_ID_BYTES} bytes, percent-encoded but for ASCII letters, digits, `-` and `_`."
            )
        }),
        _ => json!({
            "description": "The inbox, encoded like the organization; `_` where there is none, or where the key would pass 255 bytes."
        }),
    }
}

fn topic(exchange: &str) -> Value {
    json!({
        "amqp": {
            "is": "routingKey",
            "exchange": { "name": exchange, "type": "topic", "durable": true, "autoDelete": false },
            "bindingVersion": "0.3.0"
        }
    })
}

fn message(kind: &str, title: &str, description: &str, proto: &str) -> Value {
    json!({
        "name": kind,
        "title": title,
        "summary": format!("AMQP properties: type `{kind}`, content_type `{}`, delivery_mode 2.", codec::CONTENT_TYPE),
        "description": description,
        "contentType": codec::CONTENT_TYPE,
        "traits": [{ "$ref": "#/components/messageTraits/traced" }],
        "payload": { "schemaFormat": SCHEMA_FORMAT, "schema": proto },
        "bindings": { "amqp": { "messageType": kind, "bindingVersion": "0.3.0" } }
    })
}

/// W3C Trace Context: of the span that published the message, or as it came where that is not recorded.
fn trace_headers() -> Value {
    json!({
        "type": "object",
        "properties": {
            "traceparent": { "type": "string", "description": "W3C Trace Context; an event's trace goes on to its results." },
            "tracestate": { "type": "string" }
        }
    })
}
