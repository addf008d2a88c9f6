//! Where subscriptions lead: what is listed, paused and resumed, and by whom.

use docrelay::domain::{LaneKey, Timestamp};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{Answer, Served, answer, little};
use crate::{
    store::{Database, organization},
    support::{
        broker::eventually,
        receiver::{Receiver, Reply},
    },
};

const PATH: &str = "/v1/targets";
const ERP: &str = "https://erp.example";

fn to(url: &str) -> Value {
    let mut body = little();
    body["target"]["url"] = json!(url);
    body
}

fn items(answer: &Answer) -> Vec<Value> {
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    answer.json()["items"].as_array().unwrap().clone()
}

/// The target that leads somewhere, and is no subscription's own.
async fn shared(served: &Served, key: &str, target: &str) -> Value {
    let all = items(&served.get(key, PATH).await);
    let found = all.iter().find(|it| it["target"] == target && it["subscription"].is_null());
    found.unwrap_or_else(|| panic!("{target} is not there: {all:?}")).clone()
}

fn path_of(target: &Value) -> String {
    format!("{PATH}/{}", target["id"].as_str().unwrap())
}

/// Pauses or resumes; a request without a body.
async fn turn(served: &Served, key: &str, path: &str, what: &str) -> Answer {
    answer(served.request(Method::POST, &format!("{path}/{what}")).bearer_auth(key)).await
}

async fn every_place_is_listed_once_with_its_limits_and_nothing_secret(database: Database) {
    let file = format!(
        "subscriptions: [{{id: filed, organization: acme, events: [document_text], target: {{url: '{ERP}:443/a?key=hush'}}}}]\n"
    );
    let amqp = [("TARGETS__AMQP__URL", "amqp://h/"), ("TARGETS__AMQP__ALLOW", "acme:erp.in")];
    let served = Served::set(&database, &file, database.open().await, &amqp).await;
    let key = served.key("acme").await;
    let mut disabled = to(&format!("{ERP}/b"));
    disabled["enabled"] = json!(false);
    let mut own = to("https://user:hush@erp.example/hush");
    own["rate_limit"] = json!({"per_second": 0.5, "burst": 2});
    let exchange = json!({"events": ["document_text"], "target": {"type": "amqp", "exchange": "erp.in"}});
    for body in [&disabled, &to("http://erp.example:8443/"), &exchange] {
        served.create(&key, body).await;
    }
    let owner = served.create(&key, &own).await;
    let owner = owner.rsplit('/').next().unwrap();

    let all = served.get(&key, PATH).await;
    assert!(!all.text.contains("hush") && !all.text.contains("/b"), "{all:?}");
    let mut found: Vec<_> = items(&all)
        .iter()
        .map(|it| {
            assert_eq!(
                (&it["organization"], &it["paused"], &it["paused_at"]),
                (&json!("acme"), &json!(false), &json!(null))
            );
            assert_eq!((&it["health"], &it["in_flight"], &it["in_line"]), (&json!("suspect"), &json!(0), &json!(0)));
            json!([it["target"], it["subscription"], it["subscriptions"], it["max_in_flight"], it["rate_limit"]])
        })
        .collect();
    found.sort_by_key(ToString::to_string);
    let expected = [
        json!(["amqp:erp.in", null, 1, 4, null]),
        json!(["http://erp.example:8443", null, 1, 32, null]),
        json!([ERP, owner, 1, 32, {"per_second": 0.5, "burst": 2}]),
        json!([ERP, null, 2, 32, null]),
    ];
    assert_eq!(found, expected);
    let one = shared(&served, &key, ERP).await;
    assert_eq!(served.get(&key, &path_of(&one)).await.json(), one);
    assert_eq!(one["id"], LaneKey::of_place(&organization("acme"), ERP, None).id().to_string());
    assert_eq!(all.json()["next_cursor"], json!(null));
    served.end().await;
}

async fn a_target_is_paused_and_resumed_as_often_as_asked_and_keeps_its_beginning(database: Database) {
    let served = Served::of(&database).await;
    let key = served.key("acme").await;
    served.create(&key, &to(&format!("{ERP}/a"))).await;
    let mut own = to(&format!("{ERP}/b"));
    own["max_in_flight"] = json!(3);
    served.create(&key, &own).await;
    let before = shared(&served, &key, ERP).await;
    let path = path_of(&before);
    let resumed = turn(&served, &key, &path, "resume").await;
    assert_eq!((resumed.status, resumed.json()), (StatusCode::OK, before.clone()), "it is not paused");

    let paused = turn(&served, &key, &path, "pause").await;
    assert_eq!((paused.status, &paused.json()["paused"]), (StatusCode::OK, &json!(true)), "{paused:?}");
    let since = Timestamp::from_rfc3339(paused.json()["paused_at"].as_str().unwrap());
    assert!(since.is_some(), "{paused:?}");
    let again = turn(&served, &key, &path, "pause").await;
    assert_eq!((again.status, again.json()), (StatusCode::OK, paused.json()), "since the first time");
    assert_eq!(served.get(&key, &path).await.json(), paused.json());
    let lane = LaneKey::of_place(&organization("acme"), ERP, None);
    assert_eq!(
        served.subscriptions.current().paused(&lane).map(Timestamp::to_rfc3339),
        since.map(Timestamp::to_rfc3339)
    );
    let count = items(&served.get(&key, PATH).await).iter().filter(|it| it["paused"] == json!(true)).count();
    assert_eq!(count, 1, "not the one that has limits of its own");

    for _ in 0..2 {
        let resumed = turn(&served, &key, &path, "resume").await;
        assert_eq!((resumed.status, resumed.json()), (StatusCode::OK, before.clone()));
        assert_eq!(served.subscriptions.current().paused(&lane), None, "in force before it is answered");
    }
    served.end().await;
}

