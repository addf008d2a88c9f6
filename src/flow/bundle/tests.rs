//! Which events share a message, when it leaves, and what becomes of them.

use bytes::Bytes;
use futures_util::future::join_all;
use tokio::{sync::watch, task::JoinSet};

use super::*;
use crate::{
    broker::{
        PublishError, Standing,
        model::{Publications, publisher},
        outbox::MAX_MESSAGE_BYTES,
    },
    domain::{Owed, now},
    flow::model::names,
};

const UNIT: Duration = Duration::from_secs(1);

struct Parking {
    bundles: Bundles,
    publications: Publications,
    draining: CancellationToken,
    _standing: watch::Sender<Standing>,
}

fn parking() -> Parking {
    let (standing, seen) = watch::channel(Standing::Open);
    let (publisher, publications) = publisher(seen);
    let draining = CancellationToken::new();
    let bundles = Bundles::new(BrokerOutbox::new(publisher, names()), UNIT, draining.clone());
    Parking { bundles, publications, draining, _standing: standing }
}

fn acme() -> OrganizationId {
    "acme".parse().unwrap()
}

fn answering(tier: Tier, organization: &OrganizationId) -> Waits<'_> {
    Waits { tier, organization, shares_with_any: false }
}

fn tier(number: usize) -> Tier {
    Tier::all().nth(number).unwrap()
}

fn event(owed: &[&str], bytes: usize) -> ParkedEvent {
    ParkedEvent {
        event: Bytes::from(vec![7; bytes]),
        first_seen: now(),
        fan_out: 1,
        trace: TraceContext { traceparent: Some("00-aa-bb-01".to_owned()), tracestate: None },
        owed: owed.iter().map(|id| Owed::first(id.parse().unwrap())).collect(),
    }
}

type Parked = Vec<Result<Confirmed, OutboxError>>;

/// Parks them all at once, for targets that answer; gives what each was told, and how many events each message held, largest
/// first.
async fn park(
    parking: &mut Parking,
    events: &[(Tier, ParkedEvent)],
    told: Result<Confirmed, PublishError>,
) -> (Parked, Vec<usize>) {
    let acme = acme();
    let events: Vec<_> = events.iter().map(|(tier, event)| (answering(*tier, &acme), event.clone())).collect();
    park_where(parking, &events, told).await
}

