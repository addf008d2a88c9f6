//! Parked messages: events with what they owe. Only docrelay itself reads and writes them.

use bytes::Bytes;
use prost::Message as _;

use super::{super::wire, DecodeError, PARKED_TYPE, error, packed, required, timestamp, wire_timestamp};
use crate::domain::{InvalidReason, Owed, ParkedEvent, TraceContext, Wait};

/// Reads a parked message: at least one event. One of an older version is a single event.
///
/// # Errors
/// Says what is wrong and in which field. Only a defect, or somebody else's message, gets here.
pub fn decode_parked(body: &Bytes) -> Result<Vec<ParkedEvent>, DecodeError> {
    let events = unpacked(body)?;
    if events.is_empty() {
        return Ok(vec![event(wire::ParkedEvent::decode(body.clone()).map_err(|cause| not_parked(&cause))?)?]);
    }
    events.into_iter().map(event).collect()
}

/// Takes a parked message apart, without a look at what its events say: a message for each. What holds only one, or is no
/// parked message, stays as it is.
#[must_use]
pub fn parked_apart(body: &Bytes) -> Vec<Bytes> {
    match unpacked(body) {
        Ok(events) if events.len() > 1 => events.into_iter().map(|event| write(vec![event]).into()).collect(),
        Ok(_) | Err(_) => vec![body.clone()],
    }
}

/// The events of a parked message; none where it is of an older version.
fn unpacked(body: &Bytes) -> Result<Vec<wire::ParkedEvent>, DecodeError> {
    let mut wire = wire::Parked::decode(body.clone()).map_err(|cause| not_parked(&cause))?;
    let cannot_be = |cause: String| error(InvalidReason::Undecodable, "zlib", format!("not {PARKED_TYPE}: {cause}"));
    let mut room = packed::UP_TO_BYTES;
    for zlib in wire.zlib {
        let unpacked = packed::unpack(&zlib, room).map_err(|cause| cannot_be(cause.to_string()))?;
        room -= unpacked.len();
        let unpacked = wire::Parked::decode(unpacked).map_err(|cause| cannot_be(cause.to_string()))?;
        if unpacked.events.is_empty() {
            return Err(cannot_be("it holds no event".to_owned()));
        }
        wire.events.extend(unpacked.events);
    }
    Ok(wire.events)
}

fn not_parked(cause: &prost::DecodeError) -> DecodeError {
    error(InvalidReason::Undecodable, "message", format!("not a {PARKED_TYPE}: {cause}"))
}

fn event(wire: wire::ParkedEvent) -> Result<ParkedEvent, DecodeError> {
    let first_seen = wire.first_seen.as_ref();
    let first_seen = first_seen.ok_or_else(|| error(InvalidReason::MissingField, "first_seen", "must be given"))?;
    if wire.owed.is_empty() {
        return Err(error(InvalidReason::MissingField, "owed", "must name at least one delivery"));
    }
    Ok(ParkedEvent {
        event: wire.event,
        first_seen: timestamp("first_seen", first_seen)?,
        fan_out: wire.fan_out,
        trace: TraceContext {
            traceparent: Some(wire.traceparent).filter(|text| !text.is_empty()),
            tracestate: Some(wire.tracestate).filter(|text| !text.is_empty()),
        },
        owed: wire.owed.iter().map(owed).collect::<Result<_, _>>()?,
    })
}

fn owed(wire: &wire::Owed) -> Result<Owed, DecodeError> {
    let wait = match wire.wait() {
        wire::Wait::Retry => Wait::Retry,
        wire::Wait::Limit | wire::Wait::Unspecified => Wait::Limit,
    };
    Ok(Owed {
        subscription: required("owed.subscription_id", &wire.subscription_id)?,
        attempts: wire.attempts,
        hop: wire.hop,
        round: wire.round,
        wait,
        units_left: wire.units_left,
        last_error: wire.last_error.parse().ok(),
        deferred_told: wire.deferred_told,
        // A trace is not worth a delivery.
        waiting_since: wire.waiting_since.as_ref().and_then(|since| timestamp("owed.waiting_since", since).ok()),
    })
}

/// Writes a parked message of events; compressed, unless that saves little or it is large.
#[must_use]
pub fn encode_parked(events: &[ParkedEvent]) -> Vec<u8> {
    let body = write(events.iter().map(wire_event).collect());
    match packed::pack(&body) {
        Some(zlib) => wire::Parked { zlib: vec![zlib.into()], ..wire::Parked::default() }.encode_to_vec(),
        None => body,
    }
}