async fn what_is_paused_is_listed_until_it_is_resumed_whoever_leads_there(database: Database) {
    let served = Served::of(&database).await;
    let key = served.key("acme").await;
    let subscription = served.create(&key, &to(ERP)).await;
    let path = path_of(&shared(&served, &key, ERP).await);
    turn(&served, &key, &path, "pause").await;
    assert_eq!(served.delete(&key, &subscription).await.status, StatusCode::NO_CONTENT);
    let left = shared(&served, &key, ERP).await;
    assert_eq!(json!([left["subscriptions"], left["max_in_flight"], left["paused"]]), json!([0, null, true]));
    served.create(&key, &to(ERP)).await;
    let back = shared(&served, &key, ERP).await;
    assert_eq!(json!([back["subscriptions"], back["paused"], back["paused_at"]]), json!([1, true, left["paused_at"]]));
    let subscription =
        served.get(&key, "/v1/subscriptions").await.json()["items"][0]["id"].as_str().unwrap().to_owned();
    served.delete(&key, &format!("/v1/subscriptions/{subscription}")).await;

    let resumed = turn(&served, &key, &path, "resume").await;
    assert_eq!(resumed.status, StatusCode::OK);
    let told = resumed.json();
    assert_eq!(json!([told["target"], told["subscriptions"], told["paused"]]), json!([ERP, 0, false]), "the last time");
    assert!(items(&served.get(&key, PATH).await).is_empty());
    for gone in [served.get(&key, &path).await, turn(&served, &key, &path, "pause").await] {
        assert_eq!(gone.problem(404, "not-found")["detail"], "There is no such target.");
    }
    served.end().await;
}

async fn another_organizations_target_is_not_there_and_the_operator_sees_all(database: Database) {
    let served = Served::of(&database).await;
    let (key, theirs, operator) =
        (served.key("acme").await, served.key("umbrella").await, served.operators_key().await);
    served.create(&key, &to(ERP)).await;
    served.create(&theirs, &to(ERP)).await;
    let (own, other) = (shared(&served, &key, ERP).await, shared(&served, &theirs, ERP).await);
    assert_ne!(own["id"], other["id"]);
    let path = path_of(&own);
    served.get(&theirs, &path).await.problem(404, "not-found");
    for what in ["pause", "resume"] {
        turn(&served, &theirs, &path, what).await.problem(404, "not-found");
        turn(&served, &key, &format!("{PATH}/no-id"), what).await.problem(404, "not-found");
    }
    assert_eq!(shared(&served, &key, ERP).await["paused"], json!(false));
    assert!(items(&served.get(&key, &format!("{PATH}?organization=umbrella")).await).is_empty());

    let paused = turn(&served, &operator, &path, "pause").await;
    assert_eq!((&paused.json()["organization"], &paused.json()["paused"]), (&json!("acme"), &json!(true)));
    let of = async |query: &str| {
        let all = items(&served.get(&operator, &format!("{PATH}{query}")).await);
        all.iter().map(|it| json!([it["organization"], it["paused"]])).collect::<Vec<_>>()
    };
    assert_eq!(of("").await, [json!(["acme", true]), json!(["umbrella", false])]);
    assert_eq!(of("?organization=umbrella").await, [json!(["umbrella", false])]);
    assert_eq!(of("?organization=nobody").await, Vec::<serde_json::Value>::new());
    assert_eq!(shared(&served, &theirs, ERP).await["paused"], json!(false));
    assert_eq!(turn(&served, &operator, &path, "resume").await.json()["paused"], json!(false));
    served.end().await;
}

