//! IDEXA's words, as its pages have them.

use super::*;
use crate::{
    api::products::{
        tests::{checked, http},
        words::in_words,
    },
    domain::{Auth, TokenSource},
};

/// The page's example.
fn page() -> Value {
    json!({
        "name": "Webhook 1",
        "type": 0,
        "method": "POST",
        "headers": {"Content-Type": "application/json"},
        "headerAuth": "Bearer",
        "url": "http://localhost:5000/ocr_feedback/:id",
        "authorization": null,
        "authorizationUrl": "http://localhost:5000/login",
        "authorizationMethod": "POST",
        "authorizationHeaders": {"Content-Type": "application/x-www-form-urlencoded"},
        "authorizationBody": {"username": "root", "password": "root"},
        "authorizationResponseTokenAttr": "access_token"
    })
}

/// The page's example with other fields.
fn with(fields: &Value) -> Json {
    let mut body = page().as_object().unwrap().clone();
    body.extend(fields.as_object().unwrap().clone());
    body
}

/// The four fields that are needed, and others.
fn least(fields: &Value) -> Json {
    let mut body = json!({"name": "w", "type": 0, "method": "GET", "url": "http://h/:id"}).as_object().unwrap().clone();
    body.extend(fields.as_object().unwrap().clone());
    body
}

fn errors(body: &Json) -> Vec<FieldError> {
    let said = create(body);
    in_words(said.words, said.errors, checked(&said.rehearsal).err().unwrap_or_default())
}

/// What is wrong in all, by its pointers.
fn wrong(body: &Json) -> Vec<String> {
    let mut pointers: Vec<_> = errors(body).into_iter().filter_map(|error| error.pointer).collect();
    pointers.sort();
    pointers
}

fn told(said: &Said) -> Value {
    let time = Timestamp::from_rfc3339("2024-04-11T14:12:33.741194Z");
    tell(&Shown {
        id: "a7046a49-1fe0-483d-b220-cd93fe50a3a9".parse().unwrap(),
        organization: "acme".parse().unwrap(),
        origin: Some(crate::store::database::Origin::Idexa),
        created_at: time,
        updated_at: time,
        disabled_reason: None,
        document: Json::new(),
        said: secrets::hidden(&said.document),
        aside: said.aside.clone(),
    })
}

#[test]
fn the_pages_example_is_a_template_with_a_login() {
    let said = create(&with(&json!({})));
    assert_eq!(said.errors, []);
    let subscription = checked(&said.document).unwrap();
    assert_eq!((subscription.name.as_str(), subscription.payload), ("Webhook 1", Payload::Idexa));
    assert!(http(&subscription).template && subscription.events.iter().eq([EventName::DocumentFinish]));
    let Auth::Token(source) = &subscription.auth else { panic!("no login") };
    let TokenSource::Login(login) = &**source else { panic!("no login") };
    assert_eq!((login.scheme.as_str(), login.token_attribute.as_str()), ("Bearer", "access_token"));
    assert_eq!(login.body.iter().map(|field| field.name.as_str()).collect::<Vec<_>>(), ["username", "password"]);
    assert_eq!((said.document, said.aside), (said.rehearsal, Json::new()));
    assert_eq!(untold(&subscription), []);
}

#[test]
fn what_is_told_is_the_page_s_object_without_the_body() {
    let said = create(&with(&json!({})));
    let expected = json!({
        "id": "a7046a49-1fe0-483d-b220-cd93fe50a3a9",
        "clientId": client_id(&"acme".parse().unwrap()).to_string(),
        "name": "Webhook 1",
        "type": 0,
        "method": "POST",
        "headers": {"Content-Type": "application/json"},
        "headerAuth": "Bearer",
        "url": "http://localhost:5000/ocr_feedback/:id",
        "authorization": null,
        "authorizationUrl": "http://localhost:5000/login",
        "authorizationMethod": "POST",
        "authorizationHeaders": {"Content-Type": "application/x-www-form-urlencoded"},
        "authorizationResponseTokenAttr": "access_token",
        "createdAt": "2024-04-11T14:12:33.741194+00:00",
        "updatedAt": "2024-04-11T14:12:33.741194+00:00"
    });
    assert_eq!(told(&said).to_string(), expected.to_string(), "the order is part of it");
}

