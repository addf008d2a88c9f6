//! What a subscriptions file may say, and what it is told when it says something else.

use std::time::Instant;

use http::header::{ACCEPT, AUTHORIZATION};

use super::*;
use crate::{
    domain::{HttpTarget, LaneKey, State, Target},
    store::Snapshot,
};

pub(in crate::store) fn defaults() -> Defaults {
    let (own, allowed) = (["documents", "documents.results"], ("acme".parse().unwrap(), "erp.in".parse().unwrap()));
    let exchanges = ExchangePolicy::new("docrelay", own.map(str::to_owned), [allowed]);
    Defaults {
        timeout: Duration::from_secs(15),
        retry: RetryPolicy::shipped(),
        rate_limit: None,
        max_in_flight: 32,
        links: true,
        exchanges: Arc::new(exchanges),
    }
}

/// The target of a webhook.
pub(in crate::store) fn http(subscription: &Subscription) -> &HttpTarget {
    let Target::Http(target) = &subscription.target else { panic!("{subscription:?}") };
    target
}

/// A file with one subscription that has these fields besides what it needs.
pub(in crate::store) fn with(fields: &str) -> String {
    with_target(fields, "url: https://erp.example/hooks")
}

fn with_target(fields: &str, target: &str) -> String {
    let fields = if fields.is_empty() { String::new() } else { format!(", {fields}") };
    format!(
        "subscriptions:\n- {{id: erp, organization: acme, events: [document_text], target: {{{target}}}{fields}}}\n"
    )
}

pub(in crate::store) fn one(text: &str) -> Subscription {
    let mut subscriptions = parse(text, &defaults()).unwrap_or_else(|problems| panic!("{text}\n{problems}"));
    assert_eq!(subscriptions.len(), 1);
    subscriptions.remove(0)
}

pub(in crate::store) fn problems(text: &str) -> String {
    parse(text, &defaults()).expect_err(text).to_string()
}

#[test]
fn a_subscription_that_says_little_gets_the_defaults() {
    let subscription = one(&with(""));
    assert_eq!((subscription.name.as_str(), subscription.payload), ("erp", Payload::ContractFit));
    assert_eq!((http(&subscription).method.as_str(), http(&subscription).timeout.as_secs()), ("POST", 15));
    assert_eq!(subscription.retry, defaults().retry);
    assert_eq!((subscription.max_in_flight, subscription.rate_limit), (32, None));
    assert_eq!(subscription.lane, LaneKey::of_target(&subscription.organization, &subscription.target));
    assert!(subscription.state == State::Enabled && !http(&subscription).template);
    assert!(subscription.inboxes.is_empty() && subscription.projects.is_empty());
}

