//! One dead letter: why it is there, what it holds, and where it belongs if it is published again. Pure.

use std::collections::BTreeSet;

use bytes::Bytes;
use lapin::{
    BasicProperties,
    message::Delivery,
    types::{AMQPValue, FieldTable},
};

use super::super::{
    codec::{self, Checked},
    outbox::{self, Origin, headers},
    topology::Names,
};
use crate::domain::{DeliveryResult, DocumentEvent, InvalidReason, OrganizationId, ParkedEvent};

/// A message that was set aside, by docrelay or by the broker.
#[derive(Debug, Clone)]
pub struct Letter {
    /// Why: an `InvalidReason`'s name, or what a newer version wrote.
    pub reason: String,
    /// Which field or property, where docrelay said so.
    pub field: String,
    /// In words, where docrelay said so.
    pub detail: String,
    /// When it was set aside, where docrelay said so.
    pub at: String,
    /// Whose it is, as far as anybody can read, each once and in order: a parked message may hold what several are owed.
    pub organizations: Vec<String>,
    /// Where it belongs; `None` when nothing says so.
    pub origin: Option<Origin>,
    /// The `message_id` property.
    pub message_id: Option<String>,
    /// The `type` property.
    pub kind: Option<String>,
    /// The `content_type` property.
    pub content_type: Option<String>,
    /// All headers, for people.
    pub headers: Vec<(String, String)>,
    /// The bytes as they came.
    pub body: Bytes,
    pub(super) tag: u64,
    pub(super) properties: BasicProperties,
}

/// What a dead letter holds, as far as it can be read.
#[derive(Debug, Clone)]
pub enum Content {
    /// A document event.
    Event(DocumentEvent),
    /// A parked message: what waits in it, each with its event if that can be read.
    Parked(Vec<(ParkedEvent, Option<DocumentEvent>)>),
    /// A result.
    Result(Box<DeliveryResult>),
    /// None of them.
    Unreadable,
}

impl Letter {
    pub(super) fn read(delivery: Delivery, names: &Names) -> Self {
        let table = delivery.properties.headers().clone().unwrap_or_default();
        let header = |name: &str| table.inner().get(name).map(shown);
        let property = |value: &Option<lapin::types::ShortString>| value.as_ref().map(ToString::to_string);
        let kind = property(delivery.properties.kind());
        let mut letter = Self {
            reason: reason(&table),
            field: header(headers::FIELD).unwrap_or_default(),
            detail: header(headers::DETAIL).unwrap_or_default(),
            at: header(headers::AT).unwrap_or_default(),
            organizations: header(headers::ORGANIZATION).into_iter().collect(),
            origin: origin(&table, kind.as_deref(), names),
            message_id: property(delivery.properties.message_id()),
            content_type: property(delivery.properties.content_type()),
            kind,
            headers: table.inner().iter().map(|(name, value)| (name.to_string(), shown(value))).collect(),
            body: Bytes::from(delivery.data),
            tag: delivery.delivery_tag,
            properties: delivery.properties,
        };
        if letter.organizations.is_empty() {
            letter.organizations = letter.content().organizations();
        }
        letter
    }

    /// What it holds.
    #[must_use]
    pub fn content(&self) -> Content {
        let event = |body: &Bytes| codec::decode_event(body, u64::MAX, Checked::Before).ok();
        let content = match self.origin {
            Some(Origin::Due) => codec::decode_parked(&self.body).ok().map(|parked| {
                let opened = |parked: ParkedEvent| (event(&parked.event), parked);
                Content::Parked(parked.into_iter().map(opened).map(|(event, parked)| (parked, event)).collect())
            }),
            Some(Origin::Results) => {
                codec::decode_result(&self.body).ok().map(|result| Content::Result(Box::new(result)))
            }
            Some(Origin::Events) | None => event(&self.body).map(Content::Event),
        };
        content.unwrap_or(Content::Unreadable)
    }

    /// The routing key that a result had.
    pub(super) fn result_key(&self) -> Option<String> {
        let headers = self.properties.headers().as_ref();
        let kept = headers.and_then(|table| table.inner().get(headers::ROUTING_KEY)).map(shown);
        kept.or_else(|| match self.content() {
            Content::Result(result) => Some(outbox::routing_key(&result)),
            Content::Event(_) | Content::Parked(..) | Content::Unreadable => None,
        })
    }

    /// The properties to publish it with again: without what docrelay and the broker wrote onto it, and without what
    /// only the first publisher may say (user id, expiration).
    pub(super) fn properties_again(&self) -> BasicProperties {
        let before = &self.properties;
        let mut after = BasicProperties::default().with_delivery_mode(2);
        if let Some(headers) = before.headers() {
            after = after.with_headers(stripped(headers));
        }
        if let Some(text) = before.content_type() {
            after = after.with_content_type(text.clone());
        }
        if let Some(text) = before.kind() {
            after = after.with_type(text.clone());
        }
        if let Some(text) = before.message_id() {
            after = after.with_message_id(text.clone());
        }
        if let Some(text) = before.correlation_id() {
            after = after.with_correlation_id(text.clone());
        }
        if let Some(text) = before.app_id() {
            after = after.with_app_id(text.clone());
        }
        if let Some(seconds) = before.timestamp() {
            after = after.with_timestamp(*seconds);
        }
        after
    }
}

