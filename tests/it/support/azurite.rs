//! An Azure Blob Storage of one test's own, run by `scripts/azurite`.

use std::{path::Path, process::Stdio, time::Duration};

use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    time::timeout,
};
use tokio_util::task::TaskTracker;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/azurite");

/// More than a start on a busy machine takes.
const DEADLINE: Duration = Duration::from_mins(1);

/// A running emulator. It ends with its test, however that ends.
pub(crate) struct Azurite {
    /// `http://127.0.0.1:<port>`
    pub(crate) url: String,
    _child: Child,
    _folder: TempDir,
}

impl Azurite {
    /// Starts one; none, and a loud word, where it is not installed.
    pub(crate) async fn start() -> Option<Self> {
        let folder = TempDir::new().unwrap();
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
        let mut command = Command::new(SCRIPT);
        command.arg("run").arg(folder.path()).env("CARGO_TARGET_DIR", target);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = async {
            while let Some(line) = lines.next_line().await.unwrap() {
                if let Some((_, port)) = line.split_once("listens on http://127.0.0.1:") {
                    return Some(port.trim().to_owned());
                }
            }
            None
        };
        let Some(port) = timeout(DEADLINE, port).await.expect("it must say where it listens") else {
            let ended = child.wait().await.unwrap();
            assert_eq!(ended.code(), Some(75), "{ended}");
            eprintln!("SKIPPED: azurite is not installed (scripts/azurite install)");
            return None;
        };
        // It goes on talking, and must not wait for a reader.
        TaskTracker::new().spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Some(Self { url: format!("http://127.0.0.1:{port}"), _child: child, _folder: folder })
    }
}
