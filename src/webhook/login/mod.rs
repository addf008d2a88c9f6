//! Logins: how a request gets its token. `request` says what is asked, `token` reads the answer, `keeper` remembers it
//! for as long as it is good; here is the exchange with the login itself.
//!
//! What goes wrong here is `auth`, whatever it is: it says nothing about the webhook's target. The reason never repeats
//! what was sent to the login, nor what it answered.

mod keeper;
mod request;
mod token;

use http::HeaderValue;
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

pub(super) use self::keeper::TokenKeeper;
use self::token::Token;
use super::{Request, answer, client::Client, errors::Failure};
use crate::{
    domain::{Auth, FailureKind, LaneKey, Subscription, TokenSource},
    telemetry::trace::{Ended, Server, Within},
};

impl Client {
    /// The lane of the login that must be called before a webhook can be sent; `None` when there is none, or its token is
    /// still good.
    #[must_use]
    pub fn login_ahead(&self, subscription: &Subscription) -> Option<LaneKey> {
        match &subscription.auth {
            Auth::Token(source) if !self.tokens().has(subscription) => {
                Some(LaneKey::of_login(&subscription.organization, source.url()))
            }
            Auth::Token(_) | Auth::Fixed => None,
        }
    }

    /// The `Authorization` of an attempt whose subscription has a token from `source`, by `deadline`. `refused` is the one that the
    /// target answered with 401: it is not given again, unless the login itself gives it again. `answered` is notified when the
    /// login answers, whatever it says.
    pub(super) async fn authorization(
        &self,
        attempt: &Request<'_>,
        source: &TokenSource,
        refused: Option<&HeaderValue>,
        deadline: Instant,
        answered: Option<&Notify>,
    ) -> Result<HeaderValue, Failure> {
        let log_in = async {
            let token = self.log_in(attempt, source, answered).await;
            self.metrics().logged_in(token.is_ok());
            token
        };
        let why = match timeout_at(deadline, self.tokens().get(attempt.subscription, refused, log_in)).await {
            Ok(Ok(authorization)) => return Ok(authorization),
            Ok(Err(why)) => why,
            Err(_elapsed) => "it gave no token within the deadline".to_owned(),
        };
        let text = if refused.is_some() {
            format!("the target answered 401 to its token, and the next login failed: {why}")
        } else {
            format!("the login failed, so the webhook was not sent: {why}")
        };
        Err(Failure::new(FailureKind::Auth, text))
    }

    /// Asks for a token. The error says why there is none, for people.
    async fn log_in(
        &self,
        attempt: &Request<'_>,
        source: &TokenSource,
        answered: Option<&Notify>,
    ) -> Result<Token, String> {
        let request = request::build(source);
        let mut span = attempt.scope.map(|scope| {
            let (method, subscription) = (request.method().clone(), attempt.subscription.id.clone());
            scope.aside(Within::Login { method, server: Server::of(source.url()), subscription })
        });
        let mut tell = |ended| {
            if let Some(span) = &mut span {
                span.ended(ended);
            }
        };
        let response = self.fetch(request).await.map_err(|failure| {
            tell(Ended::Failed(failure.kind));
            broken(failure)
        })?;
        if let Some(answered) = answered {
            answered.notify_one();
        }
        let status = response.status().as_u16();
        if !response.status().is_success() {
            tell(Ended::Status(status));
            return Err(format!("it answered {status}"));
        }
        let token = self.read_token(source, response).await;
        tell(if token.is_ok() { Ended::Status(status) } else { Ended::Useless(status) });
        token
    }

    /// The token in the answer of a login that succeeded.
    async fn read_token(&self, source: &TokenSource, response: reqwest::Response) -> Result<Token, String> {
        let (body, cut) = answer::read_body(response).await.map_err(|error| broken(self.classify(&error)))?;
        if cut {
            return Err(format!("its answer is longer than {} KiB", answer::MAX_RESPONSE_BYTES / 1024));
        }
        token::read(source, &body).map_err(|none| none.to_string())
    }
}

fn broken(Failure { kind, text }: Failure) -> String {
    format!("{kind}: {text}")
}
