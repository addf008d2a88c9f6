//! Publishes what a delivery owes: what is parked first, then the result. The proof of both is what an ack asks for.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::join_all;

use super::{
    Flow, Settled, age,
    bundle::Waits,
    carry::{Carried, Later},
    decide::Ending,
    intake::{Unreadable, Work},
    ports::Courier,
    register::{Stay, StayKey},
};
use crate::{
    broker::{
        Confirmed, DeadLetter, Origin, OutboxError, Properties, codec,
        outbox::{MAX_MESSAGE_BYTES, Made},
    },
    domain::{
        Answer, Attempt, DeliveryId, DeliveryResult, FailureKind, InvalidReason, Outcome, Owed, ParkedEvent,
        Subscription, SubscriptionDisabled, Timestamp, now,
    },
    policy::wait::{self, Hop, Tier},
};

/// A parked message may be this large besides its event: lists of owed deliveries beyond it are split.
const LIST_BYTES: usize = 3 * 1024 * 1024;

/// What one owed delivery takes in that list, at most: two ids' worth of text and a few numbers.
const OWED_BYTES: usize = 160;

/// What is to be told upstream about a delivery.
#[derive(Debug)]
pub(super) struct Told {
    owed: Owed,
    /// `None` when it is not known any more.
    subscription: Option<Arc<Subscription>>,
    outcome: Outcome,
    error: Option<(FailureKind, String)>,
    attempt: Option<Attempt>,
    next_attempt_at: Option<Timestamp>,
    /// It went well and is not recorded, whatever became of the event's other deliveries.
    pub(super) is_left_out: bool,
}

impl Told {
    /// The end of a delivery without another attempt.
    pub(super) fn without_attempt(owed: Owed, subscription: Option<Arc<Subscription>>, ending: Ending) -> Self {
        let Ending { outcome, error } = ending;
        Self { owed, subscription, outcome, error, attempt: None, next_attempt_at: None, is_left_out: false }
    }

    /// The end of a delivery by an attempt.
    pub(super) fn after_attempt(owed: Owed, subscription: Arc<Subscription>, ending: Ending, attempt: Attempt) -> Self {
        let Ending { outcome, error } = ending;
        Self {
            owed,
            subscription: Some(subscription),
            outcome,
            error,
            attempt: Some(attempt),
            next_attempt_at: None,
            is_left_out: false,
        }
    }

    /// An attempt that failed; another one is due.
    pub(super) fn failed_attempt(
        owed: Owed,
        subscription: Arc<Subscription>,
        error: (FailureKind, String),
        attempt: Attempt,
        next: Timestamp,
    ) -> Self {
        Self {
            owed,
            subscription: Some(subscription),
            outcome: Outcome::AttemptFailed,
            error: Some(error),
            attempt: Some(attempt),
            next_attempt_at: Some(next),
            is_left_out: false,
        }
    }

    /// A delivery waits for a target that is down, and spends no attempt.
    pub(super) fn deferred(owed: Owed, subscription: Arc<Subscription>, next: Timestamp) -> Self {
        let error = owed.last_error.map(|kind| (kind, "the target is down; no attempt is spent on it".to_owned()));
        Self {
            owed,
            subscription: Some(subscription),
            outcome: Outcome::Deferred,
            error,
            attempt: None,
            next_attempt_at: Some(next),
            is_left_out: false,
        }
    }

    /// Which attempt it is about.
    pub(super) fn made(&self) -> Made {
        Made { round: self.owed.round, attempt: self.owed.attempts }
    }
}

impl<C: Courier> Flow<C> {
    /// A delivery is over: tells upstream. The one place through which every final goes.
    pub(super) async fn conclude(&self, work: &Work, stay: Stay, mut told: Told) -> Carried {
        self.wait_ends(work, &mut told.owed);
        let context = work.context_of(told.is_left_out);
        let result = result(work, &stay, told);
        self.metrics.told(&result, age(work, now()), context);
        let Ok(proof) = self.publish_result(&result, context).await else { return Carried::LeftToBroker };
        let key = stay.key();
        stay.settle(&proof);
        Carried::Settled(key, proof)
    }

    /// A subscription is disabled because of an attempt of this delivery: tells upstream.
    pub(super) async fn tell_disabled(
        &self,
        work: &Work,
        (cause, made): (DeliveryId, Made),
        subscription: &Subscription,
        at: Timestamp,
    ) -> Result<Confirmed, OutboxError> {
        let disabled = SubscriptionDisabled {
            subscription: subscription.id.clone(),
            organization: subscription.organization.clone(),
            reason: FailureKind::Gone,
            at,
            cause,
        };
        self.publish_disabled(&disabled, made, work.context()).await
    }

