//! What can be read of an event that cannot be processed.

use super::super::wire;
use crate::domain::{DocumentEvent, DocumentId, EventId, EventName, InboxId, OrganizationId, ProjectId};

/// What could be read of a message that cannot be processed: enough to tell upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// The event's id.
    pub event: EventId,
    /// Whose it is.
    pub organization: OrganizationId,
    /// The document, the project and the inbox, as far as they could be read.
    pub document: Option<DocumentId>,
    /// The project.
    pub project: Option<ProjectId>,
    /// The inbox.
    pub inbox: Option<InboxId>,
    /// The event's name.
    pub name: Option<EventName>,
}

impl Known {
    /// What is known of an event that could be read whole.
    #[must_use]
    pub fn of(event: &DocumentEvent) -> Self {
        Self {
            event: event.id.clone(),
            organization: event.organization.clone(),
            document: Some(event.document.clone()),
            project: event.project.clone(),
            inbox: event.inbox.clone(),
            name: Some(event.name()),
        }
    }
}

/// `None` when its id or its organization cannot be read.
pub(super) fn known(wire: &wire::DocumentEvent) -> Option<Known> {
    use wire::document_event::Event;
    let name = wire.event.as_ref().map(|event| match event {
        Event::DocumentText(_) => EventName::DocumentText,
        Event::DocumentSplit(_) => EventName::DocumentSplit,
        Event::DocumentPredict(_) => EventName::DocumentPredict,
        Event::DocumentEvaluate(_) => EventName::DocumentEvaluate,
        Event::DocumentDelete(_) => EventName::DocumentDelete,
        Event::DocumentFail(_) => EventName::DocumentFail,
        Event::DocumentReject(_) => EventName::DocumentReject,
        Event::DocumentExport(_) => EventName::DocumentExport,
        Event::DocumentFinish(_) => EventName::DocumentFinish,
    });
    Some(Known {
        event: wire.id.parse().ok()?,
        organization: wire.organization.parse().ok()?,
        document: wire.document_id.parse().ok(),
        project: wire.project.parse().ok(),
        inbox: wire.inbox.parse().ok(),
        name,
    })
}
