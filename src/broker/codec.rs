//! Bytes to checked values and back. Everything that comes from outside is checked here, once, with a reason that
//! names the field. The generated protobuf types are used nowhere else.

use bytes::Bytes;
use prost::Message as _;

use super::{Properties, wire};
use crate::domain::{
    BadId, DeliveryResult, DocumentEvent, DocumentExport, DocumentState, EventId, FileFormat, Happening, InvalidReason,
    OrganizationId, Outcome, Owed, Parked, Rendition, ReviewedBy, Section, Timestamp, TraceContext, Wait,
};

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

/// What could be read of a message that cannot be processed: enough to tell upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// The event's id.
    pub event: EventId,
    /// Whose it is.
    pub organization: OrganizationId,
    /// The document, the project and the inbox, as far as they could be read.
    pub document: Option<crate::domain::DocumentId>,
    /// The project.
    pub project: Option<crate::domain::ProjectId>,
    /// The inbox.
    pub inbox: Option<crate::domain::InboxId>,
    /// The event's name.
    pub name: Option<crate::domain::EventName>,
}

impl Known {
    /// What is known of an event that could be read whole.
    #[must_use]
    pub fn of(event: &DocumentEvent) -> Self {
        Self {
            event: event.id.clone(),
            organization: event.organization.clone(),
            document: Some(event.document.clone()),
            project: event.project.clone(),
            inbox: event.inbox.clone(),
            name: Some(event.name()),
        }
    }
}

/// Whether the checks of a message's content were made before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checked {
    /// It comes from outside.
    NotYet,
    /// It was parked by docrelay, which had checked it.
    Before,
}

