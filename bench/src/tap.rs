//! Counts what docrelay has the broker keep for later, and what it tells: a transient queue that gets a copy of everything
//! parked and of every result. It costs the broker something, so it is there only where it is asked for.

use std::{
    collections::{BTreeMap, HashMap},
    io::Read,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context, Result};
use flate2::read::ZlibDecoder;
use futures_util::StreamExt;
use lapin::{
    Channel, Connection, ConnectionProperties, Consumer,
    message::Delivery,
    options::{BasicConsumeOptions, QueueBindOptions, QueueDeclareOptions},
    types::FieldTable,
};
use prost::Message;

use crate::{
    broker::{PARK_EXCHANGE, RESULTS_EXCHANGE, delay_keys},
    events::wire::{DocumentEvent, Parked, ParkedEvent},
};

/// What a delivery waited.
#[derive(Debug, Clone, Copy, Default)]
pub struct Waited {
    /// How often it was parked.
    pub parked: u32,
    /// How many units its first wait was.
    pub first_wait: u64,
    /// How many units it was given in all.
    pub units: u64,
}

/// What was counted.
#[derive(Debug, Clone, Default)]
pub struct Counted {
    /// Messages to the delay queues.
    pub messages: usize,
    /// By event and subscription.
    pub waited: HashMap<(String, String), Waited>,
    /// Results by outcome and organization.
    pub results: BTreeMap<(String, String), usize>,
}

/// A tap.
pub struct Tap {
    counted: Arc<Mutex<Counted>>,
    connection: Connection,
    _channel: Channel,
}

impl Tap {
    /// Opens a tap. docrelay's topology must be there.
    ///
    /// # Errors
    /// When it is not.
    pub async fn open(url: &str) -> Result<Self> {
        let connection = Connection::connect(url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        let options = QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
        let queue = channel.queue_declare("".into(), options, FieldTable::default()).await?;
        let name = queue.name().as_str().to_owned();
        for key in delay_keys() {
            bind(&channel, &name, PARK_EXCHANGE, &key).await?;
        }
        bind(&channel, &name, RESULTS_EXCHANGE, "#").await?;
        let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        let consumer =
            channel.basic_consume(name.as_str().into(), "tap".into(), options, FieldTable::default()).await?;
        let counted = Arc::default();
        #[expect(clippy::disallowed_methods, reason = "ends with its connection")]
        tokio::spawn(count(consumer, Arc::clone(&counted)));
        Ok(Self { counted, connection, _channel: channel })
    }

    /// What was counted so far.
    pub fn read<T>(&self, read: impl FnOnce(&Counted) -> T) -> T {
        read(&self.counted.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Closes it.
    ///
    /// # Errors
    /// When the connection was lost: then something may be missing.
    pub async fn close(self) -> Result<Counted> {
        self.connection.close(200, "done".into()).await.context("the tap's connection was lost")?;
        Ok(std::mem::take(&mut *self.counted.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

async fn bind(channel: &Channel, queue: &str, exchange: &str, key: &str) -> Result<()> {
    let options = QueueBindOptions::default();
    Ok(channel.queue_bind(queue.into(), exchange.into(), key.into(), options, FieldTable::default()).await?)
}

async fn count(mut consumer: Consumer, counted: Arc<Mutex<Counted>>) {
    while let Some(Ok(delivery)) = consumer.next().await {
        let mut counted = counted.lock().unwrap_or_else(PoisonError::into_inner);
        if delivery.exchange.as_str() == PARK_EXCHANGE {
            counted.parked(&delivery);
        } else {
            counted.told(delivery.routing_key.as_str());
        }
    }
}

impl Counted {
    fn parked(&mut self, delivery: &Delivery) {
        self.messages += 1;
        let hop: u64 = delivery
            .routing_key
            .as_str()
            .rsplit_once('.')
            .and_then(|(_, wait)| wait.strip_suffix('s')?.parse().ok())
            .unwrap_or_default();
        let Some(events) = parked_events(&delivery.data) else { return };
        for parked in events {
            let Ok(event) = DocumentEvent::decode(parked.event) else { continue };
            for owed in parked.owed {
                let waited = self.waited.entry((event.id.clone(), owed.subscription_id)).or_default();
                waited.parked += 1;
                waited.units += hop;
                if waited.parked == 1 {
                    waited.first_wait = hop + owed.units_left;
                }
            }
        }
    }

    /// `<outcome>.<event>.<organization>.<inbox>`
    fn told(&mut self, key: &str) {
        let mut parts = key.split('.');
        if let (Some(outcome), Some(_), Some(organization)) = (parts.next(), parts.next(), parts.next()) {
            *self.results.entry((outcome.to_owned(), organization.to_owned())).or_default() += 1;
        }
    }
}

/// The events of a parked message, compressed or not.
fn parked_events(body: &[u8]) -> Option<Vec<ParkedEvent>> {
    let Parked { mut events, zlib } = Parked::decode(body).ok()?;
    for zlib in zlib {
        let mut body = Vec::new();
        ZlibDecoder::new(&zlib[..]).read_to_end(&mut body).ok()?;
        events.extend(Parked::decode(body.as_slice()).ok()?.events);
    }
    Some(events)
}

impl Waited {
    /// How often a delivery with this wait may be parked, at most: the bits set in it, and two; above 256 units, one more for
    /// each 256.
    #[must_use]
    pub fn bound(&self) -> u64 {
        u64::from(self.first_wait.count_ones()) + 2 + self.first_wait / 256
    }
}
