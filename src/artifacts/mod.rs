//! Download links to exported files: made here, and where the files lie in a local folder, served here.
//!
//! [`ArtifactStore::sign`] is all that the rest of the service knows. A link works without any other credential until it
//! expires. Nothing here writes to a store.

mod cloud;
mod folder;
mod path;
mod sas;
pub mod serve;
mod signature;

use std::{fmt, sync::Arc, time::Duration};

use self::{cloud::CloudStore, folder::Folder, path::ArtifactPath};
use crate::{
    config::{ArtifactsConfig, ArtifactsPlace},
    domain::Timestamp,
};

/// Expiry is counted in whole seconds: less than one would be none.
const SHORTEST: Duration = Duration::from_secs(1);

/// Where exported files are, and what links to them are signed with. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ArtifactStore {
    place: Place,
    /// No link promises more, because what it is signed with ends then.
    ends: Option<Timestamp>,
}

#[derive(Debug, Clone)]
enum Place {
    Folder(Folder),
    Cloud(Arc<CloudStore>),
}

/// A link to one file.
#[derive(Clone, PartialEq, Eq)]
pub struct SignedLink {
    /// Whoever has it can read the file: a secret until it expires.
    pub url: String,
    /// From then on the link answers 403, by the clock of whoever serves the file. Whole seconds.
    pub expires_at: Timestamp,
}

impl fmt::Debug for SignedLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignedLink").field("url", &"***").field("expires_at", &self.expires_at).finish()
    }
}

/// Why there is no link.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// The file is not there. Trying again does not help.
    #[error("the file is not in the artifact store")]
    Missing,
    /// The path is none: it is not relative, has empty or dot segments or control characters, or more than 1024 bytes.
    #[error("the path is not one in the artifact store: {0}")]
    BadPath(&'static str),
    /// The store did not answer, or refused. Trying again may help. The text holds no secrets.
    #[error("the artifact store: {0}")]
    Failed(String),
}

/// Why the settings make no store. What to mend is in the text, which repeats no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("artifacts: {0}")]
pub struct BadStore(String);

impl ArtifactStore {
    /// The store of the settings; none when `artifacts.url` is empty. Connects to nothing.
    ///
    /// # Errors
    /// When the settings make no store that can sign links.
    pub fn from_config(config: &ArtifactsConfig) -> Result<Option<Self>, BadStore> {
        let place = match &config.place {
            None => return Ok(None),
            Some(ArtifactsPlace::Folder(path)) => Place::Folder(Folder::new(path, config)?),
            Some(ArtifactsPlace::Cloud { cloud, bucket, prefix }) => {
                Place::Cloud(Arc::new(CloudStore::new(*cloud, bucket, prefix, config)?))
            }
        };
        Ok(Some(Self { place, ends: config.credentials_expire }))
    }

    /// A link to the file at `path` that works for `valid_for` from `now` on, or for as long as what it is signed with
    /// works, if that is shorter. Cloud stores sign by this machine's own clock, so `now` should be by it as well.
    ///
    /// # Errors
    /// See [`SignError`]: only `Failed` is worth another try.
    pub async fn sign(&self, path: &str, now: Timestamp, valid_for: Duration) -> Result<SignedLink, SignError> {
        let path = ArtifactPath::parse(path)?;
        // What is left of the credentials; nothing once they have ended.
        let valid_for = self.ends.map_or(valid_for, |ends| valid_for.min(now.age_at(ends)));
        if valid_for < SHORTEST {
            return Err(SignError::Failed("the credentials that links are signed with have ended".to_owned()));
        }
        match &self.place {
            Place::Folder(folder) => folder.sign(&path, now, valid_for).await,
            Place::Cloud(cloud) => cloud.sign(&path, valid_for).await,
        }
    }

    /// What whoever runs the service should know before the first link is made. Connects to nothing.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let ends = self.ends.map(|ends| {
            let ends = ends.to_rfc3339();
            format!("the credentials that links are signed with end at {ends}: no link works longer (artifacts.credentials_expire)")
        });
        let more = match &self.place {
            Place::Folder(folder) => folder.warning(),
            Place::Cloud(cloud) => cloud.warning(),
        };
        ends.into_iter().chain(more).collect()
    }
}
