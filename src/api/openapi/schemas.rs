//! The schemas of the document. That of a subscription is the one of the subscriptions file, which the parser is tested
//! against; what is given, patched and read differs from it in what may be left out, and in what hides a secret.

use serde_json::{Map, Value, json};

use super::{examples, operation::reference};
use crate::api::{
    kind::Kind,
    products,
    secrets::{GENERATE, HIDDEN},
    targets,
};

/// The schema of the subscriptions file.
const FILE: &str = include_str!("../../../config/subscriptions.schema.json");

/// What depends on other fields, or must be there: not in a patch, and not in what is read.
const STRICT: [&str; 8] = ["required", "allOf", "if", "then", "else", "minProperties", "not", "default"];

/// All of them, by their names.
pub(super) fn all() -> Value {
    let file: Value = serde_json::from_str(FILE).unwrap_or_default();
    let mut shared = file.get("$defs").and_then(Value::as_object).cloned().unwrap_or_default();
    let subscription = shared.shift_remove("subscription").unwrap_or_default();
    let mut schemas = Map::new();
    schemas.insert("NewSubscription".to_owned(), new(&subscription));
    schemas.insert("SubscriptionPatch".to_owned(), patch(&subscription, &shared));
    schemas.insert("Subscription".to_owned(), read(&subscription, &shared));
    schemas.insert("SubscriptionPage".to_owned(), page());
    schemas.insert("TestSend".to_owned(), test_send());
    schemas.insert("TestReport".to_owned(), test_report());
    for (name, schema) in targets::schemas() {
        schemas.insert(name.to_owned(), schema);
    }
    schemas.insert("Problem".to_owned(), problem());
    schemas.insert("FieldError".to_owned(), field_error());
    for (name, schema) in products::schemas() {
        schemas.insert(name.to_owned(), schema);
    }
    for (name, mut schema) in shared {
        illustrate(&mut schema, examples::shared().get(&name));
        schemas.insert(name, schema);
    }
    let mut schemas = Value::Object(schemas);
    refer(&mut schemas);
    schemas
}

/// What makes a subscription.
fn new(file: &Value) -> Value {
    let mut schema = file.clone();
    describe(
        &mut schema,
        "A subscription to be made. It is the one of the subscriptions file, but its id is given by docrelay. `null` is as \
         if it was left out.",
    );
    put(&mut schema, "required", json!(["events", "target"]));
    property(&mut schema, "organization", |schema| {
        put(
            schema,
            "description",
            "Whose events it gets. An organization's key may leave it out; the operator's must not.".into(),
        );
    });
    remove(&mut schema, &["properties", "id"]);
    property(&mut schema, "name", |schema| put(schema, "description", "For people. Default: the id.".into()));
    property(&mut schema, "signing_secrets", |schema| {
        let given = schema.get("items").cloned().unwrap_or_default();
        let generate = json!({
            "const": GENERATE,
            "description": "docrelay makes a secret here, and shows it in this answer and never again.",
        });
        put(schema, "items", json!({"anyOf": [generate, given]}));
    });
    for example in [examples::login(), examples::export()] {
        illustrate(&mut schema, Some(&example));
    }
    put(&mut schema, "examples", json!([examples::little(), examples::login(), examples::client_credentials()]));
    schema
}

/// What changes one.
fn patch(file: &Value, shared: &Map<String, Value>) -> Value {
    let mut schema = relaxed(file, shared);
    describe(
        &mut schema,
        "A JSON Merge Patch (RFC 7396): `null` takes a field away, objects are laid over each other, everything else \
         replaces. What hides a secret keeps it, unless the address that it is for has another scheme, host or port. What \
         docrelay tells may be given back unchanged.",
    );
    remove(&mut schema, &["additionalProperties"]);
    put(&mut schema, "examples", json!([examples::patch(), examples::rotation()]));
    schema
}

/// What one reads as.
fn read(file: &Value, shared: &Map<String, Value>) -> Value {
    let mut schema = relaxed(file, shared);
    describe(
        &mut schema,
        "A subscription: what was given, and what is in force where nothing was. Every secret that is set reads \"***\".",
    );
    let told = [
        (
            "origin",
            "Which API made it; `file` when the subscriptions file declares it.",
            json!({"enum": ["api", "contractfit", "idexa", "file"]}),
            json!("api"),
        ),
        (
            "created_at",
            "When it was made; `null` when the file declares it.",
            json!({"type": ["string", "null"], "format": "date-time"}),
            json!("2026-11-25T18:50:00.000Z"),
        ),
        (
            "updated_at",
            "When it was changed last; `null` when the file declares it.",
            json!({"type": ["string", "null"], "format": "date-time"}),
            json!("2026-11-25T18:50:00.000Z"),
        ),
        (
            "disabled_reason",
            "Why docrelay disabled it, if it did. Setting enabled to true takes it away.",
            json!({"type": ["string", "null"]}),
            json!("gone"),
        ),
    ];
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        for (name, text, mut schema, example) in told {
            put(&mut schema, "description", text.into());
            put(&mut schema, "readOnly", true.into());
            put(&mut schema, "examples", json!([example]));
            properties.insert(name.to_owned(), schema);
        }
    }
    put(&mut schema, "examples", json!([examples::shown()]));
    schema
}

