//! Runs the benchmark: rounds of docrelay, the bare loop and the loop without HTTP, one after the other in changing
//! order, against one private broker and one receiver. Writes `summary.json` and `rounds.json`.

#![expect(clippy::print_stdout, reason = "a program that reports")]

use std::{
    env, fs,
    net::{Ipv4Addr, TcpListener},
    path::PathBuf,
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use docrelay_bench::{
    broker::Broker,
    events::{EVENT_BYTES, ORGANIZATIONS, subscriptions},
    hung::hang,
    receiver::Control,
    round::{Bench, Loop, Measured, WARM_UP, config_file, stop},
    summary::{FanOut, Figures, Round, Spread},
};
use serde_json::{Map, Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::{Instant, sleep},
};

/// docrelay beside the bare loop. Run it through `make bench`, which starts the private broker.
#[derive(Parser)]
struct Arguments {
    /// How many rounds must count for each fan-out.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// How many events a loop is measured with.
    #[arg(long, default_value_t = 20_000)]
    events: usize,
    /// How many deliveries an event makes.
    #[arg(long, value_delimiter = ',', default_value = "1,3")]
    fan_out: Vec<usize>,
    /// Two rounds of 3,000 events: to see that it works, not to measure.
    #[arg(long)]
    quick: bool,
    /// Nothing but the rate beside a target that hangs.
    #[arg(long)]
    only_hung: bool,
    /// Leave docrelay out: tries the benchmark itself.
    #[arg(long)]
    selftest: bool,
    /// The broker.
    #[arg(long, env = "DOCRELAY_TEST_AMQP_URL", hide_env_values = true)]
    url: String,
    /// The folder that `scripts/broker` keeps it in.
    #[arg(long, env = "DOCRELAY_TEST_BROKER_DIR")]
    broker_folder: PathBuf,
    /// Where results go.
    #[arg(long, default_value = "target/bench")]
    output: PathBuf,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut arguments = Arguments::parse();
    if arguments.quick {
        (arguments.rounds, arguments.events) = (2, 3_000);
    }
    fs::create_dir_all(&arguments.output)?;
    let programs = env::current_exe()?.parent().context("this program is in no folder")?.to_path_buf();
    let (receiver, receiver_port) = start_receiver(&programs).await?;
    let broker = Broker::connect(arguments.url.clone(), arguments.broker_folder.clone()).await?;
    let mut bench = Bench {
        broker_pid: broker.pid().await?,
        broker,
        receiver_port,
        receiver_pid: receiver.id().context("the receiver ended at once")?,
        control: Control::connect(receiver_port).await?,
        programs,
        output: arguments.output.clone(),
        events: arguments.events,
    };
    let admin = write_configuration(&bench, &arguments)?;
    declare(&bench, &arguments, admin).await?;

    println!(
        "{} rounds of {} events of {EVENT_BYTES} bytes, over {ORGANIZATIONS} organizations, after {WARM_UP} to warm up\n",
        arguments.rounds, arguments.events
    );
    let mut rounds = Vec::new();
    for &fan_out in arguments.fan_out.iter().filter(|_| !arguments.only_hung) {
        run_rounds(&mut bench, &arguments, fan_out, &mut rounds).await?;
    }
    // It runs with the configuration of fan-out 1.
    let beside_hung = if arguments.selftest || !arguments.fan_out.contains(&1) {
        Vec::new()
    } else {
        // These runs are short, and differ more: twice as many.
        beside_hung(&mut bench, 2 * arguments.rounds).await?
    };
    report(&arguments, &rounds, &beside_hung)
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

async fn start_receiver(programs: &std::path::Path) -> Result<(Child, u16)> {
    let mut receiver = Command::new(programs.join("bench-receiver"))
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("cannot start bench-receiver: build the whole workspace")?;
    let output = receiver.stdout.take().context("the receiver has no output")?;
    let port = BufReader::new(output).lines().next_line().await?.context("the receiver ended at once")?;
    Ok((receiver, port.parse()?))
}

/// Writes docrelay's configuration, one for each fan-out: nothing but what must be set. Returns the admin port.
fn write_configuration(bench: &Bench, arguments: &Arguments) -> Result<u16> {
    let admin = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    for &fan_out in &arguments.fan_out {
        let subscriptions_file = bench.output.join(format!("subscriptions-{fan_out}.yaml"));
        fs::write(&subscriptions_file, subscriptions(fan_out, bench.receiver_port))?;
        let config = format!(
            "[broker]\nurl = \"{}\"\n\n[subscriptions]\nfile = \"{}\"\n\n[egress]\nallow = [\"127.0.0.0/8\"]\n\n\
             [admin]\nlisten = \"127.0.0.1:{admin}\"\n",
            bench.broker.url(),
            fs::canonicalize(&subscriptions_file)?.display(),
        );
        fs::write(config_file(&bench.output, fan_out), config)?;
    }
    Ok(admin)
}

/// Has docrelay declare its topology, by running until it is ready.
async fn declare(bench: &Bench, arguments: &Arguments, admin: u16) -> Result<()> {
    if arguments.selftest {
        bench.broker.declare_without_docrelay().await?;
        return bench.broker.declare_own_queues().await;
    }
    let fan_out = *arguments.fan_out.first().context("no fan-out")?;
    let mut docrelay = bench.start_docrelay(fan_out)?;
    let deadline = Instant::now() + Duration::from_secs(30);
    while !ready(admin).await {
        let log = bench.output.join("docrelay.log");
        ensure!(docrelay.try_wait()?.is_none(), "docrelay ended instead of getting ready: see {}", log.display());
        ensure!(Instant::now() < deadline, "docrelay does not get ready: see {}", log.display());
        sleep(Duration::from_millis(50)).await;
    }
    stop(docrelay).await?;
    bench.broker.declare_own_queues().await
}

async fn ready(admin: u16) -> bool {
    match Control::connect(admin).await {
        Ok(mut control) => control.get("/readyz").await.is_ok(),
        Err(_) => false,
    }
}

async fn run_rounds(bench: &mut Bench, arguments: &Arguments, fan_out: usize, rounds: &mut Vec<Round>) -> Result<()> {
    let mut counted = 0;
    for number in 0.. {
        if counted == arguments.rounds {
            break;
        }
        if number == 2 * arguments.rounds {
            save(arguments, rounds, &Map::new())?;
            bail!("fan-out {fan_out}: only {counted} of {number} rounds count: is something else running here?");
        }
        let round = run_round(bench, arguments, fan_out, number).await?;
        let faults = round.faults();
        print_round(&round, number, &faults);
        counted += usize::from(faults.is_empty());
        rounds.push(round);
    }
    Ok(())
}

async fn run_round(bench: &mut Bench, arguments: &Arguments, fan_out: usize, number: usize) -> Result<Round> {
    // Whoever is first finds the broker in another state than whoever is last: take turns.
    let mut order = [Loop::Docrelay, Loop::WithoutHttp, Loop::Bare];
    if number % 2 == 1 {
        order.reverse();
    }
    let (mut docrelay, mut bare, mut without_http) = (None, None, None);
    for which in order {
        if which == Loop::Docrelay && arguments.selftest {
            continue;
        }
        let measured = bench.measure(which, fan_out, &format!("{fan_out}-{number}-{which:?}")).await?;
        let place: &mut Option<Measured> = match which {
            Loop::Docrelay => &mut docrelay,
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
fn report(arguments: &Arguments, rounds: &[Round], beside_hung: &[f64]) -> Result<()> {
    let mut summary = Map::new();
    let mut rss_mib: f64 = 0.0;
    println!("\nmedians                    deliveries/s   CPU-s per 1,000: service   broker   receiver   peak MiB");
    for &fan_out in &arguments.fan_out {
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
    if !arguments.selftest {
        summary.insert("rss_mib".to_owned(), rss_mib.into());
    }
    summary.insert("events".to_owned(), arguments.events.into());
    summary.insert("void_rounds".to_owned(), rounds.iter().filter(|r| !r.faults().is_empty()).count().into());
    save(arguments, rounds, &summary)
}

fn print_figures(fan_out: usize, name: &str, f: &Figures) {
    println!(
        "  fan-out {fan_out} {name:<12} {:>12.0} {:>26.3} {:>8.3} {:>10.3} {:>10.0}",
        f.rate, f.service_cpu, f.broker_cpu, f.receiver_cpu, f.rss_mib
    );
}

fn save(arguments: &Arguments, rounds: &[Round], summary: &Map<String, Value>) -> Result<()> {
    let with_faults: Vec<Value> =
        rounds.iter().map(|round| json!({ "round": round, "void": round.faults() })).collect();
    for (name, value) in [("rounds.json", json!(with_faults)), ("summary.json", json!(summary))] {
        let file = arguments.output.join(name);
        fs::write(&file, serde_json::to_string_pretty(&value)? + "\n")?;
        println!("wrote {}", file.display());
    }
    Ok(())
}
