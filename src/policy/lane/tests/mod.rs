//! What lanes promise, one by one; `properties` says that no sequence of moves breaks it.

mod edges;
mod hold;
mod properties;

use std::num::NonZeroU32;

use super::*;
use crate::domain::{HttpTarget, Target, TargetUrl};

const MILLI: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const SIZES: WindowSizes = WindowSizes { quick: 256, slow: 768, slow_bytes: 64 << 20, lines: 256 };
const PLAIN: Limits = Limits { max_in_flight: 32, rate: None };

fn key(n: u32) -> LaneKey {
    let url = TargetUrl::parse(&format!("http://host{n}.example/")).unwrap();
    LaneKey::of_target(&"acme".parse().unwrap(), &Target::Http(HttpTarget::post(url, Duration::from_secs(15))))
}

fn lanes() -> Lanes {
    of(SIZES)
}

/// Lanes of the only replica.
fn of(sizes: WindowSizes) -> Lanes {
    let mut lanes = Lanes::new(sizes, SECOND);
    lanes.set_share(Duration::ZERO, share(1, true, 1));
    lanes
}

fn ask(lane: &LaneKey) -> Ask<'_> {
    Ask {
        lane,
        limits: PLAIN,
        came: Came::New,
        bytes: 2000,
        age: Duration::ZERO,
        left: Duration::from_hours(24),
        hold: false,
        is_asked_later: false,
    }
}

#[expect(clippy::unnecessary_wraps, reason = "limits take it so")]
fn rate(per_second: u32, burst: u32) -> Option<Rate> {
    Some(Rate { interval: SECOND / per_second, burst: NonZeroU32::new(burst).unwrap() })
}

fn limited(lane: &LaneKey, rate: Option<Rate>) -> Ask<'_> {
    Ask { limits: Limits { rate, ..PLAIN }, ..ask(lane) }
}

fn share(replicas: u32, limited: bool, since: u64) -> Share {
    Share { replicas: NonZeroU32::new(replicas).unwrap(), limited, since }
}

/// A place, with one in the quick window if it needs one.
fn go(lanes: &mut Lanes, now: Duration, ask: &Ask<'_>) -> Place {
    let Admission::Go(mut place) = lanes.admit(now, ask) else { panic!("must go") };
    assert!(!place.wants_window() || lanes.take_window(now, ask.lane, &mut place), "must find room");
    place
}

/// Takes a place and keeps it.
fn may_go(lanes: &mut Lanes, now: Duration, ask: &Ask<'_>) {
    assert!(!go(lanes, now, ask).wants_window());
}

fn answer(lanes: &mut Lanes, now: Duration, key: &LaneKey, latency: Duration) {
    let place = go(lanes, now, &ask(key));
    lanes.finished(now, key, place, Heard::Answer { latency, retry_after: None });
}

/// How many turns a second these waits are.
fn per_second(waits: &[Duration]) -> f64 {
    f64::from(u32::try_from(waits.len()).unwrap()) / waits.last().unwrap().as_secs_f64()
}

fn parked(admission: Admission) -> Duration {
    let Admission::Park(park) = admission else { panic!("must park: {admission:?}") };
    park.wait
}

fn goes(admission: &Admission) -> bool {
    matches!(admission, Admission::Go(_))
}

#[test]
fn beyond_the_cap_deliveries_stand_in_line_and_beyond_the_line_they_park() {
    let (mut lanes, key) = (lanes(), key(1));
    let ask = Ask { limits: Limits { max_in_flight: 2, rate: None }, ..ask(&key) };
    let kinds: String = (0..6)
        .map(|_| match lanes.admit(SECOND, &ask) {
            Admission::Go(_) => 'g',
            Admission::Line => 'l',
            Admission::Park(_) => 'p',
            Admission::TooLate(_) => 't',
        })
        .collect();
    assert_eq!(kinds, "ggllpp");
}

#[test]
fn targets_that_were_never_heard_of_each_get_a_first_place_before_any_gets_many() {
    let mut lanes = lanes();
    let mut admitted = vec![0; 2000];
    for round in 0..10 {
        for n in 0..2000 {
            // In the order of a random stream: each lane asks again long before all have asked.
            let n = (n * 7 + round * 13) % 2000;
            admitted[n as usize] += u32::from(goes(&lanes.admit(SECOND, &ask(&key(n)))));
        }
    }
    assert_eq!(admitted.iter().sum::<u32>(), SIZES.slow);
    assert!(admitted.iter().filter(|places| **places > 0).count() > 600, "first places go to many");
}

