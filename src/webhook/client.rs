//! The client: one pool of connections for all targets, one deadline around each exchange.

use std::{sync::Arc, time::Duration};

use reqwest::redirect;
use tokio::time::{Instant, timeout};

use super::{
    EgressPolicy, Request, answer,
    errors::{self, Failure},
    resolver::{self, GuardedResolver},
};
use crate::{
    config::EgressConfig,
    domain::{Answer, Attempt, FailureKind, Timestamp},
};

/// How long an unused connection is kept.
const POOL_IDLE: Duration = Duration::from_secs(90);

/// How many unused connections a host may keep: as many as there may be deliveries in hand, so that a burst to one
/// host, which several organizations may share, does not reconnect for each request.
const POOL_IDLE_PER_HOST: usize = 512;

/// An HTTP/2 connection carries all requests to its host. When it dies without a word, pings find that out; without
/// them every request until the system gives up the connection would time out.
const PING_INTERVAL: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// Makes attempts. Cheap to clone; clones share their connections.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    egress: Arc<EgressPolicy>,
    connect_timeout: Duration,
}

/// The client could not be made: TLS could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("the HTTP client could not be made; are the system's certificate authorities (ca-certificates) installed?")]
pub struct BuildError(#[from] reqwest::Error);

impl Client {
    /// A client that connects within `connect_timeout` (DNS and TLS included) to what `egress` permits. It trusts the
    /// system's certificate authorities and, besides, `extra_roots` (DER).
    ///
    /// # Errors
    /// When TLS cannot be set up: nothing can be sent then.
    pub fn new(egress: &EgressConfig, connect_timeout: Duration, extra_roots: &[Vec<u8>]) -> Result<Self, BuildError> {
        let egress = Arc::new(EgressPolicy::from(egress));
        let roots = extra_roots.iter().map(|der| reqwest::Certificate::from_der(der));
        let roots = roots.collect::<Result<Vec<_>, _>>()?;
        // Requests that an HTTP/2 server declares untouched (REFUSED_STREAM, GOAWAY), and those that a closing
        // connection never took, are sent again within the same attempt: the receiver has not seen them.
        let http = reqwest::Client::builder()
            .tls_certs_merge(roots)
            .dns_resolver(GuardedResolver::new(Arc::clone(&egress)))
            .no_proxy() // a proxy would connect for us, unseen by the egress policy
            .redirect(redirect::Policy::none())
            .referer(false)
            .connect_timeout(connect_timeout)
            .tcp_nodelay(true)
            .pool_idle_timeout(POOL_IDLE)
            .pool_max_idle_per_host(POOL_IDLE_PER_HOST)
            .http2_keep_alive_interval(PING_INTERVAL)
            .http2_keep_alive_timeout(PING_TIMEOUT)
            .build()?;
        Ok(Self { http, egress, connect_timeout })
    }

    /// Makes one attempt: connect, send, read. All of it ends with the subscription's deadline.
    ///
    /// It never fails: what went wrong is the attempt's answer. Dropping the future breaks the exchange off and closes
    /// its connection.
    pub async fn send(&self, request: Request<'_>) -> Attempt {
        let started = Instant::now();
        let deadline = request.subscription.target.timeout;
        let answer = match request.build() {
            Err(error) => Answer::Unsendable { kind: FailureKind::Template, text: error.to_string() },
            Ok(built) => match timeout(deadline, self.exchange(built, request.at, started)).await {
                Ok(Ok(answer)) => answer,
                Ok(Err(Failure { kind: kind @ FailureKind::Internal, text })) => Answer::Unsendable { kind, text },
                Ok(Err(Failure { kind, text })) => Answer::None { kind, text },
                Err(_elapsed) => Answer::None {
                    kind: FailureKind::Timeout,
                    text: format!("no complete answer within {}", humantime::format_duration(deadline)),
                },
            },
        };
        Attempt { started_at: request.at, latency: started.elapsed(), answer }
    }

    async fn exchange(&self, request: reqwest::Request, at: Timestamp, started: Instant) -> Result<Answer, Failure> {
        if let Some(address) = resolver::literal_address(request.url()) {
            let permitted = self.egress.check(address);
            permitted.map_err(|refused| Failure::new(FailureKind::Egress, refused.to_string()))?;
        }
        let failed = |error: reqwest::Error| errors::classify(&error, self.connect_timeout);
        let response = self.http.execute(request).await.map_err(failed)?;
        let status = response.status();
        let now = at.after(started.elapsed());
        let retry_after = answer::retry_after(status, response.headers(), now);
        let (body, cut) = answer::read_body(response).await.map_err(failed)?;
        Ok(Answer::Response { status: status.as_u16(), retry_after, body, cut })
    }
}
