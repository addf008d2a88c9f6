//! The broker of the story: its queues, and how it answers what is published.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use tokio::time::{Instant, sleep};
use tokio_util::task::TaskTracker;

use super::{SUBSCRIPTIONS, World, subscription};
use crate::{
    broker::{
        Confirmed, PublishError, Source, Standing,
        codec::{self, Checked, Notice},
        model::{Publications, Published},
        topology::Names,
    },
    domain::{DeliveryId, DocumentEvent, FailureKind, Outcome, ParkedEvent, SubscriptionDisabled, SubscriptionId},
};

/// Queues, and what was confirmed.
#[derive(Debug, Default)]
pub(super) struct ModelBroker {
    pub(super) ready: VecDeque<(Source, Bytes)>,
    pub(super) delayed: Vec<(Instant, Bytes)>,
    pub(super) unacked: BTreeMap<u64, (Source, Bytes)>,
    pub(super) tags: u64,
    /// Deliveries that were parked with this hop.
    parked: HashSet<(DeliveryId, u32)>,
    /// Those of them that may wait in two messages, because a confirm was lost.
    doubled: HashSet<(DeliveryId, u32)>,
    /// Messages that several events were parked in.
    pub(super) shared: usize,
    /// Deliveries that may be sent again: their messages were unacked when their process was killed, or one of two was still
    /// here when it ended. The register ends with its process.
    pub(super) may_repeat: HashSet<DeliveryId>,
    pub(super) finals: HashSet<DeliveryId>,
    /// What was told of subscriptions that were disabled.
    pub(super) disabled: Vec<SubscriptionDisabled>,
    /// Subscriptions with a delivery that a 410 ended.
    pub(super) gone: HashSet<SubscriptionId>,
}

impl ModelBroker {
    pub(super) fn publish(&mut self, event: &DocumentEvent) {
        self.ready.push_back((Source::Events, codec::encode_event(event).into()));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.delayed.is_empty() && self.unacked.is_empty()
    }

    fn store(&mut self, published: &Published, names: &Names) {
        let body = published.body();
        // A result that is refused for too long is kept with the dead letters: that is as good.
        if published.exchange() == names.results_exchange || published.routing_key() == "dead" {
            let result = match codec::decode_notice(published.kind(), &body).unwrap() {
                Notice::Result(result) => result,
                Notice::Disabled(disabled) => return self.disabled.push(disabled),
            };
            if result.outcome == Outcome::Rejected && result.error == Some(FailureKind::Gone.as_str()) {
                self.gone.insert(result.subscription.clone().unwrap());
            }
            if let (true, Some(delivery)) = (result.outcome.is_final(), result.delivery) {
                self.finals.insert(delivery);
            }
            return;
        }
        let wait = published.routing_key().strip_prefix("delay.").and_then(|wait| wait.strip_suffix('s'));
        let wait = Duration::from_secs(wait.expect("only delay queues in this story").parse().unwrap());
        self.shared += usize::from(codec::decode_parked(&body).unwrap().len() > 1);
        for (delivery, hop) in owed(Source::Due, &body) {
            if !self.parked.insert((delivery, hop)) {
                self.doubled.insert((delivery, hop));
            }
        }
        self.delayed.push((Instant::now() + wait, body));
    }

    /// A process has ended, and its register with it. Of what is here, and was parked twice, nobody knows any more whether the
    /// other copy has come.
    pub(super) fn forgotten_what_came(&mut self) {
        let Self { ready, delayed, unacked, doubled, may_repeat, .. } = self;
        assert!(unacked.is_empty(), "its channel is lost with it");
        let ready = ready.iter().map(|(source, body)| (*source, body));
        let here = ready.chain(delayed.iter().map(|(_, body)| (Source::Due, body)));
        let in_doubt = here.flat_map(|(source, body)| owed(source, body)).filter(|stay| doubled.contains(stay));
        may_repeat.extend(in_doubt.map(|(delivery, _)| delivery));
    }

    /// What a message owes must be confirmed before its ack comes.
    pub(super) fn acked(&mut self, tag: u64) {
        let (source, body) = self.unacked.remove(&tag).expect("acked once");
        for (delivery, hop) in owed(source, &body) {
            let answered = self.finals.contains(&delivery) || self.parked.contains(&(delivery, hop + 1));
            assert!(answered, "acked too early: {delivery} at hop {hop}");
        }
    }
}

/// What a message owes: deliveries, with their hops.
pub(super) fn owed(source: Source, body: &Bytes) -> Vec<(DeliveryId, u32)> {
    match source {
        Source::Events => {
            let event = codec::decode_event(body, u64::MAX, Checked::NotYet).unwrap();
            (0..SUBSCRIPTIONS).map(|n| (DeliveryId::of(&event.id, &subscription(n).id), 0)).collect()
        }
        Source::Due => {
            let owed = |parked: ParkedEvent| {
                let event = codec::decode_event(&parked.event, u64::MAX, Checked::NotYet).unwrap();
                parked.owed.into_iter().map(move |owed| (DeliveryId::of(&event.id, &owed.subscription), owed.hop))
            };
            codec::decode_parked(body).unwrap().into_iter().flat_map(owed).collect()
        }
    }
}

/// Answers whatever is published, in its order, the way brokers and networks do.
pub(super) async fn answer(world: Arc<World>, mut publications: Publications) {
    let answers = TaskTracker::new();
    while let Some(published) = publications.next().await {
        let mut open = world.standing.subscribe();
        open.wait_for(|standing| *standing != Standing::Blocked).await.unwrap();
        let world = Arc::clone(&world);
        let pause = Duration::from_millis([1, 5, 50, 2_000][usize::try_from(world.roll(4)).unwrap()]);
        match world.roll(10) {
            0 => {
                answers.spawn(async move {
                    sleep(pause).await;
                    published.answer(Err(PublishError::Refused { repeated: false }));
                });
            }
            fate => {
                world.broker().store(&published, &world.names);
                // The confirm was lost with its connection, and the message was published again: it is there twice.
                let twice = fate <= world.twice;
                if twice {
                    world.broker().store(&published, &world.names);
                }
                answers.spawn(async move {
                    sleep(pause).await;
                    published.answer(Ok(Confirmed::in_a_model(twice)));
                });
            }
        }
    }
}
