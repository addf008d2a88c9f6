//! One target hangs: how fast are the others served, from the first second?
//!
//! Pairs of runs of docrelay on the same load, once with all targets answering and once with one of the 64 that takes
//! the connection and never answers. Nothing is warmed up: the clock starts with the first request that is answered and
//! stops with the last one of the 63 others.

use std::{net::Ipv4Addr, time::Duration};

use anyhow::{Context, Result, ensure};
use tokio::{
    net::TcpListener,
    task::JoinHandle,
    time::{Instant, sleep},
};

use crate::{
    events::{ORGANIZATIONS, subscriptions, subscriptions_with_one_hung},
    round::{Bench, config_file},
};

/// No run takes longer, unless everything hangs.
const DEADLINE: Duration = Duration::from_mins(2);

/// Accepts connections and holds them without a word. Returns its port.
///
/// # Errors
/// When there is no free port.
pub async fn hang() -> Result<(u16, JoinHandle<()>)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let port = listener.local_addr()?.port();
    #[expect(clippy::disallowed_methods, reason = "lives as long as the program")]
    let holding = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            held.push(stream);
        }
    });
    Ok((port, holding))
}

impl Bench {
    /// The rate of the 63 others, in deliveries per second, while one target hangs at `hung_port`; or while none does.
    ///
    /// # Errors
    /// When the others are not all served in time.
    pub async fn rate_of_the_others(&mut self, hung_port: Option<u16>, run: &str) -> Result<f64> {
        let events = self.events - self.events % ORGANIZATIONS;
        let answered = if hung_port.is_some() { events - events / ORGANIZATIONS } else { events };
        let text = match hung_port {
            Some(port) => subscriptions_with_one_hung(self.receiver_port, port),
            None => subscriptions(1, self.receiver_port),
        };
        std::fs::write(self.folders.output.join("subscriptions-1.yaml"), text)?;
        self.broker.preload(run, events).await?;
        let before = self.control.counts().await?.received;
        let mut child = self.folders.start_docrelay(&config_file(&self.folders.output, 1))?;
        let served = self.served(before, answered as u64).await;
        // What hangs is cut off and thrown away: the next run begins with empty queues.
        child.kill().await?;
        self.broker.empty().await?;
        let took = served.with_context(|| format!("run {run}"))?;
        #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
        Ok((events - events / ORGANIZATIONS) as f64 / took.as_secs_f64())
    }

    /// From the first answered request to the last one.
    async fn served(&mut self, before: u64, answered: u64) -> Result<Duration> {
        let (deadline, mut began) = (Instant::now() + DEADLINE, None);
        loop {
            let received = self.control.counts().await?.received - before;
            let now = Instant::now();
            if received > 0 {
                let began = *began.get_or_insert(now);
                if received >= answered {
                    return Ok(now - began);
                }
            }
            ensure!(now < deadline, "{received} of {answered} requests after {DEADLINE:?}");
            sleep(Duration::from_millis(5)).await;
        }
    }
}
