//! Lanes at work: who may send now, who stands in line, and who comes next. The rules are in `policy::lane`.
//!
//! Nobody drives the lines: whoever is first in one asks the lane for its place, when it is woken by one that comes free, or
//! when the lane said that time alone will give one; and wakes the next when it goes.

#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{
    domain::LaneKey,
    policy::lane::{
        Admission, Ask, Came, Figure, Health, Heard, Lanes, Park, Place, Reason, Step, Totals, WindowSizes,
    },
    policy::share::Share,
    telemetry::metrics::Metrics,
};

/// Who waits for the quick window looks this often for places that lanes hold which have fallen silent.
const LOOK_FOR_RELIEF: Duration = Duration::from_millis(50);

/// The lanes of a process. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct LaneKeeper {
    inner: Arc<Mutex<Inner>>,
    /// The lanes' time counts from here.
    epoch: Instant,
    metrics: Metrics,
}

#[derive(Debug)]
struct Inner {
    lanes: Lanes,
    lines: HashMap<LaneKey, Line>,
    /// Who has its lane's place and waits for one in the quick window.
    hall: Queue,
    next: u64,
}

/// Who stands in a lane's line: those that came back go first.
#[derive(Debug, Default)]
struct Line {
    back: Queue,
    new: Queue,
}

/// Who waits, in order.
#[derive(Debug, Default)]
struct Queue(VecDeque<Waiting>);

#[derive(Debug)]
struct Waiting {
    number: u64,
    turn: Arc<Notify>,
}

/// What came of asking for a place.
#[derive(Debug)]
pub(crate) enum Entered {
    /// The right to send.
    Permit(Permit),
    /// Wait in the broker.
    Park(Park),
    /// Its turn would come too late: after so long.
    TooLate(Duration),
}

/// The right to have one request in flight at a lane. Dropped, it is given back and nothing is learnt.
#[derive(Debug)]
pub(crate) struct Permit {
    keeper: LaneKeeper,
    lane: LaneKey,
    place: Option<Place>,
}

impl LaneKeeper {
    /// Lanes that share windows of these sizes, and park for units of this length.
    pub(crate) fn new(sizes: WindowSizes, unit: Duration) -> Self {
        let inner = Inner { lanes: Lanes::new(sizes, unit), lines: HashMap::new(), hall: Queue::default(), next: 0 };
        let metrics = Metrics::default();
        Self { inner: Arc::new(Mutex::new(inner)), epoch: Instant::now(), metrics }
    }

    /// The same, telling these metrics who has to wait.
    pub(crate) fn with_metrics(self, metrics: Metrics) -> Self {
        Self { metrics, ..self }
    }

    /// This replica's share of all limits from now on.
    pub(crate) fn set_share(&self, share: Share) {
        let now = self.now();
        self.lock().lanes.set_share(now, share);
    }

    /// Asks for a place in a lane, standing in line for it if there is room. Whether a place is free is decided before the
    /// first await.
    pub(crate) async fn enter(&self, ask: &Ask<'_>, draining: &CancellationToken) -> Entered {
        let (standing, turn, patience) = {
            let mut inner = self.lock();
            match inner.lanes.admit(self.now(), ask) {
                Admission::Go(place) => return Entered::Permit(self.permit(ask.lane, place)),
                Admission::Park(park) => {
                    // Who is early for its turn, or waits for a target that is down, was counted, or waits for no place.
                    if park.reason != Reason::Down && !matches!(ask.came, Came::Early(_)) {
                        self.metrics.no_place();
                    }
                    return Entered::Park(park);
                }
                Admission::TooLate(turn) => return Entered::TooLate(turn),
                Admission::Line => {
                    let waiting = inner.new_waiting();
                    let standing = Standing { keeper: self, ask, number: waiting.number, in_line: true };
                    let turn = Arc::clone(&waiting.turn);
                    inner.lines.entry(ask.lane.clone()).or_default().of(ask.came).0.push_back(waiting);
                    (standing, turn, inner.lanes.patience(ask))
                }
            }
        };
        self.metrics.no_place();
        let began = Instant::now();
        let entered = self.stand((standing, turn), began + patience, draining).await;
        self.metrics.stood_in_line(began.elapsed());
        entered
    }

