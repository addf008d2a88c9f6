//! A subscription that is made without a file or a database: everything a test does not ask about is as it is shipped.

use std::time::Duration;

use docrelay::domain::{
    Auth, EventName, LaneKey, Payload, RetryOn, RetryPolicy, State, Subscription, Target, WhileDown,
};

/// An organization's subscription `sub` to every event.
pub(crate) fn subscription_of(organization: &str, payload: Payload, target: Target) -> Subscription {
    let organization = organization.parse().unwrap();
    Subscription {
        id: "sub".parse().unwrap(),
        name: "a test's".into(),
        lane: LaneKey::of_target(&organization, &target),
        organization,
        inboxes: vec![],
        projects: vec![],
        events: EventName::ALL.into_iter().collect(),
        payload,
        file: None,
        target,
        auth: Auth::Fixed,
        signing_secrets: Vec::new(),
        retry: RetryPolicy {
            on: RetryOn::AnyFailure,
            backoff: Duration::from_secs(2),
            max_attempts: 10,
            max_age: Duration::from_hours(24),
            while_down: WhileDown::Count,
        },
        rate_limit: None,
        max_in_flight: 32,
        state: State::Enabled,
    }
}
