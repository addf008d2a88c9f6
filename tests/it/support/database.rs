//! A PostgreSQL server of one test's own: to be killed and started again. Everything else shares the test server.

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use tokio::process::Command;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/database");

static MADE: AtomicU32 = AtomicU32::new(0);

/// A server, with its data in a folder of its own. Dropped, it is stopped and its data is gone.
#[derive(Debug)]
pub(crate) struct Server(PathBuf);

impl Server {
    pub(crate) fn new() -> Self {
        // Named after this process: whoever comes next cleans up what it left behind if it is killed.
        let name = format!("{}.{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        Self(Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("databases").join(name))
    }

    /// Starts it, with the port and the data that it had before; gives its URL.
    pub(crate) async fn start(&self) -> String {
        self.script("start").await
    }

    /// Ends it at once, as a crash would.
    pub(crate) async fn kill(&self) {
        self.script("kill").await;
    }

    async fn script(&self, command: &str) -> String {
        let done = Command::new(SCRIPT).arg(command).arg(&self.0).output().await.unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap().trim().to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let stopped = std::process::Command::new(SCRIPT).arg("stop").arg(&self.0).output();
        assert!(stopped.is_ok_and(|done| done.status.success()) || std::thread::panicking());
    }
}
