//! Every way not to answer, shown by a server that does it, and the kind it is given.

use std::{
    future::Future,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use docrelay::domain::{Answer, FailureKind};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use super::{GENEROUS, failure, http, local_client, send, status, subscription};
use crate::support::receiver::{Receiver, Reply};

/// A server below HTTP: `serve` gets each connection. It stops when the set is dropped.
async fn raw<F: Future<Output = ()> + Send + 'static>(
    serve: impl Fn(TcpStream) -> F + Send + 'static,
) -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            connections.spawn(serve(stream));
        }
    });
    (address, tasks)
}

/// Reads a request to the end of its body, which is `{"a":1}`; false when the client closed instead.
async fn read_request(stream: &mut TcpStream) -> bool {
    let mut read = Vec::new();
    while !read.ends_with(b"{\"a\":1}") {
        if stream.read_buf(&mut read).await.unwrap_or(0) == 0 {
            return false;
        }
    }
    true
}

/// Answers with `text` and closes the connection.
async fn answers(text: &'static str) -> (SocketAddr, JoinSet<()>) {
    raw(move |mut stream| async move {
        read_request(&mut stream).await;
        stream.write_all(text.as_bytes()).await.ok();
        stream.shutdown().await.ok();
    })
    .await
}

#[tokio::test]
async fn a_port_where_nobody_listens_is_connect() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let attempt = send(&local_client(), &subscription(&format!("http://{address}/?token=secret"))).await;
    let (kind, text) = failure(&attempt);
    assert_eq!(kind, FailureKind::Connect, "{text}");
    assert!(text.contains("refused"), "{text}");
    assert!(!text.contains("secret"), "{text}");
}

#[tokio::test]
async fn a_connection_that_closes_without_an_answer_is_reset() {
    let receiver = Receiver::scripted(|_| Reply::dropped()).await;
    let attempt = send(&local_client(), &subscription(&receiver.url("/"))).await;
    assert_eq!(failure(&attempt).0, FailureKind::Reset, "{attempt:?}");
    assert_eq!(receiver.count(), 1, "a request that was seen is never sent again by itself");
}

#[tokio::test]
async fn a_connection_that_closes_at_once_is_reset() {
    let (address, _server) = raw(|stream| async move { drop(stream) }).await;
    let attempt = send(&local_client(), &subscription(&format!("http://{address}/"))).await;
    assert_eq!(failure(&attempt).0, FailureKind::Reset, "{attempt:?}");
}

#[tokio::test]
async fn what_is_not_http_is_protocol() {
    for garbage in [
        "SSH-2.0-OpenSSH_9.6\r\n",
        "HTTP/1.1 abc\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nnot a length\r\n",
    ] {
        let (address, _server) = answers(garbage).await;
        let attempt = send(&local_client(), &subscription(&format!("http://{address}/"))).await;
        assert_eq!(failure(&attempt).0, FailureKind::Protocol, "{garbage:?}: {attempt:?}");
    }
}

#[tokio::test]
async fn a_body_shorter_than_announced_is_reset() {
    for truncated in [
        "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf of it",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n64\r\nhalf of it",
    ] {
        let (address, _server) = answers(truncated).await;
        let attempt = send(&local_client(), &subscription(&format!("http://{address}/"))).await;
        assert_eq!(failure(&attempt).0, FailureKind::Reset, "{truncated:?}: {attempt:?}");
    }
}

#[tokio::test]
async fn a_receiver_that_never_answers_is_timeout_at_the_deadline() {
    let receiver = Receiver::scripted(|_| Reply::hang()).await;
    let mut subscription = subscription(&receiver.url("/"));
    http(&mut subscription).timeout = Duration::from_millis(200);
    let attempt = send(&local_client(), &subscription).await;
    assert_eq!(failure(&attempt), (FailureKind::Timeout, "no complete answer within 200ms"));
    assert!((Duration::from_millis(200)..GENEROUS).contains(&attempt.latency), "{:?}", attempt.latency);
}

