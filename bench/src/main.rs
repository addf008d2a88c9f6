//! Runs the benchmark against one private broker. The first part: rounds of docrelay, the bare loop and the loop without
//! HTTP, in changing order, against one receiver (`summary.json`, `rounds.json`). Then what traces cost (`tracing.json`). The
//! second part: what targets do to each other (`isolation.json`).

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use docrelay_bench::{
    broker::Broker,
    events::subscriptions,
    isolation::Case,
    part_one,
    part_two::{self, Measurement},
    receiver::Control,
    round::{Bench, config_file, stop},
    service::{Folders, await_ready, configuration, free_port},
    stage::SHARE,
    tracing,
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

/// docrelay beside the bare loop, and its targets beside each other. Run it through `make bench`, which starts the private
/// broker.
#[derive(Parser)]
struct Arguments {
    /// How many rounds must count: 7 for each fan-out, 10 for traces, and 5 for each case of isolation.
    #[arg(long)]
    rounds: Option<usize>,
    /// How many events a loop of the first part is measured with.
    #[arg(long, default_value_t = 20_000)]
    events: usize,
    /// How many deliveries an event of the first part makes.
    #[arg(long, value_delimiter = ',', default_value = "1,3")]
    fan_out: Vec<usize>,
    /// Two short rounds of everything: to see that it works, not to measure.
    #[arg(long)]
    quick: bool,
    /// Nothing but this.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Part>,
    /// Only these cases of isolation.
    #[arg(long, value_delimiter = ',')]
    cases: Vec<Case>,
    /// The part of the measured capacity that the open loops of the second part ask for. With less, the machine has room for
    /// what bad targets cost beside.
    #[arg(long, default_value_t = SHARE, value_parser = share)]
    share: f64,
    /// Let runs count though their publisher was late: to look for something on a busy machine, not to measure.
    #[arg(long)]
    keep_late: bool,
    /// Leave docrelay out: tries the first part itself.
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

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// docrelay beside the bare loop.
    Cost,
    /// The rate beside one target of 64 that hangs.
    Hung,
    /// What traces cost.
    Tracing,
    /// Bad targets among healthy ones.
    Isolation,
    /// Rates under a backlog.
    Limiter,
    /// 10,000 deliveries that wait for one target.
    Backlog,
    /// Two targets that are down for a minute.
    Outage,
}

/// A part of something: above 0, and 1 at most.
fn share(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|share| *share > 0.0 && *share <= 1.0).ok_or_else(|| "above 0, and 1 at most".to_owned())
}

impl Arguments {
    fn wants(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }

    fn part_one(&self) -> part_one::Wanted {
        part_one::Wanted {
            rounds: self.rounds.unwrap_or(if self.quick { 2 } else { 7 }),
            events: self.events(),
            fan_out: self.fan_out.clone(),
            cost: self.wants(Part::Cost),
            hung: self.wants(Part::Hung),
            selftest: self.selftest,
            output: self.output.clone(),
        }
    }

    fn tracing(&self) -> tracing::Wanted {
        tracing::Wanted { rounds: self.rounds.unwrap_or(if self.quick { 2 } else { 10 }), output: self.output.clone() }
    }

    fn part_two(&self) -> part_two::Wanted {
        let measurements = [
            (Part::Isolation, Measurement::Isolation),
            (Part::Limiter, Measurement::Limiter),
            (Part::Backlog, Measurement::Backlog),
            (Part::Outage, Measurement::Outage),
        ];
        part_two::Wanted {
            measurements: measurements.into_iter().filter(|(part, _)| self.wants(*part)).map(|(_, it)| it).collect(),
            cases: if self.cases.is_empty() { Case::value_variants().to_vec() } else { self.cases.clone() },
            rounds: self.rounds.unwrap_or(if self.quick { 2 } else { 5 }),
            quick: self.quick,
            keep_late: self.keep_late,
            share: self.share,
        }
    }

    fn events(&self) -> usize {
        if self.quick { 3_000 } else { self.events }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
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
        folders: Folders { programs, output: arguments.output.clone() },
        events: arguments.events(),
    };
    let admin = write_configuration(&bench, &arguments)?;
    declare(&bench, &arguments, admin).await?;

    let (part_one, part_two) = (arguments.part_one(), arguments.part_two());
    if part_one.cost || part_one.hung {
        part_one::run(&mut bench, &part_one).await?;
    }
    if arguments.wants(Part::Tracing) && !arguments.selftest {
        tracing::run(&mut bench, &arguments.tracing()).await?;
    }
    if !part_two.measurements.is_empty() && !arguments.selftest {
        part_two::run(&mut bench, &part_two).await?;
    }
    Ok(())
}

async fn start_receiver(programs: &Path) -> Result<(Child, u16)> {
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
    let (admin, output) = (free_port()?, &bench.folders.output);
    // The second part measures the capacity with fan-out 1.
    for &fan_out in arguments.fan_out.iter().chain(&[1]) {
        let subscriptions_file = output.join(format!("subscriptions-{fan_out}.yaml"));
        fs::write(&subscriptions_file, subscriptions(fan_out, bench.receiver_port))?;
        let config = configuration(bench.broker.url(), &subscriptions_file, admin)?;
        fs::write(config_file(output, fan_out), config)?;
    }
    Ok(admin)
}

/// Has docrelay declare its topology, by running until it is ready.
async fn declare(bench: &Bench, arguments: &Arguments, admin: u16) -> Result<()> {
    if arguments.selftest {
        bench.broker.declare_without_docrelay().await?;
        return bench.broker.declare_own_queues().await;
    }
    let mut docrelay = bench.folders.start_docrelay(&config_file(&bench.folders.output, 1))?;
    await_ready(&mut docrelay, admin, &bench.folders).await?;
    stop(docrelay).await?;
    bench.broker.declare_own_queues().await
}
