//! What does not finish keeps its channel, and nothing else: the queue is consumed on another one.

use std::{collections::BTreeSet, time::Duration};

use docrelay::{
    broker::{Acked, Confirmed, Inbound, Standing},
    config::BrokerConfig,
    domain::Secret,
};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use super::{
    consuming::{Consuming, number},
    number_of, publish, until_unacknowledged,
};
use crate::support::{
    broker::{TestBroker, ctl, eventually},
    node::Node,
    proxy::Proxy,
};

/// Enough to pin a channel whose first message does not finish, several times over.
const OTHERS: usize = 2_000;

fn open() -> watch::Receiver<Standing> {
    watch::Sender::new(Standing::Open).subscribe()
}

#[track_caller]
fn ack(message: Inbound) {
    assert_eq!(message.receipt.ack(Confirmed::nothing_owed()), Acked::Sent);
}

/// Publishes others behind a message in hand, and finishes each as it comes.
async fn finish_others(broker: &TestBroker, consuming: &mut Consuming, numbers: std::ops::Range<usize>) {
    let count = numbers.len();
    publish(broker, "acme", numbers, 10).await;
    for _ in 0..count {
        ack(consuming.next().await);
    }
}

/// A message that does not finish, and others behind it until its channel is left.
async fn held_and_left(broker: &TestBroker, proxy: &Proxy, consuming: &mut Consuming) -> Inbound {
    publish(broker, "acme", 0..1, 10).await;
    let held = consuming.next().await;
    let mut next = 1;
    while proxy.acks().by_channel().len() < 2 {
        finish_others(broker, consuming, next..next + OTHERS).await;
        next += OTHERS;
        assert!(next < 10 * OTHERS, "the channel is never left");
    }
    held
}

fn behind(proxy: &Proxy, broker: &TestBroker) -> BrokerConfig {
    BrokerConfig { url: Secret::new(proxy.url(broker.config.url.reveal())), ..broker.config.clone() }
}

/// How many channels the consuming connection has on a node of the test's own, besides that of its presence.
async fn channels(node: &Node) -> usize {
    let told = node.ctl(&["list_connections", "-q", "--no-table-headers", "channels", "client_properties"]).await;
    let ours = told.lines().find(|line| line.contains("\"docrelay consuming\""));
    ours.map_or(0, |line| line.split_once('\t').unwrap().0.parse::<usize>().unwrap().saturating_sub(1))
}

async fn until_channels(node: &Node, count: usize) {
    eventually(&format!("{count} channels"), || async { (channels(node).await == count).then_some(()) }).await;
}

/// Less than it may take: a machine that stands still for longer shows nothing.
const SOON: Duration = Duration::from_millis(120);

#[tokio::test]
async fn what_is_finished_waits_for_a_straggler_that_is_finished_soon_and_is_acked_with_it() {
    const FEW: usize = 4;
    let broker = TestBroker::declared().await;
    let proxy = Proxy::before(broker.config.url.reveal()).await;
    let mut consuming = Consuming::with(&broker, behind(&proxy, &broker), open());
    for round in 0.. {
        assert!(round < 50, "the machine stands still all the time");
        let (before, first) = (proxy.acks().all().len(), round * 100);
        publish(&broker, "acme", first..first + 1 + FEW, 10).await;
        let mut messages = consuming.take(1 + FEW).await.into_iter();
        let straggler = messages.next().unwrap();
        let begun = Instant::now();
        messages.for_each(ack);
        sleep(SOON / 4).await;
        ack(straggler);
        let acks = eventually("the straggler's ack", || async {
            let acks = proxy.acks().all().split_off(before);
            acks.last().is_some_and(|ack| ack.multiple).then_some(acks)
        })
        .await;
        let took = begun.elapsed();
        until_unacknowledged(&broker.topology.names.events_queue, 0).await;
        if took < SOON {
            assert!(acks.iter().all(|ack| ack.multiple), "after {took:?}: {acks:?}");
            break;
        }
    }
    consuming.stop();
    assert!(consuming.ended().await);
}

