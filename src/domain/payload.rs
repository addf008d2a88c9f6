//! What a body looks like, and which events it can carry.

use std::{fmt, time::Duration};

use super::{EventName, FileFormat, Timestamp};

/// What a body looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Payload {
    /// ContractFit's: `{"event", "organization", "data"}`.
    ContractFit,
    /// IDEXA's: the document's JSON, as it is.
    Idexa,
    /// SmartDocumentor's: the fields of an export with a link to its file.
    SmartDocumentorFile,
    /// A CloudEvents 1.0 event in structured JSON.
    CloudEvents,
    /// The event's own bytes, as upstream published them. For AMQP targets.
    Protobuf,
}

impl Payload {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::ContractFit, Self::Idexa, Self::SmartDocumentorFile, Self::CloudEvents, Self::Protobuf];

    /// The name in a subscription.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ContractFit => "contractfit",
            Self::Idexa => "idexa",
            Self::SmartDocumentorFile => "smartdocumentor_file",
            Self::CloudEvents => "cloudevents",
            Self::Protobuf => "protobuf",
        }
    }

    /// Whether the payload can carry the event (docs/subscriptions.md: payload by event).
    #[must_use]
    pub fn carries(self, event: EventName) -> bool {
        match self {
            Self::ContractFit => !matches!(event, EventName::DocumentExport | EventName::DocumentFinish),
            Self::Idexa => event == EventName::DocumentFinish,
            Self::SmartDocumentorFile => event == EventName::DocumentExport,
            Self::CloudEvents | Self::Protobuf => true,
        }
    }

    /// The content type of its bodies.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::ContractFit | Self::Idexa | Self::SmartDocumentorFile => "application/json",
            Self::CloudEvents => "application/cloudevents+json; charset=utf-8",
            Self::Protobuf => "application/protobuf",
        }
    }

    /// Whether the payload may go over HTTP.
    #[must_use]
    pub fn goes_over_http(self) -> bool {
        match self {
            Self::ContractFit | Self::Idexa | Self::SmartDocumentorFile | Self::CloudEvents => true,
            Self::Protobuf => false,
        }
    }

    /// Whether the payload may go over AMQP. The products whose page describes a request, its method or what its answer
    /// means are for HTTP only.
    #[must_use]
    pub fn goes_over_amqp(self) -> bool {
        match self {
            Self::ContractFit | Self::CloudEvents | Self::Protobuf => true,
            Self::Idexa | Self::SmartDocumentorFile => false,
        }
    }
}

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which of a document's files an export sends a link to, and for how long the link works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileExport {
    /// The file's format.
    pub format: FileFormat,
    /// How long the link works, from the attempt on: 1 to 168 whole hours.
    pub valid_for: Duration,
}

/// A link to a file, as it is sent. The URL is a credential: it works for whoever has it.
#[derive(Clone, PartialEq, Eq)]
pub struct FileLink {
    /// Where the file is.
    pub url: String,
    /// Its media type.
    pub content_type: String,
    /// Until when the link works.
    pub expires_at: Timestamp,
}

impl fmt::Debug for FileLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileLink").field("url", &"***").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}
