//! One delivery: is it known, may it start, how did the attempt go, what follows.

use std::{
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};

use super::{
    Flow, age,
    decide::{self, Ending, Start, Step},
    intake::Work,
    lanes::Permit,
    ports::{Courier, Sending},
    register::{Entered, Stay, StayKey},
    settle::Told,
    traced::Seen,
    turn::{self, Places, Turn},
};
use crate::{
    broker::{Confirmed, Receipt, Standing},
    domain::{Answer, Attempt, DeliveryId, FailureKind, Outcome, Owed, Subscription, Timestamp, Wait, now},
    policy::{
        lane::{self, Health, Heard, Park, Reason},
        pause, wait,
    },
    store::{Found, Snapshot},
    telemetry::{metrics::ParkedFor, trace::Scope},
};

/// An attempt at a target that is slow, silent or new takes long if it has not ended by then.
const TAKES_LONG: Duration = Duration::from_millis(100);

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
    pub(super) reason: ParkedFor,
    /// Whether it may share a message with any other such: what it waits for, its target or the login before it, is known to
    /// give no answer, or answers so slowly that its turns are a unit apart or more.
    pub(super) shares_with_any: bool,
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
            Entered::Settled(proof) => {
                self.metrics.known_already();
                return Carried::Settled(key, proof);
            }
        };
        if owed.units_left > 0 && owed.wait == Wait::Retry {
            // Never early.
            return waits_on(stay, owed, ParkedFor::Retry);
        }
        // An id may have moved to another organization while the delivery waited: nothing ever crosses.
        let found = snapshot.find(&work.event.organization, &owed.subscription);
        let paused = if let Found::Known(subscription) = found { self.paused(subscription) } else { None };
        match decide::start(&owed, found, paused, age(work, now()), self.settings.max_age) {
            Start::Wait(wait) => {
                let reason = if paused.is_some() { ParkedFor::Paused } else { ParkedFor::Limit };
                waits_on(stay, self.waiting(work, owed, Wait::Limit, wait), reason)
            }
            Start::End(ending) => {
                let subscription = if let Found::Known(subscription) = found { Some(subscription) } else { None };
                self.conclude(work, stay, Told::without_attempt(owed, subscription.cloned(), ending)).await
            }
            Start::Attempt(subscription) => self.try_now(work, receipt, stay, owed, subscription).await,
        }
    }

    /// Asks for a turn, makes the attempt, and does what follows.
    async fn try_now(
        &self,
        work: &Work,
        receipt: &Receipt,
        stay: Stay,
        mut owed: Owed,
        subscription: &Arc<Subscription>,
    ) -> Carried {
        self.until_publishing_is_open().await;
        let asked = self.tracer.is_on().then(Instant::now);
        let ask = turn::ask(subscription, &owed, work.raw.len(), age(work, now()), self.settings.delay_unit);
        let Places { permit, login, place } = match self.turn(&ask, subscription).await {
            Turn::Come(places) => places,
            Turn::Park(park) => return self.wait_for_a_turn(work, stay, owed, subscription, park),
            Turn::TooLate(turn) => {
                let ending = decide::turn_too_late(turn, &subscription.retry);
                return self
                    .conclude(work, stay, Told::without_attempt(owed, Some(subscription.clone()), ending))
                    .await;
            }
            Turn::Stopping => {
                let owed = self.waiting(work, owed, Wait::Limit, self.settings.delay_unit);
                return waits_on(stay, owed, ParkedFor::Limit);
            }
        };
        // Again: it may have stood in line when the broker stopped taking messages.
        self.until_publishing_is_open().await;
        let is_draining = self.stop.draining.is_cancelled();
        // It may be paused since it stood in line, too.
        let wait = if is_draining { Some(self.settings.delay_unit) } else { self.paused(subscription) };
        if let Some(wait) = wait {
            let reason = if is_draining { ParkedFor::Limit } else { ParkedFor::Paused };
            return waits_on(stay, self.waiting(work, owed, Wait::Limit, wait), reason);
        }
        if receipt.is_stale() {
            // Not begun, and the broker gives its message again, perhaps to another replica.
            return Carried::LeftToBroker;
        }
        self.wait_ends(work, &mut owed);
        let number = owed.attempts + 1;
        let waited = asked.map_or(Duration::ZERO, |asked| asked.elapsed());
        let seen = Seen { scope: self.tracer.attempt(work.context()), waited };
        let id = stay.key().delivery;
        let is_slow = permit.is_slow() || login.as_ref().is_some_and(Permit::is_slow);
        let attempt = {
            let attempt = self.attempt(work, subscription, (id, number), place, login, seen.scope.as_ref());
            watched(pin!(attempt), is_slow.then_some(receipt)).await
        };
        let is_probe = permit.is_probe();
        let heard = turn::heard(&attempt);
        let health = permit.finished(heard);
        if let Answer::None { kind, .. } = &attempt.answer
            && ask.hold
            && decide::spends_nothing(*kind, health, is_probe, (owed.attempts, subscription.retry.max_attempts))
        {
            owed.last_error = Some(*kind);
            self.attempt_made(work, seen, subscription, (id, number), &attempt, Outcome::Deferred);
            let wait = lane::hold_for(age(work, now()), self.settings.delay_unit);
            return self.wait_for_a_turn(work, stay, owed, subscription, Park { wait, reason: Reason::Down });
        }
        let is_silent = heard == Heard::Silence && health == Health::Down;
        self.follow_up(work, stay, owed, subscription, (attempt, is_silent), seen).await
    }

    /// Does what follows an attempt that counts. `is_silent`: it was not answered, and neither were those before it.
    async fn follow_up(
        &self,
        work: &Work,
        stay: Stay,
        mut owed: Owed,
        subscription: &Arc<Subscription>,
        (attempt, is_silent): (Attempt, bool),
        seen: Seen,
    ) -> Carried {
        let made = (stay.key().delivery, owed.attempts + 1);
        // What cannot be sent spends no attempt: none was made.
        owed.attempts += u32::from(!matches!(attempt.answer, Answer::Unsendable { .. }));
        let now = now();
        let step = decide::after_attempt(owed.attempts, &attempt.answer, age(work, now), &subscription.retry);
        let is_left_out = self.attempt_made(work, seen, subscription, made, &attempt, step.outcome());
        match step {
            Step::End(ending) => {
                let disables = decide::disables(&attempt.answer, subscription);
                let mut told = Told::after_attempt(owed, subscription.clone(), ending, attempt);
                told.is_left_out = is_left_out;
                if disables {
                    return Box::pin(self.conclude_gone(work, stay, told, subscription, now)).await;
                }
                self.conclude(work, stay, told).await
            }
            Step::Retry { wait, kind, text } => {
                owed.last_error = Some(kind);
                let owed = self.waiting(work, owed, Wait::Retry, wait);
                let told =
                    Told::failed_attempt(owed.clone(), subscription.clone(), (kind, text), attempt, now.after(wait));
                let (told, reason) = (Some(Box::new(told)), ParkedFor::Retry);
                Carried::Later(Box::new(Later { stay, owed, reason, shares_with_any: is_silent, told }))
            }
        }
    }

    /// Waits in the broker, without having spent an attempt. The first wait for a target that is down is told.
    fn wait_for_a_turn(
        &self,
        work: &Work,
        stay: Stay,
        mut owed: Owed,
        subscription: &Arc<Subscription>,
        Park { wait, reason }: Park,
    ) -> Carried {
        let (is_down, shares_with_any) = (reason == Reason::Down, reason != Reason::Turn);
        if owed.units_left > 0 && !is_down && wait.is_zero() {
            // It was early: its turn stands.
            let reason = ParkedFor::Limit;
            return Carried::Later(Box::new(Later { stay, owed, reason, shares_with_any, told: None }));
        }
        // What waits ends with its age, and not later.
        let wait = wait.min(subscription.retry.max_age.saturating_sub(age(work, now())));
        let told = (is_down && !owed.deferred_told).then(|| {
            owed.deferred_told = true;
            Box::new(Told::deferred(owed.clone(), subscription.clone(), now().after(wait)))
        });
        let reason = if is_down { ParkedFor::Down } else { ParkedFor::Limit };
        let owed = self.waiting(work, owed, Wait::Limit, wait);
        Carried::Later(Box::new(Later { stay, owed, reason, shares_with_any, told }))
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
            self.metrics.gone(subscription, id, work.context());
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

    /// A defect ends the delivery that it happened in, and touches nothing else. `owed` is as it was when it began: what it
    /// waited for is told already if its attempt began.
    pub(super) async fn conclude_panicked(&self, work: &Work, mut owed: Owed) -> Carried {
        owed.waiting_since = None;
        let id = DeliveryId::of(&work.event.id, &owed.subscription);
        self.metrics.panicked(id, work.context());
        let key = StayKey { delivery: id, hop: owed.hop };
        match self.register.enter(key).await {
            Entered::Mine(stay) => {
                self.conclude(work, stay, Told::without_attempt(owed, None, Ending::panicked())).await
            }
            Entered::Settled(proof) => Carried::Settled(key, proof),
        }
    }

    /// One attempt; a stop cuts it off.
    pub(super) async fn attempt(
        &self,
        work: &Work,
        subscription: &Subscription,
        (delivery, number): (DeliveryId, u32),
        place: C::Place,
        login: Option<Permit>,
        scope: Option<&Scope>,
    ) -> Attempt {
        let (started_at, started) = (now(), Instant::now());
        let ended = |answer| Attempt { started_at, latency: started.elapsed(), answer };
        let attempt = async {
            let body = match self.body(work, subscription, delivery, (started_at, started), scope).await {
                Ok(body) => body,
                Err(answer) => return ended(answer),
            };
            let event = &work.event;
            let (at, began) = (started_at, started);
            let (context, trial) = (work.context(), work.trial.as_ref());
            let own = scope.and_then(|scope| scope.context(context.tracestate.as_deref()));
            let trace = own.as_ref().unwrap_or(context);
            let (attempt, logged_in) = (number, None);
            let sending =
                Sending { event, subscription, delivery, attempt, at, began, body, trace, scope, trial, logged_in };
            let Some(login) = login else { return self.courier.send(sending, place).await };
            // Boxed: who needs no login need not carry the room for one.
            let logged_in = Notify::new();
            let sending = Sending { logged_in: Some(&logged_in), ..sending };
            Box::pin(turn::after_login(self.courier.send(sending, place), login, &logged_in)).await
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

    /// How long a delivery waits because its lane is paused by hand; `None` when it is not.
    fn paused(&self, subscription: &Subscription) -> Option<Duration> {
        let since = self.subscriptions.current().paused(&subscription.lane)?;
        Some(pause::wait(since.age_at(now()), self.settings.delay_unit))
    }

    fn waiting(&self, work: &Work, mut owed: Owed, wait: Wait, length: Duration) -> Owed {
        let goes_on = owed.wait == wait;
        self.wait_begins(work, &mut owed, goes_on);
        Owed { wait, units_left: wait::units(length, self.settings.delay_unit), ..owed }
    }
}

/// Waits for an attempt, and says on the receipt of a slow one when it takes long. A quick one that falls silent is found out
/// later: it costs no timer.
async fn watched(mut attempt: Pin<&mut impl Future<Output = Attempt>>, slow: Option<&Receipt>) -> Attempt {
    if let Some(receipt) = slow {
        if let Ok(attempt) = timeout(TAKES_LONG, &mut attempt).await {
            return attempt;
        }
        receipt.takes_long();
    }
    attempt.await
}

/// It waits for a time, whatever its target does meanwhile, and there is nothing to tell.
fn waits_on(stay: Stay, owed: Owed, reason: ParkedFor) -> Carried {
    Carried::Later(Box::new(Later { stay, owed, reason, shares_with_any: false, told: None }))
}
