//! Events written by people as JSON. The names are those of the protobuf message; what is unknown is refused, and every
//! error names its place. `document_json` is never parsed: its bytes are taken as they stand.

mod object;

use anyhow::{Context as _, anyhow, bail};
use bytes::Bytes;
use serde_json::value::RawValue;

use self::object::Object;
use super::sample::new_id;
use crate::{
    broker::codec::{self, Checked},
    domain::{
        DocumentEvent, DocumentExport, EventName, FileFormat, Happening, Rendition, ReviewedBy, Section, Timestamp,
    },
};

/// The events in a text: one object, an array of objects, or objects one after the other, as in JSON lines.
///
/// # Errors
/// Names the line or the place in the array, and the field.
pub(super) fn events(text: &str, max_bytes: u64) -> anyhow::Result<Vec<DocumentEvent>> {
    let places = if text.trim_start().starts_with('[') { array(text)? } else { sequence(text)? };
    if places.is_empty() {
        bail!("there is no event in it");
    }
    places.into_iter().map(|(place, value)| event(value, max_bytes).context(place)).collect()
}

fn array(text: &str) -> anyhow::Result<Vec<(String, &RawValue)>> {
    let values: Vec<&RawValue> = serde_json::from_str(text).context("not a JSON array")?;
    Ok(values.into_iter().enumerate().map(|(index, value)| (format!("event [{index}]"), value)).collect())
}

fn sequence(text: &str) -> anyhow::Result<Vec<(String, &RawValue)>> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<&RawValue>();
    let mut places = Vec::new();
    // Counted as it goes: a text of a million lines is walked once.
    let (mut line, mut counted) = (1, 0);
    while let Some(value) = values.next() {
        let value = value.context("not JSON")?;
        let start = values.byte_offset() - value.get().len();
        line += text.get(counted..start).unwrap_or_default().matches('\n').count();
        counted = start;
        places.push((format!("event in line {line}"), value));
    }
    Ok(places)
}

fn event(value: &RawValue, max_bytes: u64) -> anyhow::Result<DocumentEvent> {
    let mut fields = Object::read(value, "")?;
    let id = match fields.take::<String>("id")? {
        Some(id) => fields.id("id", &id)?,
        None => new_id().context("no new id")?,
    };
    let occurred_at = fields.take::<String>("occurred_at")?.map(|text| time("occurred_at", &text)).transpose()?;
    let (organization, document) =
        (fields.required::<String>("organization")?, fields.required::<String>("document_id")?);
    let (project, inbox) = (fields.take::<String>("project")?, fields.take::<String>("inbox")?);
    let event = DocumentEvent {
        id,
        occurred_at,
        organization: fields.id("organization", &organization)?,
        project: project.map(|name| fields.id("project", &name)).transpose()?,
        inbox: inbox.map(|name| fields.id("inbox", &name)).transpose()?,
        document: fields.id("document_id", &document)?,
        metadata: fields.take("metadata")?.unwrap_or_default(),
        happening: happening(&mut fields)?,
    };
    fields.finish()?;
    // The one place that knows what docrelay accepts.
    codec::decode_event(&codec::encode_event(&event).into(), max_bytes, Checked::NotYet)
        .map_err(|error| anyhow!("{}: {}", error.field, error.detail))
}

