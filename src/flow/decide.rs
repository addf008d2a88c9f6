//! What follows for a delivery. Pure: the age and the answer come in, a step goes out.

use std::{sync::Arc, time::Duration};

use crate::{
    domain::{Answer, FailureKind, Outcome, Owed, RetryPolicy, State, Subscription, Target},
    policy::{lane::Health, schedule},
    store::Found,
};

/// How long a delivery waits whose subscription is not known: absence is never deletion, only a fresh look decides.
const UNKNOWN_SUBSCRIPTION_WAIT: Duration = Duration::from_secs(64);

/// What to do with a delivery whose wait is over.
#[derive(Debug)]
pub(crate) enum Start<'a> {
    /// Try it.
    Attempt(&'a Arc<Subscription>),
    /// It is over without an attempt.
    End(Ending),
    /// Wait on, without an attempt.
    Wait(Duration),
}

/// What to do after an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// It is over.
    End(Ending),
    /// The attempt failed; wait, then try again.
    Retry {
        /// How long, at least.
        wait: Duration,
        /// Why it failed.
        kind: FailureKind,
        /// Why, for people.
        text: String,
    },
}

impl Step {
    /// What upstream is told of it.
    pub(crate) fn outcome(&self) -> Outcome {
        match self {
            Self::End(ending) => ending.outcome,
            Self::Retry { .. } => Outcome::AttemptFailed,
        }
    }
}

/// How a delivery ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ending {
    pub(crate) outcome: Outcome,
    pub(crate) error: Option<(FailureKind, String)>,
}

impl Ending {
    /// The end of a delivery that a defect of ours made impossible.
    pub(crate) fn panicked() -> Self {
        Self::failed(Outcome::Rejected, FailureKind::Internal, "a defect of docrelay; its log has the details")
    }

    fn failed(outcome: Outcome, kind: FailureKind, text: impl Into<String>) -> Self {
        Self { outcome, error: Some((kind, text.into())) }
    }
}

/// Whether a delivery of this age may be tried now. `paused` is how long it waits because its lane is paused, if it is;
/// `max_age` is for a subscription that is not known.
pub(crate) fn start<'a>(
    owed: &Owed,
    subscription: Found<'a>,
    paused: Option<Duration>,
    age: Duration,
    max_age: Duration,
) -> Start<'a> {
    let subscription = match subscription {
        Found::Known(subscription) => subscription,
        Found::Deleted => {
            return Start::End(cancelled(
                FailureKind::Deleted,
                "the subscription was deleted while the delivery waited",
            ));
        }
        Found::Unknown if age >= max_age => return Start::End(too_old(age, max_age)),
        Found::Unknown => return Start::Wait(UNKNOWN_SUBSCRIPTION_WAIT.min(max_age.saturating_sub(age))),
    };
    match subscription.state {
        State::Enabled => {}
        State::Disabled => {
            let text = "the subscription was disabled while the delivery waited";
            return Start::End(cancelled(FailureKind::Disabled, text));
        }
        State::Gone => {
            let text = "the subscription is disabled: its target answered 410 Gone";
            return Start::End(cancelled(FailureKind::Gone, text));
        }
    }
    let retry = &subscription.retry;
    if age >= retry.max_age {
        return Start::End(too_old(age, retry.max_age));
    }
    if owed.attempts >= retry.max_attempts {
        // The subscription allows fewer attempts than it did.
        let kind = owed.last_error.unwrap_or(FailureKind::Internal);
        return Start::End(Ending::failed(Outcome::Exhausted, kind, "no attempt is left"));
    }
    match paused {
        // No longer than it may become old: then it ends in time.
        Some(wait) => Start::Wait(wait.min(retry.max_age.saturating_sub(age))),
        None => Start::Attempt(subscription),
    }
}

