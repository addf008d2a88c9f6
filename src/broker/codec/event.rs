//! Document events: what upstream publishes.

use bytes::Bytes;
use prost::Message as _;

use super::{
    super::wire, Checked, DecodeError, EVENT_TYPE, error, known::known, optional, required, timestamp, wire_timestamp,
};
use crate::domain::{
    DocumentEvent, DocumentExport, FileFormat, Happening, InvalidReason, Rendition, ReviewedBy, Section,
};

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

/// A document is one JSON object. Its bytes are kept as they are: numbers keep their digits, keys their order, and
/// repeated keys stay. Only the syntax is checked, without recursion: any depth is fine. A lone surrogate in an escape
/// (`\\ud800`) is correct by RFC 8259's grammar and is left to the receiver.
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::arbitrary, *};
    use crate::domain::EventName;

    fn wire() -> wire::DocumentEvent {
        wire::DocumentEvent {
            id: "evt-1".to_owned(),
            organization: "acme".to_owned(),
            document_id: "doc-1".to_owned(),
            event: Some(wire::document_event::Event::DocumentDelete(wire::DocumentDelete {})),
            ..wire::DocumentEvent::default()
        }
    }

    fn predicting(document: impl Into<Bytes>) -> wire::DocumentEvent {
        let predict = wire::DocumentPredict { document_json: document.into() };
        wire::DocumentEvent { event: Some(wire::document_event::Event::DocumentPredict(predict)), ..wire() }
    }

    fn decode(wire: &wire::DocumentEvent) -> Result<DocumentEvent, DecodeError> {
        decode_event(&wire.encode_to_vec().into(), 8 << 20, Checked::NotYet)
    }

    proptest! {
        #[test]
        fn an_event_is_read_as_it_was_written(event in arbitrary::event()) {
            let body = Bytes::from(encode_event(&event));
            prop_assert_eq!(decode_event(&body, u64::MAX, Checked::NotYet), Ok(event.clone()));
            prop_assert_eq!(decode_event(&body, u64::MAX, Checked::Before), Ok(event));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            drop(decode_event(&bytes.into(), 300, Checked::NotYet));
        }

        #[test]
        fn a_damaged_event_never_panics(event in arbitrary::event(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut body = encode_event(&event);
            let at = at.index(body.len());
            body[at] = byte;
            drop(decode_event(&body.clone().into(), u64::MAX, Checked::NotYet));
            body.truncate(at);
            drop(decode_event(&body.into(), u64::MAX, Checked::NotYet));
        }
    }

    #[test]
    fn a_bad_event_names_its_field() {
        use InvalidReason::{MissingField, NoKnownEvent, TooLong, Undecodable};
        let (none, long) = (String::new, || "x".repeat(65));
        let bad_time = Some(prost_types::Timestamp { seconds: i64::MAX, nanos: 0 });
        let export = wire::DocumentExport { last_checked_out_until: bad_time, ..wire::DocumentExport::default() };
        let export = Some(wire::document_event::Event::DocumentExport(export));
        let table = [
            (wire::DocumentEvent { id: none(), ..wire() }, MissingField, "id"),
            (wire::DocumentEvent { organization: none(), ..wire() }, MissingField, "organization"),
            (wire::DocumentEvent { document_id: none(), ..wire() }, MissingField, "document_id"),
            (wire::DocumentEvent { id: long(), ..wire() }, TooLong, "id"),
            (wire::DocumentEvent { organization: long(), ..wire() }, TooLong, "organization"),
            (wire::DocumentEvent { project: long(), ..wire() }, TooLong, "project"),
            (wire::DocumentEvent { inbox: long(), ..wire() }, TooLong, "inbox"),
            (wire::DocumentEvent { document_id: long(), ..wire() }, TooLong, "document_id"),
            (wire::DocumentEvent { occurred_at: bad_time, ..wire() }, Undecodable, "occurred_at"),
            (wire::DocumentEvent { event: export, ..wire() }, Undecodable, "document_export.last_checked_out_until"),
            (wire::DocumentEvent { event: None, ..wire() }, NoKnownEvent, "event"),
            (predicting(""), MissingField, "document_predict.document_json"),
        ];
        for (wire, reason, field) in table {
            let error = decode(&wire).unwrap_err();
            assert_eq!((error.reason, error.field.as_str()), (reason, field), "{error}");
        }
        let error = decode_event(&Bytes::from_static(b"no protobuf"), 1 << 20, Checked::NotYet).unwrap_err();
        assert_eq!((error.reason, error.field.as_str(), error.known), (Undecodable, "message", None));
    }

    #[test]
    fn a_document_that_is_no_json_object_is_refused() {
        let deep = "[".repeat(100_000);
        let bad: &[&[u8]] = &[
            b" ",
            b"[]",
            b"[{}]",
            b"\"{}\"",
            b"1",
            b"null",
            b"true",
            b"{",
            b"}",
            b"{\"a\"}",
            b"{\"a\":}",
            b"{\"a\":1,}",
            b"{a:1}",
            b"{'a':1}",
            b"{\"a\":01}",
            b"{\"a\":+1}",
            b"{\"a\":.5}",
            b"{\"a\":1.}",
            b"{\"a\":NaN}",
            b"{\"a\":Infinity}",
            b"{\"a\":1}{}",
            b"{\"a\":1} x",
            b"{\"a\":\"\n\"}",
            b"{\"a\":\"\\x\"}",
            b"{\"a\":\"\\u12g4\"}",
            b"{\"a\":\"",
            b"{\"a\":tru}",
            b"{}//",
            b"\xef\xbb\xbf{}",
            b"\xff{}",
            b"{\"a\":\"\xff\"}",
            b"{\"a\":\"\xed\xa0\x80\"}",
            b"\x0c{}",
            b"{\"a\":1",
            deep.as_bytes(),
        ];
        for document in bad {
            let shown = String::from_utf8_lossy(&document[..document.len().min(40)]).into_owned();
            let error = decode(&predicting(document.to_vec())).expect_err(&shown);
            assert_eq!(error.reason, InvalidReason::BadJson, "{shown}");
            assert_eq!(error.field, "document_predict.document_json", "{shown}");
        }
    }

    #[test]
    fn a_document_keeps_every_byte() {
        let deep = r#"{"a":"#.repeat(100_000) + "1" + &"}".repeat(100_000);
        let fine = [
            "{}",
            " \r\n\t{ } \n",
            r#"{"a":1.0e400,"b":0.10,"c":-0,"d":1E+2,"e":123456789012345678901234567890}"#,
            r#"{"a":1,"a":2}"#,
            r#"{"":"\u0000\ud800 \/"}"#,
            r#"{"ä":"😀","b":"\ud83d\ude00"}"#,
            &deep,
        ];
        for document in fine {
            let event = decode(&predicting(document.as_bytes().to_vec())).unwrap();
            assert_eq!(event.happening, Happening::Predict { document: Bytes::copy_from_slice(document.as_bytes()) });
        }
    }

    #[test]
    fn an_event_one_byte_too_large_is_refused_and_still_says_whose_it_is() {
        let body = Bytes::from(wire().encode_to_vec());
        let size = body.len() as u64;
        assert!(decode_event(&body, size, Checked::NotYet).is_ok());
        let error = decode_event(&body, size - 1, Checked::NotYet).unwrap_err();
        assert_eq!((error.reason, error.field.as_str()), (InvalidReason::TooLarge, "message"));
        let known = error.known.unwrap();
        assert_eq!((known.event.as_str(), known.organization.as_str()), ("evt-1", "acme"));
        assert_eq!(known.name, Some(EventName::DocumentDelete));
    }

    #[test]
    fn a_bad_event_without_a_readable_organization_is_known_by_nothing() {
        assert_eq!(decode(&wire::DocumentEvent { organization: String::new(), ..wire() }).unwrap_err().known, None);
        assert!(decode(&wire::DocumentEvent { document_id: String::new(), ..wire() }).unwrap_err().known.is_some());
    }

    #[test]
    fn fields_of_a_newer_version_are_ignored() {
        let mut body = wire().encode_to_vec();
        // Field 1000, three bytes.
        body.extend_from_slice(&[0xc2, 0x3e, 0x03, b'n', b'e', b'w']);
        assert_eq!(decode_event(&body.into(), 1 << 20, Checked::NotYet), decode(&wire()));
        let mut newer = wire::DocumentEvent { event: None, ..wire() }.encode_to_vec();
        // Field 40: an event that this version does not know.
        newer.extend_from_slice(&[0xc2, 0x02, 0x00]);
        let error = decode_event(&newer.into(), 1 << 20, Checked::NotYet).unwrap_err();
        assert_eq!(error.reason, InvalidReason::NoKnownEvent);
    }
}
