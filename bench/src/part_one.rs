//! The first part: what docrelay costs beside the bare loop. Rounds of both, one after the other in changing order, and the
//! rate beside one target that hangs. Writes `summary.json` and `rounds.json`.

#![expect(clippy::print_stdout, reason = "a program that reports")]

use std::{fs, path::PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};

use crate::{
    events::{EVENT_BYTES, ORGANIZATIONS},
    hung::hang,
    round::{Bench, Loop, Measured, WARM_UP},
    summary::{FanOut, Figures, Round, Spread},
};

/// What is to be done.
#[derive(Debug)]
pub struct Wanted {
    /// How many rounds must count for each fan-out.
    pub rounds: usize,
    /// How many events a loop is measured with.
    pub events: usize,
    /// How many deliveries an event makes.
    pub fan_out: Vec<usize>,
    /// Whether the loops are compared.
    pub cost: bool,
    /// Whether it is measured what one target that hangs does to the rate.
    pub hung: bool,
    /// Whether docrelay is left out.
    pub selftest: bool,
    /// Where results go.
    pub output: PathBuf,
}

/// Runs what is wanted.
///
/// # Errors
/// When it cannot be measured.
pub async fn run(bench: &mut Bench, wanted: &Wanted) -> Result<()> {
    println!(
        "{} rounds of {} events of {EVENT_BYTES} bytes, over {ORGANIZATIONS} organizations, after {WARM_UP} to warm up; the \
         broker writes to {}\n",
        wanted.rounds,
        wanted.events,
        bench.broker.file_system()
    );
    let mut rounds = Vec::new();
    for &fan_out in wanted.fan_out.iter().filter(|_| wanted.cost) {
        run_rounds(bench, wanted, fan_out, &mut rounds).await?;
    }
    // It runs with the configuration of fan-out 1.
    let beside_hung = if wanted.hung && !wanted.selftest && wanted.fan_out.contains(&1) {
        // These runs are short, and differ more: twice as many.
        beside_hung(bench, 2 * wanted.rounds).await?
    } else {
        Vec::new()
    };
    report(bench, wanted, &rounds, &beside_hung)
}

/// Pairs of runs: the rate of the 63 others while one target hangs, over their rate while none does.
async fn beside_hung(bench: &mut Bench, rounds: usize) -> Result<Vec<f64>> {
    println!("\none of {ORGANIZATIONS} targets hangs, from the first second: deliveries/s of the others");
    let (port, _holding) = hang().await?;
    let mut ratios = Vec::new();
    for number in 0..rounds {
        let (mut without, mut with) = (0.0, 0.0);
        // Whoever is first finds the broker in another state: take turns.
        for hangs in if number % 2 == 0 { [false, true] } else { [true, false] } {
            let rate = bench.rate_of_the_others(hangs.then_some(port), &format!("hung-{number}-{hangs}")).await?;
            *(if hangs { &mut with } else { &mut without }) = rate;
        }
        println!("  round {}: {with:>7.0}/s beside it, {without:>7.0}/s without it", number + 1);
        ratios.push(with / without);
    }
    Ok(ratios)
}

async fn run_rounds(bench: &mut Bench, wanted: &Wanted, fan_out: usize, rounds: &mut Vec<Round>) -> Result<()> {
    let mut counted = 0;
    for number in 0.. {
        if counted == wanted.rounds {
            break;
        }
        if number == 2 * wanted.rounds {
            save(wanted, rounds, &Map::new())?;
            bail!("fan-out {fan_out}: only {counted} of {number} rounds count: is something else running here?");
        }
        let round = run_round(bench, wanted, fan_out, number).await?;
        let faults = round.faults();
        print_round(&round, number, &faults);
        counted += usize::from(faults.is_empty());
        rounds.push(round);
    }
    Ok(())
}

async fn run_round(bench: &mut Bench, wanted: &Wanted, fan_out: usize, number: usize) -> Result<Round> {
    // Whoever is first finds the broker in another state than whoever is last: take turns.
    let mut order = [Loop::Docrelay, Loop::WithoutHttp, Loop::Bare];
    if number % 2 == 1 {
        order.reverse();
    }
    let (mut docrelay, mut bare, mut without_http) = (None, None, None);
    for which in order {
        if which == Loop::Docrelay && wanted.selftest {
            continue;
        }
        let measured = bench.measure(which, fan_out, &format!("{fan_out}-{number}-{which:?}")).await?;
        let place: &mut Option<Measured> = match which {
            Loop::Docrelay | Loop::Traced(_) => &mut docrelay,
            Loop::Bare => &mut bare,
            Loop::WithoutHttp => &mut without_http,
        };
        *place = Some(measured);
    }
    Ok(Round {
        fan_out,
        docrelay,
        bare: bare.context("the bare loop was left out")?,
        without_http: without_http.context("the loop without HTTP was left out")?,
    })
}

