//! Lanes, replicas, delay queues and targets in virtual time, by docrelay's own rules: what a day would be like.

#![expect(clippy::print_stdout, reason = "a program that reports")]

mod memory;
mod model;
mod scenarios;
mod table;

use clap::Parser;
use mimalloc::MiMalloc;

use self::{
    model::World,
    scenarios::{Scenario, Size},
};

/// As the service: what lanes take is measured with its allocator.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Simulates docrelay's lanes in virtual time: targets that are healthy, slow, silent, limited; replicas that come and go; a
/// broker with its delay queues. What decides is docrelay's own code: lanes, hops, the retry schedule, the replicas' shares.
///
/// Each scenario prints a table with a line for each group of targets:
///   wait       from the moment that an attempt is due to the moment that it begins: p50, p99, the longest
///   hops       through delay queues while waiting for a turn, for each delivery that had to; and how many its first wait
///              allows: the bits set in it, two more, and one for each 256 s
///   over       deliveries that took more hops than that
///   rate       the worst count above max(burst, replicas) + rate x time at any target; not above 0 is good
///   used       the part of the allowed rate that was used while there was a backlog
#[derive(Debug, Parser)]
#[command(
    verbatim_doc_comment,
    after_help = "Examples:
  cargo run --release --example simulate -- hung
  cargo run --release --example simulate -- day --targets 10000 --hours 6
  cargo run --release --example simulate -- limiter --seed 7"
)]
struct Arguments {
    /// What to simulate.
    #[arg(value_enum, default_value = "all")]
    scenario: Scenario,
    /// Targets, in `day` and `memory`.
    #[arg(long, default_value_t = 100_000)]
    targets: usize,
    /// Replicas at the start, in `day`.
    #[arg(long, default_value_t = 10)]
    replicas: usize,
    /// Hours, in `day`.
    #[arg(long, default_value_t = 24)]
    hours: u32,
    /// Events a second on average, in `day`.
    #[arg(long, default_value_t = 50.0)]
    per_second: f64,
    /// The seed of all dice: the same seed gives the same run.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() {
    let Arguments { scenario, targets, replicas, hours, per_second, seed } = Arguments::parse();
    let size = Size { targets, replicas, hours, per_second, seed };
    if matches!(scenario, Scenario::Memory | Scenario::All) {
        print!("{}", memory::measure(targets));
    }
    for (title, setting) in scenarios::settings(scenario, size) {
        println!("\n{title}");
        let watched = setting.groups.iter().map(|group| group.watched).collect::<Vec<_>>();
        print!("{}", table::of(&World::new(setting).run(), &watched));
    }
}
