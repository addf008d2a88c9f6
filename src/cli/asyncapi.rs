//! `docrelay asyncapi`: the AMQP side for machines.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use crate::{
    broker::{asyncapi, topology::Topology},
    config::Config,
};

/// Print the AMQP side as an AsyncAPI 3 document.
///
/// Exchanges, routing keys, properties and messages, proto files included, with the names of the
/// settings in force. docs/asyncapi.json is the one with the names that are shipped.
///
///   docrelay asyncapi > asyncapi.json
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Args {}

pub(super) fn run(_: Args, config: &Config) -> anyhow::Result<ExitCode> {
    let document = asyncapi::document(&Topology::new(&config.broker).names);
    writeln!(io::stdout(), "{}", serde_json::to_string_pretty(&document)?)?;
    Ok(ExitCode::SUCCESS)
}
