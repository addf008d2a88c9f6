//! What a subscriber's queue gets: the properties and headers of one attempt. Pure.

use bytes::Bytes;
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable},
};
use tokio::time::Instant;

use crate::{
    broker::{
        codec,
        outbox::{put, trace_headers},
        publisher::Outgoing,
    },
    domain::{AmqpTarget, DeliveryId, DocumentEvent, Payload, Subscription, Timestamp, TraceContext, Trial},
};

/// One attempt to be made.
#[derive(Debug)]
pub struct Message<'a> {
    /// What happened.
    pub event: &'a DocumentEvent,
    /// To whom it is told.
    pub subscription: &'a Subscription,
    /// The subscription's target.
    pub target: &'a AmqpTarget,
    /// `message_id` and `webhook-id`: the same on every attempt.
    pub delivery: DeliveryId,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// When the attempt begins: `webhook-timestamp`.
    pub at: Timestamp,
    /// The same by the clock that deadlines go by.
    pub began: Instant,
    /// The rendered payload.
    pub body: Bytes,
    /// The trace that the receiver is told: of this attempt, or upstream's where nothing is recorded.
    pub trace: &'a TraceContext,
    /// A test send, which says so.
    pub trial: Option<&'a Trial>,
}

impl Message<'_> {
    /// The message as it is published.
    pub(super) fn outgoing(&self) -> Outgoing {
        let payload = self.subscription.payload;
        let properties = BasicProperties::default()
            .with_delivery_mode(2)
            .with_content_type(payload.content_type().into())
            .with_type(kind(payload, self.event).into())
            .with_message_id(self.id().into())
            .with_headers(self.headers());
        Outgoing {
            exchange: self.target.exchange.as_str().into(),
            routing_key: self.target.routing_key.as_str().into(),
            properties,
            body: self.body.clone(),
        }
    }

    /// The names are those of a webhook's headers.
    fn headers(&self) -> FieldTable {
        let mut table = trace_headers(self.trace);
        put(&mut table, "webhook-id", &self.id());
        table.insert("webhook-timestamp".into(), AMQPValue::LongLongInt(self.at.to_unix().0));
        put(&mut table, "docrelay-event", self.event.name().as_str());
        table.insert("docrelay-attempt".into(), AMQPValue::LongLongInt(self.attempt.into()));
        if self.trial.is_some() {
            put(&mut table, "docrelay-test", "true");
        }
        table
    }

    fn id(&self) -> String {
        self.trial.map_or_else(|| self.delivery.to_string(), |_| Trial::id_of(self.delivery))
    }
}

/// The message's `type`: what the bytes are, or which event the JSON is about.
fn kind(payload: Payload, event: &DocumentEvent) -> &'static str {
    match payload {
        Payload::Protobuf => codec::EVENT_TYPE,
        Payload::ContractFit | Payload::CloudEvents | Payload::Idexa | Payload::SmartDocumentorFile => {
            event.name().as_str()
        }
    }
}