#[tokio::test]
async fn what_does_not_finish_is_left_with_its_channel_and_the_next_one_is_as_if_it_had_never_been() {
    const WINDOW: usize = 500;
    let node = Node::start().await;
    let broker = TestBroker::on(&node).await;
    broker.declare().await;
    let proxy = Proxy::before(node.url()).await;
    let mut consuming = Consuming::with(&broker, behind(&proxy, &broker), open());
    let held = held_and_left(&broker, &proxy, &mut consuming).await;
    until_left_in(&node, &broker, 1).await;
    until_channels(&node, 3).await;

    // On the old channel acks were written alone; on the new one they are written together.
    let before = proxy.acks().all();
    let left = before[0].channel;
    finish_others(&broker, &mut consuming, 100_000..100_000 + OTHERS).await;
    let acks = &proxy.acks().all()[before.len()..];
    assert!(acks.iter().all(|ack| ack.channel != left && ack.multiple), "{acks:?}");
    assert!(!acks.is_empty());
    let (alone, _) = proxy.acks().by_channel()[&left];
    assert!(alone >= 128, "{alone}");

    // The whole prefetch is there for others.
    publish(&broker, "acme", 200_000..200_000 + WINDOW, 10).await;
    let messages = consuming.take(WINDOW).await;
    messages.into_iter().for_each(ack);
    until_left_in(&node, &broker, 1).await;

    // Finished at last, it is acked on its own channel, and that is closed.
    assert!(!held.receipt.is_stale());
    ack(held);
    until_left_in(&node, &broker, 0).await;
    until_channels(&node, 2).await;
    assert_eq!(consuming.more(), 0, "nothing came twice");
    consuming.stop();
    assert!(consuming.ended().await);
}

