//! What the database holds of a subscription, and how a row is read.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sqlx::{Row as _, any::AnyRow};

use super::StoreError;
use crate::{
    domain::{OrganizationId, Secret, SubscriptionId, Timestamp},
    secrets::{KeyRing, OpenError, Owner},
};

/// The columns that [`entry`] reads.
macro_rules! columns {
    () => {
        "id, organization, origin, singular, document, secrets, created_at, updated_at, disabled_reason, deleted_at, sequence, changed"
    };
}
pub(super) use columns;

/// Which API made a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Origin {
    /// `/v1/subscriptions`
    Api,
    /// `/integrations`
    ContractFit,
    /// `/document_webhooks`
    Idexa,
}

/// No origin has this name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected api, contractfit or idexa")]
pub struct UnknownOrigin;

impl Origin {
    /// Every origin.
    pub const ALL: [Self; 3] = [Self::Api, Self::ContractFit, Self::Idexa];

    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::ContractFit => "contractfit",
            Self::Idexa => "idexa",
        }
    }
}

impl FromStr for Origin {
    type Err = UnknownOrigin;

    fn from_str(text: &str) -> Result<Self, UnknownOrigin> {
        Self::ALL.into_iter().find(|origin| origin.as_str() == text).ok_or(UnknownOrigin)
    }
}

/// A subscription to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSubscription {
    /// Its id, never used before.
    pub id: SubscriptionId,
    /// Whose it is.
    pub organization: OrganizationId,
    /// Which API makes it.
    pub origin: Origin,
    /// What the organization may have only one of.
    pub singular: Option<String>,
    /// What it says.
    pub content: Content,
}

/// What a subscription says. The secrets are a JSON object as well; laid over the document they make it whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// The canonical JSON without secrets, and without what the row knows by itself (id, organization, times).
    pub document: String,
    /// The secrets, encrypted at rest.
    pub secrets: Option<Secret>,
    /// Why it is disabled by the system, if it is.
    pub disabled_reason: Option<String>,
}

/// A stored subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its id.
    pub id: SubscriptionId,
    /// Whose it is.
    pub organization: OrganizationId,
    /// Which API made it.
    pub origin: Origin,
    /// What the organization may have only one of.
    pub singular: Option<String>,
    /// The canonical JSON without secrets.
    pub document: String,
    /// The secrets, or why they cannot be read: then nothing may be sent for it, and it can still be listed and deleted.
    pub secrets: Result<Option<Secret>, OpenError>,
    /// When it was made, to the microsecond.
    pub created_at: Timestamp,
    /// When it was changed last, to the microsecond. No two changes of a row have the same.
    pub updated_at: Timestamp,
    /// Why it is disabled by the system, if it is.
    pub disabled_reason: Option<String>,
    /// Its place among all, in the order they were made.
    pub(in crate::store) sequence: i64,
    /// What the change counter was raised to by its last change.
    pub changed: ChangeCounter,
}

/// What is left of a deleted subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tombstone {
    /// Its id.
    pub id: SubscriptionId,
    /// Whose it was.
    pub organization: OrganizationId,
    /// When it was deleted.
    pub deleted_at: Timestamp,
    /// What the change counter was raised to by its deletion.
    pub changed: ChangeCounter,
}

/// How many changes there have been. What has a greater one came later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct ChangeCounter(pub(super) i64);

#[cfg(test)]
impl ChangeCounter {
    pub(in crate::store) fn at(changes: i64) -> Self {
        Self(changes)
    }
}

impl fmt::Display for ChangeCounter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where the next page of a list begins. Its text is for giving back, not for reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor(pub(super) i64);

/// A text that no list gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is no cursor: give back what the list gave, or leave it out")]
pub struct BadCursor;

/// The form of a cursor's text, so that another one can be told from it one day.
const CURSOR_FORM: u8 = 1;

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = [&[CURSOR_FORM][..], &self.0.to_be_bytes()].concat();
        f.write_str(&URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl FromStr for Cursor {
    type Err = BadCursor;

    fn from_str(text: &str) -> Result<Self, BadCursor> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| BadCursor)?;
        match bytes.split_first() {
            Some((&CURSOR_FORM, rest)) => {
                rest.try_into().map(|rest| Self(i64::from_be_bytes(rest))).map_err(|_| BadCursor)
            }
            _ => Err(BadCursor),
        }
    }
}

