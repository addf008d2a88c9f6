//! What happens to events and deliveries: each is one call, that counts it and writes its line, if it has one.

use std::time::Duration;

use prometheus_client::metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram};

use super::{
    Metrics,
    book::{Book, Traced},
    labels::{AttemptLabels, DeliveryLabels, Kind, One, OrganizationLabel, TraceLabel, kind_of},
};
use crate::{
    domain::{
        Answer, DeliveryId, DeliveryResult, FailureKind, InvalidReason, OrganizationId, Outcome, Subscription,
        TraceContext, now,
    },
    telemetry::fields::SpanId,
};

/// From an event's first sight to its delivery: a moment, or hours of retries.
const LATENCY: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 120.0, 600.0, 3600.0];

/// One attempt: its deadline is at most a minute.
const ATTEMPT: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 30.0, 60.0];

/// A lane's line: nobody stands there for longer than a second.
const LINE: [f64; 9] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0];

/// What the error of an attempt that succeeded is called.
const NO_ERROR: &str = "none";

/// Which queue a message came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intake {
    /// The intake: document events.
    Events,
    /// Parked messages whose wait is over.
    Due,
}

/// What a delivery is parked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParkedFor {
    /// Its next attempt, by the schedule.
    Retry,
    /// A place at its target; or its subscription, which is not known now.
    Limit,
    /// A target that is down.
    Down,
    /// Somebody who paused its lane.
    Paused,
}

/// A message that is not answered yet. Dropped, it is.
#[derive(Debug)]
pub struct InHand(Gauge);

impl Drop for InHand {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// The metrics of this file.
#[derive(Debug)]
pub(super) struct Deliveries {
    events: [Counter; 2],
    in_hand: [Gauge; 2],
    ended: Family<DeliveryLabels, Counter>,
    attempts: Family<AttemptLabels, Counter>,
    responses: [Counter; 4],
    parked: [Counter; 4],
    waits: Counter,
    duplicates: Counter,
    gone: Counter,
    latency: Traced,
    durations: [Traced; 2],
    line: Histogram,
}

impl Deliveries {
    pub(super) fn new(book: &mut Book) -> Self {
        let sources = ["events", "due"];
        let durations: Family<One, Traced, fn() -> Traced> = book.enter(
            ("docrelay_attempt_duration", Some(prometheus_client::registry::Unit::Seconds), &["target_kind"]),
            "How long an attempt took, a login before it included",
            Family::new_with_constructor(|| Traced::new(ATTEMPT.into_iter())),
        );
        Self {
            events: book.counters("docrelay_events", &["source"], "Messages taken in", sources),
            in_hand: book.gauges(
                "docrelay_messages_in_hand",
                &["source"],
                "Messages that were taken in and are not answered yet",
                sources,
            ),
            ended: book.family(
                "docrelay_deliveries",
                &["outcome", "organization"],
                "Deliveries that ended, and events and messages that end without one (unsubscribed, invalid)",
            ),
            attempts: book.family(
                "docrelay_attempts",
                &["error", "target_kind", "organization"],
                "Attempts made; error is none for those that succeeded",
            ),
            responses: book.counters(
                "docrelay_attempt_responses",
                &["status_class"],
                "HTTP answers to attempts",
                ["2xx", "3xx", "4xx", "5xx"],
            ),
            parked: book.counters(
                "docrelay_parked",
                &["reason"],
                "Deliveries that were parked in a delay queue; a wait of several hops counts each",
                ["retry", "limit", "down", "paused"],
            ),
            waits: book.counter(
                "docrelay_limiter_waits",
                "Times that a delivery found no place at its target and had to stand in line or be parked",
            ),
            duplicates: book.counter(
                "docrelay_duplicates",
                "Deliveries that came again with their message and were settled already",
            ),
            gone: book.counter("docrelay_gone", "Subscriptions that were disabled because their target answered 410"),
            latency: book.traced(
                "docrelay_delivery_latency",
                "From the first sight of an event to its delivery",
                &LATENCY,
            ),
            durations: Kind::ALL.map(|kind| durations.get_or_create_owned(&One("target_kind", kind.as_str()))),
            line: book.seconds("docrelay_limiter_wait", "Time that deliveries stood in their lane's line", &LINE),
        }
    }

