//! The broker goes away in the middle of a load and comes back: nothing is lost, and nothing is requested twice.

use std::time::Duration;

use super::{assert_all_delivered, assert_no_repeats, events};
use crate::support::{
    node::Node,
    receiver::{Receiver, Reply},
    service::{GENEROUS, Surroundings, subscription},
};

const EVENTS: usize = 3_000;

/// How the broker goes away.
#[derive(Clone, Copy)]
enum Loss {
    InOrder,
    Killed,
}

async fn lose_the_broker_under_load(loss: Loss) {
    let node = Node::start().await;
    let surroundings = Surroundings::on(node.url(), &[]).await;
    // Some attempts fail, so that there are waits and retries when the broker goes; none of them is the last.
    let receivers = [
        Receiver::scripted(|_| Reply::ok().after(Duration::from_millis(20))).await,
        Receiver::scripted(|request| {
            let failing = request.attempt() == 1 && request.index % 5 == 0;
            Reply::status(if failing { 500 } else { 200 }).after(Duration::from_millis(20))
        })
        .await,
    ];
    surroundings
        .subscribe(&[subscription("good", &receivers[0].url("/")), subscription("flaky", &receivers[1].url("/"))]);
    // What was declared and published just before a broker is killed is another test's business.
    surroundings.publish_all(&events(EVENTS)).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let service = surroundings.start().await;
    receivers[0].wait_for(EVENTS / 4, GENEROUS).await;
    match loss {
        Loss::InOrder => node.stop().await,
        Loss::Killed => node.kill().await,
    }
    let at_the_loss = receivers[0].count();
    assert!(at_the_loss < EVENTS, "the load was over before the broker went");
    node.restart().await;
    // Less than the three minutes after which a broker tries dead letters again by default: who waits for that has lost them.
    surroundings.results.wait_for_finals(2 * EVENTS, 2 * GENEROUS).await;
    assert_all_delivered(&surroundings.results, 2 * EVENTS);
    assert_no_repeats(&receivers);
    surroundings.end(service, &[(&receivers[0], EVENTS)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_restarted_under_load_costs_nothing_and_repeats_nothing() {
    lose_the_broker_under_load(Loss::InOrder).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_killed_under_load_costs_nothing_and_repeats_nothing() {
    lose_the_broker_under_load(Loss::Killed).await;
}