#[test]
fn one_silent_target_takes_its_cap_and_no_more() {
    let (mut lanes, key) = (lanes(), key(1));
    assert_eq!((0..1000).filter(|_| goes(&lanes.admit(SECOND, &ask(&key)))).count(), 32);
}

#[test]
fn big_events_of_silent_targets_are_bounded_in_bytes() {
    let mut lanes = lanes();
    let went = (0..100)
        .filter(|n| {
            let key = key(*n);
            goes(&lanes.admit(SECOND, &Ask { bytes: 8 << 20, ..ask(&key) }))
        })
        .count();
    assert_eq!(went, 8);
    let huge = key(1000);
    let mut empty = self::lanes();
    assert!(goes(&empty.admit(SECOND, &Ask { bytes: 1 << 40, ..ask(&huge) })), "one always fits");
}

#[test]
fn a_target_that_answers_finds_its_place_however_many_do_not() {
    let mut lanes = lanes();
    answer(&mut lanes, SECOND, &key(0), 5 * MILLI);
    for n in 1..5000 {
        let _ = lanes.admit(SECOND, &ask(&key(n)));
    }
    may_go(&mut lanes, SECOND, &ask(&key(0)));
}

#[test]
fn targets_that_take_ten_seconds_leave_the_quick_window_to_others() {
    let mut lanes = lanes();
    for n in 1..=500 {
        answer(&mut lanes, SECOND, &key(n), 10 * SECOND);
    }
    answer(&mut lanes, SECOND, &key(0), 5 * MILLI);
    for round in 0..5 {
        for n in 1..=500 {
            let _ = lanes.admit(SECOND * 2 + MILLI * round, &ask(&key(n)));
        }
    }
    assert_eq!(lanes.windows.sums().0, 0, "none of them is in the quick window");
    assert!(lanes.totals().in_flight >= 500, "each has a place");
    may_go(&mut lanes, SECOND * 3, &ask(&key(0)));
}

#[test]
fn targets_that_fall_silent_at_once_lose_the_quick_window_within_moments() {
    let mut lanes = lanes();
    for n in 0..=100 {
        answer(&mut lanes, SECOND, &key(n), 5 * MILLI);
    }
    for n in 0..256 {
        may_go(&mut lanes, SECOND * 2, &ask(&key(1 + n % 100)));
    }
    let healthy = key(0);
    let Admission::Go(mut place) = lanes.admit(SECOND * 2, &ask(&healthy)) else { panic!("its lane is free") };
    assert!(!lanes.take_window(SECOND * 2 + 50 * MILLI, &healthy, &mut place), "nobody is overdue yet");
    assert!(lanes.take_window(SECOND * 2 + 101 * MILLI, &healthy, &mut place), "now they are");
    assert_eq!((lanes.windows.sums().0, lanes.windows.sums().1), (1, 256));
}

#[test]
fn a_fast_target_has_a_long_line_and_a_slow_one_a_short_line() {
    let mut lanes = of(WindowSizes { lines: 1_000_000, ..SIZES });
    answer(&mut lanes, SECOND, &key(1), 5 * MILLI);
    let fast = (0..20_000).filter(|_| lanes.admit(SECOND, &ask(&key(1))) == Admission::Line).count();
    assert!((6_300..=6_400).contains(&fast), "{fast}");
    answer(&mut lanes, SECOND, &key(2), 10 * SECOND);
    let slow = (0..20_000).filter(|_| lanes.admit(SECOND, &ask(&key(2))) == Admission::Line).count();
    assert_eq!(slow, 3);
}

#[test]
fn lines_shrink_as_they_fill() {
    let mut lanes = lanes();
    for n in 1..=20 {
        answer(&mut lanes, SECOND, &key(n), 5 * MILLI);
    }
    let lengths: Vec<_> =
        (1..=20).map(|n| (0..1000).filter(|_| lanes.admit(SECOND, &ask(&key(n))) == Admission::Line).count()).collect();
    assert!(lengths[0] > lengths[1] && lengths[1] > lengths[2] && lengths[19] == 1, "{lengths:?}");
    assert!(lanes.totals().in_line <= SIZES.lines + 20);
}

