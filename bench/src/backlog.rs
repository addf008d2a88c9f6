//! A backlog: ten thousand deliveries wait for a target that takes 200 a second. How often is each parked, what does that
//! cost the broker, and what do the others notice?
//!
//! The same open loop over 20 others runs once without the backlog and once with it. A tap counts, in both, what goes to the
//! delay queues: each copy names the deliveries that wait, so hops are counted where they are made.

#![expect(clippy::print_stdout, reason = "it shows progress")]

use std::{ops::Range, time::Duration};

use anyhow::{Result, ensure};
use serde::Serialize;
use tokio::time::{Instant, sleep};

use crate::{
    events::{event_for, organization},
    schedule::Plan,
    stage::{Observed, Stage},
    tap::{Counted, Tap},
};

/// The targets that run beside.
pub const OTHERS: Range<usize> = 10..30;
/// The one that has a backlog.
const LIMITED: usize = 0;
/// How many deliveries wait, and how many in a quick run.
const WAITING: [usize; 2] = [10_000, 1_000];
/// What it takes.
const PER_SECOND: u32 = 200;
/// Numbers of its events: beyond those of any open loop.
const FIRST: usize = 10_000_000;
/// No backlog takes longer.
const DEADLINE: Duration = Duration::from_mins(3);

/// What a run showed.
#[derive(Debug, Serialize)]
pub struct Row {
    /// Whether there was a backlog.
    pub waiting: usize,
    /// What the others noticed.
    #[serde(flatten)]
    pub observed: Observed,
    /// Messages per second to the delay queues, while the open loop ran.
    pub parked_per_second: f64,
    /// Messages to the delay queues in all.
    pub parked: usize,
    /// Deliveries of the backlog that arrived.
    pub delivered: usize,
    /// Seconds until the last of them.
    pub seconds: f64,
}

/// How often the deliveries of the backlog were parked.
#[derive(Debug, Default, Serialize)]
pub struct Hops {
    /// On average.
    pub hops_per_delivery: f64,
    /// What it may be on average: for each delivery the bits set in its first wait, and two.
    pub hops_bound: f64,
    /// The most of any delivery.
    pub hops_most: u32,
    /// The most above its own bound of any delivery; not above when negative.
    pub hops_worst_over: i64,
    /// How many deliveries are above their own bound.
    pub deliveries_over: usize,
    /// How many were parked at all.
    pub deliveries_parked: usize,
}

impl Hops {
    fn of(counted: &Counted, deliveries: usize) -> Self {
        let of = organization(LIMITED);
        let waited: Vec<_> =
            counted.waited.iter().filter(|((_, subscription), _)| *subscription == of).map(|(_, w)| w).collect();
        let over = |bound: u64, parked: u32| i64::from(parked).saturating_sub_unsigned(bound);
        let hops: u64 = waited.iter().map(|w| u64::from(w.parked)).sum();
        let bounds: u64 = waited.iter().map(|w| w.bound()).sum();
        Self {
            hops_per_delivery: ratio(hops, deliveries),
            hops_bound: ratio(bounds, waited.len()),
            hops_most: waited.iter().map(|w| w.parked).max().unwrap_or_default(),
            hops_worst_over: waited.iter().map(|w| over(w.bound(), w.parked)).max().unwrap_or_default(),
            deliveries_over: waited.iter().filter(|w| over(w.bound(), w.parked) > 0).count(),
            deliveries_parked: waited.len(),
        }
    }
}

fn ratio(sum: u64, of: usize) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    let (sum, of) = (sum as f64, of.max(1) as f64);
    sum / of
}

/// How long a run takes, about.
#[must_use]
pub fn estimate(stage: &Stage<'_>) -> Duration {
    stage.seconds(50, 10) + Duration::from_secs(15)
}

/// The open loop over the others, with nothing beside it.
///
/// # Errors
/// When it cannot be made.
pub async fn quiet(stage: &Stage<'_>) -> Result<Row> {
    let row = run(stage, 0).await?.0;
    print_row(&row);
    Ok(row)
}