fn happening(fields: &mut Object<'_>) -> anyhow::Result<Happening> {
    let mut found = None;
    for name in EventName::ALL {
        if let Some(value) = fields.take::<&RawValue>(name.as_str())? {
            if let Some((other, _)) = found {
                bail!("has both {other} and {name}: exactly one event is expected");
            }
            found = Some((name, Object::read(value, name.as_str())?));
        }
    }
    let (name, mut content) = found.with_context(|| {
        let names: Vec<_> = EventName::ALL.iter().map(|name| name.as_str()).collect();
        format!("has no event: expected exactly one of {}", names.join(", "))
    })?;
    let happening = match name {
        EventName::DocumentText => Happening::Text { text: content.required("text")? },
        EventName::DocumentSplit => Happening::Split { sections: sections(&mut content)? },
        EventName::DocumentPredict => Happening::Predict { document: document(&mut content)? },
        EventName::DocumentEvaluate => Happening::Evaluate { document: document(&mut content)? },
        EventName::DocumentDelete => Happening::Delete,
        EventName::DocumentFail => Happening::Fail { reason: content.required("reason")? },
        EventName::DocumentReject => Happening::Reject { document: document(&mut content)? },
        EventName::DocumentExport => Happening::Export(Box::new(export(&mut content)?)),
        EventName::DocumentFinish => Happening::Finish { document: document(&mut content)? },
    };
    content.finish()?;
    Ok(happening)
}

fn document(content: &mut Object<'_>) -> anyhow::Result<Bytes> {
    let document: &RawValue = content.required("document_json")?;
    Ok(Bytes::copy_from_slice(document.get().as_bytes()))
}

fn sections(content: &mut Object<'_>) -> anyhow::Result<Vec<Section>> {
    content.list("sections", |section| {
        Ok(Section {
            document_type: section.required("document_type")?,
            format: section.required("format")?,
            confidence: section.required("confidence")?,
            page: section.required("page")?,
        })
    })
}

fn export(content: &mut Object<'_>) -> anyhow::Result<DocumentExport> {
    let reviewed_by = match content.take::<String>("reviewed_by")?.as_deref() {
        None => ReviewedBy::Unspecified,
        Some("USER") => ReviewedBy::User,
        Some("AUTOMATIC") => ReviewedBy::Automatic,
        Some(other) => bail!("document_export.reviewed_by: expected USER or AUTOMATIC, got {other:?}"),
    };
    let until = content.take::<String>("last_checked_out_until")?;
    Ok(DocumentExport {
        reviewed_by,
        task_id: content.required("task_id")?,
        task_number: content.take("task_number")?,
        total_pages: content.required("total_pages")?,
        workspace_id: content.required("workspace_id")?,
        display_name: content.required("display_name")?,
        last_checkout_by_user_name: content.take("last_checkout_by_user_name")?,
        last_checked_out_by: content.take("last_checked_out_by")?,
        last_checked_out_until: until.map(|text| time("document_export.last_checked_out_until", &text)).transpose()?,
        last_integrated_by: content.take("last_integrated_by")?,
        last_integrated_by_user_name: content.take("last_integrated_by_user_name")?,
        renditions: content.list("renditions", rendition)?,
    })
}

fn rendition(content: &mut Object<'_>) -> anyhow::Result<Rendition> {
    let format = match content.required::<String>("format")?.as_str() {
        "PDF" => FileFormat::Pdf,
        "JPEG" => FileFormat::Jpeg,
        "PNG" => FileFormat::Png,
        other => bail!("format: expected PDF, JPEG or PNG, got {other:?}"),
    };
    Ok(Rendition {
        format: Some(format),
        content_type: content.required("content_type")?,
        path: content.required("path")?,
    })
}

