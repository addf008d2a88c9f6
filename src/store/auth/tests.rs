//! What a file may say about who a subscription is, and what it is told when it says something else.

use http::header::{AUTHORIZATION, CONTENT_TYPE};

use super::*;
use crate::domain::TargetUrl;
use crate::store::{
    file::tests::{defaults, http, one, with},
    parse,
};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn source(auth: &str) -> TokenSource {
    match one(&with(&format!("auth: {{{auth}}}"))).auth {
        Auth::Token(source) => *source,
        Auth::Fixed => panic!("{auth} asks for no token"),
    }
}

fn login(fields: &str) -> Login {
    match source(&format!("login: {{{fields}}}")) {
        TokenSource::Login(login) => login,
        other @ TokenSource::ClientCredentials(_) => panic!("{other:?}"),
    }
}

fn values(login: &Login) -> Vec<(&str, &str, bool)> {
    login.body.iter().map(|field| (field.name.as_str(), field.value.reveal(), field.is_bare)).collect()
}

#[test]
fn a_login_that_says_little_gets_the_defaults() {
    let login = login("url: 'https://h/login'");
    assert_eq!(login.url.as_url().as_str(), "https://h/login");
    assert_eq!((login.method.as_str(), login.headers.len(), login.body.len()), ("POST", 0, 0));
    assert_eq!((login.token_attribute.as_str(), login.scheme.as_str()), ("access_token", "Bearer"));
    let login = self::login("url: 'https://h/', scheme: ''");
    assert_eq!(login.scheme, "");
}

#[test]
fn everything_a_login_may_say_is_read() {
    let login = login(
        "url: 'https://h/login?a=1', method: PUT, token_attribute: data.token, scheme: JWT, \
         headers: {Content-Type: application/x-www-form-urlencoded, X-Key: hunter2}, \
         body: {username: root, password: '', pin: '0042', tenant: 7, remember: true}",
    );
    assert_eq!((login.method.as_str(), login.scheme.as_str()), ("PUT", "JWT"));
    assert_eq!(login.token_attribute, "data.token");
    assert_eq!(login.headers[CONTENT_TYPE], "application/x-www-form-urlencoded");
    assert!(login.headers["x-key"].is_sensitive());
    let expected = [
        ("username", "root", false),
        ("password", "", false),
        ("pin", "0042", false),
        ("tenant", "7", true),
        ("remember", "true", true),
    ];
    assert_eq!(values(&login), expected);
}

#[test]
fn everything_a_client_may_say_is_read() {
    let fields = "token_url: 'https://h/token', client_id: me, client_secret: hunter2";
    let expected = |scope: Option<&str>| {
        TokenSource::ClientCredentials(ClientCredentials {
            token_url: TargetUrl::parse("https://h/token").unwrap(),
            client_id: "me".into(),
            client_secret: Secret::new("hunter2"),
            scope: scope.map(str::to_owned),
        })
    };
    assert_eq!(source(&format!("oauth2: {{{fields}}}")), expected(None));
    assert_eq!(source(&format!("oauth2: {{{fields}, scope: read write}}")), expected(Some("read write")));
}

#[test]
fn a_fixed_authorization_wins_over_a_login() {
    let subscription = one(&with("auth: {authorization: Key x, login: {url: 'http://h/'}}"));
    assert_eq!(subscription.auth, Auth::Fixed);
    assert_eq!(http(&subscription).headers[AUTHORIZATION], "Key x");
}

#[test]
fn signing_secrets_are_read_in_their_order() {
    assert_eq!(one(&with("")).signing_secrets, []);
    assert_eq!(one(&with("signing_secrets: []")).signing_secrets, []);
    let other = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let secrets = one(&with(&format!("signing_secrets: [{SECRET}, {other}]"))).signing_secrets;
    assert_eq!(secrets, [SECRET, other].map(|secret| secret.parse().unwrap()));
}