    /// Stands in line until there is a place, or until `end`.
    async fn stand(
        &self,
        (mut standing, turn): (Standing<'_>, Arc<Notify>),
        end: Instant,
        draining: &CancellationToken,
    ) -> Entered {
        let ask = standing.ask;
        loop {
            let until = match standing.step_up() {
                Step::Go(place) => return Entered::Permit(self.permit(ask.lane, place)),
                Step::Wait(until) => until,
            };
            let next = until.map_or(end, |until| end.min(Instant::now() + until));
            tokio::select! {
                biased;
                () = turn.notified() => {}
                () = draining.cancelled() => return standing.leave(),
                () = sleep_until(next) => if next >= end {
                    return match standing.step_up() {
                        Step::Go(place) => Entered::Permit(self.permit(ask.lane, place)),
                        Step::Wait(_) => standing.leave(),
                    };
                },
            }
        }
    }

    /// What is in flight and in line.
    pub(crate) fn totals(&self) -> Totals {
        self.lock().lanes.totals()
    }

    /// Lanes whose targets are down, or were lately, and whether they are up again.
    pub(crate) fn fallen(&self) -> Vec<(LaneKey, bool)> {
        let now = self.now();
        self.lock().lanes.fallen(now)
    }

    /// What a lane does now, and the moment that its times count from.
    pub(crate) fn figure(&self, lane: &LaneKey) -> Option<(Figure, Instant)> {
        self.lock().lanes.figure(lane).map(|figure| (figure, self.epoch))
    }

    fn permit(&self, lane: &LaneKey, place: Place) -> Permit {
        Permit { keeper: self.clone(), lane: lane.clone(), place: Some(place) }
    }

    fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn new_waiting(&mut self) -> Waiting {
        self.next += 1;
        Waiting { number: self.next, turn: Arc::default() }
    }

    /// Wakes who is first in the lane's line, and who is first in the hall: a place may be free.
    fn call(&self, lane: &LaneKey) {
        if let Some(first) = self.lines.get(lane).and_then(Line::first) {
            first.turn.notify_one();
        }
        self.call_hall();
    }

    fn call_hall(&self) {
        if let Some(first) = self.hall.0.front() {
            first.turn.notify_one();
        }
    }

    /// Takes someone out of a lane's line, and wakes who is first then.
    fn out_of_line(&mut self, lane: &LaneKey, came: Came, number: u64) {
        let Some(standing) = self.lines.get_mut(lane) else { return };
        standing.of(came).remove(number);
        match standing.first() {
            Some(first) => first.turn.notify_one(),
            None => drop(self.lines.remove(lane)),
        }
    }
}

impl Line {
    fn of(&mut self, came: Came) -> &mut Queue {
        match came {
            Came::Back | Came::Early(_) => &mut self.back,
            Came::New => &mut self.new,
        }
    }

    fn first(&self) -> Option<&Waiting> {
        self.back.0.front().or_else(|| self.new.0.front())
    }
}

impl Queue {
    fn remove(&mut self, number: u64) {
        // Numbers rise along the queue.
        if let Ok(position) = self.0.binary_search_by_key(&number, |waiting| waiting.number) {
            self.0.remove(position);
        }
    }
}

/// Someone in line: takes itself out of it, however it leaves.
struct Standing<'a> {
    keeper: &'a LaneKeeper,
    ask: &'a Ask<'a>,
    number: u64,
    in_line: bool,
}

