//! `docrelay store`: the database itself.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::Subcommand;

use super::load::create_store;
use crate::config::Config;

/// Make the store that the settings name, or bring its tables up to date.
///
/// A service does the same when it starts, but for one thing: it never makes a SQLite file, because
/// a file that is not there may be on a volume that is not mounted yet. Needs store.url.
///
///   docrelay store init          safe to do again, and while services run
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make it if it is not there, and its tables; bring older tables up to date.
    Init,
}

pub(super) async fn run(args: Args, config: &Config) -> anyhow::Result<ExitCode> {
    let Command::Init = args.command;
    let store = create_store(config).await?;
    let changes = store.counter().await;
    store.close().await;
    changes?;
    writeln!(io::stdout(), "The store is there, and its tables are up to date.")?;
    Ok(ExitCode::SUCCESS)
}