#[test]
fn single_mistakes_make_single_problems() {
    let six = [SECRET; 6].join(", ");
    let login = |fields: &str| format!("auth: {{login: {{{fields}}}}}");
    let client = |fields: &str| format!("auth: {{oauth2: {{token_url: 'http://h/', {fields}}}}}");
    for (fields, expected) in [
        (login("method: POST"), "auth.login (subscription \"erp\"): url is missing"),
        (login("url: ftp://h/"), "auth.login.url (subscription \"erp\"): must begin with http:// or https://"),
        (login("url: http://h/, method: post"), "auth.login.method (subscription \"erp\"): expected POST in capitals"),
        (login("url: http://h/, method: HEAD"), "HEAD gets no answer"),
        (login("url: http://h/, headers: {Host: x}"), "auth.login.headers.Host (subscription \"erp\"): is reserved"),
        (login(&format!("url: http://h/, headers: {{X: {}}}", "x".repeat(4096))), "at most 4096 bytes"),
        (login("url: http://h/, body: x"), "auth.login.body (subscription \"erp\"): expected a mapping"),
        (
            login("url: http://h/, body: {a: {b: c}}"),
            "auth.login.body.a (subscription \"erp\"): expected text, a whole number, true or false, got a mapping",
        ),
        (login("url: http://h/, body: {a: null}"), "got nothing"),
        (login("url: http://h/, body: {a: 1.5}"), "got a number (put it in quotes"),
        (login("url: http://h/, body: {a: b, a: c}"), "stands here twice"),
        (login("url: http://h/, token_attribute: ''"), "must not be empty"),
        (login("url: http://h/, scheme: ä"), "is not a header value"),
        (login("url: http://h/, token_atribute: x"), "did you mean \"token_attribute\"?"),
        ("auth: {login: x}".to_owned(), "auth.login (subscription \"erp\"): expected a mapping"),
        (client("client_id: x"), "auth.oauth2 (subscription \"erp\"): client_secret is missing"),
        (client("client_secret: x"), "client_id is missing"),
        (client("client_id: x, client_secret: ''"), "client_secret (subscription \"erp\"): must not be empty"),
        (client("client_id: x, client_secret: x, scope: [x]"), "expected text, got a list"),
        (client("client_id: x, client_secret: x, scopes: x"), "did you mean \"scope\"?"),
        ("auth: {oauth2: {client_id: x, client_secret: x}}".to_owned(), "token_url is missing"),
        (
            "auth: {login: {url: 'http://h/'}, oauth2: {token_url: 'http://h/', client_id: x, client_secret: x}}"
                .to_owned(),
            "auth (subscription \"erp\"): login and oauth2 exclude each other",
        ),
        ("signing_secrets: x".to_owned(), "signing_secrets (subscription \"erp\"): expected a list"),
        ("signing_secrets: [x]".to_owned(), "signing_secrets[0] (subscription \"erp\"): expected a secret that begins"),
        ("signing_secrets: [whsec_x]".to_owned(), "expected whsec_ and base64"),
        ("signing_secrets: [whsec_AAAA]".to_owned(), "24 to 64 bytes, got 3 bytes"),
        (format!("signing_secrets: [{six}]"), "at most 5 secrets, got 6"),
    ] {
        let text = with(&fields);
        let found = parse(&text, &defaults()).expect_err(&text);
        assert!(found.to_string().contains(expected), "{text}\n{found}");
        assert_eq!(found.len(), 1, "{text}\n{found}");
    }
}

#[test]
fn all_problems_are_told_at_once() {
    let fields = "signing_secrets: [x, whsec_x], \
                  auth: {authorization: ä, login: {method: head, scheme: ä}, oauth2: {client_id: 1}, more: 1}";
    let found = parse(&with(fields), &defaults()).unwrap_err();
    for (field, text) in [
        ("signing_secrets[0]", "begins with whsec_"),
        ("signing_secrets[1]", "base64"),
        ("auth.authorization", "is not a header value"),
        ("auth.login", "url is missing"),
        ("auth.login.method", "expected HEAD in capitals"),
        ("auth.login.scheme", "is not a header value"),
        ("auth.oauth2", "token_url is missing"),
        ("auth.oauth2.client_id", "expected text, got a number"),
        ("auth.oauth2", "client_secret is missing"),
        ("auth.more", "unknown field"),
        ("auth", "exclude each other"),
    ] {
        let field = format!("subscriptions[0].{field}");
        let is_there = found.iter().any(|problem| problem.field == field && problem.text.contains(text));
        assert!(is_there, "{field}: {text} is missing in\n{found}");
    }
    assert_eq!(found.len(), 11, "{found}");
}

#[test]
fn no_problem_repeats_a_secret() {
    for fields in [
        "auth: {login: {url: 'ftp://user:hunter2@h/hunter2?k=hunter2'}}",
        "auth: {login: {url: 'http://h/', headers: {X: \"hunter2\\n\"}}}",
        "auth: {login: {url: 'http://h/', body: hunter2}}",
        "auth: {login: {url: 'http://h/', body: {password: [hunter2]}}}",
        "auth: {login: {url: 'http://h/', body: {password: {a: hunter2}}}}",
        "auth: {login: {url: 'http://h/', scheme: \"hunter2\\n\"}}",
        "auth: {login: hunter2, oauth2: hunter2}",
        "auth: {oauth2: {token_url: 'ftp://hunter2@h/', client_id: [hunter2], client_secret: [hunter2]}}",
        "auth: {oauth2: {client_secret: hunter2}}",
        "signing_secrets: [hunter2]",
        "signing_secrets: [whsec_hunter2]",
        "signing_secrets: hunter2",
        "signing_secrets: {hunter2: hunter2}",
    ] {
        let text = with(fields);
        let found = parse(&text, &defaults()).expect_err(&text).to_string();
        assert!(!found.contains("hunter2"), "{text}\n{found}");
    }
}

#[test]
fn nothing_that_was_read_shows_a_secret() {
    for fields in [
        "auth: {login: {url: 'http://u:hunter2@h/?k=hunter2', headers: {X: hunter2}, body: {password: hunter2}}}",
        "auth: {oauth2: {token_url: 'http://h/?k=hunter2', client_id: x, client_secret: hunter2}}",
        "auth: {authorization: hunter2}, signing_secrets: [whsec_hunter2aaaaaaaaaaaaaaaaaaaaaaaaa]",
    ] {
        let shown = format!("{:?}", one(&with(fields)));
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