/// How many bytes an event takes in a parked message that is not compressed.
#[must_use]
pub fn parked_bytes(parked: &ParkedEvent) -> usize {
    wire::Parked { events: vec![wire_event(parked)], ..wire::Parked::default() }.encoded_len()
}

fn write(events: Vec<wire::ParkedEvent>) -> Vec<u8> {
    wire::Parked { events, ..wire::Parked::default() }.encode_to_vec()
}

fn wire_event(parked: &ParkedEvent) -> wire::ParkedEvent {
    let owed = parked.owed.iter().map(|owed| wire::Owed {
        subscription_id: owed.subscription.as_str().to_owned(),
        attempts: owed.attempts,
        hop: owed.hop,
        round: owed.round,
        wait: match owed.wait {
            Wait::Retry => wire::Wait::Retry.into(),
            Wait::Limit => wire::Wait::Limit.into(),
        },
        units_left: owed.units_left,
        last_error: owed.last_error.map(|kind| kind.as_str().to_owned()).unwrap_or_default(),
        deferred_told: owed.deferred_told,
        waiting_since: owed.waiting_since.map(wire_timestamp),
    });
    wire::ParkedEvent {
        event: parked.event.clone(),
        first_seen: Some(wire_timestamp(parked.first_seen)),
        fan_out: parked.fan_out,
        traceparent: parked.trace.traceparent.clone().unwrap_or_default(),
        tracestate: parked.trace.tracestate.clone().unwrap_or_default(),
        owed: owed.collect(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::{super::arbitrary, *};

    proptest! {
        #[test]
        fn parked_messages_are_read_as_they_were_written(parked in vec(arbitrary::parked(), 1..9)) {
            let plain = write(parked.iter().map(wire_event).collect());
            prop_assert_eq!(plain.len(), parked.iter().map(parked_bytes).sum::<usize>());
            prop_assert_eq!(decode_parked(&plain.into()), Ok(parked.clone()));
            prop_assert_eq!(decode_parked(&encode_parked(&parked).into()), Ok(parked));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..400)) {
            drop(decode_parked(&bytes.into()));
        }
    }

    fn wire() -> wire::ParkedEvent {
        wire::ParkedEvent {
            event: Bytes::from_static(b"event"),
            first_seen: Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 0 }),
            fan_out: 1,
            owed: vec![wire::Owed { subscription_id: "erp".to_owned(), ..wire::Owed::default() }],
            ..wire::ParkedEvent::default()
        }
    }

    fn message(events: Vec<wire::ParkedEvent>) -> Bytes {
        write(events).into()
    }

    fn compressed(body: &[u8]) -> Bytes {
        let zlib = vec![packed::pack(body).unwrap().into()];
        wire::Parked { zlib, ..wire::Parked::default() }.encode_to_vec().into()
    }

    fn owing(subscription_id: &str) -> Vec<wire::Owed> {
        vec![wire::Owed { subscription_id: subscription_id.to_owned(), ..wire::Owed::default() }]
    }

    #[test]
    fn a_bad_parked_message_names_its_field() {
        let out_of_range = Some(prost_types::Timestamp { seconds: 0, nanos: -1 });
        let table = [
            (wire::ParkedEvent { first_seen: None, ..wire() }, InvalidReason::MissingField, "first_seen"),
            (wire::ParkedEvent { first_seen: out_of_range, ..wire() }, InvalidReason::Undecodable, "first_seen"),
            (wire::ParkedEvent { owed: Vec::new(), ..wire() }, InvalidReason::MissingField, "owed"),
            (wire::ParkedEvent { owed: owing(""), ..wire() }, InvalidReason::MissingField, "owed.subscription_id"),
            (
                wire::ParkedEvent { owed: owing(&"x".repeat(65)), ..wire() },
                InvalidReason::TooLong,
                "owed.subscription_id",
            ),
        ];
        for (wire, reason, field) in table {
            let error = decode_parked(&message(vec![self::wire(), wire])).unwrap_err();
            assert_eq!((error.reason, error.field.as_str()), (reason, field), "{error}");
        }
        let error = decode_parked(&message(Vec::new())).unwrap_err();
        assert_eq!((error.reason, error.field.as_str()), (InvalidReason::MissingField, "first_seen"), "{error}");
        assert_eq!(decode_parked(&Bytes::from_static(b"\xff")).unwrap_err().reason, InvalidReason::Undecodable);
    }

    #[test]
    fn what_an_older_version_parked_is_a_single_event() {
        // Written before events shared messages.
        let old = b"\x0a\x05event\x12\x06\x08\x80\xe2\xcf\xaa\x06\x18\x01\x32\x05\x0a\x03erp";
        let parked = decode_parked(&Bytes::from_static(old)).unwrap();
        assert_eq!(parked, decode_parked(&message(vec![wire()])).unwrap());
        assert_eq!(parked_apart(&Bytes::from_static(old)), [&old[..]]);
    }

    #[test]
    fn a_message_is_taken_apart_even_if_one_event_in_it_is_damaged() {
        let damaged = wire::ParkedEvent { first_seen: None, ..wire() };
        let parts = parked_apart(&message(vec![wire(), damaged.clone()]));
        assert_eq!(parts, [message(vec![wire()]), message(vec![damaged])]);
        assert_eq!(parts.iter().map(|part| decode_parked(part).is_ok()).collect::<Vec<_>>(), [true, false]);
        assert_eq!(parked_apart(&Bytes::from_static(b"\xff")), [&b"\xff"[..]]);
    }

    #[test]
    fn what_is_worth_it_is_compressed_and_read_and_taken_apart_as_if_it_were_not() {
        let event = wire::ParkedEvent { event: vec![7; 3000].into(), ..wire() };
        let parked = decode_parked(&message(vec![event.clone(), event])).unwrap();
        let plain = message(parked.iter().map(wire_event).collect());
        let body: Bytes = encode_parked(&parked).into();
        assert!(body.len() < 500, "{} bytes", body.len());
        assert!(decode_parked(&body) == Ok(parked));
        assert!(parked_apart(&body) == parked_apart(&plain));
    }

    #[test]
    fn messages_one_after_another_are_one_message_compressed_or_not() {
        let event = |byte: u8, bytes: usize| wire::ParkedEvent { event: vec![byte; bytes].into(), ..wire() };
        let parked = |event| decode_parked(&message(vec![event])).unwrap();
        let all = [parked(event(1, 9)), parked(event(2, 3000)), parked(event(3, 2000))];
        let body = all.iter().flat_map(|events| encode_parked(events)).collect::<Vec<_>>();
        assert!(body.len() < 1000, "{} bytes", body.len());
        assert!(decode_parked(&body.into()) == Ok(all.concat()));
    }

    #[test]
    fn what_is_compressed_and_is_no_parked_message_names_the_field() {
        // Field 127, which nobody knows, and no event.
        let nothing = [0xf8, 7, 0].repeat(300);
        let table = [
            compressed(&[0xff; 2000]),
            compressed(&nothing),
            wire::Parked { zlib: vec![Bytes::from_static(b"\x78")], ..wire::Parked::default() }.encode_to_vec().into(),
        ];
        for body in table {
            let error = decode_parked(&body).unwrap_err();
            assert_eq!((error.reason, error.field.as_str()), (InvalidReason::Undecodable, "zlib"), "{error}");
            assert_eq!(parked_apart(&body), [body]);
        }
    }

    #[test]
    fn several_streams_are_unpacked_up_to_64_kib_in_all() {
        let stream = compressed(&message(vec![wire::ParkedEvent { event: vec![7; 30_000].into(), ..wire() }]));
        assert_eq!(decode_parked(&[stream.clone(), stream.clone()].concat().into()).unwrap().len(), 2);
        let error = decode_parked(&[stream.clone(), stream.clone(), stream].concat().into()).unwrap_err();
        assert!(error.to_string().contains("more than 65536 bytes"), "{error}");
    }

    #[test]
    fn an_error_or_a_wait_that_a_newer_version_invented_does_not_lose_the_delivery() {
        let owed = wire::Owed { wait: 99, last_error: "solar_flare".to_owned(), ..owing("erp").remove(0) };
        let parked = decode_parked(&message(vec![wire::ParkedEvent { owed: vec![owed], ..wire() }])).unwrap();
        let owed = parked.first().and_then(|event| event.owed.first()).unwrap();
        assert_eq!((owed.wait, owed.last_error), (Wait::Limit, None));
    }
}
