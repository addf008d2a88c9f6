//! The process itself ends: killed, or told to stop, under load. What a successor does then.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    time::Duration,
};

use docrelay::domain::{DeliveryId, DocumentEvent, EventId, Outcome, ParkedEvent};
use serde_json::json;

use super::{assert_all_delivered, assert_no_repeats, events, requests};
use crate::support::{
    broker::eventually,
    node::Node,
    program::Program,
    receiver::{Receiver, Recorded, Reply},
    service::{GENEROUS, Surroundings, event, parked_in, subscription, with},
};

const EVENTS: usize = 3_000;

/// In flight at once.
const AT_ONCE: usize = 150;

/// How long a target takes that is asked one at a time, so that its turns are a delay unit of 1 s apart, or more.
const TURN_APART: Duration = Duration::from_millis(1_100);

/// A subscription for each receiver.
fn subscribe(surroundings: &Surroundings, receivers: &[Receiver]) {
    let of = |(number, receiver): (usize, &Receiver)| subscription(&format!("s{number}"), &receiver.url("/"));
    surroundings.subscribe(&receivers.iter().enumerate().map(of).collect::<Vec<_>>());
}

/// A load in the queue, and the program at it.
async fn under_load(receivers: &[Receiver]) -> (Surroundings, Program) {
    let surroundings = Surroundings::with(&[("BROKER__PREFETCH", "200")]).await;
    subscribe(&surroundings, receivers);
    surroundings.publish_all(&events(EVENTS)).await;
    let program = surroundings.run().await;
    receivers[0].wait_for(EVENTS / 4, GENEROUS).await;
    (surroundings, program)
}

