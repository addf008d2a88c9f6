//! Paths of files in the artifact store, as they come with events. Pure.

use std::path::{Path, PathBuf};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::SignError;

/// The longest path, in bytes: what the object stores take.
const MAX_BYTES: usize = 1024;

/// Everything but the letters that never need it (RFC 3986, unreserved).
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A path below the store's root that leads nowhere else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ArtifactPath(String);

impl ArtifactPath {
    /// Takes a path that is one.
    ///
    /// # Errors
    /// `BadPath`, with what is wrong.
    pub(super) fn parse(path: &str) -> Result<Self, SignError> {
        let segments = || path.split('/');
        if path.is_empty() {
            return Err(SignError::BadPath("it is empty"));
        }
        if path.len() > MAX_BYTES {
            return Err(SignError::BadPath("it has more than 1024 bytes"));
        }
        if path.starts_with('/') {
            return Err(SignError::BadPath("it is not relative"));
        }
        if segments().any(str::is_empty) {
            return Err(SignError::BadPath("it has an empty segment"));
        }
        if segments().any(|segment| matches!(segment, "." | "..")) {
            return Err(SignError::BadPath("it has the segment . or .."));
        }
        if path.contains(char::is_control) {
            return Err(SignError::BadPath("it has a control character"));
        }
        Ok(Self(path.to_owned()))
    }

    /// As it came.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// For a URL: everything encoded but the slashes and what never needs it.
    pub(super) fn encoded(&self) -> String {
        encode(&self.0)
    }

    /// Below a folder.
    pub(super) fn below(&self, folder: &Path) -> PathBuf {
        folder.join(&self.0)
    }
}

/// A path for a URL, segment by segment.
pub(super) fn encode(path: &str) -> String {
    let segments: Vec<String> =
        path.split('/').map(|segment| utf8_percent_encode(segment, ENCODED).to_string()).collect();
    segments.join("/")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_leads_elsewhere_or_is_no_path_is_refused() {
        let long = "a/".repeat(512) + "a";
        for path in [
            "", "/", "/a", "a/", "a//b", ".", "..", "./a", "a/.", "../a", "a/../b", "a/..", "a\0b", "a\nb", "a\u{7f}",
            "a\u{85}b", &long,
        ] {
            assert!(matches!(ArtifactPath::parse(path), Err(SignError::BadPath(_))), "{path:?}");
        }
        for path in ["a", "a/b.pdf", "...", "a/..b/.c", "a b/ü?#%.pdf", "a\\..\\b", "%2e%2e/a", &long[..1024 - 1]] {
            assert_eq!(ArtifactPath::parse(path).unwrap().as_str(), path);
        }
    }

    proptest! {
        #[test]
        fn a_path_that_is_taken_stays_below_its_folder(path in "[a./\\\\%\u{0}-\u{2ff}]{0,12}") {
            if let Ok(taken) = ArtifactPath::parse(&path) {
                let joined = taken.below(Path::new("/srv/folder"));
                let normal = joined.components().all(|part| {
                    matches!(part, std::path::Component::Normal(_) | std::path::Component::RootDir)
                });
                prop_assert!(normal && joined.starts_with("/srv/folder"), "{path:?}");
            }
        }

        #[test]
        fn a_path_survives_its_encoding(path in "[^/\\p{Cc}]{1,20}(/[^/\\p{Cc}]{1,20}){0,3}") {
            if let Ok(taken) = ArtifactPath::parse(&path) {
                let encoded = taken.encoded();
                prop_assert!(encoded.is_ascii() && !encoded.contains(['?', '#', '&', ' ', '"']));
                let decoded = percent_encoding::percent_decode_str(&encoded).decode_utf8().unwrap();
                prop_assert_eq!(decoded, path);
            }
        }
    }
}
