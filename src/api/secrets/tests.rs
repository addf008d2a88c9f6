//! Secrets are told from the rest, hidden, split off and kept.

use serde_json::json;

use super::*;
use crate::store::lay_over;

const PLANTED: &str = "hunter2";

fn object(value: Value) -> Json {
    let Value::Object(object) = value else { panic!("expected an object, got {value}") };
    object
}

/// A subscription with a secret in every place that may have one.
fn full() -> Json {
    object(json!({
        "name": "n",
        "target": {
            "url": "https://u:hunter2@erp.example/x?a=b",
            "headers": {"X-Key": "hunter2-key", "Content-Type": "text/plain", "accept": "a/b", "USER-AGENT": "me"},
        },
        "auth": {
            "authorization": "Bearer hunter2",
            "login": {
                "url": "https://u:hunter2@login.example/",
                "headers": {"X-Login": "hunter2", "Accept": "c/d"},
                "body": {"password": "hunter2"},
                "scheme": "Bearer",
            },
            "oauth2": {"token_url": "https://u:hunter2@id.example/", "client_id": "me", "client_secret": "hunter2"},
        },
        "signing_secrets": ["whsec_hunter2", "whsec_hunter2b"],
    }))
}

fn text(json: &Json) -> String {
    Value::Object(json.clone()).to_string()
}

/// What a patch makes of a subscription, or what is told to be wrong with it.
fn patch(stored: &Json, patch: Value) -> Result<Json, Vec<String>> {
    let (new, kept) = patched(stored, &object(patch));
    kept.map(|()| new).map_err(|errors| errors.into_iter().filter_map(|error| error.pointer).collect())
}

#[test]
fn every_secret_is_hidden_and_nothing_else() {
    let hidden = hidden(&full());
    assert!(!text(&hidden).contains(PLANTED), "{}", text(&hidden));
    assert_eq!(
        Value::Object(hidden),
        json!({
            "name": "n",
            "target": {
                "url": "https://u:***@erp.example/x?a=b",
                "headers": {"X-Key": "***", "Content-Type": "text/plain", "accept": "a/b", "USER-AGENT": "me"},
            },
            "auth": {
                "authorization": "***",
                "login": {
                    "url": "https://u:***@login.example/",
                    "headers": {"X-Login": "***", "Accept": "c/d"},
                    "body": "***",
                    "scheme": "Bearer",
                },
                "oauth2": {"token_url": "https://u:***@id.example/", "client_id": "me", "client_secret": "***"},
            },
            "signing_secrets": ["***", "***"],
        })
    );
}

#[test]
fn what_is_split_off_is_every_secret_and_laid_over_the_rest_makes_it_whole() {
    let (open, secret) = split(&full());
    assert!(!text(&open).contains(PLANTED), "{}", text(&open));
    let secret = secret.unwrap();
    assert!(!text(&secret).contains("text/plain") && !text(&secret).contains("\"scheme\""), "{}", text(&secret));
    let mut whole = open;
    lay_over(&mut whole, secret);
    assert_eq!(whole, full());
    assert_eq!(
        split(&object(json!({"target": {"url": "https://u@h/?key=1"}}))).1,
        None,
        "nothing secret, nothing to encrypt"
    );
}

#[test]
fn what_was_read_can_be_given_back_and_changes_nothing() {
    assert_eq!(patch(&full(), Value::Object(hidden(&full()))), Ok(full()));
    assert_eq!(patch(&full(), json!({})), Ok(full()));
}

#[test]
fn what_hides_a_secret_is_none_where_nothing_is_stored() {
    let nothing = Json::new();
    let everything = Value::Object(hidden(&full()));
    let places: Vec<String> = places(&full()).iter().map(|place| pointer(place)).collect();
    let mut found = patch(&nothing, everything).unwrap_err();
    found.sort_unstable();
    let mut expected = places;
    expected.sort_unstable();
    assert_eq!(found, expected);
}

#[test]
fn a_secret_goes_to_no_other_address_than_it_was_given_for() {
    let to = |url: &str| json!({"target": {"url": url}});
    for other in
        ["https://u:hunter2@evil.example/", "http://u:hunter2@erp.example/x", "https://u:hunter2@erp.example:8443/"]
    {
        let found = patch(&full(), to(other)).unwrap_err();
        // Those that go to the target, and those that open it.
        for place in [
            "/target/headers/X-Key",
            "/auth/authorization",
            "/auth/login/body",
            "/auth/oauth2/client_secret",
            "/signing_secrets",
        ] {
            assert!(found.iter().any(|found| found == place), "{other} {place}: {found:?}");
        }
    }
    for same in ["https://u:hunter2@erp.example/elsewhere?x=y", "https://u:hunter2@erp.example:443/x"] {
        assert!(patch(&full(), to(same)).is_ok(), "{same}");
    }
    // Hidden ones are no better than ones that were left out.
    let mut hidden = hidden(&full());
    hidden["target"]["url"] = json!("https://u:***@evil.example/");
    let found = patch(&full(), Value::Object(hidden)).unwrap_err();
    assert!(
        found.contains(&"/target/url".to_owned()) && found.contains(&"/target/headers/X-Key".to_owned()),
        "{found:?}"
    );
    // What goes to no address yet goes to no first one either.
    let exchange = object(json!({"target": {"type": "amqp"}, "auth": {"authorization": "hunter2"}}));
    assert_eq!(patch(&exchange, to("https://evil.example/")), Err(vec!["/auth/authorization".to_owned()]));
    // The login's own go to its own address.
    let found = patch(&full(), json!({"auth": {"login": {"url": "https://evil.example/"}}})).unwrap_err();
    assert!(found.iter().all(|place| place.starts_with("/auth/login/")) && found.len() == 2, "{found:?}");
    let found = patch(&full(), json!({"auth": {"oauth2": {"token_url": "https://evil.example/"}}})).unwrap_err();
    assert_eq!(found, ["/auth/oauth2/client_secret"]);
}

