//! The simulation itself.

use super::{
    assert_all_ended, run,
    scenarios::{Size, day},
};

/// A small day: every kind of trouble, and replicas that come and go.
fn small(seed: u64) -> Size {
    Size { targets: 500, replicas: 3, hours: 6, per_second: 3.0, seed }
}

#[test]
fn the_same_seed_gives_the_same_day_and_another_seed_another() {
    let [one, same, other] = [1, 1, 2].map(|seed| run(day(small(seed))));
    let of = |figures: &super::model::Figures| format!("{:?}", figures.groups);
    assert_eq!(of(&one), of(&same));
    assert_ne!(of(&one), of(&other));
}

#[test]
fn on_a_day_of_troubles_every_delivery_ends_and_the_healthy_wait_for_nobody() {
    let figures = run(day(small(3)));
    assert_all_ended(&figures);
    assert!(figures.given_again > 0 || figures.hops > 0, "something went wrong on that day");
    let healthy = super::group(&figures, "healthy");
    assert_eq!(healthy.delivered, healthy.published);
    assert!(healthy.waits.quantile(0.99).is_zero());
    let limited = super::group(&figures, "limited");
    assert!(limited.worst_over_rate.is_none_or(|over| over <= 0.0));
}
