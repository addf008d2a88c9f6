//! Sample events, one of each kind, plausible enough to show what a receiver gets. Pure.

use bytes::Bytes;

use crate::domain::{DocumentExport, EventName, FileFormat, Happening, Rendition, ReviewedBy, Section, Timestamp};

/// A default document JSON. 0.10 and 1.0e2 show that numbers arrive as they were written.
const DOCUMENT: &str = r#"{"id":"sample","document_type":"invoice","fields":{"number":{"value":"2026-0042","confidence":98},"total":{"value":0.10,"currency":"EUR","confidence":91}},"scale":1.0e2}"#;

/// What happened to a sample document.
#[must_use]
pub fn happening(name: EventName, now: Timestamp) -> Happening {
    let document = Bytes::from_static(DOCUMENT.as_bytes());
    match name {
        EventName::DocumentText => Happening::Text { text: "Invoice 2026-0042\nTotal 0.10 EUR".to_owned() },
        EventName::DocumentSplit => Happening::Split {
            sections: vec![
                Section { document_type: "invoice".to_owned(), format: "fmt-1".to_owned(), confidence: 97, page: 0 },
                Section { document_type: "terms".to_owned(), format: "fmt-2".to_owned(), confidence: 80, page: 1 },
            ],
        },
        EventName::DocumentPredict => Happening::Predict { document },
        EventName::DocumentEvaluate => Happening::Evaluate { document },
        EventName::DocumentDelete => Happening::Delete,
        EventName::DocumentFail => Happening::Fail { reason: "the file is encrypted".to_owned() },
        EventName::DocumentReject => Happening::Reject { document },
        EventName::DocumentExport => Happening::Export(Box::new(export(now))),
        EventName::DocumentFinish => Happening::Finish { document },
    }
}

fn export(now: Timestamp) -> DocumentExport {
    DocumentExport {
        reviewed_by: ReviewedBy::User,
        task_id: 4711,
        task_number: Some(42),
        total_pages: 2,
        workspace_id: 7,
        display_name: "Invoice 2026-0042".to_owned(),
        last_checkout_by_user_name: Some("Ada".to_owned()),
        last_checked_out_by: Some("ada@example.com".to_owned()),
        last_checked_out_until: Some(now),
        last_integrated_by: Some("ada@example.com".to_owned()),
        last_integrated_by_user_name: Some("Ada".to_owned()),
        renditions: vec![Rendition {
            format: Some(FileFormat::Pdf),
            content_type: "application/pdf".to_owned(),
            path: "samples/invoice-2026-0042.pdf".to_owned(),
        }],
    }
}
