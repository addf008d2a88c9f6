//! Opens a message: what happened, and what is still owed. Pure.

use std::sync::OnceLock;

use bytes::Bytes;

use crate::{
    broker::{
        DeadLetter, Origin, Properties, Source,
        codec::{self, Checked, DecodeError, Known},
    },
    domain::{
        DeliveryId, DeliveryResult, DocumentEvent, FileLink, InvalidReason, Outcome, Owed, ParkedEvent, Payload,
        Timestamp, TraceContext, Trial,
    },
    flow::matching,
    payload::{self, RenderError},
    store::Snapshot,
};

/// About what one owed delivery takes in a parked message.
const OWED_BYTES: usize = 32;

/// An event in hand, with everything its deliveries share.
#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) event: DocumentEvent,
    /// The event's bytes as they came.
    pub(crate) raw: Bytes,
    pub(crate) first_seen: Timestamp,
    pub(crate) fan_out: u32,
    /// The trace that it came with: that of the span in which it was taken in, or upstream's where nothing is recorded.
    pub(crate) trace: TraceContext,
    /// The trace that began when an attempt failed, where nothing was recorded before.
    pub(crate) late: OnceLock<TraceContext>,
    /// A test send, and what it keeps.
    pub(crate) trial: Option<Trial>,
    shared: [OnceLock<Bytes>; Payload::ALL.len()],
}

impl Work {
    /// A sample event of a test send.
    pub(crate) fn of_trial(event: DocumentEvent, raw: Bytes, now: Timestamp) -> Self {
        Self {
            event,
            raw,
            first_seen: now,
            fan_out: 1,
            trace: TraceContext::default(),
            late: OnceLock::new(),
            trial: Some(Trial::default()),
            shared: Default::default(),
        }
    }

    /// The trace that everything belongs to that is done for it from now on.
    pub(crate) fn context(&self) -> &TraceContext {
        self.late.get().unwrap_or(&self.trace)
    }

    /// The same for a delivery, which may be left out of what is recorded: a trace that began late is that of others then.
    pub(crate) fn context_of(&self, is_left_out: bool) -> &TraceContext {
        if is_left_out { &self.trace } else { self.context() }
    }

    /// The body of a payload for one delivery, rendered once for all that share it.
    pub(crate) fn body(
        &self,
        payload: Payload,
        delivery: DeliveryId,
        link: Option<&FileLink>,
    ) -> Result<Bytes, RenderError> {
        let shared = self.shared.get(payload as usize).filter(|_| payload::is_shared(payload));
        if let Some(body) = shared.and_then(OnceLock::get) {
            return Ok(body.clone());
        }
        let body = payload::render(payload, &self.event, &self.raw, delivery, link)?;
        Ok(shared.map_or_else(|| body.clone(), |shared| shared.get_or_init(|| body.clone()).clone()))
    }
}

/// A message, opened.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) work: Work,
    pub(crate) owed: Vec<Owed>,
}

/// A message that cannot be processed: what to set aside, and what to tell upstream if enough could be read.
#[derive(Debug)]
pub(crate) struct Unreadable {
    pub(crate) letter: DeadLetter,
    pub(crate) result: Option<DeliveryResult>,
}

/// Opens an event: it owes a delivery to everyone it matches.
pub(crate) fn open_event(
    body: &Bytes,
    properties: &Properties,
    snapshot: &Snapshot,
    max_bytes: u64,
    now: Timestamp,
) -> Result<Opened, Box<Unreadable>> {
    event(body, properties, snapshot, max_bytes, now)
        .map_err(|error| Box::new(unreadable(Source::Events, body, properties, error, now)))
}

