//! `/integrations`: ContractFit's webhooks over its own API.

use docrelay::domain::{HttpTarget, State, Subscription, Target};
use serde_json::{Value, json};

use super::{Answer, Served, little};
use crate::store::Database;

const PATH: &str = "/integrations";

/// The page's example.
fn page() -> Value {
    json!({
        "type": "webhook",
        "events": ["document_predict"],
        "target": "http://localhost:3000/alfred/document_predict",
        "headers": {"Authorization": "Bearer abcdefg1234567989"}
    })
}

/// Where it goes, which is somewhere over HTTP.
fn http(subscription: &Subscription) -> HttpTarget {
    match &subscription.target {
        Target::Http(target) => target.clone(),
        Target::Amqp(_) => panic!("it is not HTTP"),
    }
}

/// The page's example with another field.
fn with(name: &str, value: impl Into<Value>) -> Value {
    let mut body = page();
    body[name] = value.into();
    body
}

async fn make(served: &Served, key: &str, body: &Value) -> Value {
    let made = served.post(key, PATH, body).await;
    assert_eq!(made.status, 200, "{made:?}");
    made.json()
}

fn path_of(made: &Value) -> String {
    format!("{PATH}/{}", made["id"].as_str().unwrap())
}

async fn an_integration_is_made_read_changed_and_deleted(database: Database) {
    let served = Served::of(&database).await;
    let key = served.key("contractfit1").await;
    let made = make(&served, &key, &page()).await;
    let expected = json!({
        "id": made["id"],
        "type": "webhook",
        "events": ["document_predict"],
        "target": "http://localhost:3000/alfred/document_predict",
        "headers": {"Authorization": "***"},
        "inboxes": [],
        "projects": [],
        "retry_backoff": null,
        "enabled": true,
        "disabled_reason": null,
        "created_at": made["created_at"],
        "updated_at": made["created_at"],
    });
    assert_eq!(made.to_string(), expected.to_string());
    let path = path_of(&made);
    let id = made["id"].as_str().unwrap().parse().unwrap();
    let in_force = || served.subscriptions.current().by_id(&id).cloned();
    let target = http(&in_force().expect("in force before it was answered"));
    assert_eq!(target.headers["authorization"], "Bearer abcdefg1234567989");
    assert_eq!(served.get(&key, &path).await.json(), made);
    assert_eq!(served.get(&key, PATH).await.json(), json!([made]));

    let change = json!({
        "events": ["document_predict", "document_evaluate"], "inboxes": ["invoices"], "projects": ["p"],
        "retry_backoff": 30, "headers": {"authorization": "***", "X-Env": "prod", "Accept": "*/*"}
    });
    let changed = served.patch(&key, &path, &change).await;
    assert_eq!(changed.status, 200, "{changed:?}");
    let changed = changed.json();
    for (name, value) in change.as_object().unwrap().iter().filter(|(name, _)| *name != "headers") {
        assert_eq!(&changed[name], value, "{name}");
    }
    assert_eq!(changed["headers"], json!({"authorization": "***", "X-Env": "***", "Accept": "*/*"}));
    assert_eq!(changed["target"], made["target"]);
    let now = in_force().unwrap();
    assert_eq!(http(&now).headers["authorization"], "Bearer abcdefg1234567989", "kept, in other capitals");
    assert_eq!((now.events.iter().count(), now.retry.backoff.as_secs()), (2, 30));

    // What was read can be sent back as a whole; null takes away; what is replaced is gone.
    assert_eq!(served.patch(&key, &path, &changed).await.status, 200);
    let emptied = json!({"retry_backoff": null, "inboxes": null, "headers": {"X-Env": "test"}, "enabled": false});
    let emptied = served.patch(&key, &path, &emptied).await.json();
    assert_eq!(
        (&emptied["retry_backoff"], &emptied["inboxes"], &emptied["headers"], &emptied["enabled"]),
        (&Value::Null, &json!([]), &json!({"X-Env": "***"}), &json!(false))
    );
    let now = in_force().unwrap();
    assert_eq!(now.state, State::Disabled);
    let headers = http(&now).headers;
    assert!(headers.len() == 1 && headers["x-env"] == "test");

    assert_eq!(served.delete(&key, &path).await.status, 204);
    assert!(in_force().is_none());
    served.get(&key, &path).await.problem(404, "not-found");
    assert_eq!(served.get(&key, PATH).await.json(), json!([]));
    served.end().await;
}

