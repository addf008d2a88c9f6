//! ContractFit's words, as its page has them.

use super::*;
use crate::api::products::{
    tests::{checked, http},
    words::in_words,
};

fn object(value: &Value) -> Json {
    value.as_object().unwrap().clone()
}

fn page() -> Value {
    json!({
        "type": "webhook",
        "events": ["document_predict"],
        "target": "http://localhost:3000/alfred/document_predict",
        "headers": {"Authorization": "Bearer abcdefg1234567989"}
    })
}

/// The page's example with other fields; `null` takes one away.
fn with(fields: &Value) -> Json {
    let mut body = object(&page());
    body.extend(object(fields));
    body.retain(|_, value| !value.is_null());
    body
}

/// What is wrong in all, by its pointers.
fn wrong(body: &Json) -> Vec<String> {
    let said = create(body);
    let errors = in_words(said.words, said.errors, checked(&said.rehearsal).err().unwrap_or_default());
    let mut pointers: Vec<_> = errors.into_iter().filter_map(|error| error.pointer).collect();
    pointers.sort();
    pointers
}

fn shown(document: Json) -> Shown {
    let time = Timestamp::from_rfc3339("2026-11-25T18:00:00.123456Z");
    Shown {
        id: "2f0a".parse().unwrap(),
        organization: "contractfit1".parse().unwrap(),
        origin: Some(crate::store::database::Origin::ContractFit),
        created_at: time,
        updated_at: time,
        disabled_reason: None,
        document: object(&json!({"enabled": true})),
        said: document,
        aside: Json::new(),
    }
}

#[test]
fn the_pages_example_is_a_post_of_contractfits_body_to_the_target() {
    let said = create(&object(&page()));
    assert_eq!(said.errors, []);
    let subscription = checked(&said.document).unwrap();
    let target = http(&subscription);
    assert_eq!(target.url.as_url().as_str(), "http://localhost:3000/alfred/document_predict");
    assert_eq!(target.headers["authorization"], "Bearer abcdefg1234567989");
    assert_eq!((&target.method, target.template, subscription.payload), (&Method::POST, false, Payload::ContractFit));
    assert_eq!(untold(&subscription), []);
}

#[test]
fn without_type_events_or_target_it_is_refused_and_everything_wrong_is_told_at_once() {
    assert_eq!(wrong(&Json::new()), ["/events", "/target", "/type"]);
    assert_eq!(wrong(&with(&json!({"type": "mail"}))), ["/type"]);
    assert_eq!(wrong(&with(&json!({"events": []}))), ["/events"]);
    for event in ["document_predicted", "document_export", "document_finish", "", "*"] {
        assert_eq!(wrong(&with(&json!({"events": ["document_text", event]}))), ["/events/1"], "{event}");
    }
    let body = with(&json!({
        "type": 1, "events": "document_text", "target": "//x", "headers": {"Host": "h", "X": 1}, "inboxes": [""],
        "retry_backoff": "30s", "enabled": "yes", "colour": "red", "id": "a"
    }));
    assert_eq!(
        wrong(&body),
        [
            "/colour",
            "/enabled",
            "/events",
            "/headers/Host",
            "/headers/X",
            "/id",
            "/inboxes/0",
            "/retry_backoff",
            "/target",
            "/type"
        ]
    );
}

#[test]
fn no_problem_repeats_a_secret() {
    for fields in [
        json!({"target": "user:hunter2@h"}),
        json!({"target": "http://user:hunter2@h:x/"}),
        json!({"target": ["hunter2"]}),
        json!({"headers": {"X-Key": "hunter2\n"}}),
        json!({"headers": "hunter2"}),
        json!({"header": {"X-Key": "hunter2"}}),
    ] {
        let said = create(&with(&fields));
        let errors = in_words(said.words, said.errors, checked(&said.rehearsal).err().unwrap_or_default());
        assert!(!errors.is_empty() && !format!("{errors:?}").contains("hunter2"), "{fields}: {errors:?}");
    }
}

#[test]
fn header_is_another_name_of_headers_and_both_are_one_too_many() {
    let alias = with(&json!({"headers": null, "header": {"X-Key": "k"}}));
    let subscription = checked(&create(&alias).document).unwrap();
    assert_eq!(http(&subscription).headers["x-key"], "k");
    assert_eq!(wrong(&with(&json!({"header": {"X-Key": "k"}}))), ["/header"]);
    assert_eq!(wrong(&with(&json!({"headers": null, "header": {"Host": "k"}}))), ["/header/Host"]);
    let long = json!({"X-Key": "k".repeat(5000)});
    assert_eq!(wrong(&with(&json!({"headers": long}))), ["/headers"]);
    assert_eq!(wrong(&with(&json!({"headers": null, "header": long}))), ["/header"]);
}