impl Standing<'_> {
    /// Takes its place if it is first in line and there is one.
    fn step_up(&mut self) -> Step {
        let now = self.keeper.now();
        let mut inner = self.keeper.lock();
        let first = inner.lines.get(self.ask.lane).and_then(Line::first).map(|first| first.number);
        if first != Some(self.number) {
            return Step::Wait(None);
        }
        let step = inner.lanes.step_up(now, self.ask);
        if matches!(step, Step::Go(_)) {
            self.in_line = false;
            inner.out_of_line(self.ask.lane, self.ask.came, self.number);
        }
        step
    }

    /// Leaves the line without a place.
    fn leave(mut self) -> Entered {
        match self.out() {
            Admission::TooLate(turn) => Entered::TooLate(turn),
            Admission::Park(park) => Entered::Park(park),
            // A line's end is never a place, nor another line.
            Admission::Go(_) | Admission::Line => Entered::Park(Park { wait: Duration::ZERO, reason: Reason::Turn }),
        }
    }

    fn out(&mut self) -> Admission {
        self.in_line = false;
        let now = self.keeper.now();
        let mut inner = self.keeper.lock();
        let admission = inner.lanes.leave(now, self.ask);
        inner.out_of_line(self.ask.lane, self.ask.came, self.number);
        admission
    }
}

impl Drop for Standing<'_> {
    fn drop(&mut self) {
        if self.in_line {
            self.out();
        }
    }
}

impl Permit {
    /// Waits for a place in the window of all lanes, if this permit needs one. Not while it is draining: `false` then.
    pub(crate) async fn window(&mut self, draining: &CancellationToken) -> bool {
        let Some(turn) = self.take_window_or_wait() else { return true };
        let mut waiting = InHall { permit: self, number: turn.0 };
        loop {
            let Some(first) = waiting.step_up() else { return true };
            let look = Instant::now() + LOOK_FOR_RELIEF;
            tokio::select! {
                biased;
                () = turn.1.notified() => {}
                () = draining.cancelled() => return false,
                () = sleep_until(look), if first => {}
            }
        }
    }

    /// `None` when it has its place.
    fn take_window_or_wait(&mut self) -> Option<(u64, Arc<Notify>)> {
        let place = self.place.as_mut().filter(|place| place.wants_window())?;
        let now = self.keeper.now();
        let mut inner = self.keeper.lock();
        if inner.hall.0.is_empty() && inner.lanes.take_window(now, &self.lane, place) {
            return None;
        }
        let waiting = inner.new_waiting();
        let turn = (waiting.number, Arc::clone(&waiting.turn));
        inner.hall.0.push_back(waiting);
        Some(turn)
    }

    /// The request is over: what it says about the target. Says how the target counts now.
    pub(crate) fn finished(mut self, heard: Heard) -> Health {
        self.give_back(heard)
    }

    /// Whether it counts with the slow: its target is slow, or gives no answer.
    pub(crate) fn is_slow(&self) -> bool {
        self.place.is_some_and(Place::is_slow)
    }

    /// Whether it is the probe of a target that is down.
    pub(crate) fn is_probe(&self) -> bool {
        self.place.is_some_and(Place::is_probe)
    }

    fn give_back(&mut self, heard: Heard) -> Health {
        let Some(place) = self.place.take() else { return Health::default() };
        let now = self.keeper.now();
        let mut inner = self.keeper.lock();
        let health = inner.lanes.finished(now, &self.lane, place, heard);
        inner.call(&self.lane);
        health
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.give_back(Heard::Nothing);
    }
}

/// Someone in the hall: takes itself out of it, however it leaves.
struct InHall<'a> {
    permit: &'a mut Permit,
    number: u64,
}

impl InHall<'_> {
    /// `None` when it has its place; otherwise whether it is first.
    fn step_up(&mut self) -> Option<bool> {
        let now = self.permit.keeper.now();
        let mut inner = self.permit.keeper.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.hall.0.front().map(|first| first.number) != Some(self.number) {
            return Some(false);
        }
        let taken = match self.permit.place.as_mut() {
            Some(place) => inner.lanes.take_window(now, &self.permit.lane, place),
            None => true,
        };
        (!taken).then_some(true)
    }
}

impl Drop for InHall<'_> {
    fn drop(&mut self) {
        let mut inner = self.permit.keeper.lock();
        inner.hall.remove(self.number);
        inner.call_hall();
    }
}