async fn what_is_not_accepted_is_refused_whole_and_nothing_is_stored(database: Database) {
    let served = Served::of(&database).await;
    let key = served.key("contractfit1").await;
    let post = |body: Value| {
        let (served, key) = (&served, &key);
        async move { served.post(key, PATH, &body).await }
    };
    post(json!({})).await.wrong_fields(&["/type", "/events", "/target"]);
    for (name, wrong) in [
        ("events", json!([])),
        ("events", json!(null)),
        ("target", json!(null)),
        ("target", json!("")),
        ("target", json!("user:secret-word@host")),
        ("type", json!("email")),
        ("type", json!(null)),
        ("retry_backoff", json!(0)),
        // 511 times 170 s is longer than a day.
        ("retry_backoff", json!(170)),
        ("colour", json!("red")),
        ("header", json!({"X-Key": "secret-word"})),
        ("id", json!("a")),
    ] {
        let answer = post(with(name, wrong)).await;
        answer.wrong_fields(&[&format!("/{name}")]);
        assert!(!answer.text.contains("secret-word"), "{answer:?}");
    }
    for event in ["document_predicted", "document_export", "document_finish"] {
        post(with("events", json!(["document_text", event]))).await.wrong_fields(&["/events/1"]);
    }
    post(with("headers", json!({"Host": "h", "X": 1}))).await.wrong_fields(&["/headers/Host", "/headers/X"]);
    // What the product finds and what the canonical rules find comes in one answer.
    post(json!({"type": "email", "events": ["x"], "target": 1, "retry_backoff": "soon", "enabled": 1}))
        .await
        .wrong_fields(&["/type", "/events/0", "/target", "/retry_backoff", "/enabled"]);
    assert_eq!(served.get(&key, PATH).await.json(), json!([]));
    assert_eq!(served.get(&key, "/v1/subscriptions").await.json()["items"], json!([]));

    let path = path_of(&make(&served, &key, &page()).await);
    let change = json!({"type": "email", "events": ["x"], "target": "", "headers": {"Host": "h"}});
    served.patch(&key, &path, &change).await.wrong_fields(&["/type", "/events/0", "/target", "/headers/Host"]);
    served.patch(&key, &path, &json!({"target": null})).await.wrong_fields(&["/target"]);
    served.patch(&key, &path, &json!({"events": null})).await.wrong_fields(&["/events"]);
    served.patch(&key, &path, &json!({"id": "other"})).await.wrong_fields(&["/id"]);
    served.end().await;
}

async fn a_target_may_be_a_bare_address_or_host_and_is_never_a_template(database: Database) {
    let served = Served::of(&database).await;
    let key = served.key("contractfit1").await;
    for (given, told) in [
        ("10.0.0.5", "http://10.0.0.5"),
        ("10.0.0.5:3000/x?y=1", "http://10.0.0.5:3000/x?y=1"),
        ("2001:db8::7", "http://[2001:db8::7]"),
        ("localhost:5000/:id", "http://localhost:5000/:id"),
        ("https://erp.example/:identity/:id?a=:id", "https://erp.example/:identity/:id?a=:id"),
    ] {
        let made = make(&served, &key, &with("target", given)).await;
        assert_eq!(made["target"], told);
        let id = made["id"].as_str().unwrap().parse().unwrap();
        assert!(!http(served.subscriptions.current().by_id(&id).unwrap()).template);
    }
    served.end().await;
}

async fn header_is_an_alias_whose_problems_are_told_by_that_name(database: Database) {
    let served = Served::of(&database).await;
    let key = served.key("contractfit1").await;
    let mut body = page();
    body.as_object_mut().unwrap().remove("headers");
    body["header"] = json!({"X-Key": "k"});
    let made = make(&served, &key, &body).await;
    assert_eq!((&made["headers"], made.get("header")), (&json!({"X-Key": "***"}), None));
    let path = path_of(&made);
    let changed = served.patch(&key, &path, &json!({"header": {"Accept": "text/plain"}})).await.json();
    assert_eq!(changed["headers"], json!({"Accept": "text/plain"}));
    served.patch(&key, &path, &json!({"header": {"Host": "h"}})).await.wrong_fields(&["/header/Host"]);
    served.end().await;
}

