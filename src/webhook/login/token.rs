//! The token in a login's answer. Pure. Nothing of the answer is ever repeated: it is a secret.

use std::{collections::HashMap, time::Duration};

use http::HeaderValue;
use serde_json::value::RawValue;

use crate::domain::TokenSource;

/// What `OAuth` 2 calls the token (RFC 6749, 5.1).
const ACCESS_TOKEN: &str = "access_token";

/// A token, ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    /// The value of `Authorization`.
    pub(super) authorization: HeaderValue,
    /// How long it is good for, from when it was asked for, if the answer says so.
    pub(super) expires_in: Option<Duration>,
}

/// Why an answer has no token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoToken {
    #[error("its answer is not a JSON object")]
    NotJson,
    #[error("its answer has no {0}")]
    Missing(String),
    #[error("{0} in its answer is neither text nor a number")]
    NotScalar(String),
    #[error("{0} in its answer is empty")]
    Empty(String),
    #[error("{0} in its answer cannot stand in a header")]
    NotHeader(String),
    #[error("its answer has a token_type other than Bearer")]
    Type,
}

type Object = HashMap<String, Box<RawValue>>;

/// Takes the token out of the body of a login that succeeded.
pub(super) fn read(source: &TokenSource, body: &[u8]) -> Result<Token, NoToken> {
    let (attribute, scheme) = match source {
        TokenSource::Login(login) => (login.token_attribute.as_str(), login.scheme.as_str()),
        TokenSource::ClientCredentials(_) => (ACCESS_TOKEN, "Bearer"),
    };
    let answer: Object = serde_json::from_slice(body).map_err(|_hidden| NoToken::NotJson)?;
    if matches!(source, TokenSource::ClientCredentials(_)) && !is_bearer(&answer) {
        return Err(NoToken::Type);
    }
    let token = find(&answer, attribute).ok_or_else(|| NoToken::Missing(attribute.to_owned()))?;
    let token = scalar(&token).ok_or_else(|| NoToken::NotScalar(attribute.to_owned()))?;
    if token.trim().is_empty() {
        return Err(NoToken::Empty(attribute.to_owned()));
    }
    let value = if scheme.is_empty() { token } else { format!("{scheme} {token}") };
    // Bytes above ASCII are allowed on the wire, but nobody knows which letters the receiver takes them for.
    let value = Some(value).filter(|value| value.is_ascii()).and_then(|value| HeaderValue::try_from(value).ok());
    let mut authorization = value.ok_or_else(|| NoToken::NotHeader(attribute.to_owned()))?;
    authorization.set_sensitive(true);
    Ok(Token { authorization, expires_in: expires_in(&answer) })
}

/// The attribute of that very name, otherwise the one at the end of the path.
fn find(answer: &Object, attribute: &str) -> Option<Box<RawValue>> {
    if let Some(found) = answer.get(attribute) {
        return Some(found.clone());
    }
    let (first, mut path) = attribute.split_once('.')?;
    let mut found = answer.get(first)?.clone();
    loop {
        let (name, rest) = path.split_once('.').map_or((path, None), |(name, rest)| (name, Some(rest)));
        let mut object: Object = serde_json::from_str(found.get()).ok()?;
        found = object.remove(name)?;
        match rest {
            Some(rest) => path = rest,
            None => return Some(found),
        }
    }
}

/// A text, or a number with the digits it was written with.
fn scalar(value: &RawValue) -> Option<String> {
    let text = value.get();
    if text.starts_with('"') {
        return serde_json::from_str(text).ok();
    }
    text.starts_with(|first: char| first == '-' || first.is_ascii_digit()).then(|| text.to_owned())
}