fn time(field: &str, text: &str) -> anyhow::Result<Timestamp> {
    Timestamp::from_rfc3339(text)
        .with_context(|| format!("{field}: expected RFC 3339 in UTC, as in 2026-11-22T10:00:00Z, got {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: u64 = 8 << 20;

    fn problem(text: &str) -> String {
        format!("{:#}", events(text, MAX).expect_err(text))
    }

    #[test]
    fn one_object_an_array_and_lines_are_all_read() {
        let one = r#"{"organization":"acme","document_id":"d","document_delete":{}}"#;
        assert_eq!(events(one, MAX).unwrap().len(), 1);
        assert_eq!(events(&format!(" [{one},\n{one}]\n"), MAX).unwrap().len(), 2);
        assert_eq!(events(&format!("{one}\n\n{one}\r\n{one}"), MAX).unwrap().len(), 3);
        let ids: Vec<_> = events(&format!("{one}{one}"), MAX).unwrap().into_iter().map(|event| event.id).collect();
        assert_ne!(ids[0], ids[1], "each gets a new id");
    }

    #[test]
    fn every_field_is_read() {
        let text = r#"{"id":"e","occurred_at":"2026-11-22T10:00:00.5Z","organization":"acme","project":"p","inbox":"i",
            "document_id":"d","metadata":{"k":"v"},"document_export":{"reviewed_by":"AUTOMATIC","task_id":1,
            "task_number":2,"total_pages":3,"workspace_id":4,"display_name":"n","last_checkout_by_user_name":"a",
            "last_checked_out_by":"b","last_checked_out_until":"2026-11-22T11:00:00Z","last_integrated_by":"c",
            "last_integrated_by_user_name":"d","renditions":[{"format":"PNG","content_type":"image/png","path":"x"}]}}"#;
        let event = events(text, MAX).unwrap().remove(0);
        assert_eq!(event.occurred_at.unwrap().to_rfc3339(), "2026-11-22T10:00:00.500Z");
        assert_eq!((event.id.as_str(), event.metadata["k"].as_str()), ("e", "v"));
        let Happening::Export(export) = event.happening else { panic!("not an export") };
        assert_eq!((export.reviewed_by, export.task_number), (ReviewedBy::Automatic, Some(2)));
        assert_eq!(export.renditions[0].format, Some(FileFormat::Png));
    }

    #[test]
    fn a_document_keeps_every_byte() {
        let document = r#"{ "a" : 1.0e400, "b":0.10,"b":2, "c":"\ud800" }"#;
        let text = format!(
            r#"{{"organization":"acme","document_id":"d","document_predict":{{"document_json":  {document} }}}}"#
        );
        let event = events(&text, MAX).unwrap().remove(0);
        assert_eq!(event.happening, Happening::Predict { document: Bytes::copy_from_slice(document.as_bytes()) });
    }

    #[test]
    fn a_mistake_is_told_with_its_place_and_its_field() {
        let fine = r#"{"organization":"acme","document_id":"d","document_delete":{}}"#;
        let table = [
            (String::new(), "no event"),
            ("[]".to_owned(), "no event"),
            ("7".to_owned(), "line 1: expected an object"),
            (format!("{fine}\n{{\"organization\":"), "not JSON"),
            (format!("[{fine},{{}}]"), "event [1]: organization: is missing"),
            (format!("{fine}\n\n{{}}"), "event in line 3: organization: is missing"),
            (fine.replace("\"d\"", "\"\""), "document_id: must not be empty"),
            (fine.replace("\"d\"", "7"), "document_id: invalid type"),
            (fine.replace("acme", &"x".repeat(65)), "organization: must have at most 64 bytes"),
            (fine.replace("\"document_delete\"", "\"document_deleted\""), "has no event"),
            (fine.replace("{}", "{\"a\":1}"), "document_delete.a: is not known"),
            (fine.replace("{}", "{},\"colour\":1"), "colour: is not known"),
            (fine.replace("{}", "{},\"inbox\":\"a\",\"inbox\":\"b\""), "inbox: is given twice"),
            (fine.replace("{}", "{},\"document_text\":{\"text\":\"\"}"), "both document_text and document_delete"),
            (fine.replace("{}", "{},\"occurred_at\":\"today\""), "occurred_at: expected RFC 3339"),
            (fine.replace("document_delete\":{}", "document_text\":{}"), "document_text.text: is missing"),
            (
                fine.replace("document_delete\":{}", "document_predict\":{\"document_json\":[]}"),
                "document_predict.document_json: expected a JSON object",
            ),
            (
                fine.replace("document_delete\":{}", "document_split\":{\"sections\":[{\"document_type\":1}]}"),
                "document_split.sections[0].document_type: invalid type",
            ),
        ];
        for (text, expected) in table {
            let problem = problem(&text);
            assert!(problem.contains(expected), "{text}\n{problem}");
        }
    }
}
