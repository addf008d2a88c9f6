//! `/v1/subscriptions`: an organization's subscriptions, whatever made them, in canonical JSON.

use std::sync::Arc;

use axum::{
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, Uri, header},
    response::{IntoResponse as _, Response},
    routing::{self, MethodRouter, get, post},
};
use serde_json::{Value, json};

use super::{
    Api, answer,
    desk::Scope,
    doorman::Caller,
    kind::Kind,
    openapi::{Operation, examples},
    place::Place,
    problem::{FieldError, Problem},
    request::{Id, Object, Query, if_match},
    secrets::Json,
    trial::Wish,
    view::Shown,
};
use crate::{
    domain::{MAX_ID_BYTES, OrganizationId},
    store::database::Origin,
};

/// Where they are.
pub(super) const PATH: &str = "/v1/subscriptions";

/// Where one of them is.
const ONE: &str = "/v1/subscriptions/{id}";

/// Where one of them is tried out.
const TEST: &str = "/v1/subscriptions/{id}/test";

/// How many a page has unless the query says.
const PAGE: u32 = 50;

/// The most a page may have.
const MOST_A_PAGE: u32 = 500;

/// What the document calls them.
pub(super) const TAG: &str = "subscriptions";

/// The operations.
pub(super) fn operations() -> [Operation; 6] {
    let json = "application/json";
    let named = |id| (id, TAG);
    let etag = ("ETag", "This version, for If-Match.");
    [
        Operation::new("get", PATH, named("listSubscriptions"), "List subscriptions", get(list))
            .describe("An organization's key sees its own; the operator's sees all of them, or one organization's.")
            .parameter("query", "limit", "How many a page has, at most.", &json!({"type": "integer", "minimum": 1, "maximum": MOST_A_PAGE, "default": PAGE}), &json!(PAGE))
            .parameter("query", "cursor", "The `next_cursor` of the page before.", &json!({"type": "string"}), &json!("AQAAAAAAAAAq"))
            .parameter("query", "organization", "Only this organization's.", &json!({"type": "string", "maxLength": MAX_ID_BYTES}), &json!("acme"))
            .answers("200", "A page.", &[], Some(("SubscriptionPage", json!({"items": [examples::shown()], "next_cursor": null}))))
            .problems(&[Kind::InvalidFields]),
        Operation::new("post", PATH, named("createSubscription"), "Create a subscription", post(create))
            .describe("It is in force on this replica when this is answered, on all others within a second. Signing secrets that are asked for with \"generate\" stand in this answer, and never again.")
            .body(&[json], "NewSubscription", &json!({
                "little": {"summary": "As little as possible", "value": examples::little()},
                "login": {"summary": "Most of what there is", "value": examples::login()},
                "oauth2": {"summary": "A finished document to a templated address, with an OAuth 2 client", "value": examples::client_credentials()},
                "export": {"summary": "A link to a file of each reviewed document", "value": examples::export()},
            }))
            .answers("201", "It was made.", &[("Location", "Where it is."), etag], Some(("Subscription", examples::shown())))
            .problems(&[Kind::Conflict, Kind::NoSecretsKey]),
        one("get", "readSubscription", "Read a subscription", get(read))
            .describe("Secrets read \"***\".")
            .answers("200", "The subscription.", &[etag], Some(("Subscription", examples::shown()))),
        one("patch", "changeSubscription", "Change a subscription", routing::patch(patch))
            .describe("A JSON Merge Patch. Deliveries that wait use the subscription as it is when they come up.")
            .parameter("header", "If-Match", "Only if it still is this version.", &json!({"type": "string"}), &json!("\"1795632600000000\""))
            .body(&["application/merge-patch+json", json], "SubscriptionPatch", &json!({
                "change": {"summary": "Other events, a longer deadline, one header less", "value": examples::patch()},
                "rotation": {"summary": "A new signing secret beside the old one", "value": examples::rotation()},
            }))
            .answers("200", "It was changed.", &[etag], Some(("Subscription", examples::shown())))
            .problems(&[Kind::Declared, Kind::Changed, Kind::NoSecretsKey, Kind::SecretsLocked]),
        one("delete", "deleteSubscription", "Delete a subscription", routing::delete(delete))
            .describe("No new event matches it. Its waiting deliveries end.")
            .parameter("header", "If-Match", "Only if it still is this version.", &json!({"type": "string"}), &json!("\"1795632600000000\""))
            .answers("204", "It was deleted.", &[], None)
            .problems(&[Kind::Declared, Kind::Changed]),
        trial(),
    ]
}

fn trial() -> Operation {
    let summary = "Send a sample event";
    one_at(TEST, "post", "testSubscription", summary, post(test))
        .describe("One attempt through the real path, 20 s at most, whether the subscription is enabled or not: with the same login, signature and egress rules as any delivery. It carries `docrelay-test: true` and ids that begin with `test-`; no result is published. What the target answers, or why nothing could be sent, is the answer here.")
        .body(&["application/json"], "TestSend", &json!({
            "first": {"summary": "The first of its events", "value": {}},
            "chosen": {"summary": "One of its events, by a method that must be confirmed", "value": examples::test_send()},
        }))
        .answers("200", "How it went.", &[], Some(("TestReport", examples::test_report())))
        .problems(&[Kind::SecretsLocked, Kind::Busy])
}

