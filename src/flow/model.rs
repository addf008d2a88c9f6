//! The whole flow against a model of a broker and a scripted receiver, in virtual time: whatever happens, nothing is
//! acked before what it owes is confirmed, nothing is forgotten, and no request is made twice while the process lives.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use proptest::prelude::*;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Courier, Directory, Flow, FlowSettings, Sending, StopSignals};
use crate::{
    broker::{
        BrokerOutbox, Confirmed, Inbound, Properties, PublishError, Receipt, Source, Standing,
        codec::{self, Checked, Notice},
        model::{Publications, Published, publisher},
        topology::{Names, Topology},
    },
    config::BrokerConfig,
    domain::{
        Answer, Attempt, DeliveryId, DocumentEvent, FailureKind, Happening, HttpTarget, LaneKey, Outcome, ParkedEvent,
        RetryPolicy, Secret, State, Subscription, SubscriptionDisabled, SubscriptionId, Target, TargetUrl, Timestamp,
        now,
    },
    store::{Edits, Snapshot},
};

const UNIT: Duration = Duration::from_secs(1);
/// More than events share a message for.
const SUBSCRIPTIONS: usize = 6;
const MAX_ATTEMPTS: u32 = 4;

/// Something that happens, some time after the one before.
#[derive(Debug, Clone)]
enum Happens {
    /// Upstream publishes so many events at once.
    Publish(u32),
    /// The consuming connection breaks: everything unacked comes again.
    LoseChannel,
    /// The broker takes nothing for a while.
    Block(u8),
    /// The service stops in order, and another one is started.
    Restart,
    /// The service is killed, and another one is started.
    Kill,
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        8 => (1u32..5).prop_map(Happens::Publish),
        2 => Just(Happens::LoseChannel),
        1 => (1u8..20).prop_map(Happens::Block),
        1 => Just(Happens::Restart),
        1 => Just(Happens::Kill),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_acked_too_early_nothing_is_forgotten_and_nothing_is_sent_twice(
        seed in any::<u64>(),
        story in proptest::collection::vec((0u64..4_000, happens()), 1..30),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(play(seed, story));
    }
}

/// In stories that are likely to have it: some events wait together, whatever ends their process.
#[test]
fn events_that_share_a_parked_message_are_as_safe_as_those_that_wait_alone() {
    for ends in [Happens::Kill, Happens::LoseChannel, Happens::Restart] {
        let mut shared = 0;
        for seed in 0..8 {
            let burst = |pause| (pause, Happens::Publish(6));
            let story = vec![burst(0), burst(50), (400, ends.clone()), burst(900), burst(50), (1_800, ends.clone())];
            let builder = &mut tokio::runtime::Builder::new_current_thread();
            let runtime = builder.enable_time().start_paused(true).build().unwrap();
            shared += runtime.block_on(play(seed, story));
        }
        assert!(shared > 0, "{ends:?}: no two events shared a message");
    }
}

/// Gives how many messages with several events were parked.
async fn play(seed: u64, story: Vec<(u64, Happens)>) -> usize {
    let world = World::new(seed);
    let mut process = Process::start(&world);
    let mut published = 0;
    for (pause, happens) in story {
        process.work(Duration::from_millis(pause)).await;
        match happens {
            Happens::Publish(events) => {
                for number in published..published + events {
                    world.broker().publish(&event(number));
                }
                published += events;
            }
            Happens::LoseChannel => process.lose_channel(),
            Happens::Block(seconds) => {
                world.standing.send_replace(Standing::Blocked);
                process.work(Duration::from_secs(seconds.into())).await;
                world.standing.send_replace(Standing::Open);
            }
            Happens::Restart => process = process.restart().await,
            Happens::Kill => process = process.kill(),
        }
    }
    // Long enough for every schedule; then nothing may be left.
    for _ in 0..40 {
        process.work(Duration::from_secs(10)).await;
    }
    assert_eq!(*world.sent_twice.lock().unwrap(), Vec::<String>::new());
    assert_eq!(*world.untold.lock().unwrap(), Vec::<String>::new(), "said to be told of, and were not");
    let broker = world.broker();
    assert!(broker.is_empty(), "left behind: {:?}", *broker);
    let told: HashSet<_> = broker.disabled.iter().map(|disabled| disabled.subscription.clone()).collect();
    assert!(broker.gone.is_subset(&told), "a 410 ended a delivery, and upstream was not told of its subscription");
    for number in 0..published {
        for subscription in (0..SUBSCRIPTIONS).map(subscription) {
            let delivery = DeliveryId::of(&event(number).id, &subscription.id);
            assert!(broker.finals.contains(&delivery), "forgotten: event {number} for {}", subscription.id);
        }
    }
    broker.shared
}

/// What outlives a process: the broker, the receivers, and the dice.
struct World {
    broker: Mutex<ModelBroker>,
    /// Requests since the last kill: delivery and number of the attempt.
    requests: Mutex<HashSet<(DeliveryId, u32)>>,
    /// Not asserted where it happens: there the flow would take it for a panic of an attempt.
    sent_twice: Mutex<Vec<String>>,
    /// Times that a subscription was disabled of which the flow said, before it was so, that upstream was told. Not
    /// asserted where it happens, either.
    untold: Mutex<Vec<String>>,
    standing: watch::Sender<Standing>,
    dice: AtomicU64,
    names: Names,
}

