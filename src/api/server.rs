//! Serves HTTP at one address: everything that is meant for others than the operator. Bounded in connections, in the
//! time that a request's head may take, and in the time that a peer may leave an answer lying. Knows no route.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use hyper::{Request, body::Incoming, server::conn::http1, service::Service as _};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::patience::Patient;

/// Connections at once. More wait at the door, in the system's queue.
const MOST_CONNECTIONS: usize = 1024;

/// How long a request's head may take to come, and so how long a connection may be idle between two requests.
const HEAD_DEADLINE: Duration = Duration::from_secs(15);

/// How long a peer may take nothing of an answer that is there for it.
const WRITE_PATIENCE: Duration = Duration::from_secs(30);

/// The largest head of a request, and how much of a body is read ahead.
const BUFFER_BYTES: usize = 64 * 1024;

/// How long answers that have begun may take once the service stops.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// How long to wait when no connection can be taken, for example because there are no more file handles.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

/// How long a connection waits for its peer.
#[derive(Debug, Clone, Copy)]
struct Waits {
    head: Duration,
    write: Duration,
}

/// Who sent a request, by the address of the connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) SocketAddr);

/// A listener that is bound.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    waits: Waits,
    connections: Arc<Semaphore>,
}

impl Server {
    /// Listens.
    ///
    /// # Errors
    /// When the address is taken, or not ours.
    pub async fn bind(listen: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let connections = Arc::new(Semaphore::new(MOST_CONNECTIONS));
        let waits = Waits { head: HEAD_DEADLINE, write: WRITE_PATIENCE };
        Ok(Self { listener, address, waits, connections })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop`: then no new connection and no new request is taken, and what has begun may end. Returns at
    /// most two seconds after it.
    pub async fn serve(self, routes: Router, stop: CancellationToken) {
        let tasks = TaskTracker::new();
        let cut = CancellationToken::new();
        while let Some((stream, peer, place)) = stop.run_until_cancelled(self.next()).await {
            let serving = one_connection(stream, peer, routes.clone(), self.waits, stop.clone());
            let cut = cut.clone();
            tasks.spawn(async move {
                let _place = place; // given back on every end
                cut.run_until_cancelled(serving).await;
            });
        }
        drop(self.listener);
        tasks.close();
        if timeout(LAST_ANSWERS, tasks.wait()).await.is_err() {
            cut.cancel();
            tasks.wait().await;
        }
    }

    /// The next connection, once there is a place for it.
    async fn next(&self) -> (TcpStream, SocketAddr, OwnedSemaphorePermit) {
        loop {
            let Ok(place) = Arc::clone(&self.connections).acquire_owned().await else {
                // Never closed.
                sleep(ACCEPT_PAUSE).await;
                continue;
            };
            match self.listener.accept().await {
                Ok((stream, peer)) => return (stream, peer, place),
                Err(error) if is_the_peers(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "No connection can be taken at api.listen");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// Whether it went wrong for one connection only.
fn is_the_peers(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

async fn one_connection(stream: TcpStream, peer: SocketAddr, routes: Router, waits: Waits, stop: CancellationToken) {
    // Without it short answers wait for the peer's acknowledgements; it is no harm if it cannot be had.
    drop(stream.set_nodelay(true));
    let routes = TowerToHyperService::new(routes);
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        routes.call(request)
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(waits.head).max_buf_size(BUFFER_BYTES);
    let stream = TokioIo::new(Patient::new(stream, waits.write));
    let mut connection = std::pin::pin!(builder.serve_connection(stream, service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        // Peers go away all the time.
        tracing::debug!(%error, %peer, "A connection ended early");
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        sync::Notify,
    };

    use super::*;

    /// Far more than anything here takes on a busy machine.
    const GENEROUS: Duration = Duration::from_secs(30);

    struct Served {
        address: SocketAddr,
        stop: CancellationToken,
        tasks: TaskTracker,
    }

    impl Served {
        async fn of(routes: Router, connections: usize, head: Duration) -> Self {
            Self::waiting(routes, connections, Waits { head, write: GENEROUS }).await
        }

        async fn waiting(routes: Router, connections: usize, waits: Waits) -> Self {
            let mut server = Server::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
            server.connections = Arc::new(Semaphore::new(connections));
            server.waits = waits;
            let (address, stop, tasks) = (server.address(), CancellationToken::new(), TaskTracker::new());
            tasks.spawn(server.serve(routes, stop.clone()));
            Self { address, stop, tasks }
        }

        async fn connect(&self, text: &str) -> TcpStream {
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            stream.write_all(text.as_bytes()).await.unwrap();
            stream
        }

        async fn end(self) {
            self.stop.cancel();
            self.tasks.close();
            timeout(GENEROUS, self.tasks.wait()).await.unwrap();
        }
    }

    /// Everything until the other end closes.
    async fn rest(stream: &mut TcpStream) -> String {
        let mut text = String::new();
        timeout(GENEROUS, stream.read_to_string(&mut text)).await.unwrap().unwrap();
        text
    }

    fn hello() -> Router {
        Router::new().route("/", get(|| async { "hello" }))
    }

    const REQUEST: &str = "GET / HTTP/1.1\r\nhost: h\r\n\r\n";
    const LAST_REQUEST: &str = "GET / HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n";

    #[tokio::test]
    async fn a_head_that_does_not_come_in_time_ends_its_connection_and_an_idle_one_too() {
        let served = Served::of(hello(), 8, Duration::from_millis(100)).await;
        for begun in ["", "GET / HTTP/1.1\r\nhost:", REQUEST] {
            let mut stream = served.connect(begun).await;
            let answer = rest(&mut stream).await;
            assert_eq!(answer.contains("hello"), begun == REQUEST, "{begun:?}: {answer}");
        }
        served.end().await;
    }

    #[tokio::test]
    async fn beyond_the_bound_a_connection_waits_until_another_one_ends() {
        let served = Served::of(hello(), 1, GENEROUS).await;
        let mut first = served.connect(REQUEST).await;
        let mut bytes = [0; 16];
        timeout(GENEROUS, first.read_exact(&mut bytes)).await.unwrap().unwrap();
        let mut second = served.connect(LAST_REQUEST).await;
        assert!(timeout(Duration::from_millis(200), second.read_u8()).await.is_err(), "it is served beyond the bound");
        drop(first);
        assert!(rest(&mut second).await.ends_with("hello"));
        served.end().await;
    }

    #[tokio::test]
    async fn a_peer_that_reads_nothing_of_an_answer_gives_its_place_back() {
        let endless = || async {
            let chunks = futures_util::stream::repeat(bytes::Bytes::from(vec![0; 64 * 1024]));
            axum::body::Body::from_stream(futures_util::StreamExt::map(chunks, Ok::<_, io::Error>))
        };
        let waits = Waits { head: GENEROUS, write: Duration::from_millis(200) };
        let served = Served::waiting(hello().route("/endless", get(endless)), 1, waits).await;
        let idle = served.connect(&REQUEST.replace("/ ", "/endless ")).await;
        let mut second = served.connect(LAST_REQUEST).await;
        assert!(rest(&mut second).await.ends_with("hello"));
        drop(idle);
        served.end().await;
    }

    #[tokio::test]
    async fn a_stop_lets_an_answer_that_has_begun_end_and_waits_for_nobody_else() {
        let (begun, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let handler = {
            let (begun, go) = (Arc::clone(&begun), Arc::clone(&go));
            move || async move {
                begun.notify_one();
                go.notified().await;
                "hello"
            }
        };
        let routes = hello().route("/slow", get(handler));
        let served = Served::of(routes, 8, GENEROUS).await;
        let mut idle = served.connect(REQUEST).await;
        let mut status = [0; 12];
        timeout(GENEROUS, idle.read_exact(&mut status)).await.unwrap().unwrap();
        let mut slow = served.connect(&REQUEST.replace("/ ", "/slow ")).await;
        begun.notified().await;
        served.stop.cancel();
        // The idle connection is closed at once.
        assert!(rest(&mut idle).await.ends_with("hello"));
        go.notify_one();
        assert!(rest(&mut slow).await.ends_with("hello"));
        served.end().await;
    }

    #[tokio::test]
    async fn a_stop_cuts_off_what_takes_too_long() {
        let begun = Arc::new(Notify::new());
        let seen = Arc::clone(&begun);
        let never = move || async move {
            begun.notify_one();
            std::future::pending::<&str>().await
        };
        let served = Served::of(Router::new().route("/", get(never)), 8, GENEROUS).await;
        let mut slow = served.connect(REQUEST).await;
        seen.notified().await;
        let before = tokio::time::Instant::now();
        served.end().await;
        assert!(before.elapsed() >= LAST_ANSWERS);
        assert_eq!(rest(&mut slow).await, "");
    }
}
