//! No sequence of asking, going and ending loses a place or breaks a bound.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Move {
    Admit(u32, Came),
    Window(usize),
    Finish(usize, Option<bool>),
    Leave(usize),
    StepUp(usize),
    Share(u32),
}

fn moves() -> impl Strategy<Value = Vec<(u64, Move)>> {
    let came = prop_oneof![Just(Came::New), Just(Came::Back), Just(Came::Early(3 * SECOND))];
    let one = prop_oneof![
        6 => (0u32..6, came).prop_map(|(n, came)| Move::Admit(n, came)),
        3 => any::<usize>().prop_map(Move::Window),
        3 => (any::<usize>(), any::<Option<bool>>()).prop_map(|(n, answered)| Move::Finish(n, answered)),
        1 => any::<usize>().prop_map(Move::Leave),
        1 => any::<usize>().prop_map(Move::StepUp),
        1 => (1u32..4).prop_map(Move::Share),
    ];
    proptest::collection::vec((0u64..2000, one), 0..400)
}

proptest! {
    #[test]
    fn no_place_is_ever_lost_and_no_bound_ever_broken(
        moves in moves(), (cap, quick, burst) in (1u32..5, 1u32..8, 1u32..5), hold in any::<bool>(),
    ) {
        let sizes = WindowSizes { quick, slow: 12, slow_bytes: 10_000, lines: 10 };
        let mut lanes = of(sizes);
        let keys: Vec<_> = (0..6).map(key).collect();
        // Half of the lanes have a rate.
        let limits = |n: usize| Limits { max_in_flight: cap, rate: if n.is_multiple_of(2) { rate(5, burst) } else { None } };
        let ask = |n: usize, came| Ask { limits: limits(n), came, hold, ..ask(&keys[n]) };
        let (mut flying, mut lining, mut went) = (Vec::<(usize, Place)>::new(), Vec::new(), vec![Vec::new(); 6]);
        let (mut now, mut generation) = (Duration::ZERO, 1);
        for (step, one) in moves {
            now += MILLI * u32::try_from(step).unwrap();
            match one {
                Move::Admit(n, came) => match lanes.admit(now, &ask(n as usize, came)) {
                    Admission::Go(place) => {
                        flying.push((n as usize, place));
                        went[n as usize].push(now);
                    }
                    Admission::Line => lining.push((n as usize, came)),
                    Admission::Park(park) => prop_assert!(matches!(came, Came::Early(_)) || park.wait >= SECOND),
                    Admission::TooLate(turn) => prop_assert!(turn >= Duration::from_hours(24)),
                },
                Move::Window(n) if !flying.is_empty() => {
                    let n = n % flying.len();
                    let (lane, place) = &mut flying[n];
                    if place.wants_window() {
                        let _ = lanes.take_window(now, &keys[*lane], place);
                    }
                }
                Move::Finish(n, answered) if !flying.is_empty() => {
                    let (lane, place) = flying.swap_remove(n % flying.len());
                    let heard = match answered {
                        Some(true) => Heard::Answer { latency: MILLI * 20, retry_after: None },
                        Some(false) => Heard::Silence,
                        None => Heard::Nothing,
                    };
                    lanes.finished(now, &keys[lane], place, heard);
                }
                Move::Leave(n) if !lining.is_empty() => {
                    let (lane, came) = lining.swap_remove(n % lining.len());
                    let left = lanes.leave(now, &ask(lane, came));
                    prop_assert!(matches!(left, Admission::Park(_) | Admission::TooLate(_)));
                }
                Move::StepUp(n) if !lining.is_empty() => {
                    let n = n % lining.len();
                    let (lane, came) = lining[n];
                    if let Step::Go(place) = lanes.step_up(now, &ask(lane, came)) {
                        lining.swap_remove(n);
                        flying.push((lane, place));
                        went[lane].push(now);
                    }
                }
                Move::Share(replicas) => {
                    generation += 1;
                    lanes.set_share(now, share(replicas, true, generation));
                }
                Move::Window(_) | Move::Finish(..) | Move::Leave(_) | Move::StepUp(_) => {}
            }
            let totals = lanes.totals();
            let all = || lanes.by_key.values();
            let counted = [Health::Answering, Health::Suspect, Health::Down]
                .map(|health| all().filter(|lane| lane.record.health == health).count());
            prop_assert_eq!(totals.by_health, counted);
            let sums = (all().map(|lane| lane.in_flight).sum::<u32>(), all().map(|lane| lane.in_line).sum::<u32>());
            prop_assert_eq!((totals.in_flight, totals.in_line), sums);
            prop_assert_eq!(totals.in_flight as usize, flying.len());
            prop_assert_eq!(totals.in_line as usize, lining.len());
            prop_assert!(lanes.by_key.values().all(|lane| lane.in_flight <= cap));
            let (quick_held, slow_held, bytes, slow_lanes) = lanes.windows.sums();
            prop_assert!(quick_held <= sizes.quick);
            prop_assert!(slow_held <= sizes.slow + sizes.quick, "silent lanes bring their quick places along");
            let sums = lanes.by_key.values().fold((0, 0, 0, 0), |sum, lane| {
                let held = lane.held.sums();
                (sum.0 + held.0, sum.1 + held.1, sum.2 + held.2, sum.3 + held.3)
            });
            prop_assert_eq!((quick_held, slow_held, bytes, slow_lanes), sums);
        }
        // The rate holds in every window, whatever the share was: each limiter began empty.
        for times in went.iter().step_by(2) {
            for (first, from) in times.iter().enumerate() {
                for (last, to) in times.iter().enumerate().skip(first) {
                    let allowed = u128::from(burst) + to.saturating_sub(*from).as_millis() / 200;
                    let count = u128::try_from(last - first + 1).unwrap();
                    prop_assert!(count <= allowed, "{count} within {:?}", (from, to));
                }
            }
        }
        for (lane, place) in flying { lanes.finished(now, &keys[lane], place, Heard::Silence); }
        for (lane, came) in lining { let _ = lanes.leave(now, &ask(lane, came)); }
        prop_assert_eq!(lanes.windows.sums(), (0, 0, 0, 0));
        prop_assert_eq!((lanes.totals().in_flight, lanes.totals().in_line), (0, 0));
    }
}
