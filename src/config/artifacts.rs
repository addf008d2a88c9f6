//! Where exported files are, and what download links to them are signed with: the values of `artifacts.*`.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use url::Url;

use crate::domain::{Secret, Timestamp};

/// `api.*`
#[derive(Debug, Clone, Default)]
pub struct ApiConfig {
    /// Where docrelay serves what is meant for others; `None` when it serves nothing.
    pub listen: Option<SocketAddr>,
}

/// `artifacts.*`
#[derive(Debug, Clone, Default)]
pub struct ArtifactsConfig {
    /// Where the files are; `None` when no links can be made.
    pub place: Option<ArtifactsPlace>,
    /// What the URLs of links into a local folder begin with.
    pub public_url: Option<Url>,
    /// What those links are signed with: the first signs, all verify.
    pub signing_keys: Vec<SigningKey>,
    /// When the credentials of the cloud store end, where they do.
    pub credentials_expire: Option<Timestamp>,
    /// Settings of the cloud store, by the names its library has for them.
    pub options: BTreeMap<String, Secret>,
    /// The same from the process's `AZURE_*`, `AWS_*` and `GOOGLE_*` variables. What the library does not know is nobody's
    /// mistake there.
    pub variables: BTreeMap<String, Secret>,
}

/// `artifacts.url`
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ArtifactsPlace {
    /// A folder of this machine, or mounted on it.
    Folder(PathBuf),
    /// A bucket or container.
    Cloud {
        /// Whose.
        cloud: Cloud,
        /// Its name.
        bucket: String,
        /// What every path in it begins with; may be empty.
        prefix: String,
    },
}

/// The object stores that links can be made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cloud {
    /// Azure Blob Storage.
    Azure,
    /// Amazon S3 and what is compatible with it.
    S3,
    /// Google Cloud Storage.
    Google,
}

impl Cloud {
    /// The scheme of its URLs.
    #[must_use]
    pub fn scheme(self) -> &'static str {
        match self {
            Self::Azure => "az",
            Self::S3 => "s3",
            Self::Google => "gs",
        }
    }
}

/// A key of `artifacts.signing_keys`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SigningKey {
    /// Its name, which stands in the links.
    pub id: String,
    /// 32 bytes in base64.
    pub key: Secret,
}

impl ArtifactsPlace {
    /// As it stands in the settings.
    #[must_use]
    pub fn to_url(&self) -> String {
        match self {
            Self::Folder(path) => format!("file://{}", path.display()),
            Self::Cloud { cloud, bucket, prefix } if prefix.is_empty() => format!("{}://{bucket}", cloud.scheme()),
            Self::Cloud { cloud, bucket, prefix } => format!("{}://{bucket}/{prefix}", cloud.scheme()),
        }
    }
}
