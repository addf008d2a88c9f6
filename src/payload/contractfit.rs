//! ContractFit's body: `{"event":…,"organization":…,"data":…}`.
//!
//! `inbox` and `project` stand between organization and data when the event has them. Document JSON is copied byte for
//! byte: it is never parsed here, so numbers keep their digits and keys their order.

use std::io::Write;

use bytes::Bytes;

use super::RenderError;
use crate::domain::{DocumentEvent, Happening, Payload, Section};

/// What the envelope and the ids take at most, so that the buffer is allocated once.
const ENVELOPE_BYTES: usize = 512;

pub(super) fn render(event: &DocumentEvent) -> Result<Bytes, RenderError> {
    let mut out = Vec::with_capacity(ENVELOPE_BYTES + carried_bytes(&event.happening));
    out.extend_from_slice(br#"{"event":"#);
    string(&mut out, event.name().as_str())?;
    out.extend_from_slice(br#","organization":"#);
    string(&mut out, event.organization.as_str())?;
    if let Some(inbox) = &event.inbox {
        out.extend_from_slice(br#","inbox":"#);
        string(&mut out, inbox.as_str())?;
    }
    if let Some(project) = &event.project {
        out.extend_from_slice(br#","project":"#);
        string(&mut out, project.as_str())?;
    }
    out.extend_from_slice(br#","data":"#);
    data(&mut out, event)?;
    out.push(b'}');
    Ok(out.into())
}

/// What stands in `data`.
pub(super) fn data(out: &mut Vec<u8>, event: &DocumentEvent) -> Result<(), RenderError> {
    match &event.happening {
        Happening::Predict { document } | Happening::Evaluate { document } | Happening::Reject { document } => {
            out.extend_from_slice(document);
            return Ok(());
        }
        Happening::Export(_) | Happening::Finish { .. } => {
            return Err(RenderError::NotCarried { payload: Payload::ContractFit, event: event.name() });
        }
        Happening::Text { .. } | Happening::Split { .. } | Happening::Delete | Happening::Fail { .. } => {}
    }
    out.extend_from_slice(br#"{"id":"#);
    string(out, event.document.as_str())?;
    if let Happening::Text { text } = &event.happening {
        out.extend_from_slice(br#","text":"#);
        string(out, text)?;
    }
    if let Happening::Split { sections: all } = &event.happening {
        sections(out, all)?;
    }
    out.push(b'}');
    Ok(())
}

fn sections(out: &mut Vec<u8>, sections: &[Section]) -> Result<(), RenderError> {
    out.extend_from_slice(br#","sections":["#);
    for (index, section) in sections.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(br#"{"document_type":"#);
        string(out, &section.document_type)?;
        out.extend_from_slice(br#","format":"#);
        string(out, &section.format)?;
        // Both numbers are strings on ContractFit's page.
        write!(out, r#","confidence":"{}","page":"{}"}}"#, section.confidence, section.page)
            .map_err(serde_json::Error::io)?;
    }
    out.push(b']');
    Ok(())
}

fn string(out: &mut Vec<u8>, text: &str) -> Result<(), RenderError> {
    Ok(serde_json::to_writer(out, text)?)
}

/// How much an event brings along.
pub(super) fn carried_bytes(happening: &Happening) -> usize {
    match happening {
        Happening::Predict { document }
        | Happening::Evaluate { document }
        | Happening::Reject { document }
        | Happening::Finish { document } => document.len(),
        Happening::Text { text } => text.len(),
        Happening::Split { sections } => {
            sections.iter().map(|section| 64 + section.document_type.len() + section.format.len()).sum()
        }
        Happening::Delete | Happening::Fail { .. } | Happening::Export(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::payload::samples::{event, invoice_section};

    fn body(event: &DocumentEvent) -> String {
        String::from_utf8(render(event).unwrap().to_vec()).unwrap()
    }

    #[test]
    fn document_text_is_as_on_the_page() {
        let mut event = event(Happening::Text { text: "example document text".into() });
        event.document = "5e7a0daf255bf93741177061".parse().unwrap();
        assert_eq!(
            body(&event),
            r#"{"event":"document_text","organization":"contractfit1","data":{"id":"5e7a0daf255bf93741177061","text":"example document text"}}"#
        );
    }

    #[test]
    fn document_split_is_as_on_the_page_with_numbers_as_strings() {
        let event = event(Happening::Split { sections: vec![invoice_section()] });
        assert_eq!(
            body(&event),
            r#"{"event":"document_split","organization":"contractfit1","data":{"id":"5e7a0df1800de5422a6f7776","sections":[{"document_type":"invoice","format":"5e20372a90d5ab65dd4a017a","confidence":"91","page":"0"}]}}"#
        );
    }

    #[test]
    fn sections_keep_their_order_and_none_is_an_empty_list() {
        let second = Section { document_type: "annex".into(), format: "f".into(), confidence: 7, page: 12 };
        let parsed: Value =
            serde_json::from_str(&body(&event(Happening::Split { sections: vec![invoice_section(), second] })))
                .unwrap();
        assert_eq!(parsed["data"]["sections"][1]["page"], "12");
        let none: Value = serde_json::from_str(&body(&event(Happening::Split { sections: vec![] }))).unwrap();
        assert_eq!(none["data"]["sections"], json!([]));
    }

    #[test]
    fn document_delete_and_fail_carry_the_id_only() {
        assert_eq!(
            body(&event(Happening::Delete)),
            r#"{"event":"document_delete","organization":"contractfit1","data":{"id":"5e7a0df1800de5422a6f7776"}}"#
        );
        assert_eq!(
            body(&event(Happening::Fail { reason: "no pages".into() })),
            r#"{"event":"document_fail","organization":"contractfit1","data":{"id":"5e7a0df1800de5422a6f7776"}}"#
        );
    }

    #[test]
    fn document_json_is_passed_on_byte_for_byte() {
        let document = Bytes::from_static(br#"{ "total" : 1.10000000000000000001, "a":1, "a":2 , "e":1E400}"#);
        let happenings = [
            (Happening::Predict { document: document.clone() }, "document_predict"),
            (Happening::Evaluate { document: document.clone() }, "document_evaluate"),
            (Happening::Reject { document }, "document_reject"),
        ];
        for (happening, name) in happenings {
            assert_eq!(
                body(&event(happening)),
                format!(
                    r#"{{"event":"{name}","organization":"contractfit1","data":{{ "total" : 1.10000000000000000001, "a":1, "a":2 , "e":1E400}}}}"#
                )
            );
        }
    }

    #[test]
    fn inbox_and_project_stand_at_the_top_when_the_event_has_them() {
        let mut event = event(Happening::Delete);
        event.inbox = Some("in-1".parse().unwrap());
        event.project = Some("pro-1".parse().unwrap());
        assert_eq!(
            body(&event),
            r#"{"event":"document_delete","organization":"contractfit1","inbox":"in-1","project":"pro-1","data":{"id":"5e7a0df1800de5422a6f7776"}}"#
        );
    }

    #[test]
    fn an_event_that_the_payload_cannot_carry_is_refused() {
        let finish = event(Happening::Finish { document: Bytes::from_static(b"{}") });
        assert!(matches!(render(&finish), Err(RenderError::NotCarried { .. })));
        assert!(!Payload::ContractFit.carries(finish.name()), "the subscription check agrees");
    }

    proptest! {
        #[test]
        fn any_text_and_any_names_survive(text in any::<String>(), organization in "\\PC{1,10}", document in "\\PC{1,10}") {
            let mut event = event(Happening::Text { text: text.clone() });
            event.organization = organization.parse().unwrap();
            event.document = document.parse().unwrap();
            let parsed: Value = serde_json::from_slice(&render(&event).unwrap()).unwrap();
            let expected = json!({"event": "document_text", "organization": organization, "data": {"id": document, "text": text}});
            prop_assert_eq!(parsed, expected);
        }
    }
}
