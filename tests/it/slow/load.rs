//! Loads: a third of the targets fail at random, one of them hangs, and very many subscriptions.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use docrelay::domain::{DeliveryResult, DocumentEvent, Outcome};
use serde_json::{Value, json};
use tokio::{net::TcpListener, time::Instant};

use super::{assert_no_repeats, by_delivery, events};
use crate::support::{
    receiver::{Receiver, Recorded, Reply},
    service::{ATTEMPTS, BACKOFF, GENEROUS, Surroundings, event, subscription, with},
};

const TARGETS: usize = 40;

/// The event `number` goes to the target `number % TARGETS` only: each target has an inbox of its own.
fn to_targets(count: usize) -> Vec<DocumentEvent> {
    let inbox = |number: usize| Some(format!("inbox-{}", number % TARGETS).parse().unwrap());
    events(count).into_iter().enumerate().map(|(number, it)| DocumentEvent { inbox: inbox(number), ..it }).collect()
}

fn target(number: usize, url: &str, fields: Value) -> Value {
    let own = json!({"inboxes": [format!("inbox-{number}")]});
    with(with(subscription(&format!("target-{number}"), url), own), fields)
}

/// A number for each attempt of each delivery, as good as random.
fn fate(delivery: &str, attempt: u32) -> u32 {
    let start = attempt.wrapping_mul(0x9e37_79b9);
    delivery.bytes().fold(start, |hash, byte| hash.wrapping_mul(31).wrapping_add(u32::from(byte))) >> 8
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_events_with_a_third_of_the_targets_failing_all_end_by_the_rule() {
    const EVENTS: usize = 10_000;
    let surroundings = Surroundings::with(&[("DELIVERY__TIMEOUT", "1s"), ("DELIVERY__CONNECT_TIMEOUT", "1s")]).await;
    // Of forty targets one refuses every connection, and twelve fail half of their attempts in every other way.
    let refused = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mut receivers = Vec::new();
    for number in 1..TARGETS {
        receivers.push(if number % 3 == 0 {
            Receiver::scripted(|request| match fate(request.delivery(), request.attempt()) % 8 {
                0 | 1 => Reply::status(500),
                2 => Reply::dropped(),
                3 if request.index % 8 == 0 => Reply::hang(),
                _ => Reply::ok(),
            })
            .await
        } else {
            Receiver::ok().await
        });
    }
    let mut subscriptions = vec![target(0, &format!("http://{refused}/"), json!({}))];
    subscriptions.extend((1..).zip(&receivers).map(|(number, it)| target(number, &it.url("/"), json!({}))));
    surroundings.subscribe(&subscriptions);
    let service = surroundings.start().await;
    surroundings.publish_all(&to_targets(EVENTS)).await;
    surroundings.results.wait_for_finals(EVENTS, 4 * GENEROUS).await;

    let results = surroundings.results.all();
    assert_eq!(surroundings.results.distinct().len(), results.len(), "nothing was told twice");
    let finals = surroundings.results.finals();
    assert_eq!(finals.len(), EVENTS);
    let requests = by_delivery(&receivers);
    let mut told: HashMap<_, Vec<_>> = HashMap::new();
    for result in &results {
        told.entry(result.delivery.unwrap()).or_default().push(result);
    }
    // A result is published after its parked message: with waits this short the next one may overtake it.
    for told in told.values_mut() {
        told.sort_by_key(|it| it.attempt);
    }
    for (delivery, finals) in &finals {
        let [last] = finals.as_slice() else { panic!("one final each: {finals:#?}") };
        assert_by_the_rule(last, &told[delivery], requests.get(&delivery.to_string()).map_or(&[], Vec::as_slice));
    }
    assert_no_repeats(&receivers);
    surroundings.end(service, &[]).await;
}

/// One delivery's attempts are consecutive, end as they must, and none came early.
fn assert_by_the_rule(last: &DeliveryResult, told: &[&DeliveryResult], requests: &[Recorded]) {
    assert_eq!(told.iter().map(|it| it.attempt).collect::<Vec<_>>(), (1..=last.attempt).collect::<Vec<_>>());
    if last.outcome == Outcome::Exhausted {
        assert_eq!(last.attempt, ATTEMPTS, "{last:#?}");
    } else {
        assert_eq!(last.outcome, Outcome::Delivered);
    }
    for (n, pair) in (0..).zip(told.windows(2)) {
        assert_eq!(pair[0].outcome, Outcome::AttemptFailed);
        let waited = pair[0].attempted_at.unwrap().age_at(pair[1].attempted_at.unwrap());
        assert!(waited >= pair[0].latency + BACKOFF * 2u32.pow(n), "{waited:?} after attempt {}", n + 1);
    }
    // What was answered had arrived; whether silence did is known to the network alone.
    let arrived: HashMap<_, _> = requests.iter().map(|request| (request.attempt(), request.arrived)).collect();
    assert!(arrived.keys().all(|attempt| (1..=last.attempt).contains(attempt)), "{arrived:?}");
    for answered in told.iter().filter(|it| it.status_code.is_some()) {
        let at = arrived[&answered.attempt];
        if let Some(next) = arrived.get(&(answered.attempt + 1)) {
            assert!(*next - at >= BACKOFF * 2u32.pow(answered.attempt - 1), "{told:#?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_one_receiver_hangs_all_others_get_everything() {
    const EVENTS: usize = 2_000;
    const SILENT: Duration = Duration::from_secs(15);
    let surroundings = Surroundings::with(&[("BROKER__DELAY_UNIT", "1s"), ("DELIVERY__BACKOFF", "2s")]).await;
    let over = Arc::new(AtomicBool::new(false));
    let is_over = Arc::clone(&over);
    let hanging = Receiver::scripted(move |_| {
        Reply::ok().after(if is_over.load(Ordering::Relaxed) { Duration::ZERO } else { SILENT })
    })
    .await;
    let mut subscriptions = vec![target(0, &hanging.url("/"), json!({"target": {"timeout": "20s"}}))];
    let mut others = Vec::new();
    for number in 1..10 {
        others.push(Receiver::ok().await);
        subscriptions.push(target(number, &others[number - 1].url("/"), json!({})));
    }
    surroundings.subscribe(&subscriptions);
    // In the queue before the service starts: nobody knows yet who hangs.
    let inbox = |number: usize| Some(format!("inbox-{}", number % 10).parse().unwrap());
    let all: Vec<_> = events(EVENTS)
        .into_iter()
        .enumerate()
        .map(|(number, it)| DocumentEvent { inbox: inbox(number), ..it })
        .collect();
    surroundings.publish_all(&all).await;
    let service = surroundings.start().await;
    surroundings.results.wait_for_outcome(Outcome::Delivered, EVENTS * 9 / 10, GENEROUS).await;
    let results = surroundings.results.all();
    assert!(
        results.iter().all(|it| it.subscription.as_ref().unwrap().as_str() != "target-0"),
        "the others were done before the first silence ended"
    );
    assert!(results.iter().all(|it| (it.outcome, it.attempt) == (Outcome::Delivered, 1)));
    assert!(hanging.count() > 0);
    over.store(true, Ordering::Relaxed);
    surroundings.results.wait_for_finals(EVENTS, 3 * GENEROUS).await;
    let expected: Vec<_> = others.iter().map(|it| (it, EVENTS / 10)).chain([(&hanging, EVENTS / 10)]).collect();
    surroundings.end(service, &expected).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_subscriptions_are_ready_in_seconds() {
    const MANY: usize = 100_000;
    let receiver = Receiver::ok().await;
    let surroundings = Surroundings::new().await;
    let of = |number: usize| json!({"organization": format!("organization-{}", number / 10), "inboxes": [format!("i{}", number % 10)]});
    let all: Vec<_> =
        (0..MANY).map(|number| with(subscription(&format!("s{number}"), &receiver.url("/")), of(number))).collect();
    surroundings.subscribe(&all);
    let before = Instant::now();
    let service = surroundings.start().await;
    let took = before.elapsed();
    eprintln!("{MANY} subscriptions: ready after {took:?}");
    // A debug build on a busy machine; a release build takes a small part of it.
    assert!(took < GENEROUS, "{took:?}");
    let event = DocumentEvent {
        organization: "organization-7777".parse().unwrap(),
        inbox: Some("i7".parse().unwrap()),
        ..event("evt-1")
    };
    surroundings.publish(&event).await;
    let result = surroundings.results.wait_for(1, GENEROUS).await.remove(0);
    assert_eq!((result.outcome, result.fan_out), (Outcome::Delivered, 1));
    assert_eq!(result.subscription.unwrap().as_str(), "s77777");
    surroundings.end(service, &[(&receiver, 1)]).await;
}
