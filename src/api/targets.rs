//! `/v1/targets`: where an organization's subscriptions lead, and to pause and resume it.

use std::sync::Arc;

use axum::{
    extract::{FromRequestParts, Path, State},
    http::{StatusCode, Uri, request::Parts},
    response::Response,
    routing::{MethodRouter, get, post},
};
use serde_json::{Value, json};

use super::{
    Api, answer,
    desk::Refusal,
    doorman::Caller,
    kind::Kind,
    lanes::{ListedTargets, ShownTarget, Wanted},
    openapi::{Operation, examples, reference},
    place::Behind,
    problem::Problem,
    request::Query,
    secrets::Json,
};
use crate::domain::{MAX_ID_BYTES, OrganizationId, TargetId};

/// Where they are.
const PATH: &str = "/v1/targets";

/// Where one of them is.
const ONE: &str = "/v1/targets/{id}";

/// Where one of them is paused.
const PAUSE: &str = "/v1/targets/{id}/pause";

/// Where one of them is resumed.
const RESUME: &str = "/v1/targets/{id}/resume";

/// How many a page has unless the query says.
const PAGE: u32 = 50;

/// The most a page may have.
const MOST_A_PAGE: u32 = 500;

/// What the document calls them.
pub(super) const TAG: &str = "targets";

/// The operations.
pub(super) fn operations() -> [Operation; 4] {
    [
        Operation::new("get", PATH, ("listTargets", TAG), "List targets", get(list))
            .describe("Where the organization's subscriptions lead, each scheme, host and port or exchange once; a subscription with limits of its own has a target of its own. A target that is paused stays in the list when no subscription leads there any more. An organization's key sees its own; the operator's sees all of them, or one organization's. `paused` counts for all replicas; what follows it is told by the replica that answers, of itself.")
            .parameter("query", "limit", "How many a page has, at most.", &json!({"type": "integer", "minimum": 1, "maximum": MOST_A_PAGE, "default": PAGE}), &json!(PAGE))
            .parameter("query", "cursor", "The `next_cursor` of the page before.", &json!({"type": "string"}), &json!("A5vcf2KGnVOMtzG-B1pWYLVhY21l"))
            .parameter("query", "organization", "Only this organization's.", &json!({"type": "string", "maxLength": MAX_ID_BYTES}), &json!("acme"))
            .answers("200", "A page.", &[], Some(("TargetPage", json!({"items": [examples::target_shown()], "next_cursor": null}))))
            .problems(&[Kind::InvalidFields]),
        one(ONE, "get", "readTarget", "Read a target", get(read))
            .describe("How it stands.")
            .answers("200", "The target.", &[], Some(("Target", examples::target_shown()))),
        one(PAUSE, "post", "pauseTarget", "Pause a target", post(pause))
            .describe("No attempt is made there until it is resumed, and none is spent; test sends go out. What is under way ends. In force on this replica when this is answered, on all others within a second, and after a restart. A delivery that becomes too old meanwhile (`retry.max_age`) ends. A target that is paused stays so, since the first time. No body is needed.")
            .answers("200", "It is paused.", &[], Some(("Target", paused()))),
        one(RESUME, "post", "resumeTarget", "Resume a target", post(resume))
            .describe("Deliveries that waited come up within as long as the pause lasted, and within five minutes. A target that is not paused stays so. No body is needed.")
            .answers("200", "It is not paused.", &[], Some(("Target", examples::target_shown()))),
    ]
}

fn one(path: &'static str, method: &'static str, id: &str, summary: &str, route: MethodRouter<Arc<Api>>) -> Operation {
    let example = examples::target_shown().get("id").cloned().unwrap_or_default();
    Operation::new(method, path, (id, TAG), summary, route)
        .parameter("path", "id", "The target's id.", &json!({"type": "string", "format": "uuid"}), &example)
        .problems(&[Kind::NotFound])
}