async fn a_secret_is_kept_only_for_the_same_address(database: Database) {
    let served = Served::of(&database).await;
    let key = served.key("contractfit1").await;
    let path = path_of(&make(&served, &key, &page()).await);
    let same = json!({"target": "http://localhost:3000/other", "headers": {"Authorization": "***"}});
    assert_eq!(served.patch(&key, &path, &same).await.status, 200);
    for target in ["http://localhost:3001/other", "https://localhost:3000/other", "http://localhost.example:3000/"] {
        let told = json!({"target": target, "headers": {"Authorization": "***"}});
        served.patch(&key, &path, &told).await.wrong_fields(&["/headers/Authorization"]);
        served.patch(&key, &path, &json!({"target": target})).await.wrong_fields(&["/headers/Authorization"]);
    }
    served.post(&key, PATH, &with("headers", json!({"X-Key": "***"}))).await.wrong_fields(&["/headers/X-Key"]);
    let again = json!({"target": "http://localhost:3001/", "headers": {"Authorization": "new"}});
    assert_eq!(served.patch(&key, &path, &again).await.status, 200);
    let without = json!({"target": "http://localhost:3002/", "headers": {}});
    assert_eq!(served.patch(&key, &path, &without).await.status, 200);
    served.end().await;
}

async fn only_its_own_are_here_and_all_are_in_v1(database: Database) {
    let file =
        "subscriptions: [{id: declared, organization: acme, events: [document_text], target: {url: 'http://h'}}]";
    let served = Served::beside(&database, file).await;
    let (key, other) = (served.key("acme").await, served.key("umbrella").await);
    let made = make(&served, &key, &page()).await;
    let v1 = served.create(&key, &little()).await;
    let not_ours = [v1.rsplit('/').next().unwrap().to_owned(), "declared".to_owned(), "never".to_owned()];
    for id in not_ours {
        let path = format!("{PATH}/{id}");
        served.get(&key, &path).await.problem(404, "not-found");
        served.patch(&key, &path, &json!({"events": ["document_text"]})).await.problem(404, "not-found");
        served.delete(&key, &path).await.problem(404, "not-found");
    }
    assert_eq!(served.get(&key, PATH).await.json(), json!([made]));
    assert_eq!(served.get(&other, PATH).await.json(), json!([]));
    for answer in [
        served.get(&other, &path_of(&made)).await,
        served.patch(&other, &path_of(&made), &json!({})).await,
        served.delete(&other, &path_of(&made)).await,
    ] {
        answer.problem(404, "not-found");
    }
    let all = served.get(&key, "/v1/subscriptions").await.json();
    let mut origins: Vec<_> =
        all["items"].as_array().unwrap().iter().map(|it| it["origin"].as_str().unwrap()).collect();
    origins.sort_unstable();
    assert_eq!(origins, ["api", "contractfit", "file"]);

    // An operator's key is everybody's: it says for whom.
    let operator = served.operators_key().await;
    served.post(&operator, PATH, &page()).await.wrong_fields(&["/organization"]);
    make(&served, &operator, &with("organization", "umbrella")).await;
    assert_eq!(served.get(&other, PATH).await.json().as_array().unwrap().len(), 1);
    assert_eq!(served.get(&operator, PATH).await.json().as_array().unwrap().len(), 2);
    let ours = served.get(&operator, &format!("{PATH}?organization=acme")).await.json();
    let mut told = made;
    told["organization"] = json!("acme");
    assert_eq!(ours, json!([told]));
    served.post(&other, PATH, &with("organization", "acme")).await.wrong_fields(&["/organization"]);
    served.end().await;
}

#[tokio::test]
async fn the_operator_is_told_whose_each_one_is_and_nobody_else() {
    let database = Database::sqlite().await;
    let served = Served::of(&database).await;
    let (operator, own) = (served.operators_key().await, served.key("acme").await);
    let webhook = json!({"name": "w", "type": 0, "method": "POST", "url": "http://erp.example/:id"});
    for (path, mut body) in [(PATH, page()), ("/document_webhooks", webhook)] {
        for name in ["acme", "umbrella"] {
            body["organization"] = json!(name);
            let made = served.post(&operator, path, &body).await.json();
            assert_eq!(made["organization"], name, "{made}");
        }
        let all = served.get(&operator, path).await.json();
        assert_eq!((&all[0]["organization"], &all[1]["organization"]), (&json!("acme"), &json!("umbrella")));
        let one = format!("{path}/{}", all[0]["id"].as_str().unwrap());
        assert_eq!(served.get(&operator, &one).await.json(), all[0]);
        assert!(served.get(&own, &one).await.json().get("organization").is_none());
        if path == PATH {
            assert_eq!(served.patch(&operator, &one, &all[0]).await.status, 200, "it can be given back");
            let moved = served.patch(&operator, &one, &json!({"organization": "umbrella"})).await;
            moved.wrong_fields(&["/organization"]);
        }
    }
    served.end().await;
}

