//! The examples of the document. Those of requests are sent to a real server by a test, and must be accepted.

use serde_json::{Map, Value, json};

/// As little as a subscription may say.
pub(in crate::api) fn little() -> Value {
    json!({"events": ["document_predict"], "target": {"url": "https://erp.acme.example/hooks"}})
}

/// One that uses most of what there is, with a login and a fixed authorization.
pub(in crate::api) fn login() -> Value {
    json!({
        "name": "Predictions to the ERP",
        "organization": "acme",
        "inboxes": ["invoices"],
        "projects": ["accounting"],
        "events": ["document_predict", "document_evaluate"],
        "payload": "contractfit",
        "target": target(),
        "auth": {"authorization": "Bearer replace-me", "login": login_alone()},
        "signing_secrets": ["generate"],
        "retry": {"on": "any_failure", "backoff": "2s", "max_attempts": 10, "while_down": "hold", "max_age": "24h"},
        "rate_limit": {"per_second": 10, "burst": 20},
        "max_in_flight": 8,
        "enabled": true,
    })
}

/// An IDEXA webhook with an `OAuth` 2 client.
pub(in crate::api) fn client_credentials() -> Value {
    json!({
        "name": "Finished documents",
        "organization": "acme",
        "events": ["document_finish"],
        "payload": "idexa",
        "target": {"url": "https://crm.acme.example/documents/:id", "method": "PUT"},
        "auth": {"oauth2": oauth2()},
    })
}

/// An export of files.
pub(in crate::api) fn export() -> Value {
    json!({
        "name": "Reviewed documents as PDF",
        "organization": "acme",
        "events": ["document_export"],
        "payload": "smartdocumentor_file",
        "file": {"format": "pdf", "expires_hours": 24},
        "target": {"url": "https://archive.acme.example/exports"},
    })
}

/// A change.
pub(in crate::api) fn patch() -> Value {
    json!({"events": ["document_evaluate"], "target": {"timeout": "30s", "headers": {"X-Environment": null}}})
}

/// A new signing secret beside the one that is stored.
pub(in crate::api) fn rotation() -> Value {
    json!({"signing_secrets": ["generate", "***"]})
}

/// What the one that says little reads as.
pub(in crate::api) fn shown() -> Value {
    let id = "0f8fad5b-d9cb-469f-a165-70867728950e";
    json!({
        "id": id,
        "organization": "acme",
        "name": id,
        "inboxes": [],
        "projects": [],
        "events": ["document_predict"],
        "payload": "contractfit",
        "file": null,
        "target": {
            "type": "http", "url": "https://erp.acme.example/hooks", "template": false, "method": "POST", "headers": {},
            "timeout": "15s",
        },
        "auth": {"authorization": null, "login": null, "oauth2": null},
        "signing_secrets": [],
        "retry": {"on": "any_failure", "backoff": "2s", "max_attempts": 10, "while_down": "count", "max_age": "24h"},
        "rate_limit": null,
        "max_in_flight": 32,
        "enabled": true,
        "origin": "api",
        "created_at": "2026-11-25T18:50:00.000Z",
        "updated_at": "2026-11-25T18:50:00.000Z",
        "disabled_reason": null,
    })
}

/// A target that subscriptions share.
pub(in crate::api) fn target_shown() -> Value {
    json!({
        "id": "9bdc7f62-869d-538c-b731-be075a5660b5",
        "organization": "acme",
        "target": "https://erp.example",
        "subscription": null,
        "subscriptions": 2,
        "paused": false,
        "paused_at": null,
        "health": "answering",
        "health_since": null,
        "in_flight": 3,
        "in_line": 0,
        "max_in_flight": 32,
        "rate_limit": null,
        "waiting_until": null,
    })
}

/// A test send.
pub(in crate::api) fn test_send() -> Value {
    json!({"event": "document_text", "confirm_method": true})
}

/// How one went.
pub(in crate::api) fn test_report() -> Value {
    json!({
        "event_id": "test-0199f0a2-7c5e-7a4b-8f61-3d5a0c1e9b27",
        "webhook_id": "test-27e6b4b2-122a-51e0-a12f-bd8a1b61392a",
        "target": "erp.acme.example/hooks",
        "started_at": "2026-11-25T18:50:00.000Z",
        "latency_ms": 84,
        "status": 422,
        "headers": [{"name": "content-type", "value": "text/plain"}],
        "body": "the field total is missing",
        "body_cut": false,
        "error": null,
        "error_text": null,
    })
}

/// What is wrong with a field.
pub(in crate::api) fn field_error() -> Value {
    json!({
        "pointer": "/events/0",
        "detail": "expected one of document_text, document_split, got \"document_tetx\" (did you mean \"document_text\"?)",
        "expected": "one of document_text, document_split",
        "got": "document_tetx",
    })
}

/// Examples of what the schema of the file defines apart.
pub(super) fn shared() -> Map<String, Value> {
    let examples = [
        ("target", target()),
        ("login", login_alone()),
        ("oauth2", oauth2()),
        ("url", json!("https://erp.acme.example/hooks")),
        ("method", json!("POST")),
        ("headers", json!({"X-Environment": "production"})),
        ("id", json!("acme")),
        ("headerValue", json!("production")),
        ("duration", json!("15s")),
    ];
    examples.into_iter().map(|(name, example)| (name.to_owned(), example)).collect()
}

fn target() -> Value {
    json!({
        "type": "http",
        "url": "https://erp.acme.example/hooks",
        "template": false,
        "method": "POST",
        "headers": {"X-Environment": "production"},
        "timeout": "15s",
    })
}

fn login_alone() -> Value {
    json!({
        "url": "https://erp.acme.example/login",
        "method": "POST",
        "headers": {"Content-Type": "application/x-www-form-urlencoded"},
        "body": {"username": "docrelay", "password": "replace-me"},
        "token_attribute": "access_token",
        "scheme": "Bearer",
    })
}

fn oauth2() -> Value {
    json!({
        "token_url": "https://id.acme.example/token",
        "client_id": "docrelay",
        "client_secret": "replace-me",
        "scope": "webhooks",
    })
}