/// What a row of the table is.
pub(super) enum Entry {
    Kept(Box<Row>),
    Gone(Tombstone),
}

/// Reads a row that has [`columns`].
pub(super) fn entry(row: &AnyRow, keys: &KeyRing) -> Result<Entry, StoreError> {
    let name: String = row.try_get("id")?;
    let damaged = |what: String| StoreError::Damaged { id: name.clone(), what };
    let time = |column: &str| -> Result<Option<Timestamp>, StoreError> {
        row.try_get::<Option<i64>, _>(column)?
            .map(|micros| from_micros(micros).ok_or_else(|| damaged(format!("{column} is no time"))))
            .transpose()
    };
    let needed = |column: &str| time(column)?.ok_or_else(|| damaged(format!("{column} is empty")));
    let id: SubscriptionId = name.parse().map_err(|error| damaged(format!("id {error}")))?;
    let organization: String = row.try_get("organization")?;
    let organization: OrganizationId =
        organization.parse().map_err(|error| damaged(format!("organization {error}")))?;
    let changed = ChangeCounter(row.try_get("changed")?);
    if let Some(deleted_at) = time("deleted_at")? {
        return Ok(Entry::Gone(Tombstone { id, organization, deleted_at, changed }));
    }
    let origin: String = row.try_get("origin")?;
    let secrets = match row.try_get::<Option<Vec<u8>>, _>("secrets")? {
        Some(blob) => keys.open(&blob, Owner { organization: &organization, id: &id }).map(Some),
        None => Ok(None),
    };
    Ok(Entry::Kept(Box::new(Row {
        origin: origin.parse().map_err(|error| damaged(format!("origin: {error}")))?,
        singular: row.try_get("singular")?,
        document: row.try_get("document")?,
        secrets,
        created_at: needed("created_at")?,
        updated_at: needed("updated_at")?,
        disabled_reason: row.try_get("disabled_reason")?,
        sequence: row.try_get("sequence")?,
        changed,
        id,
        organization,
    })))
}

/// Reads a row that was not deleted.
pub(super) fn kept(row: &AnyRow, keys: &KeyRing) -> Result<Row, StoreError> {
    match entry(row, keys)? {
        Entry::Kept(row) => Ok(*row),
        Entry::Gone(tombstone) => {
            Err(StoreError::Damaged { id: tombstone.id.to_string(), what: "it was deleted".to_owned() })
        }
    }
}

/// Microseconds since 1970: what both databases count and nobody has to parse.
pub(super) fn to_micros(time: Timestamp) -> i64 {
    let (seconds, nanos) = time.to_unix();
    seconds.saturating_mul(1_000_000).saturating_add(i64::from(nanos / 1000))
}

/// The time that so many microseconds since 1970 are.
pub(super) fn from_micros(micros: i64) -> Option<Timestamp> {
    let nanos = i32::try_from(micros.rem_euclid(1_000_000)).ok()? * 1000;
    Timestamp::from_unix(micros.div_euclid(1_000_000), nanos)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_cursor_survives_the_round_trip(number in any::<i64>()) {
            prop_assert_eq!(Cursor(number).to_string().parse(), Ok(Cursor(number)));
        }

        #[test]
        fn any_text_is_a_cursor_or_refused(text in ".*") {
            if let Ok(cursor) = text.parse::<Cursor>() {
                prop_assert_eq!(cursor.to_string(), text);
            }
        }

        #[test]
        fn a_time_survives_the_round_trip_to_the_microsecond(micros in -10_000_000_000_000_000i64..10_000_000_000_000_000) {
            prop_assert_eq!(from_micros(micros).map(to_micros), Some(micros));
        }
    }

    #[test]
    fn an_origin_reads_back_as_it_is_written() {
        for origin in Origin::ALL {
            assert_eq!(origin.as_str().parse(), Ok(origin));
        }
        assert_eq!("file".parse::<Origin>(), Err(UnknownOrigin));
    }
}
