//! The operations of the products' APIs: their routes, and what the OpenAPI document says of them.

use std::sync::Arc;

use axum::{
    http::{HeaderMap, Uri},
    routing::{self, MethodRouter, get, post},
};
use serde_json::{Value, json};

use super::{
    Product,
    routes::{self, Called, MOST_A_PAGE, PAGE},
    schemas,
};
use crate::{
    api::{
        Api,
        doorman::Caller,
        kind::Kind,
        openapi::Operation,
        request::{Id, Object},
    },
    domain::MAX_ID_BYTES,
};

/// What the document calls them.
const INTEGRATIONS_TAG: &str = "integrations";
const WEBHOOKS_TAG: &str = "document webhooks";

/// ContractFit's.
const INTEGRATIONS: (&str, &str) = ("/integrations", "/integrations/{id}");

/// IDEXA's, in both generations of its API, and what stands behind the names of their operations.
const DOCUMENT_WEBHOOKS: [(&str, &str, &str); 2] = [
    ("", "/document_webhooks", "/document_webhooks/{id}"),
    ("OfApiDocument", "/api_document/document_webhooks", "/api_document/document_webhooks/{id}"),
];

const JSON: &str = "application/json";
const ETAG: (&str, &str) = ("ETag", "This version, for If-Match.");

/// The operations of all products.
pub(in crate::api) fn operations() -> Vec<Operation> {
    let webhooks = DOCUMENT_WEBHOOKS.into_iter().flat_map(|(suffix, all, one)| document_webhooks(suffix, all, one));
    integrations().into_iter().chain(webhooks).collect()
}

/// What the document says of their tags.
pub(in crate::api) fn tags() -> [Value; 2] {
    [
        json!({"name": INTEGRATIONS_TAG, "description": "ContractFit's webhooks, in the words of its /integrations page."}),
        json!({"name": WEBHOOKS_TAG, "description": "IDEXA's webhooks, in the words of both generations of its API."}),
    ]
}

fn integrations() -> [Operation; 5] {
    let (all, one) = INTEGRATIONS;
    let (product, named) = (Product::ContractFit, |id| (id, INTEGRATIONS_TAG));
    let told = || Some(("Integration", schemas::integration_told()));
    [
        listing(Operation::new("get", all, named("listIntegrations"), "List integrations", list(product, all)))
            .describe("Those that were made here; no others.")
            .answers("200", "A list.", &[], Some(("Integrations", json!([schemas::integration_told()])))),
        Operation::new("post", all, named("createIntegration"), "Create an integration", create(product))
            .describe("It is in force on this replica when this is answered, on all others within a second.")
            .body(&[JSON], "NewIntegration", &json!({
                "page": {"summary": "The page's example", "value": schemas::integration()},
                "most": {"summary": "Everything that there is", "value": schemas::whole_integration()},
            }))
            .answers("200", "It was made.", &[ETAG], told())
            .problems(&[Kind::NoSecretsKey]),
        of_one(Operation::new("get", one, named("readIntegration"), "Read an integration", read(product)))
            .describe("Header values read \"***\", but for Content-Type, Accept and User-Agent.")
            .answers("200", "The integration.", &[ETAG], told()),
        versioned(of_one(Operation::new("patch", one, named("changeIntegration"), "Change an integration", change())))
            .describe("A field that is there replaces, headers as a whole; null takes it back to what it is unless it is given.")
            .body(&["application/merge-patch+json", JSON], "IntegrationPatch", &json!({
                "change": {"summary": "Other events, and one inbox only", "value": schemas::integration_patch()},
            }))
            .answers("200", "It was changed.", &[ETAG], told())
            .problems(&[Kind::Changed, Kind::NoSecretsKey, Kind::SecretsLocked]),
        versioned(of_one(Operation::new("delete", one, named("deleteIntegration"), "Delete an integration", delete(product))))
            .describe("No new event matches it. Its waiting deliveries end.")
            .answers("204", "It was deleted.", &[], None)
            .problems(&[Kind::Changed]),
    ]
}

