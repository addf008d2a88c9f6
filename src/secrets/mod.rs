//! The key ring that stored secrets are encrypted with. The first key encrypts, all of them decrypt, and every blob names
//! the key it needs. A blob is bound to the row it was made for: copied to another one it does not open. No I/O here but
//! the system's source of randomness.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use chacha20poly1305::{
    KeyInit as _, XChaCha20Poly1305, XNonce,
    aead::{Aead as _, Payload},
};

use crate::domain::{OrganizationId, Secret, SubscriptionId};

/// What a blob begins with: the form of everything behind it. XChaCha20-Poly1305, whose nonces are long enough to be
/// drawn at random for any number of rows.
const FORM: u8 = 1;

/// Bytes of a key.
const KEY_BYTES: usize = 32;

/// Bytes of a nonce.
const NONCE_BYTES: usize = 24;

/// The longest name of a key.
const MAX_KEY_ID: usize = 32;

/// A key with its name, written `id:base64-of-32-bytes`. `Debug` shows the name only.
#[derive(Clone)]
pub struct Key {
    id: String,
    cipher: XChaCha20Poly1305,
}

/// Why a text is not a key. Never repeats it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadKey {
    /// There is no name, or a strange one.
    #[error("expected id:base64, where the id has 1 to {MAX_KEY_ID} letters, digits, '-' or '_'")]
    Id,
    /// What follows the name is no base64, or not 32 bytes of it.
    #[error("expected the base64 of {KEY_BYTES} bytes behind the id")]
    Bytes,
}

/// Why nothing was encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The ring is empty.
    #[error(
        "there is no key to encrypt secrets with (setting secrets.keys): make one with `docrelay secrets init`, nothing secret is stored without it"
    )]
    NoKey,
    /// The system gives no random bytes.
    #[error("the system gives no random bytes")]
    NoRandomness,
    /// Longer than the cipher takes.
    #[error("the secret is too long to be encrypted")]
    TooLong,
}

/// Why a blob does not open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The ring lacks the key it was encrypted with.
    #[error("it is encrypted with the key {0:?}, which secrets.keys does not have")]
    UnknownKey(String),
    /// Cut, changed, of another row, or of another key with the same name.
    #[error("it was changed, belongs elsewhere, or was encrypted with another key of that name")]
    Damaged,
    /// Made by a newer version.
    #[error("it has the form {0}, which this version does not know")]
    UnknownForm(u8),
}

/// What a blob belongs to.
#[derive(Debug, Clone, Copy)]
pub struct Owner<'a> {
    /// Whose it is.
    pub organization: &'a OrganizationId,
    /// The row.
    pub id: &'a SubscriptionId,
}

impl Key {
    /// A new random key, as the text that `secrets.keys` takes.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn generate() -> Result<Secret, SealError> {
        let (id, bytes) = (u32::from_be_bytes(random()?), random::<KEY_BYTES>()?);
        Ok(Secret::new(format!("k{id:08x}:{}", STANDARD.encode(bytes))))
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl FromStr for Key {
    type Err = BadKey;

    fn from_str(text: &str) -> Result<Self, BadKey> {
        let (id, bytes) = text.split_once(':').ok_or(BadKey::Id)?;
        let plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_');
        if id.is_empty() || id.len() > MAX_KEY_ID || !id.chars().all(plain) {
            return Err(BadKey::Id);
        }
        let bytes = STANDARD.decode(bytes).map_err(|_| BadKey::Bytes)?;
        let cipher = XChaCha20Poly1305::new_from_slice(&bytes).map_err(|_| BadKey::Bytes)?;
        Ok(Self { id: id.to_owned(), cipher })
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.id)
    }
}

/// All keys, in their order: the first encrypts. May be empty, and then nothing can be encrypted.
#[derive(Debug, Clone, Default)]
pub struct KeyRing(Vec<Key>);

