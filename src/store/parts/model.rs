//! Any story of a file, a database, targets that are gone and looks at the database, beside a naive model of what is in
//! force then: the file's before the store's, the rows as last seen, and what was found gone for as long as nothing newer
//! was seen.

use std::{collections::BTreeMap, time::Duration};

use proptest::{collection::vec, prelude::*, sample::select};

use super::*;
use crate::{
    domain::{Fingerprint, TargetUrl, now},
    store::{
        Found,
        database::{FiledRow, Origin},
        file::tests::defaults,
        parse,
    },
};

const IDS: [&str; 3] = ["a", "b", "c"];
const URLS: [&str; 2] = ["http://one/", "http://two/"];

type Name = &'static str;

#[derive(Debug, Clone)]
enum Happens {
    /// Another file: of each id its URL, and whether it is enabled.
    File(Vec<(Name, Name, bool)>),
    /// The store gets a row, or another one in its place.
    Row(Name, Name, bool),
    Delete(Name),
    /// Somebody enables one of the file while it has this URL.
    EnableFiled(Name, Name),
    Look,
    Load,
    /// A target answers 410.
    Gone(Name),
    /// Upstream was told of the last time.
    Told(Name),
    Write,
}

fn happens() -> impl Strategy<Value = Happens> {
    let (id, url) = (|| select(&IDS[..]), || select(&URLS[..]));
    let file = vec((id(), url(), prop::bool::weighted(0.8)), 0..3).prop_map(|mut all| {
        all.sort_unstable();
        all.dedup_by_key(|it| it.0);
        Happens::File(all)
    });
    prop_oneof![
        2 => file,
        3 => (id(), url(), prop::bool::weighted(0.8)).prop_map(|(id, url, enabled)| Happens::Row(id, url, enabled)),
        1 => id().prop_map(Happens::Delete),
        2 => (id(), url()).prop_map(|(id, url)| Happens::EnableFiled(id, url)),
        5 => Just(Happens::Look),
        1 => Just(Happens::Load),
        5 => id().prop_map(Happens::Gone),
        5 => id().prop_map(Happens::Told),
        4 => Just(Happens::Write),
    ]
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct ModelRow {
    url: Name,
    enabled: bool,
    gone: bool,
    changed: i64,
}

/// A database, or what was seen of it.
#[derive(Debug, Clone, Default)]
struct Database {
    counter: i64,
    rows: BTreeMap<Name, ModelRow>,
    /// With the change that deleted each.
    deleted: BTreeMap<Name, i64>,
    /// Whether it is gone, and the change that said so.
    filed: BTreeMap<(Name, Name), (bool, i64)>,
}

/// What was found gone: where it stood, its URL, and what had been seen of it.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Learnt {
    is_stored: bool,
    url: Name,
    version: i64,
}

#[derive(Debug, Default)]
struct Naive {
    database: Database,
    seen: Database,
    file: BTreeMap<Name, (Name, bool)>,
    learnt: BTreeMap<Name, Learnt>,
}

impl Naive {
    /// Where one stands, with its URL and what was seen of it.
    fn standing(&self, id: Name) -> Option<(Learnt, bool, bool)> {
        if let Some((url, enabled)) = self.file.get(id) {
            let (gone, version) = self.seen.filed.get(&(id, *url)).copied().unwrap_or_default();
            return Some((Learnt { is_stored: false, url, version }, *enabled, gone));
        }
        let row = self.seen.rows.get(id)?;
        Some((Learnt { is_stored: true, url: row.url, version: row.changed }, row.enabled, row.gone))
    }

    fn state(&self, id: Name) -> Option<State> {
        let (_, enabled, gone) = self.standing(id)?;
        Some(match (enabled, gone || self.learnt.contains_key(id)) {
            (false, _) => State::Disabled,
            (true, true) => State::Gone,
            (true, false) => State::Enabled,
        })
    }

