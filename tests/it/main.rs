//! What only real servers can show. The list of modules is the table of contents.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod cli;
mod support;