#[test]
fn a_login_body_is_replaced_and_no_part_of_it_goes_to_another_address() {
    let login =
        |login: Value| patch(&full(), json!({"auth": {"login": login}})).map(|new| new["auth"]["login"].clone());
    for body in [json!({}), json!({"grant": "x"}), json!({"password": null}), json!({"nested": {"a": []}})] {
        let moved =
            login(json!({"url": "https://evil.example/", "headers": {"X-Login": "new"}, "body": body})).unwrap();
        assert!(!moved.to_string().contains(PLANTED), "{moved}");
        let whole = login(json!({"body": body})).unwrap();
        assert!(!whole["body"].to_string().contains(PLANTED), "{whole}");
    }
    // The token that it opens goes to the target.
    let stored = object(json!({
        "target": {"url": "https://erp.example/"},
        "auth": {"login": {"url": "https://login.example/", "body": {"password": "hunter2"}}},
    }));
    let moved = json!({"target": {"url": "https://evil.example/"}, "auth": {"login": {"body": {}}}});
    let moved = patch(&stored, moved).unwrap();
    assert!(!text(&moved).contains(PLANTED), "{}", text(&moved));
    // What hides the whole keeps the whole, where it was.
    assert_eq!(login(json!({"body": "***"})), Ok(full()["auth"]["login"].clone()));
    let elsewhere = login(json!({"url": "https://evil.example/", "headers": null, "body": "***"}));
    assert_eq!(elsewhere, Err(vec!["/auth/login/body".to_owned()]));
}

#[test]
fn what_hides_a_secret_is_none_inside_a_login_body() {
    for body in [json!({"password": "***"}), json!({"a": {"b": ["***"]}}), json!(["***"])] {
        let found = patch(&full(), json!({"auth": {"login": {"body": body}}}));
        assert_eq!(found, Err(vec!["/auth/login/body".to_owned()]));
    }
    let kept = patch(&full(), json!({"auth": {"login": {"body": {"password": "a***"}}}})).unwrap();
    assert_eq!(kept["auth"]["login"]["body"], json!({"password": "a***"}));
}

#[test]
fn with_its_secrets_given_again_or_taken_away_an_address_may_change() {
    let stored = object(json!({
        "target": {"url": "https://erp.example/", "headers": {"X-Key": "hunter2", "X-Other": "hunter2"}},
        "auth": {"authorization": "Bearer hunter2"},
        "signing_secrets": ["whsec_hunter2"],
    }));
    let change = json!({
        "target": {"url": "https://new.example/", "headers": {"x-key": "new", "X-Other": null}},
        "auth": {"authorization": null},
        "signing_secrets": ["generate"],
    });
    assert_eq!(
        patch(&stored, change.clone()).map(Value::Object),
        Ok(json!({
            "target": {"url": "https://new.example/", "headers": {"x-key": "new"}},
            "signing_secrets": ["generate"],
        }))
    );
    for kept in [json!(["***"]), json!(["generate", "***"])] {
        let mut change = change.clone();
        change["signing_secrets"] = kept;
        assert_eq!(patch(&stored, change), Err(vec!["/signing_secrets".to_owned()]));
    }
}

#[test]
fn a_header_that_is_given_back_in_other_capitals_is_kept() {
    let stored = object(json!({"target": {"url": "https://h/", "headers": {"X-Key": "hunter2"}}}));
    let given = json!({"target": {"headers": {"x-key": "***"}}});
    let kept = patch(&stored, given).unwrap();
    assert_eq!(kept["target"]["headers"], json!({"x-key": "hunter2"}));
}

#[test]
fn the_nth_hidden_signing_secret_keeps_the_nth_that_is_stored() {
    let stored = object(json!({"signing_secrets": ["new", "old"]}));
    let secrets =
        |given: Value| patch(&stored, json!({"signing_secrets": given})).map(|new| new["signing_secrets"].clone());
    assert_eq!(secrets(json!(["***"])), Ok(json!(["new"])));
    assert_eq!(secrets(json!(["newer", "***", "***"])), Ok(json!(["newer", "new", "old"])));
    assert_eq!(secrets(json!([])), Ok(json!([])));
    assert_eq!(secrets(json!(["***", "***", "***"])), Err(vec!["/signing_secrets".to_owned()]));
}

#[test]
fn a_signing_secret_is_made_where_one_is_asked_for() {
    let mut new = object(json!({"signing_secrets": ["generate", "given", "generate"]}));
    let mut number = 0;
    let fresh = || {
        number += 1;
        Ok::<_, ()>(format!("made{number}"))
    };
    assert_eq!(generate(&mut new, fresh), Ok(vec![(0, "made1".to_owned()), (2, "made2".to_owned())]));
    assert_eq!(new["signing_secrets"], json!(["made1", "given", "made2"]));
}

#[test]
fn values_of_the_wrong_kind_are_hidden_all_the_same() {
    let odd = object(json!({
        "auth": {"authorization": ["hunter2"], "login": {"body": "hunter2", "headers": {"x": {"y": "hunter2"}}}},
        "target": {"headers": {"x": 5}},
        "signing_secrets": {"a": "hunter2"},
    }));
    assert!(!text(&hidden(&odd)).contains(PLANTED), "{}", text(&hidden(&odd)));
    // An authorization that looks like a URL is still a secret as a whole.
    let odd = object(json!({"auth": {"authorization": "https://hunter2:x@h/"}}));
    assert!(!text(&hidden(&odd)).contains(PLANTED));
}
