//! A subscription: which events of an organization go where, and how.

use std::{fmt, str::FromStr, time::Duration};

use http::{HeaderMap, Method};
use url::{Host, Url};
use uuid::Uuid;

use super::{
    Auth, EventSet, ExchangeName, FileExport, InboxId, LaneKey, OrganizationId, Payload, ProjectId, RateLimit,
    RetryPolicy, RoutingKey, SigningSecret, SubscriptionId,
};

/// Headers that a subscription may not set: the exchange itself needs them.
pub const RESERVED_HEADERS: [&str; 4] = ["host", "content-length", "connection", "transfer-encoding"];

/// Beginnings of header names that a subscription may not set: they are docrelay's.
pub const RESERVED_HEADER_PREFIXES: [&str; 2] = ["webhook-", "docrelay-"];

/// Headers whose values are no secrets; every other value is.
pub const OPEN_HEADERS: [&str; 3] = ["content-type", "accept", "user-agent"];

/// Which events of an organization go where, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct Subscription {
    /// Its id.
    pub id: SubscriptionId,
    /// Its name, for people.
    pub name: String,
    /// Whose events it gets; no other organization's, ever.
    pub organization: OrganizationId,
    /// Only these inboxes, when given.
    pub inboxes: Vec<InboxId>,
    /// Only these projects, when given. With inboxes as well, a match on any of either is a match.
    pub projects: Vec<ProjectId>,
    /// Which events. Never empty.
    pub events: EventSet,
    /// What the body looks like.
    pub payload: Payload,
    /// Which file of an export is sent a link to. For the payload `smartdocumentor_file`, and only for that.
    pub file: Option<FileExport>,
    /// Where it goes.
    pub target: Target,
    /// Where its `Authorization` comes from. What a login gives wins over the target's headers.
    pub auth: Auth,
    /// What signs its requests: none, one, or several while they are replaced.
    pub signing_secrets: Vec<SigningSecret>,
    /// When and how often it is tried again.
    pub retry: RetryPolicy,
    /// How fast its lane may send; `None` without a limit. All subscriptions of one lane have the same.
    pub rate_limit: Option<RateLimit>,
    /// How many requests may be in flight at its lane. All subscriptions of one lane have the same.
    pub max_in_flight: u32,
    /// The lane it goes through.
    pub lane: LaneKey,
    /// Whether it takes part.
    pub state: State,
}

/// Whether a subscription takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum State {
    /// It does.
    #[default]
    Enabled,
    /// Its owner disabled it: events do not match it.
    Disabled,
    /// Its target answered 410: events match it, and their deliveries end at once.
    Gone,
}

impl State {
    /// What a claim of the owner's makes of it.
    #[must_use]
    pub fn enabled(claim: bool) -> Self {
        if claim { Self::Enabled } else { Self::Disabled }
    }
}

/// Where deliveries go.
#[derive(Debug, Clone, PartialEq)]
pub enum Target {
    /// Over HTTP, as a webhook.
    Http(HttpTarget),
    /// To an exchange of the subscriber's.
    Amqp(AmqpTarget),
}

impl Target {
    /// The deadline of one attempt.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        match self {
            Self::Http(target) => target.timeout,
            Self::Amqp(target) => target.timeout,
        }
    }

    /// Where it is, for results, logs and people: host and path, or `amqp:` and the exchange.
    #[must_use]
    pub fn address(&self) -> String {
        match self {
            Self::Http(target) => target.url.host_and_path(),
            Self::Amqp(target) => format!("amqp:{}", target.exchange),
        }
    }

    /// What tells this target from another without showing it.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        match self {
            Self::Http(target) => target.url.fingerprint(),
            Self::Amqp(_) => Fingerprint(Uuid::new_v5(&Uuid::NAMESPACE_URL, self.address().as_bytes())),
        }
    }

    /// What answers there: scheme, host and port, or the exchange. One organization's subscriptions share a lane by it.
    pub(super) fn place(&self) -> String {
        match self {
            Self::Http(target) => target.url.origin(),
            // No origin begins so: only http and https are URLs here.
            Self::Amqp(_) => self.address(),
        }
    }
}

/// An exchange that deliveries are published to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AmqpTarget {
    /// The exchange.
    pub exchange: ExchangeName,
    /// What messages are routed by.
    pub routing_key: RoutingKey,
    /// The deadline of one attempt, until the broker has confirmed it.
    pub timeout: Duration,
}

/// Where a webhook goes.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpTarget {
    /// The address.
    pub url: TargetUrl,
    /// Whether `:id` in path and query is replaced by the document's id.
    pub template: bool,
    /// The method.
    pub method: Method,
    /// Headers sent with every attempt, `Authorization` included. Values may be secrets: they are marked sensitive.
    pub headers: HeaderMap,
    /// The deadline of the whole exchange.
    pub timeout: Duration,
}

impl HttpTarget {
    /// A plain POST, with no headers of its own.
    #[must_use]
    pub fn post(url: TargetUrl, timeout: Duration) -> Self {
        Self { url, template: false, method: Method::POST, headers: HeaderMap::new(), timeout }
    }
}

/// An `http` or `https` URL with a host. Its `Debug` shows the host only: paths and queries may hold secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct TargetUrl(Url);

/// Why a text is not a target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadTarget {
    /// Not a URL.
    #[error("not a URL: {0}")]
    NotAUrl(#[from] url::ParseError),
    /// Another scheme.
    #[error("must begin with http:// or https://, not {0}:")]
    Scheme(String),
    /// No host.
    #[error("has no host")]
    NoHost,
}

impl TargetUrl {
    /// Reads a URL.
    ///
    /// # Errors
    /// Says what is wrong with it, without repeating it: it may hold secrets.
    pub fn parse(text: &str) -> Result<Self, BadTarget> {
        let mut url = Url::parse(text)?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(BadTarget::Scheme(url.scheme().to_owned()));
        }
        if url.host().is_none() {
            return Err(BadTarget::NoHost);
        }
        url.set_fragment(None);
        Ok(Self(url))
    }

    /// The whole URL; it may hold secrets.
    #[must_use]
    pub fn as_url(&self) -> &Url {
        &self.0
    }

    /// The host.
    #[must_use]
    pub fn host(&self) -> Option<Host<&str>> {
        self.0.host()
    }

    /// Scheme, host and port: what makes a target.
    #[must_use]
    pub fn origin(&self) -> String {
        self.0.origin().ascii_serialization()
    }

    /// What tells this URL from another without showing it.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint(Uuid::new_v5(&Uuid::NAMESPACE_URL, self.0.as_str().as_bytes()))
    }

    /// Host and path, for results, logs and people: no query, no user information.
    #[must_use]
    pub fn host_and_path(&self) -> String {
        let host = self.0.host_str().unwrap_or_default();
        match self.0.port() {
            Some(port) => format!("{host}:{port}{}", self.0.path()),
            None => format!("{host}{}", self.0.path()),
        }
    }
}

impl fmt::Debug for TargetUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TargetUrl({}/..)", self.0.host_str().unwrap_or("-"))
    }
}

/// What tells a target from another without showing it. It is stored: never change how it is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(Uuid);

impl FromStr for Fingerprint {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        Uuid::try_parse(text).map(Self)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_never_changes_between_versions_and_tells_urls_apart() {
        let of = |text: &str| TargetUrl::parse(text).unwrap().fingerprint();
        assert_eq!(of("https://erp.example/hooks?key=1").to_string(), "e2d45e1d-90eb-5dcb-895a-acc024864397");
        assert_ne!(of("https://erp.example/hooks?key=1"), of("https://erp.example/hooks?key=2"));
    }
}
