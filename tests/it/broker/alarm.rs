//! A broker that takes no messages for a while: its memory or its disk is full.

use std::time::Duration;

use docrelay::{
    broker::{Acked, Confirmed, Standing},
    domain::Outcome,
};
use lapin::types::FieldTable;
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    Running, assert_no_attempt_is_repeated,
    confirms::{Publishing, delivered},
    consuming::Consuming,
    different_results, number_of, publish, subscription,
};
use crate::support::{
    broker::{DEADLINE, TestBroker, eventually},
    node::Node,
    receiver::{Receiver, Reply},
    scrape::Scraped,
};

/// What the broker has too little of.
#[derive(Clone, Copy)]
enum Alarm {
    Memory,
    Disk,
}

impl Alarm {
    async fn raise(self, node: &Node) {
        match self {
            Self::Memory => node.ctl(&["set_vm_memory_high_watermark", "0.0001"]).await,
            Self::Disk => node.ctl(&["set_disk_free_limit", "900000GB"]).await,
        };
    }

    async fn lift(self, node: &Node) {
        match self {
            Self::Memory => node.ctl(&["set_vm_memory_high_watermark", "0.8"]).await,
            Self::Disk => node.ctl(&["set_disk_free_limit", "1MB"]).await,
        };
    }
}

#[tokio::test]
async fn during_an_alarm_no_attempt_starts_and_after_it_everything_is_delivered_once() {
    nothing_starts_during(Alarm::Memory).await;
}

#[tokio::test]
async fn a_broker_whose_disk_is_full_is_waited_for_in_the_same_way() {
    nothing_starts_during(Alarm::Disk).await;
}

async fn nothing_starts_during(alarm: Alarm) {
    const COUNT: usize = 600;
    let node = Node::start().await;
    let broker = TestBroker::on(&node).await;
    broker.declare().await;
    let results = broker.bound(&broker.config.results_exchange, &["delivered.#"], FieldTable::default()).await;
    let receiver = Receiver::scripted(|_| Reply::ok().after(Duration::from_millis(50))).await;
    let mut subscription = subscription("acme", &receiver.url("/"));
    subscription["max_in_flight"] = 4.into();
    let service = Running::start(&broker, &[subscription], &[]).await;
    service.until_ready().await;
    publish(&broker, "acme", 0..COUNT, 10).await;
    receiver.wait_for(20, DEADLINE).await;

    alarm.raise(&node).await;
    // The service publishes all the time: it hears at once.
    service.until_unready(&["publishing: blocked", "consuming: yes"]).await;
    // What was in flight ends; then nothing happens, for as long as it takes.
    sleep(Duration::from_millis(500)).await;
    let begun = receiver.count();
    assert!(begun < COUNT, "the alarm came too late to show anything");
    sleep(Duration::from_secs(4)).await;
    assert_eq!(receiver.count(), begun, "an attempt whose result cannot be published");
    assert!(service.is_alive().await);
    assert_eq!(blocked(&service).await, Some(1.0));

    alarm.lift(&node).await;
    service.until_ready().await;
    assert_eq!(blocked(&service).await, Some(0.0));
    let told = different_results(&broker, &results, COUNT).await;
    assert!(told.iter().all(|result| result.outcome == Outcome::Delivered && result.attempt == 1));
    let requests = receiver.recorded();
    assert_no_attempt_is_repeated(&requests);
    assert_eq!(requests.len(), COUNT);
    service.stop().await;
}

/// What `/metrics` says of it; the connections are there all the time.
async fn blocked(service: &Running) -> Option<f64> {
    let scraped = Scraped::plain(service.service.admin).await;
    for link in ["publishing", "consuming"] {
        assert_eq!(scraped.value("docrelay_broker_connected", &[("connection", link)]), Some(1.0), "{link}");
    }
    scraped.value("docrelay_broker_blocked", &[])
}

#[tokio::test]
async fn while_publishing_is_blocked_acks_still_reach_the_broker() {
    const COUNT: usize = 20;
    let node = Node::start().await;
    let broker = TestBroker::on(&node).await;
    broker.declare().await;
    publish(&broker, "acme", 0..COUNT, 10).await;
    let mut publishing = Publishing::start(&broker, broker.config.clone()).await;
    let (mut tasks, mut consuming) = (JoinSet::new(), Consuming::start(&broker, publishing.standing.clone()));
    let messages = consuming.take(COUNT).await;

    Alarm::Memory.raise(&node).await;
    // The broker blocks a connection when it publishes.
    publishing.spawn(&mut tasks, delivered("acme", 0));
    let blocked = publishing.standing.wait_for(|standing| *standing == Standing::Blocked);
    timeout(DEADLINE, blocked).await.unwrap().unwrap();
    for message in messages {
        assert_eq!(message.receipt.ack(Confirmed::nothing_owed()), Acked::Sent);
    }
    eventually("the acks", || async {
        let told = node.ctl(&["list_queues", "-q", "--no-table-headers", "name", "messages"]).await;
        (number_of(&broker.topology.names.events_queue, &told) == 0).then_some(())
    })
    .await;
    assert_eq!(*publishing.standing.borrow(), Standing::Blocked);
    assert!(tasks.try_join_next().is_none(), "the result waits");

    Alarm::Memory.lift(&node).await;
    let confirmed = timeout(DEADLINE, tasks.join_next()).await.unwrap().unwrap().unwrap().unwrap();
    assert!(!confirmed.may_be_repeated(), "a blocked publish is waited for, not repeated");
}
