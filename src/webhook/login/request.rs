//! The request that asks for a token. Pure; it sends nothing.

use base64::{Engine, prelude::BASE64_STANDARD};
use http::{
    HeaderMap, HeaderValue, Method,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, USER_AGENT},
};
use serde_json::Value;
use url::form_urlencoded::{self, byte_serialize};

use crate::{
    domain::{ClientCredentials, Login, LoginField, TokenSource},
    webhook::request::{OUR_USER_AGENT, move_credentials},
};

const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json";

/// The request that gets a token from `source`.
pub(super) fn build(source: &TokenSource) -> reqwest::Request {
    match source {
        TokenSource::Login(login) => of_login(login),
        TokenSource::ClientCredentials(client) => of_client(client),
    }
}

fn of_login(login: &Login) -> reqwest::Request {
    let mut url = login.url.as_url().clone();
    let (mut headers, mut body) = (login.headers.clone(), None);
    if login.body.is_empty() {
        // Nothing is sent: `?` at the end of a URL would be something.
    } else if login.method == Method::GET {
        url.query_pairs_mut().extend_pairs(pairs(&login.body));
    } else if is_form(&headers) {
        body = Some(form(pairs(&login.body)));
    } else {
        headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static(JSON));
        body = Some(json(&login.body));
    }
    headers.entry(ACCEPT).or_insert(HeaderValue::from_static(JSON));
    headers.entry(USER_AGENT).or_insert(HeaderValue::from_static(OUR_USER_AGENT));
    move_credentials(&mut url, &mut headers);

    let mut request = reqwest::Request::new(login.method.clone(), url);
    *request.headers_mut() = headers;
    *request.body_mut() = body.map(Into::into);
    request
}

/// RFC 6749, 4.4.2: the grant's name and scope as a form, the client by basic credentials (2.3.1).
fn of_client(client: &ClientCredentials) -> reqwest::Request {
    let mut headers = HeaderMap::new();
    let encoded = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
    let plain = format!("{}:{}", encoded(&client.client_id), encoded(client.client_secret.reveal()));
    // Base64 always is a header's value.
    if let Ok(mut value) = HeaderValue::from_str(&format!("Basic {}", BASE64_STANDARD.encode(plain))) {
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(FORM));
    headers.insert(ACCEPT, HeaderValue::from_static(JSON));
    headers.insert(USER_AGENT, HeaderValue::from_static(OUR_USER_AGENT));
    let mut url = client.token_url.as_url().clone();
    move_credentials(&mut url, &mut headers);

    let grant = ("grant_type", "client_credentials");
    let scope = client.scope.as_deref().map(|scope| ("scope", scope));
    let mut request = reqwest::Request::new(Method::POST, url);
    *request.headers_mut() = headers;
    *request.body_mut() = Some(form([grant].into_iter().chain(scope)).into());
    request
}

/// Whether the headers say that the body is a form; a parameter such as `charset` makes no difference.
fn is_form(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    content_type.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(FORM)
}

fn pairs(fields: &[LoginField]) -> impl Iterator<Item = (&str, &str)> {
    fields.iter().map(|field| (field.name.as_str(), field.value.reveal()))
}

fn form<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