fn one(method: &'static str, id: &str, summary: &str, route: MethodRouter<Arc<Api>>) -> Operation {
    one_at(ONE, method, id, summary, route)
}

fn one_at(
    path: &'static str,
    method: &'static str,
    id: &str,
    summary: &str,
    route: MethodRouter<Arc<Api>>,
) -> Operation {
    Operation::new(method, path, (id, TAG), summary, route)
        .parameter(
            "path",
            "id",
            "The subscription's id.",
            &json!({"type": "string", "maxLength": MAX_ID_BYTES}),
            &json!("0f8fad5b-d9cb-469f-a165-70867728950e"),
        )
        .problems(&[Kind::NotFound])
}

async fn create(caller: Caller, State(api): State<Arc<Api>>, Object(given): Object) -> Result<Response, Problem> {
    let (organization, given) = organization_of(&caller, given)?;
    let shown = api.desk.create(&organization, Origin::Api, &given, &Json::new()).await?;
    tracing::info!(docrelay.subscription = %shown.id, docrelay.organization = %organization, key.id = caller.key, "Subscription created");
    let mut response = subscription(StatusCode::CREATED, &shown);
    if let Ok(location) = HeaderValue::from_str(&format!("{PATH}/{}", shown.id)) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

async fn list(caller: Caller, State(api): State<Arc<Api>>, uri: Uri) -> Result<Response, Problem> {
    let mut query = Query::of(&uri);
    let limit = query.take("limit", "a whole number from 1 to 500", |limit| (1..=MOST_A_PAGE).contains(limit));
    let place = query.take::<Place>("cursor", "the next_cursor of a page before", |_| true);
    let asked = query.take::<OrganizationId>("organization", "the name of an organization", |_| true);
    query.end()?;
    let organization = match (caller.organization(), &asked) {
        // Another organization's are not there.
        (Some(own), Some(asked)) if own != asked => return Ok(page(&[], None)),
        (Some(own), _) => Some(own),
        (None, asked) => asked.as_ref(),
    };
    let scope = Scope { organization, origin: None };
    let listed = api.desk.list(scope, place.as_ref(), limit.unwrap_or(PAGE)).await?;
    Ok(page(&listed.items, listed.next.as_ref()))
}

async fn read(caller: Caller, State(api): State<Arc<Api>>, Id(id): Id) -> Result<Response, Problem> {
    let shown = api.desk.get(scope(&caller), &id).await?;
    Ok(subscription(StatusCode::OK, &shown))
}

async fn patch(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Id(id): Id,
    headers: HeaderMap,
    Object(patch): Object,
) -> Result<Response, Problem> {
    let shown = api.desk.patch(scope(&caller), &id, if_match(&headers)?, &patch).await?;
    tracing::info!(
        docrelay.subscription = %shown.id, docrelay.organization = %shown.organization, key.id = caller.key,
        "Subscription changed"
    );
    Ok(subscription(StatusCode::OK, &shown))
}

async fn delete(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Id(id): Id,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    api.desk.delete(scope(&caller), &id, if_match(&headers)?).await?;
    tracing::info!(docrelay.subscription = %id, key.id = caller.key, "Subscription deleted");
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn test(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Id(id): Id,
    Object(given): Object,
) -> Result<Response, Problem> {
    let wish = Wish::of(&given).map_err(Problem::invalid)?;
    let report = api.desk.try_out(scope(&caller), &id, wish).await?;
    tracing::info!(docrelay.subscription = %id, key.id = caller.key, "Subscription tried out");
    Ok(answer::json(StatusCode::OK, &Value::Object(report)))
}

fn scope(caller: &Caller) -> Scope<'_> {
    Scope { organization: caller.organization(), origin: None }
}

/// Whose subscription is to be made. An organization's key makes them for its own; the operator's says for whom.
pub(super) fn organization_of(caller: &Caller, mut given: Json) -> Result<(OrganizationId, Json), Problem> {
    let named = given.shift_remove("organization").filter(|named| !named.is_null());
    let wrong = |text: String| Problem::invalid(vec![FieldError::at("/organization", text)]);
    let named = match named {
        Some(Value::String(text)) => {
            let parsed = text.parse::<OrganizationId>();
            Some(parsed.map_err(|error| wrong(error.to_string()))?)
        }
        Some(_) => return Err(wrong("expected text".to_owned())),
        None => None,
    };
    let organization = match (caller.organization(), named) {
        (Some(own), Some(named)) if *own != named => {
            return Err(wrong(format!("is not the key's: expected {:?}, or leave it out", own.as_str())));
        }
        (Some(own), _) => own.clone(),
        (None, Some(named)) => named,
        (None, None) => return Err(wrong("organization is missing: an operator's key must say for whom".to_owned())),
    };
    Ok((organization, given))
}

fn subscription(status: StatusCode, shown: &Shown) -> Response {
    let mut response = answer::json(status, &shown.to_json());
    if let Some(etag) = shown.etag().and_then(|etag| HeaderValue::from_str(&etag).ok()) {
        response.headers_mut().insert(header::ETAG, etag);
    }
    response
}

fn page(items: &[Shown], next: Option<&Place>) -> Response {
    let items: Vec<Json> = items.iter().map(Shown::to_json).collect();
    answer::json(StatusCode::OK, &json!({"items": items, "next_cursor": next.map(ToString::to_string)}))
}
