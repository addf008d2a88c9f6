//! Writes a subscription as its canonical JSON, with everything that it did not say filled in, and without its secrets.
//! Pure.

use std::time::Duration;

use http::{HeaderMap, header::AUTHORIZATION};
use serde_json::{Value, json};

use super::secrets::{HIDDEN, Json, without_password};
use crate::domain::{
    AmqpTarget, Auth, ClientCredentials, EventName, HttpTarget, InboxId, Login, ProjectId, RateLimit, RetryOn,
    RetryPolicy, SigningSecret, State, Subscription, Target, TokenSource,
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
        rate_limit,
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
        "rate_limit": rate_limit.map(in_force_of_rate),
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
    let RetryPolicy { on, backoff, max_attempts, max_age, while_down } = retry;
    let on = match on {
        RetryOn::AnyFailure => "any_failure",
        RetryOn::NoResponse => "no_response",
    };
    json!({
        "on": on,
        "backoff": duration(*backoff),
        "max_attempts": max_attempts,
        "while_down": while_down.as_str(),
        "max_age": duration(*max_age),
    })
}

fn in_force_of_rate(limit: RateLimit) -> Value {
    // 10 is written as 10, not as 10.0.
    let per_second = limit.whole_per_second().map_or_else(|| Value::from(limit.per_second()), Value::from);
    json!({"per_second": per_second, "burst": limit.burst()})
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

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::*;
    use crate::{
        config,
        domain::{BURST, HttpTarget, TargetUrl, WhileDown},
        store::{self, Defaults},
    };

    static DEFAULTS: LazyLock<Defaults> =
        LazyLock::new(|| Defaults::from(&config::load(&[], std::iter::empty()).unwrap()));

    proptest! {
        /// Through JSON as text, as it is stored and sent, and through the same text in the subscriptions file.
        #[test]
        fn limits_are_read_as_they_are_shown(
            millis in 1u32..=100_000_000, burst in proptest::option::of(BURST), hold in any::<bool>(),
        ) {
            let url = TargetUrl::parse("https://h/").unwrap();
            let target = Target::Http(HttpTarget::post(url, Duration::from_secs(15)));
            let mut given = Subscription::shipped("acme".parse().unwrap(), target);
            given.events = [EventName::DocumentText].into_iter().collect();
            given.rate_limit = Some(RateLimit::new(f64::from(millis) / 1000.0, burst).unwrap());
            given.retry.while_down = if hold { WhileDown::Hold } else { WhileDown::Count };
            let mut shown = in_force(&given);
            shown.retain(|name, _| !["name", "file", "auth"].contains(&name.as_str()));
            let text = Value::Object(shown).to_string();

            let Ok(Value::Object(json)) = serde_json::from_str(&text) else { panic!("{text}") };
            let stored = store::from_json(json, &given.organization, &given.id, &DEFAULTS).unwrap();
            let file = text.replacen('{', "{\"id\": \"a\", \"organization\": \"acme\", ", 1);
            let filed = store::parse(&format!("subscriptions: [{file}]"), &DEFAULTS).unwrap().remove(0);
            for read in [stored, filed] {
                prop_assert_eq!((read.rate_limit, read.retry), (given.rate_limit, given.retry), "{}", text);
            }
            prop_assert!(!text.contains(".0,"), "whole numbers are whole: {}", text);
        }
    }
}
