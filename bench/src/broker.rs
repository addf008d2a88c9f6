//! The broker's side of the benchmark: docrelay's names, the preloaded events, the queues that are looked at.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use futures_util::{StreamExt, stream::FuturesUnordered};
use lapin::{
    Channel, Confirmation, Connection, ConnectionProperties, ExchangeKind,
    options::{
        BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
        QueueDeleteOptions, QueuePurgeOptions,
    },
    types::{FieldTable, LongString},
};
use tokio::{process::Command, time::sleep};

use crate::{events, schedule::properties};

/// Where events are published.
pub const EVENTS_EXCHANGE: &str = "documents";
/// Where docrelay, and the bare loop, consume them.
pub const EVENTS_QUEUE: &str = "docrelay.events";
/// Where results are published.
pub const RESULTS_EXCHANGE: &str = "documents.results";
/// What cannot be processed.
const DEAD_QUEUE: &str = "docrelay.dead";
/// Where docrelay parks what must wait.
pub const PARK_EXCHANGE: &str = "docrelay.park";
/// Takes every result, for both loops alike, so that the broker really stores them. Purged before every loop.
const RESULTS_QUEUE: &str = "bench.results";
/// Takes a copy of everything that is parked: it must stay empty.
const PARKED_QUEUE: &str = "bench.parked";

const CONFIRMS_OUTSTANDING: usize = 500;

/// The keys of the delay queues.
pub fn delay_keys() -> impl Iterator<Item = String> {
    (0..10).map(|power| format!("delay.{}s", 1 << power))
}

/// How many messages wait in the queues that tell how a loop went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Depths {
    /// Events that nobody has taken.
    pub events: u32,
    /// Results.
    pub results: u32,
    /// Copies of what was parked.
    pub parked: u32,
    /// What was set aside.
    pub dead: u32,
}

/// A private node, and a channel to it for preparing and looking.
pub struct Broker {
    url: String,
    folder: PathBuf,
    file_system: String,
    _connection: Connection,
    channel: Channel,
}

