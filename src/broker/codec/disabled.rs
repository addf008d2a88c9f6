//! Subscriptions that docrelay disabled by itself, as upstream is told of them.

use bytes::Bytes;
use prost::Message as _;

use super::{super::wire, DISABLED_TYPE, DecodeError, error, required, result::delivery_id, timestamp, wire_timestamp};
use crate::domain::{InvalidReason, SubscriptionDisabled};

/// Writes what upstream is told.
#[must_use]
pub fn encode_disabled(disabled: &SubscriptionDisabled) -> Vec<u8> {
    wire::SubscriptionDisabled {
        subscription_id: disabled.subscription.to_string(),
        organization: disabled.organization.to_string(),
        reason: disabled.reason.to_string(),
        disabled_at: Some(wire_timestamp(disabled.at)),
        delivery_id: disabled.cause.to_string(),
    }
    .encode_to_vec()
}

/// Reads it.
///
/// # Errors
/// Says what is wrong and in which field.
pub fn decode_disabled(body: &Bytes) -> Result<SubscriptionDisabled, DecodeError> {
    let wire = wire::SubscriptionDisabled::decode(body.clone())
        .map_err(|cause| error(InvalidReason::Undecodable, "message", format!("not a {DISABLED_TYPE}: {cause}")))?;
    let missing = |field| error(InvalidReason::MissingField, field, "must not be empty");
    let reason = wire.reason.parse();
    Ok(SubscriptionDisabled {
        subscription: required("subscription_id", &wire.subscription_id)?,
        organization: required("organization", &wire.organization)?,
        reason: reason
            .map_err(|_| error(InvalidReason::Undecodable, "reason", "expected one that this version knows"))?,
        at: timestamp("disabled_at", &wire.disabled_at.ok_or_else(|| missing("disabled_at"))?)?,
        cause: delivery_id(&wire.delivery_id)?.ok_or_else(|| missing("delivery_id"))?,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::arbitrary, *};

    proptest! {
        #[test]
        fn what_is_told_is_read_as_it_was_written(disabled in arbitrary::disabled()) {
            prop_assert_eq!(decode_disabled(&encode_disabled(&disabled).into()), Ok(disabled));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            drop(decode_disabled(&bytes.into()));
        }
    }

    #[test]
    fn what_is_wrong_names_its_field() {
        let wire = wire::SubscriptionDisabled {
            subscription_id: "erp".to_owned(),
            organization: "acme".to_owned(),
            reason: "gone".to_owned(),
            disabled_at: Some(prost_types::Timestamp::default()),
            delivery_id: "27e6b4b2-122a-51e0-a12f-bd8a1b61392a".to_owned(),
        };
        let table = [
            (wire::SubscriptionDisabled { subscription_id: String::new(), ..wire.clone() }, "subscription_id"),
            (wire::SubscriptionDisabled { organization: String::new(), ..wire.clone() }, "organization"),
            (wire::SubscriptionDisabled { reason: "bored".to_owned(), ..wire.clone() }, "reason"),
            (wire::SubscriptionDisabled { disabled_at: None, ..wire.clone() }, "disabled_at"),
            (wire::SubscriptionDisabled { delivery_id: String::new(), ..wire }, "delivery_id"),
        ];
        for (wire, field) in table {
            assert_eq!(decode_disabled(&wire.encode_to_vec().into()).unwrap_err().field, field);
        }
    }
}
