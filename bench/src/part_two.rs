//! The second part: what targets do to each other. Runs what is asked for and writes `isolation.json`.

#![expect(clippy::print_stdout, reason = "a program that reports")]

use std::{fs, time::Duration};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use crate::{
    backlog,
    board::Board,
    isolation::{self, Case, Figures},
    limiter, outage,
    round::{Bench, Loop, Measured},
    stage::{Observed, Stage},
    summary::Spread,
    targets::Targets,
};

/// How often the capacity is measured. A loop takes two seconds, and machines have been a fifth faster in one than in the
/// next: 30 % of a lucky one is too much for minutes on end.
const CAPACITY_LOOPS: usize = 3;
/// How many loops there are at most before a machine that is busy with something else is given up.
const CAPACITY_TRIES: usize = 7;

/// What the second part measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measurement {
    /// Bad targets among healthy ones.
    Isolation,
    /// Rates under a backlog.
    Limiter,
    /// A backlog of 10,000.
    Backlog,
    /// A minute of outage.
    Outage,
}

/// What is to be done.
#[derive(Debug)]
pub struct Wanted {
    /// What is measured.
    pub measurements: Vec<Measurement>,
    /// Which cases of isolation.
    pub cases: Vec<Case>,
    /// How many rounds of it.
    pub rounds: usize,
    /// Short runs.
    pub quick: bool,
    /// Whether a run counts though its publisher was late.
    pub keep_late: bool,
    /// The share of the capacity that the open loops ask for.
    pub share: f64,
}

/// Runs it all.
///
/// # Errors
/// When something cannot be measured at all. A bar that is missed is no error.
pub async fn run(bench: &mut Bench, wanted: &Wanted) -> Result<()> {
    let loops = measure_capacity(bench).await?;
    let capacity = Spread::of(loops.iter().map(|measured| measured.rate)).context("no loop was measured")?;
    let stage = Stage {
        broker: &bench.broker,
        broker_pid: bench.broker_pid,
        folders: &bench.folders,
        targets: Targets::start()?,
        capacity: capacity.median,
        share: wanted.share,
        quick: wanted.quick,
        keep_late: wanted.keep_late,
    };
    println!(
        "\npart two: {:.0} deliveries/s in a closed loop ({:.0} to {:.0}), so {:.0} events/s; the broker writes to {}; about {:.0} minutes",
        stage.capacity,
        capacity.min,
        capacity.max,
        stage.rate(),
        stage.broker.file_system(),
        estimate(&stage, wanted).as_secs_f64() / 60.0
    );
    let begun = Instant::now();
    let mut results = Results::default();
    results.put("capacity", &capacity)?;
    results.put("capacity_rows", &loops)?;
    for measurement in &wanted.measurements {
        match measurement {
            Measurement::Isolation => results.isolation(&stage, wanted).await?,
            Measurement::Limiter => results.limiter(&stage).await?,
            Measurement::Backlog => results.backlog(&stage).await?,
            Measurement::Outage => results.outage(&stage).await?,
        }
        results.save(&stage)?;
        println!("  {:.1} minutes so far", begun.elapsed().as_secs_f64() / 60.0);
    }
    stage.broker.discard().await?;
    results.board.print();
    println!("wrote {}", stage.folders.output.join("isolation.json").display());
    Ok(())
}

/// The loops that tell the capacity, with fan-out 1.
async fn measure_capacity(bench: &mut Bench) -> Result<Vec<Measured>> {
    let (mut loops, mut faults) = (Vec::new(), Vec::new());
    for attempt in 1..=CAPACITY_TRIES {
        let measured = bench.measure(Loop::Docrelay, 1, &format!("capacity-{attempt}")).await?;
        if measured.faults.is_empty() {
            loops.push(measured);
        } else {
            println!("  a loop does not count: {}", measured.faults.join(", "));
            faults = measured.faults;
        }
        if loops.len() == CAPACITY_LOOPS {
            return Ok(loops);
        }
    }
    bail!("the capacity cannot be told: only {} of {CAPACITY_TRIES} loops count; {}", loops.len(), faults.join(", "));
}

fn estimate(stage: &Stage<'_>, wanted: &Wanted) -> Duration {
    let of = |measurement: &Measurement| match measurement {
        Measurement::Isolation => isolation::estimate(stage, &wanted.cases, wanted.rounds),
        Measurement::Limiter => limiter::estimate(stage),
        Measurement::Backlog => 2 * backlog::estimate(stage),
        Measurement::Outage => outage::estimate(stage),
    };
    wanted.measurements.iter().map(of).sum()
}

