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
    assert_eq!(lanes.leave(SECOND, &held), Admission::Park(Park { wait: SECOND * 32, reason: Reason::Down }));
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

/// Lanes of many targets that were asked after a second and have said nothing, and how many they are.
fn crowd() -> (Lanes, u32) {
    let (mut lanes, many) = (lanes(), SIZES.slow / 4);
    for n in 0..many {
        may_go(&mut lanes, SECOND, &ask(&key(n)));
    }
    (lanes, many)
}

#[test]
fn what_waits_for_one_of_many_silent_targets_comes_back_one_by_one_and_not_of_all_targets_at_once() {
    let (mut lanes, many) = crowd();
    let mut waits = |n: u32, seconds| parked(lanes.admit(SECOND + SECOND * seconds, &ask(&key(n)))).as_secs();
    let turns: Vec<[u64; 4]> = (0..many).map(|n| [(); 4].map(|()| waits(n, 5))).collect();
    for [first, second, third, fourth] in &turns {
        // Turns of 5 to 10 s, and each as one hop: the power of two below, or above.
        assert!([4, 8, 16].contains(first), "{turns:?}");
        assert!([8, 16, 32].contains(second), "{turns:?}");
        assert!([8, 16, 32].contains(third) && third >= second, "15 to 30 s: {turns:?}");
        assert!([16, 32, 64].contains(fourth), "{turns:?}");
    }
    let firsts: u64 = turns.iter().map(|turn| turn[0]).sum();
    let lanes_of = |average: u64| average * u64::from(many);
    assert!((lanes_of(7)..lanes_of(8)).contains(&firsts), "on average 7.5 s, as the turns: {firsts}");
    for first in [4, 8] {
        assert!(turns.iter().any(|turn| turn[0] == first), "lanes differ: {turns:?}");
    }
    let busy: Vec<_> = (0..100).map(|_| waits(0, 2)).collect();
    assert!([32, 64].contains(&busy[99]), "within 16 turns of 2 to 4 s: {busy:?}");
    assert_eq!(waits(1, 5000), 256);
}

#[test]
fn what_many_silent_targets_are_refused_together_comes_back_at_two_times_and_none_of_it_too_late() {
    let (mut lanes, many) = crowd();
    let now = SECOND * 5;
    let sixteenth = |lanes: &mut Lanes, n: u32| (0..20).map(|_| parked(lanes.admit(now, &ask(&key(n))))).last();
    let waits: Vec<_> = (0..many).filter_map(|n| sixteenth(&mut lanes, n)).collect();
    assert!(waits.iter().all(|wait| [SECOND * 64, SECOND * 128].contains(wait)), "sixteen times 4 to 8 s: {waits:?}");
    let sooner = waits.iter().filter(|wait| **wait == SECOND * 64).count();
    assert!((waits.len() * 2 / 5..waits.len() * 3 / 5).contains(&sooner), "about half of them: {sooner}");
    for n in 0..many {
        let key = key(n);
        let ends_soon = Ask { left: SECOND * 100, ..ask(&key) };
        assert_eq!(parked(lanes.admit(now, &ends_soon)), SECOND * 64, "128 s is too late");
    }
}

#[test]
fn a_lane_of_few_a_second_keeps_two_in_line_that_came_at_their_turn_unless_they_would_wait_for_long() {
    let ms = Duration::from_millis;
    for (interval, longest, patience) in [(ms(10), 200, 2), (SECOND, 2, 2), (SECOND * 5, 2, 10), (SECOND * 6, 1, 2)] {
        let (mut lanes, key) = (lanes(), key(1));
        answer(&mut lanes, SECOND, &key, MILLI);
        let new = limited(&key, Some(Rate { interval, burst: NonZeroU32::MIN }));
        let back = Ask { came: Came::Back, ..new };
        let admitted: Vec<_> = (0..300).map(|_| lanes.admit(SECOND * 30, &back)).collect();
        assert_eq!(admitted.iter().filter(|it| **it == Admission::Line).count(), longest, "{interval:?}");
        assert_eq!((lanes.patience(&back), lanes.patience(&new)), (SECOND * patience, SECOND), "{interval:?}");
    }
}

#[test]
fn turns_that_lie_far_apart_take_few_hops() {
    let (mut lanes, key) = (lanes(), key(1));
    let often = Limits { max_in_flight: 1, rate: None };
    answer(&mut lanes, SECOND, &key, SECOND * 10);
    let ask = Ask { limits: often, ..ask(&key) };
    may_go(&mut lanes, SECOND * 20, &ask);
    assert_eq!(lanes.admit(SECOND * 20, &ask), Admission::Line);
    let waits = [(); 20].map(|()| parked(lanes.admit(SECOND * 20, &ask)).as_secs());
    assert!(waits.iter().all(|wait| wait % 8 == 0), "{waits:?}");
    assert!(waits.is_sorted() && waits[19] >= 20 * 10 && waits[19] < 24 * 10, "as many as the target takes: {waits:?}");
}