#[test]
fn everything_a_subscription_may_say_is_read() {
    let subscription = one(r#"
subscriptions:
  - id: erp
    name: Predictions to the ERP
    organization: acme
    inboxes: [invoices, orders, invoices]
    projects: [north]
    events: [document_predict, document_evaluate]
    payload: contractfit
    target:
      type: http
      url: "https://erp.example/hooks/:id?x=1"
      template: true
      method: PURGE
      headers: {X-Env: prod, Accept: text/plain, authorization: from headers}
      timeout: 1m
    auth: {authorization: Bearer x}
    retry: {backoff: 500ms, max_attempts: 3, while_down: hold, max_age: 7d}
    rate_limit: {per_second: 2.5, burst: 10}
    max_in_flight: 8
    enabled: false
"#);
    assert_eq!(subscription.name, "Predictions to the ERP");
    assert_eq!(subscription.inboxes, ["invoices".parse().unwrap(), "orders".parse().unwrap()]);
    assert_eq!(subscription.projects, ["north".parse().unwrap()]);
    assert_eq!(
        subscription.events.iter().collect::<Vec<_>>(),
        [EventName::DocumentPredict, EventName::DocumentEvaluate]
    );
    assert!(http(&subscription).template && subscription.state == State::Disabled);
    assert_eq!((http(&subscription).method.as_str(), http(&subscription).timeout.as_secs()), ("PURGE", 60));
    assert_eq!(http(&subscription).headers[AUTHORIZATION], "Bearer x", "auth wins over headers");
    assert_eq!(http(&subscription).headers.len(), 3);
    assert_eq!(
        subscription.retry,
        RetryPolicy {
            on: RetryOn::AnyFailure,
            backoff: Duration::from_millis(500),
            max_attempts: 3,
            max_age: Duration::from_hours(7 * 24),
            while_down: WhileDown::Hold,
        }
    );
    let rate_limit = RateLimit::new(2.5, Some(10)).unwrap();
    assert_eq!((subscription.max_in_flight, subscription.rate_limit), (8, Some(rate_limit)));
    let (organization, target) = (&subscription.organization, &subscription.target);
    assert_eq!(subscription.lane, LaneKey::of_subscription(organization, &subscription.id, target));
}

#[test]
fn header_values_are_secrets_unless_they_are_known_not_to_be() {
    let headers = "headers: {Accept: text/plain, Content-Type: a/b, User-Agent: x, X-Key: hunter2}";
    let subscription =
        one(&with_target("auth: {authorization: hunter2}", &format!("url: http://h/?k=hunter2, {headers}")));
    let secret = |name: &str| http(&subscription).headers[name].is_sensitive();
    assert!(secret("x-key") && secret("authorization"));
    assert!(!secret("accept") && !secret("content-type") && !secret("user-agent"));
    assert_eq!(http(&subscription).headers[ACCEPT], "text/plain");
    assert!(!format!("{subscription:?}").contains("hunter2"), "{subscription:?}");
}

#[test]
fn a_colon_id_without_template_is_just_a_path() {
    assert!(!http(&one(&with_target("", "url: http://h/:id"))).template);
}

#[test]
fn an_empty_list_is_a_valid_file() {
    assert_eq!(parse("subscriptions: []", &defaults()).unwrap(), []);
}

#[test]
fn files_that_are_no_list_of_subscriptions_are_told_what_was_expected() {
    for (text, expected) in [
        ("", "line 1: the file is empty"),
        ("# only a comment\n", "line 1: the file is empty"),
        ("just text", "expected a mapping with the field subscriptions, got text"),
        ("- id: x", "expected a mapping with the field subscriptions, got a list"),
        ("{}", "subscriptions is missing"),
        ("subscriptions:", "line 1: subscriptions: expected a list, got nothing"),
        ("subscriptions: {}", "expected a list, got a mapping"),
        ("subscriptions: [x]", "subscriptions[0]: expected a mapping, got text"),
        ("subscriptons: []", "unknown field (did you mean \"subscriptions\"?)"),
        ("subscriptions: [", "not valid YAML"),
        ("subscriptions: []\nsubscriptions: []", "line 2: subscriptions: stands here twice"),
        ("subscriptions:\n\t- id: x", "never with tabs"),
        ("subscriptions: &a []\nother: *a", "aliases (*name) are not supported"),
    ] {
        let found = problems(text);
        assert!(found.contains(expected), "{text}\n{found}");
    }
}

#[test]
fn a_problem_names_line_field_and_subscription() {
    let text =
        "subscriptions:\n- id: erp\n  organization: acme\n  events: [document_text]\n  target:\n    url: ftp://x/\n";
    assert_eq!(
        problems(text),
        "line 6: subscriptions[0].target.url (subscription \"erp\"): must begin with http:// or https://, not ftp:"
    );
}

#[test]
fn all_problems_are_told_at_once() {
    let text = "
subscriptions:
  - organization: acme
    events: []
    target: {url: nowhere, timeout: 61s, methd: POST}
  - id: two
    events: [document_txt, document_export]
    retry: {while_down: holt, max_attempts: 21}
    rate_limit: {per_second: 0}
  - id: two
    organization: \"\"
    events: document_text
    target: {type: ampq, exchange: erp.in}
";
    let found = parse(text, &defaults()).unwrap_err();
    let has = |field: &str, text: &str| {
        assert!(
            found.iter().any(|problem| problem.field == field && problem.text.contains(text)),
            "{field}: {text} is missing in\n{found}"
        );
    };
    has("subscriptions[0]", "id is missing");
    has("subscriptions[0].events", "at least one event");
    has("subscriptions[0].target.url", "not a URL");
    has("subscriptions[0].target.timeout", "from 1ms to 1m");
    has("subscriptions[0].target.methd", "did you mean \"method\"?");
    has("subscriptions[1]", "organization is missing");
    has("subscriptions[1]", "target is missing");
    has("subscriptions[1].events[0]", "did you mean \"document_text\"?");
    has("subscriptions[1].events[1]", "cannot carry document_export");
    has("subscriptions[1].retry.while_down", "expected count or hold, got \"holt\" (did you mean \"hold\"?)");
    has("subscriptions[1].rate_limit.per_second", "from 0.001 to 100000, got 0");
    has("subscriptions[1].retry.max_attempts", "from 1 to 20, got 21");
    has("subscriptions[2].id", "line 6 has it too");
    has("subscriptions[2].organization", "must not be empty");
    has("subscriptions[2].events", "expected a list, got text");
    has("subscriptions[2].target.type", "expected http or amqp, got \"ampq\" (did you mean \"amqp\"?)");
    assert_eq!(found.len(), 16, "{found}");
}

#[test]
fn single_mistakes_make_single_problems() {
    let long = "x".repeat(65);
    for (text, expected) in [
        (with("name: 5"), "name (subscription \"erp\"): expected text, got a number (put it in quotes"),
        (with(&format!("inboxes: [{long}]")), "inboxes[0] (subscription \"erp\"): must have at most 64 bytes, has 65"),
        (with("projects: north"), "projects (subscription \"erp\"): expected a list"),
        (
            with("payload: protobuf"),
            "payload (subscription \"erp\"): the payload protobuf does not go to a target of the type http: expected contractfit, idexa, smartdocumentor_file, cloudevents",
        ),
        (
            with("payload: contract"),
            "expected one of contractfit, idexa, smartdocumentor_file, cloudevents, protobuf, got",
        ),
        (with("payload: contractfitt"), "did you mean \"contractfit\"?"),
        (with("enabled: yes"), "expected true or false, got text"),
        (with("max_in_flight: 0"), "expected a whole number from 1 to 10000, got 0"),
        (with("max_in_flight: 1.5"), "expected a whole number from 1 to 10000, got a number"),
        (with("file: {format: pdf}"), "file (subscription \"erp\"): belongs to the payload smartdocumentor_file only"),
        (with("created_at: 2026-01-01"), "created_at (subscription \"erp\"): is read-only"),
        (with("origin: file"), "is read-only"),
        (with("auth: {}"), "auth (subscription \"erp\"): expected authorization, login or oauth2"),
        (with("auth: {authorization: ''}"), "must not be empty"),
        (
            with("retry: {while_down: true}"),
            "retry.while_down (subscription \"erp\"): expected text, got true or false",
        ),
        (with("retry: {on: no_respons}"), "did you mean \"no_response\"?"),
        (with("retry: {backoff: 2}"), "expected a duration such as 15s or 500ms, got a number"),
        (with("retry: {backoff: soon}"), "got \"soon\""),
        (with("retry: {max_age: 8d}"), "from 1s to 7days"),
        (with("retry: {max_age: 10s}"), "the retry plan does not fit"),
        (with("retry: {backoff: 1h, max_attempts: 8}"), "the retry plan does not fit"),
        (with("enabled: true, enabled: true"), "enabled (subscription \"erp\"): stands here twice"),
        (with_target("", "url: http://h/, template: true"), "must contain :id"),
        (with_target("", "url: 'http://:id@h/:identity', template: true"), "must contain :id"),
        (with_target("", "url: 'https://'"), "not a URL"),
        (with_target("", "method: POST"), "url is missing"),
        (with_target("", "url: http://h/, method: 'A B'"), "expected a method"),
        (with_target("", "url: http://h/, method: post"), "expected POST in capitals"),
        (with_target("", "url: http://h/, type: htp"), "did you mean \"http\"?"),
        (with_target("", "url: http://h/, timeout: 0s"), "from 1ms to 1m"),
        (with_target("", "url: http://h/, headers: {Host: x}"), "headers.Host (subscription \"erp\"): is reserved"),
        (with_target("", "url: http://h/, headers: {Webhook-Id: x}"), "is reserved"),
        (with_target("", "url: http://h/, headers: {docrelay-x: x}"), "is reserved"),
        (with_target("", "url: http://h/, headers: {'X Y': x}"), "is not a header name"),
        (with_target("", "url: http://h/, headers: {X: \"a\\nb\"}"), "is not a header value"),
        (with_target("", "url: http://h/, headers: {X: ä}"), "is not a header value"),
        (with_target("", "url: erp.example/hooks"), "expected https://host/path"),
        (with_target("", "url: http://h/, headers: {X: 1}"), "expected text, got a number"),
        (with_target("", "url: http://h/, headers: {X-A: a, x-a: b}"), "capitals make no difference"),
        (with_target("", &format!("url: http://h/, headers: {{X: {}}}", "x".repeat(4096))), "at most 4096 bytes"),
    ] {
        let found = parse(&text, &defaults()).expect_err(&text);
        assert!(found.to_string().contains(expected), "{text}\n{found}");
        assert_eq!(found.len(), 1, "{text}\n{found}");
    }
}

/// A subscription of a product's payload, with more fields.
fn of(payload: &str, event: &str, more: &str) -> String {
    format!("subscriptions:\n- {{id: erp, organization: acme, events: [{event}], payload: {payload}, {more}}}\n")
}

#[test]
fn a_payload_carries_its_events_and_no_other() {
    for payload in Payload::ALL {
        let target = if payload.goes_over_http() { "url: 'http://h/:id'" } else { "type: amqp, exchange: erp.in" };
        let more =
            if payload == Payload::SmartDocumentorFile { "file: {format: pdf, expires_hours: 24}, " } else { "" };
        for event in EventName::ALL {
            let text = of(payload.as_str(), event.as_str(), &format!("{more}target: {{{target}}}"));
            match parse(&text, &defaults()) {
                Ok(found) => assert!(payload.carries(event) && found[0].payload == payload, "{text}"),
                Err(problems) => {
                    let expected = format!("the payload {payload} cannot carry {event}");
                    assert!(!payload.carries(event) && problems.to_string().contains(&expected), "{text}\n{problems}");
                }
            }
        }
    }
}

#[test]
fn an_idexa_url_is_always_a_template_and_its_method_one_of_four() {
    let idexa = |target: &str| of("idexa", "document_finish", &format!("target: {{{target}}}"));
    for method in ["POST", "PUT", "GET", "DELETE"] {
        let found = one(&idexa(&format!("url: 'http://h:5000/ocr_feedback/:id', method: {method}")));
        assert!(http(&found).template && http(&found).method == method, "{found:?}");
    }
    assert!(problems(&idexa("url: 'http://h:5000/:identity'")).contains("must contain :id"));
    assert!(problems(&idexa("url: 'http://h/:id', template: false")).contains("must be true for the payload idexa"));
    assert!(problems(&idexa("url: 'http://h/:id', method: PATCH")).contains("expected POST or PUT or GET or DELETE"));
}

#[test]
fn a_file_export_names_a_format_and_one_to_168_whole_hours() {
    let export =
        |more: &str| of("smartdocumentor_file", "document_export", &format!("{more}target: {{url: http://h/}}"));
    for (format, hours) in [("pdf", 1), ("JPEG", 24), ("png", 168)] {
        let found = one(&export(&format!("file: {{format: {format}, expires_hours: {hours}}}, ")));
        let file = found.file.unwrap();
        assert_eq!((file.format.as_str(), file.valid_for), (&*format.to_lowercase(), Duration::from_hours(hours)));
        assert_eq!(found.retry.on, RetryOn::NoResponse, "unless it says otherwise");
    }
    for hours in ["0", "-1", "169", "1.5", "'24'"] {
        let found = problems(&export(&format!("file: {{format: pdf, expires_hours: {hours}}}, ")));
        assert!(found.contains("expected a whole number from 1 to 168"), "{hours}: {found}");
    }
    for (more, expected) in [
        ("", "file is missing"),
        ("file: {format: docx, expires_hours: 1}, ", "expected one of pdf, jpeg, png, got \"docx\""),
        ("file: {}, ", "format is missing"),
        ("file: {format: pdf}, ", "expires_hours is missing"),
        ("file: {format: pdf, expires_hours: 1, hours: 2}, ", "unknown field"),
    ] {
        assert!(problems(&export(more)).contains(expected), "{more}");
    }
    let any = one(&export("file: {format: pdf, expires_hours: 1}, retry: {on: any_failure}, "));
    assert_eq!(any.retry.on, RetryOn::AnyFailure);
    assert_eq!(one(&with("retry: {on: no_response}")).retry.on, RetryOn::NoResponse);
    let put = of(
        "smartdocumentor_file",
        "document_export",
        "file: {format: pdf, expires_hours: 1}, target: {url: http://h/, method: PUT}",
    );
    assert!(problems(&put).contains("expected POST for this payload"));
}

#[test]
fn at_most_twenty_headers_are_taken() {
    let headers = |count: usize| {
        let all: Vec<String> = (0..count).map(|index| format!("x-{index}: v")).collect();
        with_target("", &format!("url: http://h/, headers: {{{}}}", all.join(", ")))
    };
    assert_eq!(http(&one(&headers(20))).headers.len(), 20);
    assert!(problems(&headers(21)).contains("at most 20 headers, got 21"));
}

#[test]
fn no_problem_repeats_a_secret() {
    for text in [
        with_target("", "url: 'ftp://user:hunter2@h/hunter2?k=hunter2'"),
        with_target("", "url: 'hunter2 hunter2'"),
        with_target("", "url: 'http://u:hunter2@h/?k=hunter2', template: true"),
        with_target("", "url: [hunter2]"),
        with_target("", "url: http://h/, headers: {X: \"hunter2\\n\"}"),
        with_target("", "url: http://h/, headers: {Host: hunter2}"),
        with_target("", "url: http://h/, headers: {X: [hunter2]}"),
        with_target("", "url: http://h/, headers: hunter2"),
        with("auth: {authorization: \"hunter2\\n\"}"),
        with("auth: hunter2"),
        with("auth: {login: {body: hunter2}}"),
        with("signing_secrets: [hunter2]"),
        "subscriptions:\n- url: \"hunter2".to_owned(),
        "subscriptions:\n- url: @hunter2".to_owned(),
        "subscriptions:\n- x: y: hunter2".to_owned(),
    ] {
        let found = problems(&text);
        assert!(!found.contains("hunter2"), "{text}\n{found}");
    }
}

#[test]
fn a_hundred_thousand_subscriptions_are_read_and_indexed_in_seconds() {
    let items: Vec<String> = (0..100_000)
        .map(|index| {
            format!(
                "  - id: subscription-{index}
    organization: organization-{}
    inboxes: [inbox-{}]
    events: [document_text, document_predict]
    target: {{url: \"https://host-{index}.example/hooks\", headers: {{X-Key: key}}}}
",
                index % 1000,
                index % 7,
            )
        })
        .collect();
    let text = format!("subscriptions:\n{}", items.concat());
    #[expect(clippy::disallowed_methods, reason = "a measurement on a real clock")]
    let begin = Instant::now();
    let snapshot = Snapshot::new(parse(&text, &defaults()).unwrap());
    assert_eq!(snapshot.len(), 100_000);
    // Unoptimised builds on a busy machine are slow; something quadratic would take hours.
    assert!(begin.elapsed() < Duration::from_mins(2), "{:?}", begin.elapsed());
}
