//! `docrelay publish`: publishes events as an upstream service would, for trying things and for repairing them.

mod json;
mod pace;
mod sample;

use std::{
    fs,
    io::{self, IsTerminal as _, Read as _, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, bail};
use clap::ValueHint;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::Instant;

use self::{
    pace::{Pace, Rate},
    sample::{Kind, Samples},
};
use crate::{
    broker::{
        self,
        operator::{self, EventFeed, Tally},
    },
    config::Config,
    domain::{DocumentEvent, InboxId, OrganizationId, ProjectId},
};

/// From so many events on a progress bar is worth its line.
const MANY: u64 = 100;

/// Publish document events: samples, or your own from JSON.
///
///   docrelay publish                                    one sample of each of the nine events, for acme
///   docrelay publish --sample document_predict --organization globex --inbox invoices
///   docrelay publish --count 10000 --rate 500/s         many, evenly paced
///   docrelay publish events.json                        your own; `-` reads stdin
///
/// A file holds one JSON object, an array of them, or one a line. Names are those of the protobuf
/// message:
///
///   {"organization": "acme", "inbox": "invoices", "document_id": "doc-7",
///    "document_predict": {"document_json": {"total": 0.10}}}
///
/// Required: organization, document_id, and exactly one event. Optional: id (a new UUID),
/// occurred_at (RFC 3339), project, inbox, metadata. document_json is passed on byte for byte.
/// Everything is checked before anything is published. Ends with 1 if the broker refused any.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Args {
    /// Publish the events in this file; `-` is stdin.
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath,
          conflicts_with_all = ["sample", "organization", "project", "inbox", "count"])]
    file: Option<PathBuf>,

    /// Which sample: an event's name, such as document_text, or all.
    #[arg(long, value_name = "EVENT", default_value = "all")]
    sample: Kind,

    /// Whose document the samples are about.
    #[arg(long, value_name = "NAME", default_value = "acme")]
    organization: OrganizationId,

    /// The samples' project.
    #[arg(long, value_name = "NAME")]
    project: Option<ProjectId>,

    /// The samples' inbox.
    #[arg(long, value_name = "NAME")]
    inbox: Option<InboxId>,

    /// How many samples in all; with all kinds they take turns. Each has its own id. By default one of each kind.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,

    /// Publish evenly at most this fast: 50/s, 600/m or 10/h.
    #[arg(long, value_name = "RATE")]
    rate: Option<Rate>,

    /// The W3C trace context to put on every event.
    #[arg(long, value_name = "TRACEPARENT", value_parser = traceparent)]
    traceparent: Option<String>,
}

pub(super) async fn run(args: Args, config: &Config) -> anyhow::Result<ExitCode> {
    let (total, events): (u64, Box<dyn Iterator<Item = DocumentEvent> + Send>) = if let Some(path) = &args.file {
        let events = json::events(&read(path)?, config.events.max_bytes)
            .with_context(|| format!("nothing was published: {}", name(path)))?;
        (events.len() as u64, Box::new(events.into_iter()))
    } else {
        let samples = Samples::new(args.sample, args.organization, args.project, args.inbox, args.count);
        (samples.total(), Box::new(samples))
    };
    let connection = broker::connect(&config.broker, "docrelay publish").await?;
    let mut feed = EventFeed::open(&connection, &config.broker.events_exchange).await?;
    let (bar, began) = (progress(total), Instant::now());
    let pace = args.rate.map(Pace::new);
    for event in events {
        if let Some(pace) = &pace {
            pace.wait().await;
        }
        let publishing = feed.publish(&event, args.traceparent.as_deref()).await;
        let Tally { confirmed, refused } = feed.tally();
        publishing.with_context(|| format!("after {confirmed} of {total} events were confirmed"))?;
        bar.set_position(confirmed + refused);
    }
    let tally = feed.finish().await?;
    bar.finish_and_clear();
    operator::close(&connection).await;
    writeln!(io::stdout(), "{}", summary(tally, began.elapsed(), &config.broker.events_exchange))?;
    Ok(if tally.refused == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn read(path: &Path) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    if path == Path::new("-") {
        io::stdin().read_to_end(&mut bytes).context("cannot read stdin")?;
    } else {
        bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text),
        Err(error) => bail!("{} is not UTF-8 at byte {}", name(path), error.utf8_error().valid_up_to()),
    }
}

fn name(path: &Path) -> String {
    if path == Path::new("-") { "stdin".to_owned() } else { path.display().to_string() }
}

fn progress(total: u64) -> ProgressBar {
    if total < MANY || !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
    match ProgressStyle::with_template("{bar:40} {pos}/{len} confirmed, {per_sec}, {eta} left") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

fn summary(tally: Tally, took: Duration, exchange: &str) -> String {
    let Tally { confirmed, refused } = tally;
    let events = if confirmed == 1 { "event" } else { "events" };
    let took = Duration::from_millis(u64::try_from(took.as_millis()).unwrap_or(u64::MAX).max(1));
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = confirmed as f64 / took.as_secs_f64();
    let took = humantime::format_duration(took);
    let line = format!("Published {confirmed} {events} to {exchange} in {took} ({rate:.0}/s).");
    if refused == 0 { line } else { format!("{line} The broker refused {refused}; a full queue?") }
}

fn traceparent(text: &str) -> Result<String, String> {
    let lengths: Vec<_> = text.split('-').map(str::len).collect();
    let hex = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-'));
    if hex && lengths == [2, 32, 16, 2] {
        return Ok(text.to_owned());
    }
    Err("expected version-traceid-spanid-flags in lower-case hex, as in \
         00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        .to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_says_how_many_how_long_and_how_fast() {
        let all = Tally { confirmed: 1000, refused: 0 };
        assert_eq!(
            summary(all, Duration::from_secs(2), "documents"),
            "Published 1000 events to documents in 2s (500/s)."
        );
        let some = Tally { confirmed: 1, refused: 2 };
        assert!(summary(some, Duration::ZERO, "documents").contains("refused 2"));
    }

    #[test]
    fn a_traceparent_is_checked() {
        assert!(traceparent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01").is_ok());
        for bad in ["", "00-x", "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01"] {
            assert!(traceparent(bad).is_err(), "{bad}");
        }
    }
}
