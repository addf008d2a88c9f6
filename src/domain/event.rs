//! A document event: something that happened to a document, as checked by the codec.

use std::{collections::BTreeMap, fmt, str::FromStr};

use bytes::Bytes;

use super::{DocumentId, EventId, InboxId, OrganizationId, ProjectId, Timestamp};

/// Something that happened to a document.
#[derive(Debug, Clone, PartialEq)]
pub struct DocumentEvent {
    /// Unique per event; a producer that repeats itself reuses it.
    pub id: EventId,
    /// When it happened, by the producer's clock.
    pub occurred_at: Option<Timestamp>,
    /// Whose document it is.
    pub organization: OrganizationId,
    /// The project, if the document has one.
    pub project: Option<ProjectId>,
    /// The inbox, if the document has one.
    pub inbox: Option<InboxId>,
    /// The document.
    pub document: DocumentId,
    /// The document's own key-value strings.
    pub metadata: BTreeMap<String, String>,
    /// What happened.
    pub happening: Happening,
}

/// What happened, with what it carries. Document JSON is an object, checked at the codec and never re-encoded.
#[derive(Debug, Clone, PartialEq)]
pub enum Happening {
    /// The OCR text was obtained.
    Text {
        /// The text.
        text: String,
    },
    /// The sections are known.
    Split {
        /// The sections, in the producer's order.
        sections: Vec<Section>,
    },
    /// Predictions were made.
    Predict {
        /// The default document JSON.
        document: Bytes,
    },
    /// The document was reviewed.
    Evaluate {
        /// The default document JSON.
        document: Bytes,
    },
    /// The document was deleted.
    Delete,
    /// Processing failed.
    Fail {
        /// Why, in the producer's words.
        reason: String,
    },
    /// The document was rejected.
    Reject {
        /// The default document JSON.
        document: Bytes,
    },
    /// A review was finished and the document is exported.
    Export(Box<DocumentExport>),
    /// Processing is finished.
    Finish {
        /// The default document JSON.
        document: Bytes,
    },
}

/// One section of a split document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// What kind of document it is.
    pub document_type: String,
    /// The id of the recognised format.
    pub format: String,
    /// In percent.
    pub confidence: u32,
    /// Counted from 0.
    pub page: u32,
}

/// What an export carries (SmartDocumentor's fields).
#[derive(Debug, Clone, PartialEq)]
pub struct DocumentExport {
    /// Who finished the review.
    pub reviewed_by: ReviewedBy,
    /// The id the task was created with.
    pub task_id: i64,
    /// The number within the workspace.
    pub task_number: Option<i64>,
    /// How many pages.
    pub total_pages: i64,
    /// The workspace's number.
    pub workspace_id: i64,
    /// The document's name as people see it.
    pub display_name: String,
    /// Who last checked the document out, by name.
    pub last_checkout_by_user_name: Option<String>,
    /// Who last checked the document out.
    pub last_checked_out_by: Option<String>,
    /// Until when.
    pub last_checked_out_until: Option<Timestamp>,
    /// Who last finished reviewing.
    pub last_integrated_by: Option<String>,
    /// Who last finished reviewing, by name.
    pub last_integrated_by_user_name: Option<String>,
    /// The files made from the document.
    pub renditions: Vec<Rendition>,
}

/// Who finished a review.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReviewedBy {
    /// The producer did not say.
    Unspecified,
    /// A person.
    User,
    /// The system.
    Automatic,
}

/// A file made from a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendition {
    /// The format; `None` for one that this version does not know.
    pub format: Option<FileFormat>,
    /// The media type.
    pub content_type: String,
    /// Where it is in the artifact store.
    pub path: String,
}

/// The formats a document can be exported in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileFormat {
    /// PDF.
    Pdf,
    /// JPEG.
    Jpeg,
    /// PNG.
    Png,
}

impl FileFormat {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Pdf, Self::Jpeg, Self::Png];

    /// The name in a subscription.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pdf => "pdf",
            Self::Jpeg => "jpeg",
            Self::Png => "png",
        }
    }

    /// Its media type.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Pdf => "application/pdf",
            Self::Jpeg => "image/jpeg",
            Self::Png => "image/png",
        }
    }
}

