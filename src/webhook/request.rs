//! What goes over the wire: method, URL, headers, body. Pure; it sends nothing.

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method,
    header::{AUTHORIZATION, CONTENT_TYPE, USER_AGENT},
};
use percent_encoding::percent_decode_str;
use tokio::{sync::Notify, time::Instant};
use url::Url;

use super::{TemplateError, signature, template};
use crate::{
    domain::{DeliveryId, DocumentEvent, HttpTarget, Subscription, Timestamp, TraceContext, Trial},
    telemetry::trace::Scope,
};

static WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
static WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
static WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
static TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
static DOCRELAY_EVENT: HeaderName = HeaderName::from_static("docrelay-event");
static DOCRELAY_ATTEMPT: HeaderName = HeaderName::from_static("docrelay-attempt");
static DOCRELAY_TEST: HeaderName = HeaderName::from_static("docrelay-test");

pub(super) const OUR_USER_AGENT: &str = concat!("docrelay/", env!("CARGO_PKG_VERSION"));

/// Headers that docrelay may add to the configured ones, `Authorization` from the URL and what the HTTP library adds
/// (`accept`, `host`) included: the map is allocated once.
const ADDED_HEADERS: usize = 13;

/// One attempt to be made.
#[derive(Debug)]
pub struct Request<'a> {
    /// What happened.
    pub event: &'a DocumentEvent,
    /// To whom it is told.
    pub subscription: &'a Subscription,
    /// The subscription's target.
    pub target: &'a HttpTarget,
    /// `webhook-id`: the same on every attempt.
    pub delivery: DeliveryId,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// When the attempt begins: `webhook-timestamp`, and what a date in `Retry-After` is measured against.
    pub at: Timestamp,
    /// The same by the clock that deadlines go by: what was done before, such as signing a link, is part of the attempt.
    pub began: Instant,
    /// The rendered payload. GET, HEAD and DELETE carry no body, every other method carries it.
    pub body: Bytes,
    /// The trace that the receiver is told: of this attempt, or upstream's where nothing is recorded.
    pub trace: &'a TraceContext,
    /// The attempt's span, which a login is a part of.
    pub scope: Option<&'a Scope>,
    /// A test send, which says so and keeps the answer's headers.
    pub trial: Option<&'a Trial>,
    /// Notified when a login that comes first has answered, or was not needed.
    pub logged_in: Option<&'a Notify>,
}

impl Request<'_> {
    /// The request as the HTTP library wants it.
    ///
    /// # Errors
    /// When the document's id does not fit the URL's template.
    pub(super) fn build(&self) -> Result<reqwest::Request, TemplateError> {
        let target = self.target;
        let mut url = if target.template {
            template::fill(target.url.as_url(), &self.event.document)?
        } else {
            target.url.as_url().clone()
        };
        let has_body = carries_body(&target.method);
        let mut headers = self.headers(has_body);
        move_credentials(&mut url, &mut headers);

        let mut request = reqwest::Request::new(target.method.clone(), url);
        *request.headers_mut() = headers;
        if has_body {
            *request.body_mut() = Some(self.body.clone().into());
        }
        Ok(request)
    }

    fn headers(&self, has_body: bool) -> HeaderMap {
        let configured = &self.target.headers;
        let mut headers = HeaderMap::with_capacity(configured.len() + ADDED_HEADERS);
        for (name, value) in configured {
            headers.append(name, value.clone());
        }
        if has_body && !configured.contains_key(CONTENT_TYPE) {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.subscription.payload.content_type()));
        }
        if !configured.contains_key(USER_AGENT) {
            headers.insert(USER_AGENT, HeaderValue::from_static(OUR_USER_AGENT));
        }
        let mut buffer = uuid::Uuid::encode_buffer();
        let trial = self.trial.map(|_| Trial::id_of(self.delivery));
        let id: &str = match &trial {
            Some(id) => id,
            None => self.delivery.uuid().hyphenated().encode_lower(&mut buffer),
        };
        if let Ok(value) = HeaderValue::from_str(id) {
            headers.insert(WEBHOOK_ID.clone(), value);
        }
        let timestamp = self.at.to_unix().0;
        headers.insert(WEBHOOK_TIMESTAMP.clone(), timestamp.into());
        let signed = if has_body { &self.body[..] } else { &[] };
        if let Some(signature) = signature::sign(&self.subscription.signing_secrets, id, timestamp, signed) {
            headers.insert(WEBHOOK_SIGNATURE.clone(), signature);
        }
        headers.insert(DOCRELAY_EVENT.clone(), HeaderValue::from_static(self.event.name().as_str()));
        headers.insert(DOCRELAY_ATTEMPT.clone(), self.attempt.into());
        self.put_trace(&mut headers);
        if trial.is_some() {
            headers.insert(DOCRELAY_TEST.clone(), HeaderValue::from_static("true"));
        }
        headers
    }
}

impl Request<'_> {
    /// What is malformed is no receiver's business.
    fn put_trace(&self, headers: &mut HeaderMap) {
        let TraceContext { traceparent: Some(traceparent), tracestate } = self.trace else { return };
        if self.trace.trace_id().is_none() {
            return;
        }
        let texts = [(&TRACEPARENT, Some(traceparent)), (&TRACESTATE, tracestate.as_ref())];
        for (name, text) in texts {
            if let Some(value) = text.and_then(|text| HeaderValue::from_str(text).ok()) {
                headers.insert(name.clone(), value);
            }
        }
    }
}

/// Whether a request with this method carries the payload.
fn carries_body(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::DELETE)
}

/// User information in a URL is sent as basic credentials, as every client does, unless the subscription sets an
/// `Authorization`. It leaves the URL in any case, so that no log and no error can show it.
pub(super) fn move_credentials(url: &mut Url, headers: &mut HeaderMap) {
    if url.username().is_empty() && url.password().is_none() {
        return;
    }
    if !headers.contains_key(AUTHORIZATION) {
        let mut plain: Vec<u8> = percent_decode_str(url.username()).collect();
        plain.push(b':');
        plain.extend(percent_decode_str(url.password().unwrap_or_default()));
        if let Ok(mut value) = HeaderValue::from_str(&format!("Basic {}", BASE64_STANDARD.encode(plain))) {
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
    }
    // These fail only for URLs without a host, and a target has one.
    url.set_username("").ok();
    url.set_password(None).ok();
}