    /// Parks deliveries together, then tells of each what is to be told. `None` when the service stops meanwhile.
    pub(super) async fn park(&self, work: &Work, tier: Tier, group: Vec<Later>) -> Option<Vec<(StayKey, Confirmed)>> {
        let parked = ParkedEvent {
            event: work.raw.clone(),
            first_seen: work.first_seen,
            fan_out: work.fan_out,
            trace: work.context().clone(),
            owed: group.iter().map(|later| later.owed.clone()).collect(),
        };
        let shares_with_any = shares_with_any(&group);
        let waits = Waits { tier, organization: &work.event.organization, shares_with_any };
        let proof = match self.bundles.park(waits, parked).await {
            Ok(proof) => proof,
            Err(OutboxError::Closed) => return None,
            Err(OutboxError::TooLarge) => return Box::pin(self.too_large_to_park(work, group)).await,
        };
        for later in &group {
            self.metrics.parked(later.reason);
        }
        if proof.may_be_repeated() {
            for Later { stay, owed, .. } in &group {
                let next = StayKey { hop: owed.hop, ..stay.key() };
                self.register.expect_twice(next, tier.length(self.settings.delay_unit));
            }
        }
        join_all(group.into_iter().map(|later| self.tell_parked(work, later, proof.clone())))
            .await
            .into_iter()
            .collect()
    }

    /// A delivery is parked: tells of its failed attempt, if it made one.
    async fn tell_parked(&self, work: &Work, later: Later, mut proof: Confirmed) -> Option<(StayKey, Confirmed)> {
        let Later { stay, told, .. } = later;
        if let Some(told) = told {
            let result = result(work, &stay, *told);
            self.metrics.told(&result, age(work, now()), work.context());
            proof = proof.and(&self.publish_result(&result, work.context()).await.ok()?);
        }
        let key = stay.key();
        stay.settle(&proof);
        Some((key, proof))
    }

    /// What no broker takes is kept by its original bytes, and each delivery ends.
    async fn too_large_to_park(&self, work: &Work, group: Vec<Later>) -> Option<Vec<(StayKey, Confirmed)>> {
        let letter = DeadLetter {
            body: work.raw.clone(),
            properties: Properties {
                content_type: Some(codec::CONTENT_TYPE.to_owned()),
                kind: Some(codec::EVENT_TYPE.to_owned()),
                message_id: Some(work.event.id.to_string()),
                trace: work.context().clone(),
            },
            reason: InvalidReason::TooLarge,
            field: "message".to_owned(),
            detail: "too large to wait in the broker".to_owned(),
            organization: Some(work.event.organization.clone()),
            origin: Origin::Events,
            at: now(),
        };
        let kept = self.outbox.dead(letter).await.ok()?;
        let mut settled = Vec::with_capacity(group.len());
        for later in group {
            let text = "too large to wait in the broker; the event is kept with the dead letters".to_owned();
            let ending = Ending { outcome: Outcome::Rejected, error: Some((FailureKind::TooLarge, text)) };
            let subscription = later.told.and_then(|told| told.subscription);
            match self.conclude(work, later.stay, Told::without_attempt(later.owed, subscription, ending)).await {
                Carried::Settled(key, proof) => settled.push((key, proof.and(&kept))),
                Carried::Later(_) | Carried::LeftToBroker => return None,
            }
        }
        Some(settled)
    }

    /// The event matched nobody: tells upstream once.
    pub(super) async fn tell_unsubscribed(&self, work: &Work) -> Option<Settled> {
        let result = about_event(work, Outcome::Unsubscribed);
        self.metrics.told(&result, age(work, now()), work.context());
        let proof = self.publish_result(&result, work.context()).await.ok()?;
        Some(Settled { proof, stays: Vec::new() })
    }

    /// A message that cannot be processed: keeps its bytes, then tells upstream if it can be said of what.
    pub(super) async fn set_aside(&self, unreadable: Unreadable) -> Option<Settled> {
        let Unreadable { letter, result } = unreadable;
        let trace = letter.properties.trace.clone();
        let (reason, what) = (letter.reason, (letter.field.as_str(), letter.detail.as_str()));
        self.metrics.unreadable(reason, what, letter.organization.as_ref(), &trace);
        let mut proof = self.outbox.dead(letter).await.ok()?;
        if let Some(result) = result {
            proof = proof.and(&self.publish_result(&result, &trace).await.ok()?);
        }
        Some(Settled { proof, stays: Vec::new() })
    }
}

