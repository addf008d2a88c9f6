//! One loop of a round: preload, start, warm up, measure, check.
//!
//! The warm-up events stand at the head of the same queue: 16 for every organization. The clock and the CPU meters
//! start when the receiver has counted their deliveries and stop when every delivery is made and every result stored,
//! so what is measured is a loop that is running at speed, for docrelay and the bare loop alike.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};

use crate::{
    broker::Broker,
    events::ORGANIZATIONS,
    process::{cpu_time, peak_memory_mib},
    receiver::{Control, Counts},
    service::Folders,
};

/// How many events pass before the clock starts.
pub const WARM_UP: usize = 16 * ORGANIZATIONS;

/// No loop takes longer, unless it hangs.
const DEADLINE: Duration = Duration::from_mins(5);
/// How long a loop rests before it is stopped.
const SETTLE: Duration = Duration::from_millis(500);
/// docrelay's `shutdown.grace`, and a little.
const STOP_DEADLINE: Duration = Duration::from_secs(70);

/// The loops that are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Loop {
    /// The service, as shipped.
    Docrelay,
    /// The same, of which so many percent of the events are recorded.
    Traced(u8),
    /// The least that such a service must do.
    Bare,
    /// The bare loop without its POSTs: says whether the bare loop was held up by something else.
    WithoutHttp,
}

/// What a loop cost. Everything is per delivery, so that fan-outs can be compared.
#[derive(Debug, Clone, Serialize)]
pub struct Measured {
    /// Deliveries that were measured.
    pub deliveries: u64,
    /// Deliveries per second.
    pub rate: f64,
    /// CPU-seconds per 1,000 deliveries: of the service or the bare loop.
    pub service_cpu: f64,
    /// Of the broker.
    pub broker_cpu: f64,
    /// Of the receiver.
    pub receiver_cpu: f64,
    /// The service's peak memory.
    pub rss_mib: f64,
    /// Why the loop does not count; empty when it does.
    pub faults: Vec<String>,
}

impl Measured {
    /// CPU-seconds per 1,000 deliveries of all three together.
    #[must_use]
    pub fn total_cpu(&self) -> f64 {
        self.service_cpu + self.broker_cpu + self.receiver_cpu
    }
}

/// Everything that the loops have in common.
pub struct Bench {
    /// The broker.
    pub broker: Broker,
    /// The broker's process.
    pub broker_pid: u32,
    /// The receiver's port.
    pub receiver_port: u16,
    /// The receiver's process.
    pub receiver_pid: u32,
    /// Asks the receiver.
    pub control: Control,
    /// Where things are.
    pub folders: Folders,
    /// How many events are measured.
    pub events: usize,
}

/// The meters at one moment.
struct Reading {
    at: Instant,
    received: u64,
    service: Duration,
    broker: Duration,
    receiver: Duration,
}

impl Bench {
    /// Runs one loop. `run` names it: no two runs on one broker may have the same name.
    ///
    /// # Errors
    /// When it could not be run at all; a loop that ran badly has faults instead.
    pub async fn measure(&mut self, which: Loop, fan_out: usize, run: &str) -> Result<Measured> {
        self.broker.preload(run, WARM_UP + self.events).await?;
        let before = self.control.counts().await?;
        let mut child = self.start(which, fan_out)?;
        let pid = child.id().context("the loop ended at once")?;
        let measured = if which == Loop::WithoutHttp {
            self.watch_without_http(&mut child, fan_out).await
        } else {
            self.watch(pid, before, fan_out).await
        };
        let measured = measured.with_context(|| format!("{which:?}, fan-out {fan_out}, run {run}"));
        // The broker's channel keeps acks for a busy quorum queue to itself for a while, and forgets them when it is
        // closed: without a pause up to some dozens of acked events come back.
        sleep(SETTLE).await;
        stop(child).await?;
        measured
    }

    fn start(&self, which: Loop, fan_out: usize) -> Result<Child> {
        match which {
            Loop::Docrelay => return self.folders.start_docrelay(&config_file(&self.folders.output, fan_out)),
            Loop::Traced(share) => {
                return self.folders.start_docrelay(&traced_config_file(&self.folders.output, share));
            }
            Loop::Bare | Loop::WithoutHttp => {}
        }
        let mut command = Command::new(self.folders.programs.join("bare-loop"));
        command.args(["--url", self.broker.url()]);
        command.args(["--fan-out", &fan_out.to_string()]);
        command.args(["--warm-up", &WARM_UP.to_string()]);
        command.args(["--total", &(WARM_UP + self.events).to_string()]);
        if which == Loop::Bare {
            command.args(["--post-to", &format!("127.0.0.1:{}", self.receiver_port)]);
        }
        Ok(command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?)
    }

