//! The process of the story: the flow with its channel and its publisher, as the service runs, stops and dies.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    UNIT, World,
    broker::{answer, owed},
    outside::{Known, Script},
};
use crate::{
    broker::{BrokerOutbox, Inbound, Properties, Receipt, Source, Standing, model::publisher},
    flow::{Flow, FlowSettings, StopSignals},
};

/// A process: the flow, its channel to the broker, and its publisher.
pub(super) struct Process {
    world: Arc<World>,
    flow: Arc<Flow<Script>>,
    messages: TaskTracker,
    stop: StopSignals,
    killed: CancellationToken,
    channel: Channel,
}

struct Channel {
    open: CancellationToken,
    acks: mpsc::Sender<u64>,
    acked: mpsc::Receiver<u64>,
}

impl Channel {
    fn new() -> Self {
        let (acks, acked) = mpsc::channel(10_000);
        Self { open: CancellationToken::new(), acks, acked }
    }
}

impl Process {
    pub(super) fn start(world: &Arc<World>) -> Self {
        let (publisher, publications) = publisher(world.standing.subscribe());
        let (messages, stop, killed) = (TaskTracker::new(), StopSignals::default(), CancellationToken::new());
        let settings = FlowSettings {
            max_event_bytes: 1_000_000,
            delay_unit: UNIT,
            max_age: Duration::from_hours(24),
            window: 8,
            slow_bytes: 64 << 20,
        };
        let flow = Flow::new(
            BrokerOutbox::new(publisher, world.names.clone()),
            Script(Arc::clone(world)),
            Arc::new(Known::new(world)),
            world.standing.subscribe(),
            settings,
            stop.clone(),
        );
        let answering = answer(Arc::clone(world), publications);
        TaskTracker::new().spawn(killed.clone().run_until_cancelled_owned(answering));
        Self { world: Arc::clone(world), flow: Arc::new(flow), messages, stop, killed, channel: Channel::new() }
    }

    /// Lets time pass; messages come in, acks go out.
    pub(super) async fn work(&mut self, time: Duration) {
        let end = Instant::now() + time;
        loop {
            self.deliver();
            self.take_acks();
            if Instant::now() >= end {
                return;
            }
            sleep(Duration::from_millis(50).min(end - Instant::now())).await;
        }
    }

    fn deliver(&mut self) {
        let mut broker = self.world.broker();
        let now = Instant::now();
        let due: Vec<_> = broker.delayed.extract_if(.., |(at, _)| *at <= now).collect();
        broker.ready.extend(due.into_iter().map(|(_, body)| (Source::Due, body)));
        if self.channel.open.is_cancelled() {
            // A receipt was dropped: that closes the channel.
            drop(broker);
            self.lose_channel();
            return;
        }
        while broker.unacked.len() < 6
            && let Some((source, body)) = broker.ready.pop_front()
        {
            broker.tags += 1;
            let tag = broker.tags;
            broker.unacked.insert(tag, (source, body.clone()));
            let (acks, open) = (self.channel.acks.clone(), self.channel.open.clone());
            let receipt = Receipt::new(tag, body.len() as u64, Arc::default(), acks, open);
            let message = Inbound { source, body, properties: Properties::default(), receipt };
            let (flow, killed) = (Arc::clone(&self.flow), self.killed.clone());
            self.messages.spawn(async move { killed.run_until_cancelled(flow.on_message(message)).await });
        }
    }

    fn take_acks(&mut self) {
        while let Ok(tag) = self.channel.acked.try_recv() {
            self.world.broker().acked(tag);
        }
    }

    pub(super) fn lose_channel(&mut self) {
        // Some acks were written and never arrived.
        let arrived = self.world.roll(2) == 0;
        if arrived {
            self.take_acks();
        }
        self.channel.open.cancel();
        self.channel = Channel::new();
        let mut broker = self.world.broker();
        let back = std::mem::take(&mut broker.unacked);
        for (_, message) in back.into_iter().rev() {
            broker.ready.push_front(message);
        }
    }

    /// As the service does it: nothing new begins, what is in flight has a while, the rest is cut off and parked.
    pub(super) async fn restart(mut self) -> Self {
        self.world.standing.send_replace(Standing::Open);
        self.stop.draining.cancel();
        self.messages.close();
        let grace = Instant::now() + Duration::from_secs(3);
        while !self.messages.is_empty() && Instant::now() < grace {
            sleep(Duration::from_millis(50)).await;
            self.take_acks();
        }
        self.stop.abandon.cancel();
        self.messages.wait().await;
        self.take_acks();
        self.lose_channel();
        self.world.broker().forgotten_what_came();
        Self::start(&self.world)
    }

    pub(super) fn kill(mut self) -> Self {
        self.killed.cancel();
        // What was unacked may be sent again, and what waited twice; nothing else.
        {
            let mut broker = self.world.broker();
            let unacked: Vec<_> = broker.unacked.values().flat_map(|(source, body)| owed(*source, body)).collect();
            broker.may_repeat.extend(unacked.into_iter().map(|(delivery, _)| delivery));
        }
        self.lose_channel();
        self.world.broker().forgotten_what_came();
        Self::start(&self.world)
    }
}
