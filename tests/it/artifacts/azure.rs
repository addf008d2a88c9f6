//! Azure Blob Storage, as azurite does it.

use std::time::Duration;

use docrelay::{
    artifacts::{ArtifactStore, SignError},
    domain::now,
};
use object_store::{
    azure::{AzureAccessKey, AzureAuthorizer, AzureCredential},
    client::{HttpRequest, HttpRequestBody},
};
use reqwest::{Method, StatusCode, header};

use super::{CONTENT, HOUR, ask, get, status, store, until_past, with_other_letter, with_parameter};
use crate::support::azurite::Azurite;

/// What every azurite knows.
const ACCOUNT: &str = "devstoreaccount1";
const KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// An azurite with a container `exports` and these blobs in it; none where it is not installed.
async fn azurite(blobs: &[&str]) -> Option<Azurite> {
    let azurite = Azurite::start().await?;
    put(&azurite, "exports?restype=container", &[]).await;
    for blob in blobs {
        put(&azurite, &format!("exports/{blob}"), CONTENT).await;
    }
    Some(azurite)
}

async fn put(azurite: &Azurite, path: &str, body: &'static [u8]) {
    let url = format!("{}/{ACCOUNT}/{path}", azurite.url);
    let request = http::Request::put(&url)
        .header("x-ms-blob-type", "BlockBlob")
        .header("content-type", "application/pdf")
        .header("content-length", body.len());
    let mut request: HttpRequest = request.body(HttpRequestBody::empty()).unwrap();
    let key = AzureCredential::AccessKey(AzureAccessKey::try_new(KEY).unwrap());
    AzureAuthorizer::new(&key, ACCOUNT).try_authorize(&mut request).unwrap();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = client.put(&url).headers(request.headers().clone()).body(body).send().await.unwrap();
    let (status, text) = (answer.status(), answer.text().await.unwrap());
    assert_eq!(status, StatusCode::CREATED, "{path}: {text}");
}

fn exports(azurite: &Azurite, url: &str) -> ArtifactStore {
    let options = format!(
        "azure_storage_account_name={ACCOUNT},azure_storage_account_key={KEY},\
         azure_storage_endpoint={}/{ACCOUNT},azure_allow_http=true",
        azurite.url
    );
    store(&[("ARTIFACTS__URL", url), ("ARTIFACTS__OPTIONS", &options)])
}

#[tokio::test]
async fn a_link_works_without_credentials_until_its_expiry_and_only_unchanged() {
    let Some(azurite) = azurite(&["acme/report.pdf", "acme/other.pdf"]).await else { return };
    let store = exports(&azurite, "az://exports/acme");
    assert_eq!(store.warnings(), [""; 0]);
    let sent_at = now();
    let link = store.sign("report.pdf", sent_at, HOUR).await.unwrap();
    let answer = get(&link.url).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()[header::CONTENT_TYPE], "application/pdf");
    assert_eq!(answer.bytes().await.unwrap(), CONTENT);
    let late = link.expires_at.to_unix().0 - sent_at.after(HOUR).to_unix().0;
    assert!((0..=5).contains(&late) && link.expires_at.to_unix().1 == 0, "{late} s");
    for changed in [
        with_other_letter(&link.url, "sig"),
        with_parameter(&link.url, "se", "2099-01-01T00:00:00Z"),
        with_parameter(&link.url, "sp", "rw"),
        link.url.replace("report.pdf", "other.pdf"),
    ] {
        assert_eq!(status(&changed).await, StatusCode::FORBIDDEN, "{changed}");
    }
    // It reads, and nothing else.
    assert!(ask(Method::DELETE, &link.url).await.status().is_client_error());
    let short = store.sign("report.pdf", now(), Duration::from_secs(2)).await.unwrap();
    assert_eq!(status(&short.url).await, StatusCode::OK);
    until_past(short.expires_at).await;
    assert_eq!(status(&short.url).await, StatusCode::FORBIDDEN);
    assert_eq!(status(&link.url).await, StatusCode::OK);
}

#[tokio::test]
async fn a_blob_that_is_not_there_is_missing_and_strange_names_are_found() {
    let strange = "acme/%C3%BC%20b/100%25%20%23%26%2B%3D.pdf";
    let Some(azurite) = azurite(&["acme/report.pdf", strange]).await else { return };
    let store = exports(&azurite, "az://exports");
    assert_eq!(store.sign("acme/gone.pdf", now(), HOUR).await, Err(SignError::Missing));
    assert!(matches!(store.sign("../exports/acme/report.pdf", now(), HOUR).await, Err(SignError::BadPath(_))));
    let link = store.sign("acme/ü b/100% #&+=.pdf", now(), HOUR).await.unwrap();
    let answer = get(&link.url).await;
    assert_eq!(answer.status(), StatusCode::OK, "{}: {:?}", link.url, answer.text().await);
}

#[tokio::test]
async fn a_store_that_is_away_or_refuses_us_is_trouble_and_its_error_shows_no_key() {
    let Some(azurite) = azurite(&["report.pdf"]).await else { return };
    let wrong = "aHVudGVyMmh1bnRlcjI=";
    for endpoint in [azurite.url.as_str(), "http://127.0.0.1:1"] {
        let options = format!(
            "azure_storage_account_name={ACCOUNT},azure_storage_account_key={wrong},\
             azure_storage_endpoint={endpoint}/{ACCOUNT},azure_allow_http=true"
        );
        let store = store(&[("ARTIFACTS__URL", "az://exports"), ("ARTIFACTS__OPTIONS", &options)]);
        let failed = store.sign("report.pdf", now(), HOUR).await.unwrap_err();
        assert!(matches!(failed, SignError::Failed(_)), "{failed:?}");
        assert!(!format!("{failed} {failed:?} {store:?}").contains(wrong), "{failed}");
    }
}