#[test]
fn what_waits_for_a_silent_target_comes_back_seldom_when_it_is_silent_for_long() {
    let (mut lanes, key) = (lanes(), key(1));
    while goes(&lanes.admit(SECOND, &ask(&key))) {}
    let waits: Vec<_> = [1, 2, 4, 9, 40, 100, 300, 5000]
        .map(|seconds| parked(lanes.admit(SECOND + SECOND * seconds, &ask(&key))).as_secs())
        .to_vec();
    assert_eq!(waits, [1, 2, 4, 8, 32, 64, 256, 256]);
}

#[test]
fn a_backlog_gets_turns_of_its_own_at_the_lanes_rate() {
    let (mut lanes, key) = (lanes(), key(1));
    let ask = limited(&key, rate(10, 10));
    let now = SECOND * 60;
    let mut went = 0;
    let mut waits = Vec::new();
    for _ in 0..500 {
        match lanes.admit(now, &ask) {
            Admission::Go(_) => went += 1,
            Admission::Line => {}
            Admission::Park(park) => waits.push(park.wait),
            Admission::TooLate(_) => panic!("a day is long"),
        }
    }
    assert_eq!(went, 10, "the burst");
    assert!(waits.is_sorted() && waits[0] >= SECOND);
    let per_second = per_second(&waits);
    assert!((9.0..=10.0).contains(&per_second), "{per_second}");
}

#[test]
fn who_came_back_goes_before_new_ones_and_waits_only_behind_those_that_were_refused_before_it() {
    let (mut lanes, key) = (lanes(), key(1));
    let ask = limited(&key, rate(1, 1));
    let now = SECOND * 60;
    while !matches!(lanes.admit(now, &ask), Admission::Park(_)) {}
    for _ in 0..100 {
        let _ = lanes.admit(now, &ask);
    }
    assert!(parked(lanes.admit(now, &ask)) > 90 * SECOND, "a new one at the end");
    let back = Ask { came: Came::Back, ..ask };
    while lanes.admit(now, &back) == Admission::Line {}
    let waits: Vec<_> = (0..4).map(|_| parked(lanes.admit(now, &back)).as_secs()).collect();
    assert_eq!(waits, [2, 3, 4, 5], "one was refused before them");
}

#[test]
fn those_whose_turn_has_come_find_room_for_a_whole_second_of_turns_and_not_much_more() {
    let (mut lanes, key) = (lanes(), key(1));
    answer(&mut lanes, SECOND, &key, MILLI);
    let ask = Ask { came: Came::Back, ..limited(&key, rate(1000, 1)) };
    let lined = (0..2000).filter(|_| lanes.admit(SECOND * 60, &ask) == Admission::Line).count();
    assert_eq!(lined, 1024, "and not only half of what is left for new ones");
}

#[test]
fn turns_lie_no_closer_than_there_is_room_for_when_they_come() {
    let (mut lanes, key) = (of(WindowSizes { lines: 2, ..SIZES }), key(1));
    let ask = Ask { limits: Limits { max_in_flight: 2, rate: rate(100, 1) }, ..limited(&key, None) };
    let waits: Vec<_> = (0..200)
        .filter_map(|_| match lanes.admit(SECOND * 60, &ask) {
            Admission::Park(park) => Some(park.wait),
            Admission::Go(_) | Admission::Line | Admission::TooLate(_) => None,
        })
        .collect();
    // A line of eight, half of what is left, and two in flight: ten a second, and not a hundred.
    let per_second = per_second(&waits);
    assert!((9.0..=10.5).contains(&per_second), "{per_second}");
}

#[test]
fn who_is_early_moves_forward_when_its_lane_has_become_faster_and_all_get_turns_of_their_own() {
    let (mut lanes, key) = (lanes(), key(1));
    let early = Ask { came: Came::Early(500 * SECOND), ..limited(&key, rate(10, 1)) };
    let waits: Vec<_> = (0..100).map(|_| lanes.admit(SECOND * 60, &early)).skip(1).map(parked).collect();
    assert!(waits.is_sorted() && waits[0] >= SECOND);
    assert!((9..=11).contains(&waits.last().unwrap().as_secs()), "{waits:?}");
    let soon = Ask { came: Came::Early(2 * SECOND), ..early };
    assert_eq!(parked(lanes.admit(SECOND * 60, &soon)), Duration::ZERO, "its turn comes sooner than a new one");
}

