//! `docrelay dead`: looks after what could not be processed. Each command is one pass over what was there at its start;
//! what changes anything is a dry run until `--yes`.

mod show;
mod table;

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use anyhow::bail;
use clap::Subcommand;

use self::table::Table;
use crate::{
    broker::{
        self, Origin,
        operator::{self, DeadLetters, Letter, Redriven},
        topology::Topology,
    },
    config::Config,
};

/// Look at what could not be processed, publish it again, or delete it.
///
/// Whatever docrelay cannot process is kept in the queue docrelay.dead, with the reason and the
/// field in its headers: undecodable, missing_field, bad_json, too_large, too_long,
/// wrong_property, no_known_event, result_refused; delivery_limit and unrouted were put there by
/// the broker. All of this is safe while the service runs.
///
///   docrelay dead list                                 what is there, with totals by reason and organization
///   docrelay dead show --reason bad_json --limit 1     one of them whole
///   docrelay dead redrive --reason no_known_event      what would be published again, after an upgrade, say
///   docrelay dead redrive --reason no_known_event --yes
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List dead letters, with totals by reason and organization.
    List(Filter),

    /// Show dead letters whole: headers, size, and what they hold, as far as it can be read.
    Show(Filter),

    /// Publish dead letters again where they came from, without the headers that say why they are
    /// here.
    ///
    /// Each is taken off only when the broker has confirmed it. Without --yes it only says what it
    /// would do.
    #[command(verbatim_doc_comment)]
    Redrive(Change),

    /// Delete dead letters for good.
    ///
    /// With --organization, a letter that holds what others are owed as well, or may, stays, and the
    /// exit code is 1. Without --yes it only says what it would do.
    #[command(verbatim_doc_comment)]
    Purge(Change),
}

/// Which dead letters; all conditions together.
#[derive(Debug, clap::Args)]
struct Filter {
    /// Only those set aside for this reason.
    #[arg(long, value_name = "REASON")]
    reason: Option<String>,

    /// Only those of this organization, also where they hold what others are owed as well.
    #[arg(long, value_name = "NAME")]
    organization: Option<String>,

    /// Only those with this message id. May be given several times.
    #[arg(long, value_name = "MESSAGE_ID")]
    id: Vec<String>,

    /// At most this many, the oldest first.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
}

#[derive(Debug, clap::Args)]
struct Change {
    #[command(flatten)]
    filter: Filter,

    /// Do it. Without it nothing is changed.
    #[arg(long)]
    yes: bool,
}

impl Filter {
    fn wants(&self, letter: &Letter) -> bool {
        self.reason.as_ref().is_none_or(|reason| *reason == letter.reason)
            && self.organization.as_ref().is_none_or(|organization| letter.organizations.contains(organization))
            && (self.id.is_empty() || letter.message_id.as_ref().is_some_and(|id| self.id.contains(id)))
    }

    /// Whether it was asked for an organization, and the letter holds what others are owed as well, or may.
    fn is_of_others_too(&self, letter: &Letter) -> bool {
        self.organization.is_some() && (letter.organizations.len() > 1 || letter.content().holds_some_unreadable())
    }

    fn limit(&self) -> u64 {
        self.limit.unwrap_or(u64::MAX)
    }
}

pub(super) async fn run(args: Args, config: &Config) -> anyhow::Result<ExitCode> {
    let names = Topology::new(&config.broker).names;
    let connection = broker::connect(&config.broker, "docrelay dead").await?;
    let mut letters = DeadLetters::open(&connection, &names).await?;
    let code = match args.command {
        Command::List(filter) => list(&mut letters, &filter).await?,
        Command::Show(filter) => show(&mut letters, &filter).await?,
        Command::Redrive(change) => redrive(&mut letters, &change).await?,
        Command::Purge(change) => purge(&mut letters, &change).await?,
    };
    letters.close().await?;
    operator::close(&connection).await;
    Ok(code)
}

/// The next letter that is wanted.
async fn next(letters: &mut DeadLetters, filter: &Filter) -> anyhow::Result<Option<Letter>> {
    while let Some(letter) = letters.next().await? {
        if filter.wants(&letter) {
            return Ok(Some(letter));
        }
    }
    Ok(None)
}

async fn list(letters: &mut DeadLetters, filter: &Filter) -> anyhow::Result<ExitCode> {
    let mut table = Table::default();
    while table.rows() < filter.limit() {
        let Some(letter) = next(letters, filter).await? else { break };
        table.add(&letter);
    }
    write!(io::stdout(), "{table}")?;
    Ok(ExitCode::SUCCESS)
}

async fn show(letters: &mut DeadLetters, filter: &Filter) -> anyhow::Result<ExitCode> {
    let mut shown = 0;
    while shown < filter.limit() {
        let Some(letter) = next(letters, filter).await? else { break };
        if shown > 0 {
            writeln!(io::stdout())?;
        }
        write!(io::stdout(), "{}", show::whole(&letter))?;
        shown += 1;
    }
    if shown == 0 {
        bail!("no dead letter is like that; `docrelay dead list` shows what is there");
    }
    Ok(ExitCode::SUCCESS)
}

async fn redrive(letters: &mut DeadLetters, change: &Change) -> anyhow::Result<ExitCode> {
    let (mut seen, mut done, mut refused, mut homeless) = (0, 0, 0, 0);
    let mut table = Table::default();
    while seen < change.filter.limit() {
        let Some(letter) = next(letters, &change.filter).await? else { break };
        seen += 1;
        if letter.origin.is_none() {
            homeless += 1;
        } else if !change.yes {
            table.add(&letter);
        } else {
            match letters.redrive(&letter).await? {
                Redriven::Done => done += 1,
                Redriven::Refused => refused += 1,
                Redriven::Homeless => homeless += 1,
            }
        }
    }
    if change.yes {
        writeln!(io::stdout(), "Published {done} again.")?;
    } else {
        write!(io::stdout(), "{table}")?;
        dry_run("published again", table.rows())?;
    }
    if refused > 0 {
        writeln!(io::stderr(), "The broker refused {refused}; they stay.")?;
    }
    if homeless > 0 {
        writeln!(io::stderr(), "Nothing says where {homeless} came from; they stay.")?;
    }
    Ok(if refused + homeless == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn purge(letters: &mut DeadLetters, change: &Change) -> anyhow::Result<ExitCode> {
    let (mut table, mut of_others_too) = (Table::default(), 0);
    while table.rows() < change.filter.limit() {
        let Some(letter) = next(letters, &change.filter).await? else { break };
        if change.filter.is_of_others_too(&letter) {
            of_others_too += 1;
            continue;
        }
        if change.yes {
            letters.remove(&letter).await?;
        }
        table.add(&letter);
    }
    if change.yes {
        writeln!(io::stdout(), "Deleted {}.", table.rows())?;
    } else {
        write!(io::stdout(), "{table}")?;
        dry_run("deleted for good", table.rows())?;
    }
    if of_others_too > 0 {
        writeln!(io::stderr(), "{of_others_too} hold what other organizations are owed as well, or may; they stay.")?;
    }
    Ok(if of_others_too == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn dry_run(what: &str, count: u64) -> io::Result<()> {
    match count {
        0 => Ok(()),
        _ => writeln!(io::stdout(), "Nothing was changed: {count} would be {what}. Add --yes to do it."),
    }
}

/// Where a letter goes when it is published again.
fn origin(letter: &Letter) -> &'static str {
    letter.origin.map_or("?", Origin::as_str)
}