/// One that takes so many milliseconds, and one that takes others and fails some first attempts.
async fn two_receivers([first, second]: [u64; 2]) -> [Receiver; 2] {
    [
        Receiver::scripted(move |_| Reply::ok().after(Duration::from_millis(first))).await,
        Receiver::scripted(move |request| {
            let failing = request.attempt() == 1 && request.index % 5 == 0;
            Reply::status(if failing { 500 } else { 200 }).after(Duration::from_millis(second))
        })
        .await,
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_is_killed_loses_nothing_and_repeats_only_what_was_unacked() {
    let receivers = two_receivers([10, 20]).await;
    let (surroundings, program) = under_load(&receivers).await;
    killed(&receivers, surroundings, program).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_is_killed_while_much_is_parked_together_loses_nothing_either() {
    // Slow enough to be at it still when what waited comes back.
    let receivers = two_receivers([60, 60]).await;
    let settings = [("BROKER__DELAY_UNIT", "1s"), ("DELIVERY__BACKOFF", "1s"), ("BROKER__PREFETCH", "200")];
    let surroundings = Surroundings::with(&settings).await;
    subscribe(&surroundings, &receivers);
    let (_connection, channel) = surroundings.channel().await;
    let copies = surroundings.copies_of_what_is_parked(&channel).await;
    surroundings.publish_all(&events(EVENTS)).await;
    let program = surroundings.run().await;
    // What waited has begun to come back.
    eventually("a second attempt", || async {
        receivers[1].recorded().iter().any(|request| request.attempt() == 2).then_some(())
    })
    .await;
    killed(&receivers, surroundings, program).await;
    let parked = parked_in(&channel, &copies).await;
    assert!(parked.iter().any(|events| events.len() > 1), "none of {} shares a message", parked.len());
}

/// Kills it under load, and has another one do the rest.
async fn killed(receivers: &[Receiver], surroundings: Surroundings, program: Program) {
    program.kill().await;
    assert!(receivers[0].count() < EVENTS, "the load was over before the kill");
    let unacked = surroundings.unacked_at_the_end().await;
    assert!(!unacked.is_empty() && unacked.len() < EVENTS / 2, "{} events were unacked", unacked.len());
    let program = surroundings.run().await;
    surroundings.results.wait_for_finals(2 * EVENTS, 3 * GENEROUS).await;
    program.stop().await;
    surroundings.nothing_is_left(0).await;
    // A repeat may end otherwise than the first time, and `delivered` outranks the rest.
    for (delivery, finals) in surroundings.results.finals() {
        assert!(finals.iter().any(|it| it.outcome == Outcome::Delivered), "{delivery}: {finals:#?}");
    }
    let repeated: Vec<_> = requests(receivers).into_iter().filter(|(_, times)| *times > 1).collect();
    // Twice; a third time where a copy was parked and its event was not acked yet.
    let most = repeated.iter().map(|(_, times)| *times).max();
    assert!(most <= Some(3), "{repeated:#?}");
    let may_repeat = deliveries_of(&unacked, &["s0", "s1"]);
    let others: Vec<_> = repeated.iter().filter(|((id, _), _)| !may_repeat.contains(id)).collect();
    assert!(others.is_empty(), "repeated, although nothing of them was unacked: {others:#?}");
}

/// Another one does the rest: so many deliveries in all, however often each.
async fn a_successor_delivers(surroundings: &Surroundings, deliveries: usize) {
    let program = surroundings.run().await;
    surroundings.results.wait_for_finals(deliveries, GENEROUS).await;
    program.stop().await;
    surroundings.nothing_is_left(0).await;
    for (delivery, finals) in surroundings.results.finals() {
        assert!(finals.iter().all(|it| it.outcome == Outcome::Delivered), "{delivery}: {finals:#?}");
    }
}

/// The deliveries of these events to these subscriptions, by their `webhook-id`.
fn deliveries_of(events: &HashSet<EventId>, subscriptions: &[impl AsRef<str>]) -> HashSet<String> {
    let of = |event: &EventId, to: &str| DeliveryId::of(event, &to.parse().unwrap()).to_string();
    events.iter().flat_map(|event| subscriptions.iter().map(move |to| of(event, to.as_ref()))).collect()
}

/// How targets behave that are away: one after another, for all that ask.
const AWAY: u8 = 0;
const FIRST_IS_BACK: u8 = 1;
const ALL_ARE_BACK: u8 = 2;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_is_killed_while_many_targets_hang_loses_nothing_and_repeats_only_what_was_unacked() {
    const TARGETS: usize = 8;
    const EACH: usize = 20;
    let phase = Arc::new(AtomicU8::new(AWAY));
    let in_phase = |reply: fn(u8) -> Reply| {
        let phase = Arc::clone(&phase);
        move |_: &Recorded| reply(phase.load(Ordering::SeqCst))
    };
    let first = Receiver::scripted(in_phase(|phase| if phase == AWAY { Reply::dropped() } else { Reply::ok() })).await;
    let others = Receiver::scripted(in_phase(|phase| match phase {
        AWAY => Reply::dropped(),
        FIRST_IS_BACK => Reply::hang(),
        _ => Reply::ok(),
    }))
    .await;
    let surroundings = Surroundings::with(&[("DELIVERY__TIMEOUT", "1m")]).await;
    let subscriptions = (0..TARGETS).map(|number| {
        let receiver = if number == 0 { &first } else { &others };
        let own = json!({"organization": format!("o{number}"), "retry": {"while_down": "hold"}});
        with(subscription(&format!("s{number}"), &receiver.url("/")), own)
    });
    surroundings.subscribe(&subscriptions.collect::<Vec<_>>());
    let events = (0..TARGETS * EACH).map(|number| DocumentEvent {
        organization: format!("o{}", number % TARGETS).parse().unwrap(),
        ..event(&format!("evt-{number}"))
    });
    surroundings.publish_all(&events.collect::<Vec<_>>()).await;
    let program = surroundings.run().await;
    surroundings.results.wait_for_outcome(Outcome::Deferred, TARGETS * EACH, GENEROUS).await;
    phase.store(FIRST_IS_BACK, Ordering::SeqCst);
    let taken_from = first.count();
    surroundings.results.wait_for_outcome(Outcome::Delivered, EACH, GENEROUS).await;
    program.kill().await;
    let unacked = surroundings.unacked_at_the_end().await;
    assert!(!unacked.is_empty(), "the probes hung");
    phase.store(ALL_ARE_BACK, Ordering::SeqCst);
    a_successor_delivers(&surroundings, TARGETS * EACH).await;
    let mut times: HashMap<_, u32> = HashMap::new();
    let taken: Vec<_> = first.recorded().into_iter().skip(taken_from).collect();
    for request in &taken {
        *times.entry(request.delivery()).or_default() += 1;
    }
    let may_repeat = deliveries_of(&unacked, &["s0"]);
    let others: Vec<_> = times.iter().filter(|(id, times)| **times > 1 && !may_repeat.contains(**id)).collect();
    assert!(others.is_empty(), "repeated, although nothing of them was unacked: {others:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_is_killed_while_slow_targets_share_messages_loses_nothing_and_repeats_only_what_was_unacked() {
    const TARGETS: usize = 12;
    const EACH: usize = 10;
    let slow = Arc::new(AtomicBool::new(true));
    let receiver = Receiver::scripted({
        let slow = Arc::clone(&slow);
        move |_: &Recorded| if slow.load(Ordering::SeqCst) { Reply::ok().after(TURN_APART) } else { Reply::ok() }
    })
    .await;
    let surroundings = Surroundings::with(&[("BROKER__DELAY_UNIT", "1s")]).await;
    let names: Vec<_> = (0..TARGETS).map(|number| format!("s{number}")).collect();
    let one_at_a_time =
        |name: &String| with(subscription(name, &receiver.url("/")), json!({"organization": name, "max_in_flight": 1}));
    surroundings.subscribe(&names.iter().map(one_at_a_time).collect::<Vec<_>>());
    let (_connection, channel) = surroundings.channel().await;
    let copies = surroundings.copies_of_what_is_parked(&channel).await;
    let round = |number: usize| {
        let to = move |name: &String| DocumentEvent {
            organization: name.parse().unwrap(),
            ..event(&format!("evt-{name}-{number}"))
        };
        names.iter().map(to).collect::<Vec<_>>()
    };
    let program = surroundings.run().await;
    // They are known to be slow when the others come.
    surroundings.publish_all(&round(0)).await;
    surroundings.results.wait_for_finals(TARGETS, GENEROUS).await;
    surroundings.publish_all(&(1..EACH).flat_map(round).collect::<Vec<_>>()).await;
    // By then what was parked has had turns.
    surroundings.results.wait_for_finals(4 * TARGETS, GENEROUS).await;
    program.kill().await;
    let unacked = surroundings.unacked_at_the_end().await;
    assert!(receiver.count() < TARGETS * EACH, "the load was over before the kill");
    // What had its turn long ago was acked.
    assert!(!unacked.is_empty() && unacked.len() <= TARGETS * (EACH - 1), "{} events were unacked", unacked.len());
    let shared = |events: &Vec<ParkedEvent>| {
        events.iter().any(|event| event.owed[0].subscription != events[0].owed[0].subscription)
    };
    assert!(parked_in(&channel, &copies).await.iter().any(shared), "no message was for several targets");
    slow.store(false, Ordering::SeqCst);
    a_successor_delivers(&surroundings, TARGETS * EACH).await;
    let may_repeat = deliveries_of(&unacked, &names);
    let repeated = requests(&[receiver]).into_iter().filter(|(_, times)| *times > 1);
    let others: Vec<_> = repeated.filter(|((id, _), _)| !may_repeat.contains(id)).collect();
    assert!(others.is_empty(), "repeated, although nothing of them was unacked: {others:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_is_stopped_under_load_repeats_nothing_and_its_successor_does_the_rest() {
    for _ in 0..3 {
        let receivers = two_receivers([10, 20]).await;
        let (surroundings, program) = under_load(&receivers).await;
        program.stop().await;
        let (sent, told) = (receivers[0].count(), surroundings.results.all().len());
        assert!(sent < EVENTS, "the load was over before the stop");
        let program = surroundings.run().await;
        surroundings.results.wait_for_finals(2 * EVENTS, 3 * GENEROUS).await;
        assert!(told < surroundings.results.all().len());
        assert_all_delivered(&surroundings.results, 2 * EVENTS);
        assert_no_repeats(&receivers);
        program.stop().await;
        surroundings.nothing_is_left(0).await;
    }
}

/// The queue of events stands still for six seconds, as one does whose disk is busy: nothing that it is told takes effect.
async fn stall_the_events_of(node: &Node) {
    let stall = "{ok, Queue} = rabbit_amqqueue:lookup(rabbit_misc:r(<<\"/\">>, queue, <<\"docrelay.events\">>)), \
                 {Leader, _} = amqqueue:get_pid(Queue), ok = sys:suspend(Leader), \
                 {ok, _} = timer:apply_after(6000, sys, resume, [Leader]).";
    node.ctl(&["eval", stall]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_is_stopped_while_the_broker_stalls_waits_until_its_acks_are_taken() {
    let node = Node::start().await;
    let surroundings = Surroundings::on(node.url(), &[]).await;
    // Answers come one by one, so that there are many acks; the first of them when the broker stands still.
    let answer = |request: &Recorded| Reply::ok().after(Duration::from_millis(4_000 + 4 * request.index as u64));
    let receivers = [Receiver::scripted(answer).await];
    surroundings.subscribe(&[with(subscription("s0", &receivers[0].url("/")), json!({"max_in_flight": 200}))]);
    let program = surroundings.run().await;
    surroundings.publish_all(&events(AT_ONCE)).await;
    receivers[0].wait_for(AT_ONCE, GENEROUS).await;
    program.signal("TERM").await;
    program.not_ready().await;
    stall_the_events_of(&node).await;
    assert!(program.ended().await.success(), "not everything was told to the broker");
    let program = surroundings.run().await;
    surroundings.results.wait_for_finals(AT_ONCE, GENEROUS).await;
    program.stop().await;
    assert_all_delivered(&surroundings.results, AT_ONCE);
    assert_no_repeats(&receivers);
    surroundings.nothing_is_left(0).await;
}

#[tokio::test]
async fn an_attempt_that_outlasts_the_grace_is_interrupted_and_made_again_after_the_restart() {
    let receiver = Receiver::scripted(|request| if request.attempt() == 1 { Reply::hang() } else { Reply::ok() }).await;
    let surroundings = Surroundings::new().await;
    surroundings.subscribe(&[with(subscription("erp", &receiver.url("/")), json!({"target": {"timeout": "60s"}}))]);
    let program = surroundings.run_with(&[("SHUTDOWN__GRACE", "300ms")]).await;
    surroundings.publish(&event("evt-1")).await;
    receiver.wait_for(1, GENEROUS).await;
    program.stop().await;
    let interrupted = surroundings.results.wait_for(1, GENEROUS).await.remove(0);
    assert_eq!((interrupted.outcome, interrupted.attempt), (Outcome::AttemptFailed, 1));
    assert_eq!(interrupted.error, Some("interrupted"));
    assert!(interrupted.next_attempt_at.is_some());

    let program = surroundings.run().await;
    let delivered = surroundings.results.wait_for(2, GENEROUS).await.remove(1);
    assert_eq!((delivered.outcome, delivered.attempt), (Outcome::Delivered, 2));
    program.stop().await;
    surroundings.nothing_is_left(0).await;
    assert_eq!(receiver.count(), 2);
}

#[tokio::test]
async fn a_second_signal_ends_the_service_at_once_and_the_event_is_not_lost() {
    let receiver = Receiver::scripted(|request| if request.index == 0 { Reply::hang() } else { Reply::ok() }).await;
    let surroundings = Surroundings::new().await;
    surroundings.subscribe(&[with(subscription("erp", &receiver.url("/")), json!({"target": {"timeout": "60s"}}))]);
    let program = surroundings.run_with(&[("SHUTDOWN__GRACE", "1h")]).await;
    surroundings.publish(&event("evt-1")).await;
    receiver.wait_for(1, GENEROUS).await;
    program.signal("TERM").await;
    // Signals that come together are one: the first must have been taken.
    program.not_ready().await;
    program.signal("INT").await;
    assert!(!program.ended().await.success(), "it says that it did not finish");

    let program = surroundings.run().await;
    let delivered = surroundings.results.wait_for(1, GENEROUS).await.remove(0);
    assert_eq!((delivered.outcome, delivered.attempt), (Outcome::Delivered, 1));
    program.stop().await;
    surroundings.nothing_is_left(0).await;
    assert_eq!(receiver.count(), 2);
}
