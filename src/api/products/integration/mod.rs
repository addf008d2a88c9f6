//! ContractFit's integrations: their words and the canonical ones. Pure.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use super::{
    Said, address, must_stay,
    reading::{Names, Reader},
    words::Words,
};
use crate::{
    api::{
        problem::FieldError,
        render,
        secrets::{Json, at},
        view::Shown,
    },
    config::ranges,
    domain::{Payload, Subscription, Target, Timestamp},
};

const NAMES: Names = Names {
    given: &["type", "events", "target", "headers", "header", "inboxes", "projects", "retry_backoff", "enabled"],
    told: &["id", "disabled_reason", "created_at", "updated_at"],
};

/// Canonical places and the page's names of them. What is said of a target as a whole is the size of its headers.
const WORDS: Words = &[
    ("/target/headers", "/headers"),
    ("/target/url", "/target"),
    ("/target", "/headers"),
    ("/retry/backoff", "/retry_backoff"),
    ("/retry", "/retry_backoff"),
];

/// The same where the headers are called `header`.
const ALIAS_WORDS: Words = &[
    ("/target/headers", "/header"),
    ("/target/url", "/target"),
    ("/target", "/header"),
    ("/retry/backoff", "/retry_backoff"),
    ("/retry", "/retry_backoff"),
];

/// The one type of integration that there is here.
const TYPE: &str = "webhook";

/// What a `retry_backoff` may be.
const BACKOFF: &str = "a number of seconds from 0.001 to 3600";

/// What is to be made.
pub(super) fn create(body: &Json) -> Said {
    let mut reader = Reader::new(body, &NAMES);
    for name in ["type", "events", "target"] {
        reader.required(name);
    }
    let mut document = fields(&mut reader, &Json::new());
    document.insert("payload".to_owned(), Payload::ContractFit.as_str().into());
    // So that nothing is told of the target that was told of the field.
    document.entry("target").or_insert_with(|| json!({}));
    said(reader, document)
}

/// What a patch says, as a merge patch over the stored document: a field that is there replaces.
pub(super) fn patch(body: &Json, stored: &Shown) -> Said {
    let told = tell(stored);
    // What was read can be given back as a whole.
    let is_told = |name: &String, value: &Value| NAMES.told.contains(&name.as_str()) && told.get(name) == Some(value);
    let body =
        body.iter().filter(|(name, value)| !is_told(name, value)).map(|(name, value)| (name.clone(), value.clone()));
    let body: Json = body.collect();
    let mut reader = Reader::patch(&body, &NAMES);
    let headers = at(&stored.said, &["target", "headers"]).and_then(Value::as_object);
    let document = fields(&mut reader, headers.unwrap_or(&Json::new()));
    said(reader, document)
}

/// An integration as it is told. What was not given reads as what every integration has.
pub(super) fn tell(shown: &Shown) -> Value {
    let said = |names: &[&str]| at(&shown.said, names).cloned();
    let empty = || json!([]);
    json!({
        "id": shown.id.as_str(),
        "type": TYPE,
        "events": said(&["events"]).unwrap_or_else(empty),
        "target": said(&["target", "url"]),
        "headers": said(&["target", "headers"]).unwrap_or_else(|| json!({})),
        "inboxes": said(&["inboxes"]).unwrap_or_else(empty),
        "projects": said(&["projects"]).unwrap_or_else(empty),
        "retry_backoff": said(&["retry", "backoff"]).as_ref().and_then(Value::as_str).and_then(seconds),
        "enabled": shown.document.get("enabled"),
        "disabled_reason": shown.disabled_reason,
        "created_at": shown.created_at.map(Timestamp::to_rfc3339_micros),
        "updated_at": shown.updated_at.map(Timestamp::to_rfc3339_micros),
    })
}

