//! The consuming half of a service, and what it has in hand.

use std::sync::Arc;

use docrelay::{
    broker::{Acked, Confirmed, ConsumerSettings, Consumers, Inbound, Standing, codec},
    config::BrokerConfig,
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::support::broker::{DEADLINE, TestBroker};

/// More than any test has in hand.
const MOST: usize = 20_000;

/// Dropped, it ends like a process that is killed.
pub(super) struct Consuming {
    messages: mpsc::Receiver<Inbound>,
    stop: CancellationToken,
    stopped: CancellationToken,
    task: JoinSet<bool>,
}

impl Consuming {
    pub(super) fn start(broker: &TestBroker, publishing: watch::Receiver<Standing>) -> Self {
        Self::with(broker, broker.config.clone(), publishing)
    }

    /// The same with other settings of the broker.
    pub(super) fn with(broker: &TestBroker, config: BrokerConfig, publishing: watch::Receiver<Standing>) -> Self {
        let topology = Arc::new(broker.topology.clone());
        let settings = ConsumerSettings { broker: config, topology, largest_message: 1 << 20 };
        let consumers = Consumers::new(settings, publishing, TaskTracker::new());
        let (hand_over, messages) = mpsc::channel(MOST);
        let (stop, stopped) = (CancellationToken::new(), CancellationToken::new());
        let mut task = JoinSet::new();
        let stopping = stop.clone();
        let on_message = move |message| {
            assert!(!stopping.is_cancelled(), "nothing comes after the stop");
            hand_over.try_send(message).unwrap();
        };
        task.spawn(consumers.run(on_message, stop.clone(), stopped.clone()));
        Self { messages, stop, stopped, task }
    }

    pub(super) async fn next(&mut self) -> Inbound {
        timeout(DEADLINE, self.messages.recv()).await.expect("a message must come").unwrap()
    }

    /// The next so many.
    pub(super) async fn take(&mut self, count: usize) -> Vec<Inbound> {
        let mut taken = Vec::with_capacity(count);
        while taken.len() < count {
            taken.push(self.next().await);
        }
        taken
    }

    /// What is there and was not looked at.
    pub(super) fn more(&mut self) -> usize {
        self.messages.len()
    }

    /// From now on nothing may come; acks still go out.
    pub(super) fn stop(&self) {
        self.stop.cancel();
    }

    /// Stops it although something is in hand.
    pub(super) fn give_up(&self) {
        self.stop.cancel();
        self.stopped.cancel();
    }

    /// Acks whatever comes until `moment`, then stops it, acks the rest, and waits for its end. Says how many were acked, and
    /// whether the broker has taken all acks.
    pub(super) async fn ack_until(mut self, moment: Instant) -> (usize, bool) {
        let (mut acked, mut stopping) = (0, false);
        loop {
            tokio::select! {
                biased;
                () = sleep_until(moment), if !stopping => {
                    self.stop.cancel();
                    stopping = true;
                }
                message = timeout(DEADLINE, self.messages.recv()) => match message.expect("a message, or the end") {
                    Some(message) => {
                        assert_eq!(message.receipt.ack(Confirmed::nothing_owed()), Acked::Sent);
                        acked += 1;
                    }
                    None => return (acked, self.ended().await),
                },
            }
        }
    }

    /// Waits for its end. Says whether the broker has taken all acks.
    pub(super) async fn ended(mut self) -> bool {
        timeout(DEADLINE, self.task.join_next()).await.expect("it must end").unwrap().unwrap()
    }
}

/// The number of the event that a message carries.
pub(super) fn number(message: &Inbound) -> usize {
    let event = codec::decode_event(&message.body, u64::MAX, codec::Checked::Before).unwrap();
    event.id.as_str().strip_prefix("evt-").unwrap().parse().unwrap()
}
