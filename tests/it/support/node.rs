//! A RabbitMQ node of one test's own: to be killed, restarted, blocked and asked. Everything else shares the test broker.

use std::{
    path::{Path, PathBuf},
    process::{Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use tokio::{process::Command, time::timeout};

/// More than a start on a busy machine takes, three failed tries included.
const DEADLINE: Duration = Duration::from_mins(4);

static STARTED: AtomicU32 = AtomicU32::new(0);

/// A node, with its data in a folder of its own. Dropped, it is killed and its folder is gone.
#[derive(Debug)]
pub(crate) struct Node {
    folder: PathBuf,
    url: String,
}

impl Node {
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// With further options of `scripts/broker start`.
    pub(crate) async fn start_with(options: &[&str]) -> Self {
        // Named after this process: whoever comes next cleans up what it left behind if it is killed.
        let name = format!("{}.{}", std::process::id(), STARTED.fetch_add(1, Ordering::Relaxed));
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("brokers").join(name);
        let mut node = Self { folder, url: String::new() };
        let url = node.script("start", options).await;
        url.trim().clone_into(&mut node.url);
        node
    }

    /// Where it listens, now and after a restart.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Its folder. With `--tls`, the file `amqps-port` in it has the port for that.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Ends it with SIGKILL.
    pub(crate) async fn kill(&self) {
        self.script("kill", &[]).await;
    }

    /// Stops it in order.
    pub(crate) async fn stop(&self) {
        self.script("stop", &[]).await;
    }

    /// Stops it if it runs, and starts it with the same port and data; returns when it takes connections.
    pub(crate) async fn restart(&self) {
        self.script("restart", &[]).await;
    }

    /// Runs `rabbitmqctl`; gives what it prints.
    pub(crate) async fn ctl(&self, arguments: &[&str]) -> String {
        self.script("ctl", arguments).await
    }

    async fn script(&self, command: &str, arguments: &[&str]) -> String {
        script(&self.folder, command, arguments).await
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let killed = std::process::Command::new(SCRIPT)
            .arg("kill")
            .arg(&self.folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if killed.is_ok_and(|status| status.success()) {
            std::fs::remove_dir_all(&self.folder).ok();
        }
    }
}

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/broker");

/// Runs `scripts/broker` for the node in a folder; gives what it prints.
pub(crate) async fn script(folder: &Path, command: &str, arguments: &[&str]) -> String {
    let mut running = Command::new(SCRIPT);
    running.arg(command).arg(folder).args(arguments).stdin(Stdio::null());
    let Output { status, stdout, stderr } = timeout(DEADLINE, running.output()).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&stderr);
    assert!(status.success(), "broker {command} {arguments:?}: {status}: {said}");
    String::from_utf8(stdout).unwrap()
}
