//! IDEXA's body: the document's JSON, byte for byte. GET and DELETE carry none; that is the request's business.

use bytes::Bytes;

use super::RenderError;
use crate::domain::{DocumentEvent, Happening, Payload};

pub(super) fn render(event: &DocumentEvent) -> Result<Bytes, RenderError> {
    match &event.happening {
        Happening::Finish { document } => Ok(document.clone()),
        Happening::Text { .. }
        | Happening::Split { .. }
        | Happening::Predict { .. }
        | Happening::Evaluate { .. }
        | Happening::Delete
        | Happening::Fail { .. }
        | Happening::Reject { .. }
        | Happening::Export(_) => Err(RenderError::NotCarried { payload: Payload::Idexa, event: event.name() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::samples;

    #[test]
    fn the_documents_json_is_the_body_byte_for_byte() {
        let document = Bytes::from_static(br#"{ "id":"7", "total" : 1.10000000000000000001,"status":1 }"#);
        let event = samples::event(Happening::Finish { document: document.clone() });
        assert_eq!(render(&event).unwrap(), document);
    }

    #[test]
    fn what_is_not_finished_has_no_body() {
        for happening in samples::happenings() {
            let event = samples::event(happening);
            assert_eq!(render(&event).is_ok(), Payload::Idexa.carries(event.name()), "{}", event.name());
        }
    }
}
