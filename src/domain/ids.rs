//! Names and ids from outside: never empty, never longer than [`MAX_ID_BYTES`], cheap to clone.

use std::{fmt, str::FromStr, sync::Arc};

/// The most bytes an id or a name may have.
pub const MAX_ID_BYTES: usize = 64;

/// Why a text is not an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadId {
    /// There is no text.
    #[error("must not be empty")]
    Empty,
    /// The text has more than [`MAX_ID_BYTES`] bytes.
    #[error("must have at most {MAX_ID_BYTES} bytes, has {0}")]
    TooLong(usize),
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The same text for whoever keeps it: no copy is made.
            #[must_use]
            pub fn shared(&self) -> Arc<str> {
                Arc::clone(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = BadId;

            fn from_str(text: &str) -> Result<Self, BadId> {
                match text.len() {
                    0 => Err(BadId::Empty),
                    length if length > MAX_ID_BYTES => Err(BadId::TooLong(length)),
                    _ => Ok(Self(text.into())),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({:?})", stringify!($name), &*self.0)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

id!(
    /// A document event's id, given by its producer and reused when the producer repeats itself.
    EventId
);
id!(
    /// An organization: nothing ever crosses from one to another.
    OrganizationId
);
id!(
    /// A project: a group of inboxes.
    ProjectId
);
id!(
    /// An inbox; SmartDocumentor calls it a workspace.
    InboxId
);
id!(
    /// A document's id.
    DocumentId
);
id!(
    /// A subscription's id: given in a file, a UUID when created over the API.
    SubscriptionId
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_one_to_sixty_four_bytes() {
        assert_eq!("".parse::<EventId>(), Err(BadId::Empty));
        assert!("x".repeat(64).parse::<EventId>().is_ok());
        assert_eq!("x".repeat(65).parse::<EventId>(), Err(BadId::TooLong(65)));
        assert_eq!("ä".repeat(33).parse::<EventId>(), Err(BadId::TooLong(66)), "bytes count, not characters");
    }
}
