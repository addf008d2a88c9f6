//! Who may come in: finds the key of a request, and whose it is. Bounds how often an address may be wrong.

use std::{
    net::IpAddr,
    sync::{Mutex, PoisonError},
};

use axum::http::{HeaderMap, header::AUTHORIZATION};
use tokio::{sync::Semaphore, time::Instant};

use super::{desk::Desk, guesses::Guesses, kind::Kind, problem::Problem, server::Peer};
use crate::{
    domain::{OrganizationId, Secret},
    store::database::KeyOwner,
};

/// The headers that may hold a key as it is.
const PLAIN: [&str; 2] = ["x-api-key", "idexa-api-key"];

/// Keys that are looked up at once. Each takes a moment of the database; more wait.
const MOST_LOOKUPS: usize = 16;

/// Whose key a request has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Caller {
    /// What the key is for.
    pub(super) owner: KeyOwner,
    /// The key's id, for logs.
    pub(super) key: String,
}

impl Caller {
    /// Whose things the caller may see: one organization's, or everybody's.
    #[must_use]
    pub(super) fn organization(&self) -> Option<&OrganizationId> {
        self.owner.organization()
    }
}

/// Looks at keys.
#[derive(Debug)]
pub(super) struct Doorman {
    guesses: Mutex<Guesses>,
    lookups: Semaphore,
}

impl Default for Doorman {
    fn default() -> Self {
        Self { guesses: Mutex::default(), lookups: Semaphore::new(MOST_LOOKUPS) }
    }
}

impl Doorman {
    /// Who it is that sent a request with these headers. The key is looked up every time, so that a revoked one opens
    /// nothing any more, and a right one is never held up by the wrong ones of others behind the same proxy: a key is 32
    /// random bytes, and nobody guesses it.
    ///
    /// # Errors
    /// There is no key, or a wrong one, too many of them came from there, or the database is away.
    pub(super) async fn admit(&self, desk: &Desk, headers: &HeaderMap, peer: Peer) -> Result<Caller, Problem> {
        let key = key_of(headers)?;
        let found = {
            // Never closed.
            let _place = self.lookups.acquire().await.ok();
            desk.store()?.find_key(&key).await?
        };
        match found {
            Some(found) => Ok(Caller { owner: found.owner, key: found.id }),
            None => Err(self.wrong(peer.0.ip())),
        }
    }

    /// What a wrong key from this address is answered.
    fn wrong(&self, from: IpAddr) -> Problem {
        match self.guesses().wrong(from, Instant::now()) {
            Some(wait) => {
                Problem::new(Kind::TooManyWrongKeys, "Too many wrong keys came from this address.").retry_after(wait)
            }
            None => Problem::new(Kind::Unauthorized, "The key opens nothing: it is wrong, or it was revoked."),
        }
    }

    fn guesses(&self) -> std::sync::MutexGuard<'_, Guesses> {
        // Counting never leaves anything half done.
        self.guesses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The one key that a request has, in whichever header.
fn key_of(headers: &HeaderMap) -> Result<Secret, Problem> {
    let bearers = headers.get_all(AUTHORIZATION).iter().filter_map(|value| {
        let (scheme, key) = value.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(key.trim())
    });
    let plain = PLAIN.iter().flat_map(|name| headers.get_all(*name)).filter_map(|value| value.to_str().ok());
    let mut keys: Vec<&str> = bearers.chain(plain.map(str::trim)).filter(|key| !key.is_empty()).collect();
    keys.dedup();
    match keys.as_slice() {
        [key] => Ok(Secret::new(*key)),
        [] => Err(Problem::new(Kind::Unauthorized, "There is no key in this request.")),
        _ => Err(Problem::new(Kind::Unauthorized, "There is more than one key in this request, and they differ.")),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    fn found(headers: &[(&'static str, &'static str)]) -> Option<String> {
        let pairs =
            headers.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        let map: HeaderMap = pairs.collect();
        key_of(&map).ok().map(|key| key.reveal().to_owned())
    }

    #[test]
    fn a_key_is_found_in_any_of_its_headers_and_only_one_may_be_there() {
        for headers in [
            &[("authorization", "Bearer k")][..],
            &[("authorization", "bearer  k ")],
            &[("x-api-key", "k")],
            &[("idexa-api-key", "k")],
            &[("x-api-key", "k"), ("idexa-api-key", "k"), ("authorization", "Bearer k")],
            &[("x-api-key", "k"), ("authorization", "Basic dTpw")],
        ] {
            assert_eq!(found(headers).as_deref(), Some("k"), "{headers:?}");
        }
        for headers in [
            &[][..],
            &[("authorization", "Basic dTpw")],
            &[("authorization", "k")],
            &[("x-api-key", "")],
            &[("x-api-key", "k"), ("idexa-api-key", "other")],
            &[("x-api-key", "k"), ("x-api-key", "other")],
            &[("x-api-key", "k"), ("idexa-api-key", "other"), ("authorization", "Bearer k")],
        ] {
            assert_eq!(found(headers), None, "{headers:?}");
        }
    }
}
