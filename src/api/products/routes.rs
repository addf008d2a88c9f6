//! What is asked at the products' paths, and what is answered.

use std::sync::Arc;

use axum::{
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, Uri, header},
    response::{IntoResponse as _, Response},
};
use serde_json::Value;
use url::form_urlencoded;

use super::{Product, Said, integration, words::in_words};
use crate::{
    api::{
        Api, answer,
        desk::{Refusal, Scope},
        doorman::Caller,
        kind::Kind,
        place::Place,
        problem::Problem,
        request::{Id, Object, Query, if_match},
        subscriptions::organization_of,
        view::Shown,
    },
    domain::OrganizationId,
};

/// How many a list has unless the query says.
pub(super) const PAGE: u32 = 100;

/// The most that it may have.
pub(super) const MOST_A_PAGE: u32 = 1000;

/// How often a change is made anew when somebody else was faster.
const MOST_TRIES: usize = 5;

/// What says whose it is.
const ORGANIZATION: &str = "organization";

/// What is called.
pub(super) type Called = State<Arc<Api>>;

pub(super) async fn create(
    product: Product,
    caller: Caller,
    State(api): Called,
    Object(given): Object,
) -> Result<Response, Problem> {
    let (organization, given) = organization_of(&caller, given)?;
    let Said { document, rehearsal, aside, errors, words } = product.create(&given);
    // Everything that is wrong is told at once, in one set of words.
    let errors = in_words(words, errors, api.desk.what_is_wrong(&organization, &rehearsal)?);
    if !errors.is_empty() {
        return Err(Problem::invalid(errors));
    }
    let made = api.desk.create(&organization, product.origin(), &document, &aside).await;
    let shown = made.map_err(|refusal| refusal.in_words(words))?;
    tracing::info!(
        docrelay.subscription = %shown.id, docrelay.organization = %organization, key.id = caller.key,
        "Subscription created"
    );
    Ok(one(product, &caller, &shown))
}

pub(super) async fn list(
    product: Product,
    path: &str,
    caller: Caller,
    State(api): Called,
    uri: Uri,
) -> Result<Response, Problem> {
    let mut query = Query::of(&uri);
    let limit = query.take("limit", "a whole number from 1 to 1000", |limit| (1..=MOST_A_PAGE).contains(limit));
    let place = query.take::<Place>("cursor", "what a Link header had", |_| true);
    let asked = query.take::<OrganizationId>("organization", "the name of an organization", |_| true);
    query.end()?;
    let organization = match (caller.organization(), &asked) {
        // Another organization's are not there.
        (Some(own), Some(asked)) if own != asked => return Ok(answer::json(StatusCode::OK, &Value::Array(Vec::new()))),
        (Some(own), _) => Some(own),
        (None, asked) => asked.as_ref(),
    };
    let scope = Scope { organization, origin: Some(product.origin()) };
    let limit = limit.unwrap_or(PAGE);
    let listed = api.desk.list(scope, place.as_ref(), limit).await?;
    let items: Vec<Value> = listed.items.iter().map(|shown| told(product, &caller, shown)).collect();
    let mut response = answer::json(StatusCode::OK, &items);
    if let Some(next) = listed.next {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("limit", &limit.to_string()).append_pair("cursor", &next.to_string());
        if let Some(asked) = asked {
            query.append_pair("organization", asked.as_str());
        }
        if let Ok(link) = HeaderValue::from_str(&format!("<{path}?{}>; rel=\"next\"", query.finish())) {
            response.headers_mut().insert(header::LINK, link);
        }
    }
    Ok(response)
}

pub(super) async fn read(
    product: Product,
    caller: Caller,
    State(api): Called,
    Id(id): Id,
) -> Result<Response, Problem> {
    let shown = api.desk.get(scope(product, &caller), &id).await?;
    Ok(one(product, &caller, &shown))
}

pub(super) async fn delete(
    product: Product,
    caller: Caller,
    State(api): Called,
    Id(id): Id,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    api.desk.delete(scope(product, &caller), &id, if_match(&headers)?).await?;
    tracing::info!(docrelay.subscription = %id, key.id = caller.key, "Subscription deleted");
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Changes an integration. What a field is replaced by depends on what is there, so both are looked at together.
pub(super) async fn patch(
    caller: Caller,
    State(api): Called,
    Id(id): Id,
    headers: HeaderMap,
    Object(mut patch): Object,
) -> Result<Response, Problem> {
    let expected = if_match(&headers)?;
    let scope = scope(Product::ContractFit, &caller);
    for _ in 0..MOST_TRIES {
        let found = api.desk.get(scope, &id).await?;
        // What the operator was told may be given back.
        if patch.get(ORGANIZATION).is_some_and(|given| *given == found.organization.as_str()) {
            patch.shift_remove(ORGANIZATION);
        }
        let said = integration::patch(&patch, &found);
        let expecting = expected.or(found.updated_at);
        let done = if said.errors.is_empty() {
            api.desk.patch(scope, &id, expecting, &said.document).await
        } else {
            match api.desk.what_would_be_wrong(scope, &id, &said.document).await {
                Ok(errors) => return Err(Problem::invalid(in_words(said.words, said.errors, errors))),
                Err(refusal) => Err(refusal),
            }
        };
        match done {
            Err(Refusal::Changed) if expected.is_none() => {}
            Err(refusal) => return Err(refusal.in_words(said.words).into()),
            Ok(shown) => {
                tracing::info!(
                    docrelay.subscription = %shown.id, docrelay.organization = %shown.organization, key.id = caller.key,
                    "Subscription changed"
                );
                return Ok(one(Product::ContractFit, &caller, &shown));
            }
        }
    }
    Err(Refusal::Changed.into())
}

/// The page has no edit.
pub(super) async fn no_edit() -> Response {
    let detail = "A document webhook cannot be changed: delete it, and create it again.";
    let mut response = Problem::new(Kind::MethodNotAllowed, detail).into_response();
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET,HEAD,DELETE"));
    response
}

fn scope(product: Product, caller: &Caller) -> Scope<'_> {
    Scope { organization: caller.organization(), origin: Some(product.origin()) }
}

/// What a product tells; whose it is, too, to whoever sees everybody's.
fn told(product: Product, caller: &Caller, shown: &Shown) -> Value {
    let mut told = product.tell(shown);
    if let (None, Value::Object(told)) = (caller.organization(), &mut told) {
        told.insert(ORGANIZATION.to_owned(), shown.organization.as_str().into());
    }
    told
}

fn one(product: Product, caller: &Caller, shown: &Shown) -> Response {
    let mut response = answer::json(StatusCode::OK, &told(product, caller, shown));
    if let Some(etag) = shown.etag().and_then(|etag| HeaderValue::from_str(&etag).ok()) {
        response.headers_mut().insert(header::ETAG, etag);
    }
    response
}

impl Refusal {
    /// The same in a product's words.
    fn in_words(self, words: super::Words) -> Self {
        match self {
            Self::Invalid(errors) => Self::Invalid(in_words(words, Vec::new(), errors)),
            other => other,
        }
    }
}
