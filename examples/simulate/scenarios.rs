//! The scenarios: what each run is made of.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "numbers of targets and events a second are small and round"
)]

use std::time::Duration;

use docrelay::policy::lane::{Limits, Rate};

use super::model::{Change, Group, Latency, Setting, Trouble, Troubled};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);

/// What to simulate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Scenario {
    /// All but `day`.
    All,
    /// Many targets, a day's traffic, storms, outages, replicas that come and go.
    Day,
    /// 10 healthy targets beside 500 that hang, from a cold start; and without them.
    Hung,
    /// 10 healthy targets beside 500 that answer after ten seconds; and without them.
    Slow,
    /// 10,000 deliveries at once for a target of 200 a second.
    Backlog,
    /// Limits from 1 to 1,000 a second with a backlog, 1, 2 and 4 replicas that also come and go.
    Limiter,
    /// A target that is away for two hours, for 10 min, 1 min, 15 s.
    Outage,
    /// A limit that is raised while there is a backlog.
    Raised,
    /// The memory of lanes, and what a new one costs.
    Memory,
}

/// How large `day` is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    /// Targets.
    pub(crate) targets: usize,
    /// Replicas at the start.
    pub(crate) replicas: usize,
    /// Its length.
    pub(crate) hours: u32,
    /// Events.
    pub(crate) per_second: f64,
    /// Of all dice.
    pub(crate) seed: u64,
}

/// The runs of a scenario, each with its title.
pub(crate) fn settings(scenario: Scenario, size: Size) -> Vec<(String, Setting)> {
    let seed = size.seed;
    match scenario {
        Scenario::All => {
            [Scenario::Hung, Scenario::Slow, Scenario::Backlog, Scenario::Limiter, Scenario::Outage, Scenario::Raised]
                .into_iter()
                .flat_map(|scenario| settings(scenario, size))
                .collect()
        }
        Scenario::Day => {
            vec![(format!("day: {} targets, {} replicas, {} h", size.targets, size.replicas, size.hours), day(size))]
        }
        Scenario::Hung => beside("hung: 10 healthy, 500 that hang", Trouble::Hangs, seed),
        Scenario::Slow => {
            beside("slow: 10 healthy, 500 that answer after 10 s", Trouble::Slow(Latency::always(10 * SECOND)), seed)
        }
        Scenario::Backlog => vec![("backlog: 10,000 at once for 200/s".to_owned(), backlog(10_000, 200.0, seed))],
        Scenario::Limiter => limiter_runs(seed),
        Scenario::Outage => [2 * HOUR, 10 * MINUTE, MINUTE, 15 * SECOND]
            .into_iter()
            .flat_map(|length| {
                [Trouble::Refuses, Trouble::Hangs].map(|trouble| {
                    (format!("outage: {trouble:?} for {} s", length.as_secs()), outage(trouble, length, 1.0, seed))
                })
            })
            .collect(),
        Scenario::Raised => vec![("raised: from 1/s to 100/s after two minutes".to_owned(), raised(seed))],
        Scenario::Memory => Vec::new(),
    }
}

fn setting(seed: u64, length: Duration, replicas: usize, groups: Vec<Group>) -> Setting {
    Setting { seed, length, drains: true, replicas, changes: Vec::new(), groups, raised: Vec::new() }
}

/// Ten healthy targets, with and without 500 in trouble, each target with the same traffic.
pub(crate) fn beside(title: &str, trouble: Trouble, seed: u64) -> Vec<(String, Setting)> {
    let per_target = 1.0;
    let healthy = Group::new("healthy", 10, 10.0 * per_target);
    let others = Group::new("others", 500, 500.0 * per_target).troubled(trouble, Duration::ZERO, Duration::MAX);
    [(title.to_owned(), vec![healthy.clone(), others]), (format!("{title}: without those"), vec![healthy])]
        .into_iter()
        .map(|(title, groups)| (title, Setting { drains: false, ..setting(seed, 75 * SECOND, 1, groups) }))
        .collect()
}

/// So many deliveries at once for one limited target, while others run.
pub(crate) fn backlog(count: usize, per_second: f64, seed: u64) -> Setting {
    let mut limited = Group::new("limited", 1, 0.0).limited(per_second, per_second as u32);
    limited.at_once = vec![(30 * SECOND, count)];
    setting(seed, 120 * SECOND, 1, vec![limited, Group::new("healthy", 100, 100.0)])
}

fn limiter_runs(seed: u64) -> Vec<(String, Setting)> {
    let mut runs = Vec::new();
    for replicas in [1, 2, 4] {
        for per_second in [1.0, 10.0, 100.0, 1_000.0] {
            for burst in [per_second as u32, 1] {
                let title = format!("limiter: {per_second}/s, burst {burst}, {replicas} replicas");
                runs.push((title, limiter(per_second, burst, replicas, false, seed)));
            }
        }
    }
    for per_second in [10.0, 100.0] {
        let title = format!("limiter: {per_second}/s, replicas come and go");
        runs.push((title, limiter(per_second, per_second as u32, 2, true, seed)));
    }
    runs
}

