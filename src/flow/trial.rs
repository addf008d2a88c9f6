//! The test send: a sample event through the real path to one subscription, and how it went. One attempt. It publishes no
//! result, is not retried, disables nothing, and leaves no trace in the register.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::Method;
use tokio::time::timeout;
use uuid::Uuid;

use super::{
    Flow,
    intake::Work,
    ports::Courier,
    turn::{self, Places, Turn},
};
use crate::{
    broker::codec,
    domain::{
        Answer, Attempt, DeliveryId, DocumentEvent, EventName, Owed, Subscription, TRIAL_PREFIX, Target, Timestamp,
        Trial, now,
    },
    payload::sample,
};

/// How a test send went.
#[derive(Debug, Clone, PartialEq)]
pub struct TrialReport {
    /// The event's id.
    pub event_id: String,
    /// The delivery's id, as the receiver saw it.
    pub webhook_id: String,
    /// Where it went, for people: no query, no user information.
    pub target: String,
    /// When it began.
    pub started_at: Timestamp,
    /// How long it took.
    pub latency: Duration,
    /// What was answered, or the exact reason why nothing was.
    pub answer: Answer,
    /// The answer's headers, as far as they were kept.
    pub headers: Vec<(String, String)>,
}

/// Makes test sends, whatever the flow sends through.
pub trait TryOut: Send + Sync + 'static {
    /// As [`Flow::try_out`].
    fn try_out<'a>(
        &'a self,
        subscription: &'a Subscription,
        name: EventName,
        confirm_method: bool,
    ) -> BoxFuture<'a, Result<TrialReport, TrialRefused>>;
}

impl<C: Courier> TryOut for Flow<C> {
    fn try_out<'a>(
        &'a self,
        subscription: &'a Subscription,
        name: EventName,
        confirm_method: bool,
    ) -> BoxFuture<'a, Result<TrialReport, TrialRefused>> {
        Box::pin(Self::try_out(self, subscription, name, confirm_method))
    }
}

/// Why nothing was tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TrialRefused {
    /// The subscription does not get such events.
    #[error("the subscription does not get {0}: expected one of its own events")]
    NotItsEvent(EventName),
    /// PUT and DELETE change something at the receiver: whoever wants that must say so.
    #[error("{0} may change or delete something at the receiver: expected confirm_method true")]
    Unconfirmed(&'static str),
    /// No place came free in time, as it may be for deliveries.
    #[error("its target is busy: too many requests are in flight or in line")]
    Busy,
    /// No new attempts begin.
    #[error("docrelay is stopping")]
    Stopping,
    /// An id could not be made: a defect.
    #[error("the sample event could not be made")]
    NoSample,
}

impl<C: Courier> Flow<C> {
    /// Sends a sample event to one subscription, whether it is enabled or not, and says how it went. It stands in line
    /// for a place like any delivery, and a place that it holds is held no longer than its deadline.
    ///
    /// # Errors
    /// Nothing was tried, and why.
    pub async fn try_out(
        &self,
        subscription: &Subscription,
        name: EventName,
        confirm_method: bool,
    ) -> Result<TrialReport, TrialRefused> {
        check(subscription, name, confirm_method)?;
        let work = sample_work(subscription, name, now()).ok_or(TrialRefused::NoSample)?;
        let draining = &self.stop.draining;
        let owed = Owed::first(subscription.id.clone());
        let ask = turn::ask(subscription, &owed, work.raw.len(), Duration::ZERO, self.settings.delay_unit);
        let coming = timeout(self.patience * 2, self.turn(&ask, subscription));
        let Places { permit, login, place } = match coming.await {
            Ok(Turn::Come(places)) if !draining.is_cancelled() => places,
            Ok(Turn::Come(_) | Turn::Stopping) => return Err(TrialRefused::Stopping),
            Ok(Turn::Park(_) | Turn::TooLate(_)) | Err(_) => return Err(TrialRefused::Busy),
        };
        let delivery = DeliveryId::of(&work.event.id, &subscription.id);
        let attempt = self.attempt(&work, subscription, (delivery, 1), place, login, None).await;
        permit.finished(turn::heard(&attempt));
        let Attempt { started_at, latency, answer } = attempt;
        tracing::info!(
            docrelay.subscription = %subscription.id, docrelay.organization = %subscription.organization,
            docrelay.event = %name, docrelay.target = subscription.target.address(), "Test send made"
        );
        Ok(TrialReport {
            event_id: work.event.id.to_string(),
            webhook_id: Trial::id_of(delivery),
            target: subscription.target.address(),
            started_at,
            latency,
            answer,
            headers: work.trial.map(Trial::into_headers).unwrap_or_default(),
        })
    }
}