    fn forget(&mut self) {
        let now: BTreeMap<_, _> = IDS.iter().filter_map(|id| Some((*id, self.standing(id)?.0))).collect();
        self.learnt.retain(|id, learnt| now.get(id) == Some(learnt));
    }

    fn change(&mut self) -> i64 {
        self.database.counter += 1;
        self.database.counter
    }
}

/// Both, and the times that each was found gone last.
struct Story {
    parts: Parts,
    naive: Naive,
    found: BTreeMap<Name, (Arc<Subscription>, Timestamp)>,
    steps: u64,
}

impl Story {
    fn step(&mut self, happens: Happens) {
        self.steps += 1;
        match happens {
            Happens::File(file) => self.file(&file),
            Happens::Row(id, url, enabled) => {
                if !self.naive.database.deleted.contains_key(id) {
                    let changed = self.naive.change();
                    self.naive.database.rows.insert(id, ModelRow { url, enabled, gone: false, changed });
                }
            }
            Happens::Delete(id) => {
                if self.naive.database.rows.remove(id).is_some() {
                    let changed = self.naive.change();
                    self.naive.database.deleted.insert(id, changed);
                }
            }
            Happens::EnableFiled(id, url) => {
                let changed = self.naive.change();
                self.naive.database.filed.insert((id, url), (false, changed));
            }
            Happens::Look => {
                let changes = self.changes();
                self.parts.put_changes(&changes, &defaults(), now());
                self.naive.seen = self.naive.database.clone();
            }
            Happens::Load => {
                let Changes { rows, gone, filed, paused, counter } = rows_since(&self.naive.database, 0);
                self.parts.put_loaded(&Loaded { rows, gone, filed, paused, counter }, &defaults()).unwrap();
                self.naive.seen = self.naive.database.clone();
            }
            Happens::Gone(id) => self.gone(id),
            Happens::Told(id) => {
                if let Some((subscription, at)) = self.found.get(id) {
                    self.parts.gone_was_told(subscription, *at);
                }
            }
            Happens::Write => self.write(),
        }
        self.naive.forget();
    }

    fn file(&mut self, file: &[(Name, Name, bool)]) {
        let is_in_force = |id: &Name| self.naive.seen.rows.contains_key(id) && !self.naive.file.contains_key(id);
        let clashes = file.iter().any(|(id, ..)| is_in_force(id));
        let all = file.iter().map(|(id, url, enabled)| subscription(id, url, *enabled)).collect();
        assert_eq!(self.parts.put_file(all).is_err(), clashes);
        if !clashes {
            self.naive.file = file.iter().map(|(id, url, enabled)| (*id, (*url, *enabled))).collect();
        }
    }

    /// Told from a little before, as it may be: what comes twice changes nothing.
    fn changes(&self) -> Changes {
        rows_since(&self.naive.database, self.naive.seen.counter - 1)
    }

    fn gone(&mut self, id: Name) {
        let Some(it) = self.parts.snapshot().by_id(&id.parse().unwrap()).cloned() else { return };
        let at = now().after(Duration::from_secs(self.steps));
        let is_enabled = self.naive.state(id) == Some(State::Enabled);
        assert_eq!(self.parts.learn_gone(&it, at), is_enabled);
        if let Some((learnt, ..)) = self.naive.standing(id).filter(|_| is_enabled) {
            self.naive.learnt.insert(id, learnt);
            self.found.insert(id, (it, at));
        }
    }

