//! Replicas that count each other by the presence queue.

use std::{sync::Arc, time::Duration};

use docrelay::{
    broker::{self, ConsumerSettings, Consumers, DeclareError, Standing, topology::Topology},
    config::{BrokerConfig, Declare},
    domain::Secret,
    policy::share::Share,
};
use lapin::{BasicProperties, options::QueueDeleteOptions};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    sync::watch,
    task::JoinHandle,
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::number_of;
use crate::support::{
    broker::{DEADLINE, TestBroker, ctl, eventually},
    node::Node,
    proxy::Proxy,
};

/// Polls every 40 ms: for tests of nothing but who is counted.
const QUICK: Duration = Duration::from_millis(20);

/// Polls every second, as long as is waited for an answer: what is proven of shares holds, however busy the machine.
const EXACT: Duration = Duration::from_millis(500);

/// The consuming side of a replica. Dropped, it ends like a process that is killed.
struct Replica {
    share: watch::Receiver<Share>,
    stop: CancellationToken,
    running: JoinHandle<bool>,
    _publishing: watch::Sender<Standing>,
}

impl Replica {
    fn start(config: &BrokerConfig) -> Self {
        let topology = Arc::new(Topology::new(config));
        let settings = ConsumerSettings { broker: config.clone(), topology, largest_message: 1_000_000 };
        let publishing = watch::Sender::new(Standing::Open);
        let tracker = TaskTracker::new();
        let consumers = Consumers::new(settings, publishing.subscribe(), tracker.clone());
        let (share, stop) = (consumers.share(), CancellationToken::new());
        assert_eq!(*share.borrow(), Share::NOT_JOINED);
        let running = consumers.run(|_| panic!("nobody published anything"), stop.clone(), CancellationToken::new());
        Self { share, stop, running: tracker.spawn(running), _publishing: publishing }
    }

    fn now(&self) -> Share {
        *self.share.borrow()
    }

    /// Waits until it reckons with so many replicas and uses limits, or uses none.
    async fn until(&self, replicas: u32, limited: bool) {
        let mut share = self.share.clone();
        let waiting = share.wait_for(|share| (share.replicas.get(), share.limited) == (replicas, limited));
        let in_time = timeout(DEADLINE, waiting).await.is_ok();
        assert!(in_time, "waited for ({replicas}, {limited}), it says {:?}", self.now());
    }

    /// Stops it in order.
    async fn stop(self) {
        self.stop.cancel();
        timeout(DEADLINE, self.running).await.unwrap().unwrap();
        assert!(!self.share.borrow().limited, "who has left uses no limit");
    }

    /// Ends it at once.
    fn kill(self) {
        self.running.abort();
    }
}

fn config(broker: &TestBroker, delay_unit: Duration) -> BrokerConfig {
    BrokerConfig { delay_unit, ..broker.config.clone() }
}

/// A test's broker with these settings, for a topology of its own.
async fn broker_with(delay_unit: Duration) -> TestBroker {
    let mut broker = TestBroker::new().await;
    broker.config = config(&broker, delay_unit);
    broker.topology = Topology::new(&broker.config);
    broker.declare().await;
    broker
}

#[tokio::test]
async fn replicas_that_join_stop_and_are_killed_are_counted_by_all_others() {
    let broker = broker_with(QUICK).await;
    let first = Replica::start(&broker.config);
    first.until(1, true).await;
    let second = Replica::start(&broker.config);
    let third = Replica::start(&broker.config);
    for replica in [&first, &second, &third] {
        replica.until(3, true).await;
    }
    second.stop().await;
    for replica in [&first, &third] {
        replica.until(2, true).await;
    }
    first.kill();
    third.until(1, true).await;
    let before = third.now();
    let fourth = Replica::start(&broker.config);
    for replica in [&third, &fourth] {
        replica.until(2, true).await;
    }
    assert!(third.now().since > before.since, "whoever holds an old share must see that it is old");
    third.stop().await;
    fourth.stop().await;
}

#[tokio::test]
async fn who_joins_waits_until_the_others_have_made_room() {
    let broker = broker_with(EXACT).await;
    let first = Replica::start(&broker.config);
    first.until(1, true).await;
    let mut all = vec![first];
    for others in 1..3 {
        let next = Replica::start(&broker.config);
        // Nothing happens between its change and this look at the others: one thread runs them all.
        let mut share = next.share.clone();
        timeout(DEADLINE, share.wait_for(|share| share.limited)).await.unwrap().unwrap();
        all.push(next);
        assert!(all.iter().all(|replica| replica.now().replicas.get() == others + 1), "one more than {others}");
    }
}

#[tokio::test]
async fn who_loses_its_connection_is_counted_no_more_and_joins_anew() {
    let broker = broker_with(QUICK).await;
    let proxy = Proxy::before(broker.config.url.reveal()).await;
    let (here, there) = (broker.config.clone(), Secret::new(proxy.url(broker.config.url.reveal())));
    let first = Replica::start(&here);
    first.until(1, true).await;
    let second = Replica::start(&BrokerConfig { url: there, ..here });
    second.until(2, true).await;
    proxy.refuse();
    first.until(1, true).await;
    second.until(2, false).await;
    proxy.pass();
    second.until(2, true).await;
    first.until(2, true).await;
    second.stop().await;
    first.stop().await;
}

