//! What makes a link into the local folder one of ours: a keyed hash over everything it says. Pure.

use aws_lc_rs::hmac;
use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};

use super::{BadStore, path::ArtifactPath};
use crate::{config::SigningKey, domain::Timestamp};

/// What the hash begins with. Another way of signing gets another one, so that no link can be taken for what it is not.
const VERSION: &str = "docrelay artifact link 1";

/// The keys: the first signs, all verify.
#[derive(Debug, Clone)]
pub(super) struct KeyRing(Vec<(String, hmac::Key)>);

impl KeyRing {
    /// The ring of the settings.
    ///
    /// # Errors
    /// When there is no key, or one cannot be read.
    pub(super) fn new(keys: &[SigningKey]) -> Result<Self, BadStore> {
        if keys.is_empty() {
            return Err(BadStore("artifacts.signing_keys is empty".to_owned()));
        }
        let key = |key: &SigningKey| {
            let bytes = BASE64_STANDARD.decode(key.key.reveal());
            let bytes = bytes.map_err(|_| BadStore(format!("the signing key {:?} is not base64", key.id)))?;
            Ok((key.id.clone(), hmac::Key::new(hmac::HMAC_SHA256, &bytes)))
        };
        keys.iter().map(key).collect::<Result<_, _>>().map(Self)
    }

    /// The query of a link to `path` that ends at `expires`, a Unix time.
    pub(super) fn query(&self, path: &ArtifactPath, expires: u64) -> String {
        // `new` lets no empty ring pass.
        let signature = self.0.first().map(|(id, key)| {
            let tag = hmac::sign(key, signed(path, expires, id).as_bytes());
            format!("expires={expires}&key={id}&signature={}", BASE64_URL_SAFE_NO_PAD.encode(tag))
        });
        signature.unwrap_or_default()
    }

    /// Whether a link with this query is one of ours and works at `now`. The comparison takes the same time wherever the
    /// signatures differ.
    pub(super) fn permits(&self, path: &ArtifactPath, query: &str, now: Timestamp) -> bool {
        let Some(claim) = Claim::read(query) else { return false };
        let Some((id, key)) = self.0.iter().find(|(id, _)| id == claim.key) else { return false };
        let Ok(signature) = BASE64_URL_SAFE_NO_PAD.decode(claim.signature) else { return false };
        let is_ours = hmac::verify(key, signed(path, claim.expires, id).as_bytes(), &signature).is_ok();
        is_ours && now.to_unix().0 < i64::try_from(claim.expires).unwrap_or(i64::MAX)
    }
}

/// What a link says.
struct Claim<'a> {
    expires: u64,
    key: &'a str,
    signature: &'a str,
}

impl<'a> Claim<'a> {
    /// Reads a query that has each part once and nothing else, spelled as we spell it.
    fn read(query: &'a str) -> Option<Self> {
        let (mut expires, mut key, mut signature) = (None, None, None);
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=')?;
            let place = match name {
                "expires" => &mut expires,
                "key" => &mut key,
                "signature" => &mut signature,
                _ => return None,
            };
            if place.replace(value).is_some() {
                return None;
            }
        }
        let text = expires?;
        let expires = text.parse::<u64>().ok().filter(|number| number.to_string() == text)?;
        Some(Self { expires, key: key?, signature: signature? })
    }
}

