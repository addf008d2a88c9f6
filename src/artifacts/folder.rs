//! The local folder: files of this machine, or mounted on it, with links that docrelay signs and serves itself.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::fs::{self, File};

use super::{BadStore, SignError, SignedLink, path::ArtifactPath, signature::KeyRing};
use crate::{config::ArtifactsConfig, domain::Timestamp};

/// A folder with exported files.
#[derive(Debug, Clone)]
pub(super) struct Folder(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    keys: KeyRing,
    /// What links begin with, without a slash at the end.
    public_url: String,
    /// The path of that.
    public_path: String,
}

/// Why a file cannot be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum FindError {
    /// There is no such file below the folder.
    #[error("there is no such file")]
    Missing,
    /// It cannot be looked at.
    #[error("{0}")]
    Failed(#[from] io::Error),
}

/// An open file, and how long it is.
#[derive(Debug)]
pub(super) struct Found {
    /// The file.
    pub(super) file: File,
    /// Its bytes.
    pub(super) length: u64,
}

impl Folder {
    /// The folder of the settings. It may come into being later.
    ///
    /// # Errors
    /// When a setting is missing.
    pub(super) fn new(root: &Path, config: &ArtifactsConfig) -> Result<Self, BadStore> {
        let url = config.public_url.as_ref();
        let url = url.ok_or_else(|| BadStore("artifacts.public_url is empty".to_owned()))?;
        let keys = KeyRing::new(&config.signing_keys)?;
        let public_url = url.as_str().trim_end_matches('/').to_owned();
        let public_path = url.path().trim_end_matches('/').to_owned();
        Ok(Self(Arc::new(Inner { root: root.to_owned(), keys, public_url, public_path })))
    }

    /// A link to a file that is there.
    ///
    /// # Errors
    /// When it is not there, or cannot be looked at.
    pub(super) async fn sign(
        &self,
        path: &ArtifactPath,
        now: Timestamp,
        valid_for: Duration,
    ) -> Result<SignedLink, SignError> {
        self.locate(path).await.map_err(|error| match error {
            FindError::Missing => SignError::Missing,
            FindError::Failed(error) => SignError::Failed(format!("the file cannot be looked at: {error}")),
        })?;
        let seconds = u64::try_from(now.after(valid_for).to_unix().0).unwrap_or(0);
        let expires_at = i64::try_from(seconds).ok().and_then(|seconds| Timestamp::from_unix(seconds, 0));
        let expires_at = expires_at.ok_or_else(|| SignError::Failed("the expiry is beyond all time".to_owned()))?;
        let url = format!("{}/{}?{}", self.0.public_url, path.encoded(), self.0.keys.query(path, seconds));
        Ok(SignedLink { url, expires_at })
    }

    /// Whether a link to `path` with this query is one of ours and works at `now`.
    pub(super) fn permits(&self, path: &ArtifactPath, query: &str, now: Timestamp) -> bool {
        self.0.keys.permits(path, query, now)
    }

    /// What whoever runs the service should know.
    pub(super) fn warning(&self) -> Option<String> {
        let root = &self.0.root;
        (!root.is_dir())
            .then(|| format!("there is no folder {} (artifacts.url) now: no links can be made", root.display()))
    }

    /// The path that links have before that of the file.
    pub(super) fn public_path(&self) -> &str {
        &self.0.public_path
    }

    /// Opens a file.
    ///
    /// # Errors
    /// When it is not there, or cannot be read.
    pub(super) async fn open(&self, path: &ArtifactPath) -> Result<Found, FindError> {
        let file = File::open(self.locate(path).await?).await.map_err(not_there)?;
        let metadata = file.metadata().await?;
        // It may have been replaced since.
        if metadata.is_file() { Ok(Found { file, length: metadata.len() }) } else { Err(FindError::Missing) }
    }

    /// Where a file really is. Links within the folder are followed; what leads outside is not there.
    async fn locate(&self, path: &ArtifactPath) -> Result<PathBuf, FindError> {
        let root = fs::canonicalize(&self.0.root).await?;
        let real = fs::canonicalize(path.below(&root)).await.map_err(not_there)?;
        let is_ours = real.starts_with(&root) && fs::metadata(&real).await.map_err(not_there)?.is_file();
        if is_ours { Ok(real) } else { Err(FindError::Missing) }
    }
}

/// What no file can be at is missing; everything else is trouble.
fn not_there(error: io::Error) -> FindError {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::InvalidFilename => FindError::Missing,
        _ => FindError::Failed(error),
    }
}
