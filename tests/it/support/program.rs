//! The real program, running beside a test.

use std::{
    fs::File,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitStatus,
};

use tokio::{
    process::{Child, Command},
    time::timeout,
};

use super::{broker::eventually, service::GENEROUS};

/// The real program, running. Its log is shown when its test fails.
pub(crate) struct Program {
    child: Child,
    log: PathBuf,
    admin: SocketAddr,
}

impl Program {
    /// Starts it; its health is served at `admin`, and its log goes to `log`.
    pub(super) fn start(mut command: Command, admin: SocketAddr, log: PathBuf) -> Self {
        let file = File::create(&log).unwrap();
        command.stdout(file.try_clone().unwrap()).stderr(file);
        Self { child: command.spawn().unwrap(), log, admin }
    }

    /// Ends it with SIGKILL.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Sends it a signal, by its name.
    pub(crate) async fn signal(&self, name: &str) {
        let pid = self.child.id().expect("it runs").to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status().await.unwrap();
        assert!(sent.success());
    }

    /// Waits for its end.
    pub(crate) async fn ended(mut self) -> ExitStatus {
        timeout(GENEROUS, self.child.wait()).await.expect("the program must end").unwrap()
    }

    /// Waits until it says that it is not ready.
    pub(crate) async fn not_ready(&self) {
        until_ready_is(self.admin, false).await;
    }

    /// Stops it in order.
    pub(crate) async fn stop(self) {
        self.signal("TERM").await;
        assert!(self.ended().await.success());
    }

    /// How many bytes of memory it holds, and held at most.
    pub(crate) fn memory(&self) -> (u64, u64) {
        let pid = self.child.id().expect("it runs");
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
        };
        (field("VmRSS:"), field("VmHWM:"))
    }

    /// Where health and metrics are served.
    pub(crate) fn admin(&self) -> SocketAddr {
        self.admin
    }

    pub(crate) fn log(&self) -> &Path {
        &self.log
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("the end of the service's log:\n{}", lines[lines.len().saturating_sub(60)..].join("\n"));
        }
    }
}

/// Waits until a service says that it is ready.
pub(super) async fn ready(admin: SocketAddr) {
    until_ready_is(admin, true).await;
}

async fn until_ready_is(admin: SocketAddr, wanted: bool) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    eventually(if wanted { "a service that is ready" } else { "a service that is not ready" }, || async {
        let answer = client.get(format!("http://{admin}/readyz")).send().await.ok()?;
        (answer.status().is_success() == wanted).then_some(())
    })
    .await;
}
