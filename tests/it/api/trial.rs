//! The test send over the API: what was answered, or the exact reason why nothing was.

use serde_json::json;

use super::{Served, little};
use crate::{
    store::Database,
    support::{
        broker::DEADLINE,
        receiver::{Receiver, Reply},
    },
};

#[tokio::test]
async fn a_test_send_says_what_was_answered_or_exactly_why_nothing_was() {
    let receiver = Receiver::scripted(|_| Reply::status(422).body("no total").header("x-reason", "total")).await;
    let filed = format!(
        "subscriptions: [{{id: filed, organization: acme, events: [document_text], enabled: false, target: {{url: '{}', method: PUT}}}}]\n",
        receiver.url("/filed")
    );
    let database = Database::sqlite().await;
    let served = Served::beside(&database, &filed).await;
    let (key, theirs) = (served.key("acme").await, served.key("umbrella").await);
    let mut given = little();
    given["events"] = json!(["document_split", "document_text"]);
    given["target"]["url"] = json!(receiver.url("/hooks?key=hush"));
    let path = format!("{}/test", served.create(&key, &given).await);

    let report = served.post(&key, &path, &json!({"event": "document_split"})).await;
    assert_eq!(report.status, 200, "{report:?}");
    let report = report.json();
    assert_eq!((&report["status"], &report["body"], &report["error"]), (&json!(422), &json!("no total"), &json!(null)));
    assert!(report["headers"].as_array().unwrap().contains(&json!({"name": "x-reason", "value": "total"})), "{report}");
    assert!(!report.to_string().contains("hush") && report["latency_ms"].is_u64(), "{report}");
    let sent = receiver.recorded().remove(0);
    assert_eq!((sent.header("docrelay-event"), sent.header("docrelay-test")), ("document_split", "true"));
    assert_eq!(sent.delivery(), report["webhook_id"].as_str().unwrap());

    // One of the file, disabled as it is; its method must be confirmed.
    let filed = "/v1/subscriptions/filed/test";
    served.post(&key, filed, &json!({})).await.wrong_fields(&["/confirm_method"]);
    let confirmed = served.post(&key, filed, &json!({"confirm_method": true})).await.json();
    assert_eq!((&confirmed["status"], receiver.count()), (&json!(422), 2), "{confirmed}");

    let wrong = json!({"event": "document_finish"});
    served.post(&key, &path, &wrong).await.wrong_fields(&["/event"]);
    let wrong = json!({"event": "nonsense", "confirm_method": "yes", "mo/r~e": 1});
    served.post(&key, &path, &wrong).await.wrong_fields(&["/confirm_method", "/event", "/mo~1r~0e"]);
    for path in [path.as_str(), filed] {
        served.post(&theirs, path, &json!({})).await.problem(404, "not-found");
    }

    given["target"]["url"] = json!("http://10.1.2.3/");
    let path = format!("{}/test", served.create(&key, &given).await);
    let refused = served.post(&key, &path, &json!({})).await.json();
    assert_eq!((&refused["error"], &refused["status"]), (&json!("egress"), &json!(null)), "{refused}");
    assert!(refused["error_text"].as_str().unwrap().contains("10.1.2.3"), "{refused}");
    assert_eq!(receiver.count(), 2);
    served.end().await;
}

#[tokio::test]
async fn a_target_that_is_busy_is_told_as_that() {
    let receiver = Receiver::scripted(|_| Reply::hang()).await;
    let database = Database::sqlite().await;
    let served = Served::of(&database).await;
    let key = served.key("acme").await;
    let mut given = little();
    given["target"]["url"] = json!(receiver.url("/"));
    given["max_in_flight"] = json!(1);
    let path = format!("{}/test", served.create(&key, &given).await);
    let nothing = json!({});
    let second = async {
        receiver.wait_for(1, DEADLINE).await;
        served.post(&key, &path, &nothing).await
    };
    let refused = tokio::select! {
        first = served.post(&key, &path, &nothing) => panic!("it hangs: {first:?}"),
        refused = second => refused,
    };
    let problem = refused.problem(503, "busy");
    assert!(problem["detail"].as_str().unwrap().contains("its target is busy"), "{problem}");
    assert!(refused.headers.contains_key("retry-after"), "{refused:?}");
    served.end().await;
}

#[tokio::test]
async fn an_exchange_that_is_not_allowed_any_more_can_be_tried_and_disabled_but_not_given() {
    let amqp = |allow| [("TARGETS__AMQP__URL", "amqp://h/"), ("TARGETS__AMQP__ALLOW", allow)];
    let database = Database::sqlite().await;
    let served = Served::set(&database, super::NO_FILE, database.open().await, &amqp("acme:erp.in")).await;
    let key = served.key("acme").await;
    let given = json!({"events": ["document_text"], "target": {"type": "amqp", "exchange": "erp.in"}});
    let path = served.create(&key, &given).await;
    served.end().await;

    let served = Served::set(&database, super::NO_FILE, database.open().await, &amqp("acme:erp.other")).await;
    let tried = served.post(&key, &format!("{path}/test"), &json!({})).await;
    assert_eq!((tried.status.as_u16(), &tried.json()["error"]), (200, &json!("egress")), "{tried:?}");
    let off = served.patch(&key, &path, &json!({"enabled": false})).await;
    assert_eq!((off.status.as_u16(), &off.json()["enabled"]), (200, &json!(false)), "{off:?}");
    let third = json!({"target": {"exchange": "erp.third"}});
    served.patch(&key, &path, &third).await.wrong_fields(&["/target/exchange"]);
    served.post(&key, "/v1/subscriptions", &given).await.wrong_fields(&["/target/exchange"]);
    assert_eq!(served.patch(&key, &path, &json!({"target": {"exchange": "erp.other"}})).await.status, 200);
    served.patch(&key, &path, &json!({"target": {"exchange": "erp.in"}})).await.wrong_fields(&["/target/exchange"]);
    served.end().await;
}
