//! Two targets are down for a minute, one with `while_down: hold` and one with `count`: do all deliveries of the one arrive,
//! do all of the other end, what does the broker do for it, and what do the others notice?
//!
//! A day of this, with outages of hours, is the simulation's.

#![expect(clippy::print_stdout, reason = "it shows progress")]

use std::{collections::HashSet, time::Duration};

use anyhow::Result;
use serde::Serialize;
use tokio::time::{Instant, sleep, sleep_until};

use crate::{
    backlog::OTHERS,
    events::{organization, subscription_to},
    schedule::Plan,
    stage::{Observed, Stage},
    tap::{Counted, Tap},
};

/// The target whose deliveries are held.
const HELD: usize = 0;
/// The target whose deliveries go on trying.
const COUNTED: usize = 1;
/// Six attempts within 31 seconds: some deliveries end before it is back, and some arrive.
const HOLD: &str = "retry: {while_down: hold, backoff: 1s, max_attempts: 6}";
const COUNT: &str = "retry: {while_down: count, backoff: 1s, max_attempts: 6}";
/// How long everything may take.
const DEADLINE: Duration = Duration::from_mins(4);

/// What was seen.
#[derive(Debug, Serialize)]
pub struct Outage {
    /// What the others noticed.
    #[serde(flatten)]
    pub observed: Observed,
    /// Seconds that the targets were down.
    pub down_seconds: f64,
    /// Events for the held one,
    pub events: usize,
    /// and for the other.
    pub counted_events: usize,
    /// Of the held one: how many arrived.
    pub held_delivered: usize,
    /// Of the other: how many arrived,
    pub counted_delivered: usize,
    /// and how many ended without.
    pub counted_exhausted: usize,
    /// Messages per second to the delay queues while events were published.
    pub parked_per_second: f64,
    /// Times that a held delivery was parked, on average.
    pub held_hops: f64,
    /// Times that one of the other was.
    pub counted_hops: f64,
    /// Seconds from the first event until everything had ended.
    pub seconds: f64,
}

impl Outage {
    /// Deliveries that neither arrived nor ended.
    #[must_use]
    pub fn lost(&self) -> usize {
        let ended = self.held_delivered + self.counted_delivered + self.counted_exhausted;
        (self.events + self.counted_events).saturating_sub(ended)
    }
}

/// How long it takes, about.
#[must_use]
pub fn estimate(stage: &Stage<'_>) -> Duration {
    stage.seconds(75, 30) + Duration::from_secs(40)
}

/// Runs it.
///
/// # Errors
/// When it cannot be made.
pub async fn run(stage: &Stage<'_>) -> Result<Outage> {
    println!("\noutage: two targets are down, one with while_down: hold and one with count");
    let door = stage.targets.closed_door()?;
    let mut subscriptions = stage.subscriptions(OTHERS.map(|target| (target, String::new())));
    for (target, more) in [(HELD, HOLD), (COUNTED, COUNT)] {
        let organization = organization(target);
        subscriptions += &subscription_to(&organization, &organization, &door.url(target), more);
    }
    let service = stage.fresh(&subscriptions).await?;
    let tap = Tap::open(stage.broker.url()).await?;
    let targets: Vec<usize> = OTHERS.chain([HELD, COUNTED]).collect();
    let plan = Plan { run: "outage".to_owned(), rate: stage.rate(), length: stage.seconds(75, 30), targets };
    stage.targets.begin(&plan.run, []);
    let (begun, down) = (Instant::now(), stage.seconds(60, 20));
    let watched = |target: usize| OTHERS.contains(&target);
    let back = async {
        sleep_until(begun + down).await;
        stage.targets.open(door)
    };
    let (opened, back) = tokio::join!(stage.open_loop(&service, &plan, watched), back);
    back?;
    let opened = opened?;
    let parked = tap.read(|counted| counted.messages);
    let events = plan.turns().into_iter().filter(|target| *target == HELD).count();
    let counted_events = plan.turns().into_iter().filter(|target| *target == COUNTED).count();
    while tap.read(|counted| ended(counted, HELD) < events || ended(counted, COUNTED) < counted_events)
        && begun.elapsed() < DEADLINE
    {
        sleep(Duration::from_millis(100)).await;
    }
    let seconds = begun.elapsed().as_secs_f64();
    let (arrivals, _) = stage.targets.end();
    let counted = tap.close().await?;
    service.kill().await?;
    let came =
        |wanted: usize| arrivals.iter().filter(|a| a.target == wanted).map(|a| a.event).collect::<HashSet<_>>().len();
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    let outage = Outage {
        down_seconds: down.as_secs_f64(),
        events,
        counted_events,
        held_delivered: came(HELD),
        counted_delivered: came(COUNTED),
        counted_exhausted: result(&counted, "exhausted", COUNTED),
        parked_per_second: parked as f64 / plan.length.as_secs_f64(),
        held_hops: hops(&counted, HELD),
        counted_hops: hops(&counted, COUNTED),
        seconds,
        observed: opened.observed(&plan, &arrivals, watched),
    };
    print(&outage);
    Ok(outage)
}

/// How many deliveries of a target have ended.
fn ended(counted: &Counted, target: usize) -> usize {
    ["delivered", "exhausted", "rejected", "cancelled"].iter().map(|outcome| result(counted, outcome, target)).sum()
}

fn result(counted: &Counted, outcome: &str, target: usize) -> usize {
    counted.results.get(&(outcome.to_owned(), organization(target))).copied().unwrap_or_default()
}

/// How often a delivery of a target was parked, of those that were.
fn hops(counted: &Counted, target: usize) -> f64 {
    let of = organization(target);
    let parked = counted.waited.iter().filter(|((_, subscription), _)| *subscription == of).map(|(_, w)| w.parked);
    let (sum, number) = parked.fold((0.0, 0.0_f64), |(sum, number), parked| (sum + f64::from(parked), number + 1.0));
    sum / number.max(1.0)
}

fn print(outage: &Outage) {
    let (all, usage) = (&outage.observed.served.all, &outage.observed.usage);
    println!(
        "  {:.0} s down, {} events each: held {} delivered; counted {} delivered, {} exhausted; {} lost; over after {:.0} s",
        outage.down_seconds,
        outage.events,
        outage.held_delivered,
        outage.counted_delivered,
        outage.counted_exhausted,
        outage.lost(),
        outage.seconds,
    );
    println!(
        "  others p50 {:.2} ms  p99 {:.2} ms  cores {:.2} + {:.2}  {:.0} MiB  {:.0} parked/s, each held one {:.1} times, each \
         counted one {:.1} times{}",
        all.p50_ms,
        all.p99_ms,
        usage.service_cpu / usage.seconds,
        usage.broker_cpu / usage.seconds,
        outage.observed.rss_mib,
        outage.parked_per_second,
        outage.held_hops,
        outage.counted_hops,
        if outage.observed.void { "  VOID: the publisher was late" } else { "" },
    );
}