fn page() -> Value {
    json!({
        "type": "object",
        "description": "A part of a list.",
        "required": ["items", "next_cursor"],
        "properties": {
            "items": {
                "type": "array",
                "description": "Those of the file first, then the others in the order they were made.",
                "items": reference("Subscription"),
                "examples": [[examples::shown()]],
            },
            "next_cursor": {
                "type": ["string", "null"],
                "description": "What `cursor` takes for the next page; `null` at the end.",
                "examples": ["AQAAAAAAAAAq"],
            },
        },
    })
}

fn problem() -> Value {
    let kinds: Vec<_> = Kind::ALL.map(Kind::reference).into();
    json!({
        "type": "object",
        "description": "A problem document (RFC 9457).",
        "required": ["type", "title", "status", "detail"],
        "properties": {
            "type": {
                "type": "string", "format": "uri-reference", "enum": kinds,
                "description": "Which problem it is: stable, and the address of a page that says what to do.",
                "examples": [Kind::InvalidFields.reference()],
            },
            "title": {
                "type": "string", "description": "The same for people; stable for each type.",
                "examples": [Kind::InvalidFields.title()],
            },
            "status": {"type": "integer", "description": "The status of the answer.", "examples": [422]},
            "detail": {
                "type": "string", "description": "What is special about this one.",
                "examples": ["One field is not accepted."],
            },
            "errors": {
                "type": "array", "description": "For invalid-fields: all that are wrong.",
                "items": reference("FieldError"), "examples": [[examples::field_error()]],
            },
            "existing": {
                "type": "string", "description": "For conflict: the id of the one that is there already.",
                "examples": ["0f8fad5b-d9cb-469f-a165-70867728950e"],
            },
        },
        "examples": [Kind::InvalidFields.example()],
    })
}

fn test_send() -> Value {
    let mut schema = json!({
        "type": "object",
        "description": "Which sample event is sent.",
        "additionalProperties": false,
        "properties": {
            "event": {"type": ["string", "null"], "description": "One of the subscription's events; its first one unless this says."},
            "confirm_method": {"type": ["boolean", "null"], "description": "Must be true where the target's method is PUT or DELETE: it may change or delete something there."},
        },
    });
    illustrate(&mut schema, Some(&examples::test_send()));
    put(&mut schema, "examples", json!([examples::test_send()]));
    schema
}

fn test_report() -> Value {
    let mut schema = json!({
        "type": "object",
        "description": "How a test send went: what was answered, or why nothing was.",
        "required": ["event_id", "webhook_id", "target", "started_at", "latency_ms", "status", "headers", "body", "body_cut", "error", "error_text"],
        "properties": {
            "event_id": {"type": "string", "description": "The sample event's id."},
            "webhook_id": {"type": "string", "description": "What the receiver saw as webhook-id."},
            "target": {"type": "string", "description": "Where it went: host and path, or the exchange."},
            "started_at": {"type": "string", "format": "date-time", "description": "When it began."},
            "latency_ms": {"type": "integer", "minimum": 0, "description": "How long it took, in milliseconds."},
            "status": {"type": ["integer", "null"], "description": "The HTTP status; null when nothing was answered, and where an exchange took it."},
            "headers": {
                "type": "array",
                "description": "The answer's headers: 64 and 8 KiB at most.",
                "items": {"type": "object", "required": ["name", "value"], "properties": {
                    "name": {"type": "string", "description": "Its name.", "examples": ["content-type"]},
                    "value": {"type": "string", "description": "Its value.", "examples": ["text/plain"]},
                }},
            },
            "body": {"type": ["string", "null"], "description": "The answer's body, 16 KiB at most, as text."},
            "body_cut": {"type": "boolean", "description": "Whether the answer was longer."},
            "error": {"type": ["string", "null"], "description": "Why nothing was answered, by its stable name: dns, connect, tls, timeout, egress, auth and so on.", "examples": ["timeout"]},
            "error_text": {"type": ["string", "null"], "description": "The same in words.", "examples": ["no complete answer within 15s"]},
        },
    });
    illustrate(&mut schema, Some(&examples::test_report()));
    put(&mut schema, "examples", json!([examples::test_report()]));
    schema
}

