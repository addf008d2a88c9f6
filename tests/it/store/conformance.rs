//! What both databases must do.

use docrelay::{
    domain::Secret,
    store::database::{ChangeCounter, Content, Cursor, InsertError, NewSubscription, Origin, Store, UpdateError},
};

use super::{Database, at, content, id, ids, new, organization};

/// The suite as tests of one database.
macro_rules! conformance {
    ($suite:ident, $database:path: $($test:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                $crate::store::$suite::$test($database().await).await;
            }
        )*
    };
    ($database:path) => {
        $crate::store::conformance::conformance! {
            conformance, $database:
            what_is_inserted_is_what_is_read
            an_id_is_never_used_twice
            a_list_has_one_organizations_subscriptions_in_the_order_they_were_made
            pages_hold_everything_once_although_more_is_made_meanwhile
            an_update_replaces_the_content_and_moves_its_time
            an_update_of_what_was_changed_meanwhile_is_refused
            what_is_deleted_is_gone_and_leaves_a_tombstone
            another_organizations_id_answers_as_an_absent_one
            every_write_raises_the_counter_and_a_refused_one_does_not
            whoever_follows_the_counter_misses_nothing_however_many_write
            an_organization_has_one_of_a_kind_even_if_two_are_made_at_once
            the_database_itself_refuses_a_second_of_a_kind
            deleting_makes_room_for_another_of_its_kind
            what_the_system_disables_says_why_and_is_told_once
            deletions_are_loaded_while_they_matter_the_oldest_first
        }
        $crate::store::conformance::conformance! {
            filed, $database:
            what_is_known_of_the_files_is_loaded_and_followed
            a_filed_one_is_disabled_once_for_each_url_and_enabled_again
            whoever_enables_a_filed_one_is_not_overruled_by_what_was_found_before
            following_the_files_passes_no_other_change
            a_database_of_version_1_gets_its_new_tables
        }
        $crate::store::conformance::conformance! {
            paused, $database:
            what_is_paused_is_loaded_and_followed_until_it_is_resumed
            a_pause_keeps_its_beginning_and_what_changes_nothing_is_no_change
            targets_are_told_apart_whatever_they_are_called
            following_pauses_passes_no_other_change
            that_something_was_resumed_is_forgotten_after_thirty_days
        }
        $crate::store::conformance::conformance! {
            opening, $database:
            a_newer_schema_is_refused_with_both_versions
            many_may_open_an_empty_database_at_once
            a_database_that_is_opened_again_is_as_it_was
            a_database_that_is_gone_is_an_error_of_each_call
        }
        $crate::store::conformance::conformance! {
            sealed, $database:
            secrets_are_encrypted_at_rest_and_open_with_any_key_of_the_ring
            without_a_key_nothing_secret_is_stored
            secrets_of_another_row_do_not_open
            resealing_leaves_nothing_under_an_old_key_and_can_be_done_beside_writers
        }
        $crate::store::conformance::conformance! {
            limits, $database:
            limits_come_back_from_the_database_as_they_were_written
            a_document_from_before_there_were_limits_has_the_defaults
        }
        $crate::store::conformance::conformance! {
            keys, $database:
            a_key_is_found_by_its_text_until_it_is_revoked
            the_text_of_a_key_is_nowhere_in_the_database
        }
    };
}
pub(super) use conformance;

pub(super) fn with_secret(name: &str, secret: &str) -> NewSubscription {
    let content = Content { secrets: Some(Secret::new(secret)), ..content("{}") };
    NewSubscription { content, ..new(name) }
}

fn singular(name: &str) -> NewSubscription {
    NewSubscription { singular: Some("type-0".to_owned()), origin: Origin::Idexa, ..new(name) }
}

pub(super) async fn what_is_inserted_is_what_is_read(database: Database) {
    let store = database.open().await;
    let new = NewSubscription {
        singular: Some("one".to_owned()),
        content: Content {
            secrets: Some(Secret::new("{\"auth\":\"hush\"}")),
            disabled_reason: Some("gone".to_owned()),
            ..new("a").content
        },
        ..new("a")
    };
    let row = store.insert(&new, at(0)).await.unwrap();
    assert_eq!((&row.id, &row.organization, row.origin), (&new.id, &new.organization, new.origin));
    assert_eq!((&row.singular, &row.document), (&new.singular, &new.content.document));
    assert_eq!((&row.secrets, &row.disabled_reason), (&Ok(new.content.secrets), &new.content.disabled_reason));
    assert_eq!((row.created_at, row.updated_at), (at(0), at(0)), "to the microsecond");
    assert_eq!(store.get(&organization("acme"), &id("a")).await.unwrap(), Some(row.clone()));
    assert_eq!(store.load_all().await.unwrap().rows, [row]);
    assert_eq!(store.get(&organization("acme"), &id("b")).await.unwrap(), None);
}

