//! `docrelay keys`: who may use the API.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use anyhow::bail;
use clap::Subcommand;
use serde::Serialize;

use super::{
    for_people,
    load::{create_store, open_store},
};
use crate::{
    config::Config,
    domain::{self, OrganizationId, Timestamp},
    store::database::{ApiKey, KeyOwner, Store},
};

/// How much of a name stands on a line.
const SHOWN_CHARS: usize = 64;

/// Make, list and revoke keys of the API.
///
/// A key opens one organization's things, or with --operator everything. It is shown once, when
/// it is made; the store keeps only its hash. Needs store.url.
///
///   docrelay keys create --organization acme --name "their ERP"
///   docrelay keys list
///   docrelay keys revoke 4f0c9ad2-6a5e-4b0f-9a55-0d6f5a7c1e11
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a key and print it. It cannot be shown again.
    Create(Create),

    /// List all keys, revoked ones included, by their last characters.
    List(Output),

    /// Make a key open nothing any more, from its next use on.
    Revoke(Revoke),
}

#[derive(Debug, clap::Args)]
struct Create {
    /// For this organization's things.
    #[arg(long, value_name = "NAME", required_unless_present = "operator")]
    organization: Option<OrganizationId>,

    /// For everything.
    #[arg(long, conflicts_with = "organization")]
    operator: bool,

    /// What people call it.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true, value_parser = name)]
    name: String,

    #[command(flatten)]
    output: Output,
}

#[derive(Debug, clap::Args)]
struct Revoke {
    /// The key's id, as `docrelay keys list` shows it.
    #[arg(value_name = "ID")]
    id: String,

    #[command(flatten)]
    output: Output,
}

#[derive(Debug, clap::Args)]
struct Output {
    /// One JSON object a line, with every field.
    #[arg(long)]
    json: bool,
}

fn name(text: &str) -> Result<String, crate::store::database::BadKeyName> {
    ApiKey::check_name(text).map(|()| text.to_owned())
}

pub(super) async fn run(args: Args, config: &Config) -> anyhow::Result<ExitCode> {
    // The first key is what a new store begins with.
    let store = match args.command {
        Command::Create(_) => create_store(config).await?,
        Command::List(_) | Command::Revoke(_) => open_store(config).await?,
    };
    let done = match args.command {
        Command::Create(create) => self::create(create, &store).await,
        Command::List(output) => list(&output, &store).await,
        Command::Revoke(revoke) => self::revoke(&revoke, &store).await,
    };
    store.close().await;
    done.map(|()| ExitCode::SUCCESS)
}

async fn create(args: Create, store: &Store) -> anyhow::Result<()> {
    let owner = args.organization.map_or(KeyOwner::Operator, KeyOwner::Organization);
    let (key, text) = store.create_key(owner, &args.name, domain::now()).await?;
    if args.output.json {
        writeln!(io::stdout(), "{}", json(&key, Some(text.reveal()))?)?;
        return Ok(());
    }
    // The key alone on stdout, for scripts.
    writeln!(io::stdout(), "{}", text.reveal())?;
    writeln!(io::stderr(), "This is the key {} for {}. It is not shown again.", key.id, key.owner)?;
    Ok(())
}

async fn list(output: &Output, store: &Store) -> anyhow::Result<()> {
    for key in store.list_keys().await? {
        if output.json {
            writeln!(io::stdout(), "{}", json(&key, None)?)?;
        } else {
            writeln!(io::stdout(), "{}", line(&key))?;
        }
    }
    Ok(())
}

async fn revoke(args: &Revoke, store: &Store) -> anyhow::Result<()> {
    let Some(key) = store.revoke_key(&args.id, domain::now()).await? else {
        bail!("there is no key with the id {:?}; `docrelay keys list` shows all", args.id);
    };
    if args.output.json {
        writeln!(io::stdout(), "{}", json(&key, None)?)?;
    } else {
        writeln!(io::stdout(), "{}", line(&key))?;
    }
    Ok(())
}

fn line(key: &ApiKey) -> String {
    let state = key.revoked_at.map_or_else(|| "valid".to_owned(), |at| format!("revoked {}", at.to_rfc3339()));
    let owner = for_people(&key.owner.to_string(), SHOWN_CHARS);
    let name = for_people(&key.name, SHOWN_CHARS);
    let (id, ending, made) = (&key.id, &key.ending, key.created_at.to_rfc3339());
    format!("{id}  …{ending}  {owner:24}  made {made}  {state}  {name}").trim_end().to_owned()
}

/// A key as JSON; with its text only when it was made just now.
#[derive(Serialize)]
struct Json<'a> {
    id: &'a str,
    organization: Option<&'a str>,
    operator: bool,
    name: &'a str,
    ending: &'a str,
    created_at: String,
    revoked_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
}

fn json(key: &ApiKey, text: Option<&str>) -> serde_json::Result<String> {
    serde_json::to_string(&Json {
        id: &key.id,
        organization: key.owner.organization().map(OrganizationId::as_str),
        operator: key.owner == KeyOwner::Operator,
        name: &key.name,
        ending: &key.ending,
        created_at: key.created_at.to_rfc3339(),
        revoked_at: key.revoked_at.map(Timestamp::to_rfc3339),
        key: text,
    })
}
