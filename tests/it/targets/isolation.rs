//! A bad exchange and its neighbours.

use std::time::Duration;

use docrelay::domain::Answer;
use lapin::{options::QueueBindOptions, types::FieldTable};

use super::{Publishing, Subscriber, failure, to, within};
use crate::support::{
    broker::{eventually, url},
    node::Node,
    proxy::Proxy,
};

#[tokio::test]
async fn exchanges_that_fail_disturb_no_other() {
    const EACH: usize = 200;
    let mut subscriber = Subscriber::new().await;
    let (good, refusing) = (subscriber.exchange("good").await, subscriber.exchange("refusing").await);
    let queue = subscriber.queue(&good, "#").await;
    let _full = subscriber.full_queue(&refusing, "#", 0).await;
    let missing: Vec<_> = (0..20).map(|number| subscriber.name(&format!("missing-{number}"))).collect();
    let allowed: Vec<&str> = missing.iter().chain([&good, &refusing]).map(String::as_str).collect();
    let proxy = Proxy::before(&url()).await;
    let publishing = Publishing::new(&proxy.url(&url()), &allowed);
    let (to_good, to_refusing) = (to(&good, ""), to(&refusing, ""));
    let bad = async {
        let missing = missing.iter().map(|exchange| async { publishing.send_all(&to(exchange, ""), EACH / 10).await });
        tokio::join!(publishing.send_all(&to_refusing, EACH), futures_util::future::join_all(missing))
    };
    let ((refused, missed), answers) = tokio::join!(bad, publishing.send_all(&to_good, EACH));
    assert!(answers.iter().all(|answer| *answer == Answer::Taken), "{answers:?}");
    assert_eq!(subscriber.all(&queue).await.len(), EACH, "each of them once");
    assert!(refused.iter().all(|answer| failure(answer).1.contains("did not take")), "{refused:?}");
    assert!(missed.iter().flatten().all(|answer| failure(answer).1.contains("NOT_FOUND")), "{missed:?}");
    assert_eq!(proxy.accepted(), 1, "and the connection stayed");
    publishing.end().await;
    subscriber.end().await;
}

#[tokio::test]
async fn exchanges_that_hang_hold_nobody_else_up() {
    hanging_exchanges(false).await;
}

#[tokio::test]
async fn exchanges_that_answered_and_then_hang_hold_nobody_else_up() {
    hanging_exchanges(true).await;
}

/// A queue that is suspended takes messages and confirms none, as one without a majority.
async fn hanging_exchanges(answered_first: bool) {
    const HANGING: usize = 20;
    const EACH: usize = 300;
    let node = Node::start().await;
    let mut subscriber = Subscriber::at(node.url()).await;
    let (good, new) = (subscriber.exchange("good").await, subscriber.exchange("new").await);
    let _queues = [subscriber.queue(&good, "#").await, subscriber.queue(&new, "#").await];
    let mut hanging = Vec::new();
    for number in 0..HANGING {
        hanging.push(subscriber.exchange(&format!("hanging-{number}")).await);
    }
    let stuck = subscriber.queue(&hanging[0], "#").await;
    for exchange in &hanging[1..] {
        let (options, empty) = (QueueBindOptions::default(), FieldTable::default());
        let (queue, exchange) = (stuck.as_str().into(), exchange.as_str().into());
        subscriber.channel.queue_bind(queue, exchange, "#".into(), options, empty).await.unwrap();
    }
    let allowed: Vec<&str> = hanging.iter().chain([&good, &new]).map(String::as_str).collect();
    let publishing = Publishing::new(node.url(), &allowed);
    if answered_first {
        for exchange in &hanging {
            assert_eq!(publishing.send(&to(exchange, ""), 0).await, Answer::Taken);
        }
    }
    tell_queue(&node, "suspend", &stuck).await;
    let hung = hanging.iter().map(|exchange| async { publishing.send_all(&to(exchange, ""), 4).await });
    let mut hung = Box::pin(futures_util::future::join_all(hung));
    let (to_good, to_new) = (to(&good, ""), to(&new, ""));
    let others = async { [publishing.send_all(&to_good, EACH).await, publishing.send_all(&to_new, EACH).await] };
    tokio::select! {
        biased;
        answers = &mut hung => panic!("nothing was to confirm them: {answers:?}"),
        answers = others => {
            assert!(answers.iter().flatten().all(|answer| *answer == Answer::Taken), "{answers:?}");
        }
    }
    tell_queue(&node, "resume", &stuck).await;
    let answers = hung.as_mut().await;
    drop(hung);
    assert!(answers.iter().flatten().all(|answer| *answer == Answer::Taken), "{answers:?}");
    assert_eq!(subscriber.all(&stuck).await.len(), (4 + usize::from(answered_first)) * HANGING);
    publishing.end().await;
}