#[tokio::test]
async fn who_falls_silent_uses_no_limit_long_before_another_takes_its_share() {
    let broker = broker_with(EXACT).await;
    let proxy = Proxy::before(broker.config.url.reveal()).await;
    // The broker gives up a silent connection after two heartbeats at the earliest.
    let url = format!("{}?heartbeat=4", proxy.url(broker.config.url.reveal()));
    let first = Replica::start(&broker.config);
    first.until(1, true).await;
    let second = Replica::start(&BrokerConfig { url: Secret::new(url), ..broker.config.clone() });
    second.until(2, true).await;
    first.until(2, true).await;
    proxy.stall();
    second.until(2, false).await;
    assert_eq!(first.now().replicas.get(), 2, "the broker has not even noticed");
    first.until(1, true).await;
    assert!(!second.now().limited);
    proxy.pass();
    second.until(2, true).await;
    second.stop().await;
    first.stop().await;
}

#[tokio::test]
async fn a_broker_that_comes_back_finds_the_replicas_and_they_each_other() {
    let node = Node::start().await;
    let mut broker = TestBroker::on(&node).await;
    broker.config = config(&broker, QUICK);
    let replicas = [Replica::start(&broker.config), Replica::start(&broker.config)];
    for replica in &replicas {
        replica.until(2, true).await;
    }
    node.stop().await;
    for replica in &replicas {
        replica.until(2, false).await;
    }
    node.restart().await;
    for replica in &replicas {
        replica.until(2, true).await;
    }
    for replica in replicas {
        replica.stop().await;
    }
}

#[tokio::test]
async fn what_is_published_to_the_presence_queue_is_thrown_away_and_changes_nothing() {
    let broker = broker_with(QUICK).await;
    let queue = &broker.topology.names.presence_queue;
    let replica = Replica::start(&broker.config);
    replica.until(1, true).await;
    let before = replica.now();
    for _ in 0..20 {
        broker.publish("", queue, BasicProperties::default(), b"hello?").await;
    }
    eventually("an empty presence queue", || async {
        let told = ctl(&["list_queues", "-q", "--no-table-headers", "name", "messages"]).await;
        (number_of(queue, &told) == 0).then_some(())
    })
    .await;
    assert_eq!(replica.now(), before);
    replica.stop().await;
}

#[tokio::test]
async fn verifying_names_the_presence_queue_when_nothing_else_is_missing() {
    let broker = broker_with(QUICK).await;
    let queue = &broker.topology.names.presence_queue;
    broker.channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await.unwrap();
    let connection = broker::connect(&broker.config, "verifying").await.unwrap();
    let error = broker::declare(&connection, &broker.topology, Declare::Verify).await.unwrap_err();
    let DeclareError::Missing(missing) = error else { panic!("{error}") };
    assert_eq!(missing, [format!("queue {queue}")]);
    connection.close(200, "done".into()).await.unwrap();
}

/// An account that may do everything, but not read the presence queue, and declare it only if told so. It is called like
/// the test's names begin.
async fn account(broker: &TestBroker, configure: bool) -> BrokerConfig {
    let name = &broker.config.queue_prefix;
    let all_but_presence = r"^(?!.*\.presence$).*$";
    ctl(&["add_user", name, "tea-at-five"]).await;
    let configure = if configure { ".*" } else { all_but_presence };
    ctl(&["set_permissions", name, configure, ".*", all_but_presence]).await;
    let mut url = url::Url::parse(broker.config.url.reveal()).unwrap();
    url.set_username(name).unwrap();
    url.set_password(Some("tea-at-five")).unwrap();
    BrokerConfig { url: Secret::new(String::from(url)), ..broker.config.clone() }
}

#[tokio::test]
async fn an_account_that_may_not_read_the_presence_queue_is_told_so_by_name() {
    let mut broker = TestBroker::declared().await;
    broker.config = account(&broker, true).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("subscriptions.yaml");
    std::fs::write(&file, "subscriptions: []\n").unwrap();
    let mut command = broker.docrelay(&["run"]);
    command.env("DOCRELAY__SUBSCRIPTIONS__FILE", &file).env("DOCRELAY__ADMIN__LISTEN", "127.0.0.1:0");
    let mut program = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(program.stdout.take().unwrap()).lines();
    let told = timeout(DEADLINE, async {
        loop {
            let line = lines.next_line().await.unwrap().expect("the service must live on");
            if line.contains("Cannot consume") {
                return line;
            }
        }
    });
    let told = told.await.expect("it must be told");
    let name = format!("the broker's account may not consume from queue {}", broker.topology.names.presence_queue);
    assert!(told.contains(&name) && told.contains("grant the account the right to read it"), "{told}");
    program.kill().await.unwrap();
    ctl(&["delete_user", &broker.config.queue_prefix]).await;
}

#[tokio::test]
async fn an_account_that_may_not_declare_the_presence_queue_is_told_so_by_name() {
    let broker = broker_with(QUICK).await;
    let config = account(&broker, false).await;
    let connection = broker::connect(&config, "declaring").await.unwrap();
    let error = broker::declare(&connection, &broker.topology, Declare::Create).await.unwrap_err();
    assert!(error.needs_a_person());
    let name = format!("queue {}", broker.topology.names.presence_queue);
    assert!(matches!(&error, DeclareError::Forbidden { what, .. } if *what == name), "{error}");
    ctl(&["delete_user", &broker.config.queue_prefix]).await;
}
