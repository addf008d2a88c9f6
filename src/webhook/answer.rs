//! What a receiver answered: the body up to a cap, and `Retry-After`.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header::RETRY_AFTER};

use crate::domain::Timestamp;

/// How much of a response's body is kept (docs/subscriptions.md: 16 KiB).
pub const MAX_RESPONSE_BYTES: usize = 16 * 1024;

/// Reads the body up to the cap, and says whether there was more. What lies beyond is not read: dropping the response
/// closes its connection (HTTP/1.1) or its stream (HTTP/2). A body that was read to its end gives the connection back.
pub(super) async fn read_body(mut response: reqwest::Response) -> Result<(Bytes, bool), reqwest::Error> {
    // Copied, because the chunks are slices of the connection's own buffer, which a kept slice would pin.
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        let room = MAX_RESPONSE_BYTES - body.len();
        if let Some(fits) = chunk.get(..room).filter(|_| chunk.len() > room) {
            body.extend_from_slice(fits);
            return Ok((body.into(), true));
        }
        body.extend_from_slice(&chunk);
    }
    Ok((body.into(), false))
}

/// What `Retry-After` asks for, counted from `now`: seconds or an HTTP date (RFC 9110, 10.2.3). Only 429 and 503 are
/// asked; nonsense is ignored, a date in the past means no wait.
pub(super) fn retry_after(status: StatusCode, headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    if !matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
        return None;
    }
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().ok().map(Duration::from_secs);
    }
    let date = httpdate::parse_http_date(text).ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    let date = Timestamp::from_unix(i64::try_from(date.as_secs()).ok()?, 0)?;
    // The date's distance from now, zero when it has passed.
    Some(now.age_at(date))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn asked(status: u16, value: &str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, value.parse().unwrap());
        // Sun, 06 Nov 1994 08:49:37 GMT
        retry_after(StatusCode::from_u16(status).unwrap(), &headers, Timestamp::from_unix(784_111_777, 0).unwrap())
    }

    #[test]
    fn seconds_and_all_three_forms_of_a_date_are_understood() {
        assert_eq!(asked(429, "120"), Some(Duration::from_mins(2)));
        assert_eq!(asked(503, " 0 "), Some(Duration::ZERO));
        for date in ["Sun, 06 Nov 1994 08:50:37 GMT", "Sunday, 06-Nov-94 08:50:37 GMT", "Sun Nov  6 08:50:37 1994"] {
            assert_eq!(asked(503, date), Some(Duration::from_mins(1)), "{date}");
        }
    }

    #[test]
    fn a_date_in_the_past_asks_for_no_wait() {
        assert_eq!(asked(503, "Sun, 06 Nov 1994 08:49:00 GMT"), Some(Duration::ZERO));
    }

    #[test]
    fn other_statuses_are_not_asked() {
        for status in [200, 301, 400, 500, 502] {
            assert_eq!(asked(status, "120"), None, "{status}");
        }
    }

    #[test]
    fn nonsense_is_ignored() {
        for value in ["", "soon", "-5", "1.5", "1e3", "99999999999999999999", "Sun, 06 Nov 1994"] {
            assert_eq!(asked(503, value), None, "{value}");
        }
    }

    proptest! {
        #[test]
        fn any_value_is_survived(value in "[ -~]{0,40}") {
            asked(429, &value);
        }
    }
}