fn print_round(round: &Round, number: usize, faults: &[String]) {
    println!(
        "fan-out {}, round {}: deliveries/s, CPU-s per 1,000 (service + broker + receiver)",
        round.fan_out,
        number + 1
    );
    for (name, measured) in [("docrelay", round.docrelay.as_ref()), ("bare", Some(&round.bare))] {
        let Some(m) = measured else { continue };
        println!(
            "  {name:<9} {:>7.0}/s   {:.3} = {:.3} + {:.3} + {:.3}   {:.0} MiB",
            m.rate,
            m.total_cpu(),
            m.service_cpu,
            m.broker_cpu,
            m.receiver_cpu,
            m.rss_mib
        );
    }
    println!("  no HTTP   {:>7.0}/s", round.without_http.rate);
    for fault in faults {
        println!("  VOID: {fault}");
    }
}

/// Prints the medians and writes the files.
fn report(bench: &Bench, wanted: &Wanted, rounds: &[Round], beside_hung: &[f64]) -> Result<()> {
    let mut summary = Map::new();
    let mut rss_mib: f64 = 0.0;
    println!("\nmedians                    deliveries/s   CPU-s per 1,000: service   broker   receiver   peak MiB");
    for &fan_out in &wanted.fan_out {
        let counted: Vec<&Round> = rounds.iter().filter(|r| r.fan_out == fan_out && r.faults().is_empty()).collect();
        let Some(figures) = FanOut::of(&counted) else {
            if let Some(bare) = Figures::of(&counted.iter().map(|round| &round.bare).collect::<Vec<_>>()) {
                print_figures(fan_out, "bare", &bare);
            }
            continue;
        };
        print_figures(fan_out, "docrelay", &figures.docrelay);
        print_figures(fan_out, "bare", &figures.bare);
        let (cpu, rate) = (&figures.cpu_ratio_spread, &figures.rate_ratio_spread);
        println!("fan-out {fan_out}: CPU {:.3} times the bare loop's ({:.3} to {:.3})", cpu.median, cpu.min, cpu.max);
        println!("           rate {:.3} times the bare loop's ({:.3} to {:.3})", rate.median, rate.min, rate.max);
        rss_mib = rss_mib.max(figures.docrelay.rss_mib);
        summary.insert(format!("fan_out_{fan_out}"), serde_json::to_value(figures)?);
    }
    if let Some(spread) = Spread::of(beside_hung.to_vec()) {
        println!(
            "beside a target that hangs: {:.3} times the rate ({:.3} to {:.3})",
            spread.median, spread.min, spread.max
        );
        summary.insert("hung_1_of_64_rate_ratio".to_owned(), serde_json::to_value(spread)?);
    }
    if !wanted.selftest {
        summary.insert("rss_mib".to_owned(), rss_mib.into());
    }
    summary.insert("events".to_owned(), wanted.events.into());
    summary.insert("broker_file_system".to_owned(), bench.broker.file_system().into());
    summary.insert("void_rounds".to_owned(), rounds.iter().filter(|r| !r.faults().is_empty()).count().into());
    save(wanted, rounds, &summary)
}

fn print_figures(fan_out: usize, name: &str, f: &Figures) {
    println!(
        "  fan-out {fan_out} {name:<12} {:>12.0} {:>26.3} {:>8.3} {:>10.3} {:>10.0}",
        f.rate, f.service_cpu, f.broker_cpu, f.receiver_cpu, f.rss_mib
    );
}

fn save(wanted: &Wanted, rounds: &[Round], summary: &Map<String, Value>) -> Result<()> {
    let with_faults: Vec<Value> =
        rounds.iter().map(|round| json!({ "round": round, "void": round.faults() })).collect();
    for (name, value) in [("rounds.json", json!(with_faults)), ("summary.json", json!(summary))] {
        let file = wanted.output.join(name);
        fs::write(&file, serde_json::to_string_pretty(&value)? + "\n")?;
        println!("wrote {}", file.display());
    }
    Ok(())
}
