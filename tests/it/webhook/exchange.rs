//! What goes out, and what is made of an answer.

use std::time::Duration;

use docrelay::{
    domain::{Answer, DeliveryId, FailureKind},
    webhook::MAX_RESPONSE_BYTES,
};
use futures_util::future::join_all;
use http::{HeaderValue, Method, Version};

use super::{GENEROUS, client, event, http, http_of, local_client, send, status, subscription};
use crate::support::receiver::{Receiver, Reply};

#[tokio::test]
async fn a_request_carries_the_body_and_the_headers_of_the_contract() {
    let receiver = Receiver::ok().await;
    let mut subscription = subscription(&receiver.url("/hooks?key=v"));
    http(&mut subscription).headers.append("x-env", HeaderValue::from_static("prod"));
    http(&mut subscription).headers.append("x-env", HeaderValue::from_static("blue"));
    assert_eq!(status(&send(&local_client(), &subscription).await), 200);

    let request = receiver.wait_for(1, GENEROUS).await.remove(0);
    assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/hooks?key=v"));
    assert_eq!(request.json(), serde_json::json!({"a": 1}));
    assert_eq!(request.delivery(), DeliveryId::of(&event().id, &subscription.id).to_string());
    assert_eq!(request.attempt(), 3);
    assert_eq!(request.header("docrelay-event"), "document_delete");
    assert_eq!(request.header("content-type"), "application/json");
    assert_eq!(request.header("user-agent"), concat!("docrelay/", env!("CARGO_PKG_VERSION")));
    assert_eq!(request.headers.get_all("x-env").iter().count(), 2);
    let age = docrelay::domain::now().to_unix().0 - request.header("webhook-timestamp").parse::<i64>().unwrap();
    assert!((0..=GENEROUS.as_secs().cast_signed()).contains(&age), "{age} s");
    for absent in ["authorization", "cookie", "referer", "accept-encoding"] {
        assert!(!request.headers.contains_key(absent), "{absent}");
    }
}

#[tokio::test]
async fn a_configured_content_type_and_user_agent_win() {
    let receiver = Receiver::ok().await;
    let mut subscription = subscription(&receiver.url("/"));
    http(&mut subscription).headers.insert("content-type", HeaderValue::from_static("application/vnd.x+json"));
    http(&mut subscription).headers.insert("user-agent", HeaderValue::from_static("theirs"));
    send(&local_client(), &subscription).await;
    let request = receiver.wait_for(1, GENEROUS).await.remove(0);
    assert_eq!(request.headers.get_all("content-type").iter().collect::<Vec<_>>(), ["application/vnd.x+json"]);
    assert_eq!(request.headers.get_all("user-agent").iter().collect::<Vec<_>>(), ["theirs"]);
}

#[tokio::test]
async fn get_head_and_delete_carry_no_body_and_other_methods_do() {
    let receiver = Receiver::ok().await;
    let client = local_client();
    for method in ["GET", "HEAD", "DELETE", "POST", "PUT", "PATCH", "NOTIFY"] {
        let mut subscription = subscription(&receiver.url("/"));
        http(&mut subscription).method = method.parse::<Method>().unwrap();
        assert_eq!(status(&send(&client, &subscription).await), 200, "{method}");
        let request = receiver.recorded().pop().unwrap();
        let bare = matches!(method, "GET" | "HEAD" | "DELETE");
        assert_eq!(request.method.as_str(), method);
        assert_eq!(request.body.is_empty(), bare, "{method}");
        assert_eq!(request.headers.contains_key("content-type"), !bare, "{method}");
    }
}

#[tokio::test]
async fn the_template_is_filled_only_where_the_subscription_says_so() {
    let receiver = Receiver::ok().await;
    let client = local_client();
    let mut subscription = subscription(&receiver.url("/documents/:id?id=:id"));
    send(&client, &subscription).await;
    http(&mut subscription).template = true;
    send(&client, &subscription).await;
    let paths: Vec<_> = receiver.recorded().into_iter().map(|request| request.path).collect();
    assert_eq!(paths, ["/documents/:id?id=:id", "/documents/doc%201?id=doc%201"]);
}

#[tokio::test]
async fn an_id_that_fits_no_url_is_not_sent() {
    let receiver = Receiver::ok().await;
    let mut subscription = subscription(&receiver.url("/documents/:id"));
    http(&mut subscription).template = true;
    let mut event = event();
    event.document = "..".parse().unwrap();
    let request = docrelay::webhook::Request {
        event: &event,
        subscription: &subscription,
        target: http_of(&subscription),
        delivery: DeliveryId::of(&event.id, &subscription.id),
        attempt: 1,
        began: tokio::time::Instant::now(),
        at: docrelay::domain::now(),
        body: bytes::Bytes::new(),
        trace: &docrelay::domain::TraceContext::default(),
        scope: None,
        trial: None,
        logged_in: None,
    };
    let attempt = local_client().send(request).await;
    assert!(matches!(attempt.answer, Answer::Unsendable { kind: FailureKind::Template, .. }), "{attempt:?}");
    assert_eq!(receiver.count(), 0);
}

