//! `docrelay openapi`: the HTTP API for machines.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use crate::api::openapi;

/// Print the HTTP API as an OpenAPI 3.1 document.
///
/// The service serves it at /openapi.json, and docs/openapi.json is the same. Needs no settings.
///
///   docrelay openapi > openapi.json
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Args {}

pub(super) fn run(_: Args) -> anyhow::Result<ExitCode> {
    writeln!(io::stdout(), "{}", serde_json::to_string_pretty(&openapi::document())?)?;
    Ok(ExitCode::SUCCESS)
}
