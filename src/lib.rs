//! docrelay: a document event in, webhooks out, results back.

pub mod config;
pub mod domain;
