//! SmartDocumentor's body: an export's fields, and a link to its file. Exactly the page's keys, in its order.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Serialize;

use super::RenderError;
use crate::domain::{DocumentEvent, DocumentExport, FileLink, Happening, Payload, Timestamp};

/// `taskNumber` and the audit fields are `null` when unknown.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    task_id: i64,
    total_pages: i64,
    task_number: Option<i64>,
    workspace_id: i64,
    display_name: &'a str,
    exported_file_url: &'a str,
    exported_file_content_type: &'a str,
    exported_file_expires_on: String,
    #[serde(flatten)]
    audit: Audit<'a>,
    metadata: &'a BTreeMap<String, String>,
}

/// Who had the document in hand, and until when.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_field_names, reason = "the names of SmartDocumentor's page")]
pub(super) struct Audit<'a> {
    last_checkout_by_user_name: Option<&'a str>,
    last_checked_out_by: Option<&'a str>,
    last_checked_out_until: Option<String>,
    last_integrated_by: Option<&'a str>,
    last_integrated_by_user_name: Option<&'a str>,
}

impl<'a> From<&'a DocumentExport> for Audit<'a> {
    fn from(export: &'a DocumentExport) -> Self {
        Self {
            last_checkout_by_user_name: export.last_checkout_by_user_name.as_deref(),
            last_checked_out_by: export.last_checked_out_by.as_deref(),
            last_checked_out_until: export.last_checked_out_until.map(Timestamp::to_rfc3339),
            last_integrated_by: export.last_integrated_by.as_deref(),
            last_integrated_by_user_name: export.last_integrated_by_user_name.as_deref(),
        }
    }
}

pub(super) fn render(event: &DocumentEvent, link: Option<&FileLink>) -> Result<Bytes, RenderError> {
    let (Happening::Export(export), Some(link)) = (&event.happening, link) else {
        return Err(RenderError::NotCarried { payload: Payload::SmartDocumentorFile, event: event.name() });
    };
    let body = Body {
        task_id: export.task_id,
        total_pages: export.total_pages,
        task_number: export.task_number,
        workspace_id: export.workspace_id,
        display_name: &export.display_name,
        exported_file_url: &link.url,
        exported_file_content_type: &link.content_type,
        exported_file_expires_on: link.expires_at.to_rfc3339(),
        audit: export.as_ref().into(),
        metadata: &event.metadata,
    };
    Ok(serde_json::to_vec(&body)?.into())
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::payload::samples;

    fn link() -> FileLink {
        FileLink {
            url: "https://files.example/7.pdf?signature=a%2Fb".into(),
            content_type: "application/pdf".into(),
            expires_at: Timestamp::from_unix(1_795_314_635, 0).unwrap(),
        }
    }

    #[test]
    fn the_body_is_the_pages_keys_in_its_order() {
        let mut event = samples::event(Happening::Export(Box::new(samples::export())));
        event.metadata = BTreeMap::from([("costCenter".to_owned(), "4 \"A\"".to_owned())]);
        let expected = concat!(
            r#"{"taskId":9001,"totalPages":3,"taskNumber":17,"workspaceId":42,"displayName":"Invoice ação.pdf","#,
            r#""exportedFileUrl":"https://files.example/7.pdf?signature=a%2Fb","exportedFileContentType":"application/pdf","#,
            r#""exportedFileExpiresOn":"2026-11-22T02:30:35.000Z","lastCheckoutByUserName":"Ana","lastCheckedOutBy":"u-1","#,
            r#""lastCheckedOutUntil":"2026-11-22T02:30:35.000Z","lastIntegratedBy":"u-2","lastIntegratedByUserName":"Rui","#,
            r#""metadata":{"costCenter":"4 \"A\""}}"#
        );
        assert_eq!(render(&event, Some(&link())).unwrap(), expected);
    }

    #[test]
    fn what_is_unknown_is_null_and_no_key_is_missing() {
        let export = DocumentExport {
            task_number: None,
            last_checkout_by_user_name: None,
            last_checked_out_by: None,
            last_checked_out_until: None,
            last_integrated_by: None,
            last_integrated_by_user_name: None,
            ..samples::export()
        };
        let event = samples::event(Happening::Export(Box::new(export)));
        let body: Value = serde_json::from_slice(&render(&event, Some(&link())).unwrap()).unwrap();
        let nulls: Vec<_> = body.as_object().unwrap().iter().filter(|(_, value)| value.is_null()).collect();
        assert_eq!((body.as_object().unwrap().len(), nulls.len()), (14, 6), "{body}");
        assert_eq!(body["metadata"], serde_json::json!({}));
    }

    #[test]
    fn nothing_is_sent_without_a_link_and_nothing_but_an_export() {
        for happening in samples::happenings() {
            let event = samples::event(happening);
            assert_eq!(
                render(&event, Some(&link())).is_ok(),
                Payload::SmartDocumentorFile.carries(event.name()),
                "{}",
                event.name()
            );
            assert!(render(&event, None).is_err());
        }
    }
}