/// What an integration could not tell: it is a POST of ContractFit's body to a fixed address.
pub(super) fn untold(subscription: &Subscription) -> Vec<FieldError> {
    let payload = (subscription.payload == Payload::ContractFit, "/payload", "contractfit");
    let claims = match &subscription.target {
        Target::Http(target) => vec![
            payload,
            (!target.template, "/target/template", "false"),
            (target.method == Method::POST, "/target/method", "POST"),
        ],
        Target::Amqp(_) => vec![payload, (false, "/target/type", "http")],
    };
    let wrong = claims.into_iter().filter(|(holds, ..)| !holds);
    wrong.map(|(_, at, only)| must_stay(at, only, "/integrations")).collect()
}

fn said(reader: Reader<'_>, document: Json) -> Said {
    let words = if reader.given("header").is_some() { ALIAS_WORDS } else { WORDS };
    Said { rehearsal: document.clone(), document, aside: Json::new(), errors: reader.errors, words }
}

fn fields(reader: &mut Reader<'_>, stored_headers: &Json) -> Json {
    let mut document = Json::new();
    for name in ["events", "inboxes", "projects", "enabled"] {
        if let Some(value) = reader.given(name) {
            document.insert(name.to_owned(), value.clone());
        }
    }
    if let Some(value) = reader.given("type").filter(|value| *value != TYPE) {
        reader.expected_instead("type", TYPE, value);
    }
    let mut target = Json::new();
    if let Some(url) = url(reader) {
        target.insert("url".to_owned(), url.into());
    }
    if let Some(headers) = headers(reader) {
        target.insert("headers".to_owned(), in_place_of(stored_headers, headers));
    }
    if !target.is_empty() {
        document.insert("target".to_owned(), target.into());
    }
    if let Some(backoff) = backoff(reader) {
        document.insert("retry".to_owned(), json!({"backoff": backoff}));
    }
    document
}

fn url(reader: &mut Reader<'_>) -> Option<String> {
    match reader.given("target")? {
        Value::String(target) => match address::with_scheme(target) {
            Ok(url) => return Some(url),
            Err(address::NoTarget) => reader.problem("target", format!("expected {}", address::EXPECTED)),
        },
        other => reader.expected("target", address::EXPECTED, other),
    }
    None
}

/// The page calls them `headers` in its example and `header` in its text.
fn headers<'a>(reader: &mut Reader<'a>) -> Option<&'a Value> {
    match (reader.given("headers"), reader.given("header")) {
        (Some(_), Some(_)) => {
            reader.problem("header", "is another name of headers: leave one of them out");
            None
        }
        (one, other) => one.or(other),
    }
}

/// A merge patch that leaves these headers and no other; `null` leaves none.
fn in_place_of(stored: &Json, headers: &Value) -> Value {
    let Value::Object(headers) = headers else { return headers.clone() };
    let is_here = |name: &str| headers.keys().any(|here| here.eq_ignore_ascii_case(name));
    let gone = stored.keys().filter(|name| !is_here(name)).map(|name| (name.clone(), Value::Null));
    gone.chain(headers.clone()).collect::<Json>().into()
}

/// The wait after the first failed attempt, in the canonical words; `null` in a patch takes it away.
fn backoff(reader: &mut Reader<'_>) -> Option<Value> {
    match reader.given("retry_backoff")? {
        Value::Null => return Some(Value::Null),
        given @ Value::Number(number) => {
            if let Some(backoff) = number.as_f64().and_then(of_seconds) {
                return Some(render::duration(backoff).into());
            }
            reader.expected_instead("retry_backoff", BACKOFF, given);
        }
        other => reader.expected("retry_backoff", BACKOFF, other),
    }
    None
}

/// A backoff that is accepted, to the millisecond.
fn of_seconds(seconds: f64) -> Option<Duration> {
    let half = Duration::from_micros(500);
    let millis = Duration::try_from_secs_f64(seconds).ok()?.checked_add(half)?.as_millis();
    let backoff = Duration::from_millis(u64::try_from(millis).ok()?);
    ranges::BACKOFF.contains(&backoff).then_some(backoff)
}

/// A canonical duration as a number of seconds, whole if it is.
fn seconds(text: &str) -> Option<Value> {
    let duration = humantime::parse_duration(text).ok()?;
    Some(if duration.subsec_nanos() == 0 { duration.as_secs().into() } else { duration.as_secs_f64().into() })
}

#[cfg(test)]
mod tests;
