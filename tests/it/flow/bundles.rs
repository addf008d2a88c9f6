//! What waits for the same, or for targets that do not answer or whose turns are a unit apart, shares a message in the broker,
//! and nothing else.

use std::{collections::BTreeSet, time::Duration};

use docrelay::{
    broker::{codec, outbox::headers},
    domain::{DocumentEvent, Outcome, Owed, ParkedEvent, TraceContext, Wait, now},
    policy::wait::Tier,
};
use lapin::{BasicProperties, options::BasicPublishOptions, types::AMQPValue};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::support::{
    receiver::{Receiver, Recorded, Reply},
    service::{GENEROUS, Surroundings, event, parked_in, subscription, with},
};

#[tokio::test]
async fn what_one_target_refuses_shares_parked_messages_and_each_is_tried_again_once() {
    const EVENTS: usize = 60;
    let second_time_lucky = |request: &Recorded| Reply::status(if request.attempt() == 1 { 500 } else { 200 });
    let (erp, crm) = (Receiver::scripted(second_time_lucky).await, Receiver::scripted(second_time_lucky).await);
    let surroundings = Surroundings::with(&[("BROKER__DELAY_UNIT", "1s"), ("DELIVERY__BACKOFF", "1s")]).await;
    surroundings.subscribe(&[subscription("erp", &erp.url("/")), subscription("crm", &crm.url("/"))]);
    let (_connection, channel) = surroundings.channel().await;
    let copies = surroundings.copies_of_what_is_parked(&channel).await;
    let service = surroundings.start().await;
    let events: Vec<_> = (0..EVENTS).map(|number| event(&format!("evt-{number}"))).collect();
    surroundings.publish_all(&events).await;
    surroundings.results.wait_for_finals(2 * EVENTS, GENEROUS).await;

    let waited = parked_in(&channel, &copies).await;
    let owed = waited.iter().flatten().flat_map(|event| &event.owed);
    assert_eq!(
        owed.filter(|owed| owed.wait == Wait::Retry).count(),
        2 * EVENTS,
        "each was parked once after it failed"
    );
    assert!(waited.iter().any(|events| events.len() > 1), "none of {} messages holds more than one", waited.len());
    let to = |event: &ParkedEvent| event.owed.iter().map(|owed| owed.subscription.clone()).collect::<BTreeSet<_>>();
    assert!(waited.iter().all(|events| events.iter().all(|event| to(event) == to(&events[0]))), "{waited:#?}");

    let results = surroundings.results.distinct();
    let told = |outcome, attempt| results.iter().filter(|it| (it.outcome, it.attempt) == (outcome, attempt)).count();
    assert_eq!((told(Outcome::AttemptFailed, 1), told(Outcome::Delivered, 2)), (2 * EVENTS, 2 * EVENTS));
    surroundings.end(service, &[(&erp, 2 * EVENTS), (&crm, 2 * EVENTS)]).await;
}

#[tokio::test]
async fn what_silent_targets_are_owed_shares_messages_and_what_another_one_is_owed_does_not() {
    const EACH: usize = 8;
    const FEW: usize = 4;
    let silent: Vec<String> = (0..12).map(|number| format!("silent-{number}")).collect();
    let once_silent = |request: &Recorded| if request.attempt() == 1 { Reply::dropped() } else { Reply::ok() };
    let once_failing = |request: &Recorded| Reply::status(if request.attempt() == 1 { 500 } else { 200 });
    let (away, answers) = (Receiver::scripted(once_silent).await, Receiver::scripted(once_failing).await);
    let surroundings = Surroundings::with(&[("BROKER__DELAY_UNIT", "1s"), ("DELIVERY__BACKOFF", "1s")]).await;
    let of = |organization: &str, receiver: &Receiver| {
        let subscription = subscription(organization, &receiver.url("/"));
        with(subscription, json!({"organization": organization}))
    };
    let subscriptions: Vec<_> =
        silent.iter().map(|it| of(it, &away)).chain([of("answers", &answers), of("resets", &away)]).collect();
    surroundings.subscribe(&subscriptions);
    let (_connection, channel) = surroundings.channel().await;
    let copies = surroundings.copies_of_what_is_parked(&channel).await;
    let service = surroundings.start().await;
    let events: Vec<_> = (0..EACH)
        .flat_map(|number| {
            // Four of one's own: each was silent once, and that is not down.
            let few = (number < FEW).then_some("resets");
            let to = silent.iter().map(String::as_str).chain(["answers"]).chain(few);
            to.map(move |organization| DocumentEvent {
                organization: organization.parse().unwrap(),
                ..event(&format!("evt-{organization}-{number}"))
            })
        })
        .collect();
    surroundings.publish_all(&events).await;
    surroundings.results.wait_for_finals(events.len(), GENEROUS).await;

    let waited = parked_in(&channel, &copies).await;
    let to = |event: &ParkedEvent| event.owed.iter().map(|owed| owed.subscription.to_string()).collect::<Vec<_>>();
    let together: Vec<BTreeSet<_>> = waited.iter().map(|events| events.iter().flat_map(to).collect()).collect();
    assert!(together.iter().any(|to| to.len() > 1), "none of {} messages is for several", together.len());
    for other in ["answers", "resets"] {
        let of_it: Vec<_> = together.iter().filter(|to| to.contains(other)).collect();
        assert!(!of_it.is_empty() && of_it.iter().all(|to| to.len() == 1), "{other}: {of_it:?}");
    }

    let delivered = surroundings.results.distinct();
    let delivered = delivered.iter().filter(|it| (it.outcome, it.attempt) == (Outcome::Delivered, 2)).count();
    assert_eq!(delivered, events.len());
    surroundings.end(service, &[(&away, 2 * (EACH * silent.len() + FEW)), (&answers, 2 * EACH)]).await;
}