fn check(subscription: &Subscription, name: EventName, confirm_method: bool) -> Result<(), TrialRefused> {
    if !subscription.events.contains(name) {
        return Err(TrialRefused::NotItsEvent(name));
    }
    let method = match &subscription.target {
        Target::Http(target) if target.method == Method::PUT => "PUT",
        Target::Http(target) if target.method == Method::DELETE => "DELETE",
        Target::Http(_) | Target::Amqp(_) => return Ok(()),
    };
    if confirm_method { Ok(()) } else { Err(TrialRefused::Unconfirmed(method)) }
}

/// A sample event that the subscription would get, in an inbox of its own if it has any.
fn sample_work(subscription: &Subscription, name: EventName, now: Timestamp) -> Option<Work> {
    let number = Uuid::now_v7();
    let event = DocumentEvent {
        id: format!("{TRIAL_PREFIX}{number}").parse().ok()?,
        occurred_at: Some(now),
        organization: subscription.organization.clone(),
        project: subscription.projects.first().cloned(),
        inbox: subscription.inboxes.first().cloned(),
        document: format!("{TRIAL_PREFIX}document-{number}").parse().ok()?,
        metadata: [("source".to_owned(), "docrelay test".to_owned())].into(),
        happening: sample::happening(name, now),
    };
    let raw = Bytes::from(codec::encode_event(&event));
    Some(Work::of_trial(event, raw, now))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::codec::Checked;

    fn subscription(rest: &str) -> Subscription {
        let text = format!("subscriptions: [{{id: a, organization: acme, {rest}}}]");
        let defaults = crate::store::Defaults::from(&crate::config::load(&[], std::iter::empty()).unwrap());
        crate::store::parse(&text, &defaults).unwrap().remove(0)
    }

    #[test]
    fn put_and_delete_must_be_confirmed_and_the_event_must_be_its_own() {
        for (method, is_safe) in [("POST", true), ("GET", true), ("PUT", false), ("DELETE", false)] {
            let it = subscription(&format!("events: [document_text], target: {{url: http://h/, method: {method}}}"));
            assert_eq!(check(&it, EventName::DocumentText, false).is_ok(), is_safe, "{method}");
            assert_eq!(check(&it, EventName::DocumentText, true), Ok(()), "{method}");
            let other = check(&it, EventName::DocumentFail, true);
            assert_eq!(other, Err(TrialRefused::NotItsEvent(EventName::DocumentFail)));
        }
    }

    #[test]
    fn every_sample_is_an_event_that_docrelay_accepts_and_says_that_it_is_a_test() {
        let it = subscription("inboxes: [i], projects: [p], events: [document_text], target: {url: http://h/}");
        for name in EventName::ALL {
            let work = sample_work(&it, name, now()).unwrap();
            assert_eq!(codec::decode_event(&work.raw, 8 << 20, Checked::NotYet).as_ref(), Ok(&work.event));
            assert!(work.event.id.as_str().starts_with("test-") && work.event.document.as_str().starts_with("test-"));
            assert_eq!(work.event.inbox, it.inboxes.first().cloned());
        }
    }
}
