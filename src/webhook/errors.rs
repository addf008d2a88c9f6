//! From the HTTP library's errors to docrelay's kinds, and to a short text for people.
//!
//! An error is a chain of causes; the first rule that knows one of them decides. The text is the innermost cause: it
//! names no URL, so neither query nor credentials can leak.

use std::{error::Error, io, iter::successors, time::Duration};

use super::{EgressRefused, TemplateError, resolver::Unresolved};
use crate::domain::FailureKind;

/// The longest text: causes may repeat what a receiver sent, such as the names in its certificate.
const MAX_TEXT_CHARS: usize = 300;

/// Why no complete answer came.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) kind: FailureKind,
    pub(super) text: String,
}

impl Failure {
    pub(super) fn new(kind: FailureKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into() }
    }
}

impl From<TemplateError> for Failure {
    fn from(error: TemplateError) -> Self {
        Self::new(FailureKind::Template, error.to_string())
    }
}

/// Classifies what the HTTP library reported.
///
/// * `egress`, `dns`, `tls`: where the cause says so, whatever the phase. A peer that hangs up during the handshake
///   is `tls`.
/// * `connect`: any other cause before the connection stood, `connect_timeout` included.
/// * `protocol`: what came back breaks the rules of HTTP.
/// * `reset`: the connection ended during the exchange; so does a body that is shorter than announced, and a stream
///   that an HTTP/2 server gave up.
pub(super) fn classify(error: &reqwest::Error, connect_timeout: Duration) -> Failure {
    if let Some(refused) = find::<EgressRefused>(error) {
        return Failure::new(FailureKind::Egress, refused.to_string());
    }
    if let Some(unresolved) = find::<Unresolved>(error) {
        return Failure::new(FailureKind::Dns, unresolved.to_string());
    }
    let text = innermost(error);
    if find::<rustls::Error>(error).is_some() {
        return Failure::new(FailureKind::Tls, text);
    }
    if error.is_builder() {
        return Failure::new(FailureKind::Internal, text);
    }
    if error.is_connect() {
        return while_connecting(error, text, connect_timeout);
    }
    let kind = if is_broken_http(error) { FailureKind::Protocol } else { FailureKind::Reset };
    Failure::new(kind, text)
}

fn while_connecting(error: &reqwest::Error, text: String, connect_timeout: Duration) -> Failure {
    if error.is_timeout() {
        let text = format!("no connection within {}", humantime::format_duration(connect_timeout));
        return Failure::new(FailureKind::Connect, text);
    }
    if io_kinds(error).any(is_hang_up) {
        return Failure::new(FailureKind::Tls, "the connection was closed during the TLS handshake");
    }
    Failure::new(FailureKind::Connect, text)
}

/// A peer that refuses a connection is told apart by the system, so one that hangs up had taken it; and before the
/// connection stands nothing but a TLS handshake goes over it.
fn is_hang_up(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(kind, BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
}

fn is_broken_http(error: &reqwest::Error) -> bool {
    use io::ErrorKind::{InvalidData, InvalidInput};
    find::<hyper::Error>(error).is_some_and(hyper::Error::is_parse)
        // A body's framing, such as a chunk's length, is reported this way.
        || io_kinds(error).any(|kind| matches!(kind, InvalidData | InvalidInput))
}

/// The kinds of all I/O errors: the outer ones only wrap.
fn io_kinds(error: &reqwest::Error) -> impl Iterator<Item = io::ErrorKind> {
    chain(error).filter_map(|cause| cause.downcast_ref()).map(io::Error::kind)
}

fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    chain(error).find_map(|cause| cause.downcast_ref())
}

fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    successors(Some(error), |error| {
        let error: &'a (dyn Error + 'static) = *error;
        // The `source` of an I/O error is what the error inside it has as source: it leaves that one out.
        match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner as &(dyn Error + 'static)),
            None => error.source(),
        }
    })
}

fn innermost(error: &reqwest::Error) -> String {
    // The outermost error is the only one that shows the URL; it is the innermost only if there is no cause at all.
    let cause = chain(error).skip(1).last();
    let text = cause.map_or_else(|| "the request could not be sent".to_owned(), ToString::to_string);
    if text.chars().nth(MAX_TEXT_CHARS).is_none() {
        return text;
    }
    text.chars().take(MAX_TEXT_CHARS).chain(['…']).collect()
}
