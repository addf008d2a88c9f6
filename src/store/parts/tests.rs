//! What is put together, and what is forgotten.

use super::*;
use crate::{
    domain::{TargetUrl, now},
    store::{
        Found,
        database::{FiledRow, Origin, PausedRow},
        file::tests::defaults,
        parse,
    },
};

fn file(host: &str, claim: &str) -> Vec<Arc<Subscription>> {
    let text = format!(
        "subscriptions: [{{id: a, organization: acme, events: [document_text], target: {{url: 'http://{host}/'}}{claim}}}]"
    );
    parse(&text, &defaults()).unwrap().into_iter().map(Arc::new).collect()
}

fn state(parts: &Parts) -> State {
    parts.snapshot().by_id(&id()).unwrap().state
}

fn id() -> SubscriptionId {
    "a".parse().unwrap()
}

fn tombstones(count: usize, at: Timestamp) -> Vec<Tombstone> {
    let of = |number| Tombstone {
        id: format!("t{number}").parse().unwrap(),
        organization: "acme".parse().unwrap(),
        deleted_at: at,
        changed: ChangeCounter::default(),
    };
    (0..count).map(of).collect()
}

/// A store with nothing in it.
fn nothing(counter: i64) -> Loaded {
    let counter = ChangeCounter::at(counter);
    Loaded { rows: Vec::new(), gone: Vec::new(), filed: Vec::new(), paused: Vec::new(), counter }
}

fn bury(parts: &mut Parts, gone: Vec<Tombstone>, now: Timestamp) {
    parts.put_changes(&Changes { gone, ..Changes::default() }, &defaults(), now);
}

fn is_known(parts: &Parts, number: usize) -> bool {
    let found = parts.snapshot().find(&"acme".parse().unwrap(), &format!("t{number}").parse().unwrap());
    found == Found::Deleted
}

#[test]
fn deletions_are_forgotten_when_no_delivery_can_wait_any_more_and_when_there_are_too_many() {
    let (mut parts, begin) = (Parts::default(), now());
    bury(&mut parts, tombstones(1, begin), begin);
    bury(&mut parts, Vec::new(), begin.after(crate::domain::MAX_RETRY_AGE));
    assert!(is_known(&parts, 0));
    bury(&mut parts, Vec::new(), begin.after(TOMBSTONE_AGE * 2));
    assert!(!is_known(&parts, 0));

    bury(&mut parts, tombstones(TOMBSTONES + 2, begin), begin);
    let known = [0, 1, 2, TOMBSTONES + 1].map(|number| is_known(&parts, number));
    assert_eq!(known, [false, false, true, true], "the oldest first");
    assert_eq!(parts.deleted.len(), TOMBSTONES);
}

#[test]
fn what_is_learnt_of_a_target_outlives_the_file_that_says_the_same_and_no_other_url() {
    let mut parts = Parts::of_file(file("one", ""));
    let before = Arc::clone(parts.snapshot().by_id(&id()).unwrap());
    assert!(parts.learn_gone(&before, now()) && !parts.learn_gone(&before, now()), "once");
    assert_eq!(state(&parts), State::Gone);
    parts.put_file(file("one", ", name: New")).unwrap();
    assert_eq!(state(&parts), State::Gone);
    parts.put_file(file("one", ", enabled: false")).unwrap();
    assert_eq!(state(&parts), State::Disabled, "what its owner says is stronger");
    parts.put_file(file("two", "")).unwrap();
    assert_eq!(state(&parts), State::Enabled);
    assert!(!parts.learn_gone(&before, now()), "an answer of the former address says nothing of this one");
    assert_eq!(state(&parts), State::Enabled);
}

#[test]
fn what_the_store_knows_of_the_file_holds_for_one_url_and_until_it_is_taken_back() {
    let mut parts = Parts::of_file(file("one", ""));
    let mut changed = 0;
    let mut row = |host: &str, reason: Option<&str>| FiledRow {
        organization: "acme".parse().unwrap(),
        id: id(),
        fingerprint: TargetUrl::parse(&format!("http://{host}/")).unwrap().fingerprint(),
        reason: reason.map(str::to_owned),
        disabled_at: now(),
        changed: {
            changed += 1;
            ChangeCounter::at(changed)
        },
    };
    let mut put = |row: FiledRow| {
        parts.put_changes(&Changes { filed: vec![row], ..Changes::default() }, &defaults(), now());
        state(&parts)
    };
    assert_eq!(put(row("other", Some("gone"))), State::Enabled);
    assert_eq!(put(row("one", Some("gone"))), State::Gone);
    assert_eq!(put(FiledRow { organization: "rival".parse().unwrap(), ..row("one", None) }), State::Gone);
    assert_eq!(put(row("one", None)), State::Enabled);
}

#[test]
fn the_store_is_told_only_what_upstream_was_told_and_only_while_it_is_so() {
    let mut parts = Parts::of_file(file("one", ""));
    let before = Arc::clone(parts.snapshot().by_id(&id()).unwrap());
    let (at, later) = (now(), Instant::now());
    assert!(parts.learn_gone(&before, at));
    assert_eq!(parts.gone_to_write(later), []);
    parts.gone_was_told(&before, at);
    let written = parts.gone_to_write(later).remove(0);
    assert_eq!((&written.id, written.fingerprint), (&id(), before.target.fingerprint()));
    parts.gone_was_written(&written, ChangeCounter::at(1));
    assert_eq!(parts.gone_to_write(later), []);
    parts.put_file(file("one", ", name: New")).unwrap();
    assert_eq!(state(&parts), State::Gone, "although the store has not told it back yet");

    let mut parts = Parts::of_file(file("one", ""));
    assert!(parts.learn_gone(&before, at));
    parts.gone_was_told(&before, at);
    parts.put_file(file("two", "")).unwrap();
    assert_eq!(parts.gone_to_write(later), [], "it goes somewhere else by now");
}

