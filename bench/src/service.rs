//! docrelay as a child process: the program as it is built, with its shipped defaults and no more settings than it needs.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep},
};

use crate::{broker::Broker, process, receiver::Control, round::stop};

/// A service that is not ready by then never will be.
const START_DEADLINE: Duration = Duration::from_secs(30);

/// Where programs are, and where what they write goes.
#[derive(Debug, Clone)]
pub struct Folders {
    /// The folder with the programs.
    pub programs: PathBuf,
    /// The folder for configuration, logs and results.
    pub output: PathBuf,
}

impl Folders {
    /// Starts docrelay with a configuration file.
    ///
    /// # Errors
    /// When there is no such program.
    pub fn start_docrelay(&self, config: &Path) -> Result<Child> {
        let program = self.programs.join("docrelay");
        let log = File::options().create(true).append(true).open(self.output.join("docrelay.log"))?;
        Command::new(&program)
            .arg("run")
            .arg("--config")
            .arg(config)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))
    }
}

/// A configuration that sets nothing but what must be set.
///
/// # Errors
/// When the subscriptions file is not there.
pub fn configuration(broker: &str, subscriptions: &Path, admin: u16) -> Result<String> {
    Ok(format!(
        "[broker]\nurl = \"{broker}\"\n\n[subscriptions]\nfile = \"{}\"\n\n[egress]\nallow = [\"127.0.0.0/8\"]\n\n\
         [admin]\nlisten = \"127.0.0.1:{admin}\"\n",
        fs::canonicalize(subscriptions)?.display(),
    ))
}

/// A port that is free now.
///
/// # Errors
/// When there is none.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// A replica that is ready.
pub struct Service {
    child: Child,
    /// Its process.
    pub pid: u32,
}

impl Service {
    /// Starts a replica, and waits until it is ready.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn start(folders: &Folders, broker: &Broker, subscriptions: &str) -> Result<Self> {
        let admin = free_port()?;
        let file = folders.output.join("subscriptions-part-two.yaml");
        fs::write(&file, subscriptions)?;
        let config = folders.output.join(format!("docrelay-part-two-{admin}.toml"));
        fs::write(&config, configuration(broker.url(), &file, admin)?)?;
        let mut child = folders.start_docrelay(&config)?;
        let pid = child.id().context("docrelay ended at once")?;
        await_ready(&mut child, admin, folders).await?;
        fs::remove_file(config)?;
        Ok(Self { child, pid })
    }

    /// The CPU time it has used, in seconds.
    #[must_use]
    pub fn cpu(&self) -> f64 {
        process::cpu_time(self.pid).unwrap_or_default().as_secs_f64()
    }

    /// The most memory it has held, in MiB.
    #[must_use]
    pub fn memory(&self) -> f64 {
        process::peak_memory_mib(self.pid).unwrap_or_default()
    }

    /// Ends it as SIGTERM does.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn stop(self) -> Result<()> {
        stop(self.child).await
    }

    /// Ends it as SIGKILL does.
    ///
    /// # Errors
    /// When it had ended before.
    pub async fn kill(mut self) -> Result<()> {
        ensure!(self.child.try_wait()?.is_none(), "docrelay ended by itself: see docrelay.log");
        Ok(self.child.kill().await?)
    }
}

/// Waits until a service is ready.
///
/// # Errors
/// When it ends, or does not become ready in time.
pub async fn await_ready(docrelay: &mut Child, admin: u16, folders: &Folders) -> Result<()> {
    let deadline = Instant::now() + START_DEADLINE;
    while !is_ready(admin).await {
        let log = folders.output.join("docrelay.log");
        ensure!(docrelay.try_wait()?.is_none(), "docrelay ended instead of getting ready: see {}", log.display());
        ensure!(Instant::now() < deadline, "docrelay does not get ready: see {}", log.display());
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

async fn is_ready(admin: u16) -> bool {
    match Control::connect(admin).await {
        Ok(mut control) => control.get("/readyz").await.is_ok(),
        Err(_) => false,
    }
}
