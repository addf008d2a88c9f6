//! Bytes to checked values and back. Everything that comes from outside is checked here, once, with a reason that
//! names the field. The generated protobuf types are used nowhere else.

#[cfg(test)]
mod arbitrary;
mod disabled;
mod event;
mod known;
mod packed;
mod parked;
mod result;

use std::str::FromStr;

use bytes::Bytes;

pub use self::{
    disabled::{decode_disabled, encode_disabled},
    event::{decode_event, encode_event},
    known::Known,
    parked::{decode_parked, encode_parked, parked_apart, parked_bytes},
    result::{decode_result, encode_result},
};
use super::Properties;
use crate::domain::{BadId, DeliveryResult, DocumentEvent, InvalidReason, SubscriptionDisabled, Timestamp};

/// The content type of everything docrelay publishes (RFC 9996).
pub const CONTENT_TYPE: &str = "application/protobuf";

/// Older names of the same content type, accepted from producers.
const OLDER_CONTENT_TYPES: [&str; 2] = ["application/x-protobuf", "application/vnd.google.protobuf"];

/// The `type` property of a document event.
pub const EVENT_TYPE: &str = "docrelay.v1.DocumentEvent";

/// The `type` property of a parked message.
pub const PARKED_TYPE: &str = "docrelay.v1.Parked";

/// The `type` property of a result.
pub const RESULT_TYPE: &str = "docrelay.v1.DeliveryResult";

/// The `type` property of what is told of a subscription that was disabled.
pub const DISABLED_TYPE: &str = "docrelay.v1.SubscriptionDisabled";

/// Why a message cannot be processed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {field}: {detail}")]
pub struct DecodeError {
    /// The stable reason.
    pub reason: InvalidReason,
    /// The field or property that is wrong; `message` when it is the whole.
    pub field: String,
    /// What was expected, and what came, in words. Never a document's content.
    pub detail: String,
    /// What could be read all the same.
    pub known: Option<Box<Known>>,
}

/// Whether the checks of a message's content were made before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checked {
    /// It comes from outside.
    NotYet,
    /// It was parked by docrelay, which had checked it.
    Before,
}

/// What comes through the results exchange.
#[derive(Debug, Clone, PartialEq)]
pub enum Notice {
    /// What became of a delivery or an event.
    Result(Box<DeliveryResult>),
    /// A subscription was disabled.
    Disabled(SubscriptionDisabled),
}

/// Reads what came through the results exchange, by its `type` property.
///
/// # Errors
/// Says what is wrong and in which field.
pub fn decode_notice(kind: Option<&str>, body: &Bytes) -> Result<Notice, DecodeError> {
    match kind {
        Some(DISABLED_TYPE) => decode_disabled(body).map(Notice::Disabled),
        Some(_) | None => decode_result(body).map(|result| Notice::Result(Box::new(result))),
    }
}

fn error(reason: InvalidReason, field: &str, detail: impl Into<String>) -> DecodeError {
    DecodeError { reason, field: field.to_owned(), detail: detail.into(), known: None }
}

/// Checks that the message's id, where it has one, is the event's.
///
/// # Errors
/// Says which was expected.
pub fn check_message_id(properties: &Properties, event: &DocumentEvent) -> Result<(), DecodeError> {
    match &properties.message_id {
        Some(id) if id != event.id.as_str() => {
            let detail = format!("expected the event's id {:?}, got {id:?}", event.id.as_str());
            Err(error(InvalidReason::WrongProperty, "message_id", detail))
        }
        _ => Ok(()),
    }
}

/// Checks the AMQP properties of a document event. Missing ones are accepted.
///
/// # Errors
/// Names the property that says it is something else.
pub fn check_properties(properties: &Properties) -> Result<(), DecodeError> {
    if let Some(content_type) = &properties.content_type {
        let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        if essence != CONTENT_TYPE && !OLDER_CONTENT_TYPES.contains(&essence.as_str()) {
            let detail = format!("expected {CONTENT_TYPE}, got {content_type:?}");
            return Err(error(InvalidReason::WrongProperty, "content_type", detail));
        }
    }
    match &properties.kind {
        Some(kind) if kind != EVENT_TYPE => {
            Err(error(InvalidReason::WrongProperty, "type", format!("expected {EVENT_TYPE}, got {kind:?}")))
        }
        _ => Ok(()),
    }
}

fn required<T: FromStr<Err = BadId>>(field: &str, text: &str) -> Result<T, DecodeError> {
    text.parse().map_err(|bad| bad_id(field, bad))
}

fn optional<T: FromStr<Err = BadId>>(field: &str, text: &str) -> Result<Option<T>, DecodeError> {
    if text.is_empty() { Ok(None) } else { required(field, text).map(Some) }
}

fn bad_id(field: &str, bad: BadId) -> DecodeError {
    let reason = match bad {
        BadId::Empty => InvalidReason::MissingField,
        BadId::TooLong(_) => InvalidReason::TooLong,
    };
    error(reason, field, bad.to_string())
}

/// The years 1 to 9999: all that a protobuf timestamp may hold, and all that RFC 3339 can write.
const SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

fn timestamp(field: &str, wire: &prost_types::Timestamp) -> Result<Timestamp, DecodeError> {
    Some(wire.seconds)
        .filter(|seconds| SECONDS.contains(seconds))
        .and_then(|seconds| Timestamp::from_unix(seconds, wire.nanos))
        .ok_or_else(|| error(InvalidReason::Undecodable, field, "expected a timestamp, got one out of range"))
}

fn wire_timestamp(at: Timestamp) -> prost_types::Timestamp {
    let (seconds, nanos) = at.to_unix();
    prost_types::Timestamp { seconds, nanos }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn properties(content_type: Option<&str>, kind: Option<&str>) -> Properties {
        Properties {
            content_type: content_type.map(str::to_owned),
            kind: kind.map(str::to_owned),
            ..Properties::default()
        }
    }

    #[test]
    fn properties_may_be_missing_or_say_protobuf_in_any_of_its_names() {
        let fine = [
            (None, None),
            (Some("application/protobuf"), Some(EVENT_TYPE)),
            (Some("Application/Protobuf; proto=docrelay.v1.DocumentEvent"), None),
            (Some("application/x-protobuf"), None),
            (Some("application/vnd.google.protobuf"), None),
        ];
        for (content_type, kind) in fine {
            assert_eq!(check_properties(&properties(content_type, kind)), Ok(()), "{content_type:?} {kind:?}");
        }
    }

    #[test]
    fn properties_that_say_something_else_are_named_with_what_was_expected() {
        let wrong = [
            (Some("application/json"), None, "content_type", CONTENT_TYPE),
            (Some(""), None, "content_type", CONTENT_TYPE),
            (None, Some("docrelay.v1.Parked"), "type", EVENT_TYPE),
            (None, Some(""), "type", EVENT_TYPE),
        ];
        for (content_type, kind, field, expected) in wrong {
            let error = check_properties(&properties(content_type, kind)).unwrap_err();
            assert_eq!((error.reason, error.field.as_str()), (InvalidReason::WrongProperty, field));
            assert!(error.detail.contains(expected), "{}", error.detail);
        }
    }
}