fn field_error() -> Value {
    let mut schema = json!({
        "type": "object",
        "description": "What is wrong with one field of the body, or one parameter of the query.",
        "required": ["detail"],
        "properties": {
            "pointer": {"type": "string", "description": "Where it is in the body: a JSON Pointer (RFC 6901)."},
            "parameter": {"type": "string", "description": "Which parameter of the query it is.", "examples": ["limit"]},
            "detail": {"type": "string", "description": "What is wrong, in a sentence."},
            "expected": {"type": "string", "description": "What was expected, where that can be said shortly."},
            "got": {"type": "string", "description": "What was found; never a secret."},
        },
    });
    illustrate(&mut schema, Some(&examples::field_error()));
    put(&mut schema, "examples", json!([examples::field_error()]));
    schema
}

/// The same where everything may be left out or be `null`, and secrets may be hidden. References are written out.
fn relaxed(schema: &Value, shared: &Map<String, Value>) -> Value {
    let mut schema = written_out(schema, shared);
    loosen(&mut schema);
    property(&mut schema, "signing_secrets", |schema| {
        put(schema, "items", json!({"type": "string", "description": format!("{HIDDEN:?} for each that is set.")}));
    });
    property(&mut schema, "auth", |auth| {
        property(auth, "login", |login| {
            property(login, "body", |body| put(body, "type", json!(["object", "string", "null"])));
        });
    });
    for example in [examples::login(), examples::client_credentials(), examples::export(), examples::shown()] {
        illustrate(&mut schema, Some(&example));
    }
    schema
}

/// A schema without references to the file's own definitions.
fn written_out(schema: &Value, shared: &Map<String, Value>) -> Value {
    match schema {
        Value::Object(object) => {
            let mut out = Map::new();
            let name = object.get("$ref").and_then(Value::as_str).and_then(|name| name.strip_prefix("#/$defs/"));
            if let Some(Value::Object(target)) =
                name.and_then(|name| shared.get(name)).map(|it| written_out(it, shared))
            {
                out.extend(target);
            }
            let rest = object.iter().filter(|(name, _)| *name != "$ref");
            out.extend(rest.map(|(name, value)| (name.clone(), written_out(value, shared))));
            Value::Object(out)
        }
        Value::Array(items) => items.iter().map(|item| written_out(item, shared)).collect(),
        other => other.clone(),
    }
}

/// Takes away what must be, and lets every field be `null`. Patterns go: what hides a secret fits none.
fn loosen(schema: &mut Value) {
    let Value::Object(object) = schema else { return };
    object.retain(|name, _| !STRICT.contains(&name.as_str()) && name != "pattern" && name != "propertyNames");
    if let Some(Value::Object(properties)) = object.get_mut("properties") {
        for property in properties.values_mut() {
            loosen(property);
            let nullable = property.get("type").filter(|it| it.is_string()).map(|it| json!([it, "null"]));
            if let Some(nullable) = nullable {
                put(property, "type", nullable);
            }
            if let Some(Value::Array(values)) = property.get_mut("enum") {
                values.push(Value::Null);
            }
        }
    }
    for name in ["items", "additionalProperties"] {
        if let Some(inner) = object.get_mut(name) {
            loosen(inner);
        }
    }
}

/// Gives every field that an example has that value as its example, unless it has one.
fn illustrate(schema: &mut Value, example: Option<&Value>) {
    let Some(example) = example.filter(|example| !example.is_null()) else { return };
    if let (Some(Value::Object(properties)), Value::Object(fields)) = (schema.get_mut("properties"), example) {
        for (name, property) in properties {
            illustrate(property, fields.get(name));
        }
    }
    if let Value::Object(object) = schema {
        object.entry("examples").or_insert_with(|| json!([example]));
    }
}

/// Makes the file's references ones of the document.
fn refer(value: &mut Value) {
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                match value {
                    Value::String(text) if name == "$ref" => *text = text.replace("#/$defs/", "#/components/schemas/"),
                    value => refer(value),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(refer),
        _ => {}
    }
}

fn describe(schema: &mut Value, text: &str) {
    put(schema, "description", text.into());
}

fn property(schema: &mut Value, name: &str, change: impl FnOnce(&mut Value)) {
    if let Some(property) = schema.get_mut("properties").and_then(|properties| properties.get_mut(name)) {
        change(property);
    }
}

fn put(object: &mut Value, name: &str, value: Value) {
    if let Value::Object(object) = object {
        object.insert(name.to_owned(), value);
    }
}

fn remove(object: &mut Value, names: &[&str]) {
    if let Some((last, parents)) = names.split_last() {
        let parent = parents.iter().try_fold(object, |object, name| object.get_mut(*name));
        if let Some(Value::Object(parent)) = parent {
            parent.shift_remove(*last);
        }
    }
}
