//! Deliveries that are held while their target is down.

use super::*;

#[test]
fn while_a_target_is_down_one_is_its_probe_and_the_others_wait() {
    let (mut lanes, key) = (lanes(), key(1));
    is_down(&mut lanes, &key);
    let now = SECOND * 10;
    let held = Ask { hold: true, age: SECOND * 100, ..ask(&key) };
    // One that is new as well: where few events come, nothing else may be there that finds out.
    let Admission::Go(probe) = lanes.admit(now, &held) else { panic!("the probe") };
    assert!(probe.is_probe());
    let back = Ask { came: Came::Back, ..held };
    assert_eq!(
        lanes.admit(now, &back),
        Admission::Park(Park { wait: SECOND * 64, reason: Reason::Down }),
        "one at a time"
    );
    lanes.finished(now, &key, probe, Heard::Silence);
    assert!(!goes(&lanes.admit(now, &back)), "not at once again");
    let Admission::Go(probe) = lanes.admit(now + SECOND, &back) else { panic!("the next probe") };
    lanes.finished(now + SECOND, &key, probe, Heard::Answer { latency: MILLI, retry_after: None });
    let Admission::Go(place) = lanes.admit(now + SECOND, &held) else { panic!("it is up") };
    assert!(!place.is_probe());
}

#[test]
fn what_is_held_waits_by_its_age_or_by_how_long_the_target_was_seen_to_be_away() {
    let (mut lanes, key) = (lanes(), key(1));
    is_down(&mut lanes, &key);
    let new = Ask { hold: true, age: Duration::ZERO, ..ask(&key) };
    // Down since the fifth second, and seen to be when the probe ended.
    for (probed, wait) in [(25, 16), (65, 32), (505, 256)] {
        let now = SECOND * probed;
        let Admission::Go(probe) = lanes.admit(now, &new) else { panic!("the probe") };
        lanes.finished(now, &key, probe, Heard::Silence);
        let waits = |lanes: &mut Lanes, ask: Ask<'_>| parked(lanes.admit(now, &ask)).as_secs();
        assert_eq!(waits(&mut lanes, new), wait, "{probed}");
        assert_eq!(waits(&mut lanes, Ask { age: SECOND * 10_000, ..new }), 256);
        assert_eq!(waits(&mut lanes, Ask { left: SECOND * 20, ..new }), wait.min(8), "it has a chance before its end");
    }
    // Whoever stood in line before it was down, too.
    assert_eq!(parked(lanes.leave(SECOND * 505, &new)).as_secs(), 256);
    // For minutes nobody asked it: it may be back for long. One finds out, and what comes meanwhile waits as it did before.
    let mut lanes = self::lanes();
    is_down(&mut lanes, &key);
    let now = SECOND * 400;
    let Admission::Go(_probe) = lanes.admit(now, &new) else { panic!("the probe") };
    assert_eq!(parked(lanes.admit(now, &new)), SECOND);
    assert!(
        [(0, 1), (1, 1), (3, 2), (10, 8), (100, 64), (10_000, 256)]
            .iter()
            .all(|(age, wait)| { hold_for(SECOND * *age, SECOND) == SECOND * *wait })
    );
}

/// Five attempts without an answer, one each second.
fn is_down(lanes: &mut Lanes, key: &LaneKey) {
    for n in 1..=5 {
        let place = go(lanes, SECOND * n, &ask(key));
        let health = lanes.finished(SECOND * n, key, place, Heard::Silence);
        assert_eq!(health == Health::Down, n == 5);
    }
}
