//! Which addresses may be connected to. Pure: it judges addresses, it resolves and connects nothing.
//!
//! `egress.deny` wins over `egress.allow`, and that over the built-in list: every address that is not publicly routed,
//! after the IANA special-purpose registries (RFC 6890), and the metadata services of clouds. An IPv6 address that
//! stands for an IPv4 address must pass as itself and as what it stands for.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::config::EgressConfig;

/// Which addresses may be connected to.
#[derive(Debug, Clone, Default)]
pub struct EgressPolicy {
    allow: Vec<IpNet>,
    deny: Vec<IpNet>,
}

/// An address may not be connected to. The text names the address and the setting that decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EgressRefused {
    address: IpAddr,
    /// The IPv4 address that `address` stands for, when that one is the reason.
    embedded: Option<Ipv4Addr>,
    why: Why,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    Denied,
    BuiltIn(&'static str),
}

impl EgressPolicy {
    /// A policy from the networks of `egress.allow` and `egress.deny`.
    #[must_use]
    pub fn new(allow: Vec<IpNet>, deny: Vec<IpNet>) -> Self {
        Self { allow, deny }
    }

    /// Judges the address that is about to be connected to.
    ///
    /// # Errors
    /// When it may not be; the attempt has failed with kind `egress`.
    pub fn check(&self, address: IpAddr) -> Result<(), EgressRefused> {
        self.judge(address).map_err(|why| EgressRefused { address, embedded: None, why })?;
        match embedded_ipv4(address) {
            None => Ok(()),
            Some(inner) => {
                self.judge(inner.into()).map_err(|why| EgressRefused { address, embedded: Some(inner), why })
            }
        }
    }

    fn judge(&self, address: IpAddr) -> Result<(), Why> {
        if self.deny.iter().any(|net| net.contains(&address)) {
            return Err(Why::Denied);
        }
        if self.allow.iter().any(|net| net.contains(&address)) {
            return Ok(());
        }
        let reason = match address {
            IpAddr::V4(address) => built_in_v4(address),
            IpAddr::V6(address) => built_in_v6(address),
        };
        reason.map_or(Ok(()), |reason| Err(Why::BuiltIn(reason)))
    }
}

impl From<&EgressConfig> for EgressPolicy {
    fn from(config: &EgressConfig) -> Self {
        Self::new(config.allow.clone(), config.deny.clone())
    }
}

impl EgressRefused {
    /// The address that was refused.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.address
    }
}

impl fmt::Display for EgressRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.address)?;
        if let Some(inner) = self.embedded {
            write!(f, " (stands for {inner})")?;
        }
        match self.why {
            Why::Denied => f.write_str(" is refused by egress.deny"),
            Why::BuiltIn(reason) => write!(f, " is refused ({reason}); egress.allow can permit it"),
        }
    }
}

impl std::error::Error for EgressRefused {}

const fn v4(a: u8, b: u8, c: u8, d: u8, length: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length)
}

const fn v6(segments: [u16; 8], length: u8) -> Ipv6Net {
    let [s0, s1, s2, s3, s4, s5, s6, s7] = segments;
    Ipv6Net::new_assert(Ipv6Addr::new(s0, s1, s2, s3, s4, s5, s6, s7), length)
}

const METADATA: &str = "a cloud's metadata service";

/// The first match gives the reason, so single addresses come before the networks around them.
const BUILT_IN_V4: [(Ipv4Net, &str); 20] = [
    (v4(169, 254, 169, 254, 32), METADATA), // most clouds
    (v4(100, 100, 100, 200, 32), METADATA), // Alibaba
    (v4(168, 63, 129, 16, 32), METADATA),   // Azure, in public space
    (v4(192, 0, 0, 192, 32), METADATA),     // Oracle
    (v4(255, 255, 255, 255, 32), "broadcast"),
    (v4(0, 0, 0, 0, 32), "unspecified"),
    (v4(0, 0, 0, 0, 8), "this network"),
    (v4(10, 0, 0, 0, 8), "private"),
    (v4(100, 64, 0, 0, 10), "shared address space"),
    (v4(127, 0, 0, 0, 8), "loopback"),
    (v4(169, 254, 0, 0, 16), "link-local"),
    (v4(172, 16, 0, 0, 12), "private"),
    (v4(192, 0, 0, 0, 24), "protocol assignments"),
    (v4(192, 0, 2, 0, 24), "documentation"),
    (v4(192, 88, 99, 0, 24), "6to4 relays"),
    (v4(192, 168, 0, 0, 16), "private"),
    (v4(198, 18, 0, 0, 15), "benchmarking"),
    (v4(198, 51, 100, 0, 24), "documentation"),
    (v4(203, 0, 113, 0, 24), "documentation"),
    (v4(224, 0, 0, 0, 4), "multicast"),
];

/// 240.0.0.0/4: what is left after broadcast.
const RESERVED_V4: Ipv4Net = v4(240, 0, 0, 0, 4);

