//! Reads how a subscription shows who it is: a fixed `Authorization`, a login, an `OAuth` 2 client, signing secrets. No value
//! of them is ever repeated in a problem.

use http::{HeaderMap, HeaderValue, Method};
use saphyr::Scalar;

use super::{
    fields::{At, Names, Table},
    target,
    yaml::{Kind, Notes},
};
use crate::domain::{
    Auth, ClientCredentials, Login, LoginField, MAX_SIGNING_SECRETS, Secret, SigningSecret, TokenSource,
};

const AUTH: Names = Names { known: &["authorization", "login", "oauth2"], later: &[], read_only: &[] };

const LOGIN: Names =
    Names { known: &["url", "method", "headers", "body", "token_attribute", "scheme"], later: &[], read_only: &[] };

const OAUTH2: Names =
    Names { known: &["token_url", "client_id", "client_secret", "scope"], later: &[], read_only: &[] };

/// What `auth` says.
#[derive(Default)]
pub(super) struct Given {
    /// Sent as it is; it wins over a login, which then is not called.
    pub(super) authorization: Option<HeaderValue>,
    /// Where the `Authorization` comes from.
    pub(super) auth: Auth,
}

/// The `auth` of a subscription.
pub(super) fn auth(subscription: &Table<'_>, notes: &mut Notes) -> Option<Given> {
    let Some(at) = subscription.get("auth") else { return Some(Given::default()) };
    let table = at.table(notes)?;
    table.check_names(&AUTH, notes);
    // Read before anything is decided, so that all problems are told.
    let authorization = table.get("authorization").map(|at| authorization(&at, notes));
    let login = table.get("login").map(|at| login(&at, notes));
    let client = table.get("oauth2").map(|at| client_credentials(&at, notes));
    let source = match (login, client) {
        (Some(_), Some(_)) => {
            at.problem(notes, "login and oauth2 exclude each other: leave one of them out");
            return None;
        }
        (Some(login), None) => Some(TokenSource::Login(login?)),
        (None, Some(client)) => Some(TokenSource::ClientCredentials(client?)),
        (None, None) => None,
    };
    match (authorization, source) {
        (Some(value), _) => Some(Given { authorization: Some(value?), auth: Auth::Fixed }),
        (None, Some(source)) => Some(Given { authorization: None, auth: Auth::Token(source.into()) }),
        (None, None) => {
            at.problem(notes, "expected authorization, login or oauth2");
            None
        }
    }
}

fn authorization(at: &At<'_>, notes: &mut Notes) -> Option<HeaderValue> {
    let mut value = target::header_value(at, notes)?;
    value.set_sensitive(true);
    Some(value)
}

fn login(at: &At<'_>, notes: &mut Notes) -> Option<Login> {
    let table = at.table(notes)?;
    table.check_names(&LOGIN, notes);
    let url = table.required("url", notes).and_then(|at| target::url(&at, false, notes));
    let method = table.get("method").map_or(Some(Method::POST), |at| method(&at, notes));
    let headers = table.get("headers").map_or_else(|| Some(HeaderMap::new()), |at| headers(&at, notes));
    let body = table.get("body").map_or_else(|| Some(Vec::new()), |at| body(&at, notes));
    let token_attribute = table.get("token_attribute").map_or(Some("access_token"), |at| at.text(notes));
    let scheme = table.get("scheme").map_or(Some("Bearer"), |at| scheme(&at, notes));
    Some(Login {
        url: url?,
        method: method?,
        headers: headers?,
        body: body?,
        token_attribute: token_attribute?.to_owned(),
        scheme: scheme?.to_owned(),
    })
}

fn method(at: &At<'_>, notes: &mut Notes) -> Option<Method> {
    let method = target::method(at, notes)?;
    if method == Method::HEAD {
        at.problem(notes, "HEAD gets no answer that could have a token");
        return None;
    }
    Some(method)
}

fn headers(at: &At<'_>, notes: &mut Notes) -> Option<HeaderMap> {
    let headers = target::headers(at, notes)?;
    target::check_size(&headers, at, notes)?;
    Some(headers)
}

/// The fields of a login's body. Numbers and claims stay what they are where JSON is sent.
fn body(at: &At<'_>, notes: &mut Notes) -> Option<Vec<LoginField>> {
    let table = at.table(notes)?;
    table.check_repeats(notes);
    let (mut fields, mut sound) = (Vec::new(), true);
    for (name, at) in table.each() {
        let (value, is_bare) = match &at.node.kind {
            Kind::Scalar(Scalar::String(text)) => (text.to_string(), false),
            Kind::Scalar(Scalar::Integer(number)) => (number.to_string(), true),
            Kind::Scalar(Scalar::Boolean(claim)) => (claim.to_string(), true),
            _ => {
                at.expected(notes, "text, a whole number, true or false");
                sound = false;
                continue;
            }
        };
        fields.push(LoginField { name: name.to_owned(), value: Secret::new(value), is_bare });
    }
    sound.then_some(fields)
}

/// What stands before the token; empty for the bare token.
fn scheme<'a>(at: &At<'a>, notes: &mut Notes) -> Option<&'a str> {
    if let Kind::Scalar(Scalar::String(text)) = &at.node.kind
        && text.is_empty()
    {
        return Some("");
    }
    target::header_value(at, notes)?;
    at.text(notes)
}

fn client_credentials(at: &At<'_>, notes: &mut Notes) -> Option<ClientCredentials> {
    let table = at.table(notes)?;
    table.check_names(&OAUTH2, notes);
    let token_url = table.required("token_url", notes).and_then(|at| target::url(&at, false, notes));
    let client_id = table.required("client_id", notes).and_then(|at| at.text(notes));
    let client_secret = table.required("client_secret", notes).and_then(|at| at.text(notes));
    let scope = table.get("scope").map(|at| at.text(notes));
    Some(ClientCredentials {
        token_url: token_url?,
        client_id: client_id?.to_owned(),
        client_secret: Secret::new(client_secret?),
        scope: match scope {
            Some(scope) => Some(scope?.to_owned()),
            None => None,
        },
    })
}

/// What signs a subscription's requests.
pub(super) fn signing_secrets(subscription: &Table<'_>, notes: &mut Notes) -> Option<Vec<SigningSecret>> {
    let Some(at) = subscription.get("signing_secrets") else { return Some(Vec::new()) };
    let (mut secrets, mut count) = (Vec::new(), 0);
    for item in at.items(notes)? {
        count += 1;
        secrets.extend(item.parsed(notes));
    }
    if count > MAX_SIGNING_SECRETS {
        at.problem(notes, format!("at most {MAX_SIGNING_SECRETS} secrets, got {count}"));
        return None;
    }
    (secrets.len() == count).then_some(secrets)
}

#[cfg(test)]
mod tests;
