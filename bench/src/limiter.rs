//! Rates under a backlog: is a target ever asked more often than allowed, and is what is allowed used?
//!
//! Four targets with limits of 1, 10, 100 and 1,000 a second, each with more waiting than it can take, at one, two and four
//! replicas, and while replicas come and go. Every window between any two requests is looked at, not windows of a length.

#![expect(clippy::print_stdout, reason = "it shows progress")]

use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;
use tokio::time::{Instant, sleep, sleep_until};

use crate::{
    events::{event_for, organization},
    service::Service,
    stage::Stage,
};

/// Requests per second, and how many may come at once: a tenth of a second's worth, so that the bound is tight.
const RATES: [(f64, u32); 4] = [(1.0, 1), (10.0, 1), (100.0, 10), (1000.0, 100)];
/// Requests may bunch up on their way from the permit to the receiver by as many as the rate allows in this time.
const ON_THE_WAY: f64 = 0.05;
/// What is published is as much as is allowed in all, and a part more.
const SURPLUS: f64 = 1.3;
/// The bars: what must be used with one replica, and with four.
pub const USED_BY_ONE: f64 = 0.95;
/// With four.
pub const USED_BY_FOUR: f64 = 0.85;

/// What was seen of one target.
#[derive(Debug, Serialize)]
pub struct Row {
    /// How many replicas; 0 while they come and go.
    pub replicas: u32,
    /// The rate that is allowed.
    pub per_second: f64,
    /// The burst that is allowed.
    pub burst: u32,
    /// Requests in all.
    pub requests: usize,
    /// The most requests above the bound in any window; none when negative.
    pub over: f64,
    /// That window. Its beginning says what went on: a lane that is used to the full keeps the level it has reached, so that
    /// its end says little.
    pub worst_window: Window,
    /// Requests over what is allowed, while there was a backlog.
    pub utilisation: f64,
    /// Whether there was a backlog until the end.
    pub backlog: bool,
}

/// A time between two requests of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Window {
    /// Seconds from the target's first request to the window's first.
    pub from: f64,
    /// And to its last.
    pub until: f64,
}

/// The worst of all rows.
#[derive(Debug, Serialize)]
pub struct Figures {
    /// The most requests above the bound in any window of any run.
    pub worst_over: f64,
    /// The least that was used with one replica.
    pub utilisation: f64,
    /// With two.
    pub utilisation_2_replicas: f64,
    /// With four.
    pub utilisation_4_replicas: f64,
    /// While replicas come and go.
    pub utilisation_changing: f64,
}

impl Figures {
    /// The worst of some rows.
    #[must_use]
    pub fn of(rows: &[Row]) -> Self {
        let least = |replicas| {
            let of = rows.iter().filter(|row| row.replicas == replicas);
            of.map(|row| row.utilisation).fold(f64::INFINITY, f64::min)
        };
        Self {
            worst_over: rows.iter().map(|row| row.over).fold(f64::NEG_INFINITY, f64::max),
            utilisation: least(1),
            utilisation_2_replicas: least(2),
            utilisation_4_replicas: least(4),
            utilisation_changing: least(0),
        }
    }
}

/// How long it will take, about.
#[must_use]
pub fn estimate(stage: &Stage<'_>) -> Duration {
    3 * (stage.seconds(60, 5) + Duration::from_secs(8)) + stage.seconds(50, 20) + Duration::from_secs(8)
}

/// Runs all of it.
///
/// # Errors
/// When a run cannot be made.
pub async fn runs(stage: &Stage<'_>) -> Result<Vec<Row>> {
    println!("\nlimiter: requests above the bound in any window; share of the allowed rate that was used");
    let mut rows = Vec::new();
    for replicas in [1, 2, 4] {
        rows.extend(run(stage, replicas, stage.seconds(60, 5)).await?);
    }
    rows.extend(run(stage, 0, stage.seconds(50, 20)).await?);
    Ok(rows)
}

async fn run(stage: &Stage<'_>, replicas: u32, length: Duration) -> Result<Vec<Row>> {
    let limit = |(per_second, burst): (f64, u32)| format!("rate_limit: {{per_second: {per_second}, burst: {burst}}}");
    let subscriptions = stage.subscriptions(RATES.iter().map(|rate| limit(*rate)).enumerate());
    let mut services = vec![stage.fresh(&subscriptions).await?];
    for _ in 1..replicas {
        services.push(Service::start(stage.folders, stage.broker, &subscriptions).await?);
    }
    let run = format!("limiter-{replicas}");
    stage.targets.begin(&run, []);
    let counts = RATES.map(|rate| backlog(rate, length));
    stage
        .broker
        .publish_all(
            mixed(counts).into_iter().enumerate().map(|(event, target)| event_for(&organization(target), &run, event)),
        )
        .await?;
    let from = Instant::now();
    if replicas == 0 {
        come_and_go(stage, &subscriptions, &mut services, from, length).await?;
    }
    sleep_until(from + length).await;
    let until = Instant::now();
    let (arrivals, _) = stage.targets.end();
    for service in services {
        service.kill().await?;
    }
    let most = if replicas == 0 { 4 } else { replicas };
    let rows = RATES.into_iter().zip(counts).enumerate().map(|(target, ((per_second, burst), published))| {
        let came: Vec<Instant> = arrivals.iter().filter(|a| a.target == target).map(|a| a.at).collect();
        let within = came.iter().filter(|at| (from..until).contains(at)).count();
        let (over, worst_window) = worst_over(&came, per_second, burst.max(most));
        let row = Row {
            replicas,
            per_second,
            burst,
            requests: came.len(),
            over,
            worst_window,
            utilisation: count(within) / (per_second * (until - from).as_secs_f64()),
            backlog: came.len() < published,
        };
        print_row(&row);
        row
    });
    Ok(rows.collect())
}

