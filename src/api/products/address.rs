//! A target as ContractFit's page has it: a URL, or an IP address or host without a scheme. Pure.

use std::net::Ipv6Addr;

/// What a target may be.
pub(super) const EXPECTED: &str =
    "a URL such as http://host/path, or an IP address or host, with port and path if needed";

/// A text that is no target. What exactly is wrong with one that could be a URL is told by whoever reads it as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoTarget;

/// The target with a scheme: `http://` is put before a bare address or host, and brackets around a bare IPv6 address.
/// Everything else stays letter by letter.
pub(super) fn with_scheme(target: &str) -> Result<String, NoTarget> {
    let end = target.find(['/', '\\', '?', '#']).unwrap_or(target.len());
    let (authority, rest) = target.split_at(end);
    if authority.ends_with(':') && rest.starts_with("//") {
        return Ok(target.to_owned());
    }
    if authority.parse::<Ipv6Addr>().is_ok() {
        return Ok(format!("http://[{authority}]{rest}"));
    }
    let (host, after) = authority.split_once(':').unwrap_or((authority, "1"));
    // `http:/host` has lost a slash. `mailto:somebody@host` has a scheme of its own, and `user@host` needs one, so that
    // nobody has to guess which it is.
    let is_broken =
        host.is_empty() || after.is_empty() || ["http", "https"].iter().any(|it| host.eq_ignore_ascii_case(it));
    if is_broken || authority.contains(['@', ' ']) {
        return Err(NoTarget);
    }
    Ok(format!("http://{target}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::TargetUrl;

    #[test]
    fn a_url_stays_as_it_is() {
        for url in
            ["http://h", "https://h:1/x?y=z#f", "HTTP://H/%7e", "http://10.0.0.5:3000/x", "ftp://h", "http://[::1]/"]
        {
            assert_eq!(with_scheme(url).as_deref(), Ok(url));
        }
    }

    #[test]
    fn a_bare_address_or_host_gets_http() {
        for (bare, url) in [
            ("10.0.0.5", "http://10.0.0.5"),
            ("10.0.0.5:3000/x?y=1", "http://10.0.0.5:3000/x?y=1"),
            ("localhost:3000/alfred/document_predict", "http://localhost:3000/alfred/document_predict"),
            ("erp.example", "http://erp.example"),
            ("erp.example?next=https://h/", "http://erp.example?next=https://h/"),
            ("erp.example/a//b:c", "http://erp.example/a//b:c"),
            ("::1", "http://[::1]"),
            ("2001:db8::7/hooks", "http://[2001:db8::7]/hooks"),
            ("::ffff:10.0.0.5", "http://[::ffff:10.0.0.5]"),
            ("[2001:db8::7]:8080/hooks", "http://[2001:db8::7]:8080/hooks"),
            ("https.example/x", "http://https.example/x"),
        ] {
            assert_eq!(with_scheme(bare).as_deref(), Ok(url));
            assert!(TargetUrl::parse(url).is_ok(), "{url}");
        }
    }

    #[test]
    fn what_could_be_either_is_refused() {
        for text in [
            "",
            "/path",
            "//host/path",
            ":5000",
            "?x",
            "http:/host",
            "http:host",
            "HTTPS:8080",
            "http:",
            "host:",
            "mailto:somebody@host",
            "user:id@host",
            "user@host/x",
            "a b",
        ] {
            assert_eq!(with_scheme(text), Err(NoTarget), "{text:?}");
        }
    }

    #[test]
    fn what_is_put_before_it_never_makes_a_wrong_port_or_scheme_right() {
        for text in ["javascript:alert(1)", "host:port/x", "host:99999", "file:///etc/passwd", "fe80::1%eth0", "[::1"] {
            let url = with_scheme(text).unwrap();
            assert!(TargetUrl::parse(&url).is_err(), "{url}");
        }
    }
}