impl KeyRing {
    /// A ring of these keys. No two may have the same name.
    #[must_use]
    pub fn new(keys: Vec<Key>) -> Self {
        Self(keys)
    }

    /// Each key.
    pub fn iter(&self) -> impl Iterator<Item = &Key> {
        self.0.iter()
    }

    /// The key that encrypts.
    #[must_use]
    pub fn first(&self) -> Option<&Key> {
        self.0.first()
    }

    /// Encrypts with the first key.
    ///
    /// # Errors
    /// There is no key, and the secret must not be stored; or it cannot be encrypted.
    pub fn seal(&self, secret: &Secret, owner: Owner<'_>) -> Result<Vec<u8>, SealError> {
        let key = self.first().ok_or(SealError::NoKey)?;
        let nonce = random::<NONCE_BYTES>()?;
        let mut blob = header(&key.id);
        let payload = Payload { msg: secret.reveal().as_bytes(), aad: &associated(&blob, owner) };
        let sealed = key.cipher.encrypt(&XNonce::from(nonce), payload).map_err(|_| SealError::TooLong)?;
        blob.extend_from_slice(&nonce);
        blob.extend_from_slice(&sealed);
        Ok(blob)
    }

    /// Decrypts with the key that the blob names.
    ///
    /// # Errors
    /// The key is not here, or the blob is not what was made for this owner.
    pub fn open(&self, blob: &[u8], owner: Owner<'_>) -> Result<Secret, OpenError> {
        let Parts { key_id, nonce, sealed } = parts(blob)?;
        let key = self.0.iter().find(|key| key.id == key_id).ok_or_else(|| OpenError::UnknownKey(key_id.to_owned()))?;
        let payload = Payload { msg: sealed, aad: &associated(&header(key_id), owner) };
        let opened = key.cipher.decrypt(&XNonce::from(nonce), payload).map_err(|_| OpenError::Damaged)?;
        String::from_utf8(opened).map(Secret::new).map_err(|_| OpenError::Damaged)
    }

    /// Whether a blob was encrypted with the first key.
    #[must_use]
    pub fn is_current(&self, blob: &[u8]) -> bool {
        self.first().is_some_and(|first| parts(blob).is_ok_and(|parts| parts.key_id == first.id))
    }
}

/// A blob, taken apart: form, length of the key's name, that name, nonce, ciphertext with its tag.
struct Parts<'a> {
    key_id: &'a str,
    nonce: [u8; NONCE_BYTES],
    sealed: &'a [u8],
}

fn parts(blob: &[u8]) -> Result<Parts<'_>, OpenError> {
    let (form, rest) = blob.split_first().ok_or(OpenError::Damaged)?;
    if *form != FORM {
        return Err(OpenError::UnknownForm(*form));
    }
    let (length, rest) = rest.split_first().ok_or(OpenError::Damaged)?;
    let (key_id, rest) = rest.split_at_checked(usize::from(*length)).ok_or(OpenError::Damaged)?;
    let key_id = std::str::from_utf8(key_id).map_err(|_| OpenError::Damaged)?;
    let (nonce, sealed) = rest.split_first_chunk::<NONCE_BYTES>().ok_or(OpenError::Damaged)?;
    Ok(Parts { key_id, nonce: *nonce, sealed })
}

fn header(key_id: &str) -> Vec<u8> {
    let length = u8::try_from(key_id.len()).unwrap_or(u8::MAX);
    [&[FORM, length], key_id.as_bytes()].concat()
}

/// What is authenticated beside the secret: the header, and whose it is. The length in between keeps `ab` + `c` and
/// `a` + `bc` apart.
fn associated(header: &[u8], owner: Owner<'_>) -> Vec<u8> {
    let organization = owner.organization.as_str().as_bytes();
    let length = u32::try_from(organization.len()).unwrap_or(u32::MAX).to_be_bytes();
    [header, &length, organization, owner.id.as_str().as_bytes()].concat()
}

fn random<const N: usize>() -> Result<[u8; N], SealError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| SealError::NoRandomness)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
