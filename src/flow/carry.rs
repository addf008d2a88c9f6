//! One delivery: is it known, may it start, how did the attempt go, what follows.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, timeout};

use super::{
    Flow, age,
    decide::{self, Ending, Start, Step},
    intake::Work,
    ports::{Courier, Sending},
    register::{Entered, Stay, StayKey},
    settle::Told,
};
use crate::{
    broker::{Confirmed, Receipt, Standing},
    domain::{Answer, Attempt, DeliveryId, FailureKind, Owed, Subscription, Timestamp, Wait, now},
    policy::wait,
    store::{Found, Snapshot},
};

/// How a delivery left this process.
#[derive(Debug)]
pub(super) enum Carried {
    /// Everything it owed is confirmed.
    Settled(StayKey, Confirmed),
    /// It must wait: in the broker.
    Later(Box<Later>),
    /// It was not begun, or its end could not be told: the broker gives its message again.
    LeftToBroker,
}

/// A delivery that must wait in the broker.
#[derive(Debug)]
pub(super) struct Later {
    pub(super) stay: Stay,
    /// As it is to be parked, but for the first hop.
    pub(super) owed: Owed,
    /// What to tell upstream once it is parked: a failed attempt.
    pub(super) told: Option<Box<Told>>,
}

impl<C: Courier> Flow<C> {
    /// Carries one delivery as far as it can go now.
    pub(super) async fn carry(&self, work: &Work, snapshot: &Snapshot, receipt: &Receipt, owed: Owed) -> Carried {
        let id = DeliveryId::of(&work.event.id, &owed.subscription);
        let key = StayKey { delivery: id, hop: owed.hop };
        let stay = match self.register.enter(key).await {
            Entered::Mine(stay) => stay,
            Entered::Settled(proof) => return Carried::Settled(key, proof),
        };
        if owed.units_left > 0 {
            return later(stay, owed, None);
        }
        // An id may have moved to another organization while the delivery waited: nothing ever crosses.
        let found = snapshot.find(&work.event.organization, &owed.subscription);
        match decide::start(&owed, found, age(work, now()), self.settings.max_age) {
            Start::Wait(wait) => later(stay, self.waiting(owed, Wait::Limit, wait), None),
            Start::End(ending) => {
                let subscription = if let Found::Known(subscription) = found { Some(subscription) } else { None };
                self.conclude(work, stay, Told::without_attempt(owed, subscription.cloned(), ending)).await
            }
            Start::Attempt(subscription) => self.try_now(work, receipt, stay, owed, subscription).await,
        }
    }

    /// Asks for a place, makes the attempt, and does what follows.
    async fn try_now(
        &self,
        work: &Work,
        receipt: &Receipt,
        stay: Stay,
        mut owed: Owed,
        subscription: &Arc<Subscription>,
    ) -> Carried {
        self.until_publishing_is_open().await;
        let place = self.lanes.enter(&subscription.lane, subscription.max_in_flight, &self.stop.draining).await;
        // One with the courier before one in the window: who waits for a channel keeps no webhook waiting.
        let place = match place {
            Some(permit) => self.couriers_place(subscription).await.map(|place| (permit, place)),
            None => None,
        };
        let Some((permit, place)) = place else {
            return later(stay, self.waiting(owed, Wait::Limit, self.settings.delay_unit), None);
        };
        let window = tokio::select! {
            window = self.window.acquire() => window.ok(),
            () = self.stop.draining.cancelled() => None,
        };
        // Again: it may have stood in line when the broker stopped taking messages.
        self.until_publishing_is_open().await;
        if self.stop.draining.is_cancelled() {
            return later(stay, self.waiting(owed, Wait::Limit, self.settings.delay_unit), None);
        }
        if receipt.is_stale() {
            // Not begun, and the broker gives its message again, perhaps to another replica.
            return Carried::LeftToBroker;
        }
        let attempt = self.attempt(work, subscription, (stay.key().delivery, owed.attempts + 1), place).await;
        permit.finished(heard(&attempt));
        // Publishing its result takes no place from other attempts.
        drop(window);
        // What cannot be sent spends no attempt: none was made.
        owed.attempts += u32::from(!matches!(attempt.answer, Answer::Unsendable { .. }));
        let now = now();
        match decide::after_attempt(owed.attempts, &attempt.answer, age(work, now), &subscription.retry) {
            Step::End(ending) => {
                let disables = decide::disables(&attempt.answer, subscription);
                let told = Told::after_attempt(owed, subscription.clone(), ending, attempt);
                if disables {
                    return Box::pin(self.conclude_gone(work, stay, told, subscription, now)).await;
                }
                self.conclude(work, stay, told).await
            }
            Step::Retry { wait, kind, text } => {
                owed.last_error = Some(kind);
                let owed = self.waiting(owed, Wait::Retry, wait);
                let told =
                    Told::failed_attempt(owed.clone(), subscription.clone(), (kind, text), attempt, now.after(wait));
                later(stay, owed, Some(Box::new(told)))
            }
        }
    }

