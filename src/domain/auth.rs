//! How docrelay shows a receiver who it is: a login before the webhook, and secrets that sign it.

use std::{fmt, str::FromStr};

use base64::{Engine, prelude::BASE64_STANDARD};
use http::{HeaderMap, Method};

use super::{Secret, TargetUrl};

/// How many secrets may sign a subscription's requests: one, and more while they are replaced.
pub const MAX_SIGNING_SECRETS: usize = 5;

/// What a signing secret begins with.
const SIGNING_SECRET_PREFIX: &str = "whsec_";

/// Where the `Authorization` of a request comes from.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Auth {
    /// From the configured headers, if they have one: nothing is asked for.
    #[default]
    Fixed,
    /// From a token that is asked for when the webhook fires.
    Token(Box<TokenSource>),
}

/// Who gives tokens, and to whom.
#[derive(Debug, Clone, PartialEq)]
pub enum TokenSource {
    /// A login of the receiver's own making.
    Login(Login),
    /// An `OAuth` 2 token endpoint, with client credentials (RFC 6749, 4.4).
    ClientCredentials(ClientCredentials),
}

impl TokenSource {
    /// Where it is asked for a token.
    #[must_use]
    pub fn url(&self) -> &TargetUrl {
        match self {
            Self::Login(login) => &login.url,
            Self::ClientCredentials(client) => &client.token_url,
        }
    }
}

/// A login that answers with a token. It is called when the webhook fires.
#[derive(Debug, Clone, PartialEq)]
pub struct Login {
    /// The address.
    pub url: TargetUrl,
    /// The method. With GET the body's fields go into the query.
    pub method: Method,
    /// Headers of the login itself. Their `Content-Type` says whether the body is a form.
    pub headers: HeaderMap,
    /// The fields of the body, in their order.
    pub body: Vec<LoginField>,
    /// Which attribute of the answer is the token: a key, or a path of keys with dots between them.
    pub token_attribute: String,
    /// What stands before the token in `Authorization`; empty for the bare token.
    pub scheme: String,
}

/// A field of a login's body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginField {
    /// Its name.
    pub name: String,
    /// Its value, as text.
    pub value: Secret,
    /// Whether the value is a whole number, `true` or `false`: it stands in JSON without quotes.
    pub is_bare: bool,
}

/// A client of an `OAuth` 2 token endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCredentials {
    /// The token endpoint.
    pub token_url: TargetUrl,
    /// The client's id.
    pub client_id: String,
    /// The client's secret.
    pub client_secret: Secret,
    /// What the token is for, in the endpoint's words.
    pub scope: Option<String>,
}

/// A key that signs requests (Standard Webhooks, `whsec_...`). `Debug` never shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningSecret(Vec<u8>);

/// Why a text is not a signing secret. It never repeats the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadSigningSecret {
    /// It begins with something else.
    #[error("expected a secret that begins with whsec_")]
    Prefix,
    /// What follows is not base64.
    #[error("expected whsec_ and base64, with its padding")]
    Encoding,
    /// Too short to be safe, or longer than anybody needs.
    #[error("expected whsec_ and base64 of 24 to 64 bytes, got {0} bytes")]
    Length(usize),
}

impl SigningSecret {
    /// The key. Never log it.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        &self.0
    }
}

impl FromStr for SigningSecret {
    type Err = BadSigningSecret;

    fn from_str(text: &str) -> Result<Self, BadSigningSecret> {
        let encoded = text.strip_prefix(SIGNING_SECRET_PREFIX).ok_or(BadSigningSecret::Prefix)?;
        let key = BASE64_STANDARD.decode(encoded).map_err(|_hidden| BadSigningSecret::Encoding)?;
        if (24..=64).contains(&key.len()) { Ok(Self(key)) } else { Err(BadSigningSecret::Length(key.len())) }
    }
}

impl fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_length(bytes: usize) -> String {
        format!("whsec_{}", BASE64_STANDARD.encode(vec![7; bytes]))
    }

    #[test]
    fn a_signing_secret_has_24_to_64_bytes() {
        for length in [24, 25, 26, 63, 64] {
            assert_eq!(of_length(length).parse::<SigningSecret>().unwrap().key(), vec![7; length]);
        }
        for length in [0, 23, 65] {
            assert_eq!(of_length(length).parse::<SigningSecret>(), Err(BadSigningSecret::Length(length)));
        }
    }

    #[test]
    fn a_signing_secret_is_standard_base64_behind_its_prefix() {
        assert_eq!(of_length(24)[6..].parse::<SigningSecret>(), Err(BadSigningSecret::Prefix));
        for wrong in [of_length(25).replace('=', ""), of_length(24).replacen('B', "-", 1), "whsec_ä".to_owned()] {
            assert_eq!(wrong.parse::<SigningSecret>(), Err(BadSigningSecret::Encoding), "{wrong}");
        }
    }

    #[test]
    fn no_secret_shows_in_debug() {
        let secret: SigningSecret = of_length(24).parse().unwrap();
        let login = Login {
            url: TargetUrl::parse("https://h/login?k=hunter2").unwrap(),
            method: Method::POST,
            headers: HeaderMap::new(),
            body: vec![LoginField { name: "password".into(), value: Secret::new("hunter2"), is_bare: false }],
            token_attribute: "access_token".into(),
            scheme: "Bearer".into(),
        };
        let client = ClientCredentials {
            token_url: TargetUrl::parse("https://user:hunter2@h/token").unwrap(),
            client_id: "docrelay".into(),
            client_secret: Secret::new("hunter2"),
            scope: None,
        };
        let auths = [TokenSource::Login(login), TokenSource::ClientCredentials(client)];
        let shown = format!("{secret:?} {:?}", auths.map(|source| Auth::Token(source.into())));
        assert!(!shown.contains("hunter2") && !shown.contains("BwcH"), "{shown}");
    }
}