/// Whether nothing that these wait for answers, or does so soon enough: with one that does, they would be held and repeated with
/// what it is owed.
fn shares_with_any(group: &[Later]) -> bool {
    group.iter().all(|later| later.shares_with_any)
}

/// Groups deliveries by the delay queue of their next hop, and takes that hop off what each has left to wait.
pub(super) fn by_delay_queue(deliveries: Vec<Later>, event_bytes: usize) -> Vec<(Tier, Vec<Later>)> {
    let mut groups: BTreeMap<Tier, Vec<Vec<Later>>> = BTreeMap::new();
    let room = MAX_MESSAGE_BYTES.saturating_sub(event_bytes).min(LIST_BYTES);
    let most = (room / OWED_BYTES).max(1);
    for mut later in deliveries {
        // Whoever waits waits at least one unit.
        let units = later.owed.units_left.max(1);
        let Some(Hop { tier, units_left }) = wait::next_hop(later.owed.wait, units) else { continue };
        later.owed.units_left = units_left;
        later.owed.hop += 1;
        let group = groups.entry(tier).or_default();
        match group.last_mut() {
            Some(last) if last.len() < most => last.push(later),
            _ => group.push(vec![later]),
        }
    }
    groups.into_iter().flat_map(|(tier, groups)| groups.into_iter().map(move |group| (tier, group))).collect()
}

fn about_event(work: &Work, outcome: Outcome) -> DeliveryResult {
    let event = &work.event;
    DeliveryResult {
        delivery: None,
        event_id: event.id.clone(),
        document: Some(event.document.clone()),
        subscription: None,
        organization: event.organization.clone(),
        project: event.project.clone(),
        inbox: event.inbox.clone(),
        event: Some(event.name()),
        outcome,
        attempt: 0,
        max_attempts: 0,
        fan_out: work.fan_out,
        status_code: None,
        response_body: Bytes::new(),
        response_body_cut: false,
        error: None,
        error_text: String::new(),
        latency: Duration::ZERO,
        attempted_at: None,
        next_attempt_at: None,
        target: String::new(),
        round: 0,
    }
}

fn result(work: &Work, stay: &Stay, told: Told) -> DeliveryResult {
    let Told { owed, subscription, outcome, error, attempt, next_attempt_at, is_left_out: _ } = told;
    let (kind, error_text) = error.map_or((None, String::new()), |(kind, text)| (Some(kind.as_str()), text));
    let mut result = DeliveryResult {
        delivery: Some(stay.key().delivery),
        attempt: owed.attempts,
        max_attempts: subscription.as_ref().map_or(0, |it| it.retry.max_attempts),
        target: subscription.as_ref().map_or_else(String::new, |it| it.target.address()),
        subscription: Some(owed.subscription),
        round: owed.round,
        error: kind,
        error_text,
        next_attempt_at,
        ..about_event(work, outcome)
    };
    if let Some(attempt) = attempt {
        result.latency = attempt.latency;
        result.attempted_at = Some(attempt.started_at);
        if let Answer::Response { status, body, cut, .. } = attempt.answer {
            result.status_code = Some(status);
            result.response_body = body;
            result.response_body_cut = cut;
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        flow::register::{Entered, Register},
        telemetry::metrics::ParkedFor,
    };

    async fn later(register: &Arc<Register>, subscription: &str, shares_with_any: bool) -> Later {
        let owed = Owed::first(subscription.parse().unwrap());
        let delivery = DeliveryId::of(&"evt-1".parse().unwrap(), &owed.subscription);
        let Entered::Mine(stay) = register.enter(StayKey { delivery, hop: 0 }).await else {
            panic!("nobody else carries it")
        };
        Later { stay, owed, reason: ParkedFor::Limit, shares_with_any, told: None }
    }

    #[tokio::test]
    async fn deliveries_that_are_parked_together_share_with_any_only_if_each_does() {
        let register = Arc::new(Register::new());
        let silent = [later(&register, "a", true).await, later(&register, "b", true).await];
        assert!(shares_with_any(&silent));
        let mixed = [later(&register, "c", true).await, later(&register, "d", false).await];
        assert!(!shares_with_any(&mixed));
    }
}
