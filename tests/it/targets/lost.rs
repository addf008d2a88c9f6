//! The broker of AMQP targets goes away and comes back.

use std::{collections::BTreeSet, time::Duration};

use docrelay::domain::{Answer, FailureKind};

use super::{Publishing, Subscriber, delivery, failure, message_id, send_body, to, within};
use crate::support::{
    broker::{eventually, url},
    node::Node,
    proxy::Proxy,
};

#[tokio::test]
async fn a_connection_that_breaks_fails_what_was_under_way_and_the_next_one_serves_again() {
    const EACH: usize = 100;
    let mut subscriber = Subscriber::new().await;
    let exchange = subscriber.exchange("erp").await;
    let queue = subscriber.queue(&exchange, "#").await;
    let proxy = Proxy::before(&url()).await;
    let publishing = Publishing::new(&proxy.url(&url()), &[&exchange]);
    let subscription = to(&exchange, "");
    let (mut taken, mut arrived) = (BTreeSet::new(), BTreeSet::new());
    for round in 1..=5 {
        eventually("a connection", || async {
            (publishing.send(&subscription, 0).await == Answer::Taken).then_some(())
        })
        .await;
        arrived.extend(subscriber.all(&queue).await.iter().map(message_id));
        // Some of the answers are held back until the connection breaks.
        proxy.mute();
        let breaking = async {
            arrived.insert(message_id(&subscriber.next(&queue).await));
            proxy.cut();
            proxy.pass();
        };
        let (answers, ()) = tokio::join!(publishing.send_all(&subscription, EACH), breaking);
        for (number, answer) in answers.iter().enumerate() {
            match answer {
                Answer::Taken => drop(taken.insert(delivery(&subscription, number).to_string())),
                Answer::None { kind: FailureKind::Broker, .. } => {}
                other => panic!("round {round}: {other:?}"),
            }
        }
        assert!(answers.iter().any(|answer| *answer != Answer::Taken), "round {round}: something was under way");
    }
    eventually("everything taken", || async {
        let answers = publishing.send_all(&subscription, EACH).await;
        answers.iter().all(|answer| *answer == Answer::Taken).then_some(())
    })
    .await;
    taken.extend((0..EACH).map(|number| delivery(&subscription, number).to_string()));
    arrived.extend(subscriber.all(&queue).await.iter().map(message_id));
    assert_eq!(arrived, taken, "what counts as taken is there");
    publishing.end().await;
    subscriber.end().await;
}

#[tokio::test]
async fn while_the_broker_is_away_attempts_fail_at_once_and_tell_no_secret() {
    let mut subscriber = Subscriber::new().await;
    let exchange = subscriber.exchange("erp").await;
    let _queue = subscriber.queue(&exchange, "#").await;
    let proxy = Proxy::before(&url()).await;
    let publishing = Publishing::new(&proxy.url(&url()), &[&exchange]);
    proxy.refuse();
    let subscription = to(&exchange, "");
    for _ in 0..20 {
        let answer = publishing.send(&subscription, 1).await;
        assert!(matches!(answer, Answer::None { kind: FailureKind::Broker, .. }), "{answer:?}");
        assert!(!failure(&answer).1.contains("guest"), "{answer:?}");
    }
    assert!(proxy.accepted() < 20, "it is not knocked at for each message: {}", proxy.accepted());
    proxy.pass();
    eventually("the broker's return", || async {
        (publishing.send(&subscription, 1).await == Answer::Taken).then_some(())
    })
    .await;
    publishing.end().await;
    subscriber.end().await;
}

