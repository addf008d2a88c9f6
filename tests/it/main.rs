//! All integration tests: this list of modules is their table of contents.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic, their helpers too"
)]

mod api;
mod artifacts;
mod broker;
mod cli;
mod config;
mod flow;
mod metrics;
mod pages;
mod receive;
mod simulation;
mod slow;
mod stack;
mod store;
mod support;
mod targets;
mod tidy;
mod traces;
mod webhook;
