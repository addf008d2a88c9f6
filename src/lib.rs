//! docrelay: a document event in, webhooks out, results back.
//!
//! The path of one event, in reading order: [`broker`] hands a message to [`flow`], which matches it against the
//! subscriptions of [`store`], renders the [`payload`], sends it through [`webhook`], and publishes what became of it.
//! The rules are pure and live in [`policy`]; the values they work on in [`domain`]. [`app`] puts it all together.

pub mod admin;
pub mod api;
pub mod app;
pub mod artifacts;
mod backoff;
pub mod broker;
pub mod cli;
pub mod config;
pub mod domain;
mod files;
pub mod flow;
mod memory;
pub mod payload;
pub mod policy;
pub mod secrets;
pub mod store;
pub mod telemetry;
pub mod webhook;
