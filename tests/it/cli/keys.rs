//! `docrelay keys`, `docrelay secrets` and `docrelay store`, on a SQLite file.

use std::os::unix::fs::PermissionsExt as _;

use docrelay::{
    domain::Secret,
    secrets::{Key, KeyRing},
    store::database::{Content, NewSubscription, Store},
};

use crate::{
    store::{Database, at, content, id, new, organization},
    support::broker::{Ran, docrelay, ran},
};

async fn run(database: &Database, arguments: &[&str]) -> Ran {
    let mut command = docrelay(arguments);
    command.envs(database.environment());
    ran(command).await
}

#[tokio::test]
async fn a_key_is_shown_once_listed_by_its_ending_and_revoked_by_its_id() {
    let database = Database::sqlite().await;
    let created = run(&database, &["keys", "create", "--organization", "acme", "--name", "ERP"]).await;
    assert!(created.err.contains("for organization acme") && !created.err.contains("drk_"), "{}", created.err);
    let text = created.fine();
    let text = text.trim_end();
    assert!(text.starts_with("drk_"), "the key alone, for scripts: {text}");
    let json = run(&database, &["keys", "create", "--operator", "--json"]).await.fine();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["operator"], &json["organization"]), (&true.into(), &serde_json::Value::Null));
    assert!(json["key"].as_str().unwrap().starts_with("drk_"));

    let listed = run(&database, &["keys", "list"]).await.fine();
    assert_eq!(listed.lines().count(), 2, "{listed}");
    assert!(listed.contains("organization acme") && listed.contains("ERP") && listed.contains("operator"), "{listed}");
    assert!(listed.contains(&format!("…{}", &text[text.len() - 4..])) && !listed.contains(text), "{listed}");

    let store = database.open().await;
    let key = store.find_key(&Secret::new(text)).await.unwrap().unwrap();
    let told = run(&database, &["keys", "revoke", &key.id]).await.fine();
    assert!(told.contains("revoked 20"), "{told}");
    assert_eq!(store.find_key(&Secret::new(text)).await.unwrap(), None);
    let listed = run(&database, &["keys", "list", "--json"]).await.fine();
    let first: serde_json::Value = serde_json::from_str(listed.lines().next().unwrap()).unwrap();
    assert!(first["revoked_at"].is_string() && first.get("key").is_none(), "{first}");
    let complaint = run(&database, &["keys", "revoke", "nobody"]).await.failed();
    assert!(complaint.contains("no key with the id \"nobody\""), "{complaint}");
}

#[tokio::test]
async fn a_key_must_be_for_somebody_and_in_a_store() {
    let database = Database::sqlite().await;
    assert_eq!(run(&database, &["keys", "create"]).await.code, Some(2));
    assert_eq!(run(&database, &["keys", "create", "--operator", "--organization", "acme"]).await.code, Some(2));
    assert_eq!(run(&database, &["keys", "create", "--operator", "--name", "a\nb"]).await.code, Some(2));
    let complaint = ran(docrelay(&["keys", "list"])).await.failed();
    assert!(complaint.contains("DOCRELAY__STORE__URL"), "{complaint}");
    let mut nowhere = docrelay(&["keys", "list"]);
    nowhere.env("DOCRELAY__STORE__URL", "postgres://user:hush@127.0.0.1:1/x");
    let complaint = ran(nowhere).await.failed();
    assert!(complaint.contains("the store is away") && !complaint.contains("hush"), "{complaint}");
}

#[tokio::test]
async fn a_store_is_made_once_and_kept_from_then_on() {
    let database = Database::sqlite().await;
    let complaint = run(&database, &["secrets", "rotate"]).await.failed();
    assert!(complaint.contains("is its volume mounted?") && complaint.contains("docrelay store init"), "{complaint}");
    assert!(run(&database, &["store", "init"]).await.fine().contains("up to date"));
    run(&database, &["keys", "create", "--operator"]).await.fine();
    run(&database, &["store", "init"]).await.fine();
    assert_eq!(run(&database, &["keys", "list"]).await.fine().lines().count(), 1, "what was there is there");
}

#[tokio::test]
async fn several_processes_may_make_the_tables_at_once() {
    let database = Database::sqlite().await;
    let all = (0..4).map(|_| run(&database, &["keys", "create", "--operator"]));
    for ran in futures_util::future::join_all(all).await {
        ran.fine();
    }
    assert_eq!(run(&database, &["keys", "list"]).await.fine().lines().count(), 4);
}

#[tokio::test]
async fn a_new_key_for_secrets_is_printed_or_written_and_nothing_is_overwritten() {
    let printed = ran(docrelay(&["secrets", "init"])).await.fine();
    assert!(printed.trim_end().parse::<Key>().is_ok());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys");
    let out = path.to_str().unwrap();
    // Works although settings are wrong: it is how they are mended.
    let mut command = docrelay(&["secrets", "init", "--out", out]);
    command.env("DOCRELAY__SECRETS__KEYS", "nonsense");
    assert_eq!(ran(command).await.fine(), "");
    let written = std::fs::read_to_string(&path).unwrap();
    assert!(written.trim_end().parse::<Key>().is_ok());
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let complaint = ran(docrelay(&["secrets", "init", "--out", out])).await.failed();
    assert!(complaint.contains("cannot make"), "{complaint}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), written);
}

#[tokio::test]
async fn rotating_puts_every_secret_under_the_first_key() {
    let mut database = Database::sqlite().await;
    let [old, fresh] = [(); 2].map(|()| Key::generate().unwrap());
    database.keys = KeyRing::new(vec![old.reveal().parse().unwrap()]);
    let secret = Content { secrets: Some(Secret::new("hush")), ..content("{}") };
    let store = database.open().await;
    for name in ["a", "b"] {
        store.insert(&NewSubscription { content: secret.clone(), ..new(name) }, at(0)).await.unwrap();
    }
    let rotate = async |keys: String| {
        let mut command = docrelay(&["secrets", "rotate"]);
        command.envs(database.environment()).env("DOCRELAY__SECRETS__KEYS", keys);
        ran(command).await
    };
    let unreadable = rotate(fresh.reveal().to_owned()).await;
    assert!(unreadable.err.contains("the secrets of a cannot be read") && unreadable.code == Some(1), "{unreadable:?}");
    let told = rotate(format!("{},{}", fresh.reveal(), old.reveal())).await.fine();
    assert!(told.contains("secrets of 2 subscriptions") && told.contains("0 were already"), "{told}");
    let told = rotate(fresh.reveal().to_owned()).await.fine();
    assert!(told.contains("secrets of 0 subscriptions") && told.contains("2 were already"), "{told}");
    let ring = KeyRing::new(vec![fresh.reveal().parse().unwrap()]);
    let row = Store::open(&database.url, ring).await.unwrap().get(&organization("acme"), &id("a")).await.unwrap();
    assert_eq!(row.unwrap().secrets, Ok(Some(Secret::new("hush"))));
    let complaint = rotate(String::new()).await.failed();
    assert!(complaint.contains("docrelay secrets init"), "{complaint}");
}