/// Only a number counts: what is no number says nothing about time.
fn expires_in(answer: &Object) -> Option<Duration> {
    let seconds: f64 = serde_json::from_str(answer.get("expires_in")?.get()).ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

/// Tokens of other types are not sent like this. Where the type is missing, which the standard forbids, it is Bearer.
fn is_bearer(answer: &Object) -> bool {
    answer.get("token_type").and_then(|value| scalar(value)).is_none_or(|kind| kind.eq_ignore_ascii_case("bearer"))
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, Method};
    use proptest::prelude::*;

    use super::*;
    use crate::domain::{ClientCredentials, Login, Secret, TargetUrl};

    fn login(attribute: &str, scheme: &str) -> TokenSource {
        TokenSource::Login(Login {
            url: TargetUrl::parse("https://h/").unwrap(),
            method: Method::POST,
            headers: HeaderMap::new(),
            body: vec![],
            token_attribute: attribute.into(),
            scheme: scheme.into(),
        })
    }

    fn client() -> TokenSource {
        TokenSource::ClientCredentials(ClientCredentials {
            token_url: TargetUrl::parse("https://h/").unwrap(),
            client_id: "id".into(),
            client_secret: Secret::new("secret"),
            scope: None,
        })
    }

    #[test]
    fn the_literal_key_comes_first_and_then_the_path() {
        let table = [
            ("access_token", r#"{"access_token": "abc"}"#, "Bearer abc"),
            ("token", r#"{"access_token": "wrong", "token": "abc"}"#, "Bearer abc"),
            ("data.token", r#"{"data": {"token": "abc"}}"#, "Bearer abc"),
            ("data.token", r#"{"data": {"token": "wrong"}, "data.token": "abc"}"#, "Bearer abc"),
            ("a.b.c", r#"{"a": {"b": {"c": "abc"}}}"#, "Bearer abc"),
            ("token", r#"{"token": "a\u0062c/\"x\""}"#, "Bearer abc/\"x\""),
            ("token", r#"{"token": 42}"#, "Bearer 42"),
            ("token", r#"{"token": 12345678901234567890123}"#, "Bearer 12345678901234567890123"),
            ("token", r#"{"token": 1.50}"#, "Bearer 1.50"),
        ];
        for (attribute, answer, expected) in table {
            let token = read(&login(attribute, "Bearer"), answer.as_bytes()).unwrap();
            assert_eq!(token.authorization, expected, "{attribute} of {answer}");
            assert!(token.authorization.is_sensitive());
            assert_eq!(token.expires_in, None);
        }
    }

    #[test]
    fn the_scheme_stands_before_the_token_and_an_empty_one_not_at_all() {
        for (scheme, expected) in [("Bearer", "Bearer abc"), ("JWT", "JWT abc"), ("", "abc")] {
            let token = read(&login("t", scheme), br#"{"t": "abc"}"#).unwrap();
            assert_eq!(token.authorization, expected);
        }
    }

    #[test]
    fn only_a_number_says_how_long_a_token_is_good_for() {
        for (value, expected) in [
            ("3600", Some(Duration::from_hours(1))),
            ("0", Some(Duration::ZERO)),
            ("1.5", Some(Duration::from_millis(1500))),
            ("-1", None),
            ("1e300", None),
            ("\"3600\"", None),
            ("null", None),
            ("{}", None),
        ] {
            let answer = format!(r#"{{"t": "abc", "expires_in": {value}}}"#);
            assert_eq!(read(&login("t", ""), answer.as_bytes()).unwrap().expires_in, expected, "{value}");
        }
    }

    #[test]
    fn an_answer_without_a_token_says_why_and_repeats_nothing() {
        let t = || "t".to_owned();
        for (answer, expected) in [
            ("", NoToken::NotJson),
            ("hunter2", NoToken::NotJson),
            ("[\"hunter2\"]", NoToken::NotJson),
            ("\"hunter2\"", NoToken::NotJson),
            (r#"{"t": "hunter2""#, NoToken::NotJson),
            (r#"{"token": "hunter2"}"#, NoToken::Missing(t())),
            (r#"{"t": {"token": "hunter2"}}"#, NoToken::NotScalar(t())),
            (r#"{"t": null, "token": "hunter2"}"#, NoToken::NotScalar(t())),
            (r#"{"t": true}"#, NoToken::NotScalar(t())),
            (r#"{"t": "", "token": "hunter2"}"#, NoToken::Empty(t())),
            (r#"{"t": " "}"#, NoToken::Empty(t())),
            (r#"{"t": "hunter2\n"}"#, NoToken::NotHeader(t())),
            (r#"{"t": "hunter2é"}"#, NoToken::NotHeader(t())),
        ] {
            let found = read(&login("t", "Bearer"), answer.as_bytes()).unwrap_err();
            assert_eq!(found, expected, "{answer}");
            assert!(!format!("{found} {found:?}").contains("hunter2"), "{found}");
        }
        for (attribute, answer) in [("a.b", r#"{"a": "hunter2"}"#), ("a.b.c", r#"{"a": {"b": 1}}"#), (".", "{}")] {
            let found = read(&login(attribute, ""), answer.as_bytes()).unwrap_err();
            assert_eq!(found, NoToken::Missing(attribute.to_owned()));
        }
    }

    #[test]
    fn a_client_takes_bearer_tokens_only() {
        for kind in ["", r#", "token_type": "Bearer""#, r#", "token_type": "bearer""#] {
            let answer = format!(r#"{{"access_token": "abc", "expires_in": 60{kind}}}"#);
            let token = read(&client(), answer.as_bytes()).unwrap();
            assert_eq!(
                (token.authorization, token.expires_in),
                ("Bearer abc".parse().unwrap(), Some(Duration::from_mins(1)))
            );
        }
        let answer = br#"{"access_token": "abc", "token_type": "mac"}"#;
        assert_eq!(read(&client(), answer), Err(NoToken::Type));
    }

    proptest! {
        #[test]
        fn any_answer_is_survived(answer in "[{}\\[\\]\":,.a-c0-9 ]{0,40}", attribute in "[a-c.]{1,6}") {
            read(&login(&attribute, "Bearer"), answer.as_bytes()).ok();
        }
    }
}
