//! A local folder, served by docrelay.

use std::{
    fs,
    sync::{Arc, Mutex},
    time::Duration,
};

use docrelay::{
    api::{self, Server},
    artifacts::{ArtifactStore, SignError, serve},
    domain::{Timestamp, now},
};
use reqwest::{Method, StatusCode, header};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{CONTENT, HOUR, ask, get, settings, status, with_other_letter, with_parameter};
use crate::support::service::Surroundings;

const KEY: &str = "one:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
const OTHER_KEY: &str = "two:QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY=";

/// A folder that is served, by a clock that the test sets.
struct Served {
    folder: TempDir,
    store: ArtifactStore,
    clock: Arc<Mutex<Timestamp>>,
    /// What links begin with.
    base: String,
    stop: CancellationToken,
}

impl Served {
    async fn start() -> Self {
        // The service's own address is part of the settings: look for a free one first.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let folder = TempDir::new().unwrap();
        let (clock, stop) = (Arc::new(Mutex::new(now())), CancellationToken::new());
        let base = format!("http://{free}/artifacts");
        let config = config(&folder, &base, &free.to_string(), KEY);
        let store = ArtifactStore::from_config(&config.artifacts).unwrap().unwrap();
        let read = Arc::clone(&clock);
        let routes = api::routes(None, serve::router(&store, move || *read.lock().unwrap()));
        let server = Server::bind(free).await.unwrap();
        let stopped = stop.clone();
        TaskTracker::new().spawn(async move { server.serve(routes, stopped).await });
        Self { folder, store, clock, base, stop }
    }

