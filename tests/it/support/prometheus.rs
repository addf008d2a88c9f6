//! A Prometheus of one test's own, run by `scripts/prometheus`.

use std::{path::Path, process::Stdio, time::Duration};

use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    time::timeout,
};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/prometheus");

/// More than a start on a busy machine takes.
const DEADLINE: Duration = Duration::from_mins(1);

fn script(arguments: &[&str]) -> Command {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let mut command = Command::new(SCRIPT);
    command.args(arguments).env("CARGO_TARGET_DIR", target).stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

/// Runs promtool, with this text as its input; gives whether it was content, and what it said. None, and a loud word,
/// where it is not installed.
pub(crate) async fn promtool(arguments: &[&str], input: &str) -> Option<(bool, String)> {
    let mut child = script(&[&["promtool"], arguments].concat()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stdin, input.as_bytes()).await.ok();
    drop(stdin);
    let output = timeout(DEADLINE, child.wait_with_output()).await.unwrap().unwrap();
    if output.status.code() == Some(75) {
        skipped();
        return None;
    }
    let said = [output.stdout, output.stderr].concat();
    Some((output.status.success(), String::from_utf8_lossy(&said).into_owned()))
}

fn skipped() {
    eprintln!("SKIPPED: prometheus is not installed (scripts/prometheus install)");
}

/// A running Prometheus. It ends with its test, however that ends: when nobody holds its standard input.
pub(crate) struct Prometheus {
    url: String,
    client: reqwest::Client,
    child: Child,
    _folder: TempDir,
}

impl Prometheus {
    /// Starts one with this configuration; none, and a loud word, where it is not installed.
    pub(crate) async fn start(config: &Value) -> Option<Self> {
        let folder = TempDir::new().unwrap();
        // JSON is YAML.
        std::fs::write(folder.path().join("prometheus.yml"), config.to_string()).unwrap();
        let mut child = script(&["run", &folder.path().to_string_lossy()]).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let Some(url) = timeout(DEADLINE, lines.next_line()).await.expect("it must say where it listens").unwrap()
        else {
            let ended = child.wait().await.unwrap();
            assert_eq!(ended.code(), Some(75), "{ended}");
            skipped();
            return None;
        };
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Some(Self { url, client, child, _folder: folder })
    }

    /// Asks its API; gives the data, or what was wrong with the question.
    pub(crate) async fn ask(&self, path: &str, parameters: &[(&str, &str)]) -> Result<Value, String> {
        let mut url = url::Url::parse(&format!("{}/api/v1/{path}", self.url)).unwrap();
        url.query_pairs_mut().extend_pairs(parameters);
        let answer = self.client.get(url).send().await.unwrap().bytes().await.unwrap();
        let mut answer: Value = serde_json::from_slice(&answer).unwrap();
        if answer["status"] == "success" { Ok(answer["data"].take()) } else { Err(answer["error"].to_string()) }
    }

    /// What a query gives: the values of its series, those that are no number left out.
    pub(crate) async fn query(&self, query: &str) -> Result<Vec<f64>, String> {
        let data = self.ask("query", &[("query", query)]).await?;
        let results = data["result"].as_array().cloned().unwrap_or_default();
        let values = results.iter().map(|it| it["value"][1].as_str().unwrap().parse::<f64>().unwrap());
        Ok(values.filter(|it| !it.is_nan()).collect())
    }

    /// Ends it.
    pub(crate) async fn stop(mut self) {
        drop(self.child.stdin.take());
        timeout(DEADLINE, self.child.wait()).await.expect("it must end").unwrap();
    }
}
