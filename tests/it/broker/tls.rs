//! `amqps`, with an authority of the broker's own.

use std::path::PathBuf;

use docrelay::{broker, config::BrokerConfig, domain::Secret};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tempfile::TempDir;

use super::{Running, publish, subscription};
use crate::support::{
    broker::{DEADLINE, TestBroker},
    node::Node,
    receiver::Receiver,
};

const PASSWORD: &str = "tea-at-five";

struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    file: PathBuf,
}

fn parameters(names: &[&str], common_name: &str) -> CertificateParams {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut parameters = CertificateParams::new(names).unwrap();
    parameters.distinguished_name.push(DnType::CommonName, common_name);
    parameters
}

/// An authority that exists nowhere else; its certificate is in a file.
fn authority(folder: &TempDir, name: &str) -> Authority {
    let mut parameters = parameters(&[], name);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap();
    let file = folder.path().join(format!("{name}.pem"));
    std::fs::write(&file, issuer.pem()).unwrap();
    Authority { issuer, file }
}

/// A node that speaks TLS as 127.0.0.1, and the URL for it.
async fn node(folder: &TempDir, authority: &Authority) -> (Node, String) {
    let key = KeyPair::generate().unwrap();
    let certificate = parameters(&["127.0.0.1"], "broker").signed_by(&key, &authority.issuer).unwrap();
    let (certificate_file, key_file) = (folder.path().join("broker.pem"), folder.path().join("broker.key"));
    std::fs::write(&certificate_file, certificate.pem()).unwrap();
    std::fs::write(&key_file, key.serialize_pem()).unwrap();
    let files = [&certificate_file, &key_file, &authority.file].map(|file| file.to_str().unwrap());
    let node = Node::start_with(&["--tls", files[0], files[1], files[2]]).await;
    let port = std::fs::read_to_string(node.folder().join("amqps-port")).unwrap();
    let url = format!("amqps://relay:{PASSWORD}@127.0.0.1:{}/%2f", port.trim());
    node.ctl(&["add_user", "relay", PASSWORD]).await;
    node.ctl(&["set_permissions", "relay", ".*", ".*", ".*"]).await;
    (node, url)
}

/// What is said about a connection that cannot be made: never the password.
async fn complaint(config: &BrokerConfig) -> String {
    let error = broker::connect(config, "test").await.unwrap_err();
    let told = format!("{error} {error:?}");
    assert!(!told.contains(PASSWORD), "{told}");
    error.to_string()
}

#[tokio::test]
async fn a_broker_is_trusted_by_the_authority_in_the_ca_file_and_by_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let (known, unknown) = (authority(&folder, "known"), authority(&folder, "unknown"));
    let (node, url) = node(&folder, &known).await;
    let broker = TestBroker::on(&node).await;
    let receiver = Receiver::ok().await;
    let tls = [("DOCRELAY__BROKER__URL", url.as_str()), ("DOCRELAY__BROKER__CA_FILE", known.file.to_str().unwrap())];
    let service = Running::start(&broker, &[subscription("acme", &receiver.url("/"))], &tls).await;
    service.until_ready().await;
    publish(&broker, "acme", 0..10, 10).await;
    receiver.wait_for(10, DEADLINE).await;
    let told = node.ctl(&["list_connections", "-q", "--no-table-headers", "ssl", "user"]).await;
    assert_eq!(told.lines().filter(|line| *line == "true\trelay").count(), 2, "{told}");
    service.stop().await;

    let config = BrokerConfig { url: Secret::new(&url), ..broker.config.clone() };
    for ca_file in [None, Some(unknown.file)] {
        let told = complaint(&BrokerConfig { ca_file, ..config.clone() }).await;
        assert!(told.contains("cannot connect to the broker at 127.0.0.1:"), "{told}");
        assert!(told.to_lowercase().contains("certificate"), "{told}");
    }
    let wrong_password = Secret::new(url.replace(PASSWORD, &format!("{PASSWORD}-wrong")));
    let told = complaint(&BrokerConfig { url: wrong_password, ca_file: Some(known.file), ..config.clone() }).await;
    assert!(told.contains("ACCESS_REFUSED") || told.to_lowercase().contains("refused"), "{told}");
}

#[tokio::test]
async fn a_ca_file_that_is_missing_or_holds_no_certificate_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let broker = TestBroker::new().await;
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "no certificate\n").unwrap();
    for file in [folder.path().join("missing.pem"), empty] {
        let url = Secret::new(format!("amqps://relay:{PASSWORD}@127.0.0.1:1/%2f"));
        let told = complaint(&BrokerConfig { url, ca_file: Some(file.clone()), ..broker.config.clone() }).await;
        assert!(told.contains(&format!("broker.ca_file {}", file.display())), "{told}");
    }
}