fn json(fields: &[LoginField]) -> String {
    let value = |field: &LoginField| {
        let text = field.value.reveal();
        let bare = if field.is_bare { text.parse().ok() } else { None };
        bare.unwrap_or_else(|| Value::from(text))
    };
    Value::Object(fields.iter().map(|field| (field.name.clone(), value(field))).collect()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Secret, TargetUrl};

    fn field(name: &str, value: &str) -> LoginField {
        LoginField { name: name.into(), value: Secret::new(value), is_bare: false }
    }

    fn login(method: &str, url: &str, content_type: Option<&str>, body: Vec<LoginField>) -> Login {
        let content_type = content_type.map(|value| (CONTENT_TYPE, value.parse().unwrap()));
        Login {
            url: TargetUrl::parse(url).unwrap(),
            method: method.parse().unwrap(),
            headers: content_type.into_iter().collect(),
            body,
            token_attribute: "access_token".into(),
            scheme: "Bearer".into(),
        }
    }

    fn sent(source: &TokenSource) -> (String, Option<String>, String) {
        let request = build(source);
        let body = request.body().map(|body| String::from_utf8(body.as_bytes().unwrap().to_vec()).unwrap());
        let content_type = request.headers().get(CONTENT_TYPE).map_or("", |value| value.to_str().unwrap()).to_owned();
        (format!("{} {}", request.method(), request.url()), body, content_type)
    }

    #[test]
    fn a_body_is_a_form_where_the_headers_say_so_and_json_otherwise_and_with_get_a_query() {
        let root = || vec![field("username", "root"), field("password", "root")];
        let odd = || vec![field("user name", "r&t=1 +ção"), field("p/", "\"q\"")];
        let bare = || vec![field("pin", "0042"), LoginField { is_bare: true, ..field("remember", "true") }];
        let (form, as_json) = ("username=root&password=root", r#"{"username":"root","password":"root"}"#);
        let odd_form = "user+name=r%26t%3D1+%2B%C3%A7%C3%A3o&p%2F=%22q%22";
        let upper = "Application/X-WWW-Form-URLencoded; charset=utf-8";
        let table = [
            ("POST", "https://h/login", Some(FORM), root(), "POST https://h/login", Some(form), FORM),
            ("PUT", "https://h/login", Some(upper), odd(), "PUT https://h/login", Some(odd_form), upper),
            ("POST", "https://h/login", None, root(), "POST https://h/login", Some(as_json), JSON),
            ("POST", "https://h/", Some(JSON), root(), "POST https://h/", Some(as_json), JSON),
            (
                "DELETE",
                "https://h/",
                Some("application/vnd.x+json"),
                bare(),
                "DELETE https://h/",
                Some(r#"{"pin":"0042","remember":true}"#),
                "application/vnd.x+json",
            ),
            ("POST", "https://h/", Some(FORM), bare(), "POST https://h/", Some("pin=0042&remember=true"), FORM),
            ("GET", "https://h/?a=1", None, odd(), &format!("GET https://h/?a=1&{odd_form}"), None, ""),
            ("GET", "https://h/", Some(FORM), root(), &format!("GET https://h/?{form}"), None, FORM),
            ("GET", "https://h/", None, vec![], "GET https://h/", None, ""),
            ("POST", "https://h/", None, vec![], "POST https://h/", None, ""),
        ];
        for (method, url, content_type, body, line, expected, expected_type) in table {
            let (found, body, found_type) = sent(&TokenSource::Login(login(method, url, content_type, body)));
            assert_eq!((found.as_str(), body.as_deref(), found_type.as_str()), (line, expected, expected_type));
        }
    }

    #[test]
    fn a_login_has_the_headers_it_says_and_ours_where_it_says_nothing() {
        let mut with = login("POST", "https://us%20er:p%40ss@h/", None, vec![]);
        let request = build(&TokenSource::Login(with.clone()));
        assert_eq!(request.headers()[ACCEPT], JSON);
        assert_eq!(request.headers()[USER_AGENT], OUR_USER_AGENT);
        assert_eq!(request.headers()[AUTHORIZATION], "Basic dXMgZXI6cEBzcw==");
        assert_eq!(request.url().as_str(), "https://h/");
        for (name, value) in [(ACCEPT, "*/*"), (USER_AGENT, "theirs"), (AUTHORIZATION, "Key x")] {
            with.headers.insert(name, HeaderValue::from_static(value));
        }
        let request = build(&TokenSource::Login(with.clone()));
        assert_eq!(*request.headers(), with.headers);
    }

    #[test]
    fn a_client_shows_itself_by_basic_credentials_that_are_encoded_first() {
        let mut client = ClientCredentials {
            token_url: TargetUrl::parse("https://h/token").unwrap(),
            client_id: "doc:relay".into(),
            client_secret: Secret::new("p@ss ü"),
            scope: None,
        };
        let request = build(&TokenSource::ClientCredentials(client.clone()));
        let expected = format!("Basic {}", BASE64_STANDARD.encode("doc%3Arelay:p%40ss+%C3%BC"));
        assert_eq!(request.headers()[AUTHORIZATION], expected.as_str());
        assert!(request.headers()[AUTHORIZATION].is_sensitive());
        let line = "POST https://h/token".to_owned();
        let body = "grant_type=client_credentials".to_owned();
        assert_eq!(sent(&TokenSource::ClientCredentials(client.clone())), (line.clone(), Some(body), FORM.to_owned()));
        client.scope = Some("read write".into());
        let body = "grant_type=client_credentials&scope=read+write".to_owned();
        assert_eq!(sent(&TokenSource::ClientCredentials(client)), (line, Some(body), FORM.to_owned()));
    }
}
