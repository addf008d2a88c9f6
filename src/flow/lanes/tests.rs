//! Lines at work, in paused time.

use super::*;
use crate::{
    domain::{HttpTarget, Target, TargetUrl},
    policy::lane::{Limits, Rate},
};

const ANSWERED: Heard = Heard::Answer { latency: Duration::from_millis(5), retry_after: None };
const SIZES: WindowSizes = WindowSizes { quick: 100, slow: 100, slow_bytes: 1 << 20, lines: 100 };

fn keeper(sizes: WindowSizes) -> LaneKeeper {
    let keeper = LaneKeeper::new(sizes, Duration::from_secs(1));
    keeper.set_share(Share { limited: true, ..Share::NOT_JOINED });
    keeper
}

fn lane() -> LaneKey {
    let url = TargetUrl::parse("http://erp.example/").unwrap();
    let target = Target::Http(HttpTarget::post(url, Duration::from_secs(15)));
    LaneKey::of_target(&"acme".parse().unwrap(), &target)
}

/// One request in flight, so that the others stand in line.
fn ask(lane: &LaneKey) -> Ask<'_> {
    Ask {
        lane,
        limits: Limits { max_in_flight: 1, rate: None },
        came: Came::New,
        bytes: 100,
        age: Duration::ZERO,
        left: Duration::from_hours(1),
        hold: false,
        is_asked_later: false,
    }
}

fn permit(entered: Entered) -> Permit {
    let Entered::Permit(permit) = entered else { panic!("must go: {entered:?}") };
    permit
}

fn in_hand(keeper: &LaneKeeper) -> (u32, u32) {
    (keeper.totals().in_flight, keeper.totals().in_line)
}

#[tokio::test(start_paused = true)]
async fn who_stands_in_line_goes_in_order_as_places_come_free() {
    let (keeper, draining, lane) = (keeper(SIZES), CancellationToken::new(), lane());
    let ask = ask(&lane);
    let first = permit(keeper.enter(&ask, &draining).await);
    let second = keeper.enter(&ask, &draining);
    tokio::pin!(second);
    assert!(futures_util::poll!(&mut second).is_pending());
    first.finished(ANSWERED);
    let second = permit(second.await);
    assert_eq!(in_hand(&keeper), (1, 0));
    second.finished(ANSWERED);
    assert_eq!(in_hand(&keeper), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn who_stood_in_line_for_too_long_leaves_it() {
    let (keeper, draining, lane) = (keeper(SIZES), CancellationToken::new(), lane());
    let ask = ask(&lane);
    let _first = permit(keeper.enter(&ask, &draining).await);
    assert!(matches!(keeper.enter(&ask, &draining).await, Entered::Park(_)));
    assert_eq!(in_hand(&keeper), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_stop_empties_the_line_at_once() {
    let (keeper, draining, lane) = (keeper(SIZES), CancellationToken::new(), lane());
    let ask = ask(&lane);
    let _first = permit(keeper.enter(&ask, &draining).await);
    draining.cancel();
    let before = tokio::time::Instant::now();
    assert!(matches!(keeper.enter(&ask, &draining).await, Entered::Park(_)));
    assert_eq!(before.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn someone_in_line_who_is_dropped_leaves_no_trace() {
    let (keeper, draining, lane) = (keeper(SIZES), CancellationToken::new(), lane());
    let ask = ask(&lane);
    let first = permit(keeper.enter(&ask, &draining).await);
    {
        let second = keeper.enter(&ask, &draining);
        tokio::pin!(second);
        assert!(futures_util::poll!(&mut second).is_pending());
        // Called, but dropped before it heard of it.
        first.finished(ANSWERED);
    }
    assert_eq!(in_hand(&keeper), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn who_came_back_goes_before_who_is_new() {
    let (keeper, draining, lane) = (keeper(SIZES), CancellationToken::new(), lane());
    let new = ask(&lane);
    let back = Ask { came: Came::Back, ..new };
    permit(keeper.enter(&new, &draining).await).finished(ANSWERED);
    let first = permit(keeper.enter(&new, &draining).await);
    let (second, third) = (keeper.enter(&new, &draining), keeper.enter(&back, &draining));
    tokio::pin!(second, third);
    assert!(futures_util::poll!(&mut second).is_pending());
    assert!(futures_util::poll!(&mut third).is_pending());
    first.finished(ANSWERED);
    assert!(futures_util::poll!(&mut second).is_pending());
    let third = permit(third.await);
    third.finished(ANSWERED);
    permit(second.await).finished(ANSWERED);
    assert_eq!(in_hand(&keeper), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_line_moves_at_the_lanes_rate_though_nothing_else_happens() {
    let (keeper, draining, lane) = (keeper(SIZES), CancellationToken::new(), lane());
    let rate = Some(Rate { interval: Duration::from_millis(100), burst: std::num::NonZeroU32::MIN });
    let ask = Ask { limits: Limits { max_in_flight: 32, rate }, ..ask(&lane) };
    tokio::time::sleep(Duration::from_secs(1)).await;
    let begun = Instant::now();
    let entering = (0..5).map(|_| async {
        let permit = permit(keeper.enter(&ask, &draining).await);
        (begun.elapsed().as_millis() / 100, permit)
    });
    let entered = futures_util::future::join_all(entering).await;
    assert_eq!(entered.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_the_window_goes_in_order_and_a_stop_ends_the_wait() {
    let sizes = WindowSizes { quick: 1, ..SIZES };
    let (keeper, draining, lane) = (keeper(sizes), CancellationToken::new(), lane());
    let ask = Ask { limits: Limits { max_in_flight: 32, rate: None }, ..ask(&lane) };
    permit(keeper.enter(&ask, &draining).await).finished(ANSWERED);
    let mut permits = Vec::new();
    for _ in 0..4 {
        permits.push(permit(keeper.enter(&ask, &draining).await));
    }
    let (mut fourth, mut third, mut second, mut first) =
        (permits.pop().unwrap(), permits.pop().unwrap(), permits.pop().unwrap(), permits.pop().unwrap());
    assert!(first.window(&draining).await);
    {
        let waiting = second.window(&draining);
        tokio::pin!(waiting);
        assert!(futures_util::poll!(&mut waiting).is_pending());
        let behind = third.window(&draining);
        tokio::pin!(behind);
        assert!(futures_util::poll!(&mut behind).is_pending());
        first.finished(ANSWERED);
        assert!(waiting.await);
        assert!(futures_util::poll!(&mut behind).is_pending(), "one place, one permit");
    }
    // The third gave up: the fourth is next.
    second.finished(ANSWERED);
    assert!(fourth.window(&draining).await);
    draining.cancel();
    assert!(!third.window(&draining).await);
    drop((third, fourth));
    assert_eq!(in_hand(&keeper), (0, 0));
}
