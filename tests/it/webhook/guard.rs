//! The egress guard where it counts: on the address that is connected to.

use docrelay::{config::EgressConfig, domain::FailureKind, webhook::Client};

use super::{client, failure, local_client, send, status, subscription};
use crate::support::receiver::{Receiver, Reply};

#[tokio::test]
async fn this_machine_is_refused_however_it_is_spelled_and_never_connected_to() {
    let receiver = Receiver::ok().await;
    let port = receiver.address().port();
    let client = client(&[], &[]);
    for host in [
        "127.0.0.1",
        "2130706433",
        "0x7f.1",
        "127.1",
        "[::ffff:127.0.0.1]",
        "[::1]",
        "localhost",
        "LOCALHOST",
        "0.0.0.0",
    ] {
        let attempt = send(&client, &subscription(&format!("http://{host}:{port}/?token=secret"))).await;
        let (kind, text) = failure(&attempt);
        assert_eq!(kind, FailureKind::Egress, "{host}: {text}");
        assert!(text.contains("egress.allow"), "{text}");
        assert!(!text.contains("secret"), "{text}");
    }
    assert_eq!(receiver.count(), 0);
}

#[tokio::test]
async fn the_refusal_names_the_address() {
    let attempt = send(&client(&[], &[]), &subscription("http://169.254.169.254/latest/meta-data")).await;
    let expected = "169.254.169.254 is refused (a cloud's metadata service); egress.allow can permit it";
    assert_eq!(failure(&attempt), (FailureKind::Egress, expected));
}

#[tokio::test]
async fn a_denied_address_is_refused_although_it_is_allowed() {
    let nets = || vec!["127.0.0.0/8".parse().unwrap()];
    let egress = EgressConfig { allow: nets(), deny: nets() };
    let client = Client::new(&egress, std::time::Duration::from_secs(5), &[]).unwrap();
    for host in ["127.0.0.1", "localhost"] {
        let attempt = send(&client, &subscription(&format!("http://{host}:9/"))).await;
        assert_eq!(failure(&attempt).0, FailureKind::Egress, "{host}: {attempt:?}");
    }
}

#[tokio::test]
async fn an_allowed_name_is_reached_by_its_allowed_addresses_only() {
    let receiver = Receiver::ok().await;
    let by_name = receiver.url("/").replace("127.0.0.1", "localhost");
    assert_eq!(status(&send(&local_client(), &subscription(&by_name)).await), 200);
    assert_eq!(status(&send(&client(&["127.0.0.1/32"], &[]), &subscription(&by_name)).await), 200);
}

#[tokio::test]
async fn a_redirect_leads_nowhere() {
    let inner = Receiver::ok().await;
    let location: &'static str = Box::leak(inner.url("/").into_boxed_str());
    let outer = Receiver::scripted(move |_| Reply::status(302).header("location", location)).await;
    assert_eq!(status(&send(&local_client(), &subscription(&outer.url("/"))).await), 302);
    assert_eq!(inner.count(), 0);
}