pub(super) async fn an_id_is_never_used_twice(database: Database) {
    let store = database.open().await;
    store.insert(&new("a"), at(0)).await.unwrap();
    let theirs = NewSubscription { organization: organization("other"), ..new("a") };
    assert!(matches!(store.insert(&theirs, at(1)).await, Err(InsertError::IdTaken)));
    assert!(store.delete(&organization("acme"), &id("a"), at(2)).await.unwrap());
    assert!(matches!(store.insert(&new("a"), at(3)).await, Err(InsertError::IdTaken)), "a tombstone keeps its id");
}

pub(super) async fn a_list_has_one_organizations_subscriptions_in_the_order_they_were_made(database: Database) {
    let store = database.open().await;
    for (name, origin, owner) in [
        ("z", Origin::Api, "acme"),
        ("y", Origin::Idexa, "acme"),
        ("x", Origin::Api, "other"),
        ("w", Origin::ContractFit, "acme"),
        ("v", Origin::Api, "acme"),
    ] {
        let new = NewSubscription { origin, organization: organization(owner), ..new(name) };
        store.insert(&new, at(0)).await.unwrap();
    }
    let list = async |origin| {
        let page = store.list(&organization("acme"), origin, None, 10).await.unwrap();
        assert_eq!(page.next, None);
        ids(&page.rows).join(" ")
    };
    assert_eq!(list(None).await, "z y w v");
    assert_eq!(list(Some(Origin::Api)).await, "z v");
    assert_eq!(list(Some(Origin::Idexa)).await, "y");
    let nobody = store.list(&organization("nobody"), None, None, 10).await.unwrap();
    assert!(nobody.rows.is_empty() && nobody.next.is_none());
}

pub(super) async fn pages_hold_everything_once_although_more_is_made_meanwhile(database: Database) {
    let store = database.open().await;
    for index in 0..5 {
        store.insert(&new(&format!("s{index}")), at(0)).await.unwrap();
    }
    let (mut seen, mut cursor) = (Vec::new(), None::<Cursor>);
    for index in 5..8 {
        let page = store.list(&organization("acme"), None, cursor, 2).await.unwrap();
        seen.extend(page.rows.iter().map(|row| row.id.to_string()));
        cursor = page.next.map(|cursor| cursor.to_string().parse().unwrap());
        // Made while somebody turns the pages, by a clock that is behind; and one that was shown is deleted.
        store.insert(&new(&format!("s{index}")), at(-100)).await.unwrap();
        store.delete(&organization("acme"), &page.rows[0].id, at(9)).await.unwrap();
    }
    let last = store.list(&organization("acme"), None, cursor, 2).await.unwrap();
    seen.extend(last.rows.iter().map(|row| row.id.to_string()));
    assert_eq!(last.next, None);
    assert_eq!(seen, ["s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7"]);
}

pub(super) async fn an_update_replaces_the_content_and_moves_its_time(database: Database) {
    let store = database.open().await;
    let before = store.insert(&with_secret("a", "hush"), at(5)).await.unwrap();
    // A clock that is behind, or that gives the same time twice.
    for now in [at(5), at(-5), at(9)] {
        let last = store.get(&organization("acme"), &id("a")).await.unwrap().unwrap();
        let after = store.update(&organization("acme"), &id("a"), None, &content("{\"b\":1}"), now).await.unwrap();
        let after = after.unwrap();
        assert!(after.updated_at > last.updated_at && after.changed > last.changed);
        assert_eq!((after.document.as_str(), &after.secrets), ("{\"b\":1}", &Ok(None)));
        assert_eq!(after.created_at, before.created_at);
        assert_eq!(store.get(&organization("acme"), &id("a")).await.unwrap(), Some(after));
    }
    assert_eq!(store.update(&organization("acme"), &id("b"), None, &content("{}"), at(9)).await.unwrap(), None);
}

pub(super) async fn an_update_of_what_was_changed_meanwhile_is_refused(database: Database) {
    let store = database.open().await;
    let seen = store.insert(&new("a"), at(0)).await.unwrap().updated_at;
    let update = async |document: &str, now| {
        store.update(&organization("acme"), &id("a"), Some(seen), &content(document), now).await
    };
    let first = update("{\"first\":1}", at(1)).await.unwrap().unwrap();
    let refused = update("{\"second\":1}", at(2)).await;
    assert!(matches!(refused, Err(UpdateError::Changed { updated_at }) if updated_at == first.updated_at));
    assert_eq!(store.get(&organization("acme"), &id("a")).await.unwrap(), Some(first));
}

