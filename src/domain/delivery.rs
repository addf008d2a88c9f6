//! A delivery: one event owed to one subscription.

use std::{fmt, str::FromStr};

use bytes::Bytes;
use uuid::Uuid;

use super::{EventId, FailureKind, SubscriptionId, Timestamp, TraceContext};

/// The namespace of delivery ids. Never change it: receivers know deliveries by it.
const NAMESPACE: Uuid = Uuid::from_u128(0x8f1d_6b0e_31c4_5b5c_9d61_6d0d_0c52_e1a7);

/// A delivery's id, `webhook-id` at the receiver: the same on every attempt, on every replica and after any crash.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeliveryId(Uuid);

impl DeliveryId {
    /// `UUIDv5` of event id and subscription id. The event id's length is part of it, so that no two pairs collide.
    #[must_use]
    pub fn of(event: &EventId, subscription: &SubscriptionId) -> Self {
        let mut name = Vec::with_capacity(event.as_str().len() + subscription.as_str().len() + 1);
        // An id has at most 64 bytes.
        name.push(u8::try_from(event.as_str().len()).unwrap_or(u8::MAX));
        name.extend_from_slice(event.as_str().as_bytes());
        name.extend_from_slice(subscription.as_str().as_bytes());
        Self(Uuid::new_v5(&NAMESPACE, &name))
    }

    /// The id as a UUID.
    #[must_use]
    pub fn uuid(self) -> Uuid {
        self.0
    }
}

impl FromStr for DeliveryId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        Uuid::try_parse(text).map(Self)
    }
}

impl fmt::Display for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeliveryId({})", self.0)
    }
}

/// What a message owes to one subscription, as it is parked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owed {
    /// To whom.
    pub subscription: SubscriptionId,
    /// How many attempts were made so far.
    pub attempts: u32,
    /// How often the delivery was parked; (delivery id, hop) names one stay in a process.
    pub hop: u32,
    /// How often it was recovered from the delivery record.
    pub round: u32,
    /// What it waits for, or waited for last.
    pub wait: Wait,
    /// Delay units that remain to be waited before it is due.
    pub units_left: u64,
    /// Why the last attempt failed.
    pub last_error: Option<FailureKind>,
    /// Whether `deferred` was told.
    pub deferred_told: bool,
    /// Since when it waits, over all hops of this wait; only where that is traced.
    pub waiting_since: Option<Timestamp>,
}

impl Owed {
    /// A delivery that has just begun.
    #[must_use]
    pub fn first(subscription: SubscriptionId) -> Self {
        Self {
            subscription,
            attempts: 0,
            hop: 0,
            round: 0,
            wait: Wait::Limit,
            units_left: 0,
            last_error: None,
            deferred_told: false,
            waiting_since: None,
        }
    }
}

/// What a parked delivery waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Wait {
    /// The schedule after a failed attempt: hops of any length.
    Retry,
    /// A place at its target: hops of at most 256 units, so that a raised limit is felt within minutes.
    Limit,
}

/// An event with the deliveries it still owes: what waits in the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParkedEvent {
    /// The event's bytes as they came.
    pub event: Bytes,
    /// When docrelay first saw the event.
    pub first_seen: Timestamp,
    /// How many deliveries the event made.
    pub fan_out: u32,
    /// The trace it belongs to: that of the span in which the event was taken in, or upstream's where nothing is recorded.
    pub trace: TraceContext,
    /// What is still owed. Never empty.
    pub owed: Vec<Owed>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delivery_id_never_changes_between_versions() {
        let id = DeliveryId::of(&"evt-1".parse().unwrap(), &"erp".parse().unwrap());
        assert_eq!(id.to_string(), "27e6b4b2-122a-51e0-a12f-bd8a1b61392a");
    }

    #[test]
    fn pairs_that_concatenate_alike_have_different_ids() {
        let one = DeliveryId::of(&"ab".parse().unwrap(), &"c".parse().unwrap());
        let other = DeliveryId::of(&"a".parse().unwrap(), &"bc".parse().unwrap());
        assert_ne!(one, other);
    }
}
