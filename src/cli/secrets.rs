//! `docrelay secrets`: the keys that secrets in the store are encrypted with.

use std::{
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Context as _;
use clap::{Subcommand, ValueHint};

use super::load::{load_config, open_store};
use crate::secrets::Key;

/// Make keys for the secrets in the store, and change from one to another.
///
/// Secrets of subscriptions that are made over the API are encrypted with the first key of
/// secrets.keys before they are stored. Keep the keys apart from the database and its backups:
/// whoever has both has the secrets, and without the keys nobody has.
///
///   docrelay secrets init --out keys          then DOCRELAY__SECRETS__KEYS_FILE=keys
///
/// To change the key: put a new line above the old one, restart every replica, rotate, take the
/// old line away.
///
///   docrelay secrets rotate
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Args {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make a new random key and print it.
    Init(Init),

    /// Encrypt every stored secret with the first key that is not encrypted with it yet.
    ///
    /// Safe while the service runs, and safe to do again.
    #[command(verbatim_doc_comment)]
    Rotate,
}

#[derive(Debug, clap::Args)]
pub(super) struct Init {
    /// Write it to this new file, which only its owner may read. A file that exists is never touched.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    out: Option<PathBuf>,
}

pub(super) async fn run(args: Args, files: &[PathBuf]) -> anyhow::Result<ExitCode> {
    match args.command {
        // Needs no settings: it is how they come to be.
        Command::Init(init) => self::init(&init),
        Command::Rotate => rotate(files).await,
    }
}

fn init(args: &Init) -> anyhow::Result<ExitCode> {
    let key = Key::generate()?;
    let Some(path) = &args.out else {
        writeln!(io::stdout(), "{}", key.reveal())?;
        return Ok(ExitCode::SUCCESS);
    };
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("cannot make {}", path.display()))?;
    writeln!(file, "{}", key.reveal())
        .and_then(|()| file.sync_all())
        .with_context(|| format!("cannot write {}", path.display()))?;
    writeln!(io::stderr(), "Wrote a new key to {}; use it with DOCRELAY__SECRETS__KEYS_FILE.", path.display())?;
    Ok(ExitCode::SUCCESS)
}

async fn rotate(files: &[PathBuf]) -> anyhow::Result<ExitCode> {
    let config = load_config(files)?;
    let store = open_store(&config).await?;
    let told = store.reseal().await;
    store.close().await;
    let told = told?;
    writeln!(
        io::stdout(),
        "Encrypted the secrets of {} subscriptions with the first key; {} were already.",
        told.resealed,
        told.current
    )?;
    for (id, error) in &told.unreadable {
        writeln!(io::stderr(), "docrelay: the secrets of {id} cannot be read, and are as they were: {error}")?;
    }
    Ok(if told.unreadable.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