/// The schemas of what is answered, by their names.
pub(super) fn schemas() -> [(&'static str, Value); 2] {
    let page = json!({
        "type": "object",
        "description": "A part of a list.",
        "required": ["items", "next_cursor"],
        "properties": {
            "items": {
                "type": "array", "description": "The targets, in an order of their own.",
                "items": reference("Target"), "examples": [[examples::target_shown()]],
            },
            "next_cursor": {
                "type": ["string", "null"],
                "description": "What `cursor` takes for the next page; `null` at the end.",
                "examples": ["A5vcf2KGnVOMtzG-B1pWYLVhY21l"],
            },
        },
    });
    [("Target", target()), ("TargetPage", page)]
}

fn target() -> Value {
    let example = examples::target_shown();
    let fields = static_fields().into_iter().chain(live_fields());
    let properties = fields.map(|(name, mut schema, text)| {
        if let Value::Object(schema) = &mut schema {
            schema.insert("description".to_owned(), text.into());
            schema.insert("examples".to_owned(), json!([example.get(name)]));
        }
        (name.to_owned(), schema)
    });
    let properties: Json = properties.collect();
    let required: Vec<_> = properties.keys().cloned().collect();
    json!({
        "type": "object",
        "description": "A target: what all deliveries of an organization to one place go through, or those of one \
                        subscription.",
        "required": required,
        "properties": properties,
        "examples": [example],
    })
}

/// A field's name, its schema and what it says.
type Field = (&'static str, Value, &'static str);

/// What is the same on every replica.
fn static_fields() -> [Field; 7] {
    [
        ("id", json!({"type": "string", "format": "uuid"}), "Its id: the same for ever."),
        ("organization", json!({"type": "string"}), "Whose it is."),
        ("target", json!({"type": "string"}), "Scheme, host and port, or `amqp:` and the exchange."),
        (
            "subscription",
            json!({"type": ["string", "null"]}),
            "The subscription that it belongs to, when that has limits of its own; `null` when it is shared.",
        ),
        (
            "subscriptions",
            json!({"type": "integer", "minimum": 0}),
            "How many subscriptions lead there, enabled or not.",
        ),
        ("paused", json!({"type": "boolean"}), "Whether somebody paused it."),
        ("paused_at", json!({"type": ["string", "null"], "format": "date-time"}), "Since when."),
    ]
}

/// What the replica that answers knows of itself, and the limits.
fn live_fields() -> [Field; 7] {
    let time = json!({"type": ["string", "null"], "format": "date-time"});
    let limit = json!({"type": ["object", "null"], "required": ["per_second", "burst"], "properties": {
        "per_second": {"type": "number", "description": "Requests a second.", "examples": [10]},
        "burst": {"type": "integer", "description": "At once, after a rest.", "examples": [10]},
    }});
    [
        (
            "health",
            json!({"enum": ["answering", "suspect", "down"]}),
            "`answering`: it answered its last attempt. `suspect`: it did not, or was not tried lately. `down`: it has \
             not answered several in a row.",
        ),
        ("health_since", time.clone(), "Since when that is so; `null` when it was not tried lately."),
        ("in_flight", json!({"type": "integer", "minimum": 0}), "Requests under way."),
        (
            "in_line",
            json!({"type": "integer", "minimum": 0}),
            "Deliveries that wait for a place here, a moment each; the others wait in the broker.",
        ),
        (
            "max_in_flight",
            json!({"type": ["integer", "null"], "minimum": 1}),
            "The most requests that may be under way; `null` when no subscription leads there.",
        ),
        ("rate_limit", limit, "The most that may be sent in a time; `null` when there is no limit."),
        ("waiting_until", time, "Until when nothing is sent because it asked for that; `null` when it did not."),
    ]
}

fn paused() -> Value {
    let mut example = examples::target_shown();
    if let Value::Object(example) = &mut example {
        example.insert("paused".to_owned(), true.into());
        example.insert("paused_at".to_owned(), "2026-11-25T18:50:00.000Z".into());
    }
    example
}

/// The id in a path. What can be none is nowhere.
struct Named(TargetId);

impl FromRequestParts<Arc<Api>> for Named {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Problem> {
        let text = Path::<String>::from_request_parts(parts, api).await.ok();
        text.and_then(|Path(text)| text.parse().ok()).map(Self).ok_or_else(|| Refusal::NoTarget.into())
    }
}

async fn list(caller: Caller, State(api): State<Arc<Api>>, uri: Uri) -> Result<Response, Problem> {
    let mut query = Query::of(&uri);
    let limit = query.take("limit", "a whole number from 1 to 500", |limit| (1..=MOST_A_PAGE).contains(limit));
    let place = query.take::<Behind>("cursor", "the next_cursor of a page before", |_| true);
    let asked = query.take::<OrganizationId>("organization", "the name of an organization", |_| true);
    query.end()?;
    let organization = match (caller.organization(), &asked) {
        // Another organization's are not there.
        (Some(own), Some(asked)) if own != asked => return Ok(page(&ListedTargets { items: Vec::new(), next: None })),
        (Some(own), _) => Some(own),
        (None, asked) => asked.as_ref(),
    };
    Ok(page(&api.desk.targets(organization, place.as_ref(), limit.unwrap_or(PAGE))))
}

async fn read(caller: Caller, State(api): State<Arc<Api>>, Named(id): Named) -> Result<Response, Problem> {
    Ok(shown(&api.desk.target(caller.organization(), id)?))
}

async fn pause(caller: Caller, State(api): State<Arc<Api>>, Named(id): Named) -> Result<Response, Problem> {
    let target = api.desk.turn(caller.organization(), id, Wanted::Paused).await?;
    tracing::info!(docrelay.target.id = %id, docrelay.organization = %target.organization, key.id = caller.key, "Target paused");
    Ok(shown(&target))
}

async fn resume(caller: Caller, State(api): State<Arc<Api>>, Named(id): Named) -> Result<Response, Problem> {
    let target = api.desk.turn(caller.organization(), id, Wanted::Resumed).await?;
    tracing::info!(docrelay.target.id = %id, docrelay.organization = %target.organization, key.id = caller.key, "Target resumed");
    Ok(shown(&target))
}

fn shown(target: &ShownTarget) -> Response {
    answer::json(StatusCode::OK, &target.to_json())
}

fn page(listed: &ListedTargets) -> Response {
    let items: Vec<Json> = listed.items.iter().map(ShownTarget::to_json).collect();
    answer::json(StatusCode::OK, &json!({"items": items, "next_cursor": listed.next.as_ref().map(ToString::to_string)}))
}
