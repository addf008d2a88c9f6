//! `docrelay results` against a real broker.

use std::{process::Stdio, time::Duration};

use docrelay::{
    broker::{codec, outbox},
    domain::{DeliveryResult, EventName, Outcome},
};
use lapin::{
    BasicProperties,
    options::{QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions},
    types::FieldTable,
};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    time::timeout,
};

use crate::support::broker::{DEADLINE, Ran, TestBroker};

fn result(organization: &str, outcome: Outcome) -> DeliveryResult {
    DeliveryResult {
        delivery: None,
        event_id: "evt-1".parse().unwrap(),
        document: Some("doc-1".parse().unwrap()),
        subscription: Some("erp".parse().unwrap()),
        organization: organization.parse().unwrap(),
        project: None,
        inbox: None,
        event: Some(EventName::DocumentText),
        outcome,
        attempt: 1,
        max_attempts: 10,
        fan_out: 1,
        status_code: Some(200),
        response_body: "thanks".into(),
        response_body_cut: false,
        error: None,
        error_text: String::new(),
        latency: Duration::from_millis(12),
        attempted_at: None,
        next_attempt_at: None,
        target: "erp.example/hooks".to_owned(),
        round: 0,
    }
}

async fn publish(broker: &TestBroker, result: &DeliveryResult) {
    let (key, body) = (outbox::routing_key(result), codec::encode_result(result));
    broker.publish(&broker.config.results_exchange, &key, BasicProperties::default(), &body).await;
}

/// Starts the program and waits until it listens.
async fn following(mut command: Command) -> Child {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.as_mut().unwrap()).lines();
    let first = timeout(DEADLINE, lines.next_line()).await.unwrap().unwrap();
    assert!(first.as_deref().is_some_and(|line| line.starts_with("Following")), "{first:?}");
    child
}

async fn ended(child: Child) -> Ran {
    let output = timeout(DEADLINE, child.wait_with_output()).await.unwrap().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

#[tokio::test]
async fn only_what_was_asked_for_is_shown() {
    let broker = TestBroker::declared().await;
    let wanted =
        ["results", "--organization", "acme", "--outcome", "delivered", "--outcome", "invalid", "--count", "2"];
    let child = following(broker.docrelay(&wanted)).await;
    publish(&broker, &result("globex", Outcome::Delivered)).await;
    publish(&broker, &result("acme", Outcome::Exhausted)).await;
    publish(&broker, &result("acme", Outcome::Delivered)).await;
    publish(&broker, &result("acme", Outcome::Invalid)).await;
    let out = ended(child).await.fine();
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(lines.len(), 2, "{out}");
    assert!(lines[0].contains("delivered") && lines[0].contains("acme  erp  1/10  200  12ms"), "{out}");
    assert!(lines[1].contains("invalid"), "{out}");
}

#[tokio::test]
async fn ctrl_c_ends_quietly() {
    let broker = TestBroker::declared().await;
    let mut child = following(broker.docrelay(&["results", "--json"])).await;
    publish(&broker, &result("acme", Outcome::Delivered)).await;
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = timeout(DEADLINE, lines.next_line()).await.unwrap().unwrap().unwrap();
    let json: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&json["outcome"], &json["response_body"]), (&"delivered".into(), &"thanks".into()));
    let pid = child.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().await.unwrap().success());
    assert_eq!(ended(child).await.fine(), "");
}

#[tokio::test]
async fn a_named_queue_is_emptied_by_as_many_as_were_asked_for() {
    let broker = TestBroker::declared().await;
    let queue = format!("{}.mine", broker.config.queue_prefix);
    let durable = QueueDeclareOptions::durable();
    broker.channel.queue_declare(queue.as_str().into(), durable, FieldTable::default()).await.unwrap();
    let (exchange, options) = (broker.config.results_exchange.as_str().into(), QueueBindOptions::default());
    broker
        .channel
        .queue_bind(queue.as_str().into(), exchange, "#".into(), options, FieldTable::default())
        .await
        .unwrap();
    for _ in 0..3 {
        publish(&broker, &result("acme", Outcome::Delivered)).await;
    }
    broker.wait_for(&queue, 3).await;
    let out = broker.run(&["results", "--queue", &queue, "--count", "2"]).await.fine();
    assert_eq!(out.lines().count(), 2, "{out}");
    broker.wait_for(&queue, 1).await;
    broker.channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await.unwrap();
    let missing = broker.run(&["results", "--queue", "nowhere"]).await.failed();
    assert!(missing.contains("queue nowhere does not exist"), "{missing}");
}
