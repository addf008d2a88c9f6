//! What each span says: its name, kind and attributes. No bodies, no headers, no paths, no queries: of an address only
//! scheme, host and port are told.

use std::{borrow::Cow, sync::Arc, time::Duration};

use opentelemetry::trace::SpanKind;
use opentelemetry_sdk::trace::SpanData;

use super::{
    Begun,
    draft::{Draft, method},
    names,
};
use crate::domain::{
    Answer, Attempt, DeliveryId, DeliveryResult, DocumentEvent, FailureKind, InvalidReason, Outcome, Subscription,
    SubscriptionDisabled, SubscriptionId, Target, TargetUrl, Timestamp, Wait,
};

/// Whoever waits no longer than that for its turn has not waited.
const WAITED: Duration = Duration::from_millis(1);

/// How a message that was taken in ended.
#[derive(Debug)]
pub struct Processed<'a> {
    /// What it is about, if that could be read.
    pub event: Option<&'a DocumentEvent>,
    /// How many bytes it has.
    pub bytes: usize,
    /// How it ended.
    pub end: ProcessEnd,
}

/// How a message that was taken in ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcessEnd {
    /// All of so many deliveries are answered for, or parked.
    Settled(u32),
    /// Nobody gets it.
    Unsubscribed,
    /// It cannot be processed.
    Invalid(InvalidReason),
    /// The broker gives it again: the service stops, or the broker was lost.
    LeftToBroker,
}

/// An attempt that was made.
#[derive(Debug)]
pub struct Tried<'a> {
    /// What happened.
    pub event: &'a DocumentEvent,
    /// To whom it was told.
    pub subscription: &'a Subscription,
    /// The delivery.
    pub delivery: DeliveryId,
    /// Which attempt, from 1.
    pub number: u32,
    /// When, how long, and what came of it.
    pub attempt: &'a Attempt,
    /// What follows.
    pub outcome: Outcome,
    /// How long it waited for its turn before.
    pub waited: Duration,
}

/// A wait in the broker.
#[derive(Debug)]
pub struct Waited<'a> {
    /// What happened.
    pub event: &'a DocumentEvent,
    /// Who waits for it.
    pub subscription: &'a SubscriptionId,
    /// The delivery.
    pub delivery: DeliveryId,
    /// What it waited for.
    pub wait: Wait,
    /// Since when.
    pub since: Timestamp,
    /// Which attempt follows.
    pub attempt: u32,
}

/// Something that upstream is told.
#[derive(Debug, Clone, Copy)]
pub enum Published<'a> {
    /// A result.
    Result(&'a DeliveryResult),
    /// A subscription was disabled.
    Disabled(&'a SubscriptionDisabled),
}

/// Something that is done within an attempt.
#[derive(Debug, Clone)]
pub enum Within {
    /// A login, at another server.
    Login {
        /// The method.
        method: http::Method,
        /// Where.
        server: Server,
        /// Whose.
        subscription: SubscriptionId,
    },
    /// A link to a file is signed.
    LinkSigning,
}

/// Where a request goes: nothing else of its address is told.
#[derive(Debug, Clone)]
pub struct Server {
    pub(super) scheme: &'static str,
    pub(super) host: String,
    pub(super) port: Option<u16>,
}

/// How something within an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// With an answer.
    Status(u16),
    /// A login answered, and gave no token that can be used.
    Useless(u16),
    /// Well.
    Well,
    /// It failed.
    Failed(FailureKind),
    /// Nobody waited for it any more.
    CutOff,
}

impl Ended {
    /// What an attempt's answer says of it.
    #[must_use]
    pub fn of(answer: &Answer) -> Self {
        match answer {
            Answer::Response { status, .. } => Self::Status(*status),
            Answer::Taken => Self::Well,
            Answer::Refused { kind, .. } | Answer::None { kind, .. } | Answer::Unsendable { kind, .. } => {
                Self::Failed(*kind)
            }
        }
    }
}

impl Server {
    /// The server of an address.
    #[must_use]
    pub fn of(url: &TargetUrl) -> Self {
        let url = url.as_url();
        let host = url.host_str().unwrap_or_default();
        // An address of version 6 is told without its brackets.
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host).to_owned();
        let scheme = if url.scheme() == "https" { "https" } else { "http" };
        Self { scheme, host, port: url.port_or_known_default() }
    }
}

impl Tried<'_> {
    /// Whether it was what it should be: whatever else makes its event one that is recorded.
    pub(super) fn is_good(&self) -> bool {
        self.outcome == Outcome::Delivered
    }

    /// Why it failed, by the conventions: an answer's status, or our own word.
    fn error(&self) -> Option<Cow<'static, str>> {
        match &self.attempt.answer {
            Answer::Response { status: 300.., .. } if self.is_http() => self.status().map(|it| it.to_string().into()),
            Answer::Response { .. } | Answer::Taken => None,
            Answer::Refused { kind, .. } | Answer::None { kind, .. } | Answer::Unsendable { kind, .. } => {
                Some(kind.as_str().into())
            }
        }
    }

    fn status(&self) -> Option<u16> {
        if let Answer::Response { status, .. } = self.attempt.answer { Some(status) } else { None }
    }

    fn is_http(&self) -> bool {
        matches!(self.subscription.target, Target::Http(_))
    }
}

/// What all spans share.
#[derive(Debug)]
pub(super) struct Facts {
    process: String,
    queue: Arc<str>,
    publish: String,
    results: Arc<str>,
}

impl Facts {
    pub(super) fn new(queue: &str, results: &str) -> Self {
        Self {
            process: format!("process {queue}"),
            queue: queue.into(),
            publish: format!("publish {results}"),
            results: results.into(),
        }
    }

