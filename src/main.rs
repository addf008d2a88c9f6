//! The `docrelay` program: the allocator, the runtime, and how errors are shown. Everything else is in the library.

use std::{io::Write as _, process::ExitCode};

use clap::Parser as _;
use docrelay::cli::{self, Cli};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Bad usage ends here with code 2.
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
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