/// What follows the `attempts`-th attempt, which ended with `answer` when the event was `age` old.
pub(crate) fn after_attempt(attempts: u32, answer: &Answer, age: Duration, retry: &RetryPolicy) -> Step {
    let (kind, text, retry_after) = match answer {
        Answer::Response { status: 200..=299, .. } => {
            return Step::End(Ending { outcome: Outcome::Delivered, error: None });
        }
        Answer::Taken => return Step::End(Ending { outcome: Outcome::Delivered, error: None }),
        Answer::Response { status: 410, .. } => {
            return Step::End(Ending::failed(Outcome::Rejected, FailureKind::Gone, "the target answered 410 Gone"));
        }
        Answer::Response { status, .. } if retry.on.is_verdict(*status) => {
            let text = format!("the target answered {status}, which is its verdict (retry.on: no_response)");
            return Step::End(Ending::failed(Outcome::Exhausted, FailureKind::Status, text));
        }
        Answer::Unsendable { kind, text } => {
            return Step::End(Ending::failed(Outcome::Rejected, *kind, text.clone()));
        }
        Answer::Response { status, retry_after, .. } => {
            (FailureKind::Status, format!("the target answered {status}"), *retry_after)
        }
        Answer::Refused { kind, text } | Answer::None { kind, text } => (*kind, text.clone(), None),
    };
    match schedule::wait_after(attempts, retry, retry_after) {
        None => Step::End(Ending::failed(Outcome::Exhausted, kind, text)),
        Some(wait) if age.saturating_add(wait) >= retry.max_age => {
            let text = format!("{text}; the next attempt would be too late: the delivery ends at {:?}", retry.max_age);
            Step::End(Ending::failed(Outcome::Exhausted, FailureKind::TooOld, text))
        }
        Some(wait) => Step::Retry { wait, kind, text },
    }
}

/// The end of a delivery whose turn at its target's rate would come when it is too old.
pub(crate) fn turn_too_late(turn: Duration, retry: &RetryPolicy) -> Ending {
    let text = format!(
        "its turn at the target's rate limit would come in {} s, and the delivery ends at {} s",
        turn.as_secs(),
        retry.max_age.as_secs()
    );
    Ending::failed(Outcome::Exhausted, FailureKind::TooOld, text)
}

/// So many attempts of one delivery, of which the last got no answer, are a target that is down, whatever this replica has
/// seen of it: with little traffic and many replicas none of them sees five in a row.
const DOWN_AFTER: u32 = 5;

/// Whether an attempt that got no answer is not counted, for a subscription that holds its deliveries while its target is
/// down: the attempt found it down, was the probe of it, or would be the delivery's fifth, or its last.
pub(crate) fn spends_nothing(
    kind: FailureKind,
    health: Health,
    is_probe: bool,
    (attempts_before, max_attempts): (u32, u32),
) -> bool {
    let is_our_doing = matches!(kind, FailureKind::Interrupted | FailureKind::Auth | FailureKind::Internal);
    !is_our_doing && (health == Health::Down || is_probe || attempts_before + 1 >= DOWN_AFTER.min(max_attempts))
}

/// Whether an answer disables its subscription. What a templated target says concerns that document only.
pub(crate) fn disables(answer: &Answer, subscription: &Subscription) -> bool {
    let is_templated = matches!(&subscription.target, Target::Http(target) if target.template);
    matches!(answer, Answer::Response { status: 410, .. }) && !is_templated
}

fn cancelled(kind: FailureKind, text: &str) -> Ending {
    Ending::failed(Outcome::Cancelled, kind, text)
}