pub(super) async fn what_is_deleted_is_gone_and_leaves_a_tombstone(database: Database) {
    let store = database.open().await;
    store.insert(&with_secret("a", "hush"), at(0)).await.unwrap();
    let before = store.counter().await.unwrap();
    assert!(store.delete(&organization("acme"), &id("a"), at(1)).await.unwrap());
    assert!(!store.delete(&organization("acme"), &id("a"), at(2)).await.unwrap(), "only once");
    assert_eq!(store.get(&organization("acme"), &id("a")).await.unwrap(), None);
    assert!(store.list(&organization("acme"), None, None, 10).await.unwrap().rows.is_empty());
    assert!(store.load_all().await.unwrap().rows.is_empty());
    assert_eq!(store.update(&organization("acme"), &id("a"), None, &content("{}"), at(3)).await.unwrap(), None);
    assert!(!disable(&store, "a", 3).await);
    let changes = store.changes_since(before).await.unwrap();
    assert!(changes.rows.is_empty());
    let [tombstone] = changes.gone.as_slice() else { panic!("{changes:?}") };
    assert_eq!((&tombstone.id, &tombstone.organization), (&id("a"), &organization("acme")));
    assert_eq!(tombstone.deleted_at, at(1));
}

pub(super) async fn another_organizations_id_answers_as_an_absent_one(database: Database) {
    let store = database.open().await;
    let row = store.insert(&new("a"), at(0)).await.unwrap();
    let other = organization("other");
    assert_eq!(store.get(&other, &id("a")).await.unwrap(), None);
    assert_eq!(store.update(&other, &id("a"), None, &content("{}"), at(1)).await.unwrap(), None);
    assert_eq!(store.update(&other, &id("a"), Some(at(7)), &content("{}"), at(1)).await.unwrap(), None);
    assert!(!store.delete(&other, &id("a"), at(1)).await.unwrap());
    assert!(store.list(&other, None, None, 10).await.unwrap().rows.is_empty());
    assert_eq!(store.get(&organization("acme"), &id("a")).await.unwrap(), Some(row), "nothing happened to it");
}

pub(super) async fn every_write_raises_the_counter_and_a_refused_one_does_not(database: Database) {
    let store = database.open().await;
    let acme = organization("acme");
    let mut last = store.counter().await.unwrap();
    let mut raised = async |expected: bool, what: &str| {
        let now = store.counter().await.unwrap();
        assert_eq!(now > last, expected, "{what}: {last} {now}");
        last = now;
    };
    store.insert(&singular("a"), at(0)).await.unwrap();
    raised(true, "insert").await;
    store.insert(&singular("b"), at(0)).await.unwrap_err();
    raised(false, "conflict").await;
    store.update(&acme, &id("a"), None, &content("{}"), at(1)).await.unwrap();
    raised(true, "update").await;
    store.update(&acme, &id("b"), None, &content("{}"), at(1)).await.unwrap();
    raised(false, "update of nothing").await;
    disable(&store, "a", 2).await;
    raised(true, "disable").await;
    store.delete(&acme, &id("a"), at(3)).await.unwrap();
    raised(true, "delete").await;
    store.delete(&acme, &id("a"), at(3)).await.unwrap();
    raised(false, "delete of nothing").await;
}

pub(super) async fn whoever_follows_the_counter_misses_nothing_however_many_write(database: Database) {
    const WRITERS: usize = 4;
    const EACH: usize = 15;
    let reader = database.open().await;
    let writers: Vec<_> = futures_util::future::join_all((0..WRITERS).map(|_| database.open())).await;
    let writing = futures_util::future::join_all(writers.iter().enumerate().map(|(writer, store)| async move {
        for index in 0..EACH {
            let name = format!("w{writer}-{index}");
            store.insert(&new(&name), at(0)).await.unwrap();
            if index % 3 == 0 {
                assert!(store.delete(&organization("acme"), &id(&name), at(1)).await.unwrap());
            }
        }
    }));
    let following = async {
        let (mut known, mut counter) = (std::collections::BTreeSet::new(), reader.counter().await.unwrap());
        let mut deleted = 0;
        while known.len() + deleted < WRITERS * EACH {
            let changes = reader.changes_since(counter).await.unwrap();
            assert!(changes.counter >= counter);
            counter = changes.counter;
            known.extend(changes.rows.into_iter().map(|row| row.id));
            for tombstone in changes.gone {
                known.remove(&tombstone.id);
                deleted += 1;
            }
            tokio::task::yield_now().await;
        }
        (known, counter)
    };
    let deadline = crate::support::broker::DEADLINE;
    let both = tokio::time::timeout(deadline, async { tokio::join!(writing, following) });
    let (_, (known, counter)) = both.await.expect("a change was missed");
    // The last writes may be deletions of what was seen already.
    let last = reader.changes_since(counter).await.unwrap();
    let loaded = reader.load_all().await.unwrap();
    let gone: Vec<_> = last.gone.into_iter().map(|tombstone| tombstone.id).collect();
    let known: Vec<_> = known.into_iter().filter(|id| !gone.contains(id)).collect();
    let mut stored: Vec<_> = loaded.rows.into_iter().map(|row| row.id).collect();
    stored.sort();
    assert_eq!(known, stored);
}

