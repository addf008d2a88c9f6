//! From an event to the body that subscribers read. Pure: no clock, no I/O.
//!
//! Most bodies depend on the event and the payload only, so one rendering serves every subscription with that payload.

mod cloudevents;
mod contractfit;
mod idexa;
pub mod sample;
#[cfg(test)]
mod samples;
mod smartdocumentor;

use bytes::Bytes;

use crate::domain::{DeliveryId, DocumentEvent, EventName, FileLink, Payload};

/// Why an event has no body in a payload.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// The payload does not know the event (docs/subscriptions.md: payload by event). Subscriptions are checked for that when they
    /// are loaded, so only a defect gets here.
    #[error("payload {payload} cannot carry {event}")]
    NotCarried {
        /// The payload.
        payload: Payload,
        /// The event.
        event: EventName,
    },
    /// A text could not be written as JSON.
    #[error("a text could not be written as JSON")]
    Encode(#[from] serde_json::Error),
}

/// Renders the body of `event`, which came as the bytes `raw`, for one delivery. `link` is for the payload that sends a link
/// to a file.
///
/// # Errors
/// When the payload cannot carry the event: reject the delivery, trying again does not help.
pub fn render(
    payload: Payload,
    event: &DocumentEvent,
    raw: &Bytes,
    delivery: DeliveryId,
    link: Option<&FileLink>,
) -> Result<Bytes, RenderError> {
    match payload {
        Payload::ContractFit => contractfit::render(event),
        Payload::Idexa => idexa::render(event),
        Payload::SmartDocumentorFile => smartdocumentor::render(event, link),
        Payload::CloudEvents => cloudevents::render(event, delivery),
        // Never encoded anew: what this version does not know travels on.
        Payload::Protobuf => Ok(raw.clone()),
    }
}

/// Whether one rendering serves all deliveries of an event.
#[must_use]
pub fn is_shared(payload: Payload) -> bool {
    match payload {
        Payload::ContractFit | Payload::Idexa | Payload::Protobuf => true,
        Payload::SmartDocumentorFile | Payload::CloudEvents => false,
    }
}