async fn v1_may_change_everything_but_what_an_integration_could_not_tell(database: Database) {
    let served = Served::of(&database).await;
    let key = served.key("contractfit1").await;
    let made = make(&served, &key, &page()).await;
    let v1 = format!("/v1/subscriptions/{}", made["id"].as_str().unwrap());
    let change = json!({"name": "ERP", "target": {"url": "http://localhost:3000/x", "timeout": "3s"}, "retry": {"backoff": "4s"}});
    assert_eq!(served.patch(&key, &v1, &change).await.status, 200);
    let told = served.get(&key, &path_of(&made)).await.json();
    assert_eq!((&told["target"], &told["retry_backoff"]), (&json!("http://localhost:3000/x"), &json!(4)));
    for (change, at) in [
        (json!({"payload": "cloudevents"}), "/payload"),
        (json!({"target": {"url": "http://localhost:3000/:id", "template": true}}), "/target/template"),
        (json!({"target": {"method": "PUT"}}), "/target/method"),
        (json!({"aside": {}}), "/aside"),
    ] {
        served.patch(&key, &v1, &change).await.wrong_fields(&[at]);
    }
    assert_eq!(served.get(&key, &path_of(&made)).await.json(), told);
    served.end().await;
}

async fn a_list_goes_on_where_its_link_says(database: Database) {
    let served = Served::of(&database).await;
    let key = served.key("contractfit1").await;
    let mut made = Vec::new();
    for number in 0..5 {
        made.push(make(&served, &key, &with("target", format!("http://h/{number}"))).await);
        served.create(&key, &little()).await;
    }
    let (mut path, mut all) = (format!("{PATH}?limit=2"), Vec::new());
    let pages = loop {
        let page = served.get(&key, &path).await;
        all.extend(page.json().as_array().unwrap().clone());
        let Some(link) = page.headers.get("link") else { break all.len().div_ceil(2) };
        let link = link.to_str().unwrap();
        link.strip_prefix('<').unwrap().strip_suffix(">; rel=\"next\"").unwrap().clone_into(&mut path);
        assert_eq!(page.json().as_array().unwrap().len(), 2);
    };
    assert_eq!((all, pages), (made, 3));
    assert!(served.get(&key, PATH).await.headers.get("link").is_none());
    let refused = |answer: Answer, name: &str| {
        let problem = answer.problem(422, "invalid-fields");
        assert_eq!(problem["errors"][0]["parameter"], name, "{problem}");
    };
    for limit in ["0", "1001", "x"] {
        refused(served.get(&key, &format!("{PATH}?limit={limit}")).await, "limit");
    }
    refused(served.get(&key, &format!("{PATH}?cursor=x")).await, "cursor");
    refused(served.get(&key, &format!("{PATH}?page=2")).await, "page");
    served.end().await;
}

async fn other_methods_and_wrong_keys_are_problems(database: Database) {
    let served = Served::of(&database).await;
    let key = served.key("contractfit1").await;
    served.get("wrong", PATH).await.problem(401, "unauthorized");
    let path = path_of(&make(&served, &key, &page()).await);
    for (method, path) in [("PUT", PATH), ("PATCH", PATH), ("PUT", path.as_str()), ("POST", path.as_str())] {
        let request = served.request(method.parse().unwrap(), path).bearer_auth(&key);
        super::answer(request).await.problem(405, "method-not-allowed");
    }
    served.end().await;
}

super::on_both! {
    an_integration_is_made_read_changed_and_deleted
    what_is_not_accepted_is_refused_whole_and_nothing_is_stored
    a_target_may_be_a_bare_address_or_host_and_is_never_a_template
    header_is_an_alias_whose_problems_are_told_by_that_name
    a_secret_is_kept_only_for_the_same_address
    only_its_own_are_here_and_all_are_in_v1
    v1_may_change_everything_but_what_an_integration_could_not_tell
    a_list_goes_on_where_its_link_says
    other_methods_and_wrong_keys_are_problems
}
