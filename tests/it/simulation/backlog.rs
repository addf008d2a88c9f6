//! Limits under backlog: how much of the rate is used, never more than it allows, and how often what waits is parked.

use super::{
    SECOND, assert_all_ended, group,
    model::Figures,
    run,
    scenarios::{backlog, limiter, raised},
};

fn assert_rate(figures: &Figures, least_used: f64) {
    let limited = group(figures, "limited");
    let (over, used) = (limited.worst_over_rate.unwrap(), limited.rate_used.unwrap());
    assert!(over <= 0.0, "{over} above max(burst, replicas) + rate x window");
    assert!(used >= least_used, "{used} of the rate was used");
}

#[test]
fn ten_thousand_at_once_take_few_hops_each_use_the_rate_and_delay_nobody() {
    let figures = run(backlog(10_000, 200.0, 1));
    assert_all_ended(&figures);
    assert_rate(&figures, 0.95);
    let limited = group(&figures, "limited");
    assert!(limited.worst_over_bound.unwrap() <= 0, "the bits set in its wait and two more");
    assert!(limited.waits.max() < SECOND * 55, "{:?}", limited.waits.max());
    assert!(group(&figures, "healthy").waits.max().is_zero());
}

#[test]
fn a_limit_is_never_exceeded_and_well_used_with_one_replica() {
    for (per_second, burst) in [(1.0, 1), (10.0, 10), (10.0, 1), (100.0, 100), (100.0, 1)] {
        assert_rate(&run(limiter(per_second, burst, 1, false, 1)), 0.95);
    }
}

#[test]
fn a_limit_is_never_exceeded_and_well_used_with_several_replicas() {
    for (per_second, burst, replicas) in [(1.0, 1, 4), (10.0, 10, 2), (10.0, 1, 4), (100.0, 100, 4)] {
        assert_rate(&run(limiter(per_second, burst, replicas, false, 1)), 0.85);
    }
}

#[test]
fn a_limit_is_never_exceeded_while_replicas_join_leave_and_are_killed() {
    for seed in 1..=10 {
        assert_rate(&run(limiter(10.0, 10, 2, true, seed)), 0.85);
    }
}

#[test]
fn a_limit_that_is_raised_moves_everything_that_waits_within_five_minutes() {
    let figures = run(raised(1));
    assert_all_ended(&figures);
    let limited = group(&figures, "limited");
    assert_eq!(limited.delivered, 3_000);
    let after = limited.last_watched.checked_sub(SECOND * 120).unwrap();
    assert!(after <= SECOND * 300, "{after:?}");
}