fn document_webhooks(suffix: &str, all: &'static str, one: &'static str) -> [Operation; 4] {
    let product = Product::Idexa;
    let new = |method, path, id: &str, summary, route| {
        Operation::new(method, path, (&format!("{id}{suffix}"), WEBHOOKS_TAG), summary, route)
    };
    let told = || Some(("DocumentWebhook", schemas::document_webhook_told()));
    [
        listing(new("get", all, "listDocumentWebhooks", "List document webhooks", list(product, all)))
            .describe("Those that were made here, over either generation; no others. An organization has one at most.")
            .answers("200", "A list.", &[], Some(("DocumentWebhooks", json!([schemas::document_webhook_told()])))),
        new("post", all, "createDocumentWebhook", "Create the document webhook", create(product))
            .describe("It is in force on this replica when this is answered, on all others within a second.")
            .body(
                &[JSON],
                "NewDocumentWebhook",
                &json!({
                    "page": {"summary": "The pages' example", "value": schemas::document_webhook()},
                    "fixed": {"summary": "With a fixed authorization", "value": schemas::fixed_document_webhook()},
                }),
            )
            .answers("200", "It was made.", &[ETAG], told())
            .problems(&[Kind::Conflict, Kind::NoSecretsKey]),
        // There is no edit: these methods only say so.
        of_one(new(
            "get",
            one,
            "readDocumentWebhook",
            "Read the document webhook",
            read(product).patch(routes::no_edit).put(routes::no_edit),
        ))
        .describe("What was not given reads null. To change it, delete it and create it again.")
        .answers("200", "The document webhook.", &[ETAG], told()),
        versioned(of_one(new("delete", one, "deleteDocumentWebhook", "Delete the document webhook", delete(product))))
            .describe("No new event matches it. Its waiting deliveries end.")
            .answers("204", "It was deleted.", &[], None)
            .problems(&[Kind::Changed]),
    ]
}

/// The parameters of a list.
fn listing(operation: Operation) -> Operation {
    let limit = json!({"type": "integer", "minimum": 1, "maximum": MOST_A_PAGE, "default": PAGE});
    let name = json!({"type": "string", "maxLength": MAX_ID_BYTES});
    operation
        .parameter("query", "limit", "How many the list has, at most.", &limit, &json!(PAGE))
        .parameter(
            "query",
            "cursor",
            "Where it goes on: the header Link (`rel=\"next\"`) has it.",
            &json!({"type": "string"}),
            &json!("AQAAAAAAAAAA"),
        )
        .parameter("query", "organization", "Only this organization's.", &name, &json!("acme"))
        .problems(&[Kind::InvalidFields])
}

fn of_one(operation: Operation) -> Operation {
    let id = json!({"type": "string", "maxLength": MAX_ID_BYTES});
    operation
        .parameter("path", "id", "Its id.", &id, &json!("0f8fad5b-d9cb-469f-a165-70867728950e"))
        .problems(&[Kind::NotFound])
}

fn versioned(operation: Operation) -> Operation {
    let version = json!("\"1795632600000000\"");
    operation.parameter("header", "If-Match", "Only if it still is this version.", &json!({"type": "string"}), &version)
}

type Route = MethodRouter<Arc<Api>>;

fn list(product: Product, path: &'static str) -> Route {
    get(move |caller: Caller, api: Called, uri: Uri| routes::list(product, path, caller, api, uri))
}

fn create(product: Product) -> Route {
    post(move |caller: Caller, api: Called, given: Object| routes::create(product, caller, api, given))
}

fn read(product: Product) -> Route {
    get(move |caller: Caller, api: Called, id: Id| routes::read(product, caller, api, id))
}

fn change() -> Route {
    routing::patch(routes::patch)
}

fn delete(product: Product) -> Route {
    routing::delete(move |caller: Caller, api: Called, id: Id, headers: HeaderMap| {
        routes::delete(product, caller, api, id, headers)
    })
}
