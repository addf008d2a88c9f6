//! What the service publishes, each with its own rule for a broker that says no.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable, ShortString},
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::{
    Properties, codec,
    publisher::{Confirmed, Outgoing, PublishError, Publisher},
    topology::{Names, keys},
};
use crate::{
    backoff::Backoff,
    domain::{
        DeliveryResult, DocumentEvent, InboxId, InvalidReason, OrganizationId, SubscriptionDisabled, Timestamp,
        TraceContext,
    },
    policy::wait::Tier,
};

/// The broker closes a channel at 16 MiB; somewhat below, for the frame's other parts.
pub const MAX_MESSAGE_BYTES: usize = 16 * 1024 * 1024 - 64 * 1024;

/// The broker's limit for a routing key.
const MAX_KEY_BYTES: usize = 255;

/// After so long a result that is still refused is kept with the dead letters, and work goes on.
const RESULT_PATIENCE: Duration = Duration::from_secs(5);

/// The namespace of results' message ids. Never change it: consumers drop repeats by them.
const RESULT_NAMESPACE: Uuid = Uuid::from_u128(0x2f9a_47de_9a56_5b1e_8a3c_55d1_7c0e_b4f2);

/// Everything that may stand in one word of a routing key as it is.
const KEY_WORD: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_');

/// Names of the headers on a dead letter.
pub mod headers {
    /// Why: an `InvalidReason`.
    pub const REASON: &str = "docrelay-reason";
    /// Which field or property.
    pub const FIELD: &str = "docrelay-field";
    /// In words.
    pub const DETAIL: &str = "docrelay-detail";
    /// Whose it is, if that could be read.
    pub const ORGANIZATION: &str = "docrelay-organization";
    /// When it was set aside.
    pub const AT: &str = "docrelay-at";
    /// Where it belongs if it is published again: `events`, `due` or `results`.
    pub const ORIGIN: &str = "docrelay-origin";
    /// The routing key it had (results only).
    pub const ROUTING_KEY: &str = "docrelay-routing-key";
}

/// Where a dead letter belongs if it is published again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The intake.
    Events,
    /// The parked messages whose wait is over.
    Due,
    /// The results exchange.
    Results,
}

impl Origin {
    /// The name in the header.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Due => "due",
            Self::Results => "results",
        }
    }
}

/// A message that is set aside, by its original bytes.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    /// The bytes as they came; of a parked message of several events, one of them as a message of its own.
    pub body: Bytes,
    /// The properties as they came.
    pub properties: Properties,
    /// Why.
    pub reason: InvalidReason,
    /// Which field.
    pub field: String,
    /// In words.
    pub detail: String,
    /// Whose it is, if that could be read.
    pub organization: Option<OrganizationId>,
    /// Where it belongs.
    pub origin: Origin,
    /// When.
    pub at: Timestamp,
}

/// Why something could not be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OutboxError {
    /// It cannot be published, now or later.
    #[error("the message is larger than the broker takes")]
    TooLarge,
    /// The service stops.
    #[error("publishing has stopped")]
    Closed,
}

/// Publishes parked messages, results and dead letters. Cheap to clone.
#[derive(Debug, Clone)]
pub struct BrokerOutbox {
    publisher: Publisher,
    names: Arc<Names>,
}

impl BrokerOutbox {
    /// An outbox that publishes to these names.
    #[must_use]
    pub fn new(publisher: Publisher, names: Names) -> Self {
        Self { publisher, names: Arc::new(names) }
    }

    /// Parks a message in a delay queue: what [`codec::encode_parked`] wrote, and the trace it belongs to, if it is one. A
    /// broker that says no is asked again, for as long as it takes.
    ///
    /// # Errors
    /// When it is too large for any broker, or the service stops.
    pub async fn park(&self, tier: Tier, body: Bytes, trace: &TraceContext) -> Result<Confirmed, OutboxError> {
        let properties = properties(codec::PARKED_TYPE, trace);
        if body.len() > MAX_MESSAGE_BYTES {
            return Err(OutboxError::TooLarge);
        }
        self.insist(self.to_park_exchange(&self.names.delay_key(tier), properties, body)).await
    }

    /// Publishes a result. One that is refused for five seconds is kept with the dead letters instead.
    ///
    /// # Errors
    /// When the service stops.
    pub async fn result(
        &self,
        result: &DeliveryResult,
        trace: &TraceContext,
        now: Timestamp,
    ) -> Result<Confirmed, OutboxError> {
        let properties = properties(codec::RESULT_TYPE, trace).with_message_id(message_id(result).to_string().into());
        let outgoing = self.to_results_exchange(&routing_key(result), properties, codec::encode_result(result));
        self.tell(outgoing, (&result.organization, trace), now).await
    }

