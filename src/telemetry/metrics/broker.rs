//! What happens between docrelay and its brokers, and with logins.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::{counter::Counter, family::Family, gauge::Gauge};

use super::{
    Metrics,
    book::Book,
    labels::{One, QueueLabel},
};
use crate::{
    domain::{InvalidReason, OrganizationId, TraceContext},
    telemetry::fields::SpanId,
};

/// A connection to a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// The one that publishes.
    Publishing,
    /// The one that consumes.
    Consuming,
    /// The one to the exchanges of subscribers.
    Targets,
}

impl Link {
    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Publishing => "publishing",
            Self::Consuming => "consuming",
            Self::Targets => "targets",
        }
    }
}

/// The metrics of this file.
#[derive(Debug)]
pub(super) struct Broker {
    connections: [Counter; 3],
    connected: Family<One, Gauge>,
    confirms: [Counter; 2],
    outstanding: Gauge,
    results: Counter,
    results_refused: Counter,
    dead_letters: [Counter; InvalidReason::ALL.len()],
    queues: Family<QueueLabel, Gauge<u64, AtomicU64>>,
    logins: [Counter; 2],
}

impl Broker {
    pub(super) fn new(book: &mut Book) -> Self {
        let mut reasons = [""; InvalidReason::ALL.len()];
        for (name, reason) in reasons.iter_mut().zip(InvalidReason::ALL) {
            *name = reason.as_str();
        }
        Self {
            connections: book.counters(
                "docrelay_broker_connections",
                &["connection"],
                "Connections to a broker that were made",
                [Link::Publishing, Link::Consuming, Link::Targets].map(Link::as_str),
            ),
            connected: book.enter(
                ("docrelay_broker_connected", None, &["connection"]),
                "Whether a connection to a broker is there; targets is absent while nobody needs it",
                Family::default(),
            ),
            confirms: book.counters(
                "docrelay_confirms",
                &["verdict"],
                "What the broker answered to messages that were published",
                ["ack", "nack"],
            ),
            outstanding: book.enter(
                ("docrelay_confirms_outstanding", None, &[]),
                "Messages that were published and are not answered by the broker yet",
                Gauge::default(),
            ),
            results: book.counter("docrelay_results", "Results that the broker has confirmed"),
            results_refused: book.counter(
                "docrelay_results_refused",
                "Results that the broker went on refusing, and that were kept with the dead letters",
            ),
            dead_letters: book.counters(
                "docrelay_dead_letters",
                &["reason"],
                "Messages that docrelay set aside; what the broker sets aside by itself is not among them",
                reasons,
            ),
            queues: book.enter(
                ("docrelay_queue_messages", None, &["queue"]),
                "Messages that are ready in a queue, as the broker said within the last seconds; absent while it says nothing",
                Family::default(),
            ),
            logins: book.counters(
                "docrelay_logins",
                &["outcome"],
                "Logins that were made before attempts",
                ["ok", "failed"],
            ),
        }
    }
}

impl Metrics {
    /// A connection was made.
    pub fn connected(&self, link: Link) {
        let [publishing, consuming, targets] = &self.broker().connections;
        let counter = match link {
            Link::Publishing => publishing,
            Link::Consuming => consuming,
            Link::Targets => targets,
        };
        counter.inc();
        self.is_connected(link, Some(true));
        tracing::info!(
            target: "docrelay::broker",
            { broker.connection = link.as_str() },
            "Connected to the broker"
        );
    }

    /// A connection is not there, or none is needed (`None`).
    pub fn is_connected(&self, link: Link, connected: Option<bool>) {
        let (family, label) = (&self.broker().connected, One("connection", link.as_str()));
        match connected {
            Some(connected) => drop(family.get_or_create(&label).set(i64::from(connected))),
            None => drop(family.remove(&label)),
        }
    }

    /// A message was published, and the broker has not answered yet.
    pub fn outstanding(&self) {
        self.broker().outstanding.inc();
    }

    /// So many messages are not waited for any more: their connection was lost.
    pub fn unanswered(&self, messages: usize) {
        self.broker().outstanding.dec_by(i64::try_from(messages).unwrap_or(i64::MAX));
    }

    /// The broker answered to a message.
    pub fn answered(&self, taken: bool) {
        let broker = self.broker();
        broker.outstanding.dec();
        let [ack, nack] = &broker.confirms;
        if taken { ack } else { nack }.inc();
    }

    /// A result was confirmed.
    pub fn result_confirmed(&self) {
        self.broker().results.inc();
    }

    /// The broker went on refusing a result.
    pub fn result_refused(&self, routing_key: &str, organization: &OrganizationId, trace: &TraceContext) {
        self.broker().results_refused.inc();
        tracing::warn!(
            target: "docrelay::broker",
            {
                messaging.rabbitmq.destination.routing_key = routing_key,
                docrelay.organization = %organization,
                trace_id = trace.trace_id(),
                span_id = SpanId::of(trace),
            },
            "A result is refused; it is kept with the dead letters"
        );
    }

    /// A message was set aside.
    pub fn dead_letter(&self, reason: InvalidReason) {
        if let Some(counter) = self.broker().dead_letters.get(reason as usize) {
            counter.inc();
        }
    }

    /// How many messages are ready in a queue; `None` when that is not known any more.
    pub fn queue_holds(&self, queue: &str, messages: Option<u32>) {
        let (family, label) = (&self.broker().queues, QueueLabel { queue: queue.to_owned() });
        match messages {
            Some(messages) => drop(family.get_or_create(&label).set(u64::from(messages))),
            None => drop(family.remove(&label)),
        }
    }

    /// A login was made.
    pub fn logged_in(&self, succeeded: bool) {
        let [ok, failed] = &self.broker().logins;
        if succeeded { ok } else { failed }.inc();
    }
}
