//! `docrelay topology`: what exists on the broker, and why.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use crate::{
    broker::{self, operator, topology::Topology},
    config::{Config, Declare},
};

/// Print the exchanges, queues and bindings that docrelay needs, or declare them.
///
/// `docrelay run` declares them as well, unless broker.declare is "verify". Declaring is safe at
/// any time: what exists is left as it is, and what differs is refused with the queue's name and
/// the difference.
///
///   docrelay topology                what is needed, with every argument
///   docrelay topology --declare      create what is missing
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Args {
    /// Create what is missing on the broker (whatever broker.declare says).
    #[arg(long)]
    declare: bool,
}

pub(super) async fn run(args: Args, config: &Config) -> anyhow::Result<ExitCode> {
    let topology = Topology::new(&config.broker);
    if !args.declare {
        write!(io::stdout(), "{}", topology.render())?;
        return Ok(ExitCode::SUCCESS);
    }
    let connection = broker::connect(&config.broker, "docrelay topology").await?;
    broker::declare(&connection, &topology, Declare::Create).await?;
    operator::close(&connection).await;
    writeln!(
        io::stdout(),
        "Declared {} exchanges, {} queues and {} bindings; `docrelay topology` lists them.",
        topology.exchanges.len(),
        topology.queues.len(),
        topology.bindings.len()
    )?;
    Ok(ExitCode::SUCCESS)
}