#[test]
fn what_was_not_given_reads_null() {
    let expected = [
        "headers",
        "headerAuth",
        "authorization",
        "authorizationUrl",
        "authorizationMethod",
        "authorizationHeaders",
        "authorizationResponseTokenAttr",
    ];
    // `null` is as good as nothing.
    let nulls: Json = expected.iter().map(|name| ((*name).to_owned(), Value::Null)).collect();
    for body in [least(&json!({})), least(&nulls.into())] {
        let said = create(&body);
        assert!(said.errors.is_empty() && checked(&said.document).is_ok());
        let told = told(&said);
        for name in expected {
            assert_eq!(told.get(name), Some(&Value::Null), "{name}");
        }
    }
}

#[test]
fn a_client_id_never_changes_between_versions() {
    let id = |name: &str| client_id(&name.parse().unwrap()).to_string();
    assert_eq!(id("acme"), "2b47ce59-c976-503a-8633-313cce10ead7");
    assert_ne!(id("acme"), id("acme2"));
}

#[test]
fn name_type_method_and_url_are_required_and_everything_wrong_is_told_at_once() {
    assert_eq!(wrong(&Json::new()), ["/method", "/name", "/type", "/url"]);
    for name in ["name", "type", "method", "url"] {
        assert_eq!(wrong(&with(&json!({name: null}))), [format!("/{name}")]);
        assert!(errors(&with(&json!({name: null})))[0].detail.contains(name));
    }
    let all = with(&json!({
        "name": "", "type": 1, "method": "PATCH", "headers": {"Host": "h"}, "headerAuth": 1, "url": "http://h/x",
        "authorization": 1, "authorizationUrl": "x", "authorizationMethod": "HEAD", "authorizationHeaders": [],
        "authorizationBody": "username=root", "authorizationResponseTokenAttr": "", "webhook": 1, "clientId": "x"
    }));
    assert_eq!(
        wrong(&all),
        [
            "/authorization",
            "/authorizationBody",
            "/authorizationHeaders",
            "/authorizationMethod",
            "/authorizationResponseTokenAttr",
            "/authorizationUrl",
            "/clientId",
            "/headerAuth",
            "/headers/Host",
            "/method",
            "/name",
            "/type",
            "/url",
            "/webhook"
        ]
    );
}

#[test]
fn the_type_is_the_number_0() {
    for other in [json!(1), json!(-1), json!(0.5), json!("0"), json!(false), json!([0])] {
        assert_eq!(wrong(&with(&json!({"type": other}))), ["/type"], "{other}");
    }
}

#[test]
fn the_method_is_one_of_four() {
    for method in ["POST", "PUT", "GET", "DELETE"] {
        assert!(wrong(&with(&json!({"method": method}))).is_empty(), "{method}");
    }
    for other in [json!("PATCH"), json!("post"), json!(""), json!(1), json!("GET ")] {
        assert_eq!(wrong(&with(&json!({"method": other}))), ["/method"], "{other}");
    }
}

#[test]
fn the_url_needs_an_id_in_path_or_query() {
    for url in
        ["http://localhost:5000/:id", "http://h/x?document=:id", "http://user:id@h:5000/a/:id/b", "http://h/:id:id"]
    {
        assert!(wrong(&with(&json!({"url": url}))).is_empty(), "{url}");
    }
    for url in [
        "http://h/",
        "http://localhost:5000/x",
        "http://user:id@h/",
        "http://h/:identity",
        "http://h/%3Aid",
        "http://h/#:id",
        "h/:id",
        "ftp://h/:id",
    ] {
        assert_eq!(wrong(&with(&json!({"url": url}))), ["/url"], "{url}");
    }
}

