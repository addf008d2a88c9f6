//! What a unit test begins with: a subscription as the settings that are shipped make it. Only a test may use it.

use std::time::Duration;

use super::{
    Auth, EventName, LaneKey, OrganizationId, Payload, RetryOn, RetryPolicy, State, Subscription, Target, WhileDown,
};

impl RetryPolicy {
    pub(crate) fn shipped() -> Self {
        Self {
            on: RetryOn::AnyFailure,
            backoff: Duration::from_secs(2),
            max_attempts: 10,
            max_age: Duration::from_hours(24),
            while_down: WhileDown::Count,
        }
    }
}

impl Subscription {
    /// An organization's subscription to every event that goes there.
    pub(crate) fn shipped(organization: OrganizationId, target: Target) -> Self {
        Self {
            id: "a-subscription".parse().unwrap(),
            name: String::new(),
            lane: LaneKey::of_target(&organization, &target),
            organization,
            inboxes: Vec::new(),
            projects: Vec::new(),
            events: EventName::ALL.into_iter().collect(),
            payload: Payload::ContractFit,
            file: None,
            target,
            auth: Auth::Fixed,
            signing_secrets: Vec::new(),
            retry: RetryPolicy::shipped(),
            rate_limit: None,
            max_in_flight: 32,
            state: State::Enabled,
        }
    }
}
