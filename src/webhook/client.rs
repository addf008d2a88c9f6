//! The client: one pool of connections for all targets, one deadline around each exchange.

use std::{sync::Arc, time::Duration};

use http::header::AUTHORIZATION;
use reqwest::redirect;
use tokio::time::{Instant, timeout_at};

use super::{
    EgressPolicy, Request, answer,
    errors::{self, Failure},
    login::TokenKeeper,
    resolver::{self, GuardedResolver},
};
use crate::{
    config::EgressConfig,
    domain::{Answer, Attempt, Auth, FailureKind, TokenSource},
    telemetry::metrics::Metrics,
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

/// Makes attempts. Cheap to clone; clones share their connections and tokens.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    egress: Arc<EgressPolicy>,
    connect_timeout: Duration,
    tokens: Arc<TokenKeeper>,
    metrics: Metrics,
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
        Ok(Self { http, egress, connect_timeout, tokens: Arc::default(), metrics: Metrics::default() })
    }

    /// The same, telling these metrics of its logins.
    #[must_use]
    pub fn with_metrics(self, metrics: Metrics) -> Self {
        Self { metrics, ..self }
    }

    /// Makes one attempt: log in where the subscription says so, connect, send, read. All of it ends with the
    /// subscription's deadline.
    ///
    /// It never fails: what went wrong is the attempt's answer. Dropping the future breaks the exchange off and closes
    /// its connection.
    pub async fn send(&self, request: Request<'_>) -> Attempt {
        let started = request.began;
        let answer = match self.attempt(&request, started).await {
            Ok(answer) => answer,
            Err(Failure { kind: kind @ (FailureKind::Template | FailureKind::Internal), text }) => {
                Answer::Unsendable { kind, text }
            }
            Err(Failure { kind, text }) => Answer::None { kind, text },
        };
        Attempt { started_at: request.at, latency: started.elapsed(), answer }
    }

    async fn attempt(&self, request: &Request<'_>, started: Instant) -> Result<Answer, Failure> {
        // Before any login: what cannot be sent needs no token.
        let built = request.build()?;
        match &request.subscription.auth {
            Auth::Fixed => self.exchange(built, request, started).await,
            // Boxed: who needs no token need not carry the room for one.
            Auth::Token(source) => Box::pin(self.with_token(source, built, request, started)).await,
        }
    }

    /// A token that the target refuses may have been withdrawn: then there is one more login, and one more request.
    async fn with_token(
        &self,
        source: &TokenSource,
        mut built: reqwest::Request,
        request: &Request<'_>,
        started: Instant,
    ) -> Result<Answer, Failure> {
        let deadline = started + request.target.timeout;
        let token = self.authorization(request, source, None, deadline, request.logged_in).await?;
        if let Some(logged_in) = request.logged_in {
            logged_in.notify_one();
        }
        built.headers_mut().insert(AUTHORIZATION, token.clone());
        let answer = self.exchange(built, request, started).await?;
        if !matches!(answer, Answer::Response { status: 401, .. }) {
            return Ok(answer);
        }
        let token = self.authorization(request, source, Some(&token), deadline, None).await?;
        let mut again = request.build()?;
        again.headers_mut().insert(AUTHORIZATION, token);
        self.exchange(again, request, started).await
    }

    /// One exchange with the target, by the attempt's deadline.
    async fn exchange(
        &self,
        built: reqwest::Request,
        request: &Request<'_>,
        started: Instant,
    ) -> Result<Answer, Failure> {
        let time = request.target.timeout;
        let exchange = async {
            let response = self.fetch(built).await?;
            let status = response.status();
            if let Some(trial) = request.trial {
                trial.answered(response.headers());
            }
            let now = request.at.after(started.elapsed());
            let retry_after = answer::retry_after(status, response.headers(), now);
            let (body, cut) = answer::read_body(response).await.map_err(|error| self.classify(&error))?;
            Ok(Answer::Response { status: status.as_u16(), retry_after, body, cut })
        };
        timeout_at(started + time, exchange).await.unwrap_or_else(|_elapsed| {
            let text = format!("no complete answer within {}", humantime::format_duration(time));
            Err(Failure::new(FailureKind::Timeout, text))
        })
    }

    /// Sends a request where the egress policy lets it go, and gives the answer's head.
    pub(super) async fn fetch(&self, request: reqwest::Request) -> Result<reqwest::Response, Failure> {
        if let Some(address) = resolver::literal_address(request.url()) {
            let permitted = self.egress.check(address);
            permitted.map_err(|refused| Failure::new(FailureKind::Egress, refused.to_string()))?;
        }
        self.http.execute(request).await.map_err(|error| self.classify(&error))
    }

    pub(super) fn classify(&self, error: &reqwest::Error) -> Failure {
        errors::classify(error, self.connect_timeout)
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    pub(super) fn tokens(&self) -> &TokenKeeper {
        &self.tokens
    }
}