    /// Publishes that a subscription was disabled by an attempt, among the results and by the same rule.
    ///
    /// # Errors
    /// When the service stops.
    pub async fn subscription_disabled(
        &self,
        disabled: &SubscriptionDisabled,
        made: Made,
        trace: &TraceContext,
    ) -> Result<Confirmed, OutboxError> {
        let id = disabled_message_id(disabled, made).to_string();
        let properties = properties(codec::DISABLED_TYPE, trace).with_message_id(id.into());
        let key = disabled_routing_key(&disabled.organization);
        let outgoing = self.to_results_exchange(&key, properties, codec::encode_disabled(disabled));
        self.tell(outgoing, (&disabled.organization, trace), disabled.at).await
    }

    async fn tell(
        &self,
        outgoing: Arc<Outgoing>,
        (organization, trace): (&OrganizationId, &TraceContext),
        now: Timestamp,
    ) -> Result<Confirmed, OutboxError> {
        let since = Instant::now();
        let mut backoff = Backoff::new();
        loop {
            match self.publisher.publish(Arc::clone(&outgoing)).await {
                Ok(confirmed) => {
                    self.publisher.metrics().result_confirmed();
                    return Ok(confirmed);
                }
                Err(PublishError::Closed) => return Err(OutboxError::Closed),
                Err(PublishError::Refused { .. }) if since.elapsed() < RESULT_PATIENCE => {
                    sleep(backoff.next_wait(fastrand::f64())).await;
                }
                Err(PublishError::Refused { .. }) => {
                    return Box::pin(self.keep_refused(&outgoing, (organization, trace), now)).await;
                }
            }
        }
    }

    async fn keep_refused(
        &self,
        refused: &Outgoing,
        (organization, trace): (&OrganizationId, &TraceContext),
        now: Timestamp,
    ) -> Result<Confirmed, OutboxError> {
        let key = refused.routing_key.as_str();
        self.publisher.metrics().result_refused(key, organization, trace);
        let mut table = refused.properties.headers().clone().unwrap_or_default();
        put(&mut table, headers::REASON, InvalidReason::ResultRefused.as_str());
        put(
            &mut table,
            headers::DETAIL,
            "the broker went on refusing this result (a full queue bound with reject-publish?)",
        );
        put(&mut table, headers::ORGANIZATION, organization.as_str());
        put(&mut table, headers::AT, &now.to_rfc3339());
        put(&mut table, headers::ORIGIN, Origin::Results.as_str());
        put(&mut table, headers::ROUTING_KEY, key);
        let properties = refused.properties.clone().with_headers(table);
        let kept = self.insist(self.to_park_exchange(keys::DEAD, properties, refused.body.clone())).await?;
        self.publisher.metrics().dead_letter(InvalidReason::ResultRefused);
        Ok(kept)
    }

    /// Sets a message aside. A broker that says no is asked again, for as long as it takes. Its size is not checked: the
    /// broker took these bytes once.
    ///
    /// # Errors
    /// When the service stops.
    pub async fn dead(&self, letter: DeadLetter) -> Result<Confirmed, OutboxError> {
        let mut table = trace_headers(&letter.properties.trace);
        put(&mut table, headers::REASON, letter.reason.as_str());
        put(&mut table, headers::FIELD, &letter.field);
        put(&mut table, headers::DETAIL, &letter.detail);
        put(&mut table, headers::AT, &letter.at.to_rfc3339());
        put(&mut table, headers::ORIGIN, letter.origin.as_str());
        if let Some(organization) = &letter.organization {
            put(&mut table, headers::ORGANIZATION, organization.as_str());
        }
        let mut properties = BasicProperties::default().with_delivery_mode(2).with_headers(table);
        if let Some(text) = short(letter.properties.content_type.as_deref()) {
            properties = properties.with_content_type(text);
        }
        if let Some(text) = short(letter.properties.kind.as_deref()) {
            properties = properties.with_type(text);
        }
        if let Some(text) = short(letter.properties.message_id.as_deref()) {
            properties = properties.with_message_id(text);
        }
        let kept = self.insist(self.to_park_exchange(keys::DEAD, properties, letter.body)).await?;
        self.publisher.metrics().dead_letter(letter.reason);
        Ok(kept)
    }

    fn to_park_exchange(&self, key: &str, properties: BasicProperties, body: Bytes) -> Arc<Outgoing> {
        Arc::new(Outgoing {
            exchange: self.names.park_exchange.as_str().into(),
            routing_key: key.into(),
            properties,
            body,
        })
    }

    fn to_results_exchange(&self, key: &str, properties: BasicProperties, body: Vec<u8>) -> Arc<Outgoing> {
        Arc::new(Outgoing {
            exchange: self.names.results_exchange.as_str().into(),
            routing_key: key.into(),
            properties,
            body: body.into(),
        })
    }

