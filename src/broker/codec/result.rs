//! Results: what docrelay publishes back. Reading them is for the command line and for tests; the service only writes.

use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;

use super::{super::wire, DecodeError, RESULT_TYPE, error, optional, required, timestamp, wire_timestamp};
use crate::domain::{DeliveryId, DeliveryResult, DocumentState, FailureKind, InvalidReason, Outcome};

/// Reads a result. An error name that this version does not know is kept at the front of the text.
///
/// # Errors
/// Says what is wrong and in which field.
pub fn decode_result(body: &Bytes) -> Result<DeliveryResult, DecodeError> {
    let wire = wire::DeliveryResult::decode(body.clone())
        .map_err(|cause| error(InvalidReason::Undecodable, "message", format!("not a {RESULT_TYPE}: {cause}")))?;
    let outcome = outcome(wire.outcome())?;
    let time =
        |field: &str, at: &Option<prost_types::Timestamp>| at.as_ref().map(|at| timestamp(field, at)).transpose();
    let (name, error_text) = error_name(&wire.error, wire.error_text);
    Ok(DeliveryResult {
        delivery: delivery_id(&wire.delivery_id)?,
        event_id: required("event_id", &wire.event_id)?,
        document: optional("document_id", &wire.document_id)?,
        subscription: optional("subscription_id", &wire.subscription_id)?,
        organization: required("organization", &wire.organization)?,
        project: optional("project", &wire.project)?,
        inbox: optional("inbox", &wire.inbox)?,
        // A newer docrelay's event has no name here; the result is readable all the same.
        event: wire.event.parse().ok(),
        outcome,
        attempt: wire.attempt,
        max_attempts: wire.max_attempts,
        fan_out: wire.fan_out,
        status_code: status_code(wire.status_code)?,
        response_body: wire.response_body,
        response_body_cut: wire.response_body_cut,
        error: name,
        error_text,
        latency: Duration::from_micros(wire.latency_us),
        attempted_at: time("attempted_at", &wire.attempted_at)?,
        next_attempt_at: time("next_attempt_at", &wire.next_attempt_at)?,
        target: wire.target,
        round: wire.round,
    })
}

fn outcome(wire: wire::Outcome) -> Result<Outcome, DecodeError> {
    match wire {
        wire::Outcome::Unspecified => {
            Err(error(InvalidReason::MissingField, "outcome", "expected an outcome that this version knows"))
        }
        wire::Outcome::Delivered => Ok(Outcome::Delivered),
        wire::Outcome::AttemptFailed => Ok(Outcome::AttemptFailed),
        wire::Outcome::Deferred => Ok(Outcome::Deferred),
        wire::Outcome::Exhausted => Ok(Outcome::Exhausted),
        wire::Outcome::Rejected => Ok(Outcome::Rejected),
        wire::Outcome::Cancelled => Ok(Outcome::Cancelled),
        wire::Outcome::Unsubscribed => Ok(Outcome::Unsubscribed),
        wire::Outcome::Invalid => Ok(Outcome::Invalid),
    }
}

pub(super) fn delivery_id(text: &str) -> Result<Option<DeliveryId>, DecodeError> {
    let wrong = || error(InvalidReason::Undecodable, "delivery_id", "expected a UUID, got something else");
    if text.is_empty() { Ok(None) } else { text.parse().map(Some).map_err(|_| wrong()) }
}

fn status_code(code: u32) -> Result<Option<u16>, DecodeError> {
    let wrong = |_| error(InvalidReason::Undecodable, "status_code", format!("expected an HTTP status, got {code}"));
    u16::try_from(code).map(|code| Some(code).filter(|code| *code != 0)).map_err(wrong)
}

fn error_name(name: &str, text: String) -> (Option<&'static str>, String) {
    let failure = name.parse::<FailureKind>().map(FailureKind::as_str);
    match failure.or_else(|_| name.parse::<InvalidReason>().map(InvalidReason::as_str)) {
        Ok(known) => (Some(known), text),
        Err(_) if name.is_empty() => (None, text),
        Err(_) => (None, format!("{name}: {text}")),
    }
}

