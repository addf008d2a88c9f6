//! A stored row as a subscription. Its JSON becomes the tree that the YAML parser makes of a file, so there is one set of
//! rules for both.

use std::borrow::Cow;

use saphyr::Scalar;
use serde_json::{Map, Value};

use super::{
    database::Row,
    file::{self, Defaults},
    yaml::{Field, FileProblems, Kind, Node},
};
use crate::{
    domain::{FailureKind, OrganizationId, State, Subscription, SubscriptionId},
    secrets::OpenError,
};

/// Why a row is no subscription. Says no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadDocument {
    /// Its secrets cannot be read.
    #[error("its secrets cannot be read: {0}")]
    Secrets(#[from] OpenError),
    /// The document, or the secrets, are no JSON object.
    #[error("it is no JSON object")]
    NotAnObject,
    /// What it says is not accepted; perhaps a newer docrelay wrote it.
    #[error("it is not accepted: {0}")]
    Refused(#[from] FileProblems),
}

/// The subscription that a row holds: the document, the secrets laid over it, and what the row knows by itself.
///
/// # Errors
/// The secrets cannot be read, or the document is not what this version accepts.
pub fn from_document(row: &Row, defaults: &Defaults) -> Result<Subscription, BadDocument> {
    let whole = whole(row)?;
    let mut subscription = from_json(whole, &row.organization, &row.id, defaults)?;
    subscription.state = state(subscription.state, row.disabled_reason.as_deref());
    Ok(subscription)
}

/// The subscription that a JSON object describes, its secrets included; whose it is and what it is called is given, whatever
/// the object says.
///
/// # Errors
/// Everything that is wrong with it, by the rules of the file.
pub fn from_json(
    mut whole: Map<String, Value>,
    organization: &OrganizationId,
    id: &SubscriptionId,
    defaults: &Defaults,
) -> Result<Subscription, FileProblems> {
    whole.insert("id".to_owned(), id.as_str().into());
    whole.insert("organization".to_owned(), organization.as_str().into());
    file::one(&node(&Value::Object(whole)), defaults)
}

/// Where a document keeps what has no place in the canonical JSON, in the words of the API that made it. No subscription
/// has a field of this name.
pub const ASIDE: &str = "aside";

/// What a row says, its secrets included.
///
/// # Errors
/// The secrets cannot be read, or it is no JSON.
pub fn whole(row: &Row) -> Result<Map<String, Value>, BadDocument> {
    let mut whole = object(&row.document)?;
    whole.remove(ASIDE);
    if let Some(secrets) = row.secrets.as_ref().map_err(Clone::clone)? {
        lay_over(&mut whole, object(secrets.reveal())?);
    }
    Ok(whole)
}

/// What a row keeps beside what it says; empty for most.
#[must_use]
pub fn aside(row: &Row) -> Map<String, Value> {
    match object(&row.document).ok().and_then(|mut whole| whole.remove(ASIDE)) {
        Some(Value::Object(aside)) => aside,
        _ => Map::new(),
    }
}

/// What the system's reason makes of a state. What its owner disabled stays so, whatever the reason.
pub(super) fn state(said: State, reason: Option<&str>) -> State {
    match reason {
        None => said,
        Some(reason) if reason == FailureKind::Gone.as_str() && said != State::Disabled => State::Gone,
        Some(_) => State::Disabled,
    }
}

fn object(text: &str) -> Result<Map<String, Value>, BadDocument> {
    serde_json::from_str(text).map_err(|_| BadDocument::NotAnObject)
}

/// Puts every value of `above` into its place; objects that both have are laid over each other.
pub fn lay_over(below: &mut Map<String, Value>, above: Map<String, Value>) {
    for (name, value) in above {
        match (below.get_mut(&name), value) {
            (Some(Value::Object(below)), Value::Object(above)) => lay_over(below, above),
            (_, value) => {
                below.insert(name, value);
            }
        }
    }
}

/// Everything of it is on line 1. `serde_json` has bounded its depth.
fn node(value: &Value) -> Node<'_> {
    let kind = match value {
        Value::Null => Kind::Scalar(Scalar::Null),
        Value::Bool(claim) => Kind::Scalar(Scalar::Boolean(*claim)),
        Value::Number(number) => Kind::Scalar(match number.as_i64() {
            Some(whole) => Scalar::Integer(whole),
            None => Scalar::FloatingPoint(number.as_f64().unwrap_or(f64::NAN).into()),
        }),
        Value::String(text) => Kind::Scalar(Scalar::String(Cow::Borrowed(text))),
        Value::Array(items) => Kind::List(items.iter().map(node).collect()),
        Value::Object(fields) => Kind::Table(
            fields
                .iter()
                .map(|(name, value)| Field { name: Cow::Borrowed(name), line: 1, value: node(value) })
                .collect(),
        ),
    };
    Node { line: 1, kind }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{LaneKey, RateLimit, Secret, Timestamp, WhileDown},
        store::{
            database::{ChangeCounter, Origin},
            file::tests::defaults,
            parse,
        },
    };

    const DOCUMENT: &str = r#"{"name": "Ä \"b\"\u0001", "inboxes": ["i"], "events": ["document_text", "document_split"],
        "target": {"url": "https://h/x", "headers": {"X-Env": "prod"}, "timeout": "3s"},
        "retry": {"backoff": "1s", "max_attempts": 3, "while_down": "hold"},
        "rate_limit": {"per_second": 0.3, "burst": 7}, "max_in_flight": 7, "enabled": true}"#;

    fn row(document: &str, secrets: Option<&str>) -> Row {
        let now = Timestamp::from_unix(0, 0).unwrap();
        Row {
            id: "a".parse().unwrap(),
            organization: "acme".parse().unwrap(),
            origin: Origin::Api,
            singular: None,
            document: document.to_owned(),
            secrets: Ok(secrets.map(Secret::new)),
            created_at: now,
            updated_at: now,
            disabled_reason: None,
            sequence: 1,
            changed: ChangeCounter::default(),
        }
    }

    #[test]
    fn a_document_is_what_the_same_text_in_a_file_is() {
        let secrets = r#"{"target": {"headers": {"X-Key": "hush"}}, "auth": {"authorization": "Bearer hush"}}"#;
        let stored = from_document(&row(DOCUMENT, Some(secrets)), &defaults()).unwrap();
        let whole = r#"{"id": "a", "organization": "acme", "name": "Ä \"b\"\x01", "inboxes": ["i"],
            "events": ["document_text", "document_split"], "auth": {"authorization": "Bearer hush"},
            "target": {"url": "https://h/x", "headers": {"X-Env": "prod", "X-Key": "hush"}, "timeout": "3s"},
            "retry": {"backoff": "1s", "max_attempts": 3, "while_down": "hold"},
            "rate_limit": {"per_second": 0.3, "burst": 7}, "max_in_flight": 7, "enabled": true}"#;
        let in_a_file = parse(&format!("subscriptions: [{whole}]"), &defaults()).unwrap();
        assert_eq!(in_a_file, [stored]);
    }

    #[test]
    fn what_was_stored_before_there_were_rates_has_the_defaults() {
        let document =
            r#"{"events": ["document_text"], "target": {"url": "https://h/x"}, "retry": {"max_attempts": 3}}"#;
        let rate_limit = Some(RateLimit::new(5.0, None).unwrap());
        let found = from_document(&row(document, None), &Defaults { rate_limit, ..defaults() }).unwrap();
        assert_eq!((found.rate_limit, found.retry.while_down), (rate_limit, WhileDown::Count));
        assert_eq!(found.lane, LaneKey::of_target(&found.organization, &found.target));
    }

    #[test]
    fn the_row_says_whose_it_is_whatever_the_document_says() {
        let document = DOCUMENT.replacen('{', r#"{"id": "b", "organization": "other", "#, 1);
        let stored = from_document(&row(&document, None), &defaults()).unwrap();
        assert_eq!((stored.id.as_str(), stored.organization.as_str()), ("a", "acme"));
    }

    #[test]
    fn what_the_system_disabled_is_disabled() {
        let with = |document: &str, reason: &str| {
            let row = Row { disabled_reason: Some(reason.to_owned()), ..row(document, None) };
            from_document(&row, &defaults()).unwrap().state
        };
        assert_eq!(with(DOCUMENT, "something"), State::Disabled);
        assert_eq!(with(DOCUMENT, "gone"), State::Gone);
        let by_its_owner = DOCUMENT.replace("\"enabled\": true", "\"enabled\": false");
        assert_eq!(with(&by_its_owner, "gone"), State::Disabled);
    }

    #[test]
    fn what_is_wrong_is_told_without_secrets() {
        let locked = Row { secrets: Err(OpenError::Damaged), ..row(DOCUMENT, None) };
        assert_eq!(from_document(&locked, &defaults()), Err(BadDocument::Secrets(OpenError::Damaged)));
        for (document, secrets) in [("", None), ("[]", None), (DOCUMENT, Some("hunter2"))] {
            assert_eq!(from_document(&row(document, secrets), &defaults()), Err(BadDocument::NotAnObject));
        }
        let wrong = from_document(&row(DOCUMENT, Some(r#"{"target": {"headers": {"Host": "hunter2"}}}"#)), &defaults());
        let told = wrong.unwrap_err().to_string();
        assert!(told.contains("target.headers.Host") && !told.contains("hunter2"), "{told}");
    }
}
