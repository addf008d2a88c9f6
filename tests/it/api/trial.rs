//! The test send over the API: what was answered, or the exact reason why nothing was.

use serde_json::json;

use super::{Served, little};
use crate::{
    store::Database,
    support::receiver::{Receiver, Reply},
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
    let wrong = json!({"event": "nonsense", "confirm_method": "yes", "more": 1});
    served.post(&key, &path, &wrong).await.wrong_fields(&["/confirm_method", "/event", "/more"]);
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
