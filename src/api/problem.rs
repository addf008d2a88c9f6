//! What an error answers: a problem document (RFC 9457). Every kind has a name that stays, a status, and a page that says
//! what to do. Nothing here repeats a secret.

use std::{error::Error as _, time::Duration};

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

use super::{answer, desk::Refusal, kind::Kind};
use crate::{
    secrets::SealError,
    store::{FileProblem, database::StoreError},
};

/// What problem documents are told to be.
pub(super) const CONTENT_TYPE: &str = "application/problem+json";

/// When to try again while the database is away.
const AWAY: Duration = Duration::from_secs(5);

/// An error, as it is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    kind: Kind,
    detail: String,
    errors: Vec<FieldError>,
    existing: Option<String>,
    retry_after: Option<Duration>,
}

/// What is wrong with one field, or one parameter of the query.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct FieldError {
    /// Where it is in the body, as a JSON Pointer (RFC 6901).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pointer: Option<String>,
    /// Which parameter of the query it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) parameter: Option<String>,
    /// What is wrong, in a sentence.
    pub(super) detail: String,
    /// What was expected, where that can be said shortly.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) expected: Option<String>,
    /// What was found; never a secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) got: Option<String>,
}

impl FieldError {
    /// About a field of the body.
    pub(super) fn at(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        let (expected, got) = (None, None);
        Self { pointer: Some(pointer.into()), parameter: None, detail: detail.into(), expected, got }
    }

    /// About a parameter of the query.
    pub(super) fn parameter(name: &str, expected: &str, got: &str) -> Self {
        Self {
            pointer: None,
            parameter: Some(name.to_owned()),
            detail: format!("expected {expected}, got {got:?}"),
            expected: Some(expected.to_owned()),
            got: Some(got.to_owned()),
        }
    }

    /// Whether it is about the same field as the other one, or about a part of it.
    pub(super) fn is_within(&self, other: &Self) -> bool {
        let (Some(inner), Some(outer)) = (&self.pointer, &other.pointer) else { return false };
        inner.strip_prefix(outer.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// The same with what was expected.
    #[must_use]
    pub(super) fn expecting(mut self, expected: impl Into<String>) -> Self {
        self.expected = Some(expected.into());
        self
    }
}

impl From<&FileProblem> for FieldError {
    /// The rules of the subscriptions file write "expected this, got that" where there is a this and a that.
    fn from(problem: &FileProblem) -> Self {
        let mut error = Self::at(problem.pointer.clone(), problem.text.clone());
        if let Some(rest) = problem.text.strip_prefix("expected ") {
            let (expected, got) =
                rest.split_once(", got ").map_or((rest, None), |(expected, got)| (expected, Some(got)));
            error.expected = Some(expected.to_owned());
            error.got = got.map(|got| {
                let got = got.split_once(" (did you mean ").map_or(got, |(got, _)| got);
                serde_json::from_str(got).unwrap_or_else(|_| got.to_owned())
            });
        }
        error
    }
}

impl Problem {
    /// A problem of a kind; `detail` says what is special about this one.
    pub(super) fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), errors: Vec::new(), existing: None, retry_after: None }
    }

    /// Fields that are not accepted, all of them.
    pub(super) fn invalid(errors: Vec<FieldError>) -> Self {
        let detail = match errors.as_slice() {
            [_] => "One field is not accepted.".to_owned(),
            _ => format!("{} fields are not accepted.", errors.len()),
        };
        Self { errors, ..Self::new(Kind::InvalidFields, detail) }
    }

    /// It may work after a while.
    #[must_use]
    pub(super) fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Absent => Self::new(Kind::NotFound, "There is no such subscription."),
            Refusal::NoTarget => Self::new(Kind::NotFound, "There is no such target."),
            Refusal::Invalid(errors) => Self::invalid(errors),
            Refusal::Conflict(existing) => {
                let detail = format!("The organization has one already: {existing}.");
                Self { existing: Some(existing.to_string()), ..Self::new(Kind::Conflict, detail) }
            }
            Refusal::Declared => Self::new(
                Kind::Declared,
                "The subscriptions file declares this subscription: it can be read here, and changed there only.",
            ),
            Refusal::Changed => Self::new(Kind::Changed, "The subscription was changed meanwhile."),
            Refusal::Busy(why) => Self::new(Kind::Busy, format!("No test send can be made: {why}.")).retry_after(AWAY),
            Refusal::Defect(what) => {
                tracing::error!(what, "A request could not be answered");
                Self::new(Kind::Internal, "docrelay could not do its part; its log says why.")
            }
            Refusal::Locked(error) => {
                tracing::error!(%error, "The secrets of a subscription cannot be read");
                Self::new(
                    Kind::SecretsLocked,
                    format!("The stored secrets of this subscription cannot be read: {error}."),
                )
            }
            Refusal::Store(error) => error.into(),
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let cause = error.source().map(ToString::to_string);
        match error {
            StoreError::Away(_) => {
                tracing::warn!(%error, cause, "A request could not be answered");
                Self::new(Kind::StoreAway, "The database does not answer.").retry_after(AWAY)
            }
            StoreError::NotSealed(SealError::NoKey) => Self::new(
                Kind::NoSecretsKey,
                "There is no key to encrypt secrets with, so nothing secret is stored: make one with `docrelay secrets \
                 init` and set secrets.keys.",
            ),
            error => {
                tracing::error!(%error, cause, "A request could not be answered");
                Self::new(Kind::Internal, "docrelay could not do its part; its log says why.")
            }
        }
    }
}

/// The members of a problem document, in their order.
#[derive(Serialize)]
struct Document<'a> {
    r#type: String,
    title: &'static str,
    status: u16,
    detail: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [FieldError],
    #[serde(skip_serializing_if = "Option::is_none")]
    existing: Option<&'a str>,
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let document = Document {
            r#type: self.kind.reference(),
            title: self.kind.title(),
            status: self.kind.status().as_u16(),
            detail: &self.detail,
            errors: &self.errors,
            existing: self.existing.as_deref(),
        };
        let mut response = answer::json(self.kind.status(), &document);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
        if self.kind.status() == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"docrelay\""));
        }
        if let Some(wait) = self.retry_after {
            // Whole seconds, never too early.
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> FieldError {
        FieldError::from(&FileProblem {
            line: 1,
            field: "events[0]".to_owned(),
            pointer: "/events/0".to_owned(),
            subscription: None,
            text: text.to_owned(),
        })
    }

    #[test]
    fn what_was_expected_and_got_is_taken_out_of_the_files_words() {
        let error = of("expected http, got \"htpt\" (did you mean \"http\"?)");
        assert_eq!((error.expected.as_deref(), error.got.as_deref()), (Some("http"), Some("htpt")));
        let error = of("expected a list, got a mapping");
        assert_eq!((error.expected.as_deref(), error.got.as_deref()), (Some("a list"), Some("a mapping")));
        let error = of("expected a secret that begins with whsec_");
        assert_eq!((error.expected.as_deref(), error.got), (Some("a secret that begins with whsec_"), None));
        let error = of("must not be empty");
        assert_eq!((error.expected, error.got, error.detail.as_str()), (None, None, "must not be empty"));
    }

    #[test]
    fn seconds_to_wait_are_whole_and_never_too_few() {
        for (wait, told) in [(Duration::from_millis(1), "1"), (Duration::from_secs(2), "2"), (Duration::ZERO, "0")] {
            let response = Problem::new(Kind::StoreAway, "").retry_after(wait).into_response();
            assert_eq!(response.headers()[header::RETRY_AFTER], told);
        }
    }
}
