//! A page of the documents, and its blocks: shell commands that are run as they stand, and answers to compare with what
//! really came.

use std::path::Path;

use docrelay::domain::Timestamp;
use serde_json::Value;
use tokio::process::Command;
use uuid::Uuid;

/// A fenced block of a page.
#[derive(Debug)]
pub(crate) struct Block {
    /// What stands behind the fence, such as `sh`.
    pub(crate) language: String,
    pub(crate) text: String,
    /// What the page says between the block before and this one.
    pub(crate) before: String,
}

/// The blocks of a page, such as `docs/api.md`.
pub(crate) fn blocks(page: &str) -> Vec<Block> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(page);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let parts: Vec<&str> = text.split("```").collect();
    assert!(parts.len() % 2 == 1, "{page}: a block has no end");
    let pairs = parts.chunks_exact(2);
    let blocks = pairs.map(|pair| {
        let (language, text) = pair[1].split_once('\n').unwrap();
        Block { language: language.to_owned(), text: text.to_owned(), before: pair[0].to_owned() }
    });
    blocks.collect()
}

/// What a script printed, which must go well.
pub(crate) async fn run(script: &str, environment: &[(&str, &str)]) -> String {
    let has_curl = Command::new("curl").arg("--version").output().await.is_ok_and(|ran| ran.status.success());
    assert!(has_curl, "curl is needed to run what the pages say, and is not installed here");
    let mut bash = Command::new("bash");
    bash.args(["-euo", "pipefail", "-c", script]).envs(environment.iter().copied());
    let ran = bash.env("NO_PROXY", "*").kill_on_drop(true).output().await.unwrap();
    let printed = String::from_utf8(ran.stdout).unwrap();
    let complaint = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{script}\nended with {}: {printed}\n{complaint}", ran.status);
    printed
}

/// JSON as text with what is new each time made the same: random ids, and the digits of times. The order of keys stays.
pub(crate) fn timeless(json: &str) -> String {
    let mut value = serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {json}"));
    forget(&mut value);
    value.to_string()
}

fn forget(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(forget),
        Value::Object(fields) => fields.values_mut().for_each(forget),
        Value::String(text) => {
            if Uuid::try_parse(text).is_ok_and(|id| id.get_version_num() == 4) {
                "a random id".clone_into(text);
            } else if Timestamp::from_rfc3339(&text.replace("+00:00", "Z")).is_some() {
                *text = text.replace(|letter: char| letter.is_ascii_digit(), "0");
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[test]
fn only_random_ids_and_the_digits_of_times_are_forgotten() {
    let page = r#"{"id": "2f0a8f0e-5a2d-4a55-9a6e-0f6f4e0f7f0b", "at": ["2026-11-25T18:00:00.123456Z"], "n": 1}"#;
    let real = page.replace("2f0a", "ffff").replace("18:00:00.123456", "19:59:59.000000");
    assert_eq!(timeless(page), timeless(&real));
    for other in [
        page.replace("-4a55-", "-5a55-"),
        page.replace("Z\"", "+00:00\""),
        page.replace(".123456", ".123"),
        page.replace("\"n\": 1", "\"n\": 2"),
        page.replace("\"id\"", "\"ID\""),
    ] {
        assert_ne!(timeless(page), timeless(&other), "{other}");
    }
}
