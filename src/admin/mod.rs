//! The endpoints for whoever runs the service: liveness, readiness and metrics. Nothing here belongs to an organization, and
//! nothing here is meant for the public: `admin.listen` is a loopback address by default.

mod readiness;
mod scrape;

use std::{io, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::get,
};
use tokio::{net::TcpListener, time::sleep};
use tokio_util::sync::CancellationToken;

pub use self::{
    readiness::{Readiness, Report},
    scrape::Scrape,
};

/// How long an answer that has begun may take once the service stops.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// What `/` answers.
const INDEX: &str = "docrelay admin\n\
    /livez   200 while the process runs its event loop\n\
    /readyz  200 when events flow, otherwise 503; one line per condition\n\
    /metrics metrics, as OpenMetrics or in the text format of Prometheus\n";

/// Serves the endpoints until `stop`. Returns at most two seconds after it.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    readiness: Readiness,
    scrape: Scrape,
    stop: CancellationToken,
) -> io::Result<()> {
    let routes = Router::new()
        .route("/", get(|| async { INDEX }))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(|headers: HeaderMap| scrape.answer(headers)))
        .with_state(readiness);
    let serving = axum::serve(listener, routes).with_graceful_shutdown(stop.clone().cancelled_owned());
    let too_long = async {
        stop.cancelled().await;
        sleep(LAST_ANSWERS).await;
    };
    tokio::select! {
        served = serving => served,
        () = too_long => Ok(()),
    }
}

async fn readyz(State(readiness): State<Readiness>) -> (StatusCode, String) {
    let report = readiness.report();
    let status = if report.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, report.to_string())
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpStream,
        sync::watch,
        time::timeout,
    };

    use super::*;
    use crate::broker::Standing;

    async fn ask(address: std::net::SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn readiness_follows_the_conditions_and_liveness_does_not() {
        let publishing = watch::Sender::new(Standing::Disconnected);
        let (consuming, subscriptions) = (watch::Sender::new(true), watch::Sender::new(Some(3)));
        let (stopping, stop) = (CancellationToken::new(), CancellationToken::new());
        let readiness =
            Readiness::new(publishing.subscribe(), consuming.subscribe(), subscriptions.subscribe(), stopping.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = serve(listener, readiness, Scrape::default(), stop.clone());
        let client = async {
            let answer = ask(address, "/readyz").await;
            assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("publishing: disconnected"), "{answer}");
            publishing.send_replace(Standing::Open);
            assert!(ask(address, "/readyz").await.starts_with("HTTP/1.1 200"));
            stopping.cancel();
            assert!(ask(address, "/readyz").await.starts_with("HTTP/1.1 503"));
            assert!(ask(address, "/livez").await.starts_with("HTTP/1.1 200"));
            assert!(ask(address, "/").await.contains("/readyz"));
            assert!(ask(address, "/else").await.starts_with("HTTP/1.1 404"));
            stop.cancel();
        };
        let (ended, ()) = timeout(Duration::from_secs(30), async { tokio::join!(serving, client) }).await.unwrap();
        ended.unwrap();
    }

    #[tokio::test]
    async fn a_client_that_never_finishes_its_request_does_not_hold_up_the_stop() {
        let readiness = Readiness::new(
            watch::channel(Standing::Open).1,
            watch::channel(true).1,
            watch::channel(None).1,
            CancellationToken::new(),
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let serving = serve(listener, readiness, Scrape::default(), stop.clone());
        let client = async {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"GET /livez HTTP/1.1\r\n").await.unwrap();
            // An answer to a later request shows that the server has seen the first connection.
            assert!(ask(address, "/livez").await.starts_with("HTTP/1.1 200"));
            stop.cancel();
            stream
        };
        let (ended, _held) = timeout(Duration::from_secs(30), async { tokio::join!(serving, client) }).await.unwrap();
        ended.unwrap();
    }
}
