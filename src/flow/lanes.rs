//! Lanes at work: who may send now, who stands in line, and who comes next. The rules are in `policy::lane`.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::oneshot, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    domain::LaneKey,
    policy::lane::{Admission, Lanes, Place, Totals},
};

/// The lanes of a process. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct LaneKeeper {
    inner: Arc<Mutex<Inner>>,
    /// How long a delivery stands in line at most.
    patience: Duration,
}

#[derive(Debug)]
struct Inner {
    lanes: Lanes,
    lines: HashMap<LaneKey, VecDeque<Standing>>,
    next: u64,
}

#[derive(Debug)]
struct Standing {
    number: u64,
    cap: u32,
    go: oneshot::Sender<()>,
}

/// The right to have one request in flight at a lane. Dropped, it is given back and nothing is learnt.
#[derive(Debug)]
pub(crate) struct Permit {
    keeper: LaneKeeper,
    lane: LaneKey,
    place: Option<Place>,
}

impl LaneKeeper {
    /// Lanes that share a window of `window` deliveries and let nobody stand in line longer than `patience`.
    pub(crate) fn new(window: u32, patience: Duration) -> Self {
        let inner = Inner { lanes: Lanes::new(window), lines: HashMap::new(), next: 0 };
        Self { inner: Arc::new(Mutex::new(inner)), patience }
    }

    /// Asks for a place in a lane, standing in line for it if there is room; `None` when it must wait in the broker.
    /// Whether a place is free is decided before the first await.
    pub(crate) async fn enter(&self, lane: &LaneKey, cap: u32, draining: &CancellationToken) -> Option<Permit> {
        let (number, place, go) = {
            let mut inner = self.lock();
            match inner.lanes.admit(lane, cap) {
                Admission::Go(place) => return Some(self.permit(lane, place)),
                Admission::Park => return None,
                Admission::Line(place) => {
                    let (go, gone) = oneshot::channel();
                    let number = inner.next;
                    inner.next += 1;
                    inner.lines.entry(lane.clone()).or_default().push_back(Standing { number, cap, go });
                    (number, place, gone)
                }
            }
        };
        let leaving = Leaving { keeper: self, lane, number, place: Some(place) };
        tokio::select! {
            biased;
            answer = timeout(self.patience, go) => match answer {
                Ok(Ok(())) => Some(leaving.step_up()),
                // Out of patience. Whether a place came at the last moment is decided under the lock.
                _ => leaving.last_look(),
            },
            () = draining.cancelled() => leaving.last_look(),
        }
    }

    /// What is in flight and in line.
    pub(crate) fn totals(&self) -> Totals {
        self.lock().lanes.totals()
    }

    fn permit(&self, lane: &LaneKey, place: Place) -> Permit {
        Permit { keeper: self.clone(), lane: lane.clone(), place: Some(place) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Lets go who is first in line, as long as there are places.
    fn call(&mut self, lane: &LaneKey) {
        let Some(waiting) = self.lines.get_mut(lane) else { return };
        while let Some(first) = waiting.front() {
            if !self.lanes.step_up(lane, first.cap) {
                break;
            }
            let Some(first) = waiting.pop_front() else { break };
            // Whoever leaves the line takes itself out of it under this lock: it still listens, or finds the call
            // when it looks for the last time.
            first.go.send(()).ok();
        }
        if waiting.is_empty() {
            self.lines.remove(lane);
        }
    }
}

/// Someone in line: takes itself out of it, however it leaves.
struct Leaving<'a> {
    keeper: &'a LaneKeeper,
    lane: &'a LaneKey,
    number: u64,
    place: Option<Place>,
}

impl Leaving<'_> {
    fn step_up(mut self) -> Permit {
        Permit { keeper: self.keeper.clone(), lane: self.lane.clone(), place: self.place.take() }
    }

    fn last_look(mut self) -> Option<Permit> {
        let called = !self.out_of_line();
        let place = self.place.take()?;
        if called {
            return Some(self.keeper.permit(self.lane, place));
        }
        self.keeper.lock().lanes.leave(self.lane, place);
        None
    }