#[tokio::test]
async fn pages_of_any_size_hold_every_target_once() {
    let database = Database::sqlite().await;
    let served = Served::of(&database).await;
    let (key, theirs, operator) =
        (served.key("acme").await, served.key("umbrella").await, served.operators_key().await);
    for number in 0..7 {
        served.create(&key, &to(&format!("https://h{number}/"))).await;
    }
    served.create(&theirs, &to("https://h0/")).await;
    for (key, query, count) in [(&key, "", 7), (&operator, "", 8), (&operator, "&organization=acme", 7)] {
        let all: Vec<_> = items(&served.get(key, &format!("{PATH}?limit=500{query}")).await);
        assert_eq!(all.len(), count);
        for limit in 1..=8 {
            let (mut found, mut cursor) = (Vec::new(), String::new());
            loop {
                let page = served.get(key, &format!("{PATH}?limit={limit}{query}{cursor}")).await;
                let part = items(&page);
                let next = page.json()["next_cursor"].as_str().map(str::to_owned);
                assert!(
                    part.len() == limit || (next.is_none() && part.len() < limit),
                    "a page is full unless it is the last"
                );
                found.extend(part);
                let Some(next) = next else { break };
                cursor = format!("&cursor={next}");
            }
            assert_eq!(found, all, "in pages of {limit}");
        }
    }
    // Whoever brings a cursor of somebody else's list sees the own one.
    let cursor =
        served.get(&operator, &format!("{PATH}?limit=1")).await.json()["next_cursor"].as_str().unwrap().to_owned();
    assert_eq!(items(&served.get(&theirs, &format!("{PATH}?cursor={cursor}")).await).len(), 1);
    for (query, name) in
        [("limit=0", "limit"), ("cursor=x", "cursor"), ("cursor=AQAAAAAAAAAq", "cursor"), ("page=2", "page")]
    {
        let problem = served.get(&key, &format!("{PATH}?{query}")).await.problem(422, "invalid-fields");
        assert_eq!(problem["errors"][0]["parameter"], name, "{problem}");
    }
    served.end().await;
}

#[tokio::test]
async fn figures_are_those_of_now_and_a_test_send_goes_out_although_its_target_is_paused() {
    let receiver = Receiver::scripted(|request| if request.index == 0 { Reply::hang() } else { Reply::ok() }).await;
    let database = Database::sqlite().await;
    let served = Served::of(&database).await;
    let key = served.key("acme").await;
    let mut body = to(&receiver.url("/"));
    body["target"]["timeout"] = json!("3s");
    let test = format!("{}/test", served.create(&key, &body).await);
    let target = receiver.url("/").trim_end_matches('/').to_owned();
    let path = path_of(&shared(&served, &key, &target).await);
    turn(&served, &key, &path, "pause").await;
    let nothing = json!({});
    let sending = served.post(&key, &test, &nothing);
    let watching = eventually("the request under way", || async {
        let now = served.get(&key, &path).await.json();
        (now["in_flight"] == json!(1)).then_some(now)
    });
    let (sent, now) = tokio::join!(sending, watching);
    assert_eq!((&sent.json()["error"], &now["paused"]), (&json!("timeout"), &json!(true)), "{sent:?} {now}");
    let after = served.get(&key, &path).await.json();
    assert_eq!(json!([after["in_flight"], after["health"]]), json!([0, "suspect"]));

    assert_eq!(served.post(&key, &test, &json!({})).await.json()["status"], json!(200));
    let after = served.get(&key, &path).await.json();
    assert_eq!(json!([after["health"], after["paused"]]), json!(["answering", true]));
    assert!(Timestamp::from_rfc3339(after["health_since"].as_str().unwrap()).is_some(), "{after}");
    assert_eq!(receiver.count(), 2);
    served.end().await;
}

#[tokio::test]
async fn what_is_paused_at_one_replica_is_paused_at_the_other_and_after_a_restart() {
    let database = Database::sqlite().await;
    let one = Served::of(&database).await;
    let other = Served::of(&database).await;
    let key = one.key("acme").await;
    one.create(&key, &to(ERP)).await;
    let path = path_of(&shared(&one, &key, ERP).await);
    for (what, expected) in [("pause", true), ("resume", false), ("pause", true)] {
        let here = turn(&one, &key, &path, what).await.json();
        eventually(what, || async {
            let there = other.get(&key, &path).await;
            (there.status.is_success() && there.json()["paused"] == json!(expected)).then(|| {
                assert_eq!(there.json()["paused_at"], here["paused_at"]);
            })
        })
        .await;
    }
    one.end().await;
    other.end().await;
    let again = Served::of(&database).await;
    eventually("what was stored", || async { again.get(&key, &path).await.status.is_success().then_some(()) }).await;
    assert_eq!(again.get(&key, &path).await.json()["paused"], json!(true));
    again.end().await;
}

super::on_both! {
    every_place_is_listed_once_with_its_limits_and_nothing_secret
    a_target_is_paused_and_resumed_as_often_as_asked_and_keeps_its_beginning
    what_is_paused_is_listed_until_it_is_resumed_whoever_leads_there
    another_organizations_target_is_not_there_and_the_operator_sees_all
}