    /// As the store does it.
    fn write(&mut self) {
        for gone in self.parts.gone_to_write(Instant::now()) {
            let id = *IDS.iter().find(|id| **id == gone.id.as_str()).unwrap();
            let url = *URLS.iter().find(|url| fingerprint(url) == gone.fingerprint).unwrap();
            let is_new = |changed: i64| ChangeCounter::at(changed) <= gone.known;
            let next = self.naive.database.counter + 1;
            let database = &mut self.naive.database;
            if gone.is_stored {
                let Some(row) = database.rows.get_mut(id).filter(|row| !row.gone && is_new(row.changed)) else {
                    continue;
                };
                assert_eq!(row.url, url, "only what answered is disabled");
                (row.gone, row.changed) = (true, next);
                self.naive.seen.rows.insert(id, *row);
            } else {
                let (is_gone, changed) = database.filed.get(&(id, url)).copied().unwrap_or_default();
                if is_gone || !is_new(changed) {
                    continue;
                }
                database.filed.insert((id, url), (true, next));
                self.naive.seen.filed.insert((id, url), (true, next));
            }
            database.counter = next;
            self.parts.gone_was_written(&gone, ChangeCounter::at(next));
        }
    }
}

fn fingerprint(url: &str) -> Fingerprint {
    TargetUrl::parse(url).unwrap().fingerprint()
}

fn subscription(id: &str, url: &str, enabled: bool) -> Arc<Subscription> {
    let text = format!(
        "subscriptions: [{{id: {id}, organization: acme, events: [document_text], enabled: {enabled}, target: {{url: '{url}'}}}}]"
    );
    Arc::new(parse(&text, &defaults()).unwrap().remove(0))
}

/// What a database tells of its changes.
fn rows_since(database: &Database, since: i64) -> Changes {
    let rows = database.rows.iter().filter(|(_, row)| row.changed > since).map(|(id, row)| Row {
        id: id.parse().unwrap(),
        organization: "acme".parse().unwrap(),
        origin: Origin::Api,
        singular: None,
        document: format!(
            r#"{{"events": ["document_text"], "enabled": {}, "target": {{"url": "{}"}}}}"#,
            row.enabled, row.url
        ),
        secrets: Ok(None),
        created_at: now(),
        updated_at: now(),
        disabled_reason: row.gone.then(|| "gone".to_owned()),
        sequence: IDS.iter().position(|it| it == id).unwrap().try_into().unwrap(),
        changed: ChangeCounter::at(row.changed),
    });
    let gone = database.deleted.iter().filter(|(_, changed)| **changed > since).map(|(id, changed)| Tombstone {
        id: id.parse().unwrap(),
        organization: "acme".parse().unwrap(),
        deleted_at: now(),
        changed: ChangeCounter::at(*changed),
    });
    let filed = database.filed.iter().filter(|(_, (_, changed))| *changed > since);
    let filed = filed.map(|((id, url), (is_gone, changed))| FiledRow {
        organization: "acme".parse().unwrap(),
        id: id.parse().unwrap(),
        fingerprint: fingerprint(url),
        reason: is_gone.then(|| "gone".to_owned()),
        disabled_at: now(),
        changed: ChangeCounter::at(*changed),
    });
    let counter = ChangeCounter::at(database.counter);
    Changes { rows: rows.collect(), gone: gone.collect(), filed: filed.collect(), paused: Vec::new(), counter }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_changes_gives_the_states_that_a_naive_model_gives(story in vec(happens(), 1..40)) {
        let naive = Naive::default();
        let mut both = Story { parts: Parts::of_file(Vec::new()), naive, found: BTreeMap::new(), steps: 0 };
        for (number, happens) in story.into_iter().enumerate() {
            both.step(happens.clone());
            for id in IDS {
                let found = both.parts.snapshot().find(&"acme".parse().unwrap(), &id.parse().unwrap());
                let state = if let Found::Known(it) = found { Some(it.state) } else { None };
                prop_assert_eq!(state, both.naive.state(id), "{} after {}, {:?}", id, number, happens);
                let is_deleted = state.is_none() && both.naive.seen.deleted.contains_key(id);
                prop_assert_eq!(found == Found::Deleted, is_deleted, "{} after {}, {:?}", id, number, happens);
            }
            prop_assert_eq!(both.parts.deleted.len(), both.naive.seen.deleted.len(), "each once");
        }
    }
}
