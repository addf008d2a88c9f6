//! Reads requests: who asks, what is in the query, and the body, which is one bounded JSON object. Whatever is not as it
//! must be is answered with a problem.

use std::{str::FromStr, sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::{FromRequest, FromRequestParts, Path, Request},
    http::{HeaderMap, Uri, header, request::Parts},
};
use futures_util::StreamExt as _;
use serde_json::Value;
use tokio::time::timeout;
use url::form_urlencoded;

use super::{
    Api,
    desk::Refusal,
    doorman::Caller,
    kind::Kind,
    problem::{FieldError, Problem},
    secrets::Json,
    server::Peer,
    view,
};
use crate::domain::{SubscriptionId, Timestamp};

/// The largest body. A subscription with everything that it may have needs a fraction of it.
pub(super) const MOST_BYTES: usize = 64 * 1024;

/// How long a body may take to come.
const BODY_DEADLINE: Duration = Duration::from_secs(10);

impl FromRequestParts<Arc<Api>> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Problem> {
        // The server puts it there.
        let peer = parts.extensions.get::<Peer>().copied();
        let peer = peer.ok_or_else(|| Problem::new(Kind::Internal, "The peer's address is not known."))?;
        api.doorman.admit(&api.desk, &parts.headers, peer).await
    }
}

/// The id in a path. What can be none is nowhere.
#[derive(Debug)]
pub(super) struct Id(pub(super) SubscriptionId);

impl FromRequestParts<Arc<Api>> for Id {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Problem> {
        let text = Path::<String>::from_request_parts(parts, api).await.ok();
        text.and_then(|Path(text)| text.parse().ok()).map(Self).ok_or_else(|| Refusal::Absent.into())
    }
}

/// A body that is a JSON object. It has no `Debug`: it may hold secrets.
pub(super) struct Object(pub(super) Json);

impl FromRequest<Arc<Api>> for Object {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &Arc<Api>) -> Result<Self, Problem> {
        let is_patch = request.method() == axum::http::Method::PATCH;
        check_type(request.headers(), is_patch)?;
        let body = timeout(BODY_DEADLINE, read(request.into_body())).await;
        let body =
            body.map_err(|_| Problem::new(Kind::RequestTimeout, "The body did not come within ten seconds."))??;
        match serde_json::from_slice(&body) {
            Ok(Value::Object(object)) => Ok(Self(object)),
            Ok(_) => {
                let error = FieldError::at("", "expected an object").expecting("an object");
                Err(Problem::invalid(vec![error]))
            }
            // It says what is missing and where, and nothing of the text.
            Err(error) => Err(Problem::new(Kind::MalformedJson, format!("The body is not JSON: {error}."))),
        }
    }
}

fn check_type(headers: &HeaderMap, is_patch: bool) -> Result<(), Problem> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let is_known = match media_type.as_str() {
        "application/json" => true,
        "application/merge-patch+json" => is_patch,
        _ => false,
    };
    let expected = if is_patch { "application/merge-patch+json or application/json" } else { "application/json" };
    let got = if media_type.is_empty() { "nothing".to_owned() } else { format!("{media_type:?}") };
    let detail = || format!("The header Content-Type must be {expected}, and is {got}.");
    if is_known { Ok(()) } else { Err(Problem::new(Kind::UnsupportedMediaType, detail())) }
}

/// The whole body, if it is not too large and comes in time.
async fn read(body: Body) -> Result<Vec<u8>, Problem> {
    let (mut bytes, mut stream) = (Vec::new(), body.into_data_stream());
    let reading = async {
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(|_| Problem::new(Kind::RequestTimeout, "The body ended before its end."))?;
            if bytes.len() + chunk.len() > MOST_BYTES {
                return Err(Problem::new(Kind::TooLarge, format!("A body may have at most {MOST_BYTES} bytes.")));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(())
    };
    let in_time = timeout(BODY_DEADLINE, reading).await;
    in_time.map_err(|_| Problem::new(Kind::RequestTimeout, "The body did not come within ten seconds."))??;
    Ok(bytes)
}

/// The parameters of a query. Each is taken once; what is left in the end is unknown.
#[derive(Debug)]
pub(super) struct Query {
    pairs: Vec<(String, String)>,
    errors: Vec<FieldError>,
}

impl Query {
    /// Of this address.
    #[must_use]
    pub(super) fn of(uri: &Uri) -> Self {
        let pairs = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
        Self { pairs: pairs.into_owned().collect(), errors: Vec::new() }
    }

    /// A parameter that reads as something, if it is there.
    pub(super) fn take<T: FromStr>(&mut self, name: &str, expected: &str, fits: impl FnOnce(&T) -> bool) -> Option<T> {
        let place = self.pairs.iter().position(|(found, _)| found == name)?;
        let (_, text) = self.pairs.remove(place);
        let value = text.parse().ok().filter(fits);
        if value.is_none() {
            self.errors.push(FieldError::parameter(name, expected, &text));
        }
        value
    }

    /// Nothing else is expected.
    ///
    /// # Errors
    /// What was wrong, and what is unknown or there twice.
    pub(super) fn end(mut self) -> Result<(), Problem> {
        for (name, _) in self.pairs {
            let mut error = FieldError::at("", "is unknown here, or was given twice");
            (error.pointer, error.parameter) = (None, Some(name));
            self.errors.push(error);
        }
        if self.errors.is_empty() { Ok(()) } else { Err(Problem::invalid(self.errors)) }
    }
}

/// The version that If-Match asks for; `None` without it, and with `*`.
///
/// # Errors
/// It is no entity tag of this API, so nothing can match it.
pub(super) fn if_match(headers: &HeaderMap) -> Result<Option<Timestamp>, Problem> {
    let Some(value) = headers.get(header::IF_MATCH).filter(|value| *value != "*") else { return Ok(None) };
    let expected = value.to_str().ok().and_then(view::of_etag);
    expected.map(Some).ok_or_else(|| Problem::new(Kind::Changed, "If-Match is no ETag that was ever given here."))
}

#[cfg(test)]
mod tests {
    use std::io;

    use bytes::Bytes;
    use futures_util::stream;
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_in_time_is_given_up() {
        let begun = Instant::now();
        let first = stream::iter([Ok::<_, io::Error>(Bytes::from_static(b"{"))]);
        let problem = read(Body::from_stream(first.chain(stream::pending()))).await.unwrap_err();
        assert_eq!(problem, Problem::new(Kind::RequestTimeout, "The body did not come within ten seconds."));
        assert_eq!(begun.elapsed(), BODY_DEADLINE);
    }

    #[tokio::test]
    async fn a_body_is_read_up_to_its_bound_and_no_further() {
        let of = |bytes: usize| read(Body::from(vec![b' '; bytes]));
        assert_eq!(of(MOST_BYTES).await.map(|body| body.len()), Ok(MOST_BYTES));
        assert_eq!(
            of(MOST_BYTES + 1).await.map(drop),
            Err(Problem::new(Kind::TooLarge, "A body may have at most 65536 bytes."))
        );
        let endless = stream::repeat(Bytes::from_static(b"x")).map(Ok::<_, io::Error>);
        assert!(read(Body::from_stream(endless)).await.is_err());
    }
}
