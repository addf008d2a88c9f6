//! What else is outside of the flow: the subscriptions it knows, and the receivers it sends to.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::time::sleep;

use super::{SUBSCRIPTIONS, World, subscription};
use crate::{
    domain::{Answer, Attempt, FailureKind, LaneKey, State, Subscription, SubscriptionDisabled, Timestamp},
    flow::{Courier, Directory, Sending},
    store::{Edits, Snapshot},
};

/// The subscriptions that a process knows. It has no store: what it learns, it forgets when it ends.
pub(super) struct Known {
    world: Arc<World>,
    snapshot: Mutex<Snapshot>,
}

impl Known {
    pub(super) fn new(world: &Arc<World>) -> Self {
        let snapshot = Snapshot::new((0..SUBSCRIPTIONS).map(subscription).collect());
        Self { world: Arc::clone(world), snapshot: Mutex::new(snapshot) }
    }
}

impl Directory for Known {
    fn current(&self) -> Arc<Snapshot> {
        let mut snapshot = self.snapshot.lock().unwrap();
        if self.world.roll(4) == 0 {
            // Their owner has enabled them again.
            *snapshot = Snapshot::new((0..SUBSCRIPTIONS).map(subscription).collect());
        }
        Arc::new(snapshot.clone())
    }

    fn disable_gone<'a>(&'a self, gone: &'a Subscription, _at: Timestamp) -> BoxFuture<'a, bool> {
        let mut snapshot = self.snapshot.lock().unwrap();
        let (place, current) = snapshot.placed(&gone.id).unwrap();
        let disabled = current.state == State::Enabled;
        let mut edits = Edits::default();
        edits.put(place, Arc::new(Subscription { state: State::Gone, ..gone.clone() }));
        *snapshot = snapshot.edited(edits).0;
        Box::pin(std::future::ready(disabled))
    }

    fn gone_was_told<'a>(&'a self, gone: &'a Subscription, at: Timestamp) -> BoxFuture<'a, ()> {
        let is_this = |told: &&SubscriptionDisabled| told.subscription == gone.id && told.at == at;
        if !self.world.broker().disabled.iter().any(|told| is_this(&told)) {
            self.world.untold.lock().unwrap().push(format!("{} at {at:?}", gone.id));
        }
        Box::pin(std::future::ready(()))
    }
}

/// Receivers that do anything, and remember every request.
pub(super) struct Script(pub(super) Arc<World>);

impl Courier for Script {
    type Place = ();

    fn login(&self, _: &Subscription) -> Option<LaneKey> {
        None
    }

    async fn place(&self, _: &Subscription) {}

    async fn send(&self, request: Sending<'_>, (): ()) -> Attempt {
        let again = !self.0.requests.lock().unwrap().insert((request.delivery, request.attempt));
        if again && !self.0.broker().may_repeat.contains(&request.delivery) {
            self.0.sent_twice.lock().unwrap().push(format!("{} attempt {}", request.delivery, request.attempt));
        }
        let latency = Duration::from_millis([1, 20, 300, 6_000][usize::try_from(self.0.roll(4)).unwrap()]);
        sleep(latency).await;
        let response =
            |status| Answer::Response { status, retry_after: None, body: Bytes::from_static(b"seen"), cut: false };
        let answer = match self.0.roll(12) {
            0..=5 => response(200),
            6..=7 => response(500),
            8 => response(410),
            9 => Answer::None { kind: FailureKind::Timeout, text: "late".to_owned() },
            10 => Answer::None { kind: FailureKind::Connect, text: "refused".to_owned() },
            // Without the hook: a panic of the story, not of the test.
            _ => std::panic::resume_unwind(Box::new("a defect")),
        };
        Attempt { started_at: request.at, latency, answer }
    }
}
