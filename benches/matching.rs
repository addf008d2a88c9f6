//! What matching an event costs beside 1,000, 10,000, 100,000 and 1,000,000 subscriptions, always with ten matches: the
//! median of many rounds, and its ratio to the smallest. Part of `make bench`; writes `target/bench/matching.json`.

#![expect(clippy::print_stdout, reason = "a program that reports")]

use std::{fmt::Write as _, fs, hint::black_box, path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use docrelay::{
    domain::{DocumentEvent, Happening, RetryOn, RetryPolicy, WhileDown},
    flow::matching::matches,
    store::{Defaults, Snapshot, parse},
};
use tokio::time::Instant;

const SIZES: [usize; 4] = [1_000, 10_000, 100_000, 1_000_000];
const MATCHES: usize = 10;
const ROUNDS: usize = 101;
const PER_ROUND: u32 = 1_000;

fn main() -> Result<()> {
    println!("matching an event with {MATCHES} matches, median of {ROUNDS} rounds");
    let mut rows = Vec::new();
    for size in SIZES {
        let snapshot = Snapshot::new(subscriptions(size)?);
        // Beside everybody else in one organization, which is the worst place to be.
        let events: Vec<DocumentEvent> =
            (0..100).map(|inbox| event(inbox * (size / MATCHES) / 100)).collect::<Result<_>>()?;
        let mut rounds: Vec<Duration> = (0..ROUNDS).map(|_| round(&events, &snapshot)).collect();
        rounds.sort_unstable();
        let median = rounds.get(ROUNDS / 2).copied().unwrap_or_default();
        rows.push((size, median));
    }
    let smallest = rows.first().map_or(1.0, |(_, median)| median.as_secs_f64());
    let mut json = String::from("{");
    for (size, median) in &rows {
        let (nanos, ratio) = (median.as_nanos(), median.as_secs_f64() / smallest);
        println!("  {size:>9} subscriptions  {nanos:>6} ns  {ratio:>5.2} times the smallest");
        write!(
            json,
            "{}\"{size}\": {{\"ns\": {nanos}, \"ratio\": {ratio:.3}}}",
            if json.len() > 1 { ", " } else { "" }
        )?;
    }
    json.push_str("}\n");
    let folder = Path::new("target/bench");
    fs::create_dir_all(folder)?;
    let file = folder.join("matching.json");
    fs::write(&file, json).with_context(|| format!("cannot write {}", file.display()))?;
    println!("wrote {}", file.display());
    Ok(())
}

/// How long one event took, on average over a round.
fn round(events: &[DocumentEvent], snapshot: &Snapshot) -> Duration {
    let began = Instant::now();
    for event in events.iter().cycle().take(PER_ROUND as usize) {
        black_box(matches(black_box(event), snapshot));
    }
    began.elapsed() / PER_ROUND
}

/// All of one organization, ten for each inbox.
fn subscriptions(size: usize) -> Result<Vec<docrelay::domain::Subscription>> {
    let mut text = String::from("subscriptions:\n");
    for number in 0..size {
        let inbox = number / MATCHES;
        writeln!(
            text,
            "- {{id: s{number}, organization: acme, inboxes: [inbox-{inbox}], events: [document_delete], target: {{url: http://h/}}}}"
        )?;
    }
    let retry = RetryPolicy {
        on: RetryOn::AnyFailure,
        backoff: Duration::from_secs(2),
        max_attempts: 10,
        max_age: Duration::from_hours(24),
        while_down: WhileDown::Count,
    };
    let defaults = Defaults {
        timeout: Duration::from_secs(15),
        retry,
        rate_limit: None,
        max_in_flight: 32,
        links: true,
        exchanges: Arc::default(),
    };
    parse(&text, &defaults).map_err(|problems| anyhow::anyhow!("{problems}"))
}

fn event(inbox: usize) -> Result<DocumentEvent> {
    Ok(DocumentEvent {
        id: "evt-1".parse()?,
        occurred_at: None,
        organization: "acme".parse()?,
        project: None,
        inbox: Some(format!("inbox-{inbox}").parse()?),
        document: "document-1".parse()?,
        metadata: std::collections::BTreeMap::new(),
        happening: Happening::Delete,
    })
}
