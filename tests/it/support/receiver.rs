//! A scripted webhook receiver: records every request and answers by a closure.
//!
//! It listens on a free port of 127.0.0.1 and stops, with all its connections, when it is dropped.

use std::{
    convert::Infallible,
    fmt, io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header::CONNECTION};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::watch,
    task::JoinSet,
    time::{Instant, timeout},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    },
};
use tokio_util::sync::CancellationToken;

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Recorded {
    /// The how many-th request of this receiver, from 0.
    pub(crate) index: usize,
    /// Requests with the same number came over the same connection.
    pub(crate) connection: u64,
    /// When its head had arrived.
    pub(crate) arrived: Instant,
    pub(crate) version: Version,
    pub(crate) method: Method,
    /// Path and query, as sent.
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Recorded {
    /// A header's value; empty when it is absent.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// `webhook-id`
    pub(crate) fn delivery(&self) -> &str {
        self.header("webhook-id")
    }

    /// `docrelay-attempt`
    pub(crate) fn attempt(&self) -> u32 {
        self.header("docrelay-attempt").parse().unwrap()
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// What to answer.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// Waited before anything else.
    pub(crate) delay: Duration,
    /// Waited for after that.
    released: Option<CancellationToken>,
    /// Never answer.
    pub(crate) hang: bool,
    /// Close the connection: after the answer, or instead of it with [`Reply::dropped`].
    pub(crate) close: bool,
    drop: bool,
}

impl Reply {
    pub(crate) fn status(status: u16) -> Self {
        Self {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            delay: Duration::ZERO,
            released: None,
            hang: false,
            close: false,
            drop: false,
        }
    }

    pub(crate) fn ok() -> Self {
        Self::status(200)
    }

    /// Takes the request and never answers.
    pub(crate) fn hang() -> Self {
        Self { hang: true, ..Self::ok() }
    }

    /// Takes the request and closes the connection without an answer.
    pub(crate) fn dropped() -> Self {
        Self { drop: true, ..Self::ok() }
    }

    pub(crate) fn body(self, body: impl Into<Bytes>) -> Self {
        Self { body: body.into(), ..self }
    }

    pub(crate) fn after(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }

    /// Answers only once this is cancelled.
    pub(crate) fn once(self, released: &CancellationToken) -> Self {
        Self { released: Some(released.clone()), ..self }
    }

    /// Says `connection: close` with the answer.
    pub(crate) fn close(self) -> Self {
        Self { close: true, ..self }
    }

    pub(crate) fn header(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        self
    }
}

/// A receiver, listening.
pub(crate) struct Receiver {
    address: SocketAddr,
    certificate: Option<Vec<u8>>,
    shared: Arc<Shared>,
    /// Dropping it ends the accepting task, which owns the connections.
    _tasks: JoinSet<()>,
}

struct Shared {
    script: Box<dyn Fn(&Recorded) -> Reply + Send + Sync>,
    recorded: Mutex<Vec<Recorded>>,
    count: watch::Sender<usize>,
    connections: AtomicU64,
}

impl Receiver {
    /// Answers every request with 200.
    pub(crate) async fn ok() -> Self {
        Self::scripted(|_| Reply::ok()).await
    }

    /// Answers by a script. HTTP/1.1 without TLS.
    pub(crate) async fn scripted(script: impl Fn(&Recorded) -> Reply + Send + Sync + 'static) -> Self {
        Self::start(script, None).await
    }

    /// The same over TLS as `localhost` and `127.0.0.1`, with a certificate of its own; `alpn` lists the protocols
    /// that it offers, such as `h2`.
    pub(crate) async fn tls(alpn: &[&str], script: impl Fn(&Recorded) -> Reply + Send + Sync + 'static) -> Self {
        Self::start(script, Some(alpn)).await
    }

    async fn start(script: impl Fn(&Recorded) -> Reply + Send + Sync + 'static, alpn: Option<&[&str]>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (acceptor, certificate) = alpn.map(self_signed).unzip();
        let shared = Arc::new(Shared {
            script: Box::new(script),
            recorded: Mutex::default(),
            count: watch::Sender::new(0),
            connections: AtomicU64::new(0),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, acceptor, Arc::clone(&shared)));
        Self { address, certificate, shared, _tasks: tasks }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its certificate (DER): a root for a client that shall trust it.
    pub(crate) fn certificate(&self) -> &[u8] {
        self.certificate.as_deref().expect("only TLS receivers have one")
    }

    /// A URL of it; `path` begins with a slash.
    pub(crate) fn url(&self, path: &str) -> String {
        let scheme = if self.certificate.is_some() { "https" } else { "http" };
        format!("{scheme}://{}{path}", self.address)
    }

    /// What has come so far, in order of arrival.
    pub(crate) fn recorded(&self) -> Vec<Recorded> {
        self.shared.recorded.lock().unwrap().clone()
    }

    /// How many requests have come so far.
    pub(crate) fn count(&self) -> usize {
        *self.shared.count.borrow()
    }

    /// Waits for at least `n` requests.
    ///
    /// # Panics
    /// When fewer have come by then; the message lists them.
    pub(crate) async fn wait_for(&self, n: usize, deadline: Duration) -> Vec<Recorded> {
        let mut count = self.shared.count.subscribe();
        let in_time = timeout(deadline, count.wait_for(|count| *count >= n)).await.is_ok();
        let recorded = self.recorded();
        assert!(in_time, "expected {n} requests within {deadline:?}, got {}: {recorded:#?}", recorded.len());
        recorded
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver")
            .field("address", &self.address)
            .field("requests", &self.count())
            .finish_non_exhaustive()
    }
}

async fn accept(listener: TcpListener, acceptor: Option<TlsAcceptor>, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        stream.set_nodelay(true).unwrap();
        let connection = shared.connections.fetch_add(1, Ordering::Relaxed);
        let (acceptor, shared) = (acceptor.clone(), Arc::clone(&shared));
        connections.spawn(async move {
            let Some(acceptor) = acceptor else { return serve(stream, false, connection, shared).await };
            // A client that does not trust us ends the handshake: that is its test.
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            serve(stream, h2, connection, shared).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    h2: bool,
    connection: u64,
    shared: Arc<Shared>,
) {
    let service = service_fn(move |request| respond(request, connection, Arc::clone(&shared)));
    let io = TokioIo::new(stream);
    // How a connection ends is the client's business.
    if h2 {
        let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        builder.serve_connection(io, service).await.ok();
    } else {
        let mut builder = hyper::server::conn::http1::Builder::new();
        builder.timer(TokioTimer::new()).serve_connection(io, service).await.ok();
    }
}

async fn respond(
    request: http::Request<Incoming>,
    connection: u64,
    shared: Arc<Shared>,
) -> Result<http::Response<Full<Bytes>>, io::Error> {
    let arrived = Instant::now();
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let recorded = shared.record(head, body, arrived, connection);
    let reply = (shared.script)(&recorded);
    tokio::time::sleep(reply.delay).await;
    if let Some(released) = &reply.released {
        released.cancelled().await;
    }
    if reply.hang {
        std::future::pending::<Infallible>().await;
    }
    if reply.drop {
        return Err(io::Error::other("closed as scripted"));
    }
    let mut response = http::Response::new(Full::new(reply.body));
    *response.status_mut() = reply.status;
    *response.headers_mut() = reply.headers;
    if reply.close {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

impl Shared {
    fn record(&self, head: http::request::Parts, body: Bytes, arrived: Instant, connection: u64) -> Recorded {
        let mut all = self.recorded.lock().unwrap();
        let recorded = Recorded {
            index: all.len(),
            connection,
            arrived,
            version: head.version,
            method: head.method,
            path: head.uri.path_and_query().map_or_else(String::new, ToString::to_string),
            headers: head.headers,
            body,
        };
        all.push(recorded.clone());
        self.count.send_replace(all.len());
        recorded
    }
}

fn self_signed(alpn: &[&str]) -> (TlsAcceptor, Vec<u8>) {
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let signed = rcgen::generate_simple_self_signed(names).unwrap();
    let certificate = signed.cert.der().clone();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(signed.signing_key.serialize_der()));
    let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    (TlsAcceptor::from(Arc::new(config)), certificate.to_vec())
}