const BUILT_IN_V6: [(Ipv6Net, &str); 13] = [
    (v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254], 128), METADATA), // AWS
    (v6([0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254], 128), METADATA),  // Google
    (v6([0; 8], 128), "unspecified"),
    (v6([0, 0, 0, 0, 0, 0, 0, 1], 128), "loopback"),
    (v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8), "multicast"),
    (v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10), "link-local"),
    (v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10), "site-local"),
    (v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7), "unique-local"),
    (v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48), "local-use translation"),
    (TEREDO, "Teredo"),
    (v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23), "protocol assignments"),
    (v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32), "documentation"),
    (v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20), "documentation"),
];

/// All of IPv6 that is routed publicly lies here (RFC 4291, 2.4).
const GLOBAL_UNICAST: Ipv6Net = v6([0x2000, 0, 0, 0, 0, 0, 0, 0], 3);

/// `::ffff:a.b.c.d`: the system connects to `a.b.c.d` itself.
const MAPPED: Ipv6Net = v6([0, 0, 0, 0, 0, 0xffff, 0, 0], 96);
/// `64:ff9b::a.b.c.d`: a NAT64 gateway connects to `a.b.c.d`. How an IPv6-only network reaches IPv4 at all.
const NAT64: Ipv6Net = v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96);
/// `64:ff9b:1::/48`: the same with a prefix of the network's own; only /96 prefixes can be allowed.
const LOCAL_NAT64: Ipv6Net = v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48);
/// `2002:ab:cd::/48`: a 6to4 relay tunnels to `a.b.c.d`.
const SIX_TO_FOUR: Ipv6Net = v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16);
/// The client's IPv4 address stands in the last 32 bits, each bit turned over (RFC 4380).
const TEREDO: Ipv6Net = v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 32);
/// `::a.b.c.d`, long deprecated.
const COMPATIBLE: Ipv6Net = v6([0; 8], 96);

fn built_in_v4(address: Ipv4Addr) -> Option<&'static str> {
    let listed = BUILT_IN_V4.iter().find(|(net, _)| net.contains(&address)).map(|(_, reason)| *reason);
    listed.or_else(|| RESERVED_V4.contains(&address).then_some("reserved"))
}

fn built_in_v6(address: Ipv6Addr) -> Option<&'static str> {
    let listed = BUILT_IN_V6.iter().find(|(net, _)| net.contains(&address)).map(|(_, reason)| *reason);
    let judged_by_what_it_embeds = MAPPED.contains(&address) || NAT64.contains(&address);
    listed
        .or_else(|| (!GLOBAL_UNICAST.contains(&address) && !judged_by_what_it_embeds).then_some("not globally routed"))
}

