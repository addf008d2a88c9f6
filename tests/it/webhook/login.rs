//! Logins before the webhook: what is asked, what is sent with the token, and what happens without one.

use std::time::Duration;

use docrelay::domain::{
    Answer, Attempt, Auth, ClientCredentials, FailureKind, Login, LoginField, Secret, Subscription, TargetUrl,
    TokenSource,
};
use futures_util::future::join_all;
use http::{HeaderMap, HeaderValue, Method, header::CONTENT_TYPE};
use serde_json::json;
use tokio::net::TcpListener;

use super::{GENEROUS, client, failure, http, local_client, send, status, subscription};
use crate::support::receiver::{Receiver, Reply};

/// No answer, log or error may show it.
const PLANTED: &str = "hunter2";

fn login(url: &str) -> Login {
    let field = |name: &str| LoginField { name: name.into(), value: Secret::new("root"), is_bare: false };
    Login {
        url: TargetUrl::parse(url).unwrap(),
        method: Method::POST,
        headers: HeaderMap::new(),
        body: vec![field("username"), field("password")],
        token_attribute: "access_token".into(),
        scheme: "Bearer".into(),
    }
}

fn with(login: Login, target: &str) -> Subscription {
    Subscription { auth: Auth::Token(Box::new(TokenSource::Login(login))), ..subscription(target) }
}

/// A login that gives `token-0`, `token-1` and so on, each good for so many seconds.
async fn numbered(expires_in: Option<u32>) -> Receiver {
    Receiver::scripted(move |request| {
        let mut answer = json!({"access_token": format!("token-{}", request.index)});
        if let Some(seconds) = expires_in {
            answer["expires_in"] = seconds.into();
        }
        Reply::ok().body(answer.to_string()).after(Duration::from_millis(20))
    })
    .await
}

fn tokens(target: &Receiver) -> Vec<String> {
    target.recorded().iter().map(|request| request.header("authorization").to_owned()).collect()
}

/// An attempt that failed for want of a token; says why.
fn failed_login(attempt: &Attempt) -> &str {
    let (kind, text) = failure(attempt);
    assert_eq!(kind, FailureKind::Auth, "{text}");
    assert!(!text.contains(PLANTED), "{text}");
    text
}

#[tokio::test]
async fn the_login_is_called_before_the_webhook_and_its_token_goes_with_it() {
    let (logins, target) = (numbered(None).await, Receiver::ok().await);
    let subscription = with(login(&logins.url("/login?tenant=1")), &target.url("/"));
    assert_eq!(status(&send(&local_client(), &subscription).await), 200);

    let asked = logins.recorded().remove(0);
    let sent = target.wait_for(1, GENEROUS).await.remove(0);
    assert!(asked.arrived < sent.arrived);
    assert_eq!((asked.method.as_str(), asked.path.as_str()), ("POST", "/login?tenant=1"));
    assert_eq!(asked.json(), json!({"username": "root", "password": "root"}));
    assert_eq!((asked.header("content-type"), asked.header("accept")), ("application/json", "application/json"));
    assert!(!asked.headers.contains_key("webhook-id"));
    assert_eq!(sent.header("authorization"), "Bearer token-0");
}

#[tokio::test]
async fn a_form_arrives_as_a_form_and_with_get_in_the_query() {
    let (logins, target) = (numbered(None).await, Receiver::ok().await);
    let mut form = login(&logins.url("/login"));
    form.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    send(&local_client(), &with(form.clone(), &target.url("/"))).await;
    form.method = Method::GET;
    send(&local_client(), &with(form, &target.url("/"))).await;

    let [form, query] = &logins.recorded()[..] else { panic!("{logins:?}") };
    assert_eq!(&form.body[..], b"username=root&password=root");
    assert_eq!(form.header("content-type"), "application/x-www-form-urlencoded");
    assert_eq!((query.method.as_str(), query.path.as_str()), ("GET", "/login?username=root&password=root"));
    assert!(query.body.is_empty());
    assert_eq!(tokens(&target), ["Bearer token-0", "Bearer token-1"]);
}

#[tokio::test]
async fn the_token_wins_over_headers_and_user_information() {
    let (logins, target) = (numbered(None).await, Receiver::ok().await);
    let url = target.url("/").replace("http://", "http://user:password@");
    let mut subscription = with(Login { scheme: String::new(), ..login(&logins.url("/")) }, &url);
    http(&mut subscription).headers.insert("authorization", HeaderValue::from_static("Basic x"));
    assert_eq!(status(&send(&local_client(), &subscription).await), 200);
    let sent = target.recorded().remove(0);
    assert_eq!(sent.headers.get_all("authorization").iter().collect::<Vec<_>>(), ["token-0"]);
}