/// The same beside the backlog.
///
/// # Errors
/// When it cannot be made.
pub async fn beside_backlog(stage: &Stage<'_>) -> Result<(Row, Hops)> {
    let [many, few] = WAITING;
    let (row, hops) = run(stage, if stage.quick { few } else { many }).await?;
    print_row(&row);
    println!(
        "    parked {:.2} times each ({:.2} allowed on average), at most {}, {} above their own bound",
        hops.hops_per_delivery, hops.hops_bound, hops.hops_most, hops.deliveries_over
    );
    Ok((row, hops))
}

async fn run(stage: &Stage<'_>, waiting: usize) -> Result<(Row, Hops)> {
    let limit = format!("rate_limit: {{per_second: {PER_SECOND}, burst: {}}}", PER_SECOND / 10);
    let others = OTHERS.map(|target| (target, String::new()));
    let service = stage.fresh(&stage.subscriptions(others.chain([(LIMITED, limit)]))).await?;
    let tap = Tap::open(stage.broker.url()).await?;
    let run = format!("backlog-{waiting}");
    stage.targets.begin(&run, []);
    let begun = Instant::now();
    let backlog = (0..waiting).map(|event| event_for(&organization(LIMITED), &run, FIRST + event));
    stage.broker.publish_all(backlog).await?;
    // The clock of the others starts when all of it waits: what is measured is a backlog, not how it comes in.
    while stage.broker.waiting().await? > 0 {
        ensure!(begun.elapsed() < DEADLINE, "the service does not take the backlog in");
        sleep(Duration::from_millis(20)).await;
    }
    let plan = Plan { run, rate: stage.rate(), length: stage.seconds(50, 10), targets: OTHERS.collect() };
    let before = tap.read(|counted| counted.messages);
    let opened = stage.open_loop(&service, &plan, |target| OTHERS.contains(&target)).await?;
    let parked = tap.read(|counted| counted.messages) - before;
    let is_limited = |target| target == LIMITED;
    while stage.targets.count(is_limited) < waiting && begun.elapsed() < DEADLINE {
        sleep(Duration::from_millis(50)).await;
    }
    let (arrivals, _) = stage.targets.end();
    let counted = tap.close().await?;
    service.kill().await?;
    let observed = opened.observed(&plan, &arrivals, |target| OTHERS.contains(&target));
    let last = arrivals.iter().filter(|arrival| is_limited(arrival.target)).map(|arrival| arrival.at).max();
    let row = Row {
        waiting,
        parked_per_second: ratio(parked as u64, 1) / observed.usage.seconds,
        parked: counted.messages,
        delivered: crate::latency::different(&arrivals, is_limited),
        seconds: last.map_or(0.0, |at| (at - begun).as_secs_f64()),
        observed,
    };
    Ok((row, Hops::of(&counted, waiting)))
}

fn print_row(row: &Row) {
    let (all, usage) = (&row.observed.served.all, &row.observed.usage);
    println!(
        "  {:>6} wait: others p50 {:>6.2} ms  p99 {:>7.2} ms  cores {:.2} + {:.2}  {:>4.0} MiB  {:>6.0} parked/s  {} delivered \
         in {:.0} s{}",
        row.waiting,
        all.p50_ms,
        all.p99_ms,
        usage.service_cpu / usage.seconds,
        usage.broker_cpu / usage.seconds,
        row.observed.rss_mib,
        row.parked_per_second,
        row.delivered,
        row.seconds,
        if row.observed.void { "  VOID: the publisher was late" } else { "" },
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tap::Waited;

    #[test]
    fn each_delivery_has_a_bound_of_its_own() {
        let mut counted = Counted::default();
        for (event, parked, first_wait) in [("a", 1, 1), ("b", 7, 31), ("c", 4, 8), ("d", 9, 1024)] {
            let waited = Waited { parked, first_wait, units: first_wait };
            counted.waited.insert((event.to_owned(), organization(LIMITED)), waited);
        }
        counted.waited.insert(("a".to_owned(), organization(20)), Waited { parked: 99, ..Waited::default() });
        let hops = Hops::of(&counted, 5);
        assert_eq!((hops.hops_most, hops.hops_worst_over, hops.deliveries_over, hops.deliveries_parked), (9, 2, 2, 4));
        assert!((hops.hops_per_delivery - 21.0 / 5.0).abs() < 1e-9, "{hops:?}");
        assert!((hops.hops_bound - (3.0 + 7.0 + 3.0 + 7.0) / 4.0).abs() < 1e-9, "{hops:?}");
    }
}
