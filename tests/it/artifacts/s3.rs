//! Amazon S3, as the server of the s3s crate does it: it checks signatures and expiry.

use std::{fs, time::Duration};

use docrelay::{
    artifacts::{ArtifactStore, SignError},
    domain::{Timestamp, now},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use reqwest::{Method, StatusCode};
use s3s::{auth::SimpleAuth, service::S3ServiceBuilder};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;

use super::{CONTENT, HOUR, ask, get, status, store, until_past, with_other_letter, with_parameter};

const KEY_ID: &str = "relay";
const KEY: &str = "hunter2hunter2";

/// A server with a bucket `exports`.
struct Server {
    url: String,
    _folder: TempDir,
}

impl Server {
    async fn start(objects: &[&str]) -> Self {
        let folder = TempDir::new().unwrap();
        for object in objects {
            let path = folder.path().join("exports").join(object);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, CONTENT).unwrap();
        }
        let mut service = S3ServiceBuilder::new(s3s_fs::FileSystem::new(folder.path()).unwrap());
        service.set_auth(SimpleAuth::from_single(KEY_ID, KEY));
        let service = service.build();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let tasks = TaskTracker::new();
        tasks.clone().spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (service, io) = (service.clone(), TokioIo::new(stream));
                tasks.spawn(async move {
                    auto::Builder::new(TokioExecutor::new()).serve_connection(io, service).await.ok()
                });
            }
        });
        Self { url, _folder: folder }
    }
}

fn exports(server: &Server, further: &[(&str, &str)]) -> ArtifactStore {
    let options = format!(
        "aws_access_key_id={KEY_ID},aws_secret_access_key={KEY},aws_endpoint={},aws_allow_http=true",
        server.url
    );
    let mut settings = vec![("ARTIFACTS__URL", "s3://exports/acme"), ("ARTIFACTS__OPTIONS", options.as_str())];
    settings.extend(further);
    store(&settings)
}

#[tokio::test]
async fn a_link_works_without_credentials_until_its_expiry_and_only_unchanged() {
    let server = Server::start(&["acme/report.pdf", "acme/other.pdf"]).await;
    let store = exports(&server, &[]);
    let sent_at = now();
    let link = store.sign("report.pdf", sent_at, HOUR).await.unwrap();
    let answer = get(&link.url).await;
    assert_eq!(answer.status(), StatusCode::OK, "{:?}", answer.text().await);
    assert_eq!(get(&link.url).await.bytes().await.unwrap(), CONTENT);
    let late = link.expires_at.to_unix().0 - sent_at.after(HOUR).to_unix().0;
    assert!((0..=5).contains(&late) && link.expires_at.to_unix().1 == 0, "{late} s");
    for changed in [
        with_other_letter(&link.url, "X-Amz-Signature"),
        with_parameter(&link.url, "X-Amz-Expires", "604800"),
        link.url.replace("report.pdf", "other.pdf"),
    ] {
        assert_eq!(status(&changed).await, StatusCode::FORBIDDEN, "{changed}");
    }
    assert_eq!(ask(Method::DELETE, &link.url).await.status(), StatusCode::FORBIDDEN);
    let short = store.sign("report.pdf", now(), Duration::from_secs(2)).await.unwrap();
    assert_eq!(status(&short.url).await, StatusCode::OK);
    until_past(short.expires_at).await;
    assert_eq!(status(&short.url).await, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn an_object_that_is_not_there_is_missing_and_strange_names_are_found() {
    let server = Server::start(&["acme/ü b/100% #&+=.pdf"]).await;
    let store = exports(&server, &[]);
    assert_eq!(store.sign("gone.pdf", now(), HOUR).await, Err(SignError::Missing));
    let link = store.sign("ü b/100% #&+=.pdf", now(), HOUR).await.unwrap();
    assert_eq!(get(&link.url).await.bytes().await.unwrap(), CONTENT, "{}", link.url);
}

#[tokio::test]
async fn no_link_promises_more_than_the_credentials_that_signed_it() {
    let server = Server::start(&["acme/report.pdf"]).await;
    let sent_at = now();
    let end = Timestamp::from_unix(sent_at.to_unix().0 + 600, 0).unwrap();
    let store = exports(&server, &[("ARTIFACTS__CREDENTIALS_EXPIRE", &end.to_rfc3339())]);
    assert!(store.warnings().concat().contains(&end.to_rfc3339()), "{:?}", store.warnings());
    let link = store.sign("report.pdf", sent_at, 24 * HOUR).await.unwrap();
    let early = end.to_unix().0 - link.expires_at.to_unix().0;
    assert!((0..=5).contains(&early), "{early} s");
    // Counted from when it was signed, which is a moment after `sent_at`: a date such as 20261126T173640Z.
    let value = |name: &str| link.url.split_once(name).unwrap().1.split('&').next().unwrap().to_owned();
    let digits = |at: std::ops::Range<usize>| value("X-Amz-Date=")[at].parse::<i64>().unwrap();
    let signed = digits(9..11) * 3600 + digits(11..13) * 60 + digits(13..15);
    let expires = signed + value("X-Amz-Expires=").parse::<i64>().unwrap();
    assert!((0..=5).contains(&(end.to_unix().0 - expires).rem_euclid(86_400)), "{}", link.url);
    let ended = store.sign("report.pdf", end, HOUR).await;
    assert!(matches!(ended, Err(SignError::Failed(_))), "{ended:?}");
}