#[test]
fn who_is_early_goes_when_its_lane_is_free_and_keeps_its_turn_when_it_is_not() {
    let (mut lanes, key) = (lanes(), key(1));
    let slow = limited(&key, rate(1, 1));
    let now = SECOND * 60;
    for _ in 0..1000 {
        let _ = lanes.admit(now, &slow);
    }
    let early = Ask { came: Came::Early(500 * SECOND), ..slow };
    assert_eq!(parked(lanes.admit(now, &early)), Duration::ZERO);
    while lanes.leave(now, &slow) == Admission::Line {}
    for _ in 0..lanes.totals().in_line {
        let _ = lanes.leave(now, &slow);
    }
    // The limit is raised.
    let raised = Ask { came: Came::Early(500 * SECOND), ..limited(&key, rate(1000, 1000)) };
    let _ = lanes.admit(now, &raised);
    assert!(goes(&lanes.admit(now + SECOND, &raised)));
}

#[test]
fn a_turn_beyond_what_is_left_is_too_late_and_promises_nothing() {
    let (mut lanes, key) = (lanes(), key(1));
    let ask = Ask { left: SECOND * 100, ..limited(&key, rate(1, 1)) };
    let now = SECOND * 60;
    let late = (0..1000).filter(|_| matches!(lanes.admit(now, &ask), Admission::TooLate(_))).count();
    assert!((890..=905).contains(&late), "{late}");
    assert!(matches!(lanes.admit(now + SECOND * 10, &ask), Admission::Park(_)), "turns have passed");
}

#[test]
fn retry_after_holds_the_lane_for_a_minute_at_most() {
    let (mut lanes, key) = (lanes(), key(1));
    let place = go(&mut lanes, SECOND, &ask(&key));
    let heard = Heard::Answer { latency: MILLI, retry_after: Some(Duration::from_hours(1)) };
    lanes.finished(SECOND, &key, place, heard);
    let wait = parked(lanes.admit(SECOND, &ask(&key)));
    assert!((60 * SECOND..61 * SECOND).contains(&wait), "{wait:?}");
    may_go(&mut lanes, SECOND * 61 + MILLI, &ask(&key));
}

#[test]
fn a_replica_that_has_not_joined_sends_nothing_that_is_limited() {
    let (mut lanes, key) = (lanes(), key(1));
    lanes.set_share(SECOND, share(2, false, 1));
    assert!(!goes(&lanes.admit(SECOND * 60, &limited(&key, rate(100, 100)))));
    may_go(&mut lanes, SECOND * 60, &ask(&self::key(2)));
    lanes.set_share(SECOND * 60, share(2, true, 2));
    assert!(!goes(&lanes.admit(SECOND * 60, &limited(&key, rate(100, 100)))), "its limiter begins empty");
    for _ in 0..lanes.totals().in_line {
        let _ = lanes.leave(SECOND * 61, &limited(&key, rate(100, 100)));
    }
    let back = Ask { came: Came::Back, ..limited(&key, rate(100, 100)) };
    let went = (0..500).filter(|_| goes(&lanes.admit(SECOND * 61, &back))).count();
    assert_eq!(went, 16, "half of the cap; the rate alone would let 50 go");
}

#[test]
fn lanes_that_nobody_uses_are_forgotten_and_a_limiter_that_remembers_something_is_not() {
    let mut lanes = lanes();
    for n in 0..1000 {
        answer(&mut lanes, SECOND, &key(n), 5 * MILLI);
    }
    let limited =
        limited(&key(2000), Some(Rate { interval: SECOND * 60, burst: NonZeroU32::new(100).unwrap() })).limits;
    let slow = key(2000);
    let _ = lanes.admit(SECOND, &Ask { limits: limited, ..ask(&slow) });
    for _ in 0..lanes.totals().in_line {
        let _ = lanes.leave(SECOND, &ask(&slow));
    }
    assert_eq!(lanes.totals().lanes, 1001);
    answer(&mut lanes, SECOND * 3600, &key(5000), 5 * MILLI);
    assert_eq!(lanes.totals().lanes, 2, "the limited one, and the new one");
    answer(&mut lanes, SECOND * 7200, &key(5000), 5 * MILLI);
    assert_eq!(lanes.totals().lanes, 1);
}