    /// Everything that may become of an organization's deliveries, at 0: Prometheus sees a first failure only as a step
    /// from a value that it knew. Attempts at exchanges begin with the first of them: most organizations make none.
    pub(super) fn begin(&self, organization: &OrganizationLabel) {
        for outcome in Outcome::ALL.iter().filter(|outcome| outcome.is_final()) {
            let labels = DeliveryLabels { outcome: outcome.as_str(), organization: organization.clone() };
            drop(self.ended.get_or_create(&labels));
        }
        self.begin_attempts(Kind::Http, organization);
    }

    fn begin_attempts(&self, kind: Kind, organization: &OrganizationLabel) {
        let errors = FailureKind::ALL.iter().copied().filter(|error| kind.can_fail_by(*error)).map(FailureKind::as_str);
        for error in errors.chain([NO_ERROR]) {
            let labels = AttemptLabels { error, target_kind: kind.as_str(), organization: organization.clone() };
            drop(self.attempts.get_or_create(&labels));
        }
    }

    fn count_attempt(&self, error: Option<FailureKind>, kind: Kind, organization: OrganizationLabel) {
        let error = error.map_or(NO_ERROR, FailureKind::as_str);
        let labels = AttemptLabels { error, target_kind: kind.as_str(), organization };
        if let Some(counter) = self.attempts.get(&labels) {
            counter.inc();
        } else {
            self.begin_attempts(kind, &labels.organization);
            self.attempts.get_or_create(&labels).inc();
        }
    }
}

impl Metrics {
    /// A message was taken in.
    #[must_use]
    pub fn message_came(&self, from: Intake) -> InHand {
        let [events, due] = &self.deliveries().events;
        let [events_in_hand, due_in_hand] = &self.deliveries().in_hand;
        let (counter, in_hand) = match from {
            Intake::Events => (events, events_in_hand),
            Intake::Due => (due, due_in_hand),
        };
        counter.inc();
        in_hand.inc();
        InHand(in_hand.clone())
    }

    /// An attempt was made. What could not be sent at all was none.
    pub fn attempt_made(&self, subscription: &Subscription, answer: &Answer, latency: Duration, trace: &TraceContext) {
        let metrics = self.deliveries();
        let error = match answer {
            Answer::Unsendable { .. } => return,
            Answer::Taken | Answer::Response { status: 200..=299, .. } => None,
            Answer::Response { status: 410, .. } => Some(FailureKind::Gone),
            Answer::Response { .. } => Some(FailureKind::Status),
            Answer::Refused { kind, .. } | Answer::None { kind, .. } => Some(*kind),
        };
        let kind = kind_of(&subscription.target);
        metrics.count_attempt(error, kind, self.organization(Some(&subscription.organization)));
        if let Answer::Response { status, .. } = answer {
            let [ok, redirect, refused, failed] = &metrics.responses;
            let class = match status {
                ..=299 => ok,
                300..=399 => redirect,
                400..=499 => refused,
                500.. => failed,
            };
            class.inc();
        }
        let [http, amqp] = &metrics.durations;
        let durations = match kind {
            Kind::Http => http,
            Kind::Amqp => amqp,
        };
        observe(durations, latency, trace);
    }

    /// A delivery ended or an attempt of it failed, which is being told upstream; `age` is that of its event. One line for
    /// each, at a level that says whether someone should look.
    pub fn told(&self, result: &DeliveryResult, age: Duration, trace: &TraceContext) {
        line_of(result, trace);
        if result.outcome.is_final() {
            self.ended(result.outcome, Some(&result.organization));
        }
        if result.outcome == Outcome::Delivered {
            observe(&self.deliveries().latency, age, trace);
        }
    }

    /// A message cannot be processed.
    pub fn unreadable(
        &self,
        reason: InvalidReason,
        (field, detail): (&str, &str),
        organization: Option<&OrganizationId>,
        trace: &TraceContext,
    ) {
        tracing::warn!(
            target: "docrelay::flow",
            {
                error.type = %reason,
                error.field = field,
                error.message = detail,
                docrelay.organization = organization.map(tracing::field::display),
                trace_id = trace.trace_id(),
                span_id = SpanId::of(trace),
            },
            "A message cannot be processed; it is kept with the dead letters"
        );
        self.ended(Outcome::Invalid, organization);
    }

