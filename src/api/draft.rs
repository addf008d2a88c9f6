//! What becomes of a subscription by a patch: laid over what is stored, its secrets kept or made, bounded, and checked by the
//! rules of the file. Stores nothing.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use uuid::Uuid;

use super::{
    desk::Refusal,
    problem::FieldError,
    request::MOST_BYTES,
    secrets::{self, Json, at},
};
use crate::{
    domain::{OrganizationId, Secret, Subscription, SubscriptionId},
    secrets::SealError,
    store::{
        self, FileProblems, Subscriptions,
        database::{Content, StoreError},
    },
};

/// Bytes of a signing secret that is made here.
const SIGNING_SECRET_BYTES: usize = 32;

/// Where an exchange is named.
const EXCHANGE: &[&str] = &["target", "exchange"];

/// A subscription that may be stored.
pub(super) struct Draft {
    whole: Json,
    pub(super) subscription: Subscription,
    /// The signing secrets that were made, with their positions.
    pub(super) generated: Vec<(usize, String)>,
}

impl Draft {
    /// A stored subscription after a patch; a new one is a patch of nothing.
    ///
    /// # Errors
    /// Fields are not accepted.
    pub(super) fn of(
        known: &Subscriptions,
        organization: &OrganizationId,
        id: &SubscriptionId,
        stored: &Json,
        patch: &Json,
    ) -> Result<Self, Refusal> {
        let (mut whole, kept) = secrets::patched(stored, patch);
        let mut errors = kept.err().unwrap_or_default();
        errors.extend(too_large(&whole));
        let generated = secrets::generate(&mut whole, signing_secret).map_err(StoreError::from)?;
        // An exchange that was allowed when it was given may stand there, though nothing is published to it any more:
        // otherwise nothing else could be changed, not even that it is enabled.
        let is_old = at(&whole, EXCHANGE).is_some_and(|exchange| at(stored, EXCHANGE) == Some(exchange));
        let defaults = if is_old { known.stored_defaults() } else { known.defaults() };
        match store::from_json(whole.clone(), organization, id, defaults) {
            Ok(subscription) if errors.is_empty() => Ok(Self { whole, subscription, generated }),
            checked => {
                let more = checked.err();
                let more = more.iter().flat_map(FileProblems::iter).map(FieldError::from);
                // What was told about a secret is not told again in other words.
                let more: Vec<_> = more.filter(|error| !errors.iter().any(|known| error.is_within(known))).collect();
                errors.extend(more);
                Err(Refusal::Invalid(errors))
            }
        }
    }

    /// The same to be stored.
    pub(super) fn content(&self, aside: &Json, disabled_reason: Option<String>) -> Content {
        let (mut open, secret) = secrets::split(&self.whole);
        if !aside.is_empty() {
            open.insert(store::ASIDE.to_owned(), aside.clone().into());
        }
        Content { document: text(open), secrets: secret.map(|json| Secret::new(text(json))), disabled_reason }
    }
}

/// What is wrong with a subscription that grew by one patch after the other.
fn too_large(whole: &Json) -> Option<FieldError> {
    let bytes = text(whole.clone()).len();
    let expected = format!("at most {MOST_BYTES} bytes as JSON, secrets included");
    let error = || FieldError::at("", format!("expected {expected}, got {bytes}")).expecting(expected);
    (bytes > MOST_BYTES).then(error)
}

fn text(json: Json) -> String {
    serde_json::Value::Object(json).to_string()
}

/// A signing secret that nobody had before (Standard Webhooks: `whsec_` and base64 of random bytes).
fn signing_secret() -> Result<String, SealError> {
    let mut bytes = [0; SIGNING_SECRET_BYTES];
    getrandom::fill(&mut bytes).map_err(|_| SealError::NoRandomness)?;
    Ok(format!("whsec_{}", BASE64_STANDARD.encode(bytes)))
}

/// An id for a new subscription.
pub(super) fn new_id() -> Result<SubscriptionId, StoreError> {
    // Never: a UUID has 36 bytes.
    Uuid::new_v4().to_string().parse().map_err(|_| StoreError::from(SealError::NoRandomness))
}
