//! Names to addresses, through the egress policy.
//!
//! **Why a name cannot be rebound between check and connect:** the addresses that this resolver returns are the very
//! ones that the connector dials; nothing resolves the name a second time. Hosts that are addresses already never come
//! here, [`literal_address`] finds those. Redirects and proxies are off, so nobody else chooses an address, and a
//! pooled connection goes on to the address that was judged when it was made.

use std::{io, net::IpAddr, net::SocketAddr, sync::Arc};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

use super::{EgressPolicy, EgressRefused};

/// Resolves with the system's resolver and gives out only what the policy lets pass.
pub(super) struct GuardedResolver {
    egress: Arc<EgressPolicy>,
}

/// A name that has no address, or none that could be found.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unresolved {
    #[error("{name} could not be resolved: {cause}")]
    Failed { name: String, cause: io::Error },
    #[error("{0} has no address")]
    Empty(String),
}

impl GuardedResolver {
    pub(super) fn new(egress: Arc<EgressPolicy>) -> Self {
        Self { egress }
    }
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let egress = Arc::clone(&self.egress);
        Box::pin(async move {
            let name = name.as_str();
            // The connector puts the URL's port in place of 0.
            let found = tokio::net::lookup_host((name, 0))
                .await
                .map_err(|cause| Unresolved::Failed { name: name.to_owned(), cause })?;
            match permitted(&egress, found) {
                Ok(addresses) if addresses.is_empty() => Err(Unresolved::Empty(name.to_owned()).into()),
                Ok(addresses) => Ok(Box::new(addresses.into_iter()) as Addrs),
                Err(refused) => Err(refused.into()),
            }
        })
    }
}

/// The addresses that may be connected to. When all are refused, the first refusal speaks for them.
fn permitted(egress: &EgressPolicy, found: impl Iterator<Item = SocketAddr>) -> Result<Vec<SocketAddr>, EgressRefused> {
    let mut addresses = Vec::new();
    let mut first_refusal = None;
    for address in found {
        match egress.check(address.ip()) {
            Ok(()) => addresses.push(address),
            Err(refused) => {
                first_refusal.get_or_insert(refused);
            }
        }
    }
    match first_refusal {
        Some(refused) if addresses.is_empty() => Err(refused),
        _ => Ok(addresses),
    }
}

/// The address, when the host is one: the connector then asks no resolver. The URL parser has already turned odd
/// spellings (`2130706433`, `0x7f.1`) into plain addresses; a name that reads as an address is taken for one as well,
/// because the connector does so.
pub(super) fn literal_address(url: &Url) -> Option<IpAddr> {
    match url.host()? {
        Host::Ipv4(address) => Some(address.into()),
        Host::Ipv6(address) => Some(address.into()),
        Host::Domain(name) => name.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn socket_addresses(texts: &[&str]) -> impl Iterator<Item = SocketAddr> {
        texts.iter().map(|text| SocketAddr::new(text.parse().unwrap(), 0)).collect::<Vec<_>>().into_iter()
    }

    #[test]
    fn refused_addresses_of_a_name_are_left_out() {
        let addresses = permitted(&EgressPolicy::default(), socket_addresses(&["10.0.0.1", "8.8.8.8", "::1"])).unwrap();
        assert_eq!(addresses, socket_addresses(&["8.8.8.8"]).collect::<Vec<_>>());
    }

    #[test]
    fn a_name_with_refused_addresses_only_is_refused() {
        let refused = permitted(&EgressPolicy::default(), socket_addresses(&["10.0.0.1", "::1"])).unwrap_err();
        assert_eq!(refused.address().to_string(), "10.0.0.1");
    }

    #[test]
    fn odd_spellings_of_an_address_are_found() {
        for host in ["127.0.0.1", "2130706433", "0x7f.1", "0177.0.0.1", "127.1", "127.0.0.1.", "１２７.0.0.1"] {
            let url: Url = format!("http://{host}/").parse().unwrap();
            assert_eq!(literal_address(&url), Some("127.0.0.1".parse().unwrap()), "{host}");
        }
        let mapped: Url = "http://[::ffff:127.0.0.1]/".parse().unwrap();
        assert_eq!(literal_address(&mapped), Some("::ffff:127.0.0.1".parse().unwrap()));
        assert_eq!(literal_address(&"http://erp.example/".parse().unwrap()), None);
    }

    proptest! {
        #[test]
        fn no_host_slips_past_as_a_name_that_the_connector_takes_for_an_address(host in "[0-9a-fx.%\\[\\]:]{1,16}") {
            if let Ok(url) = Url::parse(&format!("http://{host}/")) {
                let dialled = url.host_str().unwrap().trim_matches(['[', ']']).parse::<IpAddr>().ok();
                prop_assert_eq!(literal_address(&url), dialled);
            }
        }
    }
}
