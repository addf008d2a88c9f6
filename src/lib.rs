//! docrelay: a document event in, webhooks out, results back.

pub mod admin;
pub mod app;
mod backoff;
pub mod broker;
pub mod cli;
pub mod config;
pub mod domain;
pub mod policy;
pub mod telemetry;
