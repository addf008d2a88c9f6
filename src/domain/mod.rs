//! The values docrelay works with: no I/O, no clock, no protobuf, no AMQP, no HTTP client.

mod auth;
mod delivery;
mod event;
mod exchange;
mod ids;
mod lane;
mod limit;
mod outcome;
mod payload;
mod placeholder;
mod retry;
mod secret;
#[cfg(test)]
mod shipped;
mod subscription;
mod time;
mod trace;
mod trial;

pub use self::{
    auth::{
        Auth, BadSigningSecret, ClientCredentials, Login, LoginField, MAX_SIGNING_SECRETS, SigningSecret, TokenSource,
    },
    delivery::{DeliveryId, Owed, ParkedEvent, Wait},
    event::{
        DocumentEvent, DocumentExport, EventName, EventSet, FileFormat, Happening, Rendition, ReviewedBy, Section,
        UnknownEvent,
    },
    exchange::{
        BadExchange, EXCHANGE_CHANNELS, ExchangeName, ExchangePolicy, ExchangeRefused, MAX_AMQP_NAME_BYTES, RoutingKey,
    },
    ids::{BadId, DocumentId, EventId, InboxId, MAX_ID_BYTES, OrganizationId, ProjectId, SubscriptionId},
    lane::{LaneFigure, LaneHealth, LaneKey, TargetId},
    limit::{BURST, BadRateLimit, PER_SECOND, RateLimit},
    outcome::{
        Answer, Attempt, DeliveryResult, DocumentState, FailureKind, InvalidReason, Outcome, SubscriptionDisabled,
    },
    payload::{FileExport, FileLink, Payload},
    placeholder::{PLACEHOLDER, continues_a_word, has_placeholder},
    retry::{MAX_RETRY_AGE, PlanDoesNotFit, RetryOn, RetryPolicy, WhileDown},
    secret::Secret,
    subscription::{
        AmqpTarget, BadTarget, Fingerprint, HttpTarget, OPEN_HEADERS, RESERVED_HEADER_PREFIXES, RESERVED_HEADERS,
        State, Subscription, Target, TargetUrl,
    },
    time::{Timestamp, now},
    trace::{TraceContext, Traceparent},
    trial::{TRIAL_PREFIX, Trial},
};
