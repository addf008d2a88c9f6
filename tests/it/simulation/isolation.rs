//! Healthy targets beside many that hang, or are slow, from the first moment.

use super::{
    group, run,
    scenarios::{Scenario, Size, settings},
};

/// Both runs of a scenario: with the bad targets and without them.
fn assert_healthy_targets_wait_as_without_the_others(scenario: Scenario) {
    let size = Size { targets: 0, replicas: 1, hours: 0, per_second: 0.0, seed: 1 };
    let mut runs = settings(scenario, size).into_iter().map(|(_, setting)| run(setting));
    let (with, without) = (runs.next().unwrap(), runs.next().unwrap());
    let (with_others, alone) = (group(&with, "healthy"), group(&without, "healthy"));
    assert!(group(&with, "others").published > 10_000);
    assert_eq!(with_others.published, alone.published);
    assert_eq!(with_others.delivered, alone.delivered);
    assert_eq!(with_others.waits, alone.waits, "not one delivery waits for longer");
}

#[test]
fn ten_healthy_targets_never_notice_five_hundred_that_hang_from_a_cold_start_on() {
    assert_healthy_targets_wait_as_without_the_others(Scenario::Hung);
}

#[test]
fn ten_healthy_targets_never_notice_five_hundred_that_take_ten_seconds_from_a_cold_start_on() {
    assert_healthy_targets_wait_as_without_the_others(Scenario::Slow);
}
