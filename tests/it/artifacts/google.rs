//! Google Cloud Storage. There is no emulator that checks signatures, so here its rules are checked by hand: the link is
//! verified against the service account's public key, over the request that Google's pages say is signed.

use aws_lc_rs::{
    digest,
    encoding::{AsDer, Pkcs8V1Der},
    rsa::{KeyPair, KeySize},
    signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey},
};
use axum::{Router, extract::Request, http::StatusCode};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use docrelay::{artifacts::SignError, domain::now};
use serde_json::json;
use tempfile::TempDir;
use tokio::net::TcpListener;
use url::Url;

use super::{HOUR, store};

/// A stand-in that knows one object by its encoded path.
async fn google() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let routes = Router::new().fallback(|request: Request| async move {
        let path = percent_encoding::percent_decode_str(request.uri().path()).decode_utf8().unwrap().into_owned();
        let found = path == "/exports/acme/ü b/100%?#.pdf";
        let status = if found && request.method() == "HEAD" { StatusCode::OK } else { StatusCode::NOT_FOUND };
        (status, [("last-modified", "Wed, 25 Nov 2026 12:00:00 GMT"), ("etag", "\"1\""), ("content-length", "0")])
    });
    tokio_util::task::TaskTracker::new().spawn(async move { axum::serve(listener, routes).await.unwrap() });
    url
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|digit| char::from_digit(digit.into(), 16).unwrap())
        .collect()
}

#[tokio::test]
async fn a_link_is_signed_by_googles_rules_for_the_hours_it_says() {
    let (google, folder) = (google().await, TempDir::new().unwrap());
    let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let der = AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).unwrap();
    let pem =
        format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", BASE64_STANDARD.encode(der.as_ref()));
    let account = json!({"private_key": pem, "private_key_id": "1", "client_email": "relay@example.iam", "type": "service_account"});
    let file = folder.path().join("account.json");
    std::fs::write(&file, account.to_string()).unwrap();
    let options = format!(
        "google_service_account={},google_base_url={google},google_bearer_token=x,allow_http=true",
        file.display()
    );
    let store = store(&[("ARTIFACTS__URL", "gs://exports/acme"), ("ARTIFACTS__OPTIONS", &options)]);
    assert_eq!(store.warnings(), [""; 0]);

    assert_eq!(store.sign("gone.pdf", now(), HOUR).await, Err(SignError::Missing));
    let sent_at = now();
    let link = store.sign("ü b/100%?#.pdf", sent_at, 168 * HOUR).await.unwrap();
    let late = link.expires_at.to_unix().0 - sent_at.after(168 * HOUR).to_unix().0;
    assert!((0..=5).contains(&late), "{late} s");

    let url = Url::parse(&link.url).unwrap();
    assert_eq!(url.path(), "/exports/acme/%C3%BC%20b/100%25%3F%23.pdf");
    let value = |name: &str| url.query_pairs().find(|(key, _)| key == name).unwrap().1.into_owned();
    assert_eq!(value("X-Goog-Expires"), (168 * 3600).to_string());
    let (query, signature) = url.query().unwrap().split_once("&X-Goog-Signature=").unwrap();
    let mut query: Vec<&str> = query.split('&').collect();
    query.sort_unstable();
    let request =
        format!("GET\n{}\n{}\nhost:storage.googleapis.com\n\nhost\nUNSIGNED-PAYLOAD", url.path(), query.join("&"));
    let scope = value("X-Goog-Credential").split_once('/').unwrap().1.to_owned();
    let hash = hex(digest::digest(&digest::SHA256, request.as_bytes()).as_ref());
    let signed = format!("GOOG4-RSA-SHA256\n{}\n{scope}\n{hash}", value("X-Goog-Date"));
    let signature: Vec<u8> =
        (0..signature.len()).step_by(2).map(|at| u8::from_str_radix(&signature[at..at + 2], 16).unwrap()).collect();
    let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, pair.public_key().as_ref());
    public.verify(signed.as_bytes(), &signature).unwrap();
}

#[tokio::test]
async fn without_a_service_accounts_key_no_link_is_promised_for_longer_than_twelve_hours() {
    let store = store(&[("ARTIFACTS__URL", "gs://exports"), ("ARTIFACTS__OPTIONS", "google_bearer_token=x")]);
    assert!(store.warnings().concat().contains("12 hours"));
}
