//! A message as it came: its bytes, what its properties say, and the duty to answer for it.

use bytes::Bytes;
use lapin::{message::Delivery, types::AMQPValue};

use super::receipt::Receipt;
use crate::domain::TraceContext;

/// A longer trace header is not carried along: headers must fit into one frame, and a trace is not worth a message.
const MAX_TRACE_BYTES: usize = 4096;

/// A message in hand.
#[derive(Debug)]
pub struct Inbound {
    /// Which queue it came from.
    pub source: Source,
    /// Its bytes.
    pub body: Bytes,
    /// What its properties say.
    pub properties: Properties,
    /// The duty to answer for it.
    pub receipt: Receipt,
}

/// Which queue a message came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The intake: document events.
    Events,
    /// Parked messages whose wait is over.
    Due,
}

/// What a message's AMQP properties say, as far as anybody asks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Properties {
    /// `content_type`
    pub content_type: Option<String>,
    /// `type`
    pub kind: Option<String>,
    /// `message_id`
    pub message_id: Option<String>,
    /// The headers `traceparent` and `tracestate`.
    pub trace: TraceContext,
}

impl Inbound {
    /// A message of a queue, with its receipt.
    pub(super) fn new(source: Source, delivery: Delivery, receipt: Receipt) -> Self {
        Self { source, properties: properties(&delivery), body: Bytes::from(delivery.data), receipt }
    }
}

fn properties(delivery: &Delivery) -> Properties {
    let text = |value: &Option<lapin::types::ShortString>| value.as_ref().map(ToString::to_string);
    let header = |name: &str| {
        let headers = delivery.properties.headers().as_ref()?;
        let value = match headers.inner().get(name)? {
            AMQPValue::LongString(text) => std::str::from_utf8(text.as_bytes()).ok().map(str::to_owned),
            AMQPValue::ShortString(text) => Some(text.to_string()),
            _ => None,
        };
        value.filter(|value| value.len() <= MAX_TRACE_BYTES)
    };
    Properties {
        content_type: text(delivery.properties.content_type()),
        kind: text(delivery.properties.kind()),
        message_id: text(delivery.properties.message_id()),
        trace: TraceContext { traceparent: header("traceparent"), tracestate: header("tracestate") },
    }
}