#[tokio::test]
async fn what_waits_for_targets_as_slow_as_a_unit_shares_messages_and_what_waits_for_a_limit_does_not() {
    const EACH: usize = 4;
    let slow: Vec<String> = (0..12).map(|number| format!("slow-{number}")).collect();
    let receiver = Receiver::scripted(|_: &Recorded| Reply::ok().after(Duration::from_millis(1100))).await;
    let quick = Receiver::scripted(|_: &Recorded| Reply::ok()).await;
    let surroundings = Surroundings::with(&[("BROKER__DELAY_UNIT", "1s")]).await;
    let subscriptions: Vec<_> = slow
        .iter()
        .map(|it| {
            let one_at_a_time = json!({"organization": it, "max_in_flight": 1});
            with(subscription(it, &receiver.url("/")), one_at_a_time)
        })
        .chain([with(
            subscription("limited", &quick.url("/")),
            json!({"organization": "limited", "rate_limit": {"per_second": 1, "burst": 1}}),
        )])
        .collect();
    surroundings.subscribe(&subscriptions);
    let (_connection, channel) = surroundings.channel().await;
    let copies = surroundings.copies_of_what_is_parked(&channel).await;
    let service = surroundings.start().await;
    let to = |organization: &str, number: usize| DocumentEvent {
        organization: organization.parse().unwrap(),
        ..event(&format!("evt-{organization}-{number}"))
    };
    let to_each = |number: usize| slow.iter().map(|it| to(it, number)).collect::<Vec<_>>();
    // They are known to be slow, and not silent, when the others come: nothing of the first had to wait.
    surroundings.publish_all(&to_each(0)).await;
    surroundings.results.wait_for_finals(slow.len(), GENEROUS).await;
    assert_eq!(parked_in(&channel, &copies).await, Vec::<Vec<ParkedEvent>>::new());
    let more = (1..EACH).flat_map(|number| to_each(number).into_iter().chain([to("limited", number)]));
    surroundings.publish_all(&more.collect::<Vec<_>>()).await;
    surroundings.results.wait_for_finals(slow.len() * EACH + EACH - 1, GENEROUS).await;

    let waited = parked_in(&channel, &copies).await;
    let whose = |events: &Vec<ParkedEvent>| {
        let owed = events.iter().flat_map(|event| &event.owed);
        owed.map(|owed| owed.subscription.to_string()).collect::<BTreeSet<_>>()
    };
    assert!(waited.iter().any(|events| whose(events).len() > 1), "none of {} messages is for several", waited.len());
    let of_the_limited: Vec<_> = waited.iter().map(whose).filter(|to| to.contains("limited")).collect();
    assert!(!of_the_limited.is_empty() && of_the_limited.iter().all(|to| to.len() == 1), "{of_the_limited:?}");
    surroundings.end(service, &[(&receiver, slow.len() * EACH), (&quick, EACH - 1)]).await;
}