fn error(reason: InvalidReason, field: &str, detail: impl Into<String>) -> DecodeError {
    DecodeError { reason, field: field.to_owned(), detail: detail.into(), known: None }
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

/// Reads a document event of at most `max_bytes`.
///
/// # Errors
/// Says what is wrong, in which field, and what could be read all the same.
pub fn decode_event(body: &Bytes, max_bytes: u64, checked: Checked) -> Result<DocumentEvent, DecodeError> {
    let wire = wire::DocumentEvent::decode(body.clone())
        .map_err(|cause| error(InvalidReason::Undecodable, "message", format!("not a {EVENT_TYPE}: {cause}")))?;
    let known = known(&wire);
    let size = body.len() as u64;
    let event = if size > max_bytes {
        let detail = format!("has {size} bytes, more than events.max_bytes ({max_bytes})");
        Err(error(InvalidReason::TooLarge, "message", detail))
    } else {
        event(wire, checked)
    };
    event.map_err(|error| DecodeError { known: known.map(Box::new), ..error })
}

fn event(wire: wire::DocumentEvent, checked: Checked) -> Result<DocumentEvent, DecodeError> {
    Ok(DocumentEvent {
        id: required("id", &wire.id)?,
        occurred_at: wire.occurred_at.as_ref().map(|at| timestamp("occurred_at", at)).transpose()?,
        organization: required("organization", &wire.organization)?,
        project: optional("project", &wire.project)?,
        inbox: optional("inbox", &wire.inbox)?,
        document: required("document_id", &wire.document_id)?,
        metadata: wire.metadata.into_iter().collect(),
        happening: happening(wire.event, checked)?,
    })
}

fn happening(wire: Option<wire::document_event::Event>, checked: Checked) -> Result<Happening, DecodeError> {
    use wire::document_event::Event;
    let json = |event: &str, bytes: Bytes| document_json(event, bytes, checked);
    match wire {
        None => Err(error(
            InvalidReason::NoKnownEvent,
            "event",
            "carries none of the events this version knows; a newer producer's?",
        )),
        Some(Event::DocumentText(text)) => Ok(Happening::Text { text: text.text }),
        Some(Event::DocumentSplit(split)) => {
            Ok(Happening::Split { sections: split.sections.into_iter().map(section).collect() })
        }
        Some(Event::DocumentPredict(it)) => {
            Ok(Happening::Predict { document: json("document_predict", it.document_json)? })
        }
        Some(Event::DocumentEvaluate(it)) => {
            Ok(Happening::Evaluate { document: json("document_evaluate", it.document_json)? })
        }
        Some(Event::DocumentDelete(_)) => Ok(Happening::Delete),
        Some(Event::DocumentFail(fail)) => Ok(Happening::Fail { reason: fail.reason }),
        Some(Event::DocumentReject(it)) => {
            Ok(Happening::Reject { document: json("document_reject", it.document_json)? })
        }
        Some(Event::DocumentExport(export)) => Ok(Happening::Export(Box::new(document_export(export)?))),
        Some(Event::DocumentFinish(it)) => {
            Ok(Happening::Finish { document: json("document_finish", it.document_json)? })
        }
    }
}

fn section(wire: wire::Section) -> Section {
    Section { document_type: wire.document_type, format: wire.format, confidence: wire.confidence, page: wire.page }
}

fn document_export(wire: wire::DocumentExport) -> Result<DocumentExport, DecodeError> {
    let reviewed_by = match wire.reviewed_by() {
        wire::ReviewedBy::Unspecified => ReviewedBy::Unspecified,
        wire::ReviewedBy::User => ReviewedBy::User,
        wire::ReviewedBy::Automatic => ReviewedBy::Automatic,
    };
    let until = wire.last_checked_out_until.as_ref();
    Ok(DocumentExport {
        reviewed_by,
        task_id: wire.task_id,
        task_number: wire.task_number,
        total_pages: wire.total_pages,
        workspace_id: wire.workspace_id,
        last_checked_out_until: until
            .map(|until| timestamp("document_export.last_checked_out_until", until))
            .transpose()?,
        display_name: wire.display_name,
        last_checkout_by_user_name: wire.last_checkout_by_user_name,
        last_checked_out_by: wire.last_checked_out_by,
        last_integrated_by: wire.last_integrated_by,
        last_integrated_by_user_name: wire.last_integrated_by_user_name,
        renditions: wire.renditions.into_iter().map(rendition).collect(),
    })
}

fn rendition(wire: wire::Rendition) -> Rendition {
    let format = match wire.format() {
        wire::FileFormat::Unspecified => None,
        wire::FileFormat::Pdf => Some(FileFormat::Pdf),
        wire::FileFormat::Jpeg => Some(FileFormat::Jpeg),
        wire::FileFormat::Png => Some(FileFormat::Png),
    };
    Rendition { format, content_type: wire.content_type, path: wire.path }
}

/// A document is one JSON object. Its bytes are kept as they are: numbers keep their digits.
fn document_json(event: &str, bytes: Bytes, checked: Checked) -> Result<Bytes, DecodeError> {
    if checked == Checked::Before {
        return Ok(bytes);
    }
    let field = || format!("{event}.document_json");
    if bytes.is_empty() {
        return Err(error(InvalidReason::MissingField, &field(), "expected a JSON object, got nothing"));
    }
    let text = std::str::from_utf8(&bytes).map_err(|cause| {
        error(
            InvalidReason::BadJson,
            &field(),
            format!("expected UTF-8, got something else at byte {}", cause.valid_up_to()),
        )
    })?;
    if !text.trim_start_matches([' ', '\t', '\n', '\r']).starts_with('{') {
        return Err(error(InvalidReason::BadJson, &field(), "expected a JSON object, got something else"));
    }
    serde_json::from_str::<serde::de::IgnoredAny>(text).map_err(|cause| {
        let detail = format!("expected a JSON object: it breaks at line {} column {}", cause.line(), cause.column());
        error(InvalidReason::BadJson, &field(), detail)
    })?;
    Ok(bytes)
}

fn known(wire: &wire::DocumentEvent) -> Option<Known> {
    use wire::document_event::Event;
    let name = wire.event.as_ref().map(|event| match event {
        Event::DocumentText(_) => crate::domain::EventName::DocumentText,
        Event::DocumentSplit(_) => crate::domain::EventName::DocumentSplit,
        Event::DocumentPredict(_) => crate::domain::EventName::DocumentPredict,
        Event::DocumentEvaluate(_) => crate::domain::EventName::DocumentEvaluate,
        Event::DocumentDelete(_) => crate::domain::EventName::DocumentDelete,
        Event::DocumentFail(_) => crate::domain::EventName::DocumentFail,
        Event::DocumentReject(_) => crate::domain::EventName::DocumentReject,
        Event::DocumentExport(_) => crate::domain::EventName::DocumentExport,
        Event::DocumentFinish(_) => crate::domain::EventName::DocumentFinish,
    });
    Some(Known {
        event: wire.id.parse().ok()?,
        organization: wire.organization.parse().ok()?,
        document: wire.document_id.parse().ok(),
        project: wire.project.parse().ok(),
        inbox: wire.inbox.parse().ok(),
        name,
    })
}

fn required<T: std::str::FromStr<Err = BadId>>(field: &str, text: &str) -> Result<T, DecodeError> {
    text.parse().map_err(|bad| bad_id(field, bad))
}

fn optional<T: std::str::FromStr<Err = BadId>>(field: &str, text: &str) -> Result<Option<T>, DecodeError> {
    if text.is_empty() { Ok(None) } else { required(field, text).map(Some) }
}

fn bad_id(field: &str, bad: BadId) -> DecodeError {
    let reason = match bad {
        BadId::Empty => InvalidReason::MissingField,
        BadId::TooLong(_) => InvalidReason::TooLong,
    };
    error(reason, field, bad.to_string())
}

fn timestamp(field: &str, wire: &prost_types::Timestamp) -> Result<Timestamp, DecodeError> {
    Timestamp::from_unix(wire.seconds, wire.nanos)
        .ok_or_else(|| error(InvalidReason::Undecodable, field, "expected a timestamp, got one out of range"))
}

fn wire_timestamp(at: Timestamp) -> prost_types::Timestamp {
    let (seconds, nanos) = at.to_unix();
    prost_types::Timestamp { seconds, nanos }
}

/// Reads a parked message.
///
/// # Errors
/// Says what is wrong and in which field. Only a defect, or somebody else's message, gets here.
pub fn decode_parked(body: &Bytes) -> Result<Parked, DecodeError> {
    let wire = wire::Parked::decode(body.clone())
        .map_err(|cause| error(InvalidReason::Undecodable, "message", format!("not a {PARKED_TYPE}: {cause}")))?;
    let first_seen = wire.first_seen.as_ref();
    let first_seen = first_seen.ok_or_else(|| error(InvalidReason::MissingField, "first_seen", "must be given"))?;
    if wire.owed.is_empty() {
        return Err(error(InvalidReason::MissingField, "owed", "must name at least one delivery"));
    }
    Ok(Parked {
        event: wire.event,
        first_seen: timestamp("first_seen", first_seen)?,
        fan_out: wire.fan_out,
        trace: TraceContext {
            traceparent: Some(wire.traceparent).filter(|text| !text.is_empty()),
            tracestate: Some(wire.tracestate).filter(|text| !text.is_empty()),
        },
        owed: wire.owed.iter().map(owed).collect::<Result<_, _>>()?,
    })
}

fn owed(wire: &wire::Owed) -> Result<Owed, DecodeError> {
    let wait = match wire.wait() {
        wire::Wait::Retry => Wait::Retry,
        wire::Wait::Limit | wire::Wait::Unspecified => Wait::Limit,
    };
    Ok(Owed {
        subscription: required("owed.subscription_id", &wire.subscription_id)?,
        attempts: wire.attempts,
        hop: wire.hop,
        round: wire.round,
        wait,
        units_left: wire.units_left,
        last_error: wire.last_error.parse().ok(),
        deferred_told: wire.deferred_told,
    })
}

/// Writes a parked message.
#[must_use]
pub fn encode_parked(parked: &Parked) -> Vec<u8> {
    let owed = parked.owed.iter().map(|owed| wire::Owed {
        subscription_id: owed.subscription.as_str().to_owned(),
        attempts: owed.attempts,
        hop: owed.hop,
        round: owed.round,
        wait: match owed.wait {
            Wait::Retry => wire::Wait::Retry.into(),
            Wait::Limit => wire::Wait::Limit.into(),
        },
        units_left: owed.units_left,
        last_error: owed.last_error.map(|kind| kind.as_str().to_owned()).unwrap_or_default(),
        deferred_told: owed.deferred_told,
    });
    wire::Parked {
        event: parked.event.clone(),
        first_seen: Some(wire_timestamp(parked.first_seen)),
        fan_out: parked.fan_out,
        traceparent: parked.trace.traceparent.clone().unwrap_or_default(),
        tracestate: parked.trace.tracestate.clone().unwrap_or_default(),
        owed: owed.collect(),
    }
    .encode_to_vec()
}

/// Writes a document event.
#[must_use]
pub fn encode_event(event: &DocumentEvent) -> Vec<u8> {
    wire::DocumentEvent {
        id: event.id.to_string(),
        occurred_at: event.occurred_at.map(wire_timestamp),
        organization: event.organization.to_string(),
        project: event.project.as_ref().map(ToString::to_string).unwrap_or_default(),
        inbox: event.inbox.as_ref().map(ToString::to_string).unwrap_or_default(),
        document_id: event.document.to_string(),
        metadata: event.metadata.clone().into_iter().collect(),
        event: Some(wire_happening(&event.happening)),
    }
    .encode_to_vec()
}

fn wire_happening(happening: &Happening) -> wire::document_event::Event {
    use wire::document_event::Event;
    match happening {
        Happening::Text { text } => Event::DocumentText(wire::DocumentText { text: text.clone() }),
        Happening::Split { sections } => Event::DocumentSplit(wire::DocumentSplit {
            sections: sections
                .iter()
                .map(|section| wire::Section {
                    document_type: section.document_type.clone(),
                    format: section.format.clone(),
                    confidence: section.confidence,
                    page: section.page,
                })
                .collect(),
        }),
        Happening::Predict { document } => {
            Event::DocumentPredict(wire::DocumentPredict { document_json: document.clone() })
        }
        Happening::Evaluate { document } => {
            Event::DocumentEvaluate(wire::DocumentEvaluate { document_json: document.clone() })
        }
        Happening::Delete => Event::DocumentDelete(wire::DocumentDelete {}),
        Happening::Fail { reason } => Event::DocumentFail(wire::DocumentFail { reason: reason.clone() }),
        Happening::Reject { document } => {
            Event::DocumentReject(wire::DocumentReject { document_json: document.clone() })
        }
        Happening::Export(export) => Event::DocumentExport(wire_export(export)),
        Happening::Finish { document } => {
            Event::DocumentFinish(wire::DocumentFinish { document_json: document.clone() })
        }
    }
}

fn wire_export(export: &DocumentExport) -> wire::DocumentExport {
    let renditions = export.renditions.iter().map(|rendition| wire::Rendition {
        format: match rendition.format {
            None => wire::FileFormat::Unspecified.into(),
            Some(FileFormat::Pdf) => wire::FileFormat::Pdf.into(),
            Some(FileFormat::Jpeg) => wire::FileFormat::Jpeg.into(),
            Some(FileFormat::Png) => wire::FileFormat::Png.into(),
        },
        content_type: rendition.content_type.clone(),
        path: rendition.path.clone(),
    });
    wire::DocumentExport {
        reviewed_by: match export.reviewed_by {
            ReviewedBy::Unspecified => wire::ReviewedBy::Unspecified.into(),
            ReviewedBy::User => wire::ReviewedBy::User.into(),
            ReviewedBy::Automatic => wire::ReviewedBy::Automatic.into(),
        },
        task_id: export.task_id,
        task_number: export.task_number,
        total_pages: export.total_pages,
        workspace_id: export.workspace_id,
        display_name: export.display_name.clone(),
        last_checkout_by_user_name: export.last_checkout_by_user_name.clone(),
        last_checked_out_by: export.last_checked_out_by.clone(),
        last_checked_out_until: export.last_checked_out_until.map(wire_timestamp),
        last_integrated_by: export.last_integrated_by.clone(),
        last_integrated_by_user_name: export.last_integrated_by_user_name.clone(),
        renditions: renditions.collect(),
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
