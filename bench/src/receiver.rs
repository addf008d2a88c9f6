//! The receiver's side of the benchmark: a server that answers 200 with an empty body and counts, and its client.

use std::{
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
    sync::atomic::{AtomicU64, Ordering},
};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full};
use hyper::{
    Method, Request, Response,
    body::Incoming,
    client::conn::http1::{self as client, SendRequest},
    server::conn::http1 as server,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// Requests received, and those of them that were not a first attempt.
static RECEIVED: AtomicU64 = AtomicU64::new(0);
static REPEATED: AtomicU64 = AtomicU64::new(0);

/// Serves for ever.
///
/// # Errors
/// When accepting connections fails.
pub async fn serve(listener: TcpListener) -> Result<()> {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        connections.spawn(server::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer)));
        while connections.try_join_next().is_some() {}
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.method() == Method::GET {
        let counts = format!("{} {}", RECEIVED.load(Ordering::SeqCst), REPEATED.load(Ordering::SeqCst));
        return Ok(Response::new(Full::new(counts.into())));
    }
    if request.headers().get("docrelay-attempt").is_some_and(|attempt| attempt != "1") {
        REPEATED.fetch_add(1, Ordering::Relaxed);
    }
    let mut body = request.into_body();
    while let Some(Ok(_)) = body.frame().await {}
    RECEIVED.fetch_add(1, Ordering::SeqCst);
    Ok(Response::new(Full::default()))
}

/// What the receiver counted since it was started.
#[derive(Debug, Clone, Copy)]
pub struct Counts {
    /// Requests.
    pub received: u64,
    /// Requests that were not a delivery's first attempt.
    pub repeated: u64,
}

/// A connection to ask the receiver for its counts.
pub struct Control(SendRequest<Empty<Bytes>>);

impl Control {
    /// Connects.
    ///
    /// # Errors
    /// When nothing listens there.
    pub async fn connect(port: u16) -> Result<Self> {
        let stream = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await?;
        let (sender, connection) = client::handshake(TokioIo::new(stream)).await?;
        #[expect(clippy::disallowed_methods, reason = "lives as long as the program")]
        tokio::spawn(connection);
        Ok(Self(sender))
    }

    /// The counts.
    ///
    /// # Errors
    /// When the receiver is gone.
    pub async fn counts(&mut self) -> Result<Counts> {
        let body = self.get("/counts").await?;
        let (received, repeated) = body.split_once(' ').context("the receiver answers something else than counts")?;
        Ok(Counts { received: received.parse()?, repeated: repeated.parse()? })
    }

    /// The body of a 200 answer.
    ///
    /// # Errors
    /// On any other answer, or none.
    pub async fn get(&mut self, path: &str) -> Result<String> {
        self.0.ready().await?;
        let request = Request::get(path).header("host", "127.0.0.1").body(Empty::new())?;
        let answer = self.0.send_request(request).await?;
        if answer.status() != 200 {
            bail!("{path} answers {}", answer.status());
        }
        Ok(String::from_utf8(answer.into_body().collect().await?.to_bytes().to_vec())?)
    }
}