#[tokio::test]
async fn a_body_that_never_ends_in_time_is_timeout_although_the_status_was_there() {
    let (address, _server) = raw(|mut stream| async move {
        read_request(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n").await.ok();
        while stream.write_all(b".").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let mut subscription = subscription(&format!("http://{address}/"));
    http(&mut subscription).timeout = Duration::from_millis(200);
    let attempt = send(&local_client(), &subscription).await;
    assert_eq!(failure(&attempt).0, FailureKind::Timeout, "{attempt:?}");
}

#[tokio::test]
async fn an_endless_body_is_cut_and_its_connection_closed() {
    let (closed, mut was_closed) = tokio::sync::mpsc::channel(1);
    let (address, _server) = raw(move |mut stream| {
        let closed = closed.clone();
        async move {
            read_request(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.ok();
            while stream.write_all(&[b'x'; 4096]).await.is_ok() {}
            closed.send(()).await.ok();
        }
    })
    .await;
    let attempt = send(&local_client(), &subscription(&format!("http://{address}/"))).await;
    assert!(matches!(&attempt.answer, Answer::Response { status: 200, cut: true, .. }), "{attempt:?}");
    tokio::time::timeout(GENEROUS, was_closed.recv()).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_name_without_address_is_dns() {
    let attempt = send(&local_client(), &subscription("http://nonexistent.invalid/")).await;
    let (kind, text) = failure(&attempt);
    assert_eq!(kind, FailureKind::Dns, "{text}");
    assert!(text.contains("nonexistent.invalid"), "{text}");
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_is_tls() {
    let receiver = Receiver::tls(&["h2"], |_| Reply::ok()).await;
    let attempt = send(&local_client(), &subscription(&receiver.url("/"))).await;
    let (kind, text) = failure(&attempt);
    assert_eq!(kind, FailureKind::Tls, "{text}");
    assert!(text.contains("certificate"), "{text}");
    assert_eq!(receiver.count(), 0);
}

#[tokio::test]
async fn a_server_that_speaks_no_tls_is_tls() {
    let receiver = Receiver::ok().await;
    let url = receiver.url("/").replace("http://", "https://");
    let attempt = send(&local_client(), &subscription(&url)).await;
    assert_eq!(failure(&attempt).0, FailureKind::Tls, "{attempt:?}");
}

#[tokio::test]
async fn a_server_that_hangs_up_during_the_handshake_is_tls() {
    // Closing with unread bytes resets the connection, without them it ends it.
    for read in [1, 16 * 1024] {
        let (address, _server) = raw(move |mut stream| async move {
            assert!(stream.read(&mut vec![0; read]).await.unwrap() > 0);
        })
        .await;
        let attempt = send(&local_client(), &subscription(&format!("https://{address}/"))).await;
        assert_eq!(failure(&attempt).0, FailureKind::Tls, "{attempt:?}");
    }
}

#[tokio::test]
async fn a_server_that_never_shakes_hands_is_connect_after_the_connect_timeout() {
    let (address, _server) = raw(|stream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let egress = docrelay::config::EgressConfig { allow: vec!["127.0.0.0/8".parse().unwrap()], deny: vec![] };
    let client = docrelay::webhook::Client::new(&egress, Duration::from_millis(200), &[]).unwrap();
    let attempt = send(&client, &subscription(&format!("https://{address}/"))).await;
    assert_eq!(failure(&attempt), (FailureKind::Connect, "no connection within 200ms"));
}

#[tokio::test]
async fn a_server_that_closes_idle_connections_without_a_word_spoils_no_request() {
    let served = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&served);
    let (address, _server) = raw(move |mut stream| {
        let count = Arc::clone(&count);
        async move {
            // As if to keep the connection alive; then it is closed.
            if read_request(&mut stream).await {
                count.fetch_add(1, Ordering::SeqCst);
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
            }
        }
    })
    .await;
    let client = local_client();
    let subscription = subscription(&format!("http://{address}/"));
    for n in 0..50 {
        assert_eq!(status(&send(&client, &subscription).await), 200, "request {n}");
    }
    assert_eq!(served.load(Ordering::SeqCst), 50, "none was sent twice");
}
