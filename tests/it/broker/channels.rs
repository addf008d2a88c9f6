//! What a service opens on the broker. Every channel makes every frame of its connection slower.

use std::time::Duration;

use super::{Running, publish, subscription};
use crate::support::{
    broker::{DEADLINE, TestBroker},
    node::Node,
    receiver::{Receiver, Reply},
};

#[tokio::test]
async fn two_hundred_targets_in_use_take_two_connections_and_four_channels() {
    const TARGETS: usize = 200;
    let node = Node::start().await;
    let broker = TestBroker::on(&node).await;
    broker.declare().await;
    let receiver = Receiver::scripted(|_| Reply::ok().after(Duration::from_secs(30))).await;
    // A lane of its own for each organization.
    let organizations: Vec<_> = (0..TARGETS).map(|number| format!("org-{number}")).collect();
    let subscriptions: Vec<_> = organizations.iter().map(|it| subscription(it, &receiver.url("/"))).collect();
    let service = Running::start(&broker, &subscriptions, &[]).await;
    service.until_ready().await;
    for (number, organization) in organizations.iter().enumerate() {
        publish(&broker, organization, number..number + 1, 10).await;
    }
    receiver.wait_for(TARGETS, DEADLINE).await;

    // While all of them are in flight.
    let told = node.ctl(&["list_connections", "-q", "--no-table-headers", "channels", "client_properties"]).await;
    let mut ours: Vec<_> = told
        .lines()
        .filter_map(|line| {
            let (channels, properties) = line.split_once('\t').unwrap();
            let (_, name) = properties.split_once("\"docrelay ")?;
            Some((name.split_once('"').unwrap().0, channels))
        })
        .collect();
    ours.sort_unstable();
    // Four for the moment in which the queues are counted.
    assert!(matches!(ours[..], [("consuming", "3" | "4"), ("publishing", "1")]), "{told}");
    service.stop().await;
}