    fn write(&self, path: &str) {
        let path = self.folder.path().join("files").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, CONTENT).unwrap();
    }

    async fn link(&self, path: &str) -> String {
        self.store.sign(path, self.now(), HOUR).await.unwrap().url
    }

    fn now(&self) -> Timestamp {
        *self.clock.lock().unwrap()
    }

    fn set_clock(&self, now: Timestamp) {
        *self.clock.lock().unwrap() = now;
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn config(folder: &TempDir, base: &str, listen: &str, keys: &str) -> docrelay::config::Config {
    let files = folder.path().join("files");
    fs::create_dir_all(&files).unwrap();
    let url = format!("file://{}", files.display());
    settings(&[
        ("ARTIFACTS__URL", &url),
        ("ARTIFACTS__PUBLIC_URL", base),
        ("ARTIFACTS__SIGNING_KEYS", keys),
        ("API__LISTEN", listen),
    ])
}

#[tokio::test]
async fn a_link_gives_the_file_with_its_type_and_needs_no_other_credential() {
    let served = Served::start().await;
    for (path, content_type) in [
        ("acme/report.pdf", "application/pdf"),
        ("acme/page.JPG", "image/jpeg"),
        ("acme/page.jpeg", "image/jpeg"),
        ("acme/page.png", "image/png"),
        ("acme/page.html", "application/octet-stream"),
        ("pdf", "application/octet-stream"),
        ("acme/ü b/100% ?#&=+.pdf", "application/pdf"),
    ] {
        served.write(path);
        let link = served.link(path).await;
        let answer = get(&link).await;
        assert_eq!(answer.status(), StatusCode::OK, "{link}");
        let headers = answer.headers().clone();
        assert_eq!(headers[header::CONTENT_TYPE], content_type);
        assert_eq!(headers[header::CONTENT_LENGTH], CONTENT.len().to_string());
        assert_eq!(headers[header::CONTENT_DISPOSITION], "attachment");
        assert_eq!(headers[header::CACHE_CONTROL], "private, no-store");
        assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
        assert_eq!(answer.bytes().await.unwrap(), CONTENT);
    }
    let link = served.link("acme/report.pdf").await;
    let head = ask(Method::HEAD, &link).await;
    assert_eq!(head.status(), StatusCode::OK);
    assert_eq!(head.headers()[header::CONTENT_LENGTH], CONTENT.len().to_string());
    for method in [Method::POST, Method::PUT, Method::DELETE] {
        assert_eq!(ask(method, &link).await.status(), StatusCode::METHOD_NOT_ALLOWED);
    }
}

#[tokio::test]
async fn a_link_works_until_its_expiry_and_answers_403_from_then_on() {
    let served = Served::start().await;
    served.write("a.pdf");
    let sent_at = Timestamp::from_unix(1_900_000_000, 700_000_000).unwrap();
    served.set_clock(sent_at);
    let link = served.store.sign("a.pdf", sent_at, 24 * HOUR).await.unwrap();
    // The time of sending plus the configured hours, in whole seconds.
    assert_eq!(link.expires_at.to_unix(), (1_900_000_000 + 24 * 3600, 0));
    let last = Timestamp::from_unix(1_900_000_000 + 24 * 3600 - 1, 999_999_999).unwrap();
    for (at, expected) in [(sent_at, StatusCode::OK), (last, StatusCode::OK), (link.expires_at, StatusCode::FORBIDDEN)]
    {
        served.set_clock(at);
        assert_eq!(status(&link.url).await, expected, "{at:?}");
    }
    served.set_clock(link.expires_at.after(HOUR));
    assert_eq!(status(&link.url).await, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_link_that_was_changed_is_refused_whether_the_file_is_there_or_not() {
    let served = Served::start().await;
    served.write("acme/a.pdf");
    served.write("acme/b.pdf");
    let link = served.link("acme/a.pdf").await;
    let (address, query) = link.split_once('?').unwrap();
    for changed in [
        with_other_letter(&link, "signature"),
        with_parameter(&link, "signature", ""),
        with_parameter(&link, "expires", "4000000000"),
        with_parameter(&link, "key", "two"),
        link.replace("a.pdf", "b.pdf"),
        link.replace("a.pdf", "gone.pdf"),
        link.replace("acme/", "acme//"),
        link.replace("a.pdf", "a.pdf/"),
        link.replace("a.pdf", "a%FF.pdf"),
        address.to_owned(),
        format!("{address}?"),
        format!("{link}&more=1"),
        format!("{}/acme?{query}", served.base),
    ] {
        assert_eq!(status(&changed).await, StatusCode::FORBIDDEN, "{changed}");
    }
    // Clients tidy up paths before they ask, so these are written by hand.
    let (_, path) = link.split_once("/artifacts/acme/a.pdf").unwrap();
    for changed in [
        "acme/./a.pdf",
        "acme/../acme/a.pdf",
        "acme/x/%2e%2e/a.pdf",
        "../artifacts/acme/a.pdf",
        "acme%2f..%2facme%2fa.pdf",
    ] {
        let answer = raw(&served, &format!("/artifacts/{changed}{path}")).await;
        assert!(answer.starts_with("HTTP/1.1 403"), "{changed}: {answer}");
    }
    assert!(raw(&served, &format!("/artifacts/acme/a.pdf{path}")).await.starts_with("HTTP/1.1 200"));
    assert_eq!(status(&link).await, StatusCode::OK);
}

/// The beginning of the answer to a request whose path is sent as it stands here.
async fn raw(served: &Served, path: &str) -> String {
    let address = served.base.trim_start_matches("http://").split('/').next().unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: relay\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_file_that_is_gone_is_404_and_gets_no_new_link() {
    let served = Served::start().await;
    served.write("acme/a.pdf");
    let link = served.link("acme/a.pdf").await;
    fs::remove_file(served.folder.path().join("files/acme/a.pdf")).unwrap();
    assert_eq!(status(&link).await, StatusCode::NOT_FOUND);
    for path in ["acme/a.pdf", "acme", "acme/a.pdf/b", &"a".repeat(300)] {
        assert_eq!(served.store.sign(path, now(), HOUR).await, Err(SignError::Missing), "{path}");
    }
    // The folder itself is trouble, not a missing file.
    fs::remove_dir_all(served.folder.path().join("files")).unwrap();
    assert!(matches!(served.store.sign("acme/a.pdf", now(), HOUR).await, Err(SignError::Failed(_))));
    assert_eq!(status(&link).await, StatusCode::INTERNAL_SERVER_ERROR);
}

#[tokio::test]
async fn nothing_outside_the_folder_is_ever_served() {
    let served = Served::start().await;
    served.write("acme/a.pdf");
    let files = served.folder.path().join("files");
    fs::write(served.folder.path().join("secret.pdf"), "secret").unwrap();
    for path in ["../secret.pdf", "acme/../../secret.pdf", "/etc/passwd", "acme/./a.pdf", ""] {
        assert!(matches!(served.store.sign(path, now(), HOUR).await, Err(SignError::BadPath(_))), "{path}");
    }
    std::os::unix::fs::symlink("../secret.pdf", files.join("outside.pdf")).unwrap();
    std::os::unix::fs::symlink("..", files.join("up")).unwrap();
    std::os::unix::fs::symlink("acme/a.pdf", files.join("inside.pdf")).unwrap();
    for path in ["outside.pdf", "up/secret.pdf", "acme"] {
        assert_eq!(served.store.sign(path, now(), HOUR).await, Err(SignError::Missing), "{path}");
    }
    assert_eq!(status(&served.link("inside.pdf").await).await, StatusCode::OK);
    // One that is put in the place of a file after the link was made.
    let link = served.link("acme/a.pdf").await;
    fs::remove_file(files.join("acme/a.pdf")).unwrap();
    std::os::unix::fs::symlink("../../secret.pdf", files.join("acme/a.pdf")).unwrap();
    assert_eq!(status(&link).await, StatusCode::NOT_FOUND);
    for path in ["", "/", "/acme", "/acme/"] {
        let answer = status(&format!("{}{path}", served.base)).await;
        assert!(matches!(answer, StatusCode::FORBIDDEN | StatusCode::NOT_FOUND), "{path}: {answer}");
    }
}

#[tokio::test]
async fn a_file_is_streamed_whole_however_large_it_is() {
    let served = Served::start().await;
    let large: Vec<u8> = (0..3_000_001u32).map(|byte| u8::try_from(byte % 251).unwrap()).collect();
    fs::write(served.folder.path().join("files/large.pdf"), &large).unwrap();
    assert!(get(&served.link("large.pdf").await).await.bytes().await.unwrap() == large);
    fs::write(served.folder.path().join("files/empty.pdf"), "").unwrap();
    assert_eq!(get(&served.link("empty.pdf").await).await.bytes().await.unwrap(), "");
}

#[tokio::test]
async fn the_running_service_serves_links_that_any_replica_with_its_keys_has_made() {
    let folder = TempDir::new().unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let (base, keys) = (format!("http://{free}/:files/*of/relay/"), format!("{OTHER_KEY},{KEY}"));
    let older = ArtifactStore::from_config(&config(&folder, &base, &free, KEY).artifacts).unwrap().unwrap();
    fs::write(folder.path().join("files/a.pdf"), CONTENT).unwrap();
    let url = format!("file://{}", folder.path().join("files").display());
    let surroundings = Surroundings::with(&[
        ("ARTIFACTS__URL", &url),
        ("ARTIFACTS__PUBLIC_URL", &base),
        ("ARTIFACTS__SIGNING_KEYS", &keys),
        ("API__LISTEN", &free),
    ])
    .await;
    let service = surroundings.start().await;
    assert_eq!(service.api.unwrap().to_string(), free);
    let link = older.sign("a.pdf", now(), HOUR).await.unwrap();
    assert_eq!(get(&link.url).await.bytes().await.unwrap(), CONTENT);
    let late = older.sign("a.pdf", now(), Duration::from_secs(1)).await.unwrap();
    super::until_past(late.expires_at).await;
    assert_eq!(status(&late.url).await, StatusCode::FORBIDDEN);
    surroundings.end(service, &[]).await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    assert!(client.get(&link.url).send().await.unwrap_err().is_connect());
}