    pub(super) fn processed(&self, begun: Begun, until: Timestamp, processed: &Processed<'_>) -> SpanData {
        let mut span = Draft::new(begun, self.process.clone(), SpanKind::Consumer);
        span.messaging("process", "process", Arc::clone(&self.queue));
        span.add(names::MESSAGE_BODY_SIZE, i64::try_from(processed.bytes).unwrap_or(i64::MAX));
        if let Some(event) = processed.event {
            span.add(names::MESSAGE_ID, event.id.shared());
            span.event(event);
            span.add(names::EVENT_ID, event.id.shared());
        }
        match processed.end {
            ProcessEnd::Settled(fan_out) => span.add(names::FAN_OUT, i64::from(fan_out)),
            ProcessEnd::Unsubscribed => span.add(names::OUTCOME, Outcome::Unsubscribed.as_str()),
            ProcessEnd::Invalid(reason) => {
                span.add(names::OUTCOME, Outcome::Invalid.as_str());
                span.failed(reason.as_str().into());
            }
            ProcessEnd::LeftToBroker => span.failed("left_to_broker".into()),
        }
        span.until(until)
    }

    pub(super) fn published(
        &self,
        begun: Begun,
        until: Timestamp,
        published: Published<'_>,
        is_confirmed: bool,
    ) -> SpanData {
        let mut span = Draft::new(begun, self.publish.clone(), SpanKind::Producer);
        span.messaging("publish", "send", Arc::clone(&self.results));
        match published {
            Published::Result(result) => {
                span.organization(&result.organization);
                if let Some(subscription) = &result.subscription {
                    span.add(names::SUBSCRIPTION, subscription.shared());
                }
                if result.delivery.is_some() {
                    span.add(names::ATTEMPT, i64::from(result.attempt));
                }
                span.add(names::OUTCOME, result.outcome.as_str());
            }
            Published::Disabled(disabled) => {
                span.organization(&disabled.organization);
                span.add(names::SUBSCRIPTION, disabled.subscription.shared());
                span.add(names::OUTCOME, "subscription_disabled");
            }
        }
        if !is_confirmed {
            span.failed("not_confirmed".into());
        }
        span.until(until)
    }
}

pub(super) fn tried(begun: Begun, tried: &Tried<'_>) -> SpanData {
    let begun = Begun { at: tried.attempt.started_at, ..begun };
    let mut span = match &tried.subscription.target {
        Target::Http(target) => {
            let mut span = Draft::new(begun, method(&target.method), SpanKind::Client);
            span.http(&target.method, Server::of(&target.url));
            if let Some(resent) = tried.number.checked_sub(1).filter(|resent| *resent > 0) {
                span.add(names::RESEND_COUNT, i64::from(resent));
            }
            if let Some(status) = tried.status() {
                span.add(names::STATUS_CODE, i64::from(status));
            }
            span
        }
        Target::Amqp(target) => {
            let exchange: Arc<str> = target.exchange.as_str().into();
            let mut span = Draft::new(begun, format!("publish {exchange}"), SpanKind::Producer);
            span.messaging("publish", "send", exchange);
            span.add(names::ROUTING_KEY, target.routing_key.as_str().to_owned());
            span.add(names::MESSAGE_ID, tried.delivery.to_string());
            span
        }
    };
    span.event(tried.event);
    span.delivery(&tried.subscription.id, tried.delivery, tried.number);
    span.add(names::OUTCOME, tried.outcome.as_str());
    if tried.waited > WAITED {
        span.add(names::WAIT_MS, i64::try_from(tried.waited.as_millis()).unwrap_or(i64::MAX));
    }
    if let Some(error) = tried.error() {
        span.failed(error);
    }
    span.until(tried.attempt.started_at.after(tried.attempt.latency))
}

/// An attempt that a defect ended: what it was about is lost.
pub(super) fn untold(begun: Begun, until: Timestamp) -> SpanData {
    let mut span = Draft::new(begun, "attempt", SpanKind::Internal);
    span.failed(FailureKind::Internal.as_str().into());
    span.until(until)
}

pub(super) fn waited(begun: Begun, until: Timestamp, waited: &Waited<'_>) -> SpanData {
    let mut span = Draft::new(Begun { at: waited.since, ..begun }, "wait", SpanKind::Internal);
    span.event(waited.event);
    span.delivery(waited.subscription, waited.delivery, waited.attempt);
    let wait = match waited.wait {
        Wait::Retry => "retry",
        Wait::Limit => "limit",
    };
    span.add(names::WAIT, wait);
    span.until(until)
}

pub(super) fn within(begun: Begun, until: Timestamp, within: &Within, ended: Ended) -> SpanData {
    let mut span = match within {
        Within::Login { method: by, server, subscription } => {
            let mut span = Draft::new(begun, format!("{} login", method(by)), SpanKind::Client);
            span.http(by, server.clone());
            span.add(names::SUBSCRIPTION, subscription.shared());
            span
        }
        Within::LinkSigning => Draft::new(begun, "sign link", SpanKind::Internal),
    };
    match ended {
        Ended::Well => {}
        Ended::Status(status) => {
            span.add(names::STATUS_CODE, i64::from(status));
            if status >= 300 {
                span.failed(status.to_string().into());
            }
        }
        Ended::Useless(status) => {
            span.add(names::STATUS_CODE, i64::from(status));
            span.failed(FailureKind::Auth.as_str().into());
        }
        Ended::Failed(kind) => span.failed(kind.as_str().into()),
        Ended::CutOff => span.failed("cut_off".into()),
    }
    span.until(until)
}