    /// Whether it was still in line.
    fn out_of_line(&self) -> bool {
        let mut inner = self.keeper.lock();
        let Some(line) = inner.lines.get_mut(self.lane) else { return false };
        let before = line.len();
        line.retain(|standing| standing.number != self.number);
        let was_in_line = line.len() < before;
        if line.is_empty() {
            inner.lines.remove(self.lane);
        }
        was_in_line
    }
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        if self.place.is_none() {
            return;
        }
        let in_line = self.out_of_line();
        if let Some(place) = self.place.take() {
            if in_line {
                self.keeper.lock().lanes.leave(self.lane, place);
            } else {
                drop(self.keeper.permit(self.lane, place));
            }
        }
    }
}

impl Permit {
    /// The request is over: whether the target answered at all, and how long that took. `None`: nothing was learnt.
    pub(crate) fn finished(mut self, answered: Option<(bool, Duration)>) {
        self.give_back(answered);
    }

    fn give_back(&mut self, answered: Option<(bool, Duration)>) {
        if let Some(place) = self.place.take() {
            let mut inner = self.keeper.lock();
            inner.lanes.finished(&self.lane, place, answered);
            inner.call(&self.lane);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.give_back(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{HttpTarget, Target, TargetUrl};

    const ANSWERED: Option<(bool, Duration)> = Some((true, Duration::from_millis(5)));

    fn lane() -> LaneKey {
        let url = TargetUrl::parse("http://erp.example/").unwrap();
        let target = Target::Http(HttpTarget::post(url, Duration::from_secs(15)));
        LaneKey::of_target(&"acme".parse().unwrap(), &target)
    }

    #[tokio::test(start_paused = true)]
    async fn who_stands_in_line_goes_in_order_as_places_come_free() {
        let (keeper, draining, lane) = (LaneKeeper::new(100, Duration::from_secs(1)), CancellationToken::new(), lane());
        let first = keeper.enter(&lane, 1, &draining).await.unwrap();
        let second = keeper.enter(&lane, 1, &draining);
        tokio::pin!(second);
        assert!(futures_util::poll!(&mut second).is_pending());
        first.finished(ANSWERED);
        let second = second.await.unwrap();
        assert_eq!((keeper.totals().in_flight, keeper.totals().in_line), (1, 0));
        second.finished(ANSWERED);
        assert_eq!((keeper.totals().in_flight, keeper.totals().in_line), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn who_stood_in_line_for_too_long_leaves_it() {
        let (keeper, draining, lane) = (LaneKeeper::new(100, Duration::from_secs(1)), CancellationToken::new(), lane());
        let _first = keeper.enter(&lane, 1, &draining).await.unwrap();
        assert!(keeper.enter(&lane, 1, &draining).await.is_none());
        assert_eq!((keeper.totals().in_flight, keeper.totals().in_line), (1, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_empties_the_line_at_once() {
        let (keeper, draining, lane) = (LaneKeeper::new(100, Duration::from_secs(1)), CancellationToken::new(), lane());
        let _first = keeper.enter(&lane, 1, &draining).await.unwrap();
        draining.cancel();
        let before = tokio::time::Instant::now();
        assert!(keeper.enter(&lane, 1, &draining).await.is_none());
        assert_eq!(before.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn someone_in_line_who_is_dropped_leaves_no_trace() {
        let (keeper, draining, lane) = (LaneKeeper::new(100, Duration::from_secs(1)), CancellationToken::new(), lane());
        let first = keeper.enter(&lane, 1, &draining).await.unwrap();
        {
            let second = keeper.enter(&lane, 1, &draining);
            tokio::pin!(second);
            assert!(futures_util::poll!(&mut second).is_pending());
            // Called, but dropped before it heard of it.
            first.finished(ANSWERED);
            assert_eq!(keeper.totals().in_flight, 1);
        }
        assert_eq!((keeper.totals().in_flight, keeper.totals().in_line), (0, 0));
    }
}