fn too_old(age: Duration, max_age: Duration) -> Ending {
    let text = format!("{} s old, and the delivery ends at {} s", age.as_secs(), max_age.as_secs());
    Ending::failed(Outcome::Exhausted, FailureKind::TooOld, text)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::domain::RetryOn;

    fn policy() -> RetryPolicy {
        RetryPolicy::shipped()
    }

    fn status(status: u16) -> Answer {
        Answer::Response { status, retry_after: None, body: Bytes::new(), cut: false }
    }

    fn answers() -> impl Strategy<Value = Answer> {
        prop_oneof![
            (100u16..600, proptest::option::of(0u64..100_000)).prop_map(|(status, after)| Answer::Response {
                status,
                retry_after: after.map(Duration::from_secs),
                body: Bytes::new(),
                cut: false,
            }),
            Just(Answer::None { kind: FailureKind::Timeout, text: "late".to_owned() }),
            Just(Answer::Unsendable { kind: FailureKind::Template, text: "..".to_owned() }),
        ]
    }

    #[test]
    fn a_held_delivery_never_ends_for_want_of_an_answer_even_if_no_replica_knows_its_target_as_down() {
        let of = |before, most| spends_nothing(FailureKind::Timeout, Health::Suspect, false, (before, most));
        let spends_nothing = |before| of(before, 10);
        assert_eq!([(0, 1), (0, 3), (1, 3), (2, 3)].map(|(before, most)| of(before, most)), [true, false, false, true]);
        assert_eq!([3, 4, 9].map(spends_nothing), [false, true, true]);
        assert!(!super::spends_nothing(FailureKind::Auth, Health::Down, true, (9, 10)), "our own doing counts");
    }

    #[test]
    fn a_success_and_a_410_end_a_delivery_at_once() {
        for code in [200, 204, 299] {
            let step = after_attempt(1, &status(code), Duration::ZERO, &policy());
            assert_eq!(step, Step::End(Ending { outcome: Outcome::Delivered, error: None }));
        }
        let Step::End(ending) = after_attempt(1, &status(410), Duration::ZERO, &policy()) else { panic!("must end") };
        assert_eq!((ending.outcome, ending.error.unwrap().0), (Outcome::Rejected, FailureKind::Gone));
    }

    #[test]
    fn every_other_status_and_every_silence_is_tried_again() {
        for code in [100, 301, 304, 400, 404, 429, 500, 503] {
            let step = after_attempt(1, &status(code), Duration::ZERO, &policy());
            assert!(
                matches!(step, Step::Retry { wait, kind: FailureKind::Status, .. } if wait == Duration::from_secs(2))
            );
        }
        let silence = Answer::None { kind: FailureKind::Dns, text: String::new() };
        let step = after_attempt(3, &silence, Duration::ZERO, &policy());
        assert!(matches!(step, Step::Retry { wait, kind: FailureKind::Dns, .. } if wait == Duration::from_secs(8)));
    }

    #[test]
    fn a_verdict_ends_a_delivery_and_what_is_none_is_tried_again() {
        let policy = RetryPolicy { on: RetryOn::NoResponse, ..policy() };
        for code in [301, 400, 404, 422, 500, 501] {
            let step = after_attempt(1, &status(code), Duration::ZERO, &policy);
            let Step::End(ending) = step else { panic!("{code} must end it") };
            assert_eq!((ending.outcome, ending.error.unwrap().0), (Outcome::Exhausted, FailureKind::Status), "{code}");
        }
        for code in [429, 502, 503, 504] {
            assert!(matches!(after_attempt(1, &status(code), Duration::ZERO, &policy), Step::Retry { .. }), "{code}");
        }
        let silence = Answer::None { kind: FailureKind::Timeout, text: String::new() };
        assert!(matches!(after_attempt(1, &silence, Duration::ZERO, &policy), Step::Retry { .. }));
    }

    #[test]
    fn a_delivery_of_an_unknown_subscription_waits_until_it_is_too_old() {
        let owed = Owed::first("gone".parse().unwrap());
        let max_age = Duration::from_secs(100);
        assert!(
            matches!(start(&owed, Found::Unknown, None, Duration::ZERO, max_age), Start::Wait(wait) if wait == UNKNOWN_SUBSCRIPTION_WAIT)
        );
        let Start::End(ending) = start(&owed, Found::Unknown, None, max_age, max_age) else { panic!("must end") };
        assert_eq!((ending.outcome, ending.error.unwrap().0), (Outcome::Exhausted, FailureKind::TooOld));
    }

    fn subscription(rest: &str) -> Arc<Subscription> {
        let text = format!("subscriptions: [{{id: a, organization: acme, events: [document_text], {rest}}}]");
        let defaults = crate::store::Defaults {
            timeout: Duration::from_secs(15),
            retry: policy(),
            rate_limit: None,
            max_in_flight: 32,
            links: false,
            exchanges: Arc::default(),
        };
        Arc::new(crate::store::parse(&text, &defaults).unwrap().remove(0))
    }

    #[test]
    fn what_is_deleted_disabled_or_gone_is_cancelled_with_its_own_reason_however_old() {
        let owed = Owed::first("a".parse().unwrap());
        let plain = subscription("target: {url: http://h/}");
        let of = |state| Arc::new(Subscription { state, ..(*plain).clone() });
        let (disabled, gone) = (of(State::Disabled), of(State::Gone));
        let table = [
            (Found::Deleted, FailureKind::Deleted),
            (Found::Known(&disabled), FailureKind::Disabled),
            (Found::Known(&gone), FailureKind::Gone),
        ];
        for (found, kind) in table {
            for (age, paused) in [(Duration::ZERO, None), (Duration::MAX, None), (Duration::ZERO, Some(Duration::MAX))]
            {
                let Start::End(ending) = start(&owed, found, paused, age, Duration::from_secs(1)) else {
                    panic!("{kind} must end it")
                };
                assert_eq!((ending.outcome, ending.error.unwrap().0), (Outcome::Cancelled, kind));
            }
        }
        assert!(matches!(start(&owed, Found::Known(&plain), None, Duration::ZERO, Duration::ZERO), Start::Attempt(_)));
    }

    #[test]
    fn a_delivery_whose_lane_is_paused_waits_as_long_as_it_may_become_old_and_ends_then() {
        let owed = Owed { attempts: 3, ..Owed::first("a".parse().unwrap()) };
        let plain = subscription("target: {url: http://h/}");
        let (max_age, pause) = (policy().max_age, Some(Duration::from_secs(256)));
        let start = |age| start(&owed, Found::Known(&plain), pause, age, Duration::ZERO);
        assert!(matches!(start(Duration::ZERO), Start::Wait(wait) if wait == Duration::from_secs(256)));
        let last = Duration::from_secs(7);
        assert!(matches!(start(max_age.saturating_sub(last)), Start::Wait(wait) if wait == last));
        let Start::End(ending) = start(max_age) else { panic!("must end") };
        assert_eq!((ending.outcome, ending.error.unwrap().0), (Outcome::Exhausted, FailureKind::TooOld));
    }

    #[test]
    fn only_a_410_disables_and_never_a_templated_target() {
        let plain = subscription("target: {url: http://h/}");
        let templated = subscription("target: {url: 'http://h/:id', template: true}");
        assert!(disables(&status(410), &plain) && !disables(&status(410), &templated));
        for code in [200, 404, 409, 411, 500] {
            assert!(!disables(&status(code), &plain), "{code}");
        }
        let silence = Answer::None { kind: FailureKind::Timeout, text: String::new() };
        assert!(!disables(&silence, &plain));
    }

    proptest! {
        #[test]
        fn every_chain_of_attempts_ends_within_the_cap_in_exactly_one_ending(
            answers in proptest::collection::vec(answers(), 20), max_attempts in 1u32..=15, max_age in 1u64..100_000,
        ) {
            let policy = RetryPolicy { max_attempts, max_age: Duration::from_secs(max_age), ..policy() };
            let (mut age, mut ended) = (Duration::ZERO, false);
            for (attempt, answer) in (1..).zip(answers) {
                match after_attempt(attempt, &answer, age, &policy) {
                    Step::End(_) => { ended = true; break; }
                    Step::Retry { wait, .. } => {
                        prop_assert!(attempt < max_attempts);
                        age += wait;
                        prop_assert!(age < policy.max_age, "no wait outlives the delivery");
                    }
                }
            }
            prop_assert!(ended);
        }
    }
}
