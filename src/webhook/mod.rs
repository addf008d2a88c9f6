//! Sending: one attempt of one delivery over HTTP. The HTTP library stops here.
//!
//! [`Client::send`] makes exactly one exchange and says how it went. It never retries what a receiver may have seen,
//! never follows a redirect, never decides what comes next, and never connects to an address that
//! [`EgressPolicy`] refuses.

mod answer;
mod client;
mod egress;
mod errors;
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
