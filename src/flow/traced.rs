//! What the flow tells of itself as spans. What a span says and whether it is recorded is `telemetry::trace`'s; here is only
//! when. Nothing is made where nothing is recorded.

use std::time::Duration;

use super::{Flow, intake::Work, ports::Courier};
use crate::{
    broker::{Confirmed, OutboxError, Properties, outbox::Made},
    domain::{
        Attempt, DeliveryId, DeliveryResult, DocumentEvent, Outcome, Owed, Subscription, SubscriptionDisabled,
        TraceContext, now,
    },
    telemetry::trace::{Begun, ProcessEnd, Processed, Published, Scope, Tried, Waited},
};

/// The span of an attempt that is about to be made, and how long it waited for its turn.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) scope: Option<Scope>,
    pub(super) waited: Duration,
}

impl<C: Courier> Flow<C> {
    /// An event comes in: if it is recorded, what belongs to it from here on belongs to its span. If it is not, its context
    /// says so, whatever upstream does.
    pub(super) fn take_in(&self, properties: &mut Properties) -> Option<Begun> {
        let Some(begun) = self.tracer.take_in(&properties.trace, now()) else {
            if self.tracer.is_on() {
                properties.trace.clear_sampled();
            }
            return None;
        };
        // Without a trace that it belongs to a state means nothing.
        let state = properties.trace.parse().and_then(|_| properties.trace.tracestate.take());
        properties.trace = begun.context(state.as_deref());
        Some(begun)
    }

    /// A message is settled, or left to the broker.
    pub(super) fn processed(
        &self,
        begun: Option<Begun>,
        event: Option<&DocumentEvent>,
        bytes: usize,
        end: Option<ProcessEnd>,
    ) {
        if let Some(begun) = begun {
            let end = end.unwrap_or(ProcessEnd::LeftToBroker);
            self.tracer.processed(begun, &Processed { event, bytes, end });
        }
    }

    /// A wait in the broker begins, if none of its kind goes on.
    pub(super) fn wait_begins(&self, work: &Work, owed: &mut Owed, goes_on: bool) {
        if owed.waiting_since.is_none() || !goes_on {
            self.wait_ends(work, owed);
            owed.waiting_since = self.tracer.records(work.context()).then(now);
        }
    }

    /// A wait in the broker is over: an attempt follows, or the end, or a wait for something else.
    pub(super) fn wait_ends(&self, work: &Work, owed: &mut Owed) {
        let Some(since) = owed.waiting_since.take() else { return };
        let waited = Waited {
            event: &work.event,
            subscription: &owed.subscription,
            delivery: DeliveryId::of(&work.event.id, &owed.subscription),
            wait: owed.wait,
            since,
            attempt: owed.attempts + 1,
        };
        self.tracer.waited(work.context(), &waited);
    }

    /// Publishes a result of something that belongs to `context`.
    pub(super) async fn publish_result(
        &self,
        result: &DeliveryResult,
        context: &TraceContext,
    ) -> Result<Confirmed, OutboxError> {
        let begun = self.tracer.below(context);
        let own = begun.map(|begun| begun.context(context.tracestate.as_deref()));
        let published = self.outbox.result(result, own.as_ref().unwrap_or(context), now()).await;
        if let Some(begun) = begun {
            self.tracer.published(begun, Published::Result(result), published.is_ok());
        }
        published
    }

    /// Publishes that a subscription was disabled by something that belongs to `context`.
    pub(super) async fn publish_disabled(
        &self,
        disabled: &SubscriptionDisabled,
        made: Made,
        context: &TraceContext,
    ) -> Result<Confirmed, OutboxError> {
        let begun = self.tracer.below(context);
        let own = begun.map(|begun| begun.context(context.tracestate.as_deref()));
        let published = self.outbox.subscription_disabled(disabled, made, own.as_ref().unwrap_or(context)).await;
        if let Some(begun) = begun {
            self.tracer.published(begun, Published::Disabled(disabled), published.is_ok());
        }
        published
    }

    /// An attempt was made, and it is decided what follows. One that failed makes its event one that is recorded: it is
    /// counted after that, so that the figures lead to its trace. Says whether it is left out of what is recorded.
    pub(super) fn attempt_made(
        &self,
        work: &Work,
        seen: Seen,
        subscription: &Subscription,
        (delivery, number): (DeliveryId, u32),
        attempt: &Attempt,
        outcome: Outcome,
    ) -> bool {
        let Seen { scope, waited } = seen;
        let mut is_left_out = false;
        if let Some(scope) = scope {
            let tried = Tried { event: &work.event, subscription, delivery, number, attempt, outcome, waited };
            is_left_out = scope.is_left_out(&tried);
            if let Some(late) = scope.tried(&tried, &work.trace, work.late.get()) {
                // Set already only if another attempt failed, and then none is given.
                drop(work.late.set(late));
            }
        }
        let context = work.context_of(is_left_out);
        self.metrics.attempt_made(subscription, &attempt.answer, attempt.latency, context);
        is_left_out
    }
}
