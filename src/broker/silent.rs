//! A broker that takes connections and says nothing, for tests of who tries it again: each try lasts until its own deadline.

use std::{io::ErrorKind, net::TcpListener, sync::Arc, time::Duration};

use tokio::{sync::watch, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{ConsumerSettings, Consumers, Publisher, Standing, topology::Topology};
use crate::{
    config::{BrokerConfig, Declare},
    domain::Secret,
    telemetry::metrics::Metrics,
};

/// How long it is watched. The clock is paused: it takes moments.
const WATCHED: Duration = Duration::from_mins(10);

/// Tries in that time, each of 10 to 12 s: with waits of up to 10 s in between there are some 37; with waits of 100 ms, 49 to 60.
const TRIES: std::ops::Range<usize> = 20..44;

pub(super) struct Silent(TcpListener);

impl Silent {
    pub(super) fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        Self(listener)
    }

    pub(super) fn url(&self) -> Secret {
        Secret::new(format!("amqp://guest:guest@{}/%2f", self.0.local_addr().unwrap()))
    }

    /// Lets somebody try for a while, who must do it ever more seldom.
    pub(super) async fn tried_by<T>(self, running: impl Future<Output = T>) {
        assert!(timeout(WATCHED, running).await.is_err(), "it is tried for ever");
        let mut tries = 0;
        loop {
            match self.0.accept() {
                Ok(_) => tries += 1,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
        }
        assert!(TRIES.contains(&tries), "{tries}");
    }

    fn config(&self) -> BrokerConfig {
        BrokerConfig {
            url: self.url(),
            ca_file: None,
            declare: Declare::Create,
            queue_prefix: "docrelay".to_owned(),
            events_exchange: "documents".to_owned(),
            events_binding: "#".to_owned(),
            results_exchange: "documents.results".to_owned(),
            prefetch: 10,
            window_bytes: 1_000_000,
            delay_unit: Duration::from_secs(1),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_publishes_tries_it_ever_more_seldom_although_each_try_takes_long() {
    let silent = Silent::new();
    let config = silent.config();
    let topology = Arc::new(Topology::new(&config));
    let (_publisher, running) = Publisher::new(config, topology, Metrics::default(), CancellationToken::new());
    silent.tried_by(running).await;
}

#[tokio::test(start_paused = true)]
async fn who_consumes_tries_it_ever_more_seldom_although_each_try_takes_long() {
    let silent = Silent::new();
    let broker = silent.config();
    let topology = Arc::new(Topology::new(&broker));
    let settings = ConsumerSettings { broker, topology, largest_message: 1_000_000 };
    let (_open, publishing) = watch::channel(Standing::Open);
    let consumers = Consumers::new(settings, publishing, TaskTracker::new());
    silent.tried_by(Box::pin(consumers.run(|_| {}, CancellationToken::new(), CancellationToken::new()))).await;
}
