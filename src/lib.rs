//! docrelay: a document event in, webhooks out, results back.

mod backoff;
pub mod broker;
pub mod cli;
pub mod config;
pub mod domain;
pub mod flow;
pub mod payload;
pub mod policy;
pub mod store;
pub mod webhook;