    /// Publishes until the broker takes it. Nothing is given back by requeueing meanwhile: the message that owes this
    /// stays in hand.
    async fn insist(&self, outgoing: Arc<Outgoing>) -> Result<Confirmed, OutboxError> {
        let (mut backoff, mut unknown) = (Backoff::new(), false);
        loop {
            match self.publisher.publish(Arc::clone(&outgoing)).await {
                Ok(confirmed) => return Ok(confirmed.or_repeated(unknown)),
                Err(PublishError::Closed) => return Err(OutboxError::Closed),
                Err(PublishError::Refused { repeated }) => {
                    unknown |= repeated;
                    tracing::warn!(
                        messaging.rabbitmq.destination.routing_key = %outgoing.routing_key,
                        "The broker refused a message; trying again"
                    );
                    sleep(backoff.next_wait(fastrand::f64())).await;
                }
            }
        }
    }
}

fn properties(kind: &str, trace: &TraceContext) -> BasicProperties {
    let properties = BasicProperties::default()
        .with_delivery_mode(2)
        .with_content_type(codec::CONTENT_TYPE.into())
        .with_type(kind.into());
    // An empty table would be one more thing for the broker to read.
    if *trace == TraceContext::default() { properties } else { properties.with_headers(trace_headers(trace)) }
}

pub(super) fn trace_headers(trace: &TraceContext) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in [("traceparent", &trace.traceparent), ("tracestate", &trace.tracestate)] {
        if let Some(value) = value {
            put(&mut table, name, value);
        }
    }
    table
}

pub(super) fn put(table: &mut FieldTable, name: &str, value: &str) {
    table.insert(name.into(), AMQPValue::LongString(value.into()));
}

fn short(text: Option<&str>) -> Option<ShortString> {
    text.filter(|text| text.len() <= MAX_KEY_BYTES).map(Into::into)
}

/// `<outcome>.<event>.<organization>.<inbox or _>`; the inbox becomes `_` when the key would be too long.
#[must_use]
pub fn routing_key(result: &DeliveryResult) -> String {
    let event = result.event.map_or("_", |event| event.as_str());
    key(&[result.outcome.as_str(), event], &result.organization, result.inbox.as_ref())
}

/// `subscription_disabled.<organization>`
#[must_use]
pub fn disabled_routing_key(organization: &OrganizationId) -> String {
    format!("subscription_disabled.{}", key_word(organization.as_str()))
}

/// `<event>.<organization>.<inbox or _>`, as upstream publishes; the inbox becomes `_` when the key would be too long.
#[must_use]
pub fn event_routing_key(event: &DocumentEvent) -> String {
    key(&[event.name().as_str()], &event.organization, event.inbox.as_ref())
}

/// One word of a routing key or of a binding.
#[must_use]
pub fn key_word(name: &str) -> String {
    utf8_percent_encode(name, KEY_WORD).to_string()
}

fn key(first: &[&str], organization: &OrganizationId, inbox: Option<&InboxId>) -> String {
    let mut key = String::with_capacity(MAX_KEY_BYTES);
    for word in first {
        key.push_str(word);
        key.push('.');
    }
    key.extend(utf8_percent_encode(organization.as_str(), KEY_WORD));
    key.push('.');
    let without_inbox = key.len();
    match inbox {
        Some(inbox) => key.extend(utf8_percent_encode(inbox.as_str(), KEY_WORD)),
        None => key.push('_'),
    }
    if key.len() > MAX_KEY_BYTES {
        key.truncate(without_inbox);
        key.push('_');
    }
    key
}

/// `UUIDv5` of delivery id (event id where there is none), recovery round, attempt and outcome.
#[must_use]
pub fn message_id(result: &DeliveryResult) -> Uuid {
    let rest = format_args!(" {} {} {}", result.round, result.attempt, result.outcome).to_string();
    let mut buffer = Uuid::encode_buffer();
    let subject = match &result.delivery {
        Some(delivery) => &*delivery.uuid().hyphenated().encode_lower(&mut buffer),
        None => result.event_id.as_str(),
    };
    let name = [subject, &rest].concat();
    Uuid::new_v5(&RESULT_NAMESPACE, name.as_bytes())
}

/// Which attempt of a delivery it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Made {
    /// The recovery round.
    pub round: u32,
    /// The attempt's number in it.
    pub attempt: u32,
}

/// `UUIDv5` of the subscription's id, that of the delivery that showed it, its recovery round and its attempt: the same if a
/// crash makes that attempt again.
#[must_use]
pub fn disabled_message_id(disabled: &SubscriptionDisabled, made: Made) -> Uuid {
    let SubscriptionDisabled { cause, subscription, .. } = disabled;
    let name = format!("subscription_disabled {cause} {subscription} {} {}", made.round, made.attempt);
    Uuid::new_v5(&RESULT_NAMESPACE, name.as_bytes())
}