#[tokio::test]
async fn an_oauth_client_shows_its_credentials_and_gets_a_token() {
    let (endpoint, target) = (numbered(Some(3600)).await, Receiver::ok().await);
    let source = TokenSource::ClientCredentials(ClientCredentials {
        token_url: TargetUrl::parse(&endpoint.url("/token")).unwrap(),
        client_id: "docrelay".into(),
        client_secret: Secret::new("s:cret"),
        scope: Some("hooks".into()),
    });
    let (client, mut subscription) = (local_client(), subscription(&target.url("/")));
    subscription.auth = Auth::Token(Box::new(source));
    for _ in 0..2 {
        assert_eq!(status(&send(&client, &subscription).await), 200);
    }
    let [asked] = &endpoint.recorded()[..] else { panic!("{endpoint:?}") };
    assert_eq!((asked.method.as_str(), asked.path.as_str()), ("POST", "/token"));
    assert_eq!(&asked.body[..], b"grant_type=client_credentials&scope=hooks");
    assert_eq!(asked.header("authorization"), "Basic ZG9jcmVsYXk6cyUzQWNyZXQ=");
    assert_eq!(asked.header("content-type"), "application/x-www-form-urlencoded");
    assert_eq!(tokens(&target), ["Bearer token-0", "Bearer token-0"]);
}

