//! The test send: which subscription, which sample, and how it went, as JSON.

use std::{fmt, sync::Weak, time::Duration};

use serde_json::{Value, json};

use super::{
    desk::{Desk, Refusal, Scope},
    problem::FieldError,
    secrets::{Json, pointer},
};
use crate::{
    domain::{Answer, EventName, SubscriptionId, Target},
    flow::{TrialRefused, TrialReport, TryOut},
};

/// The longest a test send may take: whoever asked waits for it.
const LONGEST: Duration = Duration::from_secs(20);

/// Whoever makes test sends, as long as it is there: the API keeps nobody from stopping.
#[derive(Clone)]
pub(super) struct Trials(pub(super) Weak<dyn TryOut>);

impl fmt::Debug for Trials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Trials")
    }
}

/// What somebody wants tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Wish {
    /// Which sample; the first of the subscription's events, unless it says.
    event: Option<EventName>,
    /// Whether PUT and DELETE are meant.
    confirm_method: bool,
}

impl Wish {
    /// Reads a wish.
    ///
    /// # Errors
    /// Fields are not accepted.
    pub(super) fn of(given: &Json) -> Result<Self, Vec<FieldError>> {
        let (mut wish, mut errors) = (Self::default(), Vec::new());
        for (name, value) in given {
            match (name.as_str(), value) {
                ("event" | "confirm_method", Value::Null) => {}
                ("event", Value::String(text)) => match text.parse() {
                    Ok(event) => wish.event = Some(event),
                    Err(error) => errors.push(FieldError::at("/event", format!("{error}"))),
                },
                ("event", _) => errors.push(FieldError::at("/event", "expected text: the name of an event")),
                ("confirm_method", Value::Bool(claim)) => wish.confirm_method = *claim,
                ("confirm_method", _) => {
                    errors.push(FieldError::at("/confirm_method", "expected true or false"));
                }
                _ => {
                    let at = pointer(std::slice::from_ref(name));
                    errors.push(FieldError::at(at, "is not known: expected event or confirm_method"));
                }
            }
        }
        if errors.is_empty() { Ok(wish) } else { Err(errors) }
    }
}

impl Desk {
    /// Sends a sample event to a subscription, enabled or not, and says how it went.
    ///
    /// # Errors
    /// It is not there, the wish does not fit it, its target is busy, or the store is away.
    pub(super) async fn try_out(&self, scope: Scope<'_>, id: &SubscriptionId, wish: Wish) -> Result<Json, Refusal> {
        let mut subscription = self.subscription(scope, id).await?;
        match &mut subscription.target {
            Target::Http(target) => target.timeout = target.timeout.min(LONGEST),
            Target::Amqp(target) => target.timeout = target.timeout.min(LONGEST),
        }
        let name = wish.event.or_else(|| subscription.events.iter().next());
        let name = name.ok_or_else(|| Refusal::Defect("the subscription has no event to try".to_owned()))?;
        // Whoever makes them goes when docrelay stops, and is there as long as it runs.
        let trials = self.trials().and_then(|Trials(trials)| trials.upgrade());
        let trials = trials.ok_or_else(|| Refusal::Busy(TrialRefused::Stopping.to_string()))?;
        let report = trials.try_out(&subscription, name, wish.confirm_method).await.map_err(refusal)?;
        Ok(shown(report))
    }
}

fn refusal(refused: TrialRefused) -> Refusal {
    let at = |pointer: &str| Refusal::Invalid(vec![FieldError::at(pointer, refused.to_string())]);
    match refused {
        TrialRefused::NotItsEvent(_) => at("/event"),
        TrialRefused::Unconfirmed(_) => at("/confirm_method"),
        TrialRefused::Busy | TrialRefused::Stopping => Refusal::Busy(refused.to_string()),
        TrialRefused::NoSample => Refusal::Defect(refused.to_string()),
    }
}

fn shown(report: TrialReport) -> Json {
    let TrialReport { event_id, webhook_id, target, started_at, latency, answer, headers } = report;
    let (status, body, cut, error) = match answer {
        Answer::Response { status, body, cut, .. } => {
            (Some(status), Some(String::from_utf8_lossy(&body).into_owned()), cut, None)
        }
        // A broker says yes, and nothing else.
        Answer::Taken => (None, None, false, None),
        Answer::None { kind, text } | Answer::Refused { kind, text } | Answer::Unsendable { kind, text } => {
            (None, None, false, Some((kind, text)))
        }
    };
    let (kind, text) = error.map(|(kind, text)| (kind.as_str(), text)).unzip();
    let headers: Vec<_> = headers.into_iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
    let report = json!({
        "event_id": event_id,
        "webhook_id": webhook_id,
        "target": target,
        "started_at": started_at.to_rfc3339(),
        "latency_ms": u64::try_from(latency.as_millis()).unwrap_or(u64::MAX),
        "status": status,
        "headers": headers,
        "body": body,
        "body_cut": cut,
        "error": kind,
        "error_text": text,
    });
    if let Value::Object(report) = report { report } else { Json::new() }
}
