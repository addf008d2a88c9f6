//! The keys of the API. What is stored of a key is its hash, and it is shown once, when it is made. A fast hash is enough:
//! a key is 32 random bytes, which nobody can guess however fast guesses are checked; slow hashes are for what people
//! choose.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};
use sqlx::{Row as _, any::AnyRow, query};
use subtle::ConstantTimeEq as _;
use uuid::Uuid;

use super::{
    DEADLINE, Store, StoreError,
    row::{from_micros, to_micros},
    within,
};
use crate::{
    domain::{OrganizationId, Secret, Timestamp},
    secrets::SealError,
};

/// What every key begins with, so that people and scanners know one when they see it.
const BEGINNING: &str = "drk_";

/// Random bytes of a key.
const KEY_BYTES: usize = 32;

/// How many of a key's last characters are kept to be recognized by.
const ENDING: usize = 4;

/// The most characters of a key's name.
const MAX_NAME: usize = 100;

/// A key of the API, without the key itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// Its id.
    pub id: String,
    /// What it is for.
    pub owner: KeyOwner,
    /// What people call it.
    pub name: String,
    /// The last characters of the key.
    pub ending: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// Since when it opens nothing.
    pub revoked_at: Option<Timestamp>,
}

/// What a key is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyOwner {
    /// One organization's things.
    Organization(OrganizationId),
    /// Everything.
    Operator,
}

impl KeyOwner {
    /// The organization.
    #[must_use]
    pub fn organization(&self) -> Option<&OrganizationId> {
        match self {
            Self::Organization(organization) => Some(organization),
            Self::Operator => None,
        }
    }
}

impl fmt::Display for KeyOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Organization(organization) => write!(f, "organization {organization}"),
            Self::Operator => f.write_str("operator"),
        }
    }
}

/// A name that a key cannot have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must have at most {MAX_NAME} characters, none of them a control character")]
pub struct BadKeyName;

impl ApiKey {
    /// Checks a name.
    ///
    /// # Errors
    /// It is too long, or would mislead whoever reads it in a list.
    pub fn check_name(name: &str) -> Result<(), BadKeyName> {
        let is_sound = name.chars().count() <= MAX_NAME && !name.chars().any(char::is_control);
        is_sound.then_some(()).ok_or(BadKeyName)
    }
}

impl Store {
    /// Makes a key. The text is given now and never again.
    ///
    /// # Errors
    /// The store is away, or the system gives no random bytes.
    pub async fn create_key(
        &self,
        owner: KeyOwner,
        name: &str,
        now: Timestamp,
    ) -> Result<(ApiKey, Secret), StoreError> {
        let mut bytes = [0; KEY_BYTES];
        getrandom::fill(&mut bytes).map_err(|_| SealError::NoRandomness)?;
        let text = format!("{BEGINNING}{}", URL_SAFE_NO_PAD.encode(bytes));
        let ending = text.get(text.len() - ENDING..).unwrap_or_default().to_owned();
        let id = Uuid::new_v4().to_string();
        let now = from_micros(to_micros(now)).unwrap_or(now);
        let key = ApiKey { id, owner, name: name.to_owned(), ending, created_at: now, revoked_at: None };
        within(DEADLINE, async {
            let mut write = self.pool.write().await?;
            query(
                "INSERT INTO api_keys (id, organization, name, hash, ending, created_at, revoked_at, sequence) \
                 VALUES ($1, $2, $3, $4, $5, $6, NULL, $7)",
            )
            .bind(&*key.id)
            .bind(key.owner.organization().map(OrganizationId::as_str))
            .bind(&*key.name)
            .bind(hash(&text))
            .bind(&*key.ending)
            .bind(to_micros(key.created_at))
            .bind(write.counter.0)
            .execute(&mut *write.transaction)
            .await?;
            write.commit().await
        })
        .await?;
        Ok((key, Secret::new(text)))
    }

    /// All keys, revoked ones included, in the order they were made.
    ///
    /// # Errors
    /// The store is away.
    pub async fn list_keys(&self) -> Result<Vec<ApiKey>, StoreError> {
        within(DEADLINE, async {
            let mut reader = self.pool.reader().await?;
            let rows = query(
                "SELECT id, organization, name, hash, ending, created_at, revoked_at FROM api_keys ORDER BY sequence",
            );
            rows.fetch_all(&mut *reader).await?.iter().map(key).collect()
        })
        .await
    }

    /// Makes a key open nothing any more. `None` when there is none with this id. One that was revoked keeps its time.
    ///
    /// # Errors
    /// The store is away.
    pub async fn revoke_key(&self, id: &str, now: Timestamp) -> Result<Option<ApiKey>, StoreError> {
        within(DEADLINE, async {
            let mut write = self.pool.write().await?;
            query("UPDATE api_keys SET revoked_at = $1 WHERE id = $2 AND revoked_at IS NULL")
                .bind(to_micros(now))
                .bind(id)
                .execute(&mut *write.transaction)
                .await?;
            let row = query(
                "SELECT id, organization, name, hash, ending, created_at, revoked_at FROM api_keys WHERE id = $1",
            )
            .bind(id)
            .fetch_optional(&mut *write.transaction)
            .await?;
            write.commit().await?;
            row.as_ref().map(key).transpose()
        })
        .await
    }

    /// The key with this text; `None` when there is none or it was revoked.
    ///
    /// # Errors
    /// The store is away.
    pub async fn find_key(&self, text: &Secret) -> Result<Option<ApiKey>, StoreError> {
        // How long the search for a hash takes tells nothing: whoever can choose keys cannot choose their hashes.
        let hash = hash(text.reveal());
        within(DEADLINE, async {
            let mut reader = self.pool.reader().await?;
            let row = query(
                "SELECT id, organization, name, hash, ending, created_at, revoked_at FROM api_keys \
                 WHERE hash = $1 AND revoked_at IS NULL",
            )
            .bind(hash.as_slice())
            .fetch_optional(&mut *reader)
            .await?;
            let Some(row) = row else { return Ok(None) };
            let stored: Vec<u8> = row.try_get("hash")?;
            if bool::from(stored.as_slice().ct_eq(&hash)) { key(&row).map(Some) } else { Ok(None) }
        })
        .await
    }
}

fn hash(text: &str) -> Vec<u8> {
    Sha256::digest(text.as_bytes()).to_vec()
}

fn key(row: &AnyRow) -> Result<ApiKey, StoreError> {
    let id: String = row.try_get("id")?;
    let damaged = |what: String| StoreError::Damaged { id: id.clone(), what };
    let owner = match row.try_get::<Option<String>, _>("organization")? {
        Some(organization) => {
            KeyOwner::Organization(organization.parse().map_err(|error| damaged(format!("organization {error}")))?)
        }
        None => KeyOwner::Operator,
    };
    let time = |column: &str| -> Result<Option<Timestamp>, StoreError> {
        Ok(row.try_get::<Option<i64>, _>(column)?.and_then(from_micros))
    };
    Ok(ApiKey {
        owner,
        name: row.try_get("name")?,
        ending: row.try_get("ending")?,
        created_at: time("created_at")?.ok_or_else(|| damaged("created_at is no time".to_owned()))?,
        revoked_at: time("revoked_at")?,
        id,
    })
}
