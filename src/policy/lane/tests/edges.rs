//! Lines and silence at their edges: a target that goes down, a window that is full, something that comes first.

use super::*;

#[test]
fn who_stands_in_line_when_its_target_goes_down_is_held_too() {
    let (mut lanes, key) = (lanes(), key(1));
    let held = Ask { hold: true, age: SECOND * 40, limits: Limits { max_in_flight: 5, rate: None }, ..ask(&key) };
    let places: Vec<_> = (0..5).map(|_| go(&mut lanes, SECOND, &held)).collect();
    assert_eq!(lanes.admit(SECOND, &held), Admission::Line);
    for place in places {
        lanes.finished(SECOND, &key, place, Heard::Silence);
    }
    assert_eq!(lanes.step_up(SECOND, &held), Step::Wait(None), "there is room, and it is no probe");
    assert_eq!(lanes.leave(SECOND, &held), Admission::Park(Park { wait: SECOND * 20, down: true }));
}

#[test]
fn who_finds_no_room_in_the_slow_window_looks_again_soon() {
    let mut lanes = of(WindowSizes { slow: 1, ..SIZES });
    let place = go(&mut lanes, SECOND, &ask(&key(1)));
    let starved = key(2);
    assert_eq!(lanes.admit(SECOND, &ask(&starved)), Admission::Line);
    assert!(matches!(lanes.step_up(SECOND, &ask(&starved)), Step::Wait(Some(soon)) if soon < SECOND));
    lanes.finished(SECOND, &key(1), place, Heard::Silence);
    assert!(matches!(lanes.step_up(SECOND, &ask(&starved)), Step::Go(_)));
}

#[test]
fn a_target_is_not_silent_while_its_request_waits_for_the_window_or_for_a_login() {
    let mut lanes = of(WindowSizes { quick: 1, ..SIZES });
    for n in 1..=3 {
        answer(&mut lanes, SECOND, &key(n), 5 * MILLI);
    }
    may_go(&mut lanes, SECOND * 2, &ask(&key(1)));
    let waits = key(2);
    let Admission::Go(mut place) = lanes.admit(SECOND * 2, &ask(&waits)) else { panic!("its lane is free") };
    assert!(!lanes.take_window(SECOND * 2, &waits, &mut place));
    let late = SECOND * 2 + 500 * MILLI;
    let class = |lanes: &Lanes, key: &LaneKey| lanes.by_key[key].class(late);
    assert_eq!(class(&lanes, &waits), Class::Quick, "it waits for the window");
    assert!(lanes.take_window(late, &waits, &mut place), "the first lane is silent and gave way");
    assert_eq!(class(&lanes, &waits), Class::Quick, "asked only now");
    let mut others = of(SIZES);
    let logs_in = key(3);
    answer(&mut others, SECOND, &logs_in, 5 * MILLI);
    may_go(&mut others, SECOND * 2, &Ask { is_asked_later: true, ..ask(&logs_in) });
    assert_eq!(class(&others, &logs_in), Class::Quick);
    may_go(&mut others, SECOND * 2, &ask(&logs_in));
    assert_eq!(class(&others, &logs_in), Class::Suspect, "now it is asked, and says nothing");
}

#[test]
fn what_waits_for_one_of_many_silent_targets_comes_back_four_to_eight_times_as_seldom_and_not_all_at_once() {
    let mut lanes = lanes();
    let waits =
        |lanes: &mut Lanes, n: u32, seconds| parked(lanes.admit(SECOND + SECOND * seconds, &ask(&key(n)))).as_secs();
    let many = SIZES.slow / 4;
    for n in 0..many {
        may_go(&mut lanes, SECOND, &ask(&key(n)));
    }
    let after_five: Vec<_> = (0..many).map(|n| waits(&mut lanes, n, 5)).collect();
    assert!(after_five.iter().all(|wait| [16, 32].contains(wait)), "20 to 40 s, rounded down: {after_five:?}");
    assert!([16, 32].iter().all(|wait| after_five.contains(wait)), "{after_five:?}");
    assert_eq!(waits(&mut lanes, 0, 5000), 256);
}