fn embedded_ipv4(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(address) = address else { return None };
    if address.is_unspecified() || address.is_loopback() {
        return None; // inside `COMPATIBLE`, but not meant by it
    }
    let [_, _, b0, b1, b2, b3, .., l0, l1, l2, l3] = address.octets();
    let last = Ipv4Addr::new(l0, l1, l2, l3);
    if [MAPPED, NAT64, LOCAL_NAT64, COMPATIBLE].iter().any(|net| net.contains(&address)) {
        Some(last)
    } else if SIX_TO_FOUR.contains(&address) {
        Some(Ipv4Addr::new(b0, b1, b2, b3))
    } else if TEREDO.contains(&address) {
        Some(Ipv4Addr::from_bits(!last.to_bits()))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn policy(allow: &[&str], deny: &[&str]) -> EgressPolicy {
        let nets = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        EgressPolicy::new(nets(allow), nets(deny))
    }

    fn passes(policy: &EgressPolicy, address: &str) -> bool {
        policy.check(address.parse().unwrap()).is_ok()
    }

    #[test]
    fn addresses_that_are_not_public_are_refused_for_the_reason_given() {
        let table = [
            ("0.0.0.0", "unspecified"),
            ("0.1.2.3", "this network"),
            ("10.0.0.1", "private"),
            ("10.255.255.255", "private"),
            ("100.64.0.1", "shared"),
            ("100.127.255.255", "shared"),
            ("100.100.100.200", "metadata"),
            ("127.0.0.1", "loopback"),
            ("127.255.255.254", "loopback"),
            ("168.63.129.16", "metadata"),
            ("169.254.0.1", "link-local"),
            ("169.254.169.254", "metadata"),
            ("172.16.0.1", "private"),
            ("172.31.255.255", "private"),
            ("192.0.0.8", "protocol"),
            ("192.0.0.192", "metadata"),
            ("192.0.2.1", "documentation"),
            ("192.88.99.1", "6to4"),
            ("192.168.1.1", "private"),
            ("198.18.0.1", "benchmarking"),
            ("198.19.255.255", "benchmarking"),
            ("198.51.100.7", "documentation"),
            ("203.0.113.7", "documentation"),
            ("224.0.0.1", "multicast"),
            ("239.255.255.255", "multicast"),
            ("240.0.0.1", "reserved"),
            ("255.255.255.255", "broadcast"),
            ("::", "unspecified"),
            ("::1", "loopback"),
            ("fe80::1", "link-local"),
            ("fec0::1", "site-local"),
            ("fc00::1", "unique-local"),
            ("fd12:3456::1", "unique-local"),
            ("fd00:ec2::254", "metadata"),
            ("fd20:ce::254", "metadata"),
            ("ff02::1", "multicast"),
            ("100::1", "not globally routed"),
            ("5f00::1", "not globally routed"),
            ("2001:db8::1", "documentation"),
            ("3fff::1", "documentation"),
            ("2001:2::1", "protocol"),
            ("64:ff9b:1::808:808", "translation"),
            ("2001:0:4136:e378:8000:63bf:3fff:fdd2", "Teredo"),
            ("::808:808", "not globally routed"),
        ];
        for (address, reason) in table {
            let refused = policy(&[], &[]).check(address.parse().unwrap()).unwrap_err().to_string();
            assert!(refused.contains(reason), "{refused}: expected {reason}");
            assert!(refused.contains(address) && refused.contains("egress.allow"), "{refused}");
        }
    }

    #[test]
    fn public_addresses_pass() {
        let public = [
            "1.1.1.1",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.1",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.1",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2606:4700:4700::1111",
            "2a00:1450:4001::1",
            "2001:4860:4860::8888",
        ];
        for address in public {
            assert!(passes(&policy(&[], &[]), address), "{address}");
        }
    }

    #[test]
    fn an_embedded_address_is_judged_too() {
        let none = policy(&[], &[]);
        for address in ["::ffff:127.0.0.1", "64:ff9b::10.0.0.1", "2002:a9fe:a9fe::1", "::ffff:169.254.169.254"] {
            let refused = none.check(address.parse().unwrap()).unwrap_err().to_string();
            assert!(refused.contains("stands for"), "{refused}");
        }
        for address in ["::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2002:808:808::1"] {
            assert!(passes(&none, address), "{address}");
        }
        assert!(!passes(&policy(&["::/0"], &[]), "64:ff9b::127.0.0.1"), "allowing all of IPv6 opens no IPv4");
        assert!(passes(&policy(&["127.0.0.0/8"], &[]), "::ffff:127.0.0.1"), "it is the same address");
        assert!(!passes(&policy(&["::/0"], &["8.8.8.0/24"]), "2002:808:808::1"), "nor does it undo a denial");
        let teredo = "2001:0:4136:e378:8000:63bf:80ff:fffe"; // 127.0.0.1 turned over
        assert!(!passes(&policy(&["2001::/32"], &[]), teredo));
    }

    #[test]
    fn loopback_of_ipv6_can_be_allowed() {
        assert!(passes(&policy(&["::1/128"], &[]), "::1"));
    }

    #[test]
    fn a_denied_public_address_is_refused_and_the_text_says_by_what() {
        let refused = policy(&[], &["8.8.8.0/24"]).check("8.8.8.8".parse().unwrap()).unwrap_err();
        assert_eq!(refused.to_string(), "8.8.8.8 is refused by egress.deny");
    }

    proptest! {
        #[test]
        fn what_is_denied_never_passes(address in any::<IpAddr>(), allow_all in any::<bool>()) {
            let allow = if allow_all { policy(&["0.0.0.0/0", "::/0"], &[]).allow } else { vec![] };
            prop_assert!(EgressPolicy::new(allow, vec![IpNet::from(address)]).check(address).is_err());
        }

        #[test]
        fn what_is_allowed_passes_unless_denied(address in any::<Ipv4Addr>()) {
            let allowed = EgressPolicy::new(vec![IpNet::from(IpAddr::V4(address))], vec![]);
            prop_assert!(allowed.check(address.into()).is_ok());
            prop_assert!(allowed.check(address.to_ipv6_mapped().into()).is_ok());
        }

        #[test]
        fn no_spelling_in_ipv6_opens_a_refused_ipv4_address(address in any::<Ipv4Addr>()) {
            let none = policy(&[], &[]);
            let [a, b, c, d] = address.octets();
            let tail = u128::from(address.to_bits());
            let nat64 = Ipv6Addr::from_bits((0x0064_ff9b_u128 << 96) | tail);
            let six_to_four = Ipv6Addr::from([0x20, 0x02, a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
            let refused = none.check(address.into()).is_err();
            for spelling in [address.to_ipv6_mapped(), nat64, six_to_four] {
                prop_assert_eq!(none.check(spelling.into()).is_err(), refused, "{}", spelling);
            }
        }

        #[test]
        fn nothing_outside_global_unicast_passes_by_itself(address in any::<Ipv6Addr>()) {
            if policy(&[], &[]).check(address.into()).is_ok() {
                prop_assert!(GLOBAL_UNICAST.contains(&address) || MAPPED.contains(&address) || NAT64.contains(&address));
            }
        }
    }
}
