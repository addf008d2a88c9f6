//! The kinds of problems: names that stay, statuses, and what to do about each. Pure.

use http::StatusCode;
use serde_json::{Value, json};

use super::openapi::examples;

/// Where the pages about problems are.
pub const PAGES: &str = "/problems";

/// What kind of problem it is. docs/errors.md has a section for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The body is no JSON.
    MalformedJson,
    /// No key, or none that opens anything.
    Unauthorized,
    /// Not there, or another organization's.
    NotFound,
    /// The path is there, the method is not.
    MethodNotAllowed,
    /// The body did not come in time.
    RequestTimeout,
    /// The organization may have one only, and has it.
    Conflict,
    /// The subscriptions file declares it.
    Declared,
    /// Somebody else changed it.
    Changed,
    /// The body is too large.
    TooLarge,
    /// The body is something else than JSON.
    UnsupportedMediaType,
    /// Fields are not accepted.
    InvalidFields,
    /// Too many wrong keys from one address.
    TooManyWrongKeys,
    /// A defect of docrelay.
    Internal,
    /// The database is away.
    StoreAway,
    /// There is no key to encrypt secrets with.
    NoSecretsKey,
    /// The key is missing that stored secrets were encrypted with.
    SecretsLocked,
    /// No test send can be made now.
    Busy,
    /// It took too long.
    Overloaded,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 18] = [
        Self::MalformedJson,
        Self::Unauthorized,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::RequestTimeout,
        Self::Conflict,
        Self::Declared,
        Self::Changed,
        Self::TooLarge,
        Self::UnsupportedMediaType,
        Self::InvalidFields,
        Self::TooManyWrongKeys,
        Self::Internal,
        Self::StoreAway,
        Self::NoSecretsKey,
        Self::SecretsLocked,
        Self::Busy,
        Self::Overloaded,
    ];

    /// Its name, which never changes.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::MalformedJson => "malformed-json",
            Self::Unauthorized => "unauthorized",
            Self::NotFound => "not-found",
            Self::MethodNotAllowed => "method-not-allowed",
            Self::RequestTimeout => "request-timeout",
            Self::Conflict => "conflict",
            Self::Declared => "declared-in-file",
            Self::Changed => "changed-meanwhile",
            Self::TooLarge => "too-large",
            Self::UnsupportedMediaType => "unsupported-media-type",
            Self::InvalidFields => "invalid-fields",
            Self::TooManyWrongKeys => "too-many-wrong-keys",
            Self::Internal => "internal",
            Self::StoreAway => "store-away",
            Self::NoSecretsKey => "no-secrets-key",
            Self::SecretsLocked => "secrets-locked",
            Self::Busy => "busy",
            Self::Overloaded => "overloaded",
        }
    }

    /// The status it is answered with.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Self::MalformedJson => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::Conflict | Self::Declared => StatusCode::CONFLICT,
            Self::Changed => StatusCode::PRECONDITION_FAILED,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::InvalidFields => StatusCode::UNPROCESSABLE_ENTITY,
            Self::TooManyWrongKeys => StatusCode::TOO_MANY_REQUESTS,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::StoreAway | Self::NoSecretsKey | Self::SecretsLocked | Self::Busy | Self::Overloaded => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        }
    }

    /// What it is, in a few words that never change.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::MalformedJson => "The body is not JSON",
            Self::Unauthorized => "A valid key is needed",
            Self::NotFound => "There is nothing here",
            Self::MethodNotAllowed => "The method is not allowed here",
            Self::RequestTimeout => "The body did not come in time",
            Self::Conflict => "The organization has one already",
            Self::Declared => "The subscriptions file declares it",
            Self::Changed => "Somebody else changed it",
            Self::TooLarge => "The body is too large",
            Self::UnsupportedMediaType => "The body is of another type",
            Self::InvalidFields => "Fields are not accepted",
            Self::TooManyWrongKeys => "Too many wrong keys",
            Self::Internal => "A defect of docrelay",
            Self::StoreAway => "The store is away",
            Self::NoSecretsKey => "Secrets cannot be stored",
            Self::SecretsLocked => "Stored secrets cannot be opened",
            Self::Busy => "No test send can be made now",
            Self::Overloaded => "It took too long",
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn advice(self) -> &'static str {
        match self {
            Self::MalformedJson => {
                "Send one JSON object. The detail says at which line and column the text stops being JSON."
            }
            Self::Unauthorized => {
                "Send a key as `Authorization: Bearer KEY`, `X-API-KEY: KEY` or `IDEXA-API-KEY: KEY`; if more than one of \
                 them is sent, they must be the same. Whoever runs docrelay makes keys with `docrelay keys create`, and \
                 lists those that still work with `docrelay keys list`."
            }
            Self::NotFound => {
                "Check the path and the id. What belongs to another organization answers exactly like what was never \
                 there: check that the key is the right organization's."
            }
            Self::MethodNotAllowed => "The header Allow names the methods that this path has.",
            Self::RequestTimeout => "Send the whole body within ten seconds, or find what holds it up between.",
            Self::Conflict => {
                "An organization has one IDEXA webhook of a type. The member `existing` names the one it has: delete it \
                 first, over the API that made it or over `/v1/subscriptions`, or take it out of the subscriptions file."
            }
            Self::Declared => {
                "The subscription stands in the subscriptions file, which the API reads and never writes: change it \
                 there. It comes into force within seconds."
            }
            Self::Changed => {
                "Read it again, look whether the change still makes sense, and send it with the new ETag; or leave If-Match \
                 out."
            }
            Self::TooLarge => "Send at most 64 KiB.",
            Self::UnsupportedMediaType => {
                "Send `Content-Type: application/json`, for a PATCH also `application/merge-patch+json`."
            }
            Self::InvalidFields => {
                "Every entry of `errors` says where the field is (`pointer`, a JSON Pointer into the body, or \
                 `parameter`, a name in the query), what is wrong with it, and where that can be said in a few words what was expected and \
                 what was found; never a secret. Nothing was stored."
            }
            Self::TooManyWrongKeys => {
                "Wait as long as Retry-After says, and look where the wrong key comes from. A right key from the same \
                 address opens all the same."
            }
            Self::Internal => "Look at docrelay's log at that time, and report it please.",
            Self::StoreAway => {
                "Try again after Retry-After. If it was a write, it may have happened: look before you repeat it. \
                 Deliveries go on meanwhile with the subscriptions that were loaded."
            }
            Self::NoSecretsKey => {
                "Whoever runs docrelay makes a key with `docrelay secrets init` and sets secrets.keys. Without one nothing \
                 secret is stored; a subscription without secrets can be."
            }
            Self::SecretsLocked => {
                "Whoever runs docrelay puts the key that the detail names back into secrets.keys: a key may go only after \
                 `docrelay secrets rotate`. Without it the subscription can still be read, without its secrets, and \
                 deleted."
            }
            Self::Busy => {
                "Nothing was sent. The detail says why: the target has as many requests in flight and in line as it may \
                 have, or docrelay is stopping. Try again after Retry-After."
            }
            Self::Overloaded => "Try again after Retry-After. If it was a write, it may have happened.",
        }
    }

    /// What is special about one of these, for example.
    fn detail(self) -> &'static str {
        match self {
            Self::MalformedJson => "The body is not JSON: expected `,` or `}` at line 3 column 5.",
            Self::Unauthorized => "There is no key in this request.",
            Self::NotFound => "There is no such subscription.",
            Self::MethodNotAllowed => "This path has other methods: see the header Allow.",
            Self::RequestTimeout => "The body did not come within ten seconds.",
            Self::Conflict => "The organization has one already: 0f8fad5b-d9cb-469f-a165-70867728950e.",
            Self::Declared => {
                "The subscriptions file declares this subscription: it can be read here, and changed there only."
            }
            Self::Changed => "The subscription was changed meanwhile.",
            Self::TooLarge => "A body may have at most 65536 bytes.",
            Self::UnsupportedMediaType => "The header Content-Type must be application/json, and is \"text/plain\".",
            Self::InvalidFields => "One field is not accepted.",
            Self::TooManyWrongKeys => "Too many wrong keys came from this address.",
            Self::Internal => "docrelay could not do its part; its log says why.",
            Self::StoreAway => "The database does not answer.",
            Self::NoSecretsKey => "There is no key to encrypt secrets with, so nothing secret is stored.",
            Self::SecretsLocked => {
                "The stored secrets of this subscription cannot be read: it is encrypted with the key \"2025\", which \
                 secrets.keys does not have."
            }
            Self::Busy => "No test send can be made: its target is busy: too many requests are in flight or in line.",
            Self::Overloaded => "The answer took too long.",
        }
    }

    /// An example of it.
    #[must_use]
    pub(super) fn example(self) -> Value {
        let (status, detail) = (self.status().as_u16(), self.detail());
        let mut example = json!({"type": self.reference(), "title": self.title(), "status": status, "detail": detail});
        let more = match self {
            Self::InvalidFields => Some(("errors", json!([examples::field_error()]))),
            Self::Conflict => Some(("existing", json!("0f8fad5b-d9cb-469f-a165-70867728950e"))),
            _ => None,
        };
        if let (Some((name, value)), Value::Object(example)) = (more, &mut example) {
            example.insert(name.to_owned(), value);
        }
        example
    }

    /// Where its page is: what `type` says.
    #[must_use]
    pub fn reference(self) -> String {
        format!("{PAGES}/{}", self.name())
    }

    /// The kind with this name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_kind_has_a_name_of_its_own_and_is_found_by_it() {
        let names: HashSet<_> = Kind::ALL.map(Kind::name).into();
        assert_eq!(names.len(), Kind::ALL.len());
        for kind in Kind::ALL {
            assert_eq!(Kind::of_name(kind.name()), Some(kind));
            assert!(kind.status().is_client_error() || kind.status().is_server_error());
        }
    }
}