/// One replica becomes two, four, then one is stopped and one killed.
async fn come_and_go(
    stage: &Stage<'_>,
    subscriptions: &str,
    services: &mut Vec<Service>,
    from: Instant,
    length: Duration,
) -> Result<()> {
    for (part, joining) in [(1, 1), (2, 2)] {
        sleep_until(from + length * part / 5).await;
        for _ in 0..joining {
            services.push(Service::start(stage.folders, stage.broker, subscriptions).await?);
        }
    }
    sleep_until(from + length * 3 / 5).await;
    services.remove(0).stop().await?;
    sleep_until(from + length * 4 / 5).await;
    services.pop().context("no replica is left")?.kill().await?;
    // The broker gives again what the killed one held.
    sleep(Duration::from_millis(10)).await;
    Ok(())
}

fn backlog((per_second, burst): (f64, u32), length: Duration) -> usize {
    // The time in which it is published counts too.
    let most = (per_second * (length.as_secs_f64() + 10.0)).mul_add(SURPLUS, f64::from(burst) * 4.0);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most a hundred thousand")]
    let most = most as usize;
    most + 10
}

/// The targets of a backlog, evenly mixed.
fn mixed(counts: [usize; RATES.len()]) -> Vec<usize> {
    let mut places: Vec<(f64, usize)> = counts
        .into_iter()
        .enumerate()
        .flat_map(|(target, of)| (0..of).map(move |place| (count(place) / count(of), target)))
        .collect();
    places.sort_by(|one, other| one.0.total_cmp(&other.0));
    places.into_iter().map(|(_, target)| target).collect()
}

/// The most requests above `burst + rate * window + rate * 50 ms`, over all windows that begin with one request and end with
/// another, or the same; and the window that had them.
fn worst_over(came: &[Instant], per_second: f64, burst: u32) -> (f64, Window) {
    let Some(first) = came.first() else { return (f64::NEG_INFINITY, Window::default()) };
    let (mut least, mut from) = (f64::INFINITY, 0.0);
    let (mut worst, mut window) = (f64::NEG_INFINITY, Window::default());
    for (number, at) in came.iter().enumerate() {
        let at = (*at - *first).as_secs_f64();
        // Requests up to this one, less what the rate allows: the more it rose since any earlier one, the worse.
        let excess = per_second.mul_add(-at, count(number));
        if excess < least {
            (least, from) = (excess, at);
        }
        if excess - least > worst {
            (worst, window) = (excess - least, Window { from, until: at });
        }
    }
    (worst + 1.0 - f64::from(burst) - per_second * ON_THE_WAY, window)
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn count(number: usize) -> f64 {
    number as f64
}

fn print_row(row: &Row) {
    let replicas = if row.replicas == 0 { "1 to 4".to_owned() } else { row.replicas.to_string() };
    println!(
        "  {replicas:>6} replicas  {:>6}/s  {:>6} requests  {:>8.2} above the bound in {:>6.3} s at {:>6.3}  {:.3} used{}",
        row.per_second,
        row.requests,
        row.over,
        row.worst_window.until - row.worst_window.from,
        row.worst_window.from,
        row.utilisation,
        if row.backlog { "" } else { "  NO BACKLOG AT THE END" },
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: &[u64]) -> Vec<Instant> {
        let began = Instant::now();
        millis.iter().map(|milli| began + Duration::from_millis(*milli)).collect()
    }

    #[test]
    fn the_worst_window_is_found_wherever_it_lies() {
        // Ten a second, and two at once: allowed are 2 + 0.5 and one with each 100 ms.
        let worst = |millis: &[u64], excess: f64, (from, until): (f64, f64)| {
            let (over, window) = worst_over(&at(millis), 10.0, 2);
            assert!((over - (excess - 0.5)).abs() < 1e-9, "{over}");
            assert!((window.from - from).abs() < 1e-9 && (window.until - until).abs() < 1e-9, "{window:?}");
        };
        worst(&[0, 0, 100, 210, 320, 430], 0.0, (0.0, 0.0));
        worst(&[0, 1000, 2000, 2001, 2002, 2003, 2004, 5000], 5.0 - 2.0 - 0.04, (2.0, 2.004));
        // No single second has too many, but three do.
        worst(&(0..40).map(|n| n * 80).collect::<Vec<_>>(), 40.0 - 2.0 - 31.2, (0.0, 3.12));
        assert!(worst_over(&[], 10.0, 2).0 < 0.0);
    }

    #[test]
    fn a_backlog_is_mixed_evenly() {
        let mixed = mixed([1, 2, 10, 100]);
        assert_eq!(mixed.len(), 113);
        let tens: Vec<usize> = mixed.iter().enumerate().filter(|(_, target)| **target == 2).map(|(at, _)| at).collect();
        assert!(tens.windows(2).all(|pair| (9..=15).contains(&(pair[1] - pair[0]))), "{tens:?}");
    }
}
