//! Lists, page by page, over the file and the database.

use serde_json::json;

use super::{Served, little};
use crate::store::Database;

const PATH: &str = "/v1/subscriptions";

/// Everything that a list has, in pages of this size, while something is made after each page.
async fn pages(served: &Served, key: &str, limit: usize) -> Vec<String> {
    let (mut all, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = served.get(key, &format!("{PATH}?limit={limit}{cursor}")).await.json();
        let items = page["items"].as_array().unwrap();
        assert!(items.len() <= limit);
        all.extend(items.iter().map(|item| item["name"].as_str().unwrap().to_owned()));
        match page["next_cursor"].as_str() {
            Some(next) => {
                assert_eq!(items.len(), limit, "a page is full unless it is the last");
                cursor = format!("&cursor={next}");
            }
            None => return all,
        }
    }
}

async fn a_list_holds_everything_once_in_pages_of_any_size(database: Database) {
    let lines = ["f3", "f1", "f2"].map(|id| {
        format!("- {{id: {id}, organization: acme, events: [document_text], target: {{url: 'https://h/'}}}}\n")
    });
    let foreign = "- {id: f0, organization: umbrella, events: [document_text], target: {url: 'https://h/'}}\n";
    let served = Served::beside(&database, &format!("subscriptions:\n{}{foreign}", lines.concat())).await;
    let key = served.key("acme").await;
    for number in 0..4 {
        let mut body = little();
        body["name"] = json!(format!("s{number}"));
        served.create(&key, &body).await;
    }
    let expected = ["f1", "f2", "f3", "s0", "s1", "s2", "s3"];
    for limit in 1..=8 {
        assert_eq!(pages(&served, &key, limit).await, expected, "in pages of {limit}");
    }
    let operator = served.operators_key().await;
    assert_eq!(pages(&served, &operator, 3).await.len(), 8);
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
