//! Targets that are away for a while, and come back.

use std::time::Duration;

use super::{
    SECOND, assert_all_ended, group,
    model::{Figures, Trouble},
    run,
    scenarios::outage,
};

/// The last requests before a target came back may take until their deadline.
const DEADLINE: Duration = Duration::from_secs(15);

fn assert_nobody_else_waits(figures: &Figures) {
    assert!(group(figures, "healthy").waits.max().is_zero());
}

#[test]
fn what_is_held_arrives_whole_after_an_outage_and_soon() {
    for (trouble, seconds) in [
        (Trouble::Refuses, 15),
        (Trouble::Hangs, 15),
        (Trouble::Refuses, 60),
        (Trouble::Hangs, 60),
        (Trouble::Refuses, 600),
        (Trouble::Hangs, 600),
    ] {
        let length = SECOND * seconds;
        let figures = run(outage(trouble, length, 1.0, 1));
        assert_all_ended(&figures);
        assert_nobody_else_waits(&figures);
        let hold = group(&figures, "hold");
        assert_eq!(hold.delivered, hold.published, "{trouble:?} for {length:?}");
        let after = hold.last_watched.checked_sub(SECOND * 60 + length).unwrap();
        assert!(after <= (length + DEADLINE).min(SECOND * 300), "{trouble:?} for {length:?}: {after:?}");
    }
}

#[test]
fn what_counts_ends_after_ten_attempts_and_arrives_after_a_short_outage() {
    let figures = run(outage(Trouble::Refuses, SECOND * 60, 1.0, 1));
    assert_all_ended(&figures);
    assert_eq!(group(&figures, "count").delivered, group(&figures, "count").published);
    let figures = run(outage(Trouble::Refuses, SECOND * 3600, 1.0, 1));
    assert_all_ended(&figures);
    assert_nobody_else_waits(&figures);
    let count = group(&figures, "count");
    assert!(count.exhausted > 1_000);
    assert_eq!((count.fewest_of_exhausted, count.most_attempts, count.too_old), (Some(10), 10, 0));
}
