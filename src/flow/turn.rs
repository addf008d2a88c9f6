//! A delivery's turn: its place in its lane, one with the courier, and one in the window that all lanes share.

use std::{pin::pin, time::Duration};

use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};

use super::{
    Flow,
    lanes::{Entered, Permit},
    ports::Courier,
};
use crate::{
    domain::{Answer, Attempt, FailureKind, LaneKey, Owed, Subscription, Wait, WhileDown},
    policy::{
        lane::{Ask, Came, Heard, Limits, Park, Rate, Reason},
        wait,
    },
};

/// Logins in flight at one place, at most: a quarter of what a target may have in flight by default. While a login hangs,
/// those who need none find the rest.
const LOGINS: u32 = 8;

/// Whether a delivery may be tried now.
pub(super) enum Turn<P> {
    /// It may: these are its places.
    Come(Places<P>),
    /// Not now.
    Park(Park),
    /// Its turn would come when it is too old: after so long.
    TooLate(Duration),
    /// The service stops: nothing new begins.
    Stopping,
}

/// What a delivery needs for an attempt.
pub(super) struct Places<P> {
    /// In its lane, and in the window.
    pub(super) permit: Permit,
    /// In the lane of a login that comes first, if one does.
    pub(super) login: Option<Permit>,
    /// With the courier.
    pub(super) place: P,
}

impl<C: Courier> Flow<C> {
    /// Asks for a turn, and waits a little where there is a line.
    pub(super) async fn turn(&self, ask: &Ask<'_>, subscription: &Subscription) -> Turn<C::Place> {
        let draining = &self.stop.draining;
        // Few of those whose login hangs get as far as their target's places.
        let login = match self.courier.login(subscription) {
            None => None,
            Some(lane) => match self.lanes.enter(&login_ask(&lane, ask), draining).await {
                Entered::Permit(permit) => Some(permit),
                // Whoever is early for its target keeps its turn there.
                Entered::Park(Park { reason, .. }) if matches!(ask.came, Came::Early(_)) => {
                    return Turn::Park(Park { wait: Duration::ZERO, reason });
                }
                Entered::Park(park) => return Turn::Park(park),
                Entered::TooLate(turn) => return Turn::TooLate(turn),
            },
        };
        let ask = &Ask { is_asked_later: login.is_some(), ..*ask };
        let mut permit = match self.lanes.enter(ask, draining).await {
            Entered::Permit(permit) => permit,
            Entered::Park(park) => return Turn::Park(park),
            Entered::TooLate(turn) => return Turn::TooLate(turn),
        };
        // One with the courier before one in the window: who waits for a channel keeps no webhook waiting.
        let place = tokio::select! {
            biased;
            place = timeout(self.patience, self.courier.place(subscription)) => place.ok(),
            () = draining.cancelled() => return Turn::Stopping,
        };
        let Some(place) = place else {
            return Turn::Park(Park { wait: self.settings.delay_unit, reason: Reason::Turn });
        };
        if permit.window(draining).await { Turn::Come(Places { permit, login, place }) } else { Turn::Stopping }
    }
}

/// What a delivery asks its lane.
pub(super) fn ask<'a>(
    subscription: &'a Subscription,
    owed: &Owed,
    bytes: usize,
    age: Duration,
    unit: Duration,
) -> Ask<'a> {
    Ask {
        lane: &subscription.lane,
        limits: limits(subscription),
        came: match owed.wait {
            Wait::Limit if owed.units_left > 0 => Came::Early(wait::length(owed.units_left, unit)),
            Wait::Limit if owed.hop > 0 => Came::Back,
            Wait::Limit | Wait::Retry => Came::New,
        },
        bytes: u64::try_from(bytes).unwrap_or(u64::MAX),
        age,
        left: subscription.retry.max_age.saturating_sub(age),
        hold: subscription.retry.while_down == WhileDown::Hold,
        is_asked_later: false,
    }
}

