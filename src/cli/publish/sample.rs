//! Sample events to publish: one of each kind, or many of one.

use std::{collections::BTreeMap, str::FromStr};

use uuid::Uuid;

use crate::{
    domain::{self, DocumentEvent, DocumentId, EventId, EventName, InboxId, OrganizationId, ProjectId},
    payload::sample,
};

/// Which samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    All,
    One(EventName),
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => Ok(Self::All),
            _ => text.parse().map(Self::One).map_err(|error: domain::UnknownEvent| format!("{error}, all")),
        }
    }
}

/// Samples, made as they are asked for.
#[derive(Debug)]
pub(super) struct Samples {
    kind: Kind,
    organization: OrganizationId,
    project: Option<ProjectId>,
    inbox: Option<InboxId>,
    total: u64,
    made: u64,
}

impl Samples {
    pub(super) fn new(
        kind: Kind,
        organization: OrganizationId,
        project: Option<ProjectId>,
        inbox: Option<InboxId>,
        count: Option<u64>,
    ) -> Self {
        let one_of_each = match kind {
            Kind::All => EventName::ALL.len() as u64,
            Kind::One(_) => 1,
        };
        Self { kind, organization, project, inbox, total: count.unwrap_or(one_of_each), made: 0 }
    }

    pub(super) fn total(&self) -> u64 {
        self.total
    }

    fn name(&self) -> EventName {
        match self.kind {
            Kind::One(name) => name,
            Kind::All => {
                let turn = usize::try_from(self.made).unwrap_or_default() % EventName::ALL.len();
                EventName::ALL.get(turn).copied().unwrap_or(EventName::DocumentText)
            }
        }
    }
}

impl Iterator for Samples {
    type Item = DocumentEvent;

    fn next(&mut self) -> Option<DocumentEvent> {
        if self.made == self.total {
            return None;
        }
        let name = self.name();
        self.made += 1;
        Some(DocumentEvent {
            id: new_id()?,
            occurred_at: Some(domain::now()),
            organization: self.organization.clone(),
            project: self.project.clone(),
            inbox: self.inbox.clone(),
            document: format!("sample-{}", self.made).parse::<DocumentId>().ok()?,
            metadata: BTreeMap::from([("source".to_owned(), "docrelay publish".to_owned())]),
            happening: sample::happening(name, domain::now()),
        })
    }
}

/// A new event id: a UUID of version 7, so that ids sort by their time.
pub(super) fn new_id() -> Option<EventId> {
    // A UUID has 36 bytes: always an id.
    Uuid::now_v7().to_string().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::broker::codec::{self, Checked};

    fn samples(kind: &str, count: Option<u64>) -> Vec<DocumentEvent> {
        Samples::new(kind.parse().unwrap(), "acme".parse().unwrap(), None, None, count).collect()
    }

    #[test]
    fn every_sample_is_an_event_that_docrelay_accepts() {
        let samples = samples("all", None);
        assert_eq!(samples.iter().map(DocumentEvent::name).collect::<Vec<_>>(), EventName::ALL);
        for sample in samples {
            let body = codec::encode_event(&sample).into();
            assert_eq!(codec::decode_event(&body, 8 << 20, Checked::NotYet), Ok(sample));
        }
    }

    #[test]
    fn many_samples_take_turns_and_have_ids_of_their_own() {
        let many = samples("all", Some(20));
        assert_eq!(many.len(), 20);
        assert_eq!(many.iter().map(|event| event.id.clone()).collect::<BTreeSet<_>>().len(), 20);
        assert_eq!(many.iter().filter(|event| event.name() == EventName::DocumentText).count(), 3);
        assert!(samples("document_fail", Some(5)).iter().all(|event| event.name() == EventName::DocumentFail));
        assert!("document_nothing".parse::<Kind>().unwrap_err().contains("all"));
    }
}
