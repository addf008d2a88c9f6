//! Opening a connection to the broker. Staying connected is the business of the loops in `publisher` and `consumer`:
//! lapin's own recovery is not used, because it can hang for ever without an error or an event.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use lapin::{
    Connection, ConnectionProperties,
    tcp::OwnedTLSConfig,
    uri::{AMQPScheme, AMQPUri},
};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};

use crate::{config::BrokerConfig, domain::Secret};

/// A replica that hangs is noticed after about 2.4 of these.
const HEARTBEAT_SECONDS: u16 = 10;

/// Room for any headers of ours: two trace headers of 4 KiB each, and a dead letter's.
const PUBLISHING_FRAME_BYTES: u32 = 32 * 1024;

/// For the connection and the handshakes on it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Why no connection could be made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The setting cannot be read.
    #[error("{section}.url is not an AMQP URL: {problem}")]
    BadUrl {
        /// Where it is set.
        section: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The certificate file cannot be read, or holds no certificates.
    #[error("{section}.ca_file {path}: {problem}")]
    BadCaFile {
        /// Where it is set.
        section: &'static str,
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The broker did not answer in time.
    #[error("the broker at {0} did not answer within 10 s")]
    Timeout(String),
    /// The broker refused, or was not there.
    #[error("cannot connect to the broker at {address}: {error}")]
    Failed {
        /// Host and port.
        address: String,
        /// What went wrong.
        #[source]
        error: lapin::Error,
    },
}

/// Opens a connection that the broker's tools show under `name`.
///
/// # Errors
/// Says what is wrong, without credentials. Everything but a bad setting is worth trying again.
pub async fn connect(config: &BrokerConfig, name: &str) -> Result<Connection, ConnectError> {
    let endpoint = Endpoint::from(config);
    open(endpoint, name, endpoint.uri()?).await
}

/// Opens the connection that publishes. It keeps less memory: the client keeps room for 64 of the largest frames, and what
/// is published has small headers and may come in many frames.
pub(super) async fn connect_to_publish(config: &BrokerConfig, name: &str) -> Result<Connection, ConnectError> {
    open_to_publish(config.into(), name).await
}

/// The same to any broker.
pub(super) async fn open_to_publish(endpoint: Endpoint<'_>, name: &str) -> Result<Connection, ConnectError> {
    let mut uri = endpoint.uri()?;
    uri.query.frame_max.get_or_insert(PUBLISHING_FRAME_BYTES);
    open(endpoint, name, uri).await
}

/// Where a broker is, and which settings say so.
#[derive(Debug, Clone, Copy)]
pub(super) struct Endpoint<'a> {
    pub(super) url: &'a Secret,
    pub(super) ca_file: Option<&'a Path>,
    pub(super) section: &'static str,
}

impl<'a> From<&'a BrokerConfig> for Endpoint<'a> {
    fn from(config: &'a BrokerConfig) -> Self {
        Self { url: &config.url, ca_file: config.ca_file.as_deref(), section: "broker" }
    }
}

impl Endpoint<'_> {
    fn uri(&self) -> Result<AMQPUri, ConnectError> {
        let bad = |problem| ConnectError::BadUrl { section: self.section, problem };
        let mut uri: AMQPUri = self.url.reveal().parse().map_err(bad)?;
        uri.query.heartbeat.get_or_insert(HEARTBEAT_SECONDS);
        uri.query.connection_timeout.get_or_insert(5000);
        Ok(uri)
    }
}

async fn open(endpoint: Endpoint<'_>, name: &str, uri: AMQPUri) -> Result<Connection, ConnectError> {
    let address = format!("{}:{}", uri.authority.host, uri.authority.port);
    let tls = match (&uri.scheme, endpoint.ca_file) {
        (AMQPScheme::AMQPS, Some(path)) => {
            OwnedTLSConfig { identity: None, cert_chain: Some(certificates(path, endpoint.section).await?) }
        }
        (AMQPScheme::AMQP | AMQPScheme::AMQPS, _) => OwnedTLSConfig::default(),
    };
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    let runtime =
        lapin::runtime::default_runtime().map_err(|error| ConnectError::Failed { address: address.clone(), error })?;
    let connecting = Connection::connect_uri_with_config(uri, properties, tls, runtime);
    match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(error)) => Err(ConnectError::Failed { address, error }),
        Err(_elapsed) => Err(ConnectError::Timeout(address)),
    }
}

/// The content of a PEM file. The client would take anything, and then trust nobody.
async fn certificates(path: &Path, section: &'static str) -> Result<String, ConnectError> {
    let bad = |problem| ConnectError::BadCaFile { section, path: path.to_owned(), problem };
    let text = tokio::fs::read_to_string(path).await.map_err(|error| bad(error.to_string()))?;
    let mut certificates = CertificateDer::pem_slice_iter(text.as_bytes());
    match certificates.find_map(Result::err) {
        Some(error) => Err(bad(error.to_string())),
        None if CertificateDer::from_pem_slice(text.as_bytes()).is_err() => Err(bad("holds no certificate".to_owned())),
        None => Ok(text),
    }
}
