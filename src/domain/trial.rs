//! A test send: an attempt that somebody asked for to see how it goes. It is marked, and what was answered is kept for whoever
//! asked.

use std::sync::{Mutex, PoisonError};

use http::HeaderMap;

use super::DeliveryId;

/// What every id of a test send begins with.
pub const TRIAL_PREFIX: &str = "test-";

/// No more headers of an answer are kept.
const MOST_HEADERS: usize = 64;

/// Nor more bytes of them, names and values.
const MOST_HEADER_BYTES: usize = 8 * 1024;

/// Marks an attempt as a test send, and keeps the headers of its answer.
#[derive(Debug, Default)]
pub struct Trial {
    headers: Mutex<Vec<(String, String)>>,
}

impl Trial {
    /// The delivery's id as a receiver sees it.
    #[must_use]
    pub fn id_of(delivery: DeliveryId) -> String {
        format!("{TRIAL_PREFIX}{delivery}")
    }

    /// An answer's headers came: the last answer's are kept, as far as there is room.
    pub fn answered(&self, headers: &HeaderMap) {
        let mut room = MOST_HEADER_BYTES;
        let mut kept = Vec::new();
        for (name, value) in headers.iter().take(MOST_HEADERS) {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            let Some(left) = room.checked_sub(name.as_str().len() + value.len()) else { continue };
            room = left;
            kept.push((name.as_str().to_owned(), value));
        }
        *self.headers.lock().unwrap_or_else(PoisonError::into_inner) = kept;
    }

    /// The headers that were kept.
    #[must_use]
    pub fn into_headers(self) -> Vec<(String, String)> {
        self.headers.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_kept_as_far_as_there_is_room() {
        let trial = Trial::default();
        let mut headers = HeaderMap::new();
        headers.insert("x-large", "x".repeat(MOST_HEADER_BYTES).parse().unwrap());
        for _ in 0..100 {
            headers.append("x-small", "y".parse().unwrap());
        }
        trial.answered(&headers);
        let kept = trial.into_headers();
        assert_eq!(kept.len(), MOST_HEADERS - 1, "the large one had no room");
        assert!(kept.iter().all(|(name, value)| name == "x-small" && value == "y"));
    }
}
