//! All integration tests: this list of modules is their table of contents.

mod receive;
mod support;
mod webhook;
