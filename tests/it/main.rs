//! All integration tests: this list of modules is their table of contents.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic, their helpers too"
)]

mod artifacts;
mod asyncapi;
mod broker;
mod cli;
mod config;
mod flow;
mod receive;
mod slow;
mod store;
mod support;
mod targets;
mod tidy;
mod webhook;
