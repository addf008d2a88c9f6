//! Writes a subscription as its canonical JSON, with everything that it did not say filled in, and without its secrets.
//! Pure.

use std::time::Duration;

use http::{HeaderMap, header::AUTHORIZATION};
use serde_json::{Value, json};

use super::secrets::{HIDDEN, Json, without_password};
use crate::domain::{
    AmqpTarget, Auth, ClientCredentials, EventName, HttpTarget, InboxId, Login, ProjectId, RetryOn, RetryPolicy,
    SigningSecret, State, Subscription, Target, TokenSource,
};

/// What is in force of a subscription: everything but its headers, its auth and its signing secrets, of which others know
/// better what was given.
pub(super) fn in_force(subscription: &Subscription) -> Json {
    // Named one by one: a new field must not be forgotten here.
    let Subscription {
        id: _,
        name,
        organization: _,
        inboxes,
        projects,
        events,
        payload,
        file,
        target,
        auth: _,
        signing_secrets: _,
        retry,
        rate_limit: _,
        max_in_flight,
        lane: _,
        state,
    } = subscription;
    let file = file.map(|file| {
        let hours = file.valid_for.as_secs() / 3600;
        json!({"format": file.format.as_str(), "expires_hours": hours})
    });
    object(json!({
        "name": name,
        "inboxes": inboxes.iter().map(InboxId::as_str).collect::<Vec<_>>(),
        "projects": projects.iter().map(ProjectId::as_str).collect::<Vec<_>>(),
        "events": events.iter().map(EventName::as_str).collect::<Vec<_>>(),
        "payload": payload.as_str(),
        "file": file,
        "target": in_force_of_target(target),
        "auth": {"authorization": null, "login": null, "oauth2": null},
        "signing_secrets": [],
        "retry": in_force_of_retry(retry),
        "max_in_flight": max_in_flight,
        "enabled": *state == State::Enabled,
    }))
}

/// A subscription of the file, as a whole. Its secrets are hidden.
pub(super) fn declared(subscription: &Subscription) -> Json {
    let mut json = in_force(subscription);
    let mut headers = match &subscription.target {
        Target::Http(target) => headers(&target.headers),
        Target::Amqp(_) => Json::new(),
    };
    let mut auth = object(json!({"authorization": null, "login": null, "oauth2": null}));
    match &subscription.auth {
        // Whether the file has it among the headers or in its auth makes no difference.
        Auth::Fixed => {
            if headers.shift_remove(AUTHORIZATION.as_str()).is_some() {
                auth.insert("authorization".to_owned(), HIDDEN.into());
            }
        }
        Auth::Token(source) => match &**source {
            TokenSource::Login(given) => drop(auth.insert("login".to_owned(), login(given))),
            TokenSource::ClientCredentials(given) => drop(auth.insert("oauth2".to_owned(), client_credentials(given))),
        },
    }
    if let (Target::Http(_), Some(Value::Object(target))) = (&subscription.target, json.get_mut("target")) {
        target.insert("headers".to_owned(), headers.into());
    }
    json.insert("auth".to_owned(), auth.into());
    json.insert("signing_secrets".to_owned(), signing_secrets(&subscription.signing_secrets));
    json
}

/// How durations are written: in one unit, the largest that is exact.
pub(super) fn duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s")]
        .into_iter()
        // A day is "24h": that is how people write a deadline.
        .find(|(unit, name)| millis >= *unit && millis.is_multiple_of(*unit) && !(*name == "d" && millis == *unit))
        .map_or_else(|| format!("{millis}ms"), |(unit, name)| format!("{}{name}", millis / unit))
}

fn in_force_of_target(target: &Target) -> Value {
    match target {
        Target::Http(target) => in_force_of_webhook(target),
        Target::Amqp(AmqpTarget { exchange, routing_key, timeout }) => json!({
            "type": "amqp",
            "exchange": exchange.as_str(),
            "routing_key": routing_key.as_str(),
            "timeout": duration(*timeout),
        }),
    }
}

fn in_force_of_webhook(target: &HttpTarget) -> Value {
    let HttpTarget { url, template, method, headers: _, timeout } = target;
    json!({
        "type": "http",
        "url": address(url.as_url().as_str()),
        "template": template,
        "method": method.as_str(),
        "headers": {},
        "timeout": duration(*timeout),
    })
}

fn in_force_of_retry(retry: &RetryPolicy) -> Value {
    let RetryPolicy { on, backoff, max_attempts, max_age, while_down: _ } = retry;
    let on = match on {
        RetryOn::AnyFailure => "any_failure",
        RetryOn::NoResponse => "no_response",
    };
    json!({
        "on": on,
        "backoff": duration(*backoff),
        "max_attempts": max_attempts,
        "max_age": duration(*max_age),
    })
}

fn login(login: &Login) -> Value {
    let Login { url, method, headers: given, body, token_attribute, scheme } = login;
    json!({
        "url": address(url.as_url().as_str()),
        "method": method.as_str(),
        "headers": headers(given),
        "body": (!body.is_empty()).then_some(HIDDEN),
        "token_attribute": token_attribute,
        "scheme": scheme,
    })
}

fn client_credentials(client: &ClientCredentials) -> Value {
    let ClientCredentials { token_url, client_id, client_secret: _, scope } = client;
    json!({
        "token_url": address(token_url.as_url().as_str()),
        "client_id": client_id,
        "client_secret": HIDDEN,
        "scope": scope,
    })
}

fn headers(headers: &HeaderMap) -> Json {
    let shown = headers.iter().map(|(name, value)| {
        let open = (!value.is_sensitive()).then(|| value.to_str().ok()).flatten();
        (name.as_str().to_owned(), Value::from(open.unwrap_or(HIDDEN)))
    });
    shown.collect()
}

fn signing_secrets(secrets: &[SigningSecret]) -> Value {
    Value::from(vec![HIDDEN; secrets.len()])
}

fn address(url: &str) -> String {
    without_password(url).unwrap_or_else(|| url.to_owned())
}

fn object(value: Value) -> Json {
    match value {
        Value::Object(object) => object,
        _ => Json::new(),
    }
}