    /// A subscription was disabled because its target answered 410 to this delivery.
    pub fn gone(&self, subscription: &Subscription, delivery: DeliveryId, trace: &TraceContext) {
        tracing::warn!(
            target: "docrelay::flow",
            {
                docrelay.organization = %subscription.organization,
                docrelay.subscription = %subscription.id,
                docrelay.target = subscription.target.address(),
                docrelay.delivery = %delivery,
                trace_id = trace.trace_id(),
                span_id = SpanId::of(trace),
            },
            "Subscription disabled: its target answered 410 Gone"
        );
        self.deliveries().gone.inc();
    }

    /// A defect of ours ended a delivery.
    pub fn panicked(&self, delivery: DeliveryId, trace: &TraceContext) {
        tracing::error!(
            target: "docrelay::flow",
            { docrelay.delivery = %delivery, trace_id = trace.trace_id(), span_id = SpanId::of(trace) },
            "A delivery panicked: a defect of docrelay"
        );
    }

    /// A delivery was parked.
    pub fn parked(&self, reason: ParkedFor) {
        let [retry, limit, down, paused] = &self.deliveries().parked;
        let counter = match reason {
            ParkedFor::Retry => retry,
            ParkedFor::Limit => limit,
            ParkedFor::Down => down,
            ParkedFor::Paused => paused,
        };
        counter.inc();
    }

    /// A delivery found no place at its target: it stands in line, or is parked.
    pub fn no_place(&self) {
        self.deliveries().waits.inc();
    }

    /// A delivery left its lane's line, with a place or without one.
    pub fn stood_in_line(&self, time: Duration) {
        self.deliveries().line.observe(time.as_secs_f64());
    }

    /// A delivery came again that was settled before.
    pub fn known_already(&self) {
        self.deliveries().duplicates.inc();
    }

    fn ended(&self, outcome: Outcome, organization: Option<&OrganizationId>) {
        let labels = DeliveryLabels { outcome: outcome.as_str(), organization: self.organization(organization) };
        self.deliveries().ended.get_or_create(&labels).inc();
    }

    /// The label of an organization. When it is seen for the first time, what may become of its deliveries begins.
    pub(super) fn organization(&self, organization: Option<&OrganizationId>) -> OrganizationLabel {
        let (label, is_new) = self.organizations().label(organization);
        if is_new {
            self.deliveries().begin(&label);
        }
        label
    }
}

fn observe(histogram: &Traced, time: Duration, trace: &TraceContext) {
    let exemplar = TraceLabel::of(trace);
    let at = exemplar.as_ref().map(|_| now().into());
    histogram.observe(time.as_secs_f64(), exemplar, at);
}

fn line_of(result: &DeliveryResult, trace: &TraceContext) {
    macro_rules! line {
        ($level:ident, $message:literal) => {
            tracing::$level!(
                target: "docrelay::flow",
                {
                    docrelay.delivery = result.delivery.map(tracing::field::display),
                    docrelay.event.id = %result.event_id,
                    docrelay.event = result.event.map(tracing::field::display),
                    docrelay.organization = %result.organization,
                    docrelay.inbox = result.inbox.as_ref().map(tracing::field::display),
                    docrelay.document = result.document.as_ref().map(tracing::field::display),
                    docrelay.subscription = result.subscription.as_ref().map(tracing::field::display),
                    docrelay.outcome = %result.outcome,
                    docrelay.attempt = result.attempt,
                    docrelay.target = result.target,
                    http.response.status_code = result.status_code,
                    error.type = result.error,
                    error.message = result.error_text,
                    trace_id = trace.trace_id(),
                    span_id = SpanId::of(trace),
                },
                $message
            )
        };
    }
    match result.outcome {
        Outcome::Delivered => line!(debug, "Delivered"),
        Outcome::Unsubscribed => line!(debug, "Nobody is subscribed to an event"),
        Outcome::AttemptFailed => line!(info, "An attempt failed; the delivery waits for its next one"),
        Outcome::Deferred => line!(info, "The target is down; the delivery waits"),
        Outcome::Cancelled => line!(info, "Delivery cancelled"),
        Outcome::Exhausted | Outcome::Rejected | Outcome::Invalid => line!(warn, "Delivery failed for good"),
    }
}
