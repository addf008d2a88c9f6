//! `docrelay receive`: what it prints and how it answers.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
    time::Duration,
};

use clap::Parser;
use docrelay::cli::receive::{Args, serve};
use serde_json::Value;
use tokio::{net::TcpListener, task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    args: Args,
}

/// What was printed.
#[derive(Clone, Default)]
struct Printed(Arc<Mutex<Vec<u8>>>);

impl Write for Printed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Running {
    url: String,
    printed: Printed,
    stop: CancellationToken,
    tasks: JoinSet<anyhow::Result<()>>,
}

async fn start(arguments: &[&str]) -> Running {
    let args = Command::parse_from([&["receive"], arguments].concat()).args;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hooks", listener.local_addr().unwrap());
    let (printed, stop, mut tasks) = (Printed::default(), CancellationToken::new(), JoinSet::new());
    tasks.spawn(serve(args, listener, printed.clone(), stop.clone()));
    Running { url, printed, stop, tasks }
}

impl Running {
    async fn post(&self, id: &str, attempt: u32) -> u16 {
        let request = reqwest::Client::new().post(&self.url).header("webhook-id", id).body("{\"a\":\n1}");
        let request = request.header("docrelay-attempt", attempt).header("docrelay-event", "document_text");
        request.send().await.unwrap().status().as_u16()
    }

    /// Stops it; gives the lines that it printed.
    async fn lines(mut self) -> Vec<String> {
        self.stop.cancel();
        timeout(Duration::from_secs(30), self.tasks.join_next()).await.unwrap().unwrap().unwrap().unwrap();
        let printed = self.printed.0.lock().unwrap();
        String::from_utf8(printed.clone()).unwrap().lines().map(str::to_owned).collect()
    }
}

#[tokio::test]
async fn fail_first_fails_the_first_attempts_of_each_delivery() {
    let receiver = start(&["--fail-first", "2", "--status", "202", "--quiet"]).await;
    for id in ["one", "two"] {
        let mut statuses = vec![];
        for attempt in 1..=4 {
            statuses.push(receiver.post(id, attempt).await);
        }
        assert_eq!(statuses, [500, 500, 202, 202], "{id}");
    }
    let lines = receiver.lines().await;
    assert_eq!(lines.last().unwrap(), "8 requests, 2 deliveries, 6 repeats");
    assert_eq!(lines.len(), 2, "{lines:?}");
}

#[tokio::test]
async fn each_request_is_a_line_with_what_matters() {
    let receiver = start(&[]).await;
    receiver.post("the-id", 3).await;
    let lines = receiver.lines().await;
    let words: Vec<_> = lines[1].split_whitespace().skip(1).collect();
    assert_eq!(words, ["200", "POST", "/hooks", "document_text", "#3", "the-id", "{\"a\":\\n1}"]);
}

#[tokio::test]
async fn json_prints_objects_only() {
    let receiver = start(&["--json"]).await;
    receiver.post("the-id", 3).await;
    let lines: Vec<Value> = receiver.lines().await.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["webhook_id"], "the-id");
    assert_eq!(lines[0]["attempt"], 3);
    assert_eq!(lines[0]["body"], "{\"a\":\n1}");
    assert_eq!(lines[1], serde_json::json!({"requests": 1, "deliveries": 1, "repeats": 0}));
    assert_eq!(lines.len(), 2);
}

#[tokio::test]
async fn a_rate_of_one_always_fails() {
    let receiver = start(&["--fail-rate", "1"]).await;
    assert_eq!(receiver.post("a", 1).await, 500);
}

#[tokio::test]
async fn a_hanging_receiver_can_be_stopped() {
    let receiver = start(&["--hang"]).await;
    let stop = receiver.stop.clone();
    let printed = receiver.printed.clone();
    let stopping = async {
        // The request is shown when it has come.
        while !String::from_utf8_lossy(&printed.0.lock().unwrap()).contains("document_text") {
            tokio::task::yield_now().await;
        }
        stop.cancel();
    };
    let (status, ()) = tokio::join!(receiver.post("a", 1), stopping);
    assert_eq!(status, 503);
    receiver.lines().await;
}
