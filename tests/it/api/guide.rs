//! The calls in docs/api.md can be copied: each of them is run here.

use std::process::Stdio;

use tokio::process::Command;

use super::Served;
use crate::{store::Database, support::page};

#[tokio::test]
async fn every_call_of_the_guide_works_as_it_stands_there() {
    let blocks = page::blocks("docs/api.md").into_iter().filter(|block| block.language == "sh");
    let calls: Vec<_> = blocks.map(|block| block.text).filter(|text| text.contains("curl ")).collect();
    assert!(calls.len() >= 8, "the calls have moved");
    let database = Database::sqlite().await;
    let served = Served::of(&database).await;
    let key = served.key("acme").await;
    let script = format!("set -eu\n{}", calls.join("\necho; echo ======\n"));
    let mut command = Command::new("bash");
    command.args(["-c", &script]).env("DOCRELAY", format!("http://{}", served.address)).env("KEY", &key);
    command.stdin(Stdio::null());
    let ran = command.output().await.unwrap();
    let (told, made) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "a call does not work (they need curl 7.84 or newer):\n{told}\n{made}");
    let answers: Vec<_> = told.split("======").collect();
    assert_eq!(answers.len(), calls.len());
    assert!(made.contains("\"whsec_") && answers[1].contains("\"***\""), "shown once: {made}\n{told}");
    let mistake = answers.iter().find(|answer| answer.contains("/problems/")).unwrap();
    for pointer in ["/events/0", "/target/url"] {
        assert!(mistake.contains(pointer), "{mistake}");
    }
    let all = served.get(&key, "/v1/subscriptions").await.json();
    assert!(all["items"].as_array().unwrap().is_empty(), "the last call deletes it: {all}");
    served.end().await;
}