/// What is signed. None of the parts has a line's end in it, so they cannot be mistaken for each other.
fn signed(path: &ArtifactPath, expires: u64, key: &str) -> String {
    format!("{VERSION}\n{key}\n{expires}\n{}", path.as_str())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::Secret;

    fn key(id: &str, fill: u8) -> SigningKey {
        SigningKey { id: id.to_owned(), key: Secret::new(BASE64_STANDARD.encode([fill; 32])) }
    }

    fn ring(keys: &[SigningKey]) -> KeyRing {
        KeyRing::new(keys).unwrap()
    }

    fn path(text: &str) -> ArtifactPath {
        ArtifactPath::parse(text).unwrap()
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix(seconds, 0).unwrap()
    }

    #[test]
    fn a_link_works_until_the_second_it_names_and_not_in_it() {
        let (ring, path) = (ring(&[key("k", 1)]), path("a/b.pdf"));
        let query = ring.query(&path, 1000);
        assert!(ring.permits(&path, &query, at(0)));
        assert!(ring.permits(&path, &query, Timestamp::from_unix(999, 999_999_999).unwrap()));
        assert!(!ring.permits(&path, &query, at(1000)));
        assert!(!ring.permits(&path, &query, at(1_000_000)));
    }

    #[test]
    fn the_signature_never_changes_between_versions() {
        let query = ring(&[key("k1", 7)]).query(&path("acme/ü 1.pdf"), 1_900_000_000);
        assert_eq!(query, "expires=1900000000&key=k1&signature=vxQZujh_ulM7aUE8HaCgSrdse_nngYO-_jfVms6gVOM");
    }

    #[test]
    fn after_a_rotation_old_links_work_until_their_key_is_dropped() {
        let (old, new) = (key("old", 1), key("new", 2));
        let (before, after) = (ring(std::slice::from_ref(&old)), ring(&[new.clone(), old]));
        let path = path("a.pdf");
        let (link, newer) = (before.query(&path, 1000), after.query(&path, 1000));
        assert!(newer.contains("key=new"));
        assert!(after.permits(&path, &link, at(0)) && after.permits(&path, &newer, at(0)));
        let dropped = ring(&[new]);
        assert!(!dropped.permits(&path, &link, at(0)) && dropped.permits(&path, &newer, at(0)));
        // The same id with another key is another key.
        assert!(!ring(&[key("old", 3)]).permits(&path, &link, at(0)));
    }

    #[test]
    fn what_is_missing_doubled_strange_or_spelled_otherwise_is_refused() {
        let (ring, path) = (ring(&[key("k", 1), key("l", 1)]), path("a.pdf"));
        let good = ring.query(&path, 1000);
        let signature = good.rsplit('=').next().unwrap().to_owned();
        assert!(ring.permits(&path, &good, at(0)));
        for query in [
            String::new(),
            "expires=1000&key=k".to_owned(),
            format!("expires=1000&signature={signature}"),
            format!("key=k&signature={signature}"),
            format!("expires=1000&key=k&signature={signature}="),
            format!("expires=1000&key=k&signature={signature}A"),
            format!("expires=1000&key=k&signature={}", &signature[1..]),
            "expires=1000&key=k&signature=".to_owned(),
            format!("expires=01000&key=k&signature={signature}"),
            format!("expires=+1000&key=k&signature={signature}"),
            format!("expires=-1&key=k&signature={signature}"),
            format!("expires=1001&key=k&signature={signature}"),
            // The same bytes under another name sign something else.
            format!("expires=1000&key=l&signature={signature}"),
            format!("expires=1000&key=m&signature={signature}"),
            format!("expires=1000&key=&signature={signature}"),
            format!("{good}&expires=2000"),
            format!("expires=2000&{good}"),
            format!("{good}&more=1"),
            format!("{good}&more"),
            format!("{good}&"),
            format!("&{good}"),
        ] {
            assert!(!ring.permits(&path, &query, at(0)), "{query}");
        }
    }

    #[test]
    fn keys_are_not_shown() {
        let shown = format!("{:?}", ring(&[key("k", 0x41)]));
        assert!(!shown.contains("41, 41") && !shown.contains("65, 65") && !shown.contains("QUFB"), "{shown}");
    }

    proptest! {
        #[test]
        fn a_link_is_good_for_its_own_path_time_and_key_only(
            one in "[a-z%=&?ü]{1,6}(/[a-z%=&?ü]{1,6}){0,2}",
            other in "[a-z%=&?ü]{1,6}(/[a-z%=&?ü]{1,6}){0,2}",
            expires in 1u64..10_000_000_000,
            later in 1u64..1_000_000,
            flipped in 0usize..43,
        ) {
            let ring = ring(&[key("k", 1), key("l", 2)]);
            let (one, other) = (path(&one), path(&other));
            let query = ring.query(&one, expires);
            prop_assert!(ring.permits(&one, &query, at(0)));
            prop_assert_eq!(ring.permits(&other, &query, at(0)), one == other);
            let longer = query.replace(&format!("expires={expires}"), &format!("expires={}", expires + later));
            prop_assert!(!ring.permits(&one, &longer, at(0)));
            prop_assert!(!ring.permits(&one, &query.replace("key=k", "key=l"), at(0)));
            let (rest, signature) = query.rsplit_once('=').unwrap();
            let mut letters: Vec<char> = signature.chars().collect();
            letters[flipped] = if letters[flipped] == 'A' { 'B' } else { 'A' };
            let changed: String = letters.into_iter().collect();
            let changed = format!("{rest}={changed}");
            prop_assert!(!ring.permits(&one, &changed, at(0)));
        }

        #[test]
        fn no_query_makes_it_panic_or_is_permitted(query in "(expires|key|signature|[=&%0-9a-z+.-]){0,12}") {
            prop_assert!(!ring(&[key("k", 1)]).permits(&path("a"), &query, at(0)));
        }
    }
}