#[test]
fn what_upstream_was_told_of_one_url_is_not_said_of_another() {
    let mut parts = Parts::of_file(file("one", ""));
    let (first, at, later) = (Arc::clone(parts.snapshot().by_id(&id()).unwrap()), now(), Instant::now());
    assert!(parts.learn_gone(&first, at));
    parts.put_file(file("two", "")).unwrap();
    let second = Arc::clone(parts.snapshot().by_id(&id()).unwrap());
    assert!(parts.learn_gone(&second, at));
    parts.gone_was_told(&first, at);
    assert_eq!(parts.gone_to_write(later), []);
    parts.gone_was_told(&second, at.after(std::time::Duration::from_secs(1)));
    assert_eq!(parts.gone_to_write(later), [], "nor of another time");
    parts.gone_was_told(&second, at);
    assert_eq!(parts.gone_to_write(later).len(), 1);
}

#[test]
fn what_the_store_refused_stays_as_it_is_and_is_written_a_while_later() {
    let mut parts = Parts::of_file(file("one", ""));
    let (before, at, later) = (Arc::clone(parts.snapshot().by_id(&id()).unwrap()), now(), Instant::now());
    assert!(parts.learn_gone(&before, at));
    parts.gone_was_told(&before, at);
    let refused = parts.gone_to_write(later).remove(0);
    let until = later + std::time::Duration::from_mins(1);
    parts.gone_was_refused(&refused, until);
    assert_eq!((parts.gone_to_write(later), state(&parts)), (vec![], State::Gone));
    assert_eq!(parts.gone_to_write(until), [refused]);
}

#[test]
fn a_deletion_that_is_told_twice_is_known_once() {
    let (mut parts, begin) = (Parts::default(), now());
    bury(&mut parts, tombstones(1, begin), begin);
    bury(&mut parts, tombstones(2, begin), begin);
    assert_eq!(parts.deleted.len(), 2);
}

#[test]
fn a_clash_names_both() {
    let text = "subscriptions: [{id: mine, organization: acme, payload: idexa, events: [document_finish], target: {url: 'http://h/:id'}}]";
    let idexa: Vec<_> = parse(text, &defaults()).unwrap().into_iter().map(Arc::new).collect();
    let mut parts = Parts::default();
    parts.singular.insert("acme".parse().unwrap(), "theirs".parse().unwrap());
    let refused = parts.put_file(idexa.clone()).unwrap_err().to_string();
    assert!(refused.contains("acme") && refused.contains("mine") && refused.contains("theirs"), "{refused}");
    assert!(parts.snapshot().is_empty(), "refused as a whole");
    parts.singular.clear();
    parts.put_file(idexa).unwrap();
}

#[test]
fn one_that_cannot_be_read_is_left_out_of_a_load_only_if_no_event_would_find_it() {
    let row = |reason: Option<&str>| Row {
        id: id(),
        organization: "acme".parse().unwrap(),
        origin: Origin::Api,
        singular: None,
        document: "unreadable".to_owned(),
        secrets: Ok(None),
        created_at: now(),
        updated_at: now(),
        disabled_reason: reason.map(str::to_owned),
        sequence: 1,
        changed: ChangeCounter::at(1),
    };
    let load = |reason| {
        let loaded = Loaded { rows: vec![row(reason)], ..nothing(1) };
        Parts::default().put_loaded(&loaded, &defaults())
    };
    assert!(load(Some("another reason")).is_ok());
    // Its events are to end as cancelled, not as unsubscribed.
    for reason in [Some("gone"), None] {
        assert!(matches!(load(reason), Err(NotLoaded::Incomplete { .. })), "{reason:?}");
    }
}

#[test]
fn a_target_is_paused_from_a_load_or_a_change_on_until_the_store_says_otherwise() {
    let (mut parts, begin) = (Parts::of_file(file("h", "")), now());
    let lane = parts.snapshot().by_id(&id()).unwrap().lane.clone();
    let organization: OrganizationId = "acme".parse().unwrap();
    let row = |paused_at| PausedRow {
        organization: organization.clone(),
        lane: lane.clone(),
        paused_at,
        changed: ChangeCounter::default(),
    };
    let change = |paused_at| Changes { paused: vec![row(paused_at)], ..Changes::default() };
    assert_eq!(parts.put_changes(&change(Some(begin)), &defaults(), begin).pauses, 1);
    assert_eq!(parts.put_changes(&change(Some(begin)), &defaults(), begin).pauses, 0, "told twice");
    assert_eq!(parts.snapshot().paused(&lane), Some(begin));
    // Whatever becomes of who leads there.
    parts.put_file(Vec::new()).unwrap();
    parts.put_file(file("h", "")).unwrap();
    assert_eq!(parts.snapshot().paused(&lane), Some(begin));
    parts.put_changes(&change(None), &defaults(), begin);
    assert_eq!(parts.snapshot().paused(&lane), None);

    parts.put_loaded(&Loaded { paused: vec![row(Some(begin))], ..nothing(2) }, &defaults()).unwrap();
    assert_eq!(parts.snapshot().paused(&lane), Some(begin));
    // Another database, or one that was restored: it knows nothing of this.
    parts.put_loaded(&nothing(1), &defaults()).unwrap();
    assert_eq!(parts.snapshot().paused(&lane), None);
    assert_eq!(parts.snapshot().lanes().after(None, None).count(), 1, "the file's subscription leads there");
}