/// It takes connections and says nothing: every try lasts until its own deadline.
#[tokio::test]
async fn while_a_broker_that_says_nothing_is_tried_again_attempts_fail_at_once() {
    let proxy = Proxy::before(&url()).await;
    proxy.stall();
    let publishing = Publishing::new(&proxy.url(&url()), &["erp.in"]);
    let subscription = to("erp.in", "");
    assert_eq!(failure(&publishing.send(&subscription, 0).await).0, "broker", "the first one waits for the try");
    eventually("the second try", || async {
        let answer = publishing.send(&within(subscription.clone(), Duration::from_secs(1)), 1).await;
        assert_eq!(failure(&answer).0, "broker", "{answer:?}");
        (proxy.accepted() >= 2).then_some(())
    })
    .await;
    for number in 2..20 {
        let answer = publishing.send(&within(subscription.clone(), Duration::from_secs(1)), number).await;
        assert_eq!(failure(&answer).0, "broker", "{answer:?}");
    }
    assert_eq!(proxy.accepted(), 2, "all of that was during the second try");
    publishing.end().await;
}

#[tokio::test]
async fn what_is_cut_off_while_it_is_written_keeps_its_room_until_it_is_written() {
    const NUMBER: usize = 8;
    let mut subscriber = Subscriber::new().await;
    let mut exchanges = Vec::new();
    for number in 0..NUMBER {
        exchanges.push(subscriber.exchange(&format!("erp-{number}")).await);
    }
    let allowed: Vec<&str> = exchanges.iter().map(String::as_str).collect();
    let proxy = Proxy::before(&url()).await;
    let publishing = Publishing::new(&proxy.url(&url()), &allowed);
    // All of them at once, so that there is a channel for each.
    let sending = exchanges.iter().map(|exchange| async { publishing.send(&to(exchange, ""), 0).await });
    let answers = futures_util::future::join_all(sending).await;
    assert!(answers.iter().all(|answer| failure(answer).0 == "unroutable"), "{answers:?}");
    proxy.stall();
    let large = |exchange: &String| {
        let (exchange, publisher) = (within(to(exchange, ""), Duration::from_millis(500)), &publishing.publisher);
        async move { send_body(publisher, &exchange, 1, vec![0; 15 << 20].into()).await }
    };
    // More than the sockets between us take, and almost all of the room.
    let cut = futures_util::future::join_all(exchanges[..4].iter().map(large)).await;
    assert!(cut.iter().all(|answer| failure(answer).1.contains("did not confirm")), "{cut:?}");
    let late = large(&exchanges[4]).await;
    assert!(failure(&late).1.contains("no room for the message"), "{late:?}");
    proxy.pass();
    eventually("room for the next one", || async {
        (failure(&large(&exchanges[5]).await).0 == "unroutable").then_some(())
    })
    .await;
    publishing.end().await;
    subscriber.end().await;
}

#[tokio::test]
async fn a_broker_that_takes_no_messages_is_not_flooded_and_serves_again_afterwards() {
    let node = Node::start().await;
    let mut subscriber = Subscriber::at(node.url()).await;
    let exchange = subscriber.exchange("erp").await;
    let queue = subscriber.queue(&exchange, "#").await;
    let publishing = Publishing::new(node.url(), &[&exchange]);
    let subscription = within(to(&exchange, ""), Duration::from_millis(500));
    assert_eq!(publishing.send(&subscription, 0).await, Answer::Taken);
    node.ctl(&["set_vm_memory_high_watermark", "0.0001"]).await;
    let blocked = eventually("an answer about the alarm", || async {
        let answer = publishing.send(&subscription, 1).await;
        matches!(&answer, Answer::None { kind: FailureKind::Broker, .. }).then_some(answer)
    })
    .await;
    assert!(failure(&blocked).1.contains("takes no messages"), "{blocked:?}");
    let before = publishing.send_all(&subscription, 500).await;
    assert!(before.iter().all(|answer| failure(answer).1.contains("takes no messages")), "{before:?}");
    node.ctl(&["set_vm_memory_high_watermark", "0.8"]).await;
    eventually("the end of the alarm", || async {
        (publishing.send(&subscription, 2).await == Answer::Taken).then_some(())
    })
    .await;
    assert!(subscriber.all(&queue).await.len() < 500, "what was given up at once was never sent");
    publishing.end().await;
}
