//! What came of an attempt, of a delivery, of an event. A receiver that says no is data, not an error.

use std::{fmt, str::FromStr, time::Duration};

use bytes::Bytes;

use super::{
    DeliveryId, DocumentId, EventId, EventName, InboxId, OrganizationId, ProjectId, SubscriptionId, Timestamp,
};

/// One attempt of one delivery, as it went.
#[derive(Debug, Clone, PartialEq)]
pub struct Attempt {
    /// When it began.
    pub started_at: Timestamp,
    /// How long it took.
    pub latency: Duration,
    /// How it ended.
    pub answer: Answer,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// The receiver answered.
    Response {
        /// The HTTP status.
        status: u16,
        /// What `Retry-After` asked for, counted from the end of the attempt.
        retry_after: Option<Duration>,
        /// The body, up to the cap.
        body: Bytes,
        /// Whether the body was longer than the cap.
        cut: bool,
    },
    /// The broker of an AMQP target has taken the message, and found a queue for it.
    Taken,
    /// The broker of an AMQP target answered no: no queue, a full one, no such exchange, no right to it.
    Refused {
        /// Why.
        kind: FailureKind,
        /// Why, for people.
        text: String,
    },
    /// Nobody answered: timeout, DNS, refused, TLS, reset, broken protocol, egress, interrupted, a failed login.
    None {
        /// Why.
        kind: FailureKind,
        /// Why, for people.
        text: String,
    },
    /// It cannot be sent at all, now or later: template, internal error.
    Unsendable {
        /// Why.
        kind: FailureKind,
        /// Why, for people.
        text: String,
    },
}

macro_rules! names {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$vdoc])* $variant),+ }

        impl $name {
            /// All of them, in the order of docs/subscriptions.md.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The stable name.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                Self::ALL.iter().copied().find(|name| name.as_str() == text).ok_or_else(|| {
                    let names: Vec<_> = Self::ALL.iter().map(|name| name.as_str()).collect();
                    format!("expected one of {}, got {text:?}", names.join(", "))
                })
            }
        }
    };
}

names!(
    /// Why an attempt or a delivery failed. The names are stable within v1.
    FailureKind {
        /// The receiver answered with a status that is no success.
        Status = "status",
        /// No complete answer within the deadline.
        Timeout = "timeout",
        /// The host's name could not be resolved.
        Dns = "dns",
        /// No connection could be made.
        Connect = "connect",
        /// TLS failed.
        Tls = "tls",
        /// The connection broke during the exchange.
        Reset = "reset",
        /// What came back is not HTTP.
        Protocol = "protocol",
        /// The login before the delivery failed.
        Auth = "auth",
        /// The address may not be connected to, the exchange not be published to.
        Egress = "egress",
        /// The document's id does not fit into the URL's template.
        Template = "template",
        /// The document has no file in the wanted format.
        NoRendition = "no_rendition",
        /// An AMQP exchange had no queue for it.
        Unroutable = "unroutable",
        /// The broker of AMQP targets refused it, or is away.
        Broker = "broker",
        /// Older than `max_age`.
        TooOld = "too_old",
        /// Too large to be sent on.
        TooLarge = "too_large",
        /// The receiver answered 410.
        Gone = "gone",
        /// The subscription was deleted.
        Deleted = "deleted",
        /// The subscription was disabled.
        Disabled = "disabled",
        /// docrelay stopped during the attempt.
        Interrupted = "interrupted",
        /// A defect of docrelay.
        Internal = "internal",
    }
);

names!(
    /// Why a message cannot be processed. The names are stable within v1.
    InvalidReason {
        /// Not a `DocumentEvent`.
        Undecodable = "undecodable",
        /// A required field is missing.
        MissingField = "missing_field",
        /// `document_json` is not a JSON object.
        BadJson = "bad_json",
        /// The message is larger than `events.max_bytes`.
        TooLarge = "too_large",
        /// A name or an id is too long.
        TooLong = "too_long",
        /// A property says it is something else.
        WrongProperty = "wrong_property",
        /// None of the events this version knows.
        NoKnownEvent = "no_known_event",
        /// The broker kept refusing the result.
        ResultRefused = "result_refused",
        /// Returned too often (set by the broker).
        DeliveryLimit = "delivery_limit",
        /// Found no queue (set by the broker).
        Unrouted = "unrouted",
    }
);

