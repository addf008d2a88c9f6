//! A CloudEvents 1.0 event in structured JSON. Ids and times come from the document event; `deliveryid` is the delivery's,
//! so this body is one delivery's alone. Document JSON is copied byte for byte.

use std::collections::BTreeMap;

use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;

use super::{RenderError, contractfit, smartdocumentor::Audit};
use crate::domain::{DeliveryId, DocumentEvent, DocumentExport, FileFormat, Happening, InboxId, ProjectId, Timestamp};

/// Everything but the unreserved characters of RFC 3986, 2.3.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What the attributes take at most, so that the buffer is allocated once.
const ATTRIBUTE_BYTES: usize = 1024;

/// The attributes that stand before `data`.
#[derive(Serialize)]
struct Attributes<'a> {
    specversion: &'static str,
    id: &'a str,
    source: String,
    r#type: String,
    subject: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    datacontenttype: &'static str,
    organization: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    inbox: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    project: Option<&'a str>,
    deliveryid: String,
}

/// An export without links: what needs no file.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Export<'a> {
    task_id: i64,
    total_pages: i64,
    task_number: Option<i64>,
    workspace_id: i64,
    display_name: &'a str,
    #[serde(flatten)]
    audit: Audit<'a>,
    metadata: &'a BTreeMap<String, String>,
    renditions: Vec<Rendition<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Rendition<'a> {
    /// `null` for a format that this version does not know.
    format: Option<&'static str>,
    content_type: &'a str,
}

pub(super) fn render(event: &DocumentEvent, delivery: DeliveryId) -> Result<Bytes, RenderError> {
    let mut out = Vec::with_capacity(ATTRIBUTE_BYTES + contractfit::carried_bytes(&event.happening));
    serde_json::to_writer(&mut out, &attributes(event, delivery))?;
    // The object goes on with `data`.
    out.pop();
    out.extend_from_slice(br#","data":"#);
    match &event.happening {
        Happening::Export(export) => serde_json::to_writer(&mut out, &without_links(event, export))?,
        Happening::Finish { document } => out.extend_from_slice(document),
        Happening::Text { .. }
        | Happening::Split { .. }
        | Happening::Predict { .. }
        | Happening::Evaluate { .. }
        | Happening::Delete
        | Happening::Fail { .. }
        | Happening::Reject { .. } => contractfit::data(&mut out, event)?,
    }
    out.push(b'}');
    Ok(out.into())
}

fn attributes(event: &DocumentEvent, delivery: DeliveryId) -> Attributes<'_> {
    let inbox = event.inbox.as_ref().map(InboxId::as_str);
    let segment = |name| utf8_percent_encode(name, RESERVED);
    Attributes {
        specversion: "1.0",
        id: event.id.as_str(),
        source: format!("/docrelay/{}/{}", segment(event.organization.as_str()), segment(inbox.unwrap_or("_"))),
        r#type: format!("docrelay.{}.v1", event.name()),
        subject: event.document.as_str(),
        time: event.occurred_at.map(Timestamp::to_rfc3339),
        datacontenttype: "application/json",
        organization: event.organization.as_str(),
        inbox,
        project: event.project.as_ref().map(ProjectId::as_str),
        deliveryid: delivery.to_string(),
    }
}

fn without_links<'a>(event: &'a DocumentEvent, export: &'a DocumentExport) -> Export<'a> {
    Export {
        task_id: export.task_id,
        total_pages: export.total_pages,
        task_number: export.task_number,
        workspace_id: export.workspace_id,
        display_name: &export.display_name,
        audit: export.into(),
        metadata: &event.metadata,
        renditions: export
            .renditions
            .iter()
            .map(|it| Rendition { format: it.format.map(FileFormat::as_str), content_type: &it.content_type })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::payload::samples;

    fn delivery(event: &DocumentEvent) -> DeliveryId {
        DeliveryId::of(&event.id, &"erp".parse().unwrap())
    }

    #[test]
    fn an_event_has_the_attributes_of_the_specification_and_our_extensions() {
        let mut event = samples::event(Happening::Delete);
        event.occurred_at = Timestamp::from_unix(1_795_314_635, 0);
        event.inbox = Some("in box/1".parse().unwrap());
        let expected = concat!(
            r#"{"specversion":"1.0","id":"evt-1","source":"/docrelay/contractfit1/in%20box%2F1","#,
            r#""type":"docrelay.document_delete.v1","subject":"5e7a0df1800de5422a6f7776","time":"2026-11-22T02:30:35.000Z","#,
            r#""datacontenttype":"application/json","organization":"contractfit1","inbox":"in box/1","#,
            r#""deliveryid":"27e6b4b2-122a-51e0-a12f-bd8a1b61392a","data":{"id":"5e7a0df1800de5422a6f7776"}}"#
        );
        assert_eq!(render(&event, delivery(&event)).unwrap(), expected);
    }

    #[test]
    fn document_json_is_passed_on_byte_for_byte() {
        let document = Bytes::from_static(br#"{ "total" : 1.10000000000000000001, "a":1, "a":2 }"#);
        for happening in [Happening::Finish { document: document.clone() }, Happening::Predict { document }] {
            let event = samples::event(happening);
            let body = String::from_utf8(render(&event, delivery(&event)).unwrap().to_vec()).unwrap();
            assert!(body.ends_with(r#","data":{ "total" : 1.10000000000000000001, "a":1, "a":2 }}"#), "{body}");
            assert!(body.contains(r#""source":"/docrelay/contractfit1/_""#), "{body}");
        }
    }

    #[test]
    fn an_export_names_its_files_without_links() {
        let event = samples::event(Happening::Export(Box::new(samples::export())));
        let body: Value = serde_json::from_slice(&render(&event, delivery(&event)).unwrap()).unwrap();
        let data = &body["data"];
        assert_eq!(data["renditions"], json!([{"format": "pdf", "contentType": "application/pdf"}]));
        assert_eq!((&data["taskId"], &data["lastIntegratedBy"]), (&json!(9001), &json!("u-2")));
        assert!(!body.to_string().contains("exports/7.pdf"), "no path of the artifact store is told: {body}");
    }

    #[test]
    fn every_event_has_a_body_that_is_json() {
        for happening in samples::happenings() {
            let event = samples::event(happening);
            let body: Value = serde_json::from_slice(&render(&event, delivery(&event)).unwrap()).unwrap();
            assert_eq!(body["type"], format!("docrelay.{}.v1", event.name()));
        }
    }

    proptest! {
        #[test]
        fn any_names_make_a_source_that_is_a_reference(organization in "\\PC{1,10}", inbox in "\\PC{1,10}") {
            let mut event = samples::event(Happening::Delete);
            event.organization = organization.parse().unwrap();
            event.inbox = Some(inbox.parse().unwrap());
            let body: Value = serde_json::from_slice(&render(&event, delivery(&event)).unwrap()).unwrap();
            let source = body["source"].as_str().unwrap();
            prop_assert_eq!(source.matches('/').count(), 3);
            prop_assert!(source.is_ascii() && !source.contains([' ', '?', '#']));
        }
    }
}
