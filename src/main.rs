//! The `docrelay` program: the allocator, the runtime, and how errors are shown. Everything else is in the library.

use std::{io::Write as _, process::ExitCode};

use clap::Parser as _;
use docrelay::{
    cli::{self, Cli},
    config::environment,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Bad usage ends here with code 2.
    let cli = Cli::parse();
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if let Some(workers) = workers() {
        builder.worker_threads(workers);
    }
    let runtime = match builder.enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return show(&anyhow::Error::new(error).context("cannot start the runtime")),
    };
    let outcome = runtime.block_on(cli::run(cli));
    // Not dropped: that would wait for a read from the terminal that may never end.
    runtime.shutdown_background();
    match outcome {
        Ok(code) => code,
        Err(error) if cli::is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => show(&error),
    }
}

/// One core is left to the AMQP client, whose connections have threads of their own: with a worker for each core, workers
/// and these threads wake each other more than they work. `None` where `TOKIO_WORKER_THREADS` says how many.
fn workers() -> Option<usize> {
    if environment().any(|(name, _)| name == "TOKIO_WORKER_THREADS") {
        return None;
    }
    let cores = std::thread::available_parallelism().ok()?.get();
    Some(cores.saturating_sub(1).max(1))
}

/// The error and its causes, each once.
fn show(error: &anyhow::Error) -> ExitCode {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    // Where even stderr is gone there is nobody to tell.
    drop(writeln!(std::io::stderr(), "docrelay: {text}"));
    ExitCode::FAILURE
}
