//! What can go wrong with the database, by what its caller can do about it.

use std::error::Error;

use crate::{
    domain::{SubscriptionId, Timestamp},
    secrets::SealError,
};

/// Why the database did not do its part. None of it repeats a URL or a secret.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It cannot be reached, is shutting down, or does not answer in time. Try again later. If it was a write, it may have
    /// happened.
    #[error("the store is away")]
    Away(#[source] Box<dyn Error + Send + Sync>),
    /// A newer docrelay has been here.
    #[error(
        "the store has version {found} of the schema, and this docrelay knows versions up to {known}: run the newer docrelay, or restore a backup from before the upgrade"
    )]
    Newer {
        /// The version of the tables.
        found: i64,
        /// The version that this docrelay makes.
        known: i64,
    },
    /// The URL is none of a database.
    #[error("expected sqlite://PATH or postgres://user:password@host/database (setting store.url)")]
    BadUrl,
    /// A secret cannot be encrypted, so nothing was stored.
    #[error(transparent)]
    NotSealed(#[from] SealError),
    /// A row holds what docrelay never writes.
    #[error("row {id:?} of the store is damaged: {what}")]
    Damaged {
        /// The row.
        id: String,
        /// The column and what is wrong with it.
        what: String,
    },
    /// The database refused a statement. Trying again does not help.
    #[error("the store refused")]
    Refused(#[source] Box<dyn Error + Send + Sync>),
}

impl StoreError {
    pub(super) fn away(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Away(cause.into())
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let is_away = match &error {
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed
            | sqlx::Error::BeginFailed => true,
            sqlx::Error::Database(error) => error.code().is_some_and(|code| is_away(&code)),
            _ => false,
        };
        if is_away { Self::Away(error.into()) } else { Self::Refused(error.into()) }
    }
}

/// Whether a code says that another time may be better.
fn is_away(code: &str) -> bool {
    // PostgreSQL: connection, credentials, resources, intervention by an operator, system; deadlock and serialization.
    if code.len() == 5 {
        // Read-only: a server that is no longer, or not yet, the one to write to.
        return code == "25006" || ["08", "28", "40", "53", "57", "58"].iter().any(|class| code.starts_with(class));
    }
    // SQLite, whose codes keep what they are in the lowest byte: busy, locked, read-only, I/O error, full, cannot open.
    code.parse::<u32>().is_ok_and(|code| matches!(code & 0xff, 5 | 6 | 8 | 10 | 13 | 14))
}

/// Why a subscription was not inserted.
#[derive(Debug, thiserror::Error)]
pub enum InsertError {
    /// The organization has one of its kind already.
    #[error("the organization has one already: {existing}")]
    Conflict {
        /// The one it has.
        existing: SubscriptionId,
    },
    /// The id is in use, or was.
    #[error("the id is taken")]
    IdTaken,
    /// The database did not do its part.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a subscription was not updated.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    /// Somebody else was faster: read it again.
    #[error("it was changed meanwhile, at {}", .updated_at.to_rfc3339())]
    Changed {
        /// When.
        updated_at: Timestamp,
    },
    /// The database did not do its part.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for InsertError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

impl From<sqlx::Error> for UpdateError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_that_is_read_only_or_busy_is_away_and_one_that_knows_no_such_table_refuses() {
        // As the servers number it; SQLite's second number tells the kinds of one thing apart.
        for code in ["25006", "08006", "57P01", "40001", "8", "1032", "5", "261"] {
            assert!(is_away(code), "{code}");
        }
        for code in ["25001", "42P01", "23505", "1", "19", "2067", ""] {
            assert!(!is_away(code), "{code}");
        }
    }
}