    /// The target is gone for good: its subscription is disabled, which is told before the delivery ends, so that a crash
    /// in between makes the attempt again and not the silence last.
    async fn conclude_gone(
        &self,
        work: &Work,
        stay: Stay,
        told: Told,
        subscription: &Subscription,
        now: Timestamp,
    ) -> Carried {
        let id = stay.key().delivery;
        let mut disabled = Confirmed::nothing_owed();
        if self.subscriptions.disable_gone(subscription, now).await {
            match self.tell_disabled(work, (id, told.made()), subscription, now).await {
                Ok(proof) => disabled = proof,
                Err(_) => return Carried::LeftToBroker,
            }
            self.subscriptions.gone_was_told(subscription, now).await;
        }
        match self.conclude(work, stay, told).await {
            Carried::Settled(key, proof) => Carried::Settled(key, proof.and(&disabled)),
            carried @ (Carried::Later(_) | Carried::LeftToBroker) => carried,
        }
    }

    /// A defect ends the delivery that it happened in, and touches nothing else.
    pub(super) async fn conclude_panicked(&self, work: &Work, owed: Owed) -> Carried {
        let id = DeliveryId::of(&work.event.id, &owed.subscription);
        tracing::error!(delivery.id = %id, "A delivery panicked: a defect of docrelay");
        let key = StayKey { delivery: id, hop: owed.hop };
        match self.register.enter(key).await {
            Entered::Mine(stay) => {
                self.conclude(work, stay, Told::without_attempt(owed, None, Ending::panicked())).await
            }
            Entered::Settled(proof) => Carried::Settled(key, proof),
        }
    }

    /// A place with the courier; `None` when it did not come for as long as a delivery may stand in line.
    pub(super) async fn couriers_place(&self, subscription: &Subscription) -> Option<C::Place> {
        tokio::select! {
            biased;
            place = timeout(self.patience, self.courier.place(subscription)) => place.ok(),
            () = self.stop.draining.cancelled() => None,
        }
    }

    /// One attempt; a stop cuts it off.
    pub(super) async fn attempt(
        &self,
        work: &Work,
        subscription: &Subscription,
        (delivery, number): (DeliveryId, u32),
        place: C::Place,
    ) -> Attempt {
        let (started_at, started) = (now(), Instant::now());
        let ended = |answer| Attempt { started_at, latency: started.elapsed(), answer };
        let attempt = async {
            let body = match self.body(work, subscription, delivery, (started_at, started)).await {
                Ok(body) => body,
                Err(answer) => return ended(answer),
            };
            let event = &work.event;
            let (at, began) = (started_at, started);
            let (trace, trial) = (&work.trace, work.trial.as_ref());
            let sending = Sending { event, subscription, delivery, attempt: number, at, began, body, trace, trial };
            self.courier.send(sending, place).await
        };
        tokio::select! {
            biased;
            attempt = attempt => attempt,
            () = self.stop.abandon.cancelled() => {
                let text = "docrelay stopped during the attempt".to_owned();
                ended(Answer::None { kind: FailureKind::Interrupted, text })
            }
        }
    }

    /// No new attempt starts while its result could not be published.
    async fn until_publishing_is_open(&self) {
        if *self.publishing.borrow() == Standing::Open {
            return;
        }
        let mut publishing = self.publishing.clone();
        tokio::select! {
            // An error means that publishing has ended, and then the service is at its end too.
            open = publishing.wait_for(|standing| *standing == Standing::Open) => drop(open),
            () = self.stop.draining.cancelled() => {}
        }
    }

    fn waiting(&self, owed: Owed, wait: Wait, length: Duration) -> Owed {
        Owed { wait, units_left: wait::units(length, self.settings.delay_unit), ..owed }
    }
}

fn later(stay: Stay, owed: Owed, told: Option<Box<Told>>) -> Carried {
    Carried::Later(Box::new(Later { stay, owed, told }))
}

/// What an attempt says about its target: whether it answered at all, and how fast. Our own doing says nothing, and
/// neither does a login or an artifact store that failed: that is quite another server.
pub(super) fn heard(attempt: &Attempt) -> Option<(bool, Duration)> {
    match &attempt.answer {
        Answer::Response { .. } | Answer::Taken | Answer::Refused { .. } => Some((true, attempt.latency)),
        Answer::None { kind: FailureKind::Interrupted | FailureKind::Auth | FailureKind::Internal, .. }
        | Answer::Unsendable { .. } => None,
        Answer::None { .. } => Some((false, attempt.latency)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_targets_own_silence_speaks_against_it() {
        let latency = Duration::from_millis(5);
        for (kind, expected) in [
            (FailureKind::Auth, None),
            (FailureKind::Interrupted, None),
            (FailureKind::Internal, None),
            (FailureKind::Timeout, Some((false, latency))),
        ] {
            let answer = Answer::None { kind, text: String::new() };
            assert_eq!(heard(&Attempt { started_at: now(), latency, answer }), expected, "{kind}");
        }
    }
}
