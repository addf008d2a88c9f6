//! Two targets are down for a minute, one with `while_down: hold` and one with `count`: do all deliveries of the one arrive,
//! do all of the other end, what does the broker do for it, and what do the others notice?
//!
//! What the others notice is the same traffic with all targets there and with two down, in pairs, and nothing that watches.
//! What became of every delivery is counted in a run of its own, by a tap: it has the broker send everything once more.
//!
//! A day of this, with outages of hours, is the simulation's.

#![expect(clippy::print_stdout, reason = "it shows progress")]

use std::{collections::HashSet, time::Duration};

use anyhow::{Result, ensure};
use serde::Serialize;
use tokio::time::{Instant, sleep, sleep_until};

use crate::{
    backlog::OTHERS,
    events::{organization, subscription_to},
    schedule::Plan,
    service::Service,
    stage::{Observed, Opened, Stage},
    tap::{Counted, Tap},
    targets::Door,
};

/// The target whose deliveries are held.
const HELD: usize = 0;
/// The target whose deliveries go on trying.
const COUNTED: usize = 1;
/// Six attempts within 31 seconds: some deliveries end before it is back, and some arrive.
const HOLD: &str = "retry: {while_down: hold, backoff: 1s, max_attempts: 6}";
const COUNT: &str = "retry: {while_down: count, backoff: 1s, max_attempts: 6}";
/// How many pairs should count, and how many of a quick run.
const PAIRS: [u32; 2] = [3, 1];
/// A pair whose publisher was late is repeated: so many runs for each that is wanted, at most.
const TRIES: u32 = 2;
/// How long everything may take.
const DEADLINE: Duration = Duration::from_mins(4);

/// What was seen.
#[derive(Debug, Serialize)]
pub struct Outage {
    /// What the others noticed beside the tap.
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
    (2 * wanted_pairs(stage) + 1) * (stage.seconds(75, 30) + Duration::from_secs(4)) + Duration::from_secs(30)
}

/// The service, and the door of the targets that are down.
struct Started {
    replica: Service,
    door: Option<Door>,
}

async fn start(stage: &Stage<'_>, is_down: bool) -> Result<Started> {
    let door = is_down.then(|| stage.targets.closed_door()).transpose()?;
    let mut subscriptions = stage.subscriptions(OTHERS.map(|target| (target, String::new())));
    for (target, more) in [(HELD, HOLD), (COUNTED, COUNT)] {
        let organization = organization(target);
        let url = door.as_ref().map_or_else(|| stage.targets.url(target), |door| door.url(target));
        subscriptions += &subscription_to(&organization, &organization, &url, more);
    }
    Ok(Started { replica: stage.fresh(&subscriptions).await?, door })
}

impl Started {
    /// Events come, and what is down comes back.
    async fn traffic(&mut self, stage: &Stage<'_>, plan: &Plan) -> Result<Opened> {
        stage.targets.begin(&plan.run, []);
        let begun = Instant::now();
        let door = self.door.take();
        let back = async {
            sleep_until(begun + down(stage)).await;
            door.map_or(Ok(()), |door| stage.targets.open(door))
        };
        let (opened, back) = tokio::join!(stage.open_loop(&self.replica, plan, is_other), back);
        back?;
        opened
    }
}

fn plan(stage: &Stage<'_>) -> Plan {
    let targets = OTHERS.chain([HELD, COUNTED]).collect();
    Plan { run: "outage".to_owned(), rate: stage.rate(), length: stage.seconds(75, 30), targets }
}

/// For how long the two are down.
fn down(stage: &Stage<'_>) -> Duration {
    stage.seconds(60, 20)
}

fn is_other(target: usize) -> bool {
    OTHERS.contains(&target)
}

fn wanted_pairs(stage: &Stage<'_>) -> u32 {
    let [many, few] = PAIRS;
    if stage.quick { few } else { many }
}

/// What the others notice: pairs without and with two targets that are down, in changing order.
///
/// # Errors
/// When a run cannot be made, or the publisher is late in every pair.
pub async fn pairs(stage: &Stage<'_>) -> Result<Vec<(Observed, Observed)>> {
    let mut pairs: Vec<(Observed, Observed)> = Vec::new();
    for run in 0..wanted_pairs(stage) * TRIES {
        let first = others(stage, run % 2 == 1).await?;
        let second = others(stage, run % 2 == 0).await?;
        let (without, with) = if run % 2 == 1 { (second, first) } else { (first, second) };
        if !(without.void || with.void) {
            pairs.push((without, with));
        }
        if pairs.len() >= wanted_pairs(stage) as usize {
            return Ok(pairs);
        }
    }
    ensure!(!pairs.is_empty(), "the publisher was late in every pair: is something else running here?");
    Ok(pairs)
}

async fn others(stage: &Stage<'_>, is_down: bool) -> Result<Observed> {
    let mut service = start(stage, is_down).await?;
    let plan = plan(stage);
    let opened = service.traffic(stage, &plan).await?;
    let (arrivals, _) = stage.targets.end();
    service.replica.kill().await?;
    let observed = opened.observed(&plan, &arrivals, is_other);
    let (all, usage) = (&observed.served.all, &observed.usage);
    println!(
        "  {:<14} others p50 {:.2} ms  p99 {:.2} ms  cores {:.2} + {:.2}{}",
        if is_down { "two are down" } else { "all are there" },
        all.p50_ms,
        all.p99_ms,
        usage.service_cpu / usage.seconds,
        usage.broker_cpu / usage.seconds,
        if observed.void { "  VOID: the publisher was late" } else { "" },
    );
    Ok(observed)
}

/// Runs it, and counts what becomes of every delivery.
///
/// # Errors
/// When it cannot be made.
pub async fn run(stage: &Stage<'_>) -> Result<Outage> {
    let mut service = start(stage, true).await?;
    let tap = Tap::open(stage.broker.url()).await?;
    let begun = Instant::now();
    let plan = plan(stage);
    let opened = service.traffic(stage, &plan).await?;
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
    service.replica.kill().await?;
    let came =
        |wanted: usize| arrivals.iter().filter(|a| a.target == wanted).map(|a| a.event).collect::<HashSet<_>>().len();
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    let outage = Outage {
        down_seconds: down(stage).as_secs_f64(),
        events,
        counted_events,
        held_delivered: came(HELD),
        counted_delivered: came(COUNTED),
        counted_exhausted: result(&counted, "exhausted", COUNTED),
        parked_per_second: parked as f64 / plan.length.as_secs_f64(),
        held_hops: hops(&counted, HELD),
        counted_hops: hops(&counted, COUNTED),
        seconds,
        observed: opened.observed(&plan, &arrivals, is_other),
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
        "  {:.0} MiB  {:.0} parked/s, each held one {:.1} times, each counted one {:.1} times{}",
        outage.observed.rss_mib,
        outage.parked_per_second,
        outage.held_hops,
        outage.counted_hops,
        if outage.observed.void { "  VOID: the publisher was late" } else { "" },
    );
}
