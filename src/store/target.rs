//! Reads where deliveries go; of a webhook URL, method, headers. Nothing of them is ever repeated in a problem, except
//! names: they may all hold secrets.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method, header::AUTHORIZATION};

use super::{
    exchange::{AMQP, check_payload, exchange, no_fields_of},
    fields::{At, Names, Table},
    file::Defaults,
    yaml::Notes,
};
use crate::{
    config::{did_you_mean, ranges},
    domain::{
        BadTarget, HttpTarget, OPEN_HEADERS, OrganizationId, Payload, RESERVED_HEADER_PREFIXES, RESERVED_HEADERS,
        Target, TargetUrl, has_placeholder,
    },
};

/// Fields of any target, whatever its type: those of the other type are told apart before.
const TARGET: Names = Names {
    known: &["type", "url", "template", "method", "headers", "timeout", "exchange", "routing_key"],
    later: &[],
    read_only: &[],
};

/// The fields that only one type of target has.
pub(super) struct FieldsOf {
    pub(super) kind: &'static str,
    pub(super) own: &'static [&'static str],
}

const HTTP: FieldsOf = FieldsOf { kind: "http", own: &["url", "template", "method", "headers"] };

/// The most headers a subscription may set.
const MAX_HEADERS: usize = 20;

/// The most bytes they may have in all, names and values, `Authorization` included (docs/subscriptions.md: 4 KiB).
const MAX_HEADER_BYTES: usize = 4 * 1024;

/// The target of a subscription. A fixed `authorization` becomes one of its headers, and wins over one that is there.
pub(super) fn target(
    subscription: &Table<'_>,
    (payload, organization): (Option<Payload>, Option<&OrganizationId>),
    authorization: Option<&HeaderValue>,
    defaults: &Defaults,
    notes: &mut Notes,
) -> Option<Target> {
    let at = subscription.required("target", notes)?;
    let table = at.table(notes)?;
    let is_amqp = is_amqp(&table, notes)?;
    no_fields_of(if is_amqp { &HTTP } else { &AMQP }, &table, notes);
    table.check_names(&TARGET, notes);
    let payload_at = subscription.get("payload");
    let fits = payload.map(|payload| check_payload(payload_at.as_ref().unwrap_or(&at), payload, is_amqp, notes));
    let target = if is_amqp {
        exchange(subscription, &table, organization, defaults, notes).map(Target::Amqp)
    } else {
        // What is said of a payload's URL or method is no news about one that goes over AMQP only.
        let payload = payload.filter(|payload| payload.goes_over_http());
        webhook(&at, &table, payload, authorization, defaults, notes).map(Target::Http)
    };
    fits.unwrap_or(Some(()))?;
    target
}

/// IDEXA's URL is always a template, and its page knows four methods; SmartDocumentor's export is always a POST.
fn webhook(
    at: &At<'_>,
    table: &Table<'_>,
    payload: Option<Payload>,
    authorization: Option<&HeaderValue>,
    defaults: &Defaults,
    notes: &mut Notes,
) -> Option<HttpTarget> {
    let template = template(table, payload, notes);
    let url = table.required("url", notes).and_then(|at| url(&at, template == Some(true), notes));
    let method = table.get("method").map_or(Some(Method::POST), |at| method_of(&at, payload, notes));
    let headers = table.get("headers").map_or_else(|| Some(HeaderMap::new()), |at| headers(&at, notes));
    let timeout = timeout(table, defaults, notes);

    let mut headers = headers?;
    if let Some(value) = authorization {
        headers.insert(AUTHORIZATION, value.clone());
    }
    check_size(&headers, at, notes)?;
    Some(HttpTarget { url: url?, template: template?, method: method?, headers, timeout: timeout? })
}

/// The deadline of one attempt.
pub(super) fn timeout(target: &Table<'_>, defaults: &Defaults, notes: &mut Notes) -> Option<Duration> {
    target.get("timeout").map_or(Some(defaults.timeout), |at| at.duration(ranges::TIMEOUT, notes))
}

/// `None` when headers are larger than a subscription may have them.
pub(super) fn check_size(headers: &HeaderMap, at: &At<'_>, notes: &mut Notes) -> Option<()> {
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if bytes > MAX_HEADER_BYTES {
        at.problem(notes, format!("headers must have at most {MAX_HEADER_BYTES} bytes in all, have {bytes}"));
        return None;
    }
    Some(())
}