pub(super) async fn an_organization_has_one_of_a_kind_even_if_two_are_made_at_once(database: Database) {
    let [one, other] = [database.open().await, database.open().await];
    for round in 0..10 {
        let organization = organization(&format!("o{round}"));
        let make =
            |name: &str| NewSubscription { organization: organization.clone(), ..singular(&format!("{name}{round}")) };
        let (a, b) = (make("a"), make("b"));
        let both = tokio::join!(one.insert(&a, at(0)), other.insert(&b, at(0)));
        let (winner, loser) = match both {
            (Ok(winner), Err(loser)) | (Err(loser), Ok(winner)) => (winner, loser),
            both => panic!("{both:?}"),
        };
        assert!(matches!(&loser, InsertError::Conflict { existing } if *existing == winner.id), "{loser:?}");
    }
    let elsewhere = NewSubscription { organization: organization("elsewhere"), ..singular("c") };
    one.insert(&elsewhere, at(0)).await.unwrap();
}

pub(super) async fn the_database_itself_refuses_a_second_of_a_kind(database: Database) {
    let store = database.open().await;
    store.insert(&singular("a"), at(0)).await.unwrap();
    let second = "INSERT INTO subscriptions (id, organization, origin, singular, document, created_at, updated_at, \
                  sequence, changed) VALUES ('b', 'acme', 'idexa', 'type-0', '{}', 0, 0, 99, 99)";
    let refused = database.try_execute(second).await.unwrap_err();
    assert!(refused.to_lowercase().contains("unique"), "{refused}");
}

pub(super) async fn deleting_makes_room_for_another_of_its_kind(database: Database) {
    let store = database.open().await;
    for round in 0..3 {
        let name = format!("a{round}");
        store.insert(&singular(&name), at(0)).await.unwrap();
        assert!(store.delete(&organization("acme"), &id(&name), at(1)).await.unwrap());
    }
}

pub(super) async fn what_the_system_disables_says_why_and_is_told_once(database: Database) {
    let store = database.open().await;
    store.insert(&new("a"), at(0)).await.unwrap();
    assert!(disable(&store, "a", 1).await);
    assert!(!disable(&store, "a", 2).await);
    assert!(!disable(&store, "b", 2).await);
    let row = store.get(&organization("acme"), &id("a")).await.unwrap().unwrap();
    assert_eq!((row.disabled_reason.as_deref(), row.updated_at), (Some("gone"), at(1)));
    let row = store.update(&organization("acme"), &id("a"), None, &content("{}"), at(3)).await.unwrap().unwrap();
    assert_eq!(row.disabled_reason, None, "an update may end it");
    let before_the_update = store.counter().await.unwrap();
    let row = store.update(&organization("acme"), &id("a"), None, &content("{}"), at(4)).await.unwrap().unwrap();
    assert_eq!(store.disable(&id("a"), "gone", before_the_update, at(5)).await.unwrap(), None);
    assert_eq!(store.get(&organization("acme"), &id("a")).await.unwrap(), Some(row), "its owner was faster");
    assert!(disable(&store, "a", 6).await);
}

/// Knowing everything that changed before.
async fn disable(store: &Store, name: &str, seconds: i64) -> bool {
    let known = store.counter().await.unwrap();
    store.disable(&id(name), "gone", known, at(seconds)).await.unwrap().is_some()
}

pub(super) async fn deletions_are_loaded_while_they_matter_the_oldest_first(database: Database) {
    let store = database.open().await;
    let (acme, now) = (organization("acme"), docrelay::domain::now());
    for name in ["kept", "old", "b", "a"] {
        store.insert(&new(name), at(0)).await.unwrap();
    }
    // at(0) is years ago: whatever waited for it has ended.
    assert!(store.delete(&acme, &id("old"), at(1)).await.unwrap());
    for name in ["b", "a"] {
        assert!(store.delete(&acme, &id(name), now).await.unwrap());
    }
    let loaded = store.load_all().await.unwrap();
    assert_eq!(ids(&loaded.rows), ["kept"]);
    let gone: Vec<_> = loaded.gone.iter().map(|it| (it.id.as_str(), it.organization.as_str())).collect();
    assert_eq!(gone, [("b", "acme"), ("a", "acme")]);
    assert_eq!(store.changes_since(ChangeCounter::default()).await.unwrap().gone.len(), 3, "who follows misses none");
}