/// Waits until the broker has so many events, with consumers or without.
async fn until_left_in(node: &Node, broker: &TestBroker, count: usize) {
    eventually(&format!("{count} events"), || async {
        let told = node.ctl(&["list_queues", "-q", "--no-table-headers", "name", "messages"]).await;
        (number_of(&broker.topology.names.events_queue, &told) == count).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_stop_takes_nothing_more_and_waits_for_the_acks_of_channels_that_were_left() {
    let broker = TestBroker::declared().await;
    let events = &broker.topology.names.events_queue;
    let proxy = Proxy::before(broker.config.url.reveal()).await;
    let mut consuming = Consuming::with(&broker, behind(&proxy, &broker), open());
    let held = held_and_left(&broker, &proxy, &mut consuming).await;
    publish(&broker, "acme", 100_000..100_002, 10).await;
    let [early, late] = <[_; 2]>::try_from(consuming.take(2).await).unwrap();
    assert_eq!(consumers(events).await, 1);
    consuming.stop();
    eventually("no consumer", || async { (consumers(events).await == 0).then_some(()) }).await;
    publish(&broker, "acme", 200_000..200_010, 10).await;
    ack(early);
    until_unacknowledged(events, 2).await;
    ack(held);
    until_unacknowledged(events, 1).await;
    ack(late);
    assert_eq!(consuming.more(), 0, "nothing comes after the stop");
    assert!(consuming.ended().await, "the broker has taken every ack");
    until_unacknowledged(events, 0).await;
    assert_eq!(broker.ready(events).await, 10, "nothing was given back");
}

#[tokio::test]
async fn a_stop_that_waits_no_longer_gives_back_what_the_channels_that_were_left_have() {
    let broker = TestBroker::declared().await;
    let events = &broker.topology.names.events_queue;
    let proxy = Proxy::before(broker.config.url.reveal()).await;
    let mut consuming = Consuming::with(&broker, behind(&proxy, &broker), open());
    let held = held_and_left(&broker, &proxy, &mut consuming).await;
    until_unacknowledged(events, 1).await;
    consuming.give_up();
    assert!(!consuming.ended().await, "not every ack could be taken");
    held.receipt.let_go();
    broker.wait_for(events, 1).await;
}

/// How many consumers take messages of a queue on the test broker. Those that were cancelled are not among them.
async fn consumers(queue: &str) -> usize {
    let told = ctl(&["list_consumers", "-q", "--no-table-headers", "queue_name"]).await;
    told.lines().filter(|line| *line == queue).count()
}

#[tokio::test]
async fn a_channel_that_was_left_and_fails_ends_the_session_and_all_that_was_unfinished_comes_again() {
    let broker = TestBroker::declared().await;
    let events = &broker.topology.names.events_queue;
    let proxy = Proxy::before(broker.config.url.reveal()).await;
    let mut consuming = Consuming::with(&broker, behind(&proxy, &broker), open());
    let held = held_and_left(&broker, &proxy, &mut consuming).await;
    publish(&broker, "acme", 100_000..100_003, 10).await;
    let others = consuming.take(3).await;
    until_unacknowledged(events, 4).await;
    // A message that is dropped unanswered closes its channel.
    drop(held);
    let again: BTreeSet<_> = consuming
        .take(4)
        .await
        .into_iter()
        .map(|message| {
            let number = number(&message);
            ack(message);
            number
        })
        .collect();
    assert_eq!(again, [0, 100_000, 100_001, 100_002].into());
    for other in others {
        assert_eq!(other.receipt.ack(Confirmed::nothing_owed()), Acked::Stale);
    }
    until_unacknowledged(events, 0).await;
    assert_eq!((broker.ready(events).await, consuming.more()), (0, 0));
}

#[tokio::test]
async fn a_broker_that_is_killed_gives_again_what_every_channel_had_and_nothing_else() {
    let node = Node::start().await;
    let mut broker = TestBroker::on(&node).await;
    broker.declare().await;
    let proxy = Proxy::before(node.url()).await;
    let mut consuming = Consuming::with(&broker, behind(&proxy, &broker), open());
    let held = held_and_left(&broker, &proxy, &mut consuming).await;
    publish(&broker, "acme", 100_000..100_003, 10).await;
    let others = consuming.take(3).await;
    until_left_in(&node, &broker, 4).await;
    // What a node of RabbitMQ 3.10 was told in the last moment before a SIGKILL is another test's business.
    sleep(Duration::from_secs(2)).await;
    node.kill().await;
    for message in [held].into_iter().chain(others) {
        eventually("a stale receipt", || async { message.receipt.is_stale().then_some(()) }).await;
        assert_eq!(message.receipt.ack(Confirmed::nothing_owed()), Acked::Stale);
    }
    node.restart().await;
    broker.reconnect().await;
    let again = consuming.take(4).await;
    assert_eq!(again.iter().map(number).collect::<BTreeSet<_>>(), [0, 100_000, 100_001, 100_002].into());
    again.into_iter().for_each(ack);
    until_left_in(&node, &broker, 0).await;
    assert_eq!(consuming.more(), 0);
}

#[tokio::test]
async fn however_many_hang_a_queue_has_nine_channels_and_nine_windows_in_hand() {
    const PREFETCH: u16 = 10;
    const MOST: usize = 9;
    const IN_HAND: usize = MOST * PREFETCH as usize;
    let node = Node::start().await;
    let broker = TestBroker::on(&node).await;
    broker.declare().await;
    publish(&broker, "acme", 0..IN_HAND + 30, 10).await;
    let config = BrokerConfig { prefetch: PREFETCH, ..broker.config.clone() };
    let mut consuming = Consuming::with(&broker, config, open());
    // Ten that hang are not the end: there are other channels, as far as that goes.
    let hanging = consuming.take(IN_HAND).await;
    until_channels(&node, MOST + 1).await;
    // Longer than it takes for a message to be silent.
    sleep(Duration::from_secs(3)).await;
    assert_eq!((consuming.more(), channels(&node).await), (0, MOST + 1));
    hanging.into_iter().for_each(ack);
    consuming.take(30).await.into_iter().for_each(ack);
    until_left_in(&node, &broker, 0).await;
    until_channels(&node, 2).await;
    assert_eq!(consuming.more(), 0);
}

#[tokio::test]
async fn while_publishing_is_blocked_no_channel_is_left_and_what_is_in_hand_stays_within_one_window() {
    const PREFETCH: u16 = 10;
    let broker = TestBroker::declared().await;
    publish(&broker, "acme", 0..30, 10).await;
    let standing = watch::Sender::new(Standing::Open);
    let config = BrokerConfig { prefetch: PREFETCH, ..broker.config.clone() };
    let mut consuming = Consuming::with(&broker, config, standing.subscribe());
    let first = consuming.take(PREFETCH.into()).await;
    standing.send_replace(Standing::Blocked);
    // Longer than it takes for a message to be silent.
    sleep(Duration::from_secs(3)).await;
    assert_eq!(consuming.more(), 0);
    standing.send_replace(Standing::Open);
    let second = consuming.take(PREFETCH.into()).await;
    first.into_iter().chain(second).for_each(ack);
    consuming.take(10).await.into_iter().for_each(ack);
    until_unacknowledged(&broker.topology.names.events_queue, 0).await;
}