/// The same, wherever each waits.
async fn park_where(
    parking: &mut Parking,
    events: &[(Waits<'_>, ParkedEvent)],
    told: Result<Confirmed, PublishError>,
) -> (Parked, Vec<usize>) {
    let Parking { bundles, publications, .. } = parking;
    let mut held = Vec::new();
    let answer = async {
        loop {
            let published = publications.next().await.unwrap();
            held.push(codec::decode_parked(&published.body()).unwrap().len());
            published.answer(told.clone());
        }
    };
    let parked = tokio::select! {
        parked = join_all(events.iter().map(|(waits, event)| bundles.park(*waits, event.clone()))) => parked,
        () = answer => unreachable!("publishing has no end"),
    };
    held.sort_by(|a, b| b.cmp(a));
    (parked, held)
}

async fn held(events: &[(Tier, ParkedEvent)]) -> Vec<usize> {
    park(&mut parking(), events, Ok(Confirmed::nothing_owed())).await.1
}

#[tokio::test(start_paused = true)]
async fn events_that_owe_to_the_same_and_wait_as_long_share_a_message() {
    let (first, second) = (tier(0), tier(1));
    let events = [
        (first, event(&["a"], 9)),
        (first, event(&["b"], 9)),
        (first, event(&["a"], 5)),
        (second, event(&["a"], 9)),
        (first, event(&["a", "b"], 9)),
        (first, event(&["b", "a"], 9)),
        (first, event(&["a"], 9)),
    ];
    assert_eq!(held(&events).await, [3, 2, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn what_is_parked_leaves_sooner_where_very_many_messages_come_in() {
    for (messages, leaves_after) in [(512, 100), (513, 20)] {
        let mut parking = parking();
        (0..messages).for_each(|_| parking.bundles.message_came());
        let began = Instant::now();
        let parked = [(tier(0), event(&["a"], 9))];
        park(&mut parking, &parked, Ok(Confirmed::nothing_owed())).await;
        // To the timer's millisecond.
        let took = began.elapsed().as_millis();
        assert!((leaves_after..=leaves_after + 1).contains(&took), "{messages}: {took} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_holds_sixteen_events_or_64_kib_and_one_that_owes_to_many_has_its_own() {
    let many = vec![(tier(0), event(&["a"], 9)); 35];
    assert_eq!(held(&many).await, [16, 16, 3]);
    let large = vec![(tier(0), event(&["a"], 30 * 1024)); 3];
    assert_eq!(held(&large).await, [2, 1]);
    let subscriptions = ["a", "b", "c", "d", "e"];
    assert_eq!(held(&vec![(tier(0), event(&subscriptions[..4], 9)); 2]).await, [2]);
    assert_eq!(held(&[(tier(0), event(&subscriptions, 9)), (tier(0), event(&subscriptions, 9))]).await, [1, 1]);
}

/// What an event owes to so many subscriptions, parked part by part.
fn parts(event: &ParkedEvent, sizes: &[usize]) -> Vec<(Tier, ParkedEvent)> {
    let ids = (0..).map(|number| Owed::first(format!("s{number}").parse().unwrap()));
    let mut owed = ids.take(sizes.iter().sum());
    let part = |size: &usize| ParkedEvent { owed: owed.by_ref().take(*size).collect(), ..event.clone() };
    sizes.iter().map(part).map(|part| (tier(0), part)).collect()
}

#[tokio::test(start_paused = true)]
async fn what_an_event_owes_to_many_joins_its_message_while_that_gathers() {
    for (sizes, bytes) in [(&[2, 14, 1, 2][..], 9), (&[14, 2, 9], 9), (&[14, 2], 60 * 1024)] {
        let Parking { bundles, publications, .. } = &mut parking();
        let (acme, event) = (acme(), event(&[], bytes));
        let parts = parts(&event, sizes);
        let parked = join_all(parts.iter().map(|(tier, part)| bundles.park(answering(*tier, &acme), part.clone())));
        let answer = async {
            let published = publications.next().await.unwrap();
            let body = published.body();
            published.answer(Ok(Confirmed::nothing_owed()));
            codec::decode_parked(&body).unwrap()
        };
        let (parked, messages) = tokio::join!(parked, answer);
        assert!(parked.iter().all(Result::is_ok), "{parked:?}");
        let all: Vec<_> = parts.into_iter().flat_map(|(_, part)| part.owed).collect();
        assert_eq!(messages, [ParkedEvent { owed: all, ..event }]);
    }
}

#[tokio::test(start_paused = true)]
async fn what_comes_when_a_message_has_left_is_another_one() {
    let mut parking = parking();
    for (tier, part) in parts(&event(&[], 9), &[14, 2]) {
        let (parked, held) = park(&mut parking, &[(tier, part)], Ok(Confirmed::nothing_owed())).await;
        assert_eq!((parked.len(), held), (1, vec![1]));
    }
}

#[tokio::test(start_paused = true)]
async fn what_an_event_owes_to_few_and_few_is_shared_with_other_events() {
    let events: Vec<_> = (0..3).flat_map(|_| parts(&event(&[], 9), &[1, 2])).collect();
    assert_eq!(held(&events).await, [3, 3]);
    // Once it owes to many it takes no others, nor does what came from elsewhere join it.
    let (one, other) = (event(&[], 9), event(&[], 9));
    let [few, many] = <[_; 2]>::try_from(parts(&one, &[2, 9])).unwrap();
    let others = parts(&other, &[2, 9]);
    assert_eq!(held(&[few, many, others[0].clone()]).await, [1, 1]);
    assert_eq!(held(&[parts(&one, &[9])[0].clone(), others[1].clone()]).await, [1, 1]);
}

#[tokio::test(start_paused = true)]
async fn what_becomes_of_a_message_becomes_of_all_that_is_in_it() {
    let events = vec![(tier(0), event(&["a"], 9)); 3];
    let (parked, _) = park(&mut parking(), &events, Ok(Confirmed::in_a_model(true))).await;
    assert!(parked.iter().all(|it| it.as_ref().is_ok_and(Confirmed::may_be_repeated)), "{parked:?}");
    let (parked, _) = park(&mut parking(), &events, Err(PublishError::Closed)).await;
    assert!(parked.iter().all(|it| matches!(it, Err(OutboxError::Closed))), "{parked:?}");
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_refused_is_offered_again_until_all_that_is_in_it_is_taken() {
    let Parking { bundles, mut publications, .. } = parking();
    let (acme, events) = (acme(), vec![event(&["a"], 9); 3]);
    let answer = async {
        let mut bodies = Vec::new();
        for told in [Err(PublishError::Refused { repeated: true }), Ok(Confirmed::nothing_owed())] {
            let published = publications.next().await.unwrap();
            bodies.push(published.body());
            published.answer(told);
        }
        bodies
    };
    let parked = join_all(events.into_iter().map(|event| bundles.park(answering(tier(0), &acme), event)));
    let (parked, bodies) = tokio::join!(parked, answer);
    assert!(parked.iter().all(|it| it.as_ref().is_ok_and(Confirmed::may_be_repeated)), "{parked:?}");
    assert_eq!((bodies[0] == bodies[1], codec::decode_parked(&bodies[1]).unwrap().len()), (true, 3));
}

#[tokio::test(start_paused = true)]
async fn what_is_too_large_is_refused_and_holds_up_nothing() {
    let events = [(tier(0), event(&["a"], 9)), (tier(0), event(&["a"], MAX_MESSAGE_BYTES))];
    let (parked, held) = park(&mut parking(), &events, Ok(Confirmed::nothing_owed())).await;
    assert!(matches!(parked[..], [Ok(_), Err(OutboxError::TooLarge)]), "{parked:?}");
    assert_eq!(held, [1]);
}

#[tokio::test(start_paused = true)]
async fn it_leaves_after_100_ms_and_at_once_when_the_service_stops() {
    let (mut parking, events) = (parking(), [(tier(0), event(&["a"], 9))]);
    let fine = || Ok(Confirmed::nothing_owed());
    let begun = Instant::now();
    park(&mut parking, &[(tier(0), event(&["a"], MOST_BYTES))], fine()).await;
    assert_eq!(begun.elapsed().as_millis(), 0, "a large one has gathered before");
    park(&mut parking, &events, fine()).await;
    assert_eq!(begun.elapsed().as_millis(), 100);
    let stop = parking.draining.clone();
    let (_, ()) = tokio::join!(park(&mut parking, &events, fine()), async {
        sleep_until(begun + Duration::from_millis(130)).await;
        stop.cancel();
    });
    assert_eq!(begun.elapsed().as_millis(), 130, "what waited is cut short");
    park(&mut parking, &events, fine()).await;
    assert_eq!(begun.elapsed().as_millis(), 130, "and nothing waits after it");
}

#[tokio::test(start_paused = true)]
async fn who_waits_no_longer_keeps_nobody_else() {
    let mut parking = parking();
    let events = vec![(tier(0), event(&["a"], 9)); 2];
    let (tier, leaves_early) = &events[0];
    {
        let acme = acme();
        let first = parking.bundles.park(answering(*tier, &acme), leaves_early.clone());
        let waited = tokio::time::timeout(Duration::from_millis(10), first).await;
        assert!(waited.is_err(), "it has opened the message, and is gone");
    }
    let (parked, held) = park(&mut parking, &events, Ok(Confirmed::nothing_owed())).await;
    assert!(parked.iter().all(Result::is_ok), "{parked:?}");
    assert_eq!(held, [3], "what was said once is not taken back: at least once");
}

#[tokio::test(start_paused = true)]
async fn what_has_left_is_forgotten_although_something_always_gathers() {
    let (parking, acme) = (parking(), acme());
    let (mut leaving, mut events) = (JoinSet::new(), Vec::new());
    for _ in 0..300 {
        for tier in Tier::all() {
            // Kept, so that each lies elsewhere.
            let parked = event(&["a"], 9);
            events.push(parked.event.clone());
            leaving.spawn(parking.bundles.add(answering(tier, &acme), Content::new(parked)));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert!(lock(&parking.bundles.open).bundles.values().any(Bundle::gathers));
    }
    let kept = lock(&parking.bundles.open).bundles.len();
    assert!(kept < 60, "{kept} are kept of what was parked in 3 s");
}

#[tokio::test(start_paused = true)]
async fn full_messages_to_one_subscription_are_much_as_those_to_many_are() {
    let (mut parking, fine) = (parking(), || Ok(Confirmed::nothing_owed()));
    let begun = Instant::now();
    let much: Vec<_> = (0..26 * MOST_EVENTS).map(|_| (tier(0), event(&["a"], 9))).collect();
    let (_, held) = park(&mut parking, &much, fine()).await;
    assert_eq!((held, begun.elapsed().as_millis()), (vec![MOST_EVENTS; 26], 100));
    park(&mut parking, &much[..1], fine()).await;
    assert_eq!(begun.elapsed().as_millis(), 120, "what comes behind them leaves in 20 ms");
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_targets_that_do_not_answer_shares_a_message_whoever_it_is_for() {
    let [acme, other] = ["acme", "other"].map(|id| id.parse::<OrganizationId>().unwrap());
    let silent = |number, organization| Waits { shares_with_any: true, ..answering(tier(number), organization) };
    let events = [
        (silent(0, &acme), event(&["a"], 9)),
        (silent(0, &acme), event(&["b", "c"], 9)),
        (silent(0, &other), event(&["d"], 9)),
        (silent(1, &other), event(&["d"], 9)),
        (answering(tier(0), &acme), event(&["a"], 9)),
        (silent(0, &acme), event(&["a", "b", "c", "d", "e"], 9)),
    ];
    let (_, held) = park_where(&mut parking(), &events, Ok(Confirmed::nothing_owed())).await;
    assert_eq!(held, [3, 1, 1, 1], "not with what answers, what waits longer, nor what owes to many");
    let large = vec![(silent(0, &acme), event(&["a"], 13 * 1024)); 4];
    let (_, held) = park_where(&mut parking(), &large, Ok(Confirmed::nothing_owed())).await;
    assert_eq!(held, [3, 1], "40 KiB at most");
    // Larger ones share as they would elsewhere, and end no message of others.
    let larger = (silent(0, &acme), event(&["a"], 25 * 1024));
    let mixed = [(silent(0, &acme), event(&["b"], 9)), larger.clone(), (silent(0, &acme), event(&["c"], 9)), larger];
    let (_, held) = park_where(&mut parking(), &mixed, Ok(Confirmed::nothing_owed())).await;
    assert_eq!(held, [2, 2]);
}

#[tokio::test(start_paused = true)]
async fn what_is_silent_counts_by_whom_it_is_for_and_so_does_a_message_that_is_full() {
    let acme = acme();
    let silent = Waits { shares_with_any: true, ..answering(tier(0), &acme) };
    let fine = || Ok(Confirmed::nothing_owed());
    // 24 kinds are two messages, and the second one counts as well: 25, still little.
    for (to, wait) in [(24, 100), (25, 20), (250, 20)] {
        let (mut parking, begun) = (parking(), Instant::now());
        let much: Vec<_> = (0..to).map(|number| (silent, event(&[&format!("s{number}")], 9))).collect();
        let (_, held) = park_where(&mut parking, &much, fine()).await;
        assert_eq!(held.len(), usize::div_ceil(to, MOST_EVENTS), "{to}");
        park_where(&mut parking, &much[..1], fine()).await;
        assert_eq!(begun.elapsed().as_millis(), 100 + wait, "{to}");
    }
    let (mut parking, begun) = (parking(), Instant::now());
    park_where(&mut parking, &vec![(silent, event(&["a"], 9)); 26 * MOST_EVENTS], fine()).await;
    park_where(&mut parking, &[(silent, event(&["a"], 9))], fine()).await;
    assert_eq!(begun.elapsed().as_millis(), 120);
}

#[tokio::test(start_paused = true)]
async fn what_is_silent_and_owes_to_many_leaves_as_soon_as_the_rest_for_it_shares_nothing() {
    let (acme, mut parking, begun) = (acme(), parking(), Instant::now());
    let silent = Waits { shares_with_any: true, ..answering(tier(0), &acme) };
    let much: Vec<_> = (0..126).map(|_| (silent, event(&["a", "b", "c", "d", "e"], 9))).collect();
    let (_, held) = park_where(&mut parking, &much, Ok(Confirmed::nothing_owed())).await;
    assert_eq!(held, vec![1; 126]);
    park_where(&mut parking, &much[..1], Ok(Confirmed::nothing_owed())).await;
    assert_eq!(begun.elapsed().as_millis(), 104);
}

#[tokio::test(start_paused = true)]
async fn what_leaves_often_is_not_more_for_what_gathers_beside_it() {
    let (acme, mut parking, fine) = (acme(), parking(), || Ok(Confirmed::nothing_owed()));
    let silent = Waits { shares_with_any: true, ..answering(tier(0), &acme) };
    let begun = Instant::now();
    let spike: Vec<_> = (0..126).map(|number| (tier(0), event(&[&format!("s{number}")], 9))).collect();
    park(&mut parking, &spike, fine()).await;
    let Parking { bundles, publications, .. } = &mut parking;
    let again = async |waits, to: &'static str| {
        while begun.elapsed().as_millis() < 200 {
            drop(bundles.park(waits, event(&[to], 9)).await.unwrap());
        }
    };
    let answer = async {
        while let Some(published) = publications.next().await {
            published.answer(fine());
        }
    };
    let few = join_all(["a", "b", "c"].map(|to| again(answering(tier(0), &acme), to)));
    tokio::select! {
        _ = futures_util::future::join(again(silent, "d"), few) => {}
        () = answer => unreachable!("publishing has no end"),
    }
    assert_eq!(begun.elapsed().as_millis(), 200);
    park(&mut parking, &spike[..1], fine()).await;
    assert_eq!(begun.elapsed().as_millis(), 300, "four kinds are little, however often they left");
}
