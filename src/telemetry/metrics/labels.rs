//! What metrics are labelled with. Every label has few values: those of enums, and organizations up to a number. Ids of
//! documents, events, deliveries and subscriptions are never labels.

use std::{
    collections::HashSet,
    fmt::{Error, Write as _},
    sync::{PoisonError, RwLock},
};

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelSetEncoder, LabelValueEncoder};

use crate::domain::{FailureKind, OrganizationId, Target, TraceContext};

/// What all organizations are called that were seen after the first so many, and that of messages that do not say whose
/// they are.
const OTHER: &str = "other";

/// Which organizations have series of their own: the first ones that are seen.
#[derive(Debug)]
pub(super) struct Organizations {
    known: RwLock<HashSet<OrganizationId>>,
    most: usize,
    other: Option<OrganizationId>,
}

/// Whether an organization was seen before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    First,
    Again,
    TooMany,
}

impl Organizations {
    pub(super) fn new(most: usize) -> Self {
        Self { known: RwLock::default(), most, other: OTHER.parse().ok() }
    }

    /// The label of an organization, and whether nobody has had it before. Takes no memory for one that is known, or for
    /// one too many.
    pub(super) fn label(&self, organization: Option<&OrganizationId>) -> (OrganizationLabel, bool) {
        match organization.map(|it| (it, self.see(it))) {
            Some((it, seen @ (Seen::First | Seen::Again))) => {
                (OrganizationLabel(Some(it.clone())), seen == Seen::First)
            }
            Some((_, Seen::TooMany)) | None => (self.other(), false),
        }
    }

    /// The label of all others.
    pub(super) fn other(&self) -> OrganizationLabel {
        OrganizationLabel(self.other.clone())
    }

    fn see(&self, organization: &OrganizationId) -> Seen {
        let is_full = {
            let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
            if known.contains(organization) {
                return Seen::Again;
            }
            known.len() >= self.most
        };
        if is_full {
            return Seen::TooMany;
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.contains(organization) {
            Seen::Again
        } else if known.len() < self.most {
            known.insert(organization.clone());
            Seen::First
        } else {
            Seen::TooMany
        }
    }
}

/// The label of an organization.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct OrganizationLabel(Option<OrganizationId>);

impl EncodeLabelValue for OrganizationLabel {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), Error> {
        encoder.write_str(self.0.as_ref().map_or(OTHER, OrganizationId::as_str))
    }
}

/// The label set of metrics with one label of an enum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct One(pub(super) &'static str, pub(super) &'static str);

impl EncodeLabelSet for One {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), Error> {
        [(self.0, self.1)].encode(encoder)
    }
}

/// The label set of an exemplar: the trace that it leads to.
#[derive(Debug, Clone, Copy)]
pub(super) struct TraceLabel([u8; 32]);

impl TraceLabel {
    /// That of a trace that somebody keeps.
    pub(super) fn of(trace: &TraceContext) -> Option<Self> {
        trace.sampled_trace_id()?.as_bytes().try_into().ok().map(Self)
    }
}

impl EncodeLabelSet for TraceLabel {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), Error> {
        let mut label = encoder.encode_label();
        let mut key = label.encode_label_key()?;
        key.write_str("trace_id")?;
        let mut value = key.encode_label_value()?;
        value.write_str(std::str::from_utf8(&self.0).map_err(|_| Error)?)?;
        value.finish()
    }
}

/// The kind of a target, as a label.
pub(super) fn kind_of(target: &Target) -> Kind {
    match target {
        Target::Http(_) => Kind::Http,
        Target::Amqp(_) => Kind::Amqp,
    }
}

/// The kinds of targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Http,
    Amqp,
}

impl Kind {
    pub(super) const ALL: [Self; 2] = [Self::Http, Self::Amqp];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Amqp => "amqp",
        }
    }

    /// Whether an attempt at such a target can end so.
    pub(super) fn can_fail_by(self, error: FailureKind) -> bool {
        match error {
            FailureKind::Timeout | FailureKind::Egress | FailureKind::Interrupted | FailureKind::Internal => true,
            FailureKind::Status
            | FailureKind::Dns
            | FailureKind::Connect
            | FailureKind::Tls
            | FailureKind::Reset
            | FailureKind::Protocol
            | FailureKind::Auth
            | FailureKind::Gone => self == Self::Http,
            FailureKind::Unroutable | FailureKind::Broker => self == Self::Amqp,
            // Deliveries end so without an attempt.
            FailureKind::Template
            | FailureKind::NoRendition
            | FailureKind::TooOld
            | FailureKind::TooLarge
            | FailureKind::Deleted
            | FailureKind::Disabled => false,
        }
    }
}

/// The label set of attempts.
#[derive(Debug, Clone, PartialEq, Eq, Hash, prometheus_client::encoding::EncodeLabelSet)]
pub(super) struct AttemptLabels {
    pub(super) error: &'static str,
    pub(super) target_kind: &'static str,
    pub(super) organization: OrganizationLabel,
}

/// The label set of deliveries that ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, prometheus_client::encoding::EncodeLabelSet)]
pub(super) struct DeliveryLabels {
    pub(super) outcome: &'static str,
    pub(super) organization: OrganizationLabel,
}

/// The label set of a queue.
#[derive(Debug, Clone, PartialEq, Eq, Hash, prometheus_client::encoding::EncodeLabelSet)]
pub(super) struct QueueLabel {
    pub(super) queue: String,
}

/// The label set of a target that is, or was lately, down.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, prometheus_client::encoding::EncodeLabelSet)]
pub(super) struct TargetLabels {
    pub(super) organization: OrganizationLabel,
    pub(super) target: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn organizations_beyond_the_number_and_unknown_ones_are_other() {
        let organizations = Organizations::new(2);
        let named = |name: &str| {
            let (label, is_new) = organizations.label(Some(&name.parse().unwrap()));
            (label.0.unwrap().as_str().to_owned(), is_new)
        };
        let expected = [("a", true), ("b", true), ("other", false), ("a", false), ("other", false), ("b", false)];
        assert_eq!(["a", "b", "c", "a", "d", "b"].map(named), expected.map(|(name, is_new)| (name.to_owned(), is_new)));
        assert_eq!(organizations.label(None), (organizations.other(), false));
        assert_eq!(organizations.label(Some(&"c".parse().unwrap())), (organizations.other(), false));
        assert_eq!(Organizations::new(0).label(Some(&"a".parse().unwrap())), (organizations.other(), false));
    }
}