/// A limited target with five minutes' backlog and somewhat more traffic than it may have.
pub(crate) fn limiter(per_second: f64, burst: u32, replicas: usize, unsteady: bool, seed: u64) -> Setting {
    let mut limited = Group::new("limited", 1, per_second * 1.2).limited(per_second, burst);
    // It takes 15 s to come in, so that turns come at all moments.
    limited.at_once =
        (0..50).map(|part| (10 * SECOND + SECOND * part * 3 / 10, (per_second * 300.0) as usize / 50)).collect();
    limited.limits.max_in_flight = 256;
    let mut setting = setting(seed, 300 * SECOND, replicas, vec![limited]);
    setting.drains = false;
    if unsteady {
        setting.changes = vec![
            (60 * SECOND, 2, Change::Joins),
            (90 * SECOND, 3, Change::Joins),
            (120 * SECOND, 0, Change::Leaves),
            (150 * SECOND, 3, Change::Dies),
            (200 * SECOND, 4, Change::Joins),
            (240 * SECOND, 1, Change::Dies),
        ];
    }
    setting
}

/// Two targets that are away for so long, one holding, one counting; and others beside them.
pub(crate) fn outage(trouble: Trouble, length: Duration, per_second: f64, seed: u64) -> Setting {
    let (from, to) = (MINUTE, MINUTE + length);
    let away = |name| {
        let mut group = Group::new(name, 1, per_second).troubled(trouble, from, to);
        group.watched = Some(to);
        group
    };
    let groups = vec![away("hold").holding(), away("count"), Group::new("healthy", 100, 100.0)];
    setting(seed, to + MINUTE, 1, groups)
}

/// A limit that is raised a hundredfold after two minutes.
pub(crate) fn raised(seed: u64) -> Setting {
    let mut limited = Group::new("limited", 1, 0.0).limited(1.0, 1);
    limited.at_once = vec![(30 * SECOND, 3_000)];
    limited.watched = Some(2 * MINUTE);
    let rate =
        Rate { interval: SECOND / 100, burst: std::num::NonZeroU32::new(100).unwrap_or(std::num::NonZeroU32::MIN) };
    let raised = vec![(2 * MINUTE, 0, Limits { rate: Some(rate), ..limited.limits })];
    Setting { raised, ..setting(seed, 10 * MINUTE, 1, vec![limited]) }
}

/// A day of many targets: most are healthy; some go down or hang for a while, or always; some are slow, limited, or busy.
pub(crate) fn day(size: Size) -> Setting {
    let Size { targets, replicas, hours, per_second, seed } = size;
    let length = HOUR * hours;
    let group = |name, part: f64| Group {
        skew: 2.0,
        daily: true,
        ..Group::new(name, ((targets as f64 * part) as usize).max(1), per_second * part)
    };
    let troubled = |mut group: Group, trouble, part, (lasts, every): (Duration, Duration)| {
        group.troubles.push(Troubled { trouble, from: every / 2, to: every / 2 + lasts, part, every: Some(every) });
        group
    };
    let mut healthy = group("healthy", 0.75);
    healthy.storms = (1..hours.div_ceil(6)).map(|n| (HOUR * n * 6, HOUR * n * 6 + 3 * MINUTE, 10.0)).collect();
    let mut stormy = group("stormy", 0.02);
    stormy.storms = (0..hours).map(|n| (HOUR * n + 20 * MINUTE, HOUR * n + 25 * MINUTE, 50.0)).collect();
    let ten = 10 * MINUTE;
    let groups = vec![
        healthy,
        stormy,
        troubled(group("down", 0.05), Trouble::Refuses, 0.1, (2 * HOUR, 3 * HOUR)),
        troubled(group("down, hold", 0.03), Trouble::Refuses, 0.1, (2 * HOUR, 3 * HOUR)).holding(),
        troubled(group("hangs", 0.04), Trouble::Hangs, 0.1, (ten, HOUR)),
        troubled(group("hangs, hold", 0.02), Trouble::Hangs, 0.1, (HOUR, 3 * HOUR)).holding(),
        troubled(group("dead", 0.01), Trouble::Hangs, 1.0, (length, length)),
        Group { latency: Latency { median: 4 * SECOND, spread: 3.0 }, ..group("slow", 0.04) },
        group("limited", 0.02).limited(0.1, 1),
        troubled(group("busy", 0.02), Trouble::Busy(30 * SECOND), 0.3, (MINUTE, ten)),
    ];
    let mut setting = setting(seed, length, replicas, groups);
    setting.changes = comings_and_goings(hours, replicas);
    setting
}

/// Each two hours one is killed and another comes for it; each five one is stopped and replaced.
fn comings_and_goings(hours: u32, replicas: usize) -> Vec<(Duration, usize, Change)> {
    let (mut changes, mut next) = (Vec::new(), replicas);
    let mut living: std::collections::VecDeque<usize> = (0..replicas).collect();
    for hour in 1..hours {
        let change = match hour {
            hour if hour % 5 == 0 => Change::Leaves,
            hour if hour % 2 == 0 => Change::Dies,
            _ => continue,
        };
        let at = HOUR * hour;
        if let Some(replica) = living.pop_front() {
            changes.push((at, replica, change));
            changes.push((at + MINUTE, next, Change::Joins));
            living.push_back(next);
            next += 1;
        }
    }
    changes
}
