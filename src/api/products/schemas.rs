//! The schemas of the products' objects for the OpenAPI document, and their examples. A test sends the examples.

use serde_json::{Map, Value, json};

use crate::domain::{EventName, Payload};

/// All of them, by their names.
pub(in crate::api) fn schemas() -> [(&'static str, Value); 7] {
    let list = |name: &str, example: Value| {
        json!({
            "type": "array", "description": "Those that were made here, in their order.",
            "items": {"$ref": format!("#/components/schemas/{name}")}, "examples": [[example]],
        })
    };
    [
        ("NewIntegration", new_integration()),
        ("IntegrationPatch", integration_change()),
        ("Integration", read_integration()),
        ("Integrations", list("Integration", integration_told())),
        ("NewDocumentWebhook", new_document_webhook()),
        ("DocumentWebhook", read_document_webhook()),
        ("DocumentWebhooks", list("DocumentWebhook", document_webhook_told())),
    ]
}

/// The page's example.
pub(super) fn integration() -> Value {
    json!({
        "type": "webhook",
        "events": ["document_predict"],
        "target": "http://localhost:3000/alfred/document_predict",
        "headers": {"Authorization": "Bearer abcdefg1234567989"},
    })
}

/// One with everything that there is.
pub(super) fn whole_integration() -> Value {
    json!({
        "organization": "acme",
        "type": "webhook",
        "events": ["document_predict", "document_evaluate"],
        "target": "10.0.0.5:3000/hooks",
        "headers": {"Authorization": "Bearer abcdefg1234567989"},
        "inboxes": ["invoices"],
        "projects": ["accounting"],
        "retry_backoff": 30,
        "enabled": true,
    })
}

/// A change.
pub(super) fn integration_patch() -> Value {
    json!({"events": ["document_predict", "document_evaluate"], "inboxes": ["invoices"]})
}

/// What the page's example reads as.
pub(super) fn integration_told() -> Value {
    json!({
        "id": "2f0a8f0e-5a2d-4a55-9a6e-0f6f4e0f7f0b",
        "type": "webhook",
        "events": ["document_predict"],
        "target": "http://localhost:3000/alfred/document_predict",
        "headers": {"Authorization": "***"},
        "inboxes": [],
        "projects": [],
        "retry_backoff": null,
        "enabled": true,
        "disabled_reason": null,
        "created_at": "2026-11-25T18:00:00.123456Z",
        "updated_at": "2026-11-25T18:00:00.123456Z",
    })
}

/// The pages' example.
pub(super) fn document_webhook() -> Value {
    json!({
        "name": "Webhook 1",
        "type": 0,
        "method": "POST",
        "headers": {"Content-Type": "application/json"},
        "headerAuth": "Bearer",
        "url": "http://localhost:5000/ocr_feedback/:id",
        "authorizationUrl": "http://localhost:5000/login",
        "authorizationMethod": "POST",
        "authorizationHeaders": {"Content-Type": "application/x-www-form-urlencoded"},
        "authorizationBody": {"username": "root", "password": "root"},
        "authorizationResponseTokenAttr": "access_token",
    })
}

/// One with a fixed authorization.
pub(super) fn fixed_document_webhook() -> Value {
    json!({
        "organization": "acme",
        "name": "Webhook 1",
        "type": 0,
        "method": "PUT",
        "url": "http://localhost:5000/ocr_feedback/:id",
        "authorization": "Bearer eyJ0eXAiOiJKV1QiLCJhbGciOiJI",
    })
}

/// What the pages' example reads as.
pub(super) fn document_webhook_told() -> Value {
    json!({
        "id": "a7046a49-1fe0-483d-b220-cd93fe50a3a9",
        "clientId": "2b47ce59-c976-503a-8633-313cce10ead7",
        "name": "Webhook 1",
        "type": 0,
        "method": "POST",
        "headers": {"Content-Type": "application/json"},
        "headerAuth": "Bearer",
        "url": "http://localhost:5000/ocr_feedback/:id",
        "authorization": null,
        "authorizationUrl": "http://localhost:5000/login",
        "authorizationMethod": "POST",
        "authorizationHeaders": {"Content-Type": "application/x-www-form-urlencoded"},
        "authorizationResponseTokenAttr": "access_token",
        "createdAt": "2026-11-25T18:00:00.123456+00:00",
        "updatedAt": "2026-11-25T18:00:00.123456+00:00",
    })
}

fn new_integration() -> Value {
    let mut properties = integration_fields();
    properties.insert("organization".to_owned(), organization());
    let alias = json!({"$ref": "#/components/schemas/headers", "description": "Another name of headers."});
    properties.insert("header".to_owned(), alias);
    let text = "An integration to be made. null is as if it was left out.";
    let examples = json!([integration(), whole_integration()]);
    let mut schema = object(text, &properties, &["type", "events", "target"], &examples);
    put(&mut schema, "not", json!({"required": ["headers", "header"]}));
    schema
}

fn integration_change() -> Value {
    let mut properties = integration_fields();
    properties.values_mut().for_each(nullable);
    let alias = json!({"type": ["object", "null"], "description": "Another name of headers.", "examples": [{"X-Environment": "test"}]});
    properties.insert("header".to_owned(), alias);
    let text = "What is to change. What docrelay tells may be given back unchanged.";
    let mut schema = object(text, &properties, &[], &json!([integration_patch()]));
    put(&mut schema, "additionalProperties", true.into());
    schema
}

fn read_integration() -> Value {
    let mut properties = integration_fields();
    properties.get_mut("retry_backoff").into_iter().for_each(nullable);
    let reason = json!({"type": ["string", "null"], "description": "Why docrelay disabled it, if it did. Setting enabled to true takes it away.", "examples": ["gone"]});
    properties.insert("id".to_owned(), id());
    properties.insert("disabled_reason".to_owned(), reason);
    properties.insert("created_at".to_owned(), time("When it was made.", "2026-11-25T18:00:00.123456Z"));
    properties.insert("updated_at".to_owned(), time("When it was changed last.", "2026-11-25T18:00:00.123456Z"));
    let names: Vec<String> = properties.keys().cloned().collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    properties.insert("organization".to_owned(), told_organization());
    let text = "An integration. Header values read \"***\", but for Content-Type, Accept and User-Agent.";
    object(text, &properties, &names, &json!([integration_told()]))
}

/// What an integration says, whoever says it.
fn integration_fields() -> Map<String, Value> {
    let events: Vec<_> = EventName::ALL
        .into_iter()
        .filter(|event| Payload::ContractFit.carries(*event))
        .map(EventName::as_str)
        .collect();
    let names = |text: &str, example: &str| {
        let item = json!({"type": "string", "minLength": 1});
        json!({"type": "array", "items": item, "description": text, "examples": [[example]]})
    };
    fields(json!({
        "type": {"const": "webhook", "description": "The one type that there is here.", "examples": ["webhook"]},
        "events": {
            "type": "array", "minItems": 1, "items": {"enum": events},
            "description": "Which events it gets.", "examples": [["document_predict"]],
        },
        "target": {
            "type": "string", "minLength": 1,
            "description": "A URL, or a bare IP address or host, which gets http:// in front. Sent to as it is.",
            "examples": ["http://localhost:3000/alfred/document_predict", "10.0.0.5:3000/hooks"],
        },
        "headers": {
            "type": "object", "additionalProperties": {"type": "string"},
            "description": "Sent with every attempt: at most 20, 4 KiB in all.",
            "examples": [{"Authorization": "Bearer abcdefg1234567989"}],
        },
        "inboxes": names("Only these inboxes. A match on any inbox or project is a match.", "invoices"),
        "projects": names("Only these projects.", "accounting"),
        "retry_backoff": {
            "type": "number", "minimum": 0.001, "maximum": 3600,
            "description": "Seconds after the first failed attempt; doubles each time. Default: `delivery.backoff`, 2.",
            "examples": [30],
        },
        "enabled": {"type": "boolean", "description": "Whether it gets events at all. Default: true.", "examples": [true]},
    }))
}

fn new_document_webhook() -> Value {
    let mut properties = document_webhook_fields();
    for name in [
        "headers",
        "headerAuth",
        "authorization",
        "authorizationUrl",
        "authorizationMethod",
        "authorizationHeaders",
        "authorizationResponseTokenAttr",
    ] {
        if let Some(property) = properties.get_mut(name) {
            nullable(property);
        }
    }
    properties.insert("organization".to_owned(), organization());
    let body = json!({
        "type": ["object", "null"], "additionalProperties": {"type": ["string", "integer", "boolean"]},
        "description": "The login's body: a form if authorizationHeaders say application/x-www-form-urlencoded, otherwise JSON, and in the query with GET. Never shown.",
        "examples": [{"username": "root", "password": "root"}],
    });
    properties.insert("authorizationBody".to_owned(), body);
    let text = "A document webhook to be made. null is as if it was left out.";
    let examples = json!([document_webhook(), fixed_document_webhook()]);
    object(text, &properties, &["name", "type", "method", "url"], &examples)
}

fn read_document_webhook() -> Value {
    let mut properties = document_webhook_fields();
    properties.values_mut().for_each(nullable);
    let client = json!({"type": "string", "format": "uuid", "description": "The organization as a client: made from its name, the same for ever.", "examples": ["2b47ce59-c976-503a-8633-313cce10ead7"]});
    properties.insert("id".to_owned(), id());
    properties.insert("clientId".to_owned(), client);
    properties.insert("createdAt".to_owned(), time("When it was made.", "2026-11-25T18:00:00.123456+00:00"));
    properties.insert("updatedAt".to_owned(), time("When it was changed last.", "2026-11-25T18:00:00.123456+00:00"));
    let names: Vec<String> = properties.keys().cloned().collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    properties.insert("organization".to_owned(), told_organization());
    let text = "A document webhook. What was not given reads null; secrets read \"***\", and authorizationBody is never shown.";
    object(text, &properties, &names, &json!([document_webhook_told()]))
}

/// What a document webhook says, whoever says it.
fn document_webhook_fields() -> Map<String, Value> {
    let headers = |text: &str, example: &str| {
        let values = json!({"type": "string"});
        json!({"type": "object", "additionalProperties": values, "description": text, "examples": [{"Content-Type": example}]})
    };
    let text = |text: &str, example: &str| json!({"type": "string", "description": text, "examples": [example]});
    fields(json!({
        "name": text("For people.", "Webhook 1"),
        "type": {"const": 0, "description": "0: a document is finished.", "examples": [0]},
        "method": {"enum": ["POST", "PUT", "GET", "DELETE"], "description": "GET and DELETE carry no body.", "examples": ["POST"]},
        "headers": headers("Sent with every attempt: at most 20, 4 KiB in all.", "application/json"),
        "headerAuth": text("What stands before the token in Authorization. Default: Bearer; empty for the bare token.", "Bearer"),
        "url": text("Where it is sent. :id in path or query becomes the document's id.", "http://localhost:5000/ocr_feedback/:id"),
        "authorization": text("The Authorization as it is sent. It wins over a login.", "Bearer eyJ0eXAiOiJKV1QiLCJhbGciOiJI"),
        "authorizationUrl": text("A login that is called when the webhook fires.", "http://localhost:5000/login"),
        "authorizationMethod": text("The login's method. Default: POST.", "POST"),
        "authorizationHeaders": headers("The login's headers.", "application/x-www-form-urlencoded"),
        "authorizationResponseTokenAttr": text("Which attribute of the login's answer is the token. Default: access_token.", "access_token"),
    }))
}

fn organization() -> Value {
    json!({
        "type": "string",
        "description": "Whose events it gets. An organization's key may leave it out; the operator's must not.",
        "examples": ["acme"],
    })
}

fn told_organization() -> Value {
    json!({"type": "string", "description": "Whose it is. Told to the operator's key only.", "examples": ["acme"]})
}

fn id() -> Value {
    json!({
        "type": "string", "format": "uuid", "description": "Its id.", "examples": ["0f8fad5b-d9cb-469f-a165-70867728950e"],
    })
}

fn time(text: &str, example: &str) -> Value {
    json!({"type": "string", "format": "date-time", "description": text, "examples": [example]})
}

fn object(text: &str, properties: &Map<String, Value>, required: &[&str], examples: &Value) -> Value {
    json!({
        "type": "object",
        "description": text,
        "required": required,
        "properties": properties,
        "additionalProperties": false,
        "examples": examples,
    })
}

/// Lets a field be `null`.
fn nullable(property: &mut Value) {
    if let Some(plain) = property.get("type").filter(|it| it.is_string()).cloned() {
        put(property, "type", json!([plain, "null"]));
    }
}

fn fields(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

fn put(object: &mut Value, name: &str, value: Value) {
    if let Value::Object(object) = object {
        object.insert(name.to_owned(), value);
    }
}
