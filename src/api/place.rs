//! Where the next page of a list begins: within the subscriptions of the file, within the stored ones, or behind a target.
//! Pure.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::{
    domain::{SubscriptionId, TargetId},
    store::{
        TargetPlace,
        database::{BadCursor, Cursor},
    },
};

/// What the bytes of a place within the file begin with; a cursor of the database begins with another one.
const DECLARED_FORM: u8 = 2;

/// What the bytes of a place behind a target begin with.
const TARGET_FORM: u8 = 3;

/// Where the next page begins. Its text is for giving back, not for reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// Behind this one of the file.
    Declared(SubscriptionId),
    /// Within the stored ones.
    Stored(Cursor),
}

impl Place {
    /// The last one of the file that was listed.
    #[must_use]
    pub(super) fn declared(&self) -> Option<&SubscriptionId> {
        match self {
            Self::Declared(id) => Some(id),
            Self::Stored(_) => None,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Declared(id) => {
                f.write_str(&URL_SAFE_NO_PAD.encode([&[DECLARED_FORM], id.as_str().as_bytes()].concat()))
            }
            Self::Stored(cursor) => cursor.fmt(f),
        }
    }
}

impl FromStr for Place {
    type Err = BadCursor;

    fn from_str(text: &str) -> Result<Self, BadCursor> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| BadCursor)?;
        match bytes.split_first() {
            Some((&DECLARED_FORM, id)) => {
                let id = std::str::from_utf8(id).map_err(|_| BadCursor)?;
                id.parse().map(Self::Declared).map_err(|_| BadCursor)
            }
            _ => text.parse().map(Self::Stored),
        }
    }
}

/// Where the next page of targets begins: behind this one. Its text is for giving back, not for reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Behind(pub(super) TargetPlace);

impl fmt::Display for Behind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (organization, id) = &self.0;
        f.write_str(
            &URL_SAFE_NO_PAD.encode([&[TARGET_FORM], &id.to_bytes()[..], organization.as_str().as_bytes()].concat()),
        )
    }
}

impl FromStr for Behind {
    type Err = BadCursor;

    fn from_str(text: &str) -> Result<Self, BadCursor> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| BadCursor)?;
        let Some((&TARGET_FORM, rest)) = bytes.split_first() else { return Err(BadCursor) };
        let (id, organization) = rest.split_first_chunk().ok_or(BadCursor)?;
        let organization = std::str::from_utf8(organization).map_err(|_| BadCursor)?;
        Ok(Self((organization.parse().map_err(|_| BadCursor)?, TargetId::from_bytes(*id))))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_place_survives_the_round_trip(id in ".{1,16}") {
            let place = Place::Declared(id.parse().unwrap());
            prop_assert_eq!(place.to_string().parse(), Ok(place));
        }

        #[test]
        fn a_place_behind_a_target_survives_the_round_trip(organization in ".{1,16}", id in any::<[u8; 16]>()) {
            let place = Behind((organization.parse().unwrap(), TargetId::from_bytes(id)));
            prop_assert_eq!(place.to_string().parse(), Ok(place));
        }

        #[test]
        fn any_text_is_a_place_or_refused(text in "[A-Za-z0-9_-]{0,20}|.*") {
            if let Ok(place) = text.parse::<Place>() {
                prop_assert_eq!(place.to_string(), text.as_str());
            }
            if let Ok(place) = text.parse::<Behind>() {
                prop_assert_eq!(place.to_string(), text);
            }
        }
    }
}
