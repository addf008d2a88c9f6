//! `docrelay healthcheck`: asks a running service how it is, for containers that have no other HTTP client.

use std::{
    io::{self, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;
use url::Url;

use crate::config::Config;

/// Ask the service on this machine how it is; exit 0 if it is well, 1 if not.
///
/// Asks /livez at admin.listen: whether the process works at all. That is the question for a
/// container's health check, which restarts what fails it: a broker that is away makes the service
/// not ready, and a restart would not help. With --ready it asks /readyz, whether events flow, and
/// prints the reason if they do not.
///
///   docrelay healthcheck             for HEALTHCHECK and liveness probes
///   docrelay healthcheck --ready     for readiness probes and scripts that wait
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Args {
    /// Ask whether events flow (/readyz) instead of whether the process works (/livez).
    #[arg(long)]
    ready: bool,

    /// Ask this address instead, whole, path included.
    #[arg(long, value_name = "URL", value_hint = clap::ValueHint::Url, conflicts_with = "ready")]
    url: Option<Url>,

    /// How long to wait for the answer.
    #[arg(long, value_name = "DURATION", default_value = "3s", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

pub(super) async fn run(args: Args, config: &Config) -> anyhow::Result<ExitCode> {
    let url = match args.url {
        Some(url) => url,
        None => address(config.admin.listen, args.ready)?,
    };
    // It is this machine that is asked: a proxy from the environment would answer for itself.
    let client = reqwest::Client::builder().no_proxy().timeout(args.timeout).build()?;
    let response = client.get(url.clone()).send().await.with_context(|| format!("{url} does not answer"))?;
    let status = response.status();
    let reason = response.text().await.unwrap_or_default();
    if status.is_success() {
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(io::stderr(), "{url} answers {status}\n{}", reason.trim_end())?;
    Ok(ExitCode::FAILURE)
}

/// Where a service that listens at `listen` is asked from the same machine.
fn address(listen: SocketAddr, ready: bool) -> anyhow::Result<Url> {
    let host: IpAddr = match listen.ip() {
        IpAddr::V4(host) if host.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(host) if host.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        host => host,
    };
    let path = if ready { "readyz" } else { "livez" };
    Ok(format!("http://{}/{path}", SocketAddr::new(host, listen.port())).parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_that_listens_everywhere_is_asked_on_loopback() {
        let asked = |listen: &str, ready| address(listen.parse().unwrap(), ready).unwrap().to_string();
        assert_eq!(asked("0.0.0.0:8081", false), "http://127.0.0.1:8081/livez");
        assert_eq!(asked("[::]:8081", true), "http://[::1]:8081/readyz");
        assert_eq!(asked("10.0.0.7:80", false), "http://10.0.0.7/livez");
    }
}