impl Broker {
    /// Connects to the node at `url`, which `scripts/broker` keeps in `folder`.
    ///
    /// # Errors
    /// When there is none, or its data is not where it should be.
    pub async fn connect(url: String, folder: PathBuf) -> Result<Self> {
        let file_system = file_system(&folder.join("data")).await?;
        let connection = Connection::connect(&url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(Self { url, folder, file_system, _connection: connection, channel })
    }

    /// The node's URL.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The type of the file system that the node keeps its data on, such as `ext4` or `tmpfs`.
    #[must_use]
    pub fn file_system(&self) -> &str {
        &self.file_system
    }

    /// The process id of the Erlang VM.
    ///
    /// # Errors
    /// When the node does not run.
    pub async fn pid(&self) -> Result<u32> {
        self.script("pid", &[]).await?.trim().parse().context("scripts/broker pid prints no number")
    }

    /// Declares as much as the bare loop needs, as docrelay would, for trying the benchmark without docrelay.
    ///
    /// # Errors
    /// When the broker refuses.
    pub async fn declare_without_docrelay(&self) -> Result<()> {
        for (name, kind) in [
            (EVENTS_EXCHANGE, ExchangeKind::Topic),
            (RESULTS_EXCHANGE, ExchangeKind::Topic),
            (PARK_EXCHANGE, ExchangeKind::Direct),
        ] {
            let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
            self.channel.exchange_declare(name.into(), kind, options, FieldTable::default()).await?;
        }
        self.declare_quorum_queue(DEAD_QUEUE, FieldTable::default()).await?;
        let mut arguments = FieldTable::default();
        arguments.insert("x-delivery-limit".into(), 50.into());
        arguments.insert("x-dead-letter-exchange".into(), LongString::from("").into());
        arguments.insert("x-dead-letter-routing-key".into(), LongString::from(DEAD_QUEUE).into());
        arguments.insert("x-dead-letter-strategy".into(), LongString::from("at-least-once").into());
        arguments.insert("x-overflow".into(), LongString::from("reject-publish").into());
        self.declare_quorum_queue(EVENTS_QUEUE, arguments).await?;
        self.bind(EVENTS_QUEUE, EVENTS_EXCHANGE, "#").await
    }

    /// Declares the benchmark's own queues. docrelay's topology must be there.
    ///
    /// # Errors
    /// When it is not.
    pub async fn declare_own_queues(&self) -> Result<()> {
        self.declare_quorum_queue(RESULTS_QUEUE, FieldTable::default()).await?;
        self.bind(RESULTS_QUEUE, RESULTS_EXCHANGE, "#").await?;
        self.declare_quorum_queue(PARKED_QUEUE, FieldTable::default()).await?;
        let columns = ["--silent", "list_bindings", "source_name", "routing_key"];
        for binding in self.script("ctl", &columns).await?.lines() {
            if let Some((PARK_EXCHANGE, key)) = binding.split_once('\t') {
                self.bind(PARKED_QUEUE, PARK_EXCHANGE, key).await?;
            }
        }
        Ok(())
    }

    /// Empties the benchmark's own queues and puts `count` events into the events queue.
    ///
    /// # Errors
    /// When the events queue was not empty, or an event is not confirmed.
    pub async fn preload(&self, run: &str, count: usize) -> Result<()> {
        for queue in [RESULTS_QUEUE, PARKED_QUEUE] {
            self.channel.queue_purge(queue.into(), QueuePurgeOptions::default()).await?;
        }
        let left = self.depth(EVENTS_QUEUE).await?;
        ensure!(left == 0, "the loop before left {left} events behind");
        self.publish_all((0..count).map(|index| events::event(run, index))).await?;
        ensure!(self.depth(EVENTS_QUEUE).await? as usize == count, "not every event reached the events queue");
        Ok(())
    }

    /// Empties every queue, what comes back from a killed service and what is on its way between queues included.
    ///
    /// # Errors
    /// When the broker is gone.
    pub async fn empty(&self) -> Result<()> {
        let queues = self.script("ctl", &["--silent", "list_queues", "name"]).await?;
        // The counts that the broker lists are seconds old: they cannot say when all is gone.
        for _ in 0..4 {
            sleep(Duration::from_secs(1)).await;
            for queue in queues.lines() {
                self.channel.queue_purge(queue.into(), QueuePurgeOptions::default()).await?;
            }
        }
        Ok(())
    }

    /// Deletes every queue, the benchmark's own included: docrelay declares its own anew, and nothing is left of what was
    /// on its way.
    ///
    /// # Errors
    /// When the broker is gone.
    pub async fn discard(&self) -> Result<()> {
        let delays = delay_keys().map(|key| format!("docrelay.{key}"));
        let others = [EVENTS_QUEUE, "docrelay.due", "docrelay.presence", DEAD_QUEUE, RESULTS_QUEUE, PARKED_QUEUE];
        for queue in others.map(str::to_owned).into_iter().chain(delays) {
            self.channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await?;
        }
        Ok(())
    }

    /// A channel of its own on a connection of its own, without confirms.
    ///
    /// # Errors
    /// When the broker is gone.
    pub async fn publishing(&self) -> Result<(Connection, Channel)> {
        let connection = Connection::connect(&self.url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        Ok((connection, channel))
    }

    /// Publishes events as fast as they are confirmed.
    ///
    /// # Errors
    /// When one is not.
    pub async fn publish_all(&self, events: impl Iterator<Item = (String, String, Vec<u8>)>) -> Result<()> {
        let mut confirms = FuturesUnordered::new();
        for (id, key, body) in events {
            let options = BasicPublishOptions::default();
            confirms.push(
                self.channel.basic_publish(EVENTS_EXCHANGE.into(), key.into(), options, &body, properties(id)).await?,
            );
            if confirms.len() == CONFIRMS_OUTSTANDING {
                confirmed(confirms.next().await)?;
            }
        }
        while let Some(confirmation) = confirms.next().await {
            confirmed(Some(confirmation))?;
        }
        Ok(())
    }

    /// How many messages wait in docrelay's own two queues.
    ///
    /// # Errors
    /// When the broker is gone.
    pub async fn waiting(&self) -> Result<u32> {
        Ok(self.depth(EVENTS_QUEUE).await? + self.depth("docrelay.due").await?)
    }

    /// How many messages wait where.
    ///
    /// # Errors
    /// When the broker is gone.
    pub async fn depths(&self) -> Result<Depths> {
        Ok(Depths {
            events: self.depth(EVENTS_QUEUE).await?,
            results: self.depth(RESULTS_QUEUE).await?,
            parked: self.depth(PARKED_QUEUE).await?,
            dead: self.depth(DEAD_QUEUE).await?,
        })
    }

    async fn depth(&self, queue: &str) -> Result<u32> {
        let passive = QueueDeclareOptions::durable().passive();
        Ok(self.channel.queue_declare(queue.into(), passive, FieldTable::default()).await?.message_count())
    }

    async fn declare_quorum_queue(&self, name: &str, mut arguments: FieldTable) -> Result<()> {
        arguments.insert("x-queue-type".into(), LongString::from("quorum").into());
        self.channel.queue_declare(name.into(), QueueDeclareOptions::durable(), arguments).await?;
        Ok(())
    }

    async fn bind(&self, queue: &str, exchange: &str, key: &str) -> Result<()> {
        let options = QueueBindOptions::default();
        Ok(self.channel.queue_bind(queue.into(), exchange.into(), key.into(), options, FieldTable::default()).await?)
    }

    async fn script(&self, command: &str, arguments: &[&str]) -> Result<String> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/broker");
        let output = Command::new(script).arg(command).arg(&self.folder).args(arguments).output().await?;
        ensure!(
            output.status.success(),
            "scripts/broker {command} failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(String::from_utf8(output.stdout)?)
    }
}

async fn file_system(folder: &Path) -> Result<String> {
    let output = Command::new("df").arg("--output=fstype").arg(folder).output().await?;
    ensure!(output.status.success(), "df failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    // A heading, and the type below it.
    let lines = String::from_utf8(output.stdout)?;
    lines.lines().nth(1).map(|kind| kind.trim().to_owned()).context("df looks different here")
}

fn confirmed(confirmation: Option<lapin::Result<Confirmation>>) -> Result<()> {
    let confirmation = confirmation.context("a confirm is missing")??;
    ensure!(matches!(confirmation, Confirmation::Ack(None)), "the broker refused an event");
    Ok(())
}