#[derive(Default)]
struct Results {
    file: Map<String, Value>,
    board: Board,
}

impl Results {
    fn put(&mut self, name: &str, value: &impl Serialize) -> Result<()> {
        self.file.insert(name.to_owned(), serde_json::to_value(value)?);
        Ok(())
    }

    async fn isolation(&mut self, stage: &Stage<'_>, wanted: &Wanted) -> Result<()> {
        let rows = isolation::rounds(stage, &wanted.cases, wanted.rounds).await?;
        for case in &wanted.cases {
            if let Some(figures) = Figures::of_case(*case, &rows) {
                self.board.isolation(case.name(), &figures);
                self.put(case.name(), &figures)?;
            }
        }
        self.put("isolation_rows", &rows)
    }

    async fn limiter(&mut self, stage: &Stage<'_>) -> Result<()> {
        let rows = limiter::runs(stage).await?;
        let figures = limiter::Figures::of(&rows);
        self.board.limiter(&figures);
        self.put("limiter", &figures)?;
        self.put("limiter_rows", &rows)
    }

    async fn backlog(&mut self, stage: &Stage<'_>) -> Result<()> {
        println!("\nbacklog: deliveries that wait for a target of 200/s while others run");
        let quiet = backlog::quiet(stage).await?;
        let (row, hops) = backlog::beside_backlog(stage).await?;
        self.board.backlog(&hops, &row);
        let mut figures = Map::new();
        if let (Value::Object(hops), Value::Object(others)) =
            (serde_json::to_value(&hops)?, serde_json::to_value(compared(&quiet.observed, &row.observed))?)
        {
            figures.extend(hops);
            figures.insert("others".to_owned(), Value::Object(others));
        }
        figures.insert("rss_mib".to_owned(), row.observed.rss_mib.into());
        figures.insert("parked_per_second".to_owned(), row.parked_per_second.into());
        figures.insert("broker_extra_cores".to_owned(), extra_cores(&quiet.observed, &row.observed).into());
        self.board.beside("10,000 wait", compared(&quiet.observed, &row.observed).as_ref());
        self.put("backlog", &figures)?;
        self.put("backlog_rows", &json!([quiet, row]))
    }

    async fn outage(&mut self, stage: &Stage<'_>) -> Result<()> {
        println!("\noutage: two targets are down, one with while_down: hold and one with count");
        let pairs = outage::pairs(stage).await?;
        let extra = Spread::of(pairs.iter().map(|(without, with)| extra_cores(without, with)));
        let outage = outage::run(stage).await?;
        self.board.outage(&outage);
        let others = Figures::of(&pairs.iter().map(|(without, with)| (without, with)).collect::<Vec<_>>());
        self.board.beside("outage", others.as_ref());
        self.board.extra_cores("outage", extra.as_ref());
        let mut figures = serde_json::to_value(&outage)?;
        if let Value::Object(figures) = &mut figures {
            figures.insert("others".to_owned(), serde_json::to_value(others)?);
            figures.insert("lost".to_owned(), outage.lost().into());
            figures.insert("broker_extra_cores".to_owned(), serde_json::to_value(extra)?);
        }
        self.put("outage", &figures)?;
        self.put("outage_rows", &pairs)
    }

    fn save(&self, stage: &Stage<'_>) -> Result<()> {
        let mut file = self.file.clone();
        file.insert("quick".to_owned(), stage.quick.into());
        file.insert("keep_late".to_owned(), stage.keep_late.into());
        file.insert("share".to_owned(), stage.share.into());
        file.insert("rate".to_owned(), stage.rate().into());
        file.insert("broker_file_system".to_owned(), stage.broker.file_system().into());
        fs::write(stage.folders.output.join("isolation.json"), serde_json::to_string_pretty(&file)? + "\n")?;
        Ok(())
    }
}

/// One pair's figures.
fn compared(without: &Observed, with: &Observed) -> Option<Figures> {
    Figures::of(&[(without, with)])
}

/// How many more cores the broker kept busy.
fn extra_cores(without: &Observed, with: &Observed) -> f64 {
    let cores = |observed: &Observed| observed.usage.broker_cpu / observed.usage.seconds;
    cores(with) - cores(without)
}
