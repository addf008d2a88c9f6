//! Serves the files of the local folder to whoever has a link. Never a list of them, and never a word about a file to
//! anybody without a link to it.

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use futures_util::StreamExt as _;
use percent_encoding::percent_decode_str;
use tokio::{
    io::AsyncReadExt as _,
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::io::ReaderStream;

use super::{
    ArtifactStore, Place,
    folder::{FindError, Folder, Found},
    path::ArtifactPath,
};
use crate::domain::Timestamp;

/// Downloads at once. Each holds a file open and a buffer of 64 KiB.
const MOST_DOWNLOADS: usize = 256;

/// How much of a file is read at once.
const BUFFER_BYTES: usize = 64 * 1024;

/// The routes that links into a local folder lead to; none for the other stores, which serve their files themselves.
/// Whether a link has expired is told by `clock`.
pub fn router<C>(store: &ArtifactStore, clock: C) -> Option<Router>
where
    C: Fn() -> Timestamp + Clone + Send + Sync + 'static,
{
    let folder = match &store.place {
        Place::Folder(folder) => folder.clone(),
        Place::Cloud(_) => return None,
    };
    let route = format!("{}/{{*path}}", folder.public_path());
    let desk = Desk { folder, clock, downloads: Arc::new(Semaphore::new(MOST_DOWNLOADS)) };
    // The path is the operator's, whatever its segments begin with.
    Some(Router::new().without_v07_checks().route(&route, get(download::<C>)).with_state(desk))
}

#[derive(Clone)]
struct Desk<C> {
    folder: Folder,
    clock: C,
    downloads: Arc<Semaphore>,
}

async fn download<C: Fn() -> Timestamp>(State(desk): State<Desk<C>>, request: Request) -> Response {
    let asked = request.uri();
    let path = path_of(asked.path(), desk.folder.public_path());
    let permitted = path.filter(|path| desk.folder.permits(path, asked.query().unwrap_or_default(), (desk.clock)()));
    let Some(path) = permitted else {
        return refuse(StatusCode::FORBIDDEN, "This link has expired, or it is not as it was made.\n");
    };
    let Ok(permit) = desk.downloads.try_acquire_owned() else {
        return refuse(StatusCode::SERVICE_UNAVAILABLE, "Too many downloads at once; try again.\n");
    };
    match desk.folder.open(&path).await {
        Ok(found) => answer(&path, found, permit),
        Err(FindError::Missing) => refuse(StatusCode::NOT_FOUND, "The file is not there any more.\n"),
        Err(FindError::Failed(error)) => {
            tracing::warn!(path = path.as_str(), %error, "A file could not be served");
            refuse(StatusCode::INTERNAL_SERVER_ERROR, "The file cannot be read.\n")
        }
    }
}

/// The file's path in the path of a URL. What is none is refused like any link that was changed.
fn path_of(path: &str, prefix: &str) -> Option<ArtifactPath> {
    let rest = path.strip_prefix(prefix)?.strip_prefix('/')?;
    let decoded = percent_decode_str(rest).decode_utf8().ok()?;
    ArtifactPath::parse(&decoded).ok()
}

fn answer(path: &ArtifactPath, found: Found, permit: OwnedSemaphorePermit) -> Response {
    let Found { file, length } = found;
    // Never more than was announced, although the file may grow. The permit lives as long as the stream.
    let stream = ReaderStream::with_capacity(file.take(length), BUFFER_BYTES).inspect(move |_| {
        let _held = &permit;
    });
    let more = [
        (header::CONTENT_TYPE, HeaderValue::from_static(content_type(path))),
        (header::CONTENT_LENGTH, HeaderValue::from(length)),
        (header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment")),
    ];
    (headers(), more, Body::from_stream(stream)).into_response()
}

fn refuse(status: StatusCode, text: &'static str) -> Response {
    (status, headers(), text).into_response()
}

/// What every answer says: it is for one receiver, and it is data, whatever a browser thinks of it.
fn headers() -> [(HeaderName, HeaderValue); 2] {
    [
        (header::CACHE_CONTROL, HeaderValue::from_static("private, no-store")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ]
}

fn content_type(path: &ArtifactPath) -> &'static str {
    let name = path.as_str().rsplit('/').next().unwrap_or_default();
    let extension = name.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase());
    match extension.as_deref() {
        Some("pdf") => "application/pdf",
        Some("jpg" | "jpeg") => "image/jpeg",
        Some("png") => "image/png",
        _ => "application/octet-stream",
    }
}
