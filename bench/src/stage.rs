//! What every measurement of the second part needs: a fresh service, an open loop, and the meters beside it.

use std::time::Duration;

use anyhow::Result;
use serde::Serialize;
use tokio::{
    runtime::Handle,
    task::spawn_blocking,
    time::{Instant, sleep},
};

use crate::{
    broker::Broker,
    events::{organization, subscription_to},
    latency::{Served, served},
    process::cpu_time,
    schedule::{MOST_LAG, Plan, Published, publish},
    service::{Folders, Service},
    targets::{Arrival, Targets},
};

/// How long the last events are waited for.
const PATIENCE: Duration = Duration::from_secs(15);

/// The share of the capacity that the open loops ask for if nothing else is said.
pub const SHARE: f64 = 0.3;

/// Everything that measurements share.
pub struct Stage<'a> {
    /// The broker.
    pub broker: &'a Broker,
    /// Its process.
    pub broker_pid: u32,
    /// Where things are.
    pub folders: &'a Folders,
    /// The receivers.
    pub targets: Targets,
    /// Deliveries per second in a closed loop, just measured: the median of a few.
    pub capacity: f64,
    /// The share of it that the open loops ask for.
    pub share: f64,
    /// Short runs: to see that it works, not to measure.
    pub quick: bool,
    /// Whether a run counts though its publisher was late.
    pub keep_late: bool,
}

/// Who used how much, from one moment to another.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Usage {
    /// Seconds.
    pub seconds: f64,
    /// CPU-seconds of the service.
    pub service_cpu: f64,
    /// CPU-seconds of the broker.
    pub broker_cpu: f64,
}

/// What an open loop showed.
#[derive(Debug, Clone, Serialize)]
pub struct Observed {
    /// Events per second.
    pub rate: f64,
    /// How many were published.
    pub published: usize,
    /// By how much the publisher was late, with one event of a hundred.
    pub publisher_lag_p99_ms: f64,
    /// The targets that are looked at.
    #[serde(flatten)]
    pub served: Served,
    /// Requests to the others.
    pub others: usize,
    /// While events were published.
    pub usage: Usage,
    /// The service's peak memory.
    pub rss_mib: f64,
    /// Whether the publisher did not keep its schedule: then it says nothing.
    pub void: bool,
}

impl Stage<'_> {
    /// Events per second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.capacity * self.share
    }

    /// The first of two lengths, or the second where it must be quick.
    #[must_use]
    pub fn seconds(&self, long: u64, quick: u64) -> Duration {
        Duration::from_secs(if self.quick { quick } else { long })
    }

    /// A service that has just become ready, with nothing in any queue.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn fresh(&self, subscriptions: &str) -> Result<Service> {
        self.broker.discard().await?;
        Service::start(self.folders, self.broker, subscriptions).await
    }

    /// A subscriptions file with one subscription for each target; `more` are its further fields.
    #[must_use]
    pub fn subscriptions(&self, targets: impl IntoIterator<Item = (usize, String)>) -> String {
        let every = targets.into_iter().map(|(target, more)| {
            let organization = organization(target);
            subscription_to(&organization, &organization, &self.targets.url(target), &more)
        });
        std::iter::once("subscriptions:\n".to_owned()).chain(every).collect()
    }

    /// What has been used since the processes began.
    ///
    /// # Errors
    /// When the broker is gone.
    pub fn used(&self, service: &Service) -> Result<Usage> {
        let broker_cpu = cpu_time(self.broker_pid)?.as_secs_f64();
        Ok(Usage { seconds: 0.0, service_cpu: service.cpu(), broker_cpu })
    }

    /// Publishes by the plan, and waits until the targets that are looked at have everything, or a while.
    ///
    /// # Errors
    /// When the broker is gone.
    pub async fn open_loop(&self, service: &Service, plan: &Plan, watched: impl Fn(usize) -> bool) -> Result<Opened> {
        let (connection, channel) = self.broker.publishing().await?;
        let (handle, begun, before) = (Handle::current(), Instant::now(), self.used(service)?);
        let published = {
            // A channel is closed when nobody has it any more: this one is closed with its connection.
            let (plan, channel) = (plan.clone(), channel.clone());
            spawn_blocking(move || publish(&handle, &channel, &plan)).await??
        };
        let (after, seconds) = (self.used(service)?, begun.elapsed().as_secs_f64());
        let expected = plan.turns().into_iter().filter(|target| watched(*target)).count();
        let deadline = Instant::now() + PATIENCE;
        while self.targets.count(&watched) < expected && Instant::now() < deadline {
            sleep(Duration::from_millis(20)).await;
        }
        let end = Instant::now();
        connection.close(200, "done".into()).await?;
        let usage = Usage {
            seconds,
            service_cpu: after.service_cpu - before.service_cpu,
            broker_cpu: after.broker_cpu - before.broker_cpu,
        };
        Ok(Opened { published, end, usage, rss_mib: service.memory(), keep_late: self.keep_late })
    }
}

/// An open loop that was run.
pub struct Opened {
    published: Published,
    end: Instant,
    usage: Usage,
    rss_mib: f64,
    keep_late: bool,
}

impl Opened {
    /// What it showed of the targets that are looked at.
    pub fn observed(self, plan: &Plan, arrivals: &[Arrival], watched: impl Fn(usize) -> bool) -> Observed {
        let served = served(plan, self.published.began, arrivals, self.end, &watched);
        let seen = served.all.count - served.missing + served.repeated;
        Observed {
            rate: plan.rate,
            published: plan.count(),
            publisher_lag_p99_ms: self.published.lag_p99.as_secs_f64() * 1000.0,
            served,
            others: arrivals.len() - seen,
            usage: self.usage,
            rss_mib: self.rss_mib,
            void: self.published.lag_p99 > MOST_LAG && !self.keep_late,
        }
    }
}
