//! Any event, parked message and result, for property tests.

use std::{str::FromStr, time::Duration};

use bytes::Bytes;
use proptest::{collection::vec, option, prelude::*, sample::select, strategy::Strategy};

use crate::domain::{
    BadId, DeliveryId, DeliveryResult, DocumentEvent, DocumentExport, EventName, FailureKind, FileFormat, Happening,
    InvalidReason, Outcome, Owed, ParkedEvent, Rendition, ReviewedBy, Section, SubscriptionDisabled, SubscriptionId,
    Timestamp, TraceContext, Wait,
};

fn id<T: FromStr<Err = BadId> + std::fmt::Debug>() -> impl Strategy<Value = T> {
    // At most 16 characters of at most 4 bytes each: 64 bytes.
    "\\PC{1,16}".prop_map(|text| text.parse().unwrap())
}

fn timestamp() -> impl Strategy<Value = Timestamp> {
    (-60_000_000_000i64..250_000_000_000, 0i32..1_000_000_000)
        .prop_map(|(seconds, nanos)| Timestamp::from_unix(seconds, nanos).unwrap())
}

fn document() -> impl Strategy<Value = Bytes> {
    r#"[ \n]{0,3}\{"[a-z]{0,5}": ?(1\.0e400|0\.10|"\PC{0,9}x"|\[\]|null)\}[ \t]{0,2}"#
        .prop_filter("valid", |text| serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok())
        .prop_map(Bytes::from)
}

fn export() -> impl Strategy<Value = DocumentExport> {
    let text = || option::of(any::<String>());
    let rendition = (
        option::of(select(&[FileFormat::Pdf, FileFormat::Jpeg, FileFormat::Png][..])),
        any::<String>(),
        any::<String>(),
    )
        .prop_map(|(format, content_type, path)| Rendition { format, content_type, path });
    let reviewed = select(&[ReviewedBy::Unspecified, ReviewedBy::User, ReviewedBy::Automatic][..]);
    let numbers = (any::<i64>(), option::of(any::<i64>()), any::<i64>(), any::<i64>());
    let people = (text(), text(), text(), text(), option::of(timestamp()));
    (reviewed, numbers, any::<String>(), people, vec(rendition, 0..4)).prop_map(
        |(reviewed_by, (task_id, task_number, total_pages, workspace_id), display_name, people, renditions)| {
            DocumentExport {
                reviewed_by,
                task_id,
                task_number,
                total_pages,
                workspace_id,
                display_name,
                last_checkout_by_user_name: people.0,
                last_checked_out_by: people.1,
                last_integrated_by: people.2,
                last_integrated_by_user_name: people.3,
                last_checked_out_until: people.4,
                renditions,
            }
        },
    )
}

fn happening() -> impl Strategy<Value = Happening> {
    let section = (any::<String>(), any::<String>(), any::<u32>(), any::<u32>())
        .prop_map(|(document_type, format, confidence, page)| Section { document_type, format, confidence, page });
    prop_oneof![
        any::<String>().prop_map(|text| Happening::Text { text }),
        vec(section, 0..4).prop_map(|sections| Happening::Split { sections }),
        document().prop_map(|document| Happening::Predict { document }),
        document().prop_map(|document| Happening::Evaluate { document }),
        Just(Happening::Delete),
        any::<String>().prop_map(|reason| Happening::Fail { reason }),
        document().prop_map(|document| Happening::Reject { document }),
        export().prop_map(|export| Happening::Export(Box::new(export))),
        document().prop_map(|document| Happening::Finish { document }),
    ]
}

pub(super) fn event() -> impl Strategy<Value = DocumentEvent> {
    let metadata = proptest::collection::btree_map(any::<String>(), any::<String>(), 0..4);
    let whose = (id(), option::of(id()), option::of(id()));
    (id(), option::of(timestamp()), whose, id(), metadata, happening()).prop_map(
        |(id, occurred_at, (organization, project, inbox), document, metadata, happening)| DocumentEvent {
            id,
            occurred_at,
            organization,
            project,
            inbox,
            document,
            metadata,
            happening,
        },
    )
}

fn owed() -> impl Strategy<Value = Owed> {
    let counts = (any::<u32>(), any::<u32>(), any::<u32>(), any::<u64>());
    let last_error = option::of(select(FailureKind::ALL));
    let waits = (select(&[Wait::Retry, Wait::Limit][..]), option::of(timestamp()));
    (id(), counts, waits, last_error, any::<bool>()).prop_map(
        |(subscription, (attempts, hop, round, units_left), (wait, waiting_since), last_error, deferred_told)| Owed {
            subscription,
            attempts,
            hop,
            round,
            wait,
            units_left,
            last_error,
            deferred_told,
            waiting_since,
        },
    )
}

pub(super) fn parked() -> impl Strategy<Value = ParkedEvent> {
    let trace = (option::of("[0-9a-f-]{1,55}"), option::of("[a-z=,]{1,20}"))
        .prop_map(|(traceparent, tracestate)| TraceContext { traceparent, tracestate });
    (vec(any::<u8>(), 0..200), timestamp(), any::<u32>(), trace, vec(owed(), 1..5)).prop_map(
        |(event, first_seen, fan_out, trace, owed)| ParkedEvent {
            event: event.into(),
            first_seen,
            fan_out,
            trace,
            owed,
        },
    )
}

pub(super) fn result() -> impl Strategy<Value = DeliveryResult> {
    let errors: Vec<&'static str> = FailureKind::ALL
        .iter()
        .map(|kind| kind.as_str())
        .chain(InvalidReason::ALL.iter().map(|reason| reason.as_str()))
        .collect();
    let delivery = option::of((id(), id::<SubscriptionId>()).prop_map(|(event, to)| DeliveryId::of(&event, &to)));
    let ids = (delivery, id(), option::of(id()), option::of(id()));
    let whose = (id(), option::of(id()), option::of(id()), option::of(select(&EventName::ALL[..])));
    let counts = (any::<u32>(), any::<u32>(), any::<u32>(), any::<u32>());
    let answer = (option::of(1u16..), vec(any::<u8>(), 0..50), any::<bool>(), option::of(select(errors)));
    let times = (0u64..1 << 50, option::of(timestamp()), option::of(timestamp()));
    let rest = (select(Outcome::ALL), any::<String>(), any::<String>());
    (ids, whose, counts, answer, times, rest).prop_map(|(ids, whose, counts, answer, times, rest)| DeliveryResult {
        delivery: ids.0,
        event_id: ids.1,
        document: ids.2,
        subscription: ids.3,
        organization: whose.0,
        project: whose.1,
        inbox: whose.2,
        event: whose.3,
        outcome: rest.0,
        attempt: counts.0,
        max_attempts: counts.1,
        fan_out: counts.2,
        round: counts.3,
        status_code: answer.0,
        response_body: answer.1.into(),
        response_body_cut: answer.2,
        error: answer.3,
        error_text: rest.1,
        latency: Duration::from_micros(times.0),
        attempted_at: times.1,
        next_attempt_at: times.2,
        target: rest.2,
    })
}

pub(super) fn disabled() -> impl Strategy<Value = SubscriptionDisabled> {
    let cause = (id(), id::<SubscriptionId>()).prop_map(|(event, to)| DeliveryId::of(&event, &to));
    (id(), id(), select(FailureKind::ALL), timestamp(), cause).prop_map(
        |(subscription, organization, reason, at, cause)| SubscriptionDisabled {
            subscription,
            organization,
            reason,
            at,
            cause,
        },
    )
}
