//! docrelay: a document event in, webhooks out, results back.

mod backoff;
pub mod broker;
pub mod config;
pub mod domain;
pub mod policy;
