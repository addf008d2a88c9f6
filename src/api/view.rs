//! A subscription as it is shown: canonical JSON with everything that is in force, secrets hidden, and what docrelay tells
//! about it. Pure.

use std::fmt;

use serde_json::Value;

use super::{
    problem::FieldError,
    render,
    secrets::{self, Json},
};
use crate::{
    domain::{FailureKind, OrganizationId, State, Subscription, SubscriptionId, Timestamp},
    store::{
        self, Defaults,
        database::{Origin, Row},
    },
};

/// Fields that docrelay tells. `organization` is given when a subscription is made, and never changes.
const TOLD: [&str; 6] = ["id", "organization", "origin", "created_at", "updated_at", "disabled_reason"];

/// The origin of those that the file declares.
const FILE: &str = "file";

/// A subscription as it is shown.
#[derive(Clone, PartialEq)]
pub(super) struct Shown {
    /// Its id.
    pub(super) id: SubscriptionId,
    /// Whose it is.
    pub(super) organization: OrganizationId,
    /// Which API made it; `None` when the file declares it.
    pub(super) origin: Option<Origin>,
    /// When it was made; unknown of the file's.
    pub(super) created_at: Option<Timestamp>,
    /// When it was changed last; unknown of the file's.
    pub(super) updated_at: Option<Timestamp>,
    /// Why the system disabled it, if it did.
    pub(super) disabled_reason: Option<String>,
    /// The canonical JSON without what stands above; secrets are hidden.
    pub(super) document: Json,
    /// The part of it that was said, without what is in force where nothing was said.
    pub(super) said: Json,
    /// What a product said that has no place in the canonical JSON.
    pub(super) aside: Json,
}

impl fmt::Debug for Shown {
    /// Signing secrets that were just made stand in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shown").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A subscription of the file.
pub(super) fn declared(subscription: &Subscription) -> Shown {
    Shown {
        id: subscription.id.clone(),
        organization: subscription.organization.clone(),
        origin: None,
        created_at: None,
        updated_at: None,
        disabled_reason: (subscription.state == State::Gone).then(|| FailureKind::Gone.to_string()),
        document: render::declared(subscription),
        said: Json::new(),
        aside: Json::new(),
    }
}

/// A stored subscription: what it says, and what is in force where it says nothing. One that cannot be read is shown as
/// far as it can be.
pub(super) fn stored(row: &Row, defaults: &Defaults) -> Shown {
    let mut document = match store::from_document(row, defaults) {
        Ok(subscription) => render::in_force(&subscription),
        Err(_) => Json::new(),
    };
    let mut said = match store::whole(row) {
        Ok(whole) => secrets::hidden(&whole),
        Err(_) => serde_json::from_str(&row.document).unwrap_or_default(),
    };
    said.shift_remove(store::ASIDE);
    store::lay_over(&mut document, said.clone());
    if row.disabled_reason.is_some() {
        document.insert("enabled".to_owned(), false.into());
    }
    Shown {
        id: row.id.clone(),
        organization: row.organization.clone(),
        origin: Some(row.origin),
        created_at: Some(row.created_at),
        updated_at: Some(row.updated_at),
        disabled_reason: row.disabled_reason.clone(),
        document,
        said,
        aside: store::aside(row),
    }
}

impl Shown {
    /// The canonical JSON, whole.
    #[must_use]
    pub(super) fn to_json(&self) -> Json {
        let time = |time: Option<Timestamp>| time.map_or(Value::Null, |time| time.to_rfc3339().into());
        let mut json = Json::new();
        json.insert("id".to_owned(), self.id.as_str().into());
        json.insert("organization".to_owned(), self.organization.as_str().into());
        json.extend(self.document.clone());
        json.insert("origin".to_owned(), self.origin.map_or(FILE, Origin::as_str).into());
        json.insert("created_at".to_owned(), time(self.created_at));
        json.insert("updated_at".to_owned(), time(self.updated_at));
        json.insert("disabled_reason".to_owned(), self.disabled_reason.clone().into());
        json
    }

    /// What tells this version from the next one; none where the file declares it.
    #[must_use]
    pub(super) fn etag(&self) -> Option<String> {
        self.updated_at.map(|time| format!("\"{}\"", micros(time)))
    }

    /// The same, showing the signing secrets that were just made. Never again.
    #[must_use]
    pub(super) fn with_generated(mut self, generated: Vec<(usize, String)>) -> Self {
        if let Some(Value::Array(secrets)) = self.document.get_mut("signing_secrets") {
            for (position, secret) in generated {
                if let Some(place) = secrets.get_mut(position) {
                    *place = secret.into();
                }
            }
        }
        self
    }
}

/// A patch without what docrelay tells by itself, so that what was read can be given back as a whole.
///
/// # Errors
/// It would change some of that.
pub(super) fn without_what_is_told(shown: &Shown, patch: &Json) -> Result<Json, Vec<FieldError>> {
    let (told, mut rest) = (shown.to_json(), patch.clone());
    rest.retain(|name, value| !TOLD.contains(&name.as_str()) || told.get(name) != Some(value));
    told_by_nobody(&rest).map(|()| rest)
}

/// Checks that nothing is given that only docrelay tells.
///
/// # Errors
/// Something is.
pub(super) fn told_by_nobody(given: &Json) -> Result<(), Vec<FieldError>> {
    let told = TOLD.into_iter().filter(|name| given.contains_key(*name));
    let errors: Vec<_> = told.map(|name| FieldError::at(format!("/{name}"), "is read-only: leave it out")).collect();
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

/// The time that an entity tag stands for.
#[must_use]
pub(super) fn of_etag(text: &str) -> Option<Timestamp> {
    let micros: i64 = text.strip_prefix('"')?.strip_suffix('"')?.parse().ok()?;
    let nanos = i32::try_from(micros.rem_euclid(1_000_000)).ok()? * 1000;
    Timestamp::from_unix(micros.div_euclid(1_000_000), nanos)
}

/// Whether two times are the same change: the database keeps microseconds.
#[must_use]
pub(super) fn is_same(one: Timestamp, other: Timestamp) -> bool {
    micros(one) == micros(other)
}

fn micros(time: Timestamp) -> i64 {
    let (seconds, nanos) = time.to_unix();
    seconds.saturating_mul(1_000_000).saturating_add(i64::from(nanos / 1000))
}
