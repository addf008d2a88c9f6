//! Bad targets among healthy ones: how much longer do the healthy ones wait, from the first event of a cold service on?
//!
//! Events come at the same total rate with and without the bad targets, evenly over all targets there are. Each round has
//! one run without for the two cases with the same healthy targets; the order turns around with every round.

#![expect(clippy::print_stdout, reason = "it shows progress")]

use std::time::Duration;

use anyhow::{Result, bail};
use clap::ValueEnum;
use serde::Serialize;

use crate::{
    schedule::Plan,
    stage::{Observed, Stage},
    summary::Spread,
    targets::Manner,
};

/// A slow target answers after so long.
const SLOW: Duration = Duration::from_secs(10);
/// For how long events come: the deadlines of the first attempts pass within it, and what follows shows.
const SECONDS: u64 = 75;
/// A run whose publisher was late is repeated so often.
const TRIES: usize = 3;
/// The bars.
pub const P50_RATIO: f64 = 1.2;
/// p99 may be twice as long,
pub const P99_RATIO: f64 = 2.0;
/// and a little.
pub const P99_EXTRA_MS: f64 = 5.0;

/// Which targets are bad, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Case {
    /// One of 100 never answers.
    #[value(name = "hung_1_of_100")]
    #[serde(rename = "hung_1_of_100")]
    HungOne,
    /// One of 100 answers after ten seconds.
    #[value(name = "slow_1_of_100")]
    #[serde(rename = "slow_1_of_100")]
    SlowOne,
    /// 500 of 510 never answer.
    #[value(name = "hung_500_of_510")]
    #[serde(rename = "hung_500_of_510")]
    HungMany,
    /// 500 of 510 answer after ten seconds.
    #[value(name = "slow_500_of_510")]
    #[serde(rename = "slow_500_of_510")]
    SlowMany,
}

impl Case {
    /// Its name in the results.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::HungOne => "hung_1_of_100",
            Self::SlowOne => "slow_1_of_100",
            Self::HungMany => "hung_500_of_510",
            Self::SlowMany => "slow_500_of_510",
        }
    }

    fn healthy(self) -> usize {
        match self {
            Self::HungOne | Self::SlowOne => 99,
            Self::HungMany | Self::SlowMany => 10,
        }
    }

    fn bad(self) -> (usize, Manner) {
        match self {
            Self::HungOne => (1, Manner::Hangs),
            Self::SlowOne => (1, Manner::AnswersAfter(SLOW)),
            Self::HungMany => (500, Manner::Hangs),
            Self::SlowMany => (500, Manner::AnswersAfter(SLOW)),
        }
    }
}

/// A run.
#[derive(Debug, Serialize)]
pub struct Row {
    /// Which round.
    pub round: usize,
    /// Which healthy targets.
    pub healthy: usize,
    /// Which bad ones; `None` without.
    pub case: Option<Case>,
    /// What was seen of the healthy ones.
    #[serde(flatten)]
    pub observed: Observed,
}

/// The figures of a case: medians of the pairs.
#[derive(Debug, Serialize)]
pub struct Figures {
    /// With the bad targets over without them, half of the requests.
    pub p50_ratio: f64,
    /// Its spread.
    pub p50_ratio_spread: Spread,
    /// The same for all but one of a hundred.
    pub p99_ratio: f64,
    /// Its spread.
    pub p99_ratio_spread: Spread,
    /// How much longer that is, in milliseconds.
    pub p99_extra_ms: f64,
    /// Its spread.
    pub p99_extra_ms_spread: Spread,
    /// By how much it is longer than twice and 5 ms; not at all when negative.
    pub p99_over_ms: f64,
    /// Events for healthy targets that never came, in all rounds.
    pub missing: usize,
    /// Pairs.
    pub rounds: usize,
}

impl Figures {
    /// The figures of pairs, each without and with; `None` of none.
    #[must_use]
    pub fn of(pairs: &[(&Observed, &Observed)]) -> Option<Self> {
        let spread = |figure: fn(&Observed, &Observed) -> f64| {
            Spread::of(pairs.iter().map(|(without, with)| figure(without, with)))
        };
        let p50 = spread(|without, with| with.served.all.p50_ms / without.served.all.p50_ms)?;
        let p99 = spread(|without, with| with.served.all.p99_ms / without.served.all.p99_ms)?;
        let extra = spread(|without, with| with.served.all.p99_ms - without.served.all.p99_ms)?;
        let over =
            spread(|without, with| with.served.all.p99_ms - P99_RATIO * without.served.all.p99_ms - P99_EXTRA_MS)?;
        Some(Self {
            p50_ratio: p50.median,
            p50_ratio_spread: p50,
            p99_ratio: p99.median,
            p99_ratio_spread: p99,
            p99_extra_ms: extra.median,
            p99_extra_ms_spread: extra,
            p99_over_ms: over.median,
            missing: pairs.iter().map(|(_, with)| with.served.missing).sum(),
            rounds: pairs.len(),
        })
    }

