//! All integration tests: this list of modules is their table of contents.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may panic, their helpers too")]

mod config;
mod receive;
mod support;
mod webhook;