/// Whether the target is an exchange; `None` when its type is none that is known. Then its fields are not read: one problem
/// is enough.
fn is_amqp(target: &Table<'_>, notes: &mut Notes) -> Option<bool> {
    let Some(at) = target.get("type") else { return Some(false) };
    match at.text(notes)? {
        "http" => Some(false),
        "amqp" => Some(true),
        other => {
            let guess = did_you_mean(other, ["http", "amqp"]);
            at.problem(notes, format!("expected http or amqp, got {other:?}{guess}"));
            None
        }
    }
}

pub(super) fn url(at: &At<'_>, template: bool, notes: &mut Notes) -> Option<TargetUrl> {
    let url = match TargetUrl::parse(at.text(notes)?) {
        Ok(url) => url,
        Err(error) => {
            let hint = if matches!(error, BadTarget::NotAUrl(_)) { ": expected https://host/path" } else { "" };
            at.problem(notes, format!("{error}{hint}"));
            return None;
        }
    };
    if template && !has_placeholder(url.as_url()) {
        at.problem(notes, "is a template, so path or query must contain :id");
        return None;
    }
    Some(url)
}

fn template(target: &Table<'_>, payload: Option<Payload>, notes: &mut Notes) -> Option<bool> {
    let always = payload == Some(Payload::Idexa);
    let Some(at) = target.get("template") else { return Some(always) };
    let template = at.claim(notes)?;
    if always && !template {
        at.problem(notes, "must be true for the payload idexa: leave it out");
        return None;
    }
    Some(template)
}

fn method_of(at: &At<'_>, payload: Option<Payload>, notes: &mut Notes) -> Option<Method> {
    let text = at.text(notes)?;
    let allowed: &[&str] = match payload {
        Some(Payload::Idexa) => &["POST", "PUT", "GET", "DELETE"],
        Some(Payload::SmartDocumentorFile) => &["POST"],
        Some(Payload::ContractFit | Payload::CloudEvents | Payload::Protobuf) | None => &[],
    };
    if !allowed.is_empty() && !allowed.contains(&text) {
        at.problem(notes, format!("expected {} for this payload, got {text:?}", allowed.join(" or ")));
        return None;
    }
    method(at, notes)
}

/// Any method, in capitals if it is one that everybody knows.
pub(super) fn method(at: &At<'_>, notes: &mut Notes) -> Option<Method> {
    let text = at.text(notes)?;
    let Ok(method) = Method::from_bytes(text.as_bytes()) else {
        at.problem(notes, format!("expected a method such as POST, got {text:?}"));
        return None;
    };
    // Methods tell capitals from small letters, so `post` would be a method of its own that no server knows.
    let capitals = text.to_ascii_uppercase();
    if capitals != text && ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"].contains(&capitals.as_str()) {
        at.problem(notes, format!("expected {capitals} in capitals, got {text:?}"));
        return None;
    }
    Some(method)
}

pub(super) fn headers(at: &At<'_>, notes: &mut Notes) -> Option<HeaderMap> {
    let table = at.table(notes)?;
    table.check_repeats(notes);
    let (mut headers, mut count, mut sound) = (HeaderMap::new(), 0, true);
    for (name, at) in table.each() {
        count += 1;
        let header = header_name(name, &at, notes).zip(header_value(&at, notes));
        let Some((name, mut value)) = header else {
            sound = false;
            continue;
        };
        value.set_sensitive(!OPEN_HEADERS.contains(&name.as_str()));
        if headers.insert(name, value).is_some() {
            at.problem(notes, "is set twice: capitals make no difference in header names");
            sound = false;
        }
    }
    if count > MAX_HEADERS {
        at.problem(notes, format!("at most {MAX_HEADERS} headers, got {count}"));
        sound = false;
    }
    sound.then_some(headers)
}

fn header_name(name: &str, at: &At<'_>, notes: &mut Notes) -> Option<HeaderName> {
    let Ok(header) = HeaderName::from_bytes(name.as_bytes()) else {
        at.problem(notes, "is not a header name: expected letters, digits and dashes");
        return None;
    };
    let is_reserved = RESERVED_HEADERS.contains(&header.as_str())
        || RESERVED_HEADER_PREFIXES.iter().any(|prefix| header.as_str().starts_with(prefix));
    if is_reserved {
        at.problem(notes, "is reserved: docrelay sets it itself");
        return None;
    }
    Some(header)
}

pub(super) fn header_value(at: &At<'_>, notes: &mut Notes) -> Option<HeaderValue> {
    let text = at.text(notes)?;
    // Bytes above ASCII are allowed on the wire, but nobody knows which letters the receiver takes them for.
    let value = HeaderValue::from_str(text).ok().filter(|_| text.is_ascii());
    if value.is_none() {
        at.problem(notes, "is not a header value: expected visible ASCII on one line");
    }
    value
}