/// Suspends or resumes the process of a queue.
pub(super) async fn tell_queue(node: &Node, what: &str, queue: &str) {
    let expression = format!(
        "{{ok, Q}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<\"/\">>, queue, <<\"{queue}\">>)), sys:{what}(amqqueue:get_pid(Q))."
    );
    assert_eq!(node.ctl(&["eval", &expression]).await.trim(), "ok");
}

#[tokio::test]
async fn an_exchange_that_hung_gives_its_channels_back() {
    const EACH: usize = 100;
    let mut subscriber = Subscriber::new().await;
    let exchange = subscriber.exchange("erp").await;
    let queue = subscriber.queue(&exchange, "#").await;
    let proxy = Proxy::before(&url()).await;
    let publishing = Publishing::new(&proxy.url(&url()), &[&exchange]);
    assert_eq!(publishing.send(&to(&exchange, ""), 0).await, Answer::Taken);
    proxy.mute();
    let hung = publishing.send_all(&within(to(&exchange, ""), Duration::from_millis(300)), 4).await;
    assert!(hung.iter().all(|answer| failure(answer).0 == "timeout"), "{hung:?}");
    proxy.pass();
    let answers = publishing.send_all(&to(&exchange, ""), EACH).await;
    assert!(answers.iter().all(|answer| *answer == Answer::Taken), "{answers:?}");
    assert!(subscriber.all(&queue).await.len() > EACH);
    publishing.end().await;
    subscriber.end().await;
}

#[tokio::test]
async fn a_hundred_exchanges_in_use_take_one_connection_and_a_bounded_number_of_channels() {
    const EXCHANGES: usize = 100;
    let node = Node::start().await;
    let mut subscriber = Subscriber::at(node.url()).await;
    let mut exchanges = Vec::new();
    for number in 0..EXCHANGES {
        exchanges.push(subscriber.exchange(&format!("erp-{number}")).await);
    }
    let mut queues = Vec::new();
    for exchange in &exchanges {
        queues.push(subscriber.queue(exchange, "#").await);
    }
    let allowed: Vec<&str> = exchanges.iter().map(String::as_str).collect();
    let publishing = Publishing::new(node.url(), &allowed);
    let sending = exchanges.iter().map(|exchange| async { publishing.send_all(&to(exchange, ""), 10).await });
    let answers = futures_util::future::join_all(sending).await;
    assert!(answers.iter().flatten().all(|answer| *answer == Answer::Taken), "{answers:?}");
    // The broker's books are a moment behind.
    let ours = eventually("our connection in the broker's list", || async {
        let told = node.ctl(&["list_connections", "-q", "--no-table-headers", "channels", "client_properties"]).await;
        let ours: Vec<usize> = told
            .lines()
            .filter(|line| line.contains("docrelay targets"))
            .map(|line| line.split_once('\t').unwrap().0.parse().unwrap())
            .collect();
        (!ours.is_empty()).then_some(ours)
    })
    .await;
    assert!(ours.len() == 1 && (1..=64).contains(&ours[0]), "{ours:?}");
    for queue in &queues {
        assert_eq!(subscriber.all(queue).await.len(), 10);
    }
    publishing.end().await;
}