/// Writes a result.
#[must_use]
pub fn encode_result(result: &DeliveryResult) -> Vec<u8> {
    fn text<T: ToString>(value: Option<&T>) -> String {
        value.map(ToString::to_string).unwrap_or_default()
    }
    let outcome = match result.outcome {
        Outcome::Delivered => wire::Outcome::Delivered,
        Outcome::AttemptFailed => wire::Outcome::AttemptFailed,
        Outcome::Deferred => wire::Outcome::Deferred,
        Outcome::Exhausted => wire::Outcome::Exhausted,
        Outcome::Rejected => wire::Outcome::Rejected,
        Outcome::Cancelled => wire::Outcome::Cancelled,
        Outcome::Unsubscribed => wire::Outcome::Unsubscribed,
        Outcome::Invalid => wire::Outcome::Invalid,
    };
    let state = match result.outcome.document_state(result.event) {
        DocumentState::None => wire::DocumentState::None,
        DocumentState::Pending => wire::DocumentState::Pending,
        DocumentState::Archived => wire::DocumentState::Archived,
        DocumentState::ToReview => wire::DocumentState::ToReview,
    };
    wire::DeliveryResult {
        delivery_id: text(result.delivery.as_ref()),
        event_id: result.event_id.to_string(),
        document_id: text(result.document.as_ref()),
        subscription_id: text(result.subscription.as_ref()),
        organization: result.organization.to_string(),
        project: text(result.project.as_ref()),
        inbox: text(result.inbox.as_ref()),
        event: text(result.event.as_ref()),
        outcome: outcome.into(),
        document_state: state.into(),
        attempt: result.attempt,
        max_attempts: result.max_attempts,
        fan_out: result.fan_out,
        status_code: result.status_code.map(u32::from).unwrap_or_default(),
        response_body: result.response_body.clone(),
        response_body_cut: result.response_body_cut,
        error: result.error.unwrap_or_default().to_owned(),
        error_text: result.error_text.clone(),
        latency_us: u64::try_from(result.latency.as_micros()).unwrap_or(u64::MAX),
        attempted_at: result.attempted_at.map(wire_timestamp),
        next_attempt_at: result.next_attempt_at.map(wire_timestamp),
        target: result.target.clone(),
        round: result.round,
    }
    .encode_to_vec()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::arbitrary, *};

    proptest! {
        #[test]
        fn a_result_is_read_as_it_was_written(result in arbitrary::result()) {
            prop_assert_eq!(decode_result(&encode_result(&result).into()), Ok(result));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            drop(decode_result(&bytes.into()));
        }
    }

    fn wire() -> wire::DeliveryResult {
        wire::DeliveryResult {
            event_id: "evt-1".to_owned(),
            organization: "acme".to_owned(),
            outcome: wire::Outcome::Invalid.into(),
            ..wire::DeliveryResult::default()
        }
    }

    #[test]
    fn an_error_that_a_newer_version_invented_keeps_its_name_in_the_text() {
        let wire = wire::DeliveryResult { error: "solar_flare".to_owned(), error_text: "bright".to_owned(), ..wire() };
        let result = decode_result(&wire.encode_to_vec().into()).unwrap();
        assert_eq!((result.error, result.error_text.as_str()), (None, "solar_flare: bright"));
    }

    #[test]
    fn a_bad_result_names_its_field() {
        let table = [
            (wire::DeliveryResult { event_id: String::new(), ..wire() }, InvalidReason::MissingField, "event_id"),
            (
                wire::DeliveryResult { organization: String::new(), ..wire() },
                InvalidReason::MissingField,
                "organization",
            ),
            (wire::DeliveryResult { inbox: "x".repeat(65), ..wire() }, InvalidReason::TooLong, "inbox"),
            (wire::DeliveryResult { outcome: 99, ..wire() }, InvalidReason::MissingField, "outcome"),
            (wire::DeliveryResult { delivery_id: "7".to_owned(), ..wire() }, InvalidReason::Undecodable, "delivery_id"),
            (wire::DeliveryResult { status_code: 70_000, ..wire() }, InvalidReason::Undecodable, "status_code"),
        ];
        for (wire, reason, field) in table {
            let error = decode_result(&wire.encode_to_vec().into()).unwrap_err();
            assert_eq!((error.reason, error.field.as_str()), (reason, field), "{error}");
        }
    }
}