impl Content {
    /// Whether it holds several events, and cannot be read in full: nobody knows whose the others are.
    #[must_use]
    pub fn holds_some_unreadable(&self) -> bool {
        matches!(self, Self::Parked(parked) if parked.len() > 1 && parked.iter().any(|(_, event)| event.is_none()))
    }

    /// Whose it is, as far as it can be read, each once and in order.
    #[must_use]
    pub fn organizations(&self) -> Vec<String> {
        let of_all: BTreeSet<&OrganizationId> = match self {
            Self::Event(event) => [&event.organization].into(),
            Self::Parked(parked) => {
                parked.iter().filter_map(|(_, event)| Some(&event.as_ref()?.organization)).collect()
            }
            Self::Result(result) => [&result.organization].into(),
            Self::Unreadable => BTreeSet::new(),
        };
        of_all.into_iter().map(ToString::to_string).collect()
    }
}

/// docrelay writes `x-death` onto nothing: where it is, the broker put the message here.
///
/// `x-first-death-reason` alone does not tell: a message that waited in a delay queue died there first (`expired`), so
/// every entry is looked at.
fn reason(table: &FieldTable) -> String {
    let returned = deaths(table).any(|death| text_of(death, "reason").as_deref() == Some("delivery_limit"));
    if returned {
        return InvalidReason::DeliveryLimit.to_string();
    }
    let said = table.inner().get(headers::REASON).map(shown);
    said.unwrap_or_else(|| InvalidReason::Unrouted.to_string())
}

fn origin(table: &FieldTable, kind: Option<&str>, names: &Names) -> Option<Origin> {
    let all = [Origin::Events, Origin::Due, Origin::Results];
    let said = table.inner().get(headers::ORIGIN).map(shown);
    if let Some(origin) = said.and_then(|said| all.into_iter().find(|origin| origin.as_str() == said)) {
        return Some(origin);
    }
    // The queue that gave it up knows better than a property that its producer wrote.
    let limit = deaths(table).find(|death| text_of(death, "reason").as_deref() == Some("delivery_limit"));
    match limit.and_then(|death| text_of(death, "queue")) {
        Some(queue) if queue == names.events_queue => return Some(Origin::Events),
        Some(queue) if queue == names.due_queue => return Some(Origin::Due),
        Some(_) | None => {}
    }
    match kind {
        Some(codec::EVENT_TYPE) => Some(Origin::Events),
        Some(codec::PARKED_TYPE) => Some(Origin::Due),
        Some(codec::RESULT_TYPE) => Some(Origin::Results),
        Some(_) | None => None,
    }
}

fn deaths(table: &FieldTable) -> impl Iterator<Item = &FieldTable> {
    let entries = match table.inner().get("x-death") {
        Some(AMQPValue::FieldArray(entries)) => entries.as_slice(),
        Some(_) | None => &[],
    };
    entries.iter().filter_map(|entry| match entry {
        AMQPValue::FieldTable(death) => Some(death),
        _ => None,
    })
}

fn text_of(table: &FieldTable, name: &str) -> Option<String> {
    table.inner().get(name).map(shown)
}

fn stripped(table: &FieldTable) -> FieldTable {
    let mut kept = FieldTable::default();
    for (name, value) in table.inner() {
        let lower = name.as_str().to_ascii_lowercase();
        let written_by_the_way = matches!(lower.as_str(), "x-death" | "x-delivery-count" | "cc" | "bcc")
            || ["x-first-death-", "x-last-death-", "docrelay-"].iter().any(|prefix| lower.starts_with(prefix));
        if !written_by_the_way {
            kept.insert(name.clone(), value.clone());
        }
    }
    kept
}

/// A header's value, for people.
fn shown(value: &AMQPValue) -> String {
    match value {
        AMQPValue::LongString(text) => text.to_string(),
        AMQPValue::ShortString(text) => text.to_string(),
        AMQPValue::Boolean(value) => value.to_string(),
        AMQPValue::ShortShortInt(value) => value.to_string(),
        AMQPValue::ShortShortUInt(value) => value.to_string(),
        AMQPValue::ShortInt(value) => value.to_string(),
        AMQPValue::ShortUInt(value) => value.to_string(),
        AMQPValue::LongInt(value) => value.to_string(),
        AMQPValue::LongUInt(value) => value.to_string(),
        AMQPValue::LongLongInt(value) => value.to_string(),
        AMQPValue::Float(value) => value.to_string(),
        AMQPValue::Double(value) => value.to_string(),
        AMQPValue::Timestamp(seconds) => seconds.to_string(),
        AMQPValue::FieldArray(values) => {
            let values: Vec<_> = values.as_slice().iter().map(shown).collect();
            format!("[{}]", values.join(", "))
        }
        AMQPValue::FieldTable(table) => {
            let values: Vec<_> = table.inner().iter().map(|(name, value)| format!("{name}={}", shown(value))).collect();
            format!("{{{}}}", values.join(", "))
        }
        AMQPValue::DecimalValue(_) | AMQPValue::ByteArray(_) => format!("{value:?}"),
        AMQPValue::Void => String::new(),
    }
}
