//! Limits at rest: they come back as they were written, and documents from before there were any are read.

use docrelay::{
    config,
    domain::{LaneKey, RateLimit, Subscription, WhileDown},
    store::{Defaults, database::NewSubscription, from_document},
};

use super::{Database, at, content, id, new, organization};

/// What a subscription says of its limits, and what is read of it.
const LIMITS: [(&str, f64, u32); 6] = [
    (r#"{"per_second": 10}"#, 10.0, 10),
    (r#"{"per_second": 0.1, "burst": 3}"#, 0.1, 3),
    (r#"{"per_second": 33333.333333, "burst": 1}"#, 33_333.333_333, 1),
    (r#"{"per_second": 1e3, "burst": 100000}"#, 1000.0, 100_000),
    (r#"{"per_second": 0.001}"#, 0.001, 1),
    (r#"{"per_second": 100000}"#, 100_000.0, 100_000),
];

fn document(more: &str) -> String {
    format!(r#"{{"events": ["document_text"], "target": {{"url": "https://h/"}}{more}}}"#)
}

pub(super) async fn limits_come_back_from_the_database_as_they_were_written(database: Database) {
    let store = database.open().await;
    let defaults = Defaults::from(&config::load(&[], std::iter::empty()).unwrap());
    for (index, (limit, per_second, burst)) in LIMITS.into_iter().enumerate() {
        let name = format!("s{index}");
        let text = document(&format!(r#", "rate_limit": {limit}, "retry": {{"while_down": "hold"}}"#));
        let said = NewSubscription { content: content(&text), ..new(&name) };
        store.insert(&said, at(0)).await.unwrap();
        let row = store.get(&organization("acme"), &id(&name)).await.unwrap().unwrap();
        assert_eq!(row.document, text, "byte for byte");
        let found = from_document(&row, &defaults).unwrap();
        assert_eq!(found.rate_limit, Some(RateLimit::new(per_second, Some(burst)).unwrap()), "{limit}");
        assert_eq!((found.retry.while_down, &found.lane), (WhileDown::Hold, &own_lane(&found)));
    }
    let rows = store.load_all().await.unwrap().rows;
    assert!(rows.iter().all(|row| from_document(row, &defaults).unwrap().rate_limit.is_some()) && rows.len() == 6);
}

pub(super) async fn a_document_from_before_there_were_limits_has_the_defaults(database: Database) {
    let store = database.open().await;
    let settings = [("PER_SECOND", "2.5"), ("BURST", "4")];
    let settings = settings.map(|(name, value)| (format!("DOCRELAY__LIMITS__{name}"), value.to_owned()));
    let defaults = Defaults::from(&config::load(&[], settings.into_iter()).unwrap());
    let text = document(r#", "retry": {"on": "any_failure", "max_attempts": 3}"#);
    store.insert(&NewSubscription { content: content(&text), ..new("old") }, at(0)).await.unwrap();
    let row = store.get(&organization("acme"), &id("old")).await.unwrap().unwrap();
    let found = from_document(&row, &defaults).unwrap();
    assert_eq!(found.rate_limit, Some(RateLimit::new(2.5, Some(4)).unwrap()));
    assert_eq!(found.retry.while_down, WhileDown::Count);
    assert_eq!(found.lane, LaneKey::of_target(&found.organization, &found.target));
}

fn own_lane(found: &Subscription) -> LaneKey {
    LaneKey::of_subscription(&found.organization, &found.id, &found.target)
}
