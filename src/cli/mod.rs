//! The commands: what can be asked for, and who does it. Commands speak through stdout; logs and errors go to stderr.

#![expect(clippy::doc_markdown, reason = "the doc comments of options are help texts: no backticks on a terminal")]
#![expect(rustdoc::broken_intra_doc_links, reason = "brackets in help texts are no links")]

mod asyncapi;
pub mod check_config;
mod dead;
mod healthcheck;
mod keys;
mod load;
mod openapi;
mod publish;
pub mod receive;
mod results;
mod secrets;
mod store;
mod topology;

use std::{io, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand, ValueHint};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::load::load_config;
use crate::{
    app,
    config::{self, LogConfig},
    telemetry::{self, Output},
};

/// Document events in, webhooks out, results back.
///
/// docrelay takes document events from RabbitMQ, sends a webhook to every subscription that
/// matches, tries failed ones again through delay queues in the broker, and publishes what became
/// of each.
///
/// The first minute, with a RabbitMQ on this machine:
///
///   docrelay topology --declare      create exchanges and queues
///   docrelay results &               watch what becomes of deliveries
///   docrelay run &                   the service
///   docrelay publish                 one sample of each event
///
/// Another broker: DOCRELAY__BROKER__URL=amqps://user:password@host/vhost, or `url` under [broker]
/// in a --config file. Every setting can be given in both ways; `docrelay check-config` prints
/// those in force.
#[derive(Debug, Parser)]
#[command(name = "docrelay", version, verbatim_doc_comment, max_term_width = 110)]
pub struct Cli {
    /// A settings file (TOML). May be given several times; later files win, environment variables win over all.
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    config: Vec<PathBuf>,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the service.
    ///
    /// Runs until SIGTERM or Ctrl-C, then finishes what is in flight (shutdown.grace); a second signal
    /// ends it at once. Logs go to stdout: text on a terminal, JSON otherwise (log.format).
    ///
    ///   docrelay run --config production.toml
    #[command(verbatim_doc_comment)]
    Run,

    /// Check the settings and print those in force, with secrets hidden.
    ///
    /// Reports every problem at once, connects to nothing and changes nothing.
    ///
    ///   docrelay check-config --config production.toml
    #[command(verbatim_doc_comment)]
    CheckConfig,

    Topology(topology::Args),
    Publish(publish::Args),
    Results(results::Args),
    Dead(dead::Args),
    Healthcheck(healthcheck::Args),
    Receive(receive::Args),
    Secrets(secrets::Args),
    Keys(keys::Args),
    Store(store::Args),
    Asyncapi(asyncapi::Args),
    Openapi(openapi::Args),
}

/// Does what was asked for.
///
/// # Errors
/// What went wrong, for people. A command that worked but found something amiss answers with a code instead.
pub async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    // These need no settings that are right, or not always.
    match cli.command {
        Command::CheckConfig => return check_config(&cli.config),
        Command::Receive(args) => return receive::run(args, until_interrupted()).await.map(|()| ExitCode::SUCCESS),
        Command::Openapi(args) => return openapi::run(args),
        Command::Secrets(args) => return secrets::run(args, &cli.config).await,
        _ => {}
    }
    let config = load_config(&cli.config)?;
    if let Command::Run = cli.command {
        telemetry::init(&config.log, Output::Stdout)?;
        return app::run(config).await.map(|()| ExitCode::SUCCESS);
    }
    // A command tells its own errors; what libraries log about them on the way would only say it twice.
    telemetry::init(&LogConfig { level: "off".to_owned(), ..config.log.clone() }, Output::Stderr)?;
    match cli.command {
        Command::Run | Command::CheckConfig | Command::Receive(_) | Command::Secrets(_) | Command::Openapi(_) => {
            Ok(ExitCode::SUCCESS)
        }
        Command::Topology(args) => topology::run(args, &config).await,
        Command::Publish(args) => publish::run(args, &config).await,
        Command::Results(args) => results::run(args, &config).await,
        Command::Dead(args) => dead::run(args, &config).await,
        Command::Healthcheck(args) => healthcheck::run(args, &config).await,
        Command::Keys(args) => keys::run(args, &config).await,
        Command::Store(args) => store::run(args, &config).await,
        Command::Asyncapi(args) => asyncapi::run(args, &config),
    }
}

fn check_config(files: &[PathBuf]) -> anyhow::Result<ExitCode> {
    let correct = check_config::run(files, config::environment(), &mut io::stdout().lock())?;
    Ok(if correct { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Cancelled by Ctrl-C or SIGTERM.
fn until_interrupted() -> CancellationToken {
    let stop = CancellationToken::new();
    let interrupted = stop.clone();
    TaskTracker::new().spawn(async move {
        let ctrl_c = tokio::signal::ctrl_c();
        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => tokio::select! { _ = ctrl_c => {}, _ = terminate.recv() => {} },
            Err(_) => drop(ctrl_c.await),
        }
        interrupted.cancel();
    });
    stop
}

/// Whether somebody stopped reading the output (`docrelay results | head`): a quiet end, not an error.
#[must_use]
pub fn is_closed_pipe(error: &anyhow::Error) -> bool {
    // Only an error of our own output: a connection that breaks is a broken pipe, too, and an error.
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Text from outside for a terminal: without control characters, at most `most` characters.
fn for_people(text: &str, most: usize) -> String {
    let mut shown: String =
        text.chars().take(most).map(|character| if character.is_control() { ' ' } else { character }).collect();
    if text.chars().nth(most).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_and_every_option_has_a_help_text() {
        fn check(command: &clap::Command) {
            assert!(command.get_about().is_some(), "{} says nothing", command.get_name());
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{} {}", command.get_name(), argument.get_id());
            }
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }

    #[test]
    fn text_from_outside_cannot_steer_the_terminal() {
        assert_eq!(for_people("a\u{1b}[31mb\nc", 20), "a [31mb c");
        assert_eq!(for_people("ääää", 3), "äää…");
    }
}