#[tokio::test]
async fn a_url_that_http_cannot_express_is_not_sent() {
    let receiver = Receiver::ok().await;
    let longer_than_http_allows = receiver.url(&format!("/{}", "x".repeat(70_000)));
    let attempt = send(&local_client(), &subscription(&longer_than_http_allows)).await;
    let Answer::Unsendable { kind, text } = &attempt.answer else { panic!("{attempt:?}") };
    assert_eq!((*kind, text.as_str()), (FailureKind::Internal, "Parsed Url is not a valid Uri"));
}

#[tokio::test]
async fn credentials_in_the_url_are_sent_as_basic_unless_an_authorization_is_configured() {
    let receiver = Receiver::ok().await;
    let client = local_client();
    let mut subscription = subscription(&receiver.url("/").replace("http://", "http://us%20er:p%40ss@"));
    send(&client, &subscription).await;
    http(&mut subscription).headers.insert("authorization", HeaderValue::from_static("Bearer x"));
    send(&client, &subscription).await;
    let sent: Vec<_> = receiver.recorded().iter().map(|request| request.header("authorization").to_owned()).collect();
    assert_eq!(sent, ["Basic dXMgZXI6cEBzcw==", "Bearer x"]);
    assert_eq!(receiver.recorded()[0].header("host"), receiver.address().to_string());
}

#[tokio::test]
async fn an_answer_comes_back_with_status_body_and_latency() {
    let receiver =
        Receiver::scripted(|_| Reply::status(422).body("no such document").after(Duration::from_millis(20))).await;
    let attempt = send(&local_client(), &subscription(&receiver.url("/"))).await;
    assert_eq!(
        attempt.answer,
        Answer::Response { status: 422, retry_after: None, body: "no such document".into(), cut: false }
    );
    assert!(attempt.latency >= Duration::from_millis(20));
    assert!(receiver.recorded()[0].arrived.elapsed() >= Duration::from_millis(20), "it came before it was answered");
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let receiver = Receiver::scripted(|_| Reply::status(307).header("location", "/elsewhere")).await;
    assert_eq!(status(&send(&local_client(), &subscription(&receiver.url("/"))).await), 307);
    assert_eq!(receiver.count(), 1);
}

#[tokio::test]
async fn retry_after_is_read_on_429_and_503() {
    let receiver =
        Receiver::scripted(|request| Reply::status(request.path[1..].parse().unwrap()).header("retry-after", "7"))
            .await;
    for (code, expected) in [(429, Some(7)), (503, Some(7)), (500, None)] {
        let attempt = send(&local_client(), &subscription(&receiver.url(&format!("/{code}")))).await;
        let Answer::Response { retry_after, .. } = attempt.answer else { panic!("{attempt:?}") };
        assert_eq!(retry_after, expected.map(Duration::from_secs), "{code}");
    }
}

#[tokio::test]
async fn a_body_of_the_cap_is_whole_and_one_byte_more_is_cut() {
    let receiver = Receiver::scripted(|request| Reply::ok().body(vec![b'x'; request.path[1..].parse().unwrap()])).await;
    let client = local_client();
    for (sent, expected_cut) in [(MAX_RESPONSE_BYTES, false), (MAX_RESPONSE_BYTES + 1, true), (5_000_000, true)] {
        let attempt = send(&client, &subscription(&receiver.url(&format!("/{sent}")))).await;
        let Answer::Response { status: 200, body, cut, .. } = attempt.answer else { panic!("{attempt:?}") };
        assert_eq!((body.len(), cut), (MAX_RESPONSE_BYTES, expected_cut), "{sent}");
    }
}

#[tokio::test]
async fn a_connection_is_used_again_and_a_closed_one_is_replaced() {
    let receiver =
        Receiver::scripted(|request| if request.index == 2 { Reply::ok().close() } else { Reply::ok() }).await;
    let client = local_client();
    for _ in 0..5 {
        assert_eq!(status(&send(&client, &subscription(&receiver.url("/"))).await), 200);
    }
    let connections: Vec<_> = receiver.recorded().iter().map(|request| request.connection).collect();
    assert_eq!(connections, [0, 0, 0, 1, 1]);
}

#[tokio::test]
async fn http_2_is_spoken_where_tls_offers_it_over_one_connection() {
    let receiver = Receiver::tls(&["h2", "http/1.1"], |_| Reply::ok().body("two")).await;
    let client = client(&["127.0.0.0/8"], &[receiver.certificate().to_vec()]);
    let subscription = subscription(&receiver.url("/a"));
    assert_eq!(status(&send(&client, &subscription).await), 200);
    let attempts = join_all((0..20).map(|_| send(&client, &subscription))).await;
    assert!(attempts.iter().all(|attempt| status(attempt) == 200));
    for request in receiver.recorded() {
        assert_eq!((request.version, request.connection, request.body.len()), (Version::HTTP_2, 0, 7));
    }
}

#[tokio::test]
async fn http_1_is_spoken_where_tls_offers_nothing_else() {
    let receiver = Receiver::tls(&["http/1.1"], |_| Reply::ok()).await;
    let client = client(&["127.0.0.0/8"], &[receiver.certificate().to_vec()]);
    let by_name = receiver.url("/").replace("127.0.0.1", "localhost");
    assert_eq!(status(&send(&client, &subscription(&by_name)).await), 200);
    let request = receiver.recorded().remove(0);
    assert_eq!(request.version, Version::HTTP_11);
    assert_eq!(request.header("host"), format!("localhost:{}", receiver.address().port()));
}