#[test]
fn a_login_s_body_is_an_object_of_plain_values() {
    assert!(wrong(&with(&json!({"authorizationBody": {"text": "t", "number": 7, "claim": true}}))).is_empty());
    for other in [json!("username=root&password=root"), json!(["root"]), json!(1), json!(true)] {
        assert_eq!(wrong(&with(&json!({"authorizationBody": other}))), ["/authorizationBody"], "{other}");
    }
    let nested = json!({"a": {"b": 1}, "c": [1], "d": 1.5, "e": null, "f/g": null});
    let below = ["/a", "/c", "/d", "/e", "/f~1g"].map(|name| format!("/authorizationBody{name}"));
    assert_eq!(wrong(&with(&json!({"authorizationBody": nested}))), below);
}

#[test]
fn what_is_said_of_a_login_without_its_address_is_checked_and_told_again_without_secrets() {
    let said = create(&least(&json!({
        "headerAuth": "Token", "authorization": "Token x", "authorizationMethod": "POST",
        "authorizationHeaders": {"Accept": "application/json", "X-Key": "hunter2"},
        "authorizationBody": {"password": "hunter2"}, "authorizationResponseTokenAttr": "data.token"
    })));
    assert_eq!(said.errors, []);
    assert_eq!(checked(&said.document).unwrap().auth, Auth::Fixed);
    assert!(!Value::Object(said.aside.clone()).to_string().contains("hunter2"));
    let told = told(&said);
    assert_eq!(told["headerAuth"], "Token");
    assert_eq!(told["authorization"], "***");
    assert_eq!(told["authorizationUrl"], Value::Null);
    assert_eq!(told["authorizationMethod"], "POST");
    assert_eq!(told["authorizationHeaders"], json!({"Accept": "application/json", "X-Key": "***"}));
    assert_eq!(told["authorizationResponseTokenAttr"], "data.token");
    assert!(!told.to_string().contains("hunter2"));
    assert_eq!(
        wrong(&least(&json!({"headerAuth": 1, "authorizationMethod": "HEAD"}))),
        ["/authorizationMethod", "/headerAuth"]
    );
}

#[test]
fn an_empty_header_auth_is_the_bare_token() {
    let said = create(&with(&json!({"headerAuth": ""})));
    assert!(said.errors.is_empty() && checked(&said.document).is_ok());
    assert_eq!(told(&said)["headerAuth"], "");
}

#[test]
fn no_problem_repeats_a_secret() {
    for fields in [
        json!({"authorization": ["hunter2"]}),
        json!({"authorization": "hunter2\n"}),
        json!({"authorizationBody": "password=hunter2"}),
        json!({"authorizationBody": {"password": ["hunter2"]}}),
        json!({"authorizationUrl": "http://u:hunter2@h:x/"}),
        json!({"authorizationHeaders": {"X-Key": "hunter2\n"}}),
        json!({"headers": "hunter2"}),
        json!({"url": "http://u:hunter2@h/"}),
    ] {
        let errors = errors(&with(&fields));
        assert!(!errors.is_empty() && !format!("{errors:?}").contains("hunter2"), "{fields}: {errors:?}");
    }
}

#[test]
fn another_payload_cannot_be_told() {
    let mut document = create(&least(&json!({}))).document;
    document.insert("payload".to_owned(), "cloudevents".into());
    let wrong = |document: &Json| {
        untold(&checked(document).unwrap()).into_iter().filter_map(|error| error.pointer).collect::<Vec<_>>()
    };
    assert_eq!(wrong(&document), ["/payload"]);
    document.insert("target".to_owned(), json!({"type": "amqp", "exchange": "erp.in"}));
    assert_eq!(wrong(&document), ["/payload", "/target/type"]);
}
