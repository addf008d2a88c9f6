//! The API for machines: an OpenAPI 3.1 document, made of the operations that are served and of the schema that the
//! subscriptions file has.

pub(super) mod examples;
mod operation;
mod schemas;

use serde_json::{Map, Value, json};

pub(super) use self::operation::{Operation, reference};
use super::{products, subscriptions, targets};

/// Where it is served.
pub(super) const PATH: &str = "/openapi.json";

/// What it says about the whole.
const ABOUT: &str = "Subscriptions say which events of an organization go where. They are made here, and are in force \
    on the replica that answered at once, on all others within a second.\n\nEvery request needs a key, in any of three \
    headers. An organization's key sees its organization's things; what is another one's answers as if it had never \
    been. Errors are problem documents (RFC 9457): `type` leads to a page that says what to do.";

/// Every operation of every API.
pub(super) fn operations() -> impl Iterator<Item = Operation> {
    subscriptions::operations().into_iter().chain(targets::operations()).chain(products::operations())
}

fn tags() -> Vec<Value> {
    let own = [
        (subscriptions::TAG, "All of an organization's subscriptions, in canonical JSON."),
        (targets::TAG, "Where they lead: how that stands, and to pause it."),
    ];
    let own = own.map(|(name, text)| json!({"name": name, "description": text}));
    own.into_iter().chain(products::tags()).collect()
}

/// The document.
#[must_use]
pub fn document() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for (path, method, said) in operations().map(Operation::document) {
        let path = paths.entry(path).or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(methods) = path {
            methods.insert(method.to_owned(), said);
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "docrelay",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "Subscriptions to document events.",
            "description": ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "api.listen, or the proxy before it."}],
        "security": [{"bearer": []}, {"apiKey": []}, {"idexaApiKey": []}],
        "tags": tags(),
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": {
                    "type": "http", "scheme": "bearer",
                    "description": "A key as `docrelay keys create` makes it.",
                },
                "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-KEY", "description": "The same key."},
                "idexaApiKey": {
                    "type": "apiKey", "in": "header", "name": "IDEXA-API-KEY", "description": "The same key.",
                },
            },
            "schemas": schemas::all(),
            "examples": operation::problems(),
        },
    })
}
