//! docrelay's rules in virtual time: many lanes, replicas, delay queues and targets, with the same code that decides in the
//! service. The world is the example's: `cargo run --release --example simulate -- --help`.

mod backlog;
mod isolation;
mod outage;
mod repeat;
mod size;

#[path = "../../../examples/simulate/memory.rs"]
#[expect(dead_code, reason = "the tool's table and its times")]
mod memory;
#[path = "../../../examples/simulate/model/mod.rs"]
pub(crate) mod model;
#[path = "../../../examples/simulate/scenarios.rs"]
pub(crate) mod scenarios;
#[path = "../../../examples/simulate/table.rs"]
mod table;

use std::time::Duration;

use self::model::{Figures, GroupFigures, Setting, World};

pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// Runs a setting; what came of it is printed, and shown when the test fails.
pub(crate) fn run(setting: Setting) -> Figures {
    let watched: Vec<_> = setting.groups.iter().map(|group| group.watched).collect();
    let figures = World::new(setting).run();
    eprintln!("{}", table::of(&figures, &watched));
    figures
}

pub(crate) fn group<'a>(figures: &'a Figures, name: &str) -> &'a GroupFigures {
    figures.groups.iter().find(|group| group.name == name).expect("the scenario has this group")
}

/// Nothing is forgotten: every event's delivery has ended, once.
pub(crate) fn assert_all_ended(figures: &Figures) {
    for group in &figures.groups {
        assert_eq!(group.published, group.delivered + group.exhausted + group.too_old, "{}", group.name);
    }
}