#[test]
fn a_wait_says_whether_its_target_is_known_to_give_no_answer() {
    let (mut lanes, key) = (lanes(), key(1));
    let one = Ask { limits: Limits { max_in_flight: 1, rate: None }, ..ask(&key) };
    let reason = |lanes: &mut Lanes, now, came| match lanes.admit(now, &Ask { came, ..one }) {
        Admission::Park(park) => park.reason,
        other => panic!("must park: {other:?}"),
    };
    may_go(&mut lanes, SECOND, &one);
    assert_eq!(lanes.admit(SECOND, &one), Admission::Line);
    assert_eq!(reason(&mut lanes, SECOND, Came::New), Reason::Turn, "it was only just asked");
    let late = SECOND + 200 * MILLI;
    for came in [Came::New, Came::Back, Came::Early(SECOND * 4)] {
        assert_eq!(reason(&mut lanes, late, came), Reason::Silence, "{came:?}: it should have answered by now");
    }

    let retry_after = Some(SECOND * 9);
    for (heard, reason) in [
        (Heard::Answer { latency: SECOND, retry_after }, Reason::Turn),
        (Heard::Silence, Reason::Silence),
        (Heard::Nothing, Reason::Turn),
    ] {
        let mut lanes = of(SIZES);
        let limited = limited(&key, rate(1, 1));
        lanes.set_share(Duration::ZERO, share(1, true, 0));
        let place = go(&mut lanes, SECOND * 9, &limited);
        lanes.finished(SECOND * 10, &key, place, heard);
        let waits = (0..9).map(|_| lanes.admit(SECOND * 10, &limited)).find(|it| !goes(it) && *it != Admission::Line);
        let Some(Admission::Park(park)) = waits else { panic!("must park: {waits:?}") };
        assert_eq!(park.reason, reason, "{heard:?}");
    }
}

#[test]
fn a_wait_says_whether_its_target_answers_so_slowly_that_turns_are_a_unit_apart() {
    for (latency, max_in_flight, replicas, others, reason) in [
        (SECOND, 1, 1, 0, Reason::Slowness),
        (MILLI * 999, 1, 1, 0, Reason::Turn),
        (SECOND, 2, 1, 0, Reason::Turn),
        (SECOND * 10, 32, 1, 0, Reason::Turn),
        (SECOND * 10, 32, 4, 0, Reason::Slowness),
        // They share 576 places: 16 each, or 8.
        (SECOND * 10, 32, 1, 35, Reason::Turn),
        (SECOND * 10, 32, 1, 71, Reason::Slowness),
    ] {
        let (mut lanes, slow) = (lanes(), key(0));
        lanes.set_share(Duration::ZERO, share(replicas, true, 0));
        for other in 1..=others {
            answer(&mut lanes, SECOND, &key(other), SECOND * 10);
            may_go(&mut lanes, SECOND * 2, &ask(&key(other)));
        }
        answer(&mut lanes, SECOND, &slow, latency);
        for came in [Came::New, Came::Back, Came::Early(SECOND * 4)] {
            let ask = Ask { limits: Limits { max_in_flight, rate: None }, came, ..ask(&slow) };
            let waits = (0..99).map(|_| lanes.admit(SECOND * 2, &ask)).find(|it| !goes(it) && *it != Admission::Line);
            let Some(Admission::Park(park)) = waits else { panic!("must park: {waits:?}") };
            assert_eq!(park.reason, reason, "{latency:?}, {max_in_flight} in flight, {replicas}, {others}: {came:?}");
        }
    }
}

#[test]
fn a_target_that_answers_quickly_is_not_slow_however_short_a_unit_is() {
    let (mut lanes, key) = (Lanes::new(SIZES, MILLI * 100), key(1));
    answer(&mut lanes, SECOND, &key, MILLI * 120);
    let ask = Ask { limits: Limits { max_in_flight: 1, rate: None }, ..ask(&key) };
    let waits = (0..99).map(|_| lanes.admit(SECOND * 2, &ask)).find(|it| !goes(it) && *it != Admission::Line);
    let Some(Admission::Park(park)) = waits else { panic!("must park: {waits:?}") };
    assert_eq!(park.reason, Reason::Turn);
}

#[test]
fn a_target_that_was_never_asked_is_not_silent_however_long_it_finds_no_place() {
    let mut lanes = of(WindowSizes { slow: 1, ..SIZES });
    may_go(&mut lanes, SECOND, &ask(&key(1)));
    let starved = key(2);
    let mut waits = |now| loop {
        match lanes.admit(now, &ask(&starved)) {
            Admission::Line => {}
            Admission::Park(park) => break park.reason,
            other => panic!("there is no place: {other:?}"),
        }
    };
    assert_eq!((waits(SECOND), waits(SECOND * 2)), (Reason::Turn, Reason::Turn));
}