#[test]
fn a_colon_id_is_a_part_of_the_target_and_never_a_template() {
    let said = create(&with(&json!({"target": "localhost:5000/x/:id?y=:id"})));
    let subscription = checked(&said.document).unwrap();
    let target = http(&subscription);
    assert!(!target.template);
    assert_eq!(target.url.as_url().as_str(), "http://localhost:5000/x/:id?y=:id");
    // Nobody can ask for one either.
    assert_eq!(wrong(&with(&json!({"template": true, "method": "PUT"}))), ["/method", "/template"]);
}

#[test]
fn a_backoff_is_a_number_of_seconds_and_its_plan_must_fit() {
    for (given, told) in
        [(json!(30), json!(30)), (json!(0.5), json!(0.5)), (json!(1.0004), json!(1)), (json!(90), json!(90))]
    {
        let said = create(&with(&json!({"retry_backoff": given})));
        assert!(said.errors.is_empty() && checked(&said.document).is_ok(), "{given}");
        assert_eq!(tell(&shown(said.document))["retry_backoff"], told);
    }
    let subscription = checked(&create(&with(&json!({"retry_backoff": 1.5}))).document).unwrap();
    assert_eq!(subscription.retry.backoff, Duration::from_millis(1500));
    // 511 times 170 s is longer than a day.
    for given in [
        json!(0),
        json!(-1),
        json!(0.0004),
        json!(3601),
        json!(1e300),
        json!("30"),
        json!(true),
        json!([30]),
        json!(170),
    ] {
        assert_eq!(wrong(&with(&json!({"retry_backoff": given}))), ["/retry_backoff"], "{given}");
    }
    assert!(wrong(&with(&json!({"retry_backoff": 169}))).is_empty(), "511 times 169 s is shorter");
}

#[test]
fn what_is_told_is_the_page_s_object() {
    let mut document = create(&object(&page())).document;
    document["target"]["headers"]["Authorization"] = json!("***");
    let expected = json!({
        "id": "2f0a",
        "type": "webhook",
        "events": ["document_predict"],
        "target": "http://localhost:3000/alfred/document_predict",
        "headers": {"Authorization": "***"},
        "inboxes": [],
        "projects": [],
        "retry_backoff": null,
        "enabled": true,
        "disabled_reason": null,
        "created_at": "2026-11-25T18:00:00.123456Z",
        "updated_at": "2026-11-25T18:00:00.123456Z",
    });
    let told = tell(&shown(document));
    assert_eq!(told.to_string(), expected.to_string(), "the order is part of it");
}

#[test]
fn a_patch_replaces_what_it_has_and_nothing_else() {
    let stored = shown(object(&json!({"target": {"url": "http://h", "headers": {"X-Old": "***", "Accept": "a"}}})));
    let patched = |patch: Value| Value::Object(patch_of(&patch, &stored).document);
    assert_eq!(patched(json!({})), json!({}));
    assert_eq!(patched(json!({"events": ["document_text"]})), json!({"events": ["document_text"]}));
    assert_eq!(patched(json!({"target": "10.0.0.5"})), json!({"target": {"url": "http://10.0.0.5"}}));
    assert_eq!(
        patched(json!({"headers": {"x-old": "***", "X-New": "n"}})),
        json!({"target": {"headers": {"Accept": null, "x-old": "***", "X-New": "n"}}})
    );
    assert_eq!(patched(json!({"header": {}})), json!({"target": {"headers": {"X-Old": null, "Accept": null}}}));
    assert_eq!(
        patched(json!({"headers": null, "retry_backoff": null, "inboxes": null, "type": "webhook"})),
        json!({"target": {"headers": null}, "retry": {"backoff": null}, "inboxes": null})
    );
}

#[test]
fn what_was_told_can_be_given_back_and_what_only_docrelay_tells_cannot_be_changed() {
    let stored = shown(create(&object(&page())).document);
    let whole = tell(&stored);
    assert_eq!(patch_of(&whole, &stored).errors, []);
    for name in ["id", "disabled_reason", "created_at", "updated_at"] {
        let said = patch_of(&json!({name: "x"}), &stored);
        assert_eq!(said.errors[0].pointer, Some(format!("/{name}")));
    }
    for patch in [json!({"type": "mail"}), json!({"type": null}), json!({"target": null}), json!({"target": "?"})] {
        assert_eq!(patch_of(&patch, &stored).errors.len(), 1, "{patch}");
    }
}

#[test]
fn what_an_integration_cannot_tell_is_named() {
    for (change, at) in [
        (json!({"payload": "cloudevents"}), "/payload"),
        (json!({"target": {"url": "http://h/:id", "template": true}}), "/target/template"),
        (json!({"target": {"url": "http://h/", "method": "PUT"}}), "/target/method"),
        (json!({"target": {"type": "amqp", "exchange": "erp.in"}}), "/target/type"),
    ] {
        let mut document = create(&object(&page())).document;
        document.extend(object(&change));
        let errors = untold(&checked(&document).unwrap());
        assert_eq!(errors.iter().filter_map(|error| error.pointer.as_deref()).collect::<Vec<_>>(), [at]);
    }
}

fn patch_of(patch: &Value, stored: &Shown) -> Said {
    super::patch(&object(patch), stored)
}
