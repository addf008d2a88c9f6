//! Sending: one attempt of one delivery over HTTP. The HTTP library stops here.
//!
//! [`Client::send`] makes exactly one exchange and says how it went, after a login where the subscription has one. It
//! never retries what a receiver may have seen, but for one that refuses its token; it never follows a redirect, never
//! decides what comes next, and never connects to an address that [`EgressPolicy`] refuses.

mod answer;
mod client;
mod egress;
mod errors;
mod login;
mod request;
mod resolver;
mod signature;
mod template;

pub use self::{
    answer::MAX_RESPONSE_BYTES,
    client::{BuildError, Client},
    egress::{EgressPolicy, EgressRefused},
    request::Request,
    template::TemplateError,
};