#[tokio::test]
async fn without_a_token_the_webhook_is_never_sent_and_the_error_says_why() {
    let target = Receiver::ok().await;
    let location: &'static str = numbered(None).await.url("/").leak();
    let long = format!("{{\"access_token\": \"{PLANTED}\", \"more\": \"{}\"}}", "x".repeat(16 * 1024));
    let planted = |body: &str| Reply::ok().body(body.replace("PLANTED", PLANTED));
    for (reply, why) in [
        (Reply::status(403).body(PLANTED), "it answered 403"),
        (Reply::status(500).body(r#"{"access_token": "x"}"#), "it answered 500"),
        (Reply::status(302).header("location", location), "it answered 302"),
        (Reply::status(204), "its answer is not a JSON object"),
        (planted("token=PLANTED"), "its answer is not a JSON object"),
        (planted(r#"{"token": "PLANTED"}"#), "its answer has no access_token"),
        (planted(r#"{"access_token": ["PLANTED"]}"#), "access_token in its answer is neither text nor a number"),
        (planted(r#"{"access_token": "PLANTED\n"}"#), "access_token in its answer cannot stand in a header"),
        (planted(&long), "its answer is longer than 16 KiB"),
        (Reply::dropped(), "reset: "),
    ] {
        let logins = Receiver::scripted(move |_| reply.clone()).await;
        let secret = LoginField { name: "password".into(), value: Secret::new(PLANTED), is_bare: false };
        let login = Login { body: vec![secret], ..login(&logins.url(&format!("/?k={PLANTED}"))) };
        let attempt = send(&local_client(), &with(login, &target.url("/"))).await;
        let text = failed_login(&attempt);
        assert!(text.starts_with(&format!("the login failed, so the webhook was not sent: {why}")), "{why}: {text}");
        assert_eq!(logins.count(), 1);
    }
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for (url, why) in [
        (format!("http://{nobody}/?k={PLANTED}"), "connect: "),
        (format!("http://nonexistent.invalid/?k={PLANTED}"), "dns: "),
        (format!("http://169.254.169.254/?k={PLANTED}"), "egress: 169.254.169.254 is refused"),
    ] {
        let attempt = send(&local_client(), &with(login(&url), &target.url("/"))).await;
        assert!(failed_login(&attempt).contains(why), "{why}: {attempt:?}");
    }
    assert_eq!(target.count(), 0);
}

#[tokio::test]
async fn the_guard_watches_over_logins_too() {
    let (logins, target) = (numbered(None).await, Receiver::ok().await);
    let attempt = send(&client(&[], &[]), &with(login(&logins.url("/")), &target.url("/"))).await;
    assert!(failed_login(&attempt).contains("egress.allow"), "{attempt:?}");
    assert_eq!((logins.count(), target.count()), (0, 0));
}

#[tokio::test]
async fn deliveries_that_come_together_make_one_login_while_its_token_is_good() {
    let (logins, target) = (numbered(Some(3600)).await, Receiver::ok().await);
    let (client, subscription) = (local_client(), with(login(&logins.url("/")), &target.url("/")));
    let attempts = join_all((0..20).map(|_| send(&client, &subscription))).await;
    assert!(attempts.iter().all(|attempt| status(attempt) == 200));
    send(&client, &subscription).await;
    assert_eq!(logins.count(), 1);
    assert!(tokens(&target).iter().all(|token| token == "Bearer token-0"));
}

#[tokio::test]
async fn without_an_end_a_token_is_used_once() {
    // Thirty seconds are too short to be kept.
    for expires_in in [None, Some(30)] {
        let (logins, target) = (numbered(expires_in).await, Receiver::ok().await);
        let (client, subscription) = (local_client(), with(login(&logins.url("/")), &target.url("/")));
        join_all((0..5).map(|_| send(&client, &subscription))).await;
        let mut tokens = tokens(&target);
        tokens.sort();
        assert_eq!(tokens, [0, 1, 2, 3, 4].map(|number| format!("Bearer token-{number}")));
    }
}

#[tokio::test]
async fn a_changed_login_gets_a_token_of_its_own() {
    let (logins, target) = (numbered(Some(3600)).await, Receiver::ok().await);
    let client = local_client();
    for url in ["/a", "/a", "/b"] {
        send(&client, &with(login(&logins.url(url)), &target.url("/"))).await;
    }
    assert_eq!(tokens(&target), ["Bearer token-0", "Bearer token-0", "Bearer token-1"]);
}

#[tokio::test]
async fn a_401_makes_one_new_login_and_one_more_request_in_the_same_attempt() {
    let logins = numbered(Some(3600)).await;
    let target = Receiver::scripted(|request| match request.header("authorization") {
        "Bearer token-0" if request.index > 0 => Reply::status(401),
        _ => Reply::ok(),
    })
    .await;
    let (client, mut subscription) = (local_client(), with(login(&logins.url("/")), &target.url("/")));
    subscription.signing_secrets = vec!["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".parse().unwrap()];
    for _ in 0..3 {
        assert_eq!(status(&send(&client, &subscription).await), 200);
    }
    assert_eq!(logins.count(), 2);
    assert_eq!(tokens(&target), ["Bearer token-0", "Bearer token-0", "Bearer token-1", "Bearer token-1"]);
    let requests = target.recorded();
    for header in ["webhook-id", "webhook-timestamp", "webhook-signature", "docrelay-attempt"] {
        assert_eq!(requests[1].header(header), requests[2].header(header), "the same attempt");
    }
    assert_eq!(requests[1].body, requests[2].body);
}

#[tokio::test]
async fn a_second_401_is_the_answer() {
    let (logins, target) = (numbered(Some(3600)).await, Receiver::scripted(|_| Reply::status(401).body("no")).await);
    let attempt = send(&local_client(), &with(login(&logins.url("/")), &target.url("/"))).await;
    let expected = Answer::Response { status: 401, retry_after: None, body: "no".into(), cut: false };
    assert_eq!(attempt.answer, expected);
    assert_eq!((logins.count(), target.count()), (2, 2));
}

#[tokio::test]
async fn a_401_whose_new_login_fails_is_auth() {
    let token = r#"{"access_token": "abc", "expires_in": 3600}"#;
    let logins = Receiver::scripted(
        move |request| if request.index == 0 { Reply::ok().body(token) } else { Reply::status(503) },
    )
    .await;
    let target = Receiver::scripted(|_| Reply::status(401)).await;
    let attempt = send(&local_client(), &with(login(&logins.url("/")), &target.url("/"))).await;
    let expected = "the target answered 401 to its token, and the next login failed: it answered 503";
    assert_eq!(failed_login(&attempt), expected);
    assert_eq!((logins.count(), target.count()), (2, 1));
}

#[tokio::test]
async fn a_fixed_authorization_that_is_refused_asks_for_nothing_more() {
    let target = Receiver::scripted(|_| Reply::status(401)).await;
    let mut subscription = subscription(&target.url("/"));
    http(&mut subscription).headers.insert("authorization", HeaderValue::from_static("Key x"));
    assert_eq!(status(&send(&local_client(), &subscription).await), 401);
    assert_eq!(target.count(), 1);
}

#[tokio::test]
async fn one_deadline_covers_login_and_request() {
    const DEADLINE: Duration = Duration::from_secs(2);
    let (hanging, target) = (Receiver::scripted(|_| Reply::hang()).await, Receiver::ok().await);
    let mut subscription = with(login(&hanging.url("/")), &target.url("/"));
    http(&mut subscription).timeout = DEADLINE;
    let client = local_client();
    // The second one waits for the login of the first, and no longer than its own deadline.
    for attempt in join_all([send(&client, &subscription), send(&client, &subscription)]).await {
        assert!(failed_login(&attempt).ends_with("it gave no token within the deadline"));
        assert!((DEADLINE..GENEROUS).contains(&attempt.latency), "{:?}", attempt.latency);
    }
    assert_eq!(target.count(), 0);

    let answer = r#"{"access_token": "abc"}"#;
    let slow = Receiver::scripted(move |_| Reply::ok().body(answer).after(DEADLINE / 4)).await;
    let target = Receiver::scripted(|_| Reply::ok().after(DEADLINE)).await;
    let mut subscription = with(login(&slow.url("/")), &target.url("/"));
    http(&mut subscription).timeout = DEADLINE;
    let attempt = send(&client, &subscription).await;
    assert_eq!(failure(&attempt), (FailureKind::Timeout, "no complete answer within 2s"));
    assert_eq!(target.count(), 1);
}
