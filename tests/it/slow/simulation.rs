//! Larger worlds in virtual time.

use docrelay::domain::WhileDown;

use crate::simulation::{
    SECOND, assert_all_ended, group,
    model::Trouble,
    run,
    scenarios::{Size, day, limiter, outage},
};

#[test]
fn a_target_that_is_away_for_two_hours_gets_everything_that_is_held_and_nobody_else_waits() {
    for trouble in [Trouble::Refuses, Trouble::Hangs] {
        let setting = outage(trouble, SECOND * 7200, 0.5, 1);
        assert_eq!(setting.groups[0].retry.while_down, WhileDown::Hold);
        let figures = run(setting);
        assert_all_ended(&figures);
        let hold = group(&figures, "hold");
        assert_eq!(hold.delivered, hold.published, "{trouble:?}");
        let after = hold.last_watched.checked_sub(SECOND * 7260).unwrap();
        assert!(after <= SECOND * 300, "{trouble:?}: {after:?}");
        let count = group(&figures, "count");
        assert!(count.fewest_of_exhausted.is_none_or(|fewest| fewest == 10), "{trouble:?}");
        assert!(group(&figures, "healthy").waits.max().is_zero(), "{trouble:?}");
    }
}

#[test]
fn a_limit_of_a_thousand_a_second_is_never_exceeded_and_well_used() {
    // Without a burst every moment without anybody in line is lost, and the prefetch of 500 keeps the line shorter than a
    // second's worth.
    for (burst, replicas, least) in [(1_000, 1, 0.95), (1, 1, 0.9), (1_000, 4, 0.85)] {
        let mut setting = limiter(1_000.0, burst, replicas, false, 1);
        setting.length = SECOND * 60;
        setting.groups[0].at_once = vec![(SECOND * 10, 50_000)];
        let limited = group(&run(setting), "limited").clone();
        assert!(limited.worst_over_rate.unwrap() <= 0.0);
        assert!(limited.rate_used.unwrap() >= least, "{:?}", limited.rate_used);
    }
}

#[test]
fn a_day_of_thousands_of_targets_ends_every_delivery_and_delays_no_healthy_one() {
    let figures = run(day(Size { targets: 20_000, replicas: 5, hours: 6, per_second: 20.0, seed: 1 }));
    assert_all_ended(&figures);
    let healthy = group(&figures, "healthy");
    assert_eq!(healthy.delivered, healthy.published);
    assert!(healthy.waits.quantile(0.99).is_zero());
    assert!(group(&figures, "limited").worst_over_rate.unwrap() <= 0.0);
    let dead = group(&figures, "dead");
    assert_eq!(dead.fewest_of_exhausted, Some(10));
}