names!(
    /// What became of a delivery or of one attempt of it.
    Outcome {
        /// A 2xx answer. Final.
        Delivered = "delivered",
        /// The attempt failed, another one is due.
        AttemptFailed = "attempt_failed",
        /// Waiting for a target that is down.
        Deferred = "deferred",
        /// Failed, and no attempt is left or it is too old. Final.
        Exhausted = "exhausted",
        /// Cannot be sent at all. Final.
        Rejected = "rejected",
        /// The subscription was deleted or disabled. Final.
        Cancelled = "cancelled",
        /// The event matched nobody. Final.
        Unsubscribed = "unsubscribed",
        /// The message was set aside. Final.
        Invalid = "invalid",
    }
);

names!(
    /// A delivery's vote on its document, other than `none` only for `document_export`.
    DocumentState {
        /// No vote.
        None = "none",
        /// Not decided yet.
        Pending = "pending",
        /// Archive the document.
        Archived = "archived",
        /// Take the document back to review.
        ToReview = "to_review",
    }
);

impl Outcome {
    /// Whether nothing follows for this delivery.
    #[must_use]
    pub fn is_final(self) -> bool {
        match self {
            Self::AttemptFailed | Self::Deferred => false,
            Self::Delivered
            | Self::Exhausted
            | Self::Rejected
            | Self::Cancelled
            | Self::Unsubscribed
            | Self::Invalid => true,
        }
    }

    /// The vote this outcome casts on the document of `event`.
    #[must_use]
    pub fn document_state(self, event: Option<EventName>) -> DocumentState {
        if event != Some(EventName::DocumentExport) {
            return DocumentState::None;
        }
        match self {
            Self::Delivered | Self::Unsubscribed => DocumentState::Archived,
            Self::AttemptFailed | Self::Deferred => DocumentState::Pending,
            Self::Exhausted | Self::Rejected | Self::Cancelled => DocumentState::ToReview,
            Self::Invalid => DocumentState::None,
        }
    }
}

/// What docrelay tells upstream. Fields that do not apply are `None`.
#[derive(Debug, Clone, PartialEq)]
pub struct DeliveryResult {
    /// The delivery; `None` for `unsubscribed` and `invalid`.
    pub delivery: Option<DeliveryId>,
    /// The event.
    pub event_id: EventId,
    /// The document, if it could be read.
    pub document: Option<DocumentId>,
    /// The subscription; `None` for `unsubscribed` and `invalid`.
    pub subscription: Option<SubscriptionId>,
    /// Whose document it is.
    pub organization: OrganizationId,
    /// The project, if any.
    pub project: Option<ProjectId>,
    /// The inbox, if any.
    pub inbox: Option<InboxId>,
    /// The event's name; `None` when it could not be read.
    pub event: Option<EventName>,
    /// What became of it.
    pub outcome: Outcome,
    /// Which attempt, from 1; 0 when none was made.
    pub attempt: u32,
    /// How many attempts it may make.
    pub max_attempts: u32,
    /// How many deliveries the event made.
    pub fan_out: u32,
    /// The HTTP status, if there was an answer.
    pub status_code: Option<u16>,
    /// What the receiver answered, up to the cap.
    pub response_body: Bytes,
    /// Whether the answer was longer.
    pub response_body_cut: bool,
    /// The error's stable name: a [`FailureKind`] or an [`InvalidReason`].
    pub error: Option<&'static str>,
    /// The error, for people.
    pub error_text: String,
    /// How long the attempt took.
    pub latency: Duration,
    /// When the attempt began.
    pub attempted_at: Option<Timestamp>,
    /// When the next attempt is due.
    pub next_attempt_at: Option<Timestamp>,
    /// Host and path of the target, without query and user information; `amqp:` and the exchange of an AMQP target.
    pub target: String,
    /// The recovery round.
    pub round: u32,
}

/// What docrelay tells upstream of a subscription that it disabled by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriptionDisabled {
    /// The subscription.
    pub subscription: SubscriptionId,
    /// Whose it is.
    pub organization: OrganizationId,
    /// Why.
    pub reason: FailureKind,
    /// When.
    pub at: Timestamp,
    /// The delivery whose attempt showed it.
    pub cause: DeliveryId,
}
