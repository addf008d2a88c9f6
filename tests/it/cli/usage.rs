//! How the program answers for itself.

use crate::support::broker::{docrelay, ran};

#[tokio::test]
async fn the_help_teaches_the_first_minute() {
    let help = ran(docrelay(&["--help"])).await.fine();
    for taught in ["docrelay topology --declare", "docrelay run", "docrelay publish", "DOCRELAY__BROKER__URL"] {
        assert!(help.contains(taught), "{taught} is missing in\n{help}");
    }
    for command in ["publish", "results", "dead", "topology", "healthcheck", "keys", "secrets"] {
        let help = ran(docrelay(&[command, "--help"])).await.fine();
        assert!(help.contains(&format!("docrelay {command} ")), "no example in\n{help}");
    }
}

#[tokio::test]
async fn bad_usage_ends_with_2_and_trouble_with_1() {
    let bad = ran(docrelay(&["publish", "--rate", "fast"])).await;
    assert_eq!(bad.code, Some(2), "{bad:?}");
    assert!(bad.err.contains("expected a rate such as 50/s"), "{}", bad.err);

    let mut nobody = docrelay(&["topology", "--declare"]);
    nobody.env("DOCRELAY__BROKER__URL", "amqp://user:hush@127.0.0.1:1/%2f");
    let trouble = ran(nobody).await.failed();
    assert!(trouble.contains("cannot connect to the broker at 127.0.0.1:1"), "{trouble}");
    assert!(!trouble.contains("hush"), "{trouble}");
    assert_eq!(trouble.matches("efused").count(), 1, "each cause is told once: {trouble}");
}
