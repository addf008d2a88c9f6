//! From an event to the body that subscribers read. Pure: no clock, no I/O.
//!
//! A body depends on the event and the payload only, so one rendering serves every subscription with that payload.

mod contractfit;

use bytes::Bytes;

use crate::domain::{DocumentEvent, EventName, Payload};

/// Why an event has no body in a payload.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// The payload does not know the event (docs/subscriptions.md: payload by event). Subscriptions are checked for that when they
    /// are loaded, so only a defect gets here.
    #[error("payload {payload:?} cannot carry {event}")]
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

/// Renders the body of `event`. The result is cheap to clone: render once, share it between subscriptions.
///
/// # Errors
/// When the payload cannot carry the event: reject the delivery, trying again does not help.
pub fn render(payload: Payload, event: &DocumentEvent) -> Result<Bytes, RenderError> {
    match payload {
        Payload::ContractFit => contractfit::render(event),
    }
}