impl World {
    fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self {
            broker: Mutex::default(),
            requests: Mutex::default(),
            sent_twice: Mutex::default(),
            untold: Mutex::default(),
            standing: watch::Sender::new(Standing::Open),
            dice: AtomicU64::new(seed),
            names: names(),
        })
    }

    fn broker(&self) -> MutexGuard<'_, ModelBroker> {
        self.broker.lock().unwrap()
    }

    /// Splitmix: the same seed tells the same story.
    fn roll(&self, sides: u64) -> u64 {
        let mut x = self.dice.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed).wrapping_add(0x9e37_79b9_7f4a_7c15);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ (x >> 31)) % sides
    }
}

/// Queues, and what was confirmed.
#[derive(Debug, Default)]
struct ModelBroker {
    ready: VecDeque<(Source, Bytes)>,
    delayed: Vec<(Instant, Bytes)>,
    unacked: BTreeMap<u64, (Source, Bytes)>,
    tags: u64,
    /// Deliveries that were parked with this hop.
    parked: HashSet<(DeliveryId, u32)>,
    /// Messages that several events were parked in.
    shared: usize,
    /// Deliveries that may wait in two messages, because a confirm was lost.
    doubled: HashSet<DeliveryId>,
    /// Deliveries that may be sent again: their messages were unacked when their process was killed, or they waited
    /// twice when it stopped. The register ends with its process.
    may_repeat: HashSet<DeliveryId>,
    finals: HashSet<DeliveryId>,
    /// What was told of subscriptions that were disabled.
    disabled: Vec<SubscriptionDisabled>,
    /// Subscriptions with a delivery that a 410 ended.
    gone: HashSet<SubscriptionId>,
}

impl ModelBroker {
    fn publish(&mut self, event: &DocumentEvent) {
        self.ready.push_back((Source::Events, codec::encode_event(event).into()));
    }

    fn is_empty(&self) -> bool {
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
                self.doubled.insert(delivery);
            }
        }
        self.delayed.push((Instant::now() + wait, body));
    }

    /// What a message owes must be confirmed before its ack comes.
    fn acked(&mut self, tag: u64) {
        let (source, body) = self.unacked.remove(&tag).expect("acked once");
        for (delivery, hop) in owed(source, &body) {
            let answered = self.finals.contains(&delivery) || self.parked.contains(&(delivery, hop + 1));
            assert!(answered, "acked too early: {delivery} at hop {hop}");
        }
    }
}

/// What a message owes: deliveries, with their hops.
fn owed(source: Source, body: &Bytes) -> Vec<(DeliveryId, u32)> {
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

/// A process: the flow, its channel to the broker, and its publisher.
struct Process {
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
    fn start(world: &Arc<World>) -> Self {
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
    async fn work(&mut self, time: Duration) {
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

    fn lose_channel(&mut self) {
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
    async fn restart(mut self) -> Self {
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
        {
            let mut broker = self.world.broker();
            let doubled = broker.doubled.clone();
            broker.may_repeat.extend(doubled);
        }
        Self::start(&self.world)
    }

    fn kill(mut self) -> Self {
        self.killed.cancel();
        // What was unacked may be sent again, and nothing else.
        {
            let mut broker = self.world.broker();
            let unacked: Vec<_> = broker.unacked.values().flat_map(|(source, body)| owed(*source, body)).collect();
            broker.may_repeat.extend(unacked.into_iter().map(|(delivery, _)| delivery));
        }
        self.lose_channel();
        Self::start(&self.world)
    }
}

/// The subscriptions that a process knows. It has no store: what it learns, it forgets when it ends.
struct Known {
    world: Arc<World>,
    snapshot: Mutex<Snapshot>,
}

impl Known {
    fn new(world: &Arc<World>) -> Self {
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

/// Answers whatever is published, in its order, the way brokers and networks do.
async fn answer(world: Arc<World>, mut publications: Publications) {
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
                let twice = fate == 1;
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

/// Receivers that do anything, and remember every request.
struct Script(Arc<World>);

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

fn event(number: u32) -> DocumentEvent {
    DocumentEvent {
        id: format!("event-{number}").parse().unwrap(),
        occurred_at: Some(now()),
        organization: "acme".parse().unwrap(),
        project: None,
        inbox: None,
        document: "document".parse().unwrap(),
        metadata: BTreeMap::new(),
        happening: Happening::Text { text: "x".repeat(if number.is_multiple_of(4) { 100_000 } else { 10 }) },
    }
}

fn subscription(n: usize) -> Subscription {
    let organization = "acme".parse().unwrap();
    // Two of them share a target, and so a lane.
    let url = TargetUrl::parse(&format!("http://host{}.example/", n / 2)).unwrap();
    let target = Target::Http(HttpTarget::post(url, Duration::from_secs(15)));
    Subscription {
        id: format!("subscription-{n}").parse().unwrap(),
        retry: RetryPolicy { max_attempts: MAX_ATTEMPTS, ..RetryPolicy::shipped() },
        max_in_flight: 2,
        ..Subscription::shipped(organization, target)
    }
}

pub(super) fn names() -> Names {
    let config = BrokerConfig {
        url: Secret::default(),
        ca_file: None,
        declare: crate::config::Declare::Create,
        queue_prefix: "docrelay".to_owned(),
        events_exchange: "documents".to_owned(),
        events_binding: "#".to_owned(),
        results_exchange: "documents.results".to_owned(),
        prefetch: 10,
        window_bytes: 1_000_000,
        delay_unit: UNIT,
    };
    Topology::new(&config).names
}
