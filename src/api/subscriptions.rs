//! `/v1/subscriptions`: an organization's subscriptions, whatever made them, in canonical JSON.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Path, State},
    http::{HeaderMap, HeaderValue, StatusCode, Uri, header},
    response::{IntoResponse as _, Response},
    routing::get,
};
use serde_json::{Value, json};

use super::{
    Api, answer,
    desk::{Refusal, Scope},
    doorman::Caller,
    place::Place,
    problem::{FieldError, Problem},
    request::{Object, Query, if_match},
    secrets::Json,
    view::Shown,
};
use crate::{
    domain::{OrganizationId, SubscriptionId},
    store::database::Origin,
};

/// Where they are.
pub(super) const PATH: &str = "/v1/subscriptions";

/// How many a page has unless the query says.
const PAGE: u32 = 50;

/// The most a page may have.
const MOST_A_PAGE: u32 = 500;

/// The routes.
pub(super) fn routes() -> Router<Arc<Api>> {
    let one = format!("{PATH}/{{id}}");
    Router::new().route(PATH, get(list).post(create)).route(&one, get(read).patch(patch).delete(delete))
}

async fn create(caller: Caller, State(api): State<Arc<Api>>, Object(given): Object) -> Result<Response, Problem> {
    let (organization, given) = organization_of(&caller, given)?;
    let shown = api.desk.create(&organization, Origin::Api, &given).await?;
    tracing::info!(subscription.id = %shown.id, organization.id = %organization, key.id = caller.key, "Subscription created");
    let mut response = one(StatusCode::CREATED, &shown);
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

async fn read(caller: Caller, State(api): State<Arc<Api>>, Path(id): Path<String>) -> Result<Response, Problem> {
    let shown = api.desk.get(scope(&caller), &parse(&id)?).await?;
    Ok(one(StatusCode::OK, &shown))
}

async fn patch(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    Object(patch): Object,
) -> Result<Response, Problem> {
    let shown = api.desk.patch(scope(&caller), &parse(&id)?, if_match(&headers)?, &patch).await?;
    tracing::info!(
        subscription.id = %shown.id, organization.id = %shown.organization, key.id = caller.key,
        "Subscription changed"
    );
    Ok(one(StatusCode::OK, &shown))
}

async fn delete(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let id = parse(&id)?;
    api.desk.delete(scope(&caller), &id, if_match(&headers)?).await?;
    tracing::info!(subscription.id = %id, key.id = caller.key, "Subscription deleted");
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn scope(caller: &Caller) -> Scope<'_> {
    Scope { organization: caller.organization(), origin: None }
}

/// What can be no id is not there.
fn parse(id: &str) -> Result<SubscriptionId, Problem> {
    id.parse().map_err(|_| Refusal::Absent.into())
}

/// Whose subscription is to be made. An organization's key makes them for its own; the operator's says for whom.
fn organization_of(caller: &Caller, mut given: Json) -> Result<(OrganizationId, Json), Problem> {
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

fn one(status: StatusCode, shown: &Shown) -> Response {
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