impl DocumentExport {
    /// The first file in this format.
    #[must_use]
    pub fn rendition(&self, format: FileFormat) -> Option<&Rendition> {
        self.renditions.iter().find(|rendition| rendition.format == Some(format))
    }
}

impl Happening {
    /// The event's name.
    #[must_use]
    pub fn name(&self) -> EventName {
        match self {
            Self::Text { .. } => EventName::DocumentText,
            Self::Split { .. } => EventName::DocumentSplit,
            Self::Predict { .. } => EventName::DocumentPredict,
            Self::Evaluate { .. } => EventName::DocumentEvaluate,
            Self::Delete => EventName::DocumentDelete,
            Self::Fail { .. } => EventName::DocumentFail,
            Self::Reject { .. } => EventName::DocumentReject,
            Self::Export(_) => EventName::DocumentExport,
            Self::Finish { .. } => EventName::DocumentFinish,
        }
    }
}

impl DocumentEvent {
    /// The event's name.
    #[must_use]
    pub fn name(&self) -> EventName {
        self.happening.name()
    }
}

/// The nine events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EventName {
    /// The OCR text was obtained.
    DocumentText,
    /// The sections are known.
    DocumentSplit,
    /// Predictions were made.
    DocumentPredict,
    /// The document was reviewed.
    DocumentEvaluate,
    /// The document was deleted.
    DocumentDelete,
    /// Processing failed.
    DocumentFail,
    /// The document was rejected.
    DocumentReject,
    /// A review was finished and the document is exported.
    DocumentExport,
    /// Processing is finished.
    DocumentFinish,
}

/// A name that is none of the nine events.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown event {0:?}: expected one of document_text, document_split, document_predict, document_evaluate, document_delete, document_fail, document_reject, document_export, document_finish"
)]
pub struct UnknownEvent(pub String);

impl EventName {
    /// All nine, in the order of docs/subscriptions.md.
    pub const ALL: [Self; 9] = [
        Self::DocumentText,
        Self::DocumentSplit,
        Self::DocumentPredict,
        Self::DocumentEvaluate,
        Self::DocumentDelete,
        Self::DocumentFail,
        Self::DocumentReject,
        Self::DocumentExport,
        Self::DocumentFinish,
    ];

    /// The name as it stands in subscriptions, payloads and routing keys.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DocumentText => "document_text",
            Self::DocumentSplit => "document_split",
            Self::DocumentPredict => "document_predict",
            Self::DocumentEvaluate => "document_evaluate",
            Self::DocumentDelete => "document_delete",
            Self::DocumentFail => "document_fail",
            Self::DocumentReject => "document_reject",
            Self::DocumentExport => "document_export",
            Self::DocumentFinish => "document_finish",
        }
    }
}

impl fmt::Display for EventName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for EventName {
    type Err = UnknownEvent;

    fn from_str(text: &str) -> Result<Self, UnknownEvent> {
        Self::ALL.into_iter().find(|name| name.as_str() == text).ok_or_else(|| UnknownEvent(text.to_owned()))
    }
}

/// A set of events: what a subscription wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EventSet(u16);

impl EventSet {
    /// Whether the set has `name`.
    #[must_use]
    pub fn contains(self, name: EventName) -> bool {
        self.0 & Self::bit(name) != 0
    }

    /// Whether the set has nothing.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The events of the set, in the order of docs/subscriptions.md.
    pub fn iter(self) -> impl Iterator<Item = EventName> {
        EventName::ALL.into_iter().filter(move |name| self.contains(*name))
    }

    fn bit(name: EventName) -> u16 {
        1 << name as u16
    }
}

impl FromIterator<EventName> for EventSet {
    fn from_iter<I: IntoIterator<Item = EventName>>(names: I) -> Self {
        Self(names.into_iter().fold(0, |set, name| set | Self::bit(name)))
    }
}