/// What it asks the lane of its login. A login has no limits but its cap, and a failed one is a failed attempt, whatever is
/// held while a target is down.
fn login_ask<'a>(lane: &'a LaneKey, ask: &Ask<'a>) -> Ask<'a> {
    Ask { lane, limits: Limits { max_in_flight: LOGINS, rate: None }, came: ask.came.or_back(), hold: false, ..*ask }
}

/// The limits of a subscription's lane.
fn limits(subscription: &Subscription) -> Limits {
    let rate = subscription.rate_limit.map(|limit| Rate { interval: limit.interval(), burst: limit.burst() });
    Limits { max_in_flight: subscription.max_in_flight, rate }
}

/// What an attempt says about its target. Our own doing says nothing, and neither does a login or an artifact store that
/// failed: that is quite another server.
pub(super) fn heard(attempt: &Attempt) -> Heard {
    let answer = |retry_after| Heard::Answer { latency: attempt.latency, retry_after };
    match &attempt.answer {
        Answer::Response { retry_after, .. } => answer(*retry_after),
        Answer::Taken | Answer::Refused { .. } => answer(None),
        Answer::None { kind: FailureKind::Interrupted | FailureKind::Auth | FailureKind::Internal, .. }
        | Answer::Unsendable { .. } => Heard::Nothing,
        Answer::None { .. } => Heard::Silence,
    }
}

/// Makes an attempt that begins with a login, and gives the login's place back as soon as the login has answered.
pub(super) async fn after_login(attempt: impl Future<Output = Attempt>, login: Permit, logged_in: &Notify) -> Attempt {
    let (began, mut attempt) = (Instant::now(), pin!(attempt));
    tokio::select! {
        biased;
        () = logged_in.notified() => {
            login.finished(Heard::Answer { latency: began.elapsed(), retry_after: None });
        }
        attempt = &mut attempt => {
            login.finished(match &attempt.answer {
                Answer::None { kind: FailureKind::Auth, .. } => Heard::Silence,
                _ => Heard::Nothing,
            });
            return attempt;
        }
    }
    attempt.await
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::{
        domain::now,
        flow::lanes::LaneKeeper,
        policy::lane::{Health, WindowSizes},
    };

    #[tokio::test(start_paused = true)]
    async fn a_login_that_answers_is_up_whatever_it_says_and_one_that_does_not_is_silent() {
        let second = Duration::from_secs(1);
        let sizes = WindowSizes { quick: 9, slow: 9, slow_bytes: 1 << 20, lines: 9 };
        let lane = LaneKey::of_place(&"acme".parse().unwrap(), "login:https://h", None);
        let limits = Limits { max_in_flight: LOGINS, rate: None };
        let (came, zero) = (Came::New, Duration::ZERO);
        let (age, bytes, left) = (zero, 1, second * 60);
        let ask = Ask { lane: &lane, limits, came, bytes, age, left, hold: false, is_asked_later: false };
        for (answers, health) in [(true, Health::Answering), (false, Health::Down)] {
            let keeper = LaneKeeper::new(sizes, second);
            for _ in 0..5 {
                let Entered::Permit(permit) = keeper.enter(&ask, &CancellationToken::new()).await else {
                    panic!("must go")
                };
                let answered = Notify::new();
                let refused = async {
                    if answers {
                        answered.notify_one();
                        sleep(second).await;
                    }
                    let answer = Answer::None { kind: FailureKind::Auth, text: "it answered 401".to_owned() };
                    Attempt { started_at: now(), latency: second, answer }
                };
                after_login(refused, permit, &answered).await;
            }
            assert_eq!(keeper.figure(&lane).unwrap().0.health, health);
        }
    }

    #[test]
    fn only_the_targets_own_silence_speaks_against_it() {
        let latency = Duration::from_millis(5);
        for (kind, expected) in [
            (FailureKind::Auth, Heard::Nothing),
            (FailureKind::Interrupted, Heard::Nothing),
            (FailureKind::Internal, Heard::Nothing),
            (FailureKind::Timeout, Heard::Silence),
        ] {
            let answer = Answer::None { kind, text: String::new() };
            assert_eq!(heard(&Attempt { started_at: now(), latency, answer }), expected, "{kind}");
        }
    }
}