    /// The figures of a case from all rows.
    #[must_use]
    pub fn of_case(case: Case, rows: &[Row]) -> Option<Self> {
        let sound = || rows.iter().filter(|row| !row.observed.void);
        let pairs: Vec<(&Observed, &Observed)> = sound()
            .filter(|row| row.case == Some(case))
            .filter_map(|with| {
                let without =
                    sound().find(|row| row.case.is_none() && (row.round, row.healthy) == (with.round, with.healthy))?;
                Some((&without.observed, &with.observed))
            })
            .collect();
        Self::of(&pairs)
    }
}

/// How long it will take, about.
#[must_use]
pub fn estimate(stage: &Stage<'_>, cases: &[Case], rounds: usize) -> Duration {
    let runs: usize = groups(cases).iter().map(|group| group.len() + 1).sum();
    (stage.seconds(SECONDS, 10) + Duration::from_secs(4)) * u32::try_from(runs * rounds).unwrap_or(u32::MAX)
}

/// The cases that have a run without in common.
fn groups(cases: &[Case]) -> Vec<Vec<Case>> {
    let of = |healthy| cases.iter().copied().filter(|case| case.healthy() == healthy).collect::<Vec<_>>();
    [of(99), of(10)].into_iter().filter(|group| !group.is_empty()).collect()
}

/// Runs all rounds.
///
/// # Errors
/// When a run cannot be made, or the publisher never keeps its schedule.
pub async fn rounds(stage: &Stage<'_>, cases: &[Case], rounds: usize) -> Result<Vec<Row>> {
    println!(
        "\nisolation: {rounds} rounds at {:.0} events/s; latency of the healthy targets from the scheduled time",
        stage.rate()
    );
    let mut rows = Vec::new();
    for round in 0..rounds {
        for group in groups(cases) {
            let healthy = group.first().map_or(0, |case| case.healthy());
            let mut runs: Vec<Option<Case>> = std::iter::once(None).chain(group.into_iter().map(Some)).collect();
            // Whoever is first finds the machine in another state than whoever is last: take turns.
            if round % 2 == 1 {
                runs.reverse();
            }
            for case in runs {
                sound_run(stage, (round, healthy, case), &mut rows).await?;
            }
        }
    }
    Ok(rows)
}

async fn sound_run(
    stage: &Stage<'_>,
    (round, healthy, case): (usize, usize, Option<Case>),
    rows: &mut Vec<Row>,
) -> Result<()> {
    for attempt in 0..TRIES {
        let observed = run(stage, healthy, case, &format!("iso-{round}-{healthy}-{attempt}")).await?;
        let row = Row { round, healthy, case, observed };
        print_row(&row);
        let void = row.observed.void;
        rows.push(row);
        if !void {
            return Ok(());
        }
    }
    bail!("the publisher was late in {TRIES} runs in a row: is something else running here?")
}

/// One run of a cold service.
async fn run(stage: &Stage<'_>, healthy: usize, case: Option<Case>, name: &str) -> Result<Observed> {
    let (bad, manner) = case.map_or((0, Manner::Answers), Case::bad);
    let run = format!("{name}-{}", case.map_or("without", Case::name));
    let service = stage.fresh(&stage.subscriptions((0..healthy + bad).map(|target| (target, String::new())))).await?;
    stage.targets.begin(&run, (healthy..healthy + bad).map(|target| (target, manner)));
    let plan =
        Plan { run, rate: stage.rate(), length: stage.seconds(SECONDS, 10), targets: (0..healthy + bad).collect() };
    let is_healthy = |target| target < healthy;
    let opened = stage.open_loop(&service, &plan, is_healthy).await?;
    let (arrivals, _) = stage.targets.end();
    service.kill().await?;
    Ok(opened.observed(&plan, &arrivals, is_healthy))
}

fn print_row(row: &Row) {
    let (all, usage) = (&row.observed.served.all, &row.observed.usage);
    println!(
        "  round {} {:<3} {:<16} p50 {:>7.2} ms  p99 {:>8.2} ms  max {:>8.1} ms  of {:>6}  missing {}  cores {:.2} + {:.2}  \
         {:>4.0} MiB  lag {:.1} ms{}",
        row.round + 1,
        row.healthy,
        row.case.map_or("without", Case::name),
        all.p50_ms,
        all.p99_ms,
        all.max_ms,
        all.count,
        row.observed.served.missing,
        usage.service_cpu / usage.seconds,
        usage.broker_cpu / usage.seconds,
        row.observed.rss_mib,
        row.observed.publisher_lag_p99_ms,
        if row.observed.void { "  VOID: the publisher was late" } else { "" },
    );
}
