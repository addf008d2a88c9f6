//! Lists, page by page, over the file and the database.

use serde_json::{Value, json};

use super::{Served, little};
use crate::store::Database;

const PATH: &str = "/v1/subscriptions";

/// Everything that a list has, in pages of this size; after each of the first pages something with one of these names is
/// made.
async fn pages(served: &Served, key: &str, limit: usize, new: &[String]) -> Vec<String> {
    let (mut all, mut cursor, mut new) = (Vec::new(), String::new(), new.iter());
    loop {
        let page = served.get(key, &format!("{PATH}?limit={limit}{cursor}")).await.json();
        let items = page["items"].as_array().unwrap();
        assert!(items.len() <= limit);
        all.extend(items.iter().map(|item| item["name"].as_str().unwrap().to_owned()));
        match page["next_cursor"].as_str() {
            Some(next) => {
                assert_eq!(items.len(), limit, "a page is full unless it is the last");
                if let Some(name) = new.next() {
                    served.create(key, &named(name)).await;
                }
                cursor = format!("&cursor={next}");
            }
            None => return all,
        }
    }
}

fn named(name: &str) -> Value {
    let mut body = little();
    body["name"] = json!(name);
    body
}

async fn a_list_holds_everything_once_in_pages_of_any_size(database: Database) {
    let lines = ["f3", "f1", "f2"].map(|id| {
        format!("- {{id: {id}, organization: acme, events: [document_text], target: {{url: 'https://h/'}}}}\n")
    });
    let foreign = "- {id: f0, organization: umbrella, events: [document_text], target: {url: 'https://h/'}}\n";
    let served = Served::beside(&database, &format!("subscriptions:\n{}{foreign}", lines.concat())).await;
    let key = served.key("acme").await;
    for number in 0..4 {
        served.create(&key, &named(&format!("s{number}"))).await;
    }
    let mut expected = ["f1", "f2", "f3", "s0", "s1", "s2", "s3"].map(str::to_owned).to_vec();
    for limit in 1..=8 {
        // As many as there are at least pages before the last one, at most two.
        let pages_before = (expected.len() - 1) / limit;
        let new: Vec<_> = (0..pages_before.min(2)).map(|number| format!("n{limit}-{number}")).collect();
        expected.extend(new.clone());
        assert_eq!(pages(&served, &key, limit, &new).await, expected, "in pages of {limit}");
    }
    assert!(expected.len() > 12, "{expected:?}");
    let operator = served.operators_key().await;
    assert_eq!(pages(&served, &operator, 3, &[]).await.len(), expected.len() + 1);
    served.end().await;
}

#[tokio::test]
async fn what_is_made_meanwhile_comes_last_and_what_is_deleted_does_not_disturb() {
    let database = Database::sqlite().await;
    let served = Served::of(&database).await;
    let key = served.key("acme").await;
    let mut paths = Vec::new();
    for _ in 0..4 {
        paths.push(served.create(&key, &little()).await);
    }
    let first = served.get(&key, &format!("{PATH}?limit=2")).await.json();
    served.delete(&key, &paths[1]).await;
    served.delete(&key, &paths[2]).await;
    paths.push(served.create(&key, &little()).await);
    let cursor = first["next_cursor"].as_str().unwrap();
    let rest = served.get(&key, &format!("{PATH}?cursor={cursor}")).await.json();
    let found: Vec<_> = rest["items"].as_array().unwrap().iter().map(|it| it["id"].as_str().unwrap()).collect();
    assert_eq!(found, [&paths[3], &paths[4]].map(|path| path.rsplit('/').next().unwrap()));
    assert_eq!(rest["next_cursor"], json!(null));
    served.end().await;
}

super::on_both! {
    a_list_holds_everything_once_in_pages_of_any_size
}