/// Opens a parked message: each of its events owes what is said with it. One that cannot be read is set aside without the
/// others.
pub(crate) fn open_parked(
    body: &Bytes,
    properties: &Properties,
    now: Timestamp,
) -> Vec<Result<Opened, Box<Unreadable>>> {
    let aside = |body: &Bytes, trace: &TraceContext, error| {
        let properties = Properties { trace: trace.clone(), ..properties.clone() };
        Box::new(unreadable(Source::Due, body, &properties, error, now))
    };
    let open = |body: &Bytes, parked: Vec<ParkedEvent>| {
        let is_alone = parked.len() == 1;
        let one = |parked: ParkedEvent| match codec::decode_event(&parked.event, u64::MAX, Checked::Before) {
            Ok(event) => Ok(waited(event, parked)),
            Err(error) => {
                let own =
                    if is_alone { body.clone() } else { codec::encode_parked(std::slice::from_ref(&parked)).into() };
                Err(aside(&own, &parked.trace, error))
            }
        };
        parked.into_iter().map(one).collect::<Vec<_>>()
    };
    if let Ok(parked) = codec::decode_parked(body) {
        return open(body, parked);
    }
    let parts = codec::parked_apart(body).into_iter();
    parts
        .flat_map(|part| match codec::decode_parked(&part) {
            Ok(parked) => open(&part, parked),
            Err(error) => vec![Err(aside(&part, &properties.trace, error))],
        })
        .collect()
}

/// About how much memory the events of a parked message take besides its body: none unless it was compressed.
pub(crate) fn unpacked_bytes<E>(body: &Bytes, events: &[Result<Opened, E>]) -> u64 {
    let bytes = |Opened { work, owed }: &Opened| work.raw.len() + owed.len() * OWED_BYTES;
    let bytes: usize = events.iter().flatten().map(bytes).sum();
    if bytes > body.len() { bytes as u64 } else { 0 }
}

fn event(
    body: &Bytes,
    properties: &Properties,
    snapshot: &Snapshot,
    max_bytes: u64,
    now: Timestamp,
) -> Result<Opened, DecodeError> {
    let event = codec::decode_event(body, max_bytes, Checked::NotYet)?;
    if let Err(mut error) =
        codec::check_properties(properties).and_then(|()| codec::check_message_id(properties, &event))
    {
        error.known = Some(Box::new(Known::of(&event)));
        return Err(error);
    }
    let owed: Vec<_> = matching::matches(&event, snapshot).into_iter().map(|it| Owed::first(it.id.clone())).collect();
    let work = Work {
        event,
        raw: body.clone(),
        first_seen: now,
        fan_out: u32::try_from(owed.len()).unwrap_or(u32::MAX),
        trace: properties.trace.clone(),
        late: OnceLock::new(),
        trial: None,
        shared: Default::default(),
    };
    Ok(Opened { work, owed })
}

fn waited(event: DocumentEvent, parked: ParkedEvent) -> Opened {
    let work = Work {
        event,
        raw: parked.event,
        first_seen: parked.first_seen,
        fan_out: parked.fan_out,
        trace: parked.trace,
        late: OnceLock::new(),
        trial: None,
        shared: Default::default(),
    };
    Opened { work, owed: parked.owed }
}

fn unreadable(source: Source, body: &Bytes, properties: &Properties, error: DecodeError, now: Timestamp) -> Unreadable {
    let organization = error.known.as_ref().map(|known| known.organization.clone());
    let result =
        error.known.as_ref().map(|known| invalid(known, error.reason, format!("{}: {}", error.field, error.detail)));
    Unreadable {
        result,
        letter: DeadLetter {
            body: body.clone(),
            properties: properties.clone(),
            reason: error.reason,
            field: error.field,
            detail: error.detail,
            organization,
            origin: match source {
                Source::Events => Origin::Events,
                Source::Due => Origin::Due,
            },
            at: now,
        },
    }
}

fn invalid(known: &Known, reason: InvalidReason, text: String) -> DeliveryResult {
    DeliveryResult {
        delivery: None,
        event_id: known.event.clone(),
        document: known.document.clone(),
        subscription: None,
        organization: known.organization.clone(),
        project: known.project.clone(),
        inbox: known.inbox.clone(),
        event: known.name,
        outcome: Outcome::Invalid,
        attempt: 0,
        max_attempts: 0,
        fan_out: 0,
        status_code: None,
        response_body: Bytes::new(),
        response_body_cut: false,
        error: Some(reason.as_str()),
        error_text: text,
        latency: std::time::Duration::ZERO,
        attempted_at: None,
        next_attempt_at: None,
        target: String::new(),
        round: 0,
    }
}
