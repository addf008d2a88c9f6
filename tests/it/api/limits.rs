//! The limits of a subscription's lane over the API: `rate_limit`, and `retry.while_down`.

use std::sync::Arc;

use docrelay::domain::{LaneKey, RateLimit, Subscription, WhileDown};
use serde_json::{Value, json};

use super::{Served, little};
use crate::store::Database;

const PATH: &str = "/v1/subscriptions";

/// What is in force of the one at this path.
fn in_force(served: &Served, path: &str) -> Arc<Subscription> {
    let id = path.rsplit('/').next().unwrap().parse().unwrap();
    Arc::clone(served.subscriptions.current().by_id(&id).unwrap())
}

/// Its rate, what it does while its target is down, and whether its lane is its own.
fn said(served: &Served, path: &str) -> (Option<RateLimit>, WhileDown, bool) {
    let found = in_force(served, path);
    let own = LaneKey::of_subscription(&found.organization, &found.id, &found.target);
    (found.rate_limit, found.retry.while_down, found.lane == own)
}

fn limit(per_second: f64, burst: u32) -> RateLimit {
    RateLimit::new(per_second, Some(burst)).unwrap()
}

async fn limits_are_given_read_changed_and_taken_away(database: Database) {
    let served = Served::of(&database).await;
    let key = served.key("acme").await;
    let mut body = little();
    body["rate_limit"] = json!({"per_second": 2.5, "burst": 10});
    body["retry"] = json!({"while_down": "hold"});
    let created = served.post(&key, PATH, &body).await;
    assert_eq!(created.status, 201, "{created:?}");
    let path = created.headers["location"].to_str().unwrap().to_owned();
    assert_eq!(said(&served, &path), (Some(limit(2.5, 10)), WhileDown::Hold, true));
    assert_eq!(created.json()["rate_limit"], body["rate_limit"]);
    assert_eq!(created.json()["retry"]["while_down"], "hold");
    assert_eq!(served.get(&key, &path).await.json(), created.json());
    assert_eq!(served.get(&key, PATH).await.json()["items"], json!([created.json()]));

    // What was not said is a second's worth, also once the rate is another.
    for (patch, shown, in_force) in [
        (json!({"burst": null}), json!({"per_second": 2.5, "burst": 3}), Some(limit(2.5, 3))),
        (json!({"per_second": 40}), json!({"per_second": 40, "burst": 40}), Some(limit(40.0, 40))),
        (json!({"burst": 7}), json!({"per_second": 40, "burst": 7}), Some(limit(40.0, 7))),
    ] {
        let changed = served.patch(&key, &path, &json!({"rate_limit": patch})).await;
        assert_eq!((changed.status.as_u16(), &changed.json()["rate_limit"]), (200, &shown), "{patch}");
        assert_eq!(said(&served, &path), (in_force, WhileDown::Hold, true), "{patch}");
    }
    let whole = served.get(&key, &path).await.json();
    assert_eq!(served.patch(&key, &path, &whole).await.status, 200, "what was read can be given back");
    assert_eq!(said(&served, &path), (Some(limit(40.0, 7)), WhileDown::Hold, true));

    let refused = served.patch(&key, &path, &json!({"rate_limit": {"per_second": null}})).await;
    refused.wrong_fields(&["/rate_limit/per_second"]);
    let bad =
        json!({"rate_limit": {"per_second": -1, "burst": 0}, "retry": {"while_down": "wait"}, "max_in_flight": 0});
    let wrong = ["/rate_limit/per_second", "/rate_limit/burst", "/retry/while_down", "/max_in_flight"];
    let problem = served.patch(&key, &path, &bad).await.wrong_fields(&wrong);
    let errors = problem["errors"].as_array().unwrap();
    let rate = errors.iter().find(|error| error["pointer"] == "/rate_limit/per_second").unwrap();
    assert_eq!((&rate["expected"], &rate["got"]), (&json!("a number from 0.001 to 100000"), &json!("-1")));
    assert_eq!(said(&served, &path), (Some(limit(40.0, 7)), WhileDown::Hold, true), "nothing of it was taken");

    let away = json!({"rate_limit": null, "retry": {"while_down": null}});
    assert_eq!(served.patch(&key, &path, &away).await.status, 200);
    // It was given back as a whole, with its cap.
    assert_eq!(said(&served, &path), (None, WhileDown::Count, true));
    let last = served.patch(&key, &path, &json!({"max_in_flight": null})).await.json();
    assert_eq!((&last["rate_limit"], &last["retry"]["while_down"]), (&Value::Null, &json!("count")));
    assert_eq!(said(&served, &path), (None, WhileDown::Count, false), "in its target's lane again");
    served.end().await;
}

