//! File exports: a review was finished, and the receiver gets a link that it can follow without any other credential.

use std::{collections::BTreeMap, fs, net::TcpListener};

use docrelay::domain::{DocumentEvent, DocumentState, FailureKind, Happening, Outcome, Timestamp};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::payloads::export;
use crate::support::{
    receiver::{Receiver, Reply},
    service::{GENEROUS, Surroundings, subscription, with},
};

const CONTENT: &str = "%PDF-1.7 not really";

/// A folder with the file of [`export`], and a service that links into it.
pub(crate) struct Exports {
    pub(crate) surroundings: Surroundings,
    pub(crate) folder: TempDir,
}

impl Exports {
    pub(crate) async fn new() -> Self {
        let folder = TempDir::new().unwrap();
        fs::create_dir(folder.path().join("exports")).unwrap();
        fs::write(folder.path().join("exports/7.pdf"), CONTENT).unwrap();
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let settings = [
            ("ARTIFACTS__URL", &*format!("file://{}", folder.path().display())),
            ("ARTIFACTS__PUBLIC_URL", &*format!("http://{free}/files")),
            ("ARTIFACTS__SIGNING_KEYS", "k1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
            ("API__LISTEN", &*free.to_string()),
        ];
        Self { surroundings: Surroundings::with(&settings).await, folder }
    }
}

pub(crate) fn file_export(id: &str, url: &str, format: &str, hours: u32) -> Value {
    let fields = json!({
        "payload": "smartdocumentor_file", "events": ["document_export"],
        "file": {"format": format, "expires_hours": hours},
    });
    with(subscription(id, url), fields)
}

fn time(value: &Value) -> Timestamp {
    Timestamp::from_rfc3339(value.as_str().unwrap()).unwrap()
}

#[tokio::test]
async fn an_export_brings_a_link_that_is_signed_anew_at_each_attempt_and_works_for_the_hours_it_says() {
    let receiver = Receiver::scripted(|request| Reply::status(if request.attempt() == 1 { 503 } else { 200 })).await;
    let exports = Exports::new().await;
    exports.surroundings.subscribe(&[file_export("export", &receiver.url("/exports"), "pdf", 168)]);
    let service = exports.surroundings.start().await;
    let metadata = BTreeMap::from([("costCenter".to_owned(), "4".to_owned())]);
    exports.surroundings.publish(&DocumentEvent { metadata, ..export("evt-1") }).await;
    let delivered = exports.surroundings.results.wait_for_outcome(Outcome::Delivered, 1, GENEROUS).await;

    let requests = receiver.recorded();
    for request in &requests {
        assert_eq!((request.method.as_str(), request.header("content-type")), ("POST", "application/json"));
        let body = request.json();
        assert_eq!(body["exportedFileContentType"], "application/pdf");
        assert_eq!(body["metadata"], json!({"costCenter": "4"}));
        let sent = Timestamp::from_unix(request.header("webhook-timestamp").parse().unwrap(), 0).unwrap();
        let hours = sent.age_at(time(&body["exportedFileExpiresOn"])).as_secs_f64() / 3600.0;
        assert!((hours - 168.0).abs() < 0.001, "{hours} hours");
    }
    // What the receiver does, with nothing but the link.
    let last = requests[1].json();
    let answer = reqwest::get(last["exportedFileUrl"].as_str().unwrap()).await.unwrap();
    assert_eq!(answer.headers()["content-type"], last["exportedFileContentType"].as_str().unwrap());
    assert_eq!(answer.text().await.unwrap(), CONTENT);
    assert_eq!(
        (delivered[0].attempt, delivered[0].outcome.document_state(delivered[0].event)),
        (2, DocumentState::Archived)
    );
    let told = format!("{delivered:?}");
    assert!(!told.contains("signature="), "the link is a credential: {told}");
    exports.surroundings.end(service, &[(&receiver, 2)]).await;
}

#[tokio::test]
async fn every_export_of_a_workspace_fires_and_a_document_without_the_file_is_rejected_without_an_attempt() {
    let receiver = Receiver::ok().await;
    let exports = Exports::new().await;
    let in_workspace = |value: Value, inbox: &str| with(value, json!({"inboxes": [inbox]}));
    exports.surroundings.subscribe(&[
        in_workspace(file_export("one", &receiver.url("/one"), "pdf", 1), "42"),
        in_workspace(file_export("two", &receiver.url("/two"), "PDF", 24), "42"),
        in_workspace(file_export("png", &receiver.url("/png"), "png", 24), "42"),
        in_workspace(file_export("elsewhere", &receiver.url("/elsewhere"), "pdf", 24), "43"),
    ]);
    let service = exports.surroundings.start().await;
    let of = |id: &str| DocumentEvent { inbox: Some("42".parse().unwrap()), ..export(id) };
    exports.surroundings.publish(&of("evt-1")).await;
    exports.surroundings.results.wait_for_outcome(Outcome::Delivered, 2, GENEROUS).await;
    let without = exports.surroundings.results.wait_for_outcome(Outcome::Rejected, 1, GENEROUS).await;
    assert_eq!((without[0].attempt, without[0].error), (0, Some(FailureKind::NoRendition.as_str())), "{without:?}");
    assert!(without[0].error_text.contains("png"), "{without:?}");
    assert_eq!(without[0].outcome.document_state(without[0].event), DocumentState::ToReview);

    // The file is gone, and a path that leads out of the folder is none.
    fs::remove_file(exports.folder.path().join("exports/7.pdf")).unwrap();
    let mut outside = of("evt-3");
    let Happening::Export(export) = &mut outside.happening else { unreachable!() };
    export.renditions[0].path = "../secrets.pdf".to_owned();
    exports.surroundings.publish_all(&[of("evt-2"), outside]).await;
    let rejected = exports.surroundings.results.wait_for_outcome(Outcome::Rejected, 1 + 2 * 3, GENEROUS).await;
    assert!(rejected.iter().all(|it| (it.attempt, it.error) == (0, Some(FailureKind::NoRendition.as_str()))));
    let mut paths: Vec<_> = receiver.recorded().into_iter().map(|request| request.path).collect();
    paths.sort();
    assert_eq!(paths, ["/one", "/two"]);
    exports.surroundings.end(service, &[(&receiver, 2)]).await;
}
