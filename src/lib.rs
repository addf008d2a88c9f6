//! docrelay: a document event in, webhooks out, results back.

pub mod cli;
pub mod config;
pub mod domain;
pub mod flow;
pub mod store;