async fn numbers_read_as_they_were_given(database: Database) {
    let served = Served::of(&database).await;
    let key = served.key("acme").await;
    let path = served.create(&key, &little()).await;
    for text in ["10", "0.001", "0.3", "0.1", "3.14159", "33333.333333", "99999.999", "100000"] {
        let per_second: Value = serde_json::from_str(text).unwrap();
        let changed = served.patch(&key, &path, &json!({"rate_limit": {"per_second": per_second}})).await;
        let expected = format!("\"rate_limit\":{{\"per_second\":{text},");
        for told in [changed, served.get(&key, &path).await, served.get(&key, PATH).await] {
            assert!(told.text.contains(&expected), "{text}: {}", told.text);
        }
        let in_force = in_force(&served, &path).rate_limit.unwrap();
        assert_eq!(in_force.per_second().to_string(), text);
    }
    served.end().await;
}

#[tokio::test]
async fn who_says_nothing_has_the_settings_rate_in_its_targets_lane() {
    let database = Database::sqlite().await;
    let file = "subscriptions:\n- {id: filed, organization: acme, events: [document_text], target: {url: 'http://h/'}}";
    let settings = [("LIMITS__PER_SECOND", "0.5"), ("LIMITS__BURST", "4")];
    let served = Served::set(&database, file, database.open().await, &settings).await;
    let key = served.key("acme").await;
    let path = served.create(&key, &little()).await;
    for path in [path.as_str(), "/v1/subscriptions/filed"] {
        let shown = served.get(&key, path).await.json();
        assert_eq!(shown["rate_limit"], json!({"per_second": 0.5, "burst": 4}), "what is in force");
        assert_eq!(said(&served, path), (Some(limit(0.5, 4)), WhileDown::Count, false));
    }
    assert_eq!(served.patch(&key, &path, &json!({"rate_limit": {"per_second": 9}})).await.status, 200);
    assert_eq!(said(&served, &path), (Some(limit(9.0, 9)), WhileDown::Count, true));
    assert_eq!(served.patch(&key, &path, &json!({"rate_limit": null})).await.status, 200);
    assert_eq!(said(&served, &path), (Some(limit(0.5, 4)), WhileDown::Count, false));
    served.end().await;
}

/// The products' pages have no word for any of it, so it is set over `/v1`, and stays when a product changes the rest.
async fn limits_of_what_a_product_made_are_set_over_v1_and_stay(database: Database) {
    let served = Served::of(&database).await;
    let key = served.key("acme").await;
    let integration = json!({"type": "webhook", "events": ["document_text"], "target": "http://localhost:3000/"});
    let webhook = json!({"name": "w", "type": 0, "method": "PUT", "url": "http://h/:id"});
    for (products, body) in [("/integrations", integration), ("/document_webhooks", webhook)] {
        let mut with = body.clone();
        with["rate_limit"] = json!({"per_second": 1});
        served.post(&key, products, &with).await.wrong_fields(&["/rate_limit"]);
        let made = served.post(&key, products, &body).await;
        assert!(made.status.is_success(), "{made:?}");
        let id = made.json()["id"].as_str().unwrap().to_owned();
        let (told, v1) = (format!("{products}/{id}"), format!("{PATH}/{id}"));
        let before = served.get(&key, &told).await.json();
        let patch = json!({"rate_limit": {"per_second": 5}, "retry": {"while_down": "hold"}});
        assert_eq!(served.patch(&key, &v1, &patch).await.status, 200);
        assert_eq!(said(&served, &v1), (Some(limit(5.0, 5)), WhileDown::Hold, true));
        let mut after = served.get(&key, &told).await.json();
        for time in ["updated_at", "updatedAt"].into_iter().filter(|time| before.get(time).is_some()) {
            after[time] = before[time].clone();
        }
        assert_eq!(after, before, "{products} tells nothing of it");
        if products == "/integrations" {
            assert_eq!(served.patch(&key, &told, &json!({"enabled": false})).await.status, 200);
            assert_eq!(said(&served, &v1), (Some(limit(5.0, 5)), WhileDown::Hold, true));
        }
    }
    served.end().await;
}

super::on_both! {
    limits_are_given_read_changed_and_taken_away
    numbers_read_as_they_were_given
    limits_of_what_a_product_made_are_set_over_v1_and_stay
}
