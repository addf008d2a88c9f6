//! The story of one message: opened, each delivery it owes carried on its own, everything it owes with the broker, and
//! then, and only then, one ack.
//!
//! Reading order: `intake` (what is owed) → `carry` (one delivery) → `decide` (what follows, pure) → `settle` (what is
//! published) → `bundle` (what is parked together) and `gather` (when). `lanes` says who may send now, `register` what was done before.

mod body;
mod bundle;
mod carry;
mod decide;
mod figures;
mod gather;
mod intake;
mod lanes;
pub mod matching;
#[cfg(test)]
mod model;
mod ports;
mod register;
mod returns;
mod settle;
mod traced;
mod trial;
mod turn;

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _, future::join_all, stream::FuturesUnordered};
use tokio::{
    sync::watch,
    task::yield_now,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

pub use self::figures::LaneFigures;
pub use self::ports::{Courier, Couriers, Directory, Sending};
pub use self::trial::{TrialRefused, TrialReport, TryOut};
use self::{
    bundle::Bundles,
    carry::{Carried, Later},
    intake::{Opened, Work},
    lanes::LaneKeeper,
    register::{Register, StayKey},
    returns::Returns,
};
use crate::{
    artifacts::ArtifactStore,
    broker::{Acked, BrokerOutbox, Confirmed, Inbound, Properties, Receipt, Source, Standing},
    domain::{Owed, Timestamp, now},
    policy::{lane::WindowSizes, share::Share, wait::Tier},
    store::Snapshot,
    telemetry::{
        metrics::{Intake, Metrics},
        trace::{ProcessEnd, Tracer},
    },
};

/// Events of this size and more are not parked delivery by delivery: what fails within a moment is parked together.
const LARGE_EVENT: usize = 64 * 1024;

/// That moment, for what failed. What waits for a place is gathered for the time that a delivery may stand in line as well:
/// who leaves the line without a place shares the parked message of those that found no room in it.
const GATHER: Duration = Duration::from_millis(250);

/// How often it is looked whether more of an event's deliveries cannot start, before those that cannot are parked.
const LOOKS: usize = 8;

/// What the flow needs to know.
#[derive(Debug, Clone)]
pub struct FlowSettings {
    /// The largest event, in bytes.
    pub max_event_bytes: u64,
    /// The shortest wait in a delay queue.
    pub delay_unit: Duration,
    /// Ends the waiting of a delivery whose subscription is not known.
    pub max_age: Duration,
    /// How many deliveries may be in flight at once to targets that answer quickly. Those that are slow or silent have a
    /// window of their own, three times as wide.
    pub window: u32,
    /// How many bytes of events may be held for those that are slow or silent.
    pub slow_bytes: u64,
}

/// How the flow is told to stop.
#[derive(Debug, Clone, Default)]
pub struct StopSignals {
    /// Nothing new begins: what stands in line is parked.
    pub draining: CancellationToken,
    /// What is still in flight is cut off, and parked as interrupted.
    pub abandon: CancellationToken,
}

/// Carries messages. One for each process.
pub struct Flow<C> {
    outbox: BrokerOutbox,
    courier: C,
    subscriptions: Arc<dyn Directory>,
    artifacts: Option<ArtifactStore>,
    tracer: Tracer,
    lanes: LaneKeeper,
    register: Arc<Register>,
    publishing: watch::Receiver<Standing>,
    settings: FlowSettings,
    /// How long a new delivery stands in line at most, or waits for a channel.
    patience: Duration,
    /// What is about to be parked.
    bundles: Bundles,
    stop: StopSignals,
    metrics: Metrics,
    /// What came back lately.
    returns: Returns,
}

impl<C: Courier> Flow<C> {
    /// A flow that publishes through `outbox`, sends through `courier` and asks `subscriptions` for those in force.
    pub fn new(
        outbox: BrokerOutbox,
        courier: C,
        subscriptions: Arc<dyn Directory>,
        publishing: watch::Receiver<Standing>,
        settings: FlowSettings,
        stop: StopSignals,
    ) -> Self {
        let patience = settings.delay_unit.min(Duration::from_secs(1));
        let quick = settings.window.max(1);
        let sizes = WindowSizes { quick, slow: quick.saturating_mul(3), slow_bytes: settings.slow_bytes, lines: quick };
        Self {
            bundles: Bundles::new(outbox.clone(), settings.delay_unit, stop.draining.clone()),
            outbox,
            courier,
            subscriptions,
            artifacts: None,
            tracer: Tracer::default(),
            lanes: LaneKeeper::new(sizes, settings.delay_unit),
            register: Arc::new(Register::new()),
            publishing,
            returns: Returns::new(settings.delay_unit),
            settings,
            patience,
            stop,
            metrics: Metrics::default(),
        }
    }

    /// The same with an artifact store that links to files are made for.
    #[must_use]
    pub fn with_artifacts(self, artifacts: Option<ArtifactStore>) -> Self {
        Self { artifacts, ..self }
    }

    /// The same, telling these metrics what happens.
    #[must_use]
    pub fn with_metrics(self, metrics: Metrics) -> Self {
        Self { lanes: self.lanes.with_metrics(metrics.clone()), metrics, ..self }
    }

    /// The same, telling its spans to a tracer.
    #[must_use]
    pub fn with_tracer(self, tracer: Tracer) -> Self {
        Self { tracer, ..self }
    }

    /// Whether messages come in: what was done is remembered for longer while none do.
    pub fn consuming(&self, consuming: bool) {
        self.register.consuming(consuming);
        self.returns.consuming(consuming);
    }

    /// What part of every limit this replica may use from now on. None before this is called.
    pub fn use_share(&self, share: Share) {
        self.lanes.set_share(share);
    }

    /// How many deliveries are in flight and in line.
    pub fn in_hand(&self) -> (u32, u32) {
        let totals = self.lanes.totals();
        (totals.in_flight, totals.in_line)
    }

    /// An event: every delivery it causes is tried at once; what must wait is parked; then, and only then, one ack.
    /// A parked message takes the same way: an event is simply a message that owes everything that matches.
    pub async fn on_message(&self, message: Inbound) {
        let Inbound { source, body, mut properties, receipt } = message;
        let _in_hand = self.metrics.message_came(match source {
            Source::Events => Intake::Events,
            Source::Due => Intake::Due,
        });
        self.bundles.message_came();
        let snapshot = self.subscriptions.current();
        let settled = match source {
            Source::Events => self.event_came(&body, &mut properties, &snapshot, &receipt).await,
            Source::Due => Box::pin(self.wait_is_over(&body, &properties, &snapshot, &receipt)).await,
        };
        match settled {
            Some(Settled { proof, stays }) => {
                let acked = receipt.ack(proof);
                self.register.answered(&stays, acked);
            }
            // Its channel is gone, or the service stops: the broker gives it again.
            None => receipt.let_go(),
        }
    }

    /// What upstream published.
    async fn event_came(
        &self,
        body: &Bytes,
        properties: &mut Properties,
        snapshot: &Snapshot,
        receipt: &Receipt,
    ) -> Option<Settled> {
        let span = self.take_in(properties);
        match intake::open_event(body, properties, snapshot, self.settings.max_event_bytes, now()) {
            Ok(Opened { work, owed }) if owed.is_empty() => {
                let settled = Box::pin(self.tell_unsubscribed(&work)).await;
                let end = settled.as_ref().map(|_| ProcessEnd::Unsubscribed);
                self.processed(span, Some(&work.event), body.len(), end);
                settled
            }
            Ok(Opened { work, owed }) => {
                let settled = self.carry_all(&work, owed, snapshot, receipt).await;
                let end = settled.as_ref().map(|_| ProcessEnd::Settled(work.fan_out));
                self.processed(span, Some(&work.event), body.len(), end);
                settled
            }
            Err(unreadable) => {
                let reason = unreadable.letter.reason;
                let settled = Box::pin(self.set_aside(*unreadable)).await;
                self.processed(span, None, body.len(), settled.as_ref().map(|_| ProcessEnd::Invalid(reason)));
                settled
            }
        }
    }

    /// What comes back from a delay queue: each of its events on its own. It belongs to their spans already.
    async fn wait_is_over(
        &self,
        body: &Bytes,
        properties: &Properties,
        snapshot: &Snapshot,
        receipt: &Receipt,
    ) -> Option<Settled> {
        let opened = intake::open_parked(body, properties, now());
        receipt.holds_also(intake::unpacked_bytes(body, &opened));
        let events = opened.into_iter().map(async |opened| match opened {
            Ok(Opened { work, owed }) => {
                self.returns.came_back(work.first_seen);
                self.carry_all(&work, owed, snapshot, receipt).await
            }
            Err(unreadable) => self.set_aside(*unreadable).await,
        });
        let events = join_all(events).await;
        let left_to_broker = events.iter().any(Option::is_none);
        let mut all = Settled { proof: Confirmed::nothing_owed(), stays: Vec::with_capacity(events.len()) };
        for Settled { proof, stays } in events.into_iter().flatten() {
            all.proof = all.proof.and(&proof);
            all.stays.extend(stays);
        }
        self.unless_left_to_broker(all, left_to_broker)
    }

    /// What could be settled of a message that is left to the broker is remembered for when it comes again.
    fn unless_left_to_broker(&self, all: Settled, left_to_broker: bool) -> Option<Settled> {
        if left_to_broker {
            self.register.answered(&all.stays, Acked::Stale);
            return None;
        }
        Some(all)
    }

    /// Carries every delivery on its own, and parks what must wait. `None` when the message is left to the broker.
    async fn carry_all(&self, work: &Work, owed: Vec<Owed>, snapshot: &Snapshot, receipt: &Receipt) -> Option<Settled> {
        let mut all = Settled { proof: Confirmed::nothing_owed(), stays: Vec::with_capacity(owed.len()) };
        let mut left_to_broker = false;
        let mut waiting = Waiting::new((work.raw.len() >= LARGE_EVENT).then_some(self.patience));
        let mut steps: FuturesUnordered<_> =
            owed.into_iter().map(|owed| self.step(work, snapshot, receipt, Task::Carry(owed))).collect();
        loop {
            let next = match waiting.until {
                None => steps.next().await,
                // What is ready now is taken first, so that what cannot start shares one parked message.
                Some(until) => match timeout_at(until, steps.next()).await {
                    Ok(next) => next,
                    Err(_elapsed) => what_is_ready(&mut steps).await,
                },
            };
            match next {
                Some(Stepped::Carried(Carried::Settled(key, proof))) => all.add(key, &proof),
                Some(Stepped::Carried(Carried::Later(later))) => waiting.add(*later),
                Some(Stepped::Carried(Carried::LeftToBroker) | Stepped::Parked(None)) => left_to_broker = true,
                Some(Stepped::Parked(Some(parked))) => {
                    for (key, proof) in parked {
                        all.add(key, &proof);
                    }
                }
                // Nothing more is ready, or can come: what waits is parked.
                None => {
                    let parks = waiting.take(work.raw.len());
                    if parks.is_empty() {
                        break;
                    }
                    steps.extend(parks.into_iter().map(|task| self.step(work, snapshot, receipt, task)));
                }
            }
        }
        self.unless_left_to_broker(all, left_to_broker)
    }

    async fn step(&self, work: &Work, snapshot: &Snapshot, receipt: &Receipt, task: Task) -> Stepped {
        match task {
            Task::Carry(owed) => {
                let carrying = self.carry(work, snapshot, receipt, owed.clone());
                Stepped::Carried(match AssertUnwindSafe(carrying).catch_unwind().await {
                    Ok(carried) => carried,
                    Err(_panic) => Box::pin(self.conclude_panicked(work, owed)).await,
                })
            }
            Task::Park(tier, group) => Stepped::Parked(self.park(work, tier, group).await),
        }
    }
}

/// The next step that is ready, if any is. The set gives way when two steps have used up what a task may do at once, or have
/// woken themselves, as attempts do that have just begun: what is ready behind them is found when it is asked again.
async fn what_is_ready<F: Future>(steps: &mut FuturesUnordered<F>) -> Option<F::Output> {
    for _ in 0..LOOKS {
        yield_now().await;
        if let Some(next) = steps.next().now_or_never() {
            return next;
        }
    }
    None
}

/// Everything a message owed is with the broker.
struct Settled {
    proof: Confirmed,
    stays: Vec<StayKey>,
}

impl Settled {
    fn add(&mut self, key: StayKey, proof: &Confirmed) {
        self.proof = self.proof.clone().and(proof);
        self.stays.push(key);
    }
}

/// One thing to do for a message.
enum Task {
    Carry(Owed),
    Park(Tier, Vec<Later>),
}

/// One thing done for a message.
enum Stepped {
    Carried(Carried),
    Parked(Option<Vec<(StayKey, Confirmed)>>),
}

/// Deliveries of one message that are about to be parked together.
struct Waiting {
    /// `None` for small events: they gather only what is ready at the same moment.
    patience: Option<Duration>,
    until: Option<Instant>,
    deliveries: Vec<Later>,
}

impl Waiting {
    fn new(patience: Option<Duration>) -> Self {
        Self { patience, until: None, deliveries: Vec::new() }
    }

    fn add(&mut self, later: Later) {
        let gather = match self.patience {
            None => Duration::ZERO,
            Some(_) if later.told.is_some() => GATHER,
            Some(patience) => patience + GATHER,
        };
        let until = Instant::now() + gather;
        self.until = Some(self.until.map_or(until, |earlier| earlier.min(until)));
        self.deliveries.push(later);
    }

    /// What waits, by delay queue. One message for each, unless its list alone would be too large for a message.
    fn take(&mut self, event_bytes: usize) -> Vec<Task> {
        self.until = None;
        settle::by_delay_queue(std::mem::take(&mut self.deliveries), event_bytes)
            .into_iter()
            .map(|(tier, group)| Task::Park(tier, group))
            .collect()
    }
}

/// How old an event is: counted from when it was first seen.
fn age(work: &Work, now: Timestamp) -> Duration {
    work.first_seen.age_at(now)
}
