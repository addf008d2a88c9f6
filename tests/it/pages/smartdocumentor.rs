//! docs/from-smartdocumentor.md

use std::{collections::BTreeMap, fs};

use docrelay::domain::{DocumentEvent, Happening, Outcome};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Reader, body, command};
use crate::{
    flow::export,
    support::{page::timeless, receiver::Receiver},
};

const PAGE: &str = "docs/from-smartdocumentor.md";

/// A reader beside a folder with the file of [`reviewed`].
async fn reader() -> (Reader, TempDir) {
    let folder = TempDir::new().unwrap();
    fs::create_dir(folder.path().join("exports")).unwrap();
    fs::write(folder.path().join("exports/7.pdf"), "%PDF-1.7 not really").unwrap();
    let settings = [
        ("ARTIFACTS__URL", &*format!("file://{}", folder.path().display())),
        ("ARTIFACTS__PUBLIC_URL", "https://relay.acme.example/artifacts"),
        ("ARTIFACTS__SIGNING_KEYS", "k1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
    ];
    (Reader::with(PAGE, "acme", &settings).await, folder)
}

/// A review in the page's workspace was finished.
fn reviewed(id: &str) -> DocumentEvent {
    let event = export(id);
    let Happening::Export(export) = event.happening else { unreachable!() };
    let text = |text: &str| Some(text.to_owned());
    let export = docrelay::domain::DocumentExport {
        task_id: 90017,
        task_number: Some(1042),
        total_pages: 2,
        workspace_id: 12,
        display_name: "invoice-1042.pdf".to_owned(),
        last_checkout_by_user_name: text("ana"),
        last_checked_out_by: text("u-17"),
        last_checked_out_until: docrelay::domain::Timestamp::from_rfc3339("2026-11-25T18:30:00Z"),
        ..*export
    };
    let metadata = BTreeMap::from([("batch".to_owned(), "7".to_owned())]);
    let inbox = Some("workspace-12".parse().unwrap());
    DocumentEvent { inbox, metadata, happening: Happening::Export(Box::new(export)), ..event }
}

#[tokio::test]
async fn every_call_works_as_it_stands_and_is_answered_as_it_says() {
    let (mut reader, _folder) = reader().await;
    assert_eq!(reader.run_all().await, (1, 0));
    reader.end(&[]).await;
}

#[tokio::test]
async fn formats_are_three_and_hours_are_whole_numbers_from_1_to_168() {
    let (mut reader, _folder) = reader().await;
    let create = command(PAGE, &["smartdocumentor_file"]);
    for (format, hours) in [("pdf", "1"), ("jpeg", "168"), ("png", "24")] {
        reader.run(&with_file(&create, format, hours)).await;
    }
    for (format, hours, wrong) in [
        ("pdf", "0", "/file/expires_hours"),
        ("pdf", "-1", "/file/expires_hours"),
        ("pdf", "169", "/file/expires_hours"),
        ("pdf", "1.5", "/file/expires_hours"),
        ("pdf", "\"24\"", "/file/expires_hours"),
        ("tiff", "24", "/file/format"),
    ] {
        // Not --fail: the answer is what is looked at.
        let script = with_file(&create, format, hours).replace("--fail-with-body", "");
        let problem: Value = serde_json::from_str(&reader.run(&script).await).unwrap();
        let told = (&problem["status"], &problem["errors"][0]["pointer"], problem["errors"].as_array().unwrap().len());
        assert_eq!(told, (&json!(422), &json!(wrong), 1), "{format} {hours}: {problem}");
    }
    let listed = reader.run("curl -sS \"$DOCRELAY/v1/subscriptions\" -H \"Authorization: Bearer $KEY\"").await;
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed["items"].as_array().unwrap().len(), 3, "what was refused was not stored");
    reader.end(&[]).await;
}

/// The page's command with another file.
fn with_file(create: &str, format: &str, hours: &str) -> String {
    let file = format!("\"file\": {{\"format\": \"{format}\", \"expires_hours\": {hours}}}");
    let changed = create.replace("\"file\": {\"format\": \"pdf\", \"expires_hours\": 24}", &file);
    assert!(changed.contains(&file), "{create}");
    changed
}

#[tokio::test]
async fn what_comes_is_the_page_s_body_with_a_link_that_works() {
    let receiver = Receiver::ok().await;
    let (mut reader, _folder) = reader().await;
    reader
        .run(&command(PAGE, &["smartdocumentor_file"]).replace("https://archive.acme.example", &receiver.url("")))
        .await;
    assert_eq!(reader.publish(&reviewed("evt-1"), 1).await[0].outcome, Outcome::Delivered);
    let request = receiver.recorded().remove(0);
    assert_eq!((request.method.as_str(), &*request.path), ("POST", "/exports"));

    let (mut came, mut shown) = (request.json(), serde_json::from_str::<Value>(&body(PAGE)).unwrap());
    let link = came["exportedFileUrl"].take().as_str().unwrap().to_owned();
    let page_s = shown["exportedFileUrl"].take().as_str().unwrap().to_owned();
    let values_left_out = |link: &str| {
        let (address, query) = link.split_once('?').unwrap();
        let names: Vec<_> = query.split('&').map(|pair| pair.split_once('=').unwrap().0.to_owned()).collect();
        (address.to_owned(), names)
    };
    assert_eq!(values_left_out(&link), values_left_out(&page_s));
    assert_eq!(came["lastCheckedOutUntil"], shown["lastCheckedOutUntil"]);
    assert_eq!(timeless(&came.to_string()), timeless(&shown.to_string()));

    let here = link.replace("https://relay.acme.example", &reader.address);
    let answer = reqwest::get(here).await.unwrap();
    assert_eq!((answer.status().as_u16(), &*answer.text().await.unwrap()), (200, "%PDF-1.7 not really"));
    reader.end(&[(&receiver, 1)]).await;
}