#[tokio::test]
async fn what_shares_a_message_with_a_target_that_hangs_arrives_and_is_told_before_that_ends() {
    const EACH: usize = 12;
    let (back, released) = (CancellationToken::new(), CancellationToken::new());
    let unless_back = |reply: Reply| {
        let back = back.clone();
        move |_: &Recorded| if back.is_cancelled() { reply.clone() } else { Reply::dropped() }
    };
    let recovers = Receiver::scripted(unless_back(Reply::ok())).await;
    let hangs = Receiver::scripted(unless_back(Reply::ok().once(&released))).await;
    // No request that hangs ends before all that is waited for has come.
    let surroundings = Surroundings::with(&[("DELIVERY__TIMEOUT", "1m")]).await;
    let of = |organization: &str, receiver: &Receiver| {
        let hold = json!({"organization": organization, "retry": {"while_down": "hold"}});
        with(subscription(organization, &receiver.url("/")), hold)
    };
    surroundings.subscribe(&[of("recovers", &recovers), of("hangs", &hangs)]);
    let (_connection, channel) = surroundings.channel().await;
    let copies = surroundings.copies_of_what_is_parked(&channel).await;
    let service = surroundings.start().await;
    let events: Vec<_> = (0..2 * EACH)
        .map(|number| DocumentEvent {
            organization: if number % 2 == 0 { "recovers" } else { "hangs" }.parse().unwrap(),
            ..event(&format!("evt-{number}"))
        })
        .collect();
    surroundings.publish_all(&events).await;
    surroundings.results.wait_for_outcome(Outcome::Deferred, 2 * EACH, GENEROUS).await;
    back.cancel();
    let delivered = surroundings.results.wait_for_outcome(Outcome::Delivered, EACH, GENEROUS).await;
    assert!(delivered.iter().all(|it| it.organization.as_str() == "recovers"), "{delivered:#?}");
    released.cancel();
    surroundings.results.wait_for_finals(2 * EACH, GENEROUS).await;
    let waited = parked_in(&channel, &copies).await;
    let to = |events: &Vec<ParkedEvent>| {
        events.iter().map(|event| event.owed[0].subscription.to_string()).collect::<BTreeSet<_>>()
    };
    assert!(waited.iter().any(|events| to(events).len() == 2), "they waited together: {waited:#?}");
    let requests = (recovers.count(), hangs.count());
    surroundings.end(service, &[(&recovers, requests.0), (&hangs, requests.1)]).await;
}

#[tokio::test]
async fn what_cannot_be_read_is_set_aside_without_those_that_waited_with_it() {
    let receiver = Receiver::ok().await;
    let surroundings = Surroundings::new().await;
    surroundings.subscribe(&[subscription("erp", &receiver.url("/"))]);
    let waiting = |event: Vec<u8>| {
        codec::encode_parked(&[ParkedEvent {
            event: event.into(),
            first_seen: now(),
            fan_out: 1,
            trace: TraceContext::default(),
            owed: vec![Owed::first("erp".parse().unwrap())],
        }])
    };
    let unreadable = waiting(b"\xff\xff".to_vec());
    // Field 10 of seven bytes, and in it only the event.
    let damaged = b"\x52\x07\x0a\x05event".to_vec();
    let service = surroundings.start().await;
    let (_connection, channel) = surroundings.channel().await;
    let names = &surroundings.topology.names;
    let key = names.delay_key(Tier::all().next().unwrap());
    let properties = BasicProperties::default().with_type(codec::PARKED_TYPE.into());
    // One whose event cannot be read, and one that is damaged itself.
    for (id, body) in [("evt-1", &unreadable), ("evt-2", &damaged)] {
        let body = [waiting(codec::encode_event(&event(id))), body.clone()].concat();
        let (exchange, options) = (names.park_exchange.as_str(), BasicPublishOptions::default());
        let publishing =
            channel.basic_publish(exchange.into(), key.as_str().into(), options, &body, properties.clone());
        publishing.await.unwrap().await.unwrap();
    }

    let letters = [surroundings.dead_letter().await, surroundings.dead_letter().await];
    for (body, reason) in [(unreadable, "undecodable"), (damaged, "missing_field")] {
        let letter = letters.iter().find(|it| it.data == body).expect("what can be published again, and nothing else");
        let header = |name: &str| letter.properties.headers().as_ref().unwrap().inner()[name].clone();
        assert_eq!(header(headers::REASON), AMQPValue::LongString(reason.into()));
        assert_eq!(header(headers::ORIGIN), AMQPValue::LongString("due".into()));
    }
    let delivered = surroundings.results.wait_for_outcome(Outcome::Delivered, 2, GENEROUS).await;
    let mut ids: Vec<_> = delivered.iter().map(|it| it.event_id.as_str()).collect();
    ids.sort_unstable();
    assert_eq!(ids, ["evt-1", "evt-2"]);
    surroundings.end(service, &[(&receiver, 2)]).await;
}