    async fn watch(&mut self, pid: u32, before: Counts, fan_out: usize) -> Result<Measured> {
        let warm = before.received + (WARM_UP * fan_out) as u64;
        let all = before.received + ((WARM_UP + self.events) * fan_out) as u64;
        self.await_received(warm).await?;
        let from = self.reading(pid).await?;
        self.await_received(all).await?;
        let rate_until = self.reading(pid).await?;
        let results = self.await_settled((WARM_UP + self.events) * fan_out).await;
        let to = self.reading(pid).await?;
        let rss_mib = peak_memory_mib(pid)?;

        let mut faults: Vec<String> = results.err().map(|fault| fault.to_string()).into_iter().collect();
        let after = self.control.counts().await?;
        if after.received != all {
            faults.push(format!("{} requests instead of {}", after.received - before.received, all - before.received));
        }
        if after.repeated != before.repeated {
            faults.push(format!("{} requests were repeats", after.repeated - before.repeated));
        }
        let deliveries = to.received - from.received;
        #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
        let (thousands, rated) = (deliveries as f64 / 1000.0, (rate_until.received - from.received) as f64);
        Ok(Measured {
            deliveries,
            rate: rated / (rate_until.at - from.at).as_secs_f64(),
            service_cpu: to.service.saturating_sub(from.service).as_secs_f64() / thousands,
            broker_cpu: to.broker.saturating_sub(from.broker).as_secs_f64() / thousands,
            receiver_cpu: to.receiver.saturating_sub(from.receiver).as_secs_f64() / thousands,
            rss_mib,
            faults,
        })
    }

    async fn watch_without_http(&mut self, child: &mut Child, fan_out: usize) -> Result<Measured> {
        let output = child.stdout.take().context("the loop has no output")?;
        let line = timeout(DEADLINE, BufReader::new(output).lines().next_line()).await??.context("the loop failed")?;
        let seconds: f64 = line.strip_prefix("done ").context("the loop says something else than done")?.parse()?;
        let deliveries = (self.events * fan_out) as u64;
        #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
        let rate = deliveries as f64 / seconds;
        let faults = Vec::new();
        Ok(Measured { deliveries, rate, service_cpu: 0.0, broker_cpu: 0.0, receiver_cpu: 0.0, rss_mib: 0.0, faults })
    }

    async fn await_received(&mut self, count: u64) -> Result<()> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let received = self.control.counts().await?.received;
            if received >= count {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "{received} of {count} requests after {DEADLINE:?}");
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until every result is stored and says what is wrong otherwise.
    async fn await_settled(&self, results: usize) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let depths = self.broker.depths().await?;
            if depths.parked > 0 || depths.dead > 0 {
                bail!("{} copies were parked, {} messages set aside", depths.parked, depths.dead);
            }
            if depths.results as usize == results && depths.events == 0 {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "{} results instead of {results}", depths.results);
            sleep(Duration::from_millis(10)).await;
        }
    }

    async fn reading(&mut self, pid: u32) -> Result<Reading> {
        let received = self.control.counts().await?.received;
        Ok(Reading {
            at: Instant::now(),
            received,
            service: cpu_time(pid)?,
            broker: cpu_time(self.broker_pid)?,
            receiver: cpu_time(self.receiver_pid)?,
        })
    }
}

/// Where the configuration of a fan-out is.
#[must_use]
pub fn config_file(output: &Path, fan_out: usize) -> PathBuf {
    output.join(format!("docrelay-{fan_out}.toml"))
}

/// Where the configuration is by which so many percent of the events are recorded, with fan-out 1.
#[must_use]
pub fn traced_config_file(output: &Path, share: u8) -> PathBuf {
    output.join(format!("docrelay-traced-{share}.toml"))
}

/// Stops a loop in order: the bare loop by the end of its input, docrelay by SIGTERM.
///
/// # Errors
/// When it does not end, or ends badly.
pub async fn stop(mut child: Child) -> Result<()> {
    if child.stdin.take().is_none()
        && let Some(pid) = child.id()
    {
        Command::new("kill").args(["-TERM", &pid.to_string()]).status().await?;
    }
    let Ok(status) = timeout(STOP_DEADLINE, child.wait()).await else {
        bail!("the loop does not stop within {STOP_DEADLINE:?}");
    };
    let status = status?;
    ensure!(status.success(), "the loop ended with {status}");
    Ok(())
}
