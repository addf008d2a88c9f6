//! What the key ring promises.

use proptest::prelude::*;

use super::*;

fn key(id: &str, byte: u8) -> Key {
    format!("{id}:{}", STANDARD.encode([byte; KEY_BYTES])).parse().unwrap()
}

fn ring(keys: &[(&str, u8)]) -> KeyRing {
    KeyRing::new(keys.iter().map(|(id, byte)| key(id, *byte)).collect())
}

struct Place(OrganizationId, SubscriptionId);

impl Place {
    fn new(organization: &str, id: &str) -> Self {
        Self(organization.parse().unwrap(), id.parse().unwrap())
    }

    fn owner(&self) -> Owner<'_> {
        Owner { organization: &self.0, id: &self.1 }
    }
}

proptest! {
    #[test]
    fn what_was_encrypted_opens_again(text in ".*", organization in ".{1,16}", id in ".{1,16}") {
        let (ring, place) = (ring(&[("new", 1), ("old", 2)]), Place::new(&organization, &id));
        let blob = ring.seal(&Secret::new(text.clone()), place.owner()).unwrap();
        prop_assert_eq!(ring.open(&blob, place.owner()), Ok(Secret::new(text)));
    }

    #[test]
    fn another_key_of_the_same_name_does_not_open_it(text in ".*", byte in 2u8..) {
        let place = Place::new("acme", "a");
        let blob = ring(&[("k", 1)]).seal(&Secret::new(text), place.owner()).unwrap();
        prop_assert_eq!(ring(&[("k", byte)]).open(&blob, place.owner()), Err(OpenError::Damaged));
    }

    #[test]
    fn it_opens_for_the_row_it_was_made_for_only(
        text in ".*",
        one in ("[ab]{1,3}", "[ab]{1,3}"),
        other in ("[ab]{1,3}", "[ab]{1,3}"),
    ) {
        prop_assume!(one != other);
        let (ring, here, there) = (ring(&[("k", 1)]), Place::new(&one.0, &one.1), Place::new(&other.0, &other.1));
        let blob = ring.seal(&Secret::new(text), here.owner()).unwrap();
        prop_assert_eq!(ring.open(&blob, there.owner()), Err(OpenError::Damaged));
    }

    #[test]
    fn a_cut_blob_never_opens_and_never_panics(text in ".{0,40}", cut in any::<prop::sample::Index>()) {
        let (ring, place) = (ring(&[("k", 1)]), Place::new("acme", "a"));
        let blob = ring.seal(&Secret::new(text), place.owner()).unwrap();
        prop_assert!(ring.open(&blob[..cut.index(blob.len())], place.owner()).is_err());
    }

    #[test]
    fn a_changed_byte_is_noticed_wherever_it_is(at in any::<prop::sample::Index>(), change in 1u8..) {
        let (ring, place) = (ring(&[("k", 1), ("l", 1)]), Place::new("acme", "a"));
        let mut blob = ring.seal(&Secret::new("Bearer hush"), place.owner()).unwrap();
        let at = at.index(blob.len());
        blob[at] ^= change;
        prop_assert!(ring.open(&blob, place.owner()).is_err());
    }

    #[test]
    fn arbitrary_bytes_never_panic(blob in proptest::collection::vec(any::<u8>(), 0..100)) {
        prop_assert!(ring(&[("k", 1)]).open(&blob, Place::new("acme", "a").owner()).is_err());
    }
}

#[test]
fn the_first_key_encrypts_and_all_decrypt() {
    let place = Place::new("acme", "a");
    let old = ring(&[("old", 1)]).seal(&Secret::new("hush"), place.owner()).unwrap();
    let both = ring(&[("new", 2), ("old", 1)]);
    assert_eq!(both.open(&old, place.owner()).unwrap().reveal(), "hush");
    assert!(!both.is_current(&old));
    let new = both.seal(&Secret::new("hush"), place.owner()).unwrap();
    assert!(both.is_current(&new));
    assert_eq!(ring(&[("old", 1)]).open(&new, place.owner()), Err(OpenError::UnknownKey("new".to_owned())));
}

#[test]
fn the_same_secret_never_looks_the_same_twice() {
    let (ring, place) = (ring(&[("k", 1)]), Place::new("acme", "a"));
    let seal = || ring.seal(&Secret::new("hush"), place.owner()).unwrap();
    assert_ne!(seal(), seal());
}

#[test]
fn without_a_key_nothing_is_encrypted_and_the_error_says_how_to_make_one() {
    let error = KeyRing::default().seal(&Secret::new("hush"), Place::new("acme", "a").owner()).unwrap_err();
    assert_eq!(error, SealError::NoKey);
    assert!(error.to_string().contains("docrelay secrets init"), "{error}");
}

#[test]
fn a_key_that_was_made_here_is_one_and_no_two_are_the_same() {
    let [one, other] = [Key::generate().unwrap(), Key::generate().unwrap()];
    assert!(one.reveal().parse::<Key>().is_ok());
    assert_ne!(one.reveal(), other.reveal());
}

#[test]
fn bad_keys_are_refused_without_being_repeated() {
    let short = STANDARD.encode([1; KEY_BYTES - 1]);
    for (text, expected) in [
        ("hunter2", BadKey::Id),
        (":hunter2", BadKey::Id),
        ("a b:hunter2", BadKey::Id),
        ("k:hunter2", BadKey::Bytes),
        (&format!("k:{short}"), BadKey::Bytes),
    ] {
        let error = text.parse::<Key>().unwrap_err();
        assert_eq!(error, expected, "{text}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}

#[test]
fn a_ring_shows_the_names_of_its_keys_only() {
    let line = format!("k1:{}", STANDARD.encode([7; KEY_BYTES]));
    let shown = format!("{:?}", KeyRing::new(vec![line.parse().unwrap()]));
    assert_eq!(shown, "KeyRing([Key(k1)])");
}
