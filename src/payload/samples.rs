//! Events for the tests of the payloads.

use std::collections::BTreeMap;

use super::sample;
use crate::domain::{
    DocumentEvent, DocumentExport, EventName, FileFormat, Happening, Rendition, ReviewedBy, Section, Timestamp, now,
};

pub(super) fn event(happening: Happening) -> DocumentEvent {
    DocumentEvent {
        id: "evt-1".parse().unwrap(),
        occurred_at: None,
        organization: "contractfit1".parse().unwrap(),
        project: None,
        inbox: None,
        document: "5e7a0df1800de5422a6f7776".parse().unwrap(),
        metadata: BTreeMap::new(),
        happening,
    }
}

pub(super) fn invoice_section() -> Section {
    Section { document_type: "invoice".into(), format: "5e20372a90d5ab65dd4a017a".into(), confidence: 91, page: 0 }
}

pub(super) fn export() -> DocumentExport {
    DocumentExport {
        reviewed_by: ReviewedBy::User,
        task_id: 9001,
        task_number: Some(17),
        total_pages: 3,
        workspace_id: 42,
        display_name: "Invoice ação.pdf".into(),
        last_checkout_by_user_name: Some("Ana".into()),
        last_checked_out_by: Some("u-1".into()),
        last_checked_out_until: Timestamp::from_unix(1_795_314_635, 0),
        last_integrated_by: Some("u-2".into()),
        last_integrated_by_user_name: Some("Rui".into()),
        renditions: vec![Rendition {
            format: Some(FileFormat::Pdf),
            content_type: "application/pdf".into(),
            path: "exports/7.pdf".into(),
        }],
    }
}

/// One of each event.
pub(super) fn happenings() -> [Happening; 9] {
    EventName::ALL.map(|name| sample::happening(name, now()))
}
