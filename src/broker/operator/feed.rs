//! Publishes document events as an upstream service should: persistent, confirmed, confirms pipelined on one channel.

use futures_util::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, PublisherConfirm,
    options::{BasicPublishOptions, ConfirmSelectOptions},
    types::{AMQPValue, FieldTable, ShortString},
};
use tokio::time::timeout;

use super::{
    super::{codec, outbox},
    OperatorError, PATIENCE, channel, exchange_exists, failed,
};
use crate::domain::DocumentEvent;

/// Confirms outstanding at once: measured, 100 to 500 are fastest.
const WINDOW: usize = 500;

/// A channel that only this value publishes on.
#[derive(Debug)]
pub struct EventFeed {
    channel: Channel,
    exchange: ShortString,
    confirms: FuturesUnordered<PublisherConfirm>,
    tally: Tally,
}

/// What the broker said so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Events that it took.
    pub confirmed: u64,
    /// Events that it refused.
    pub refused: u64,
}

impl EventFeed {
    /// A feed to an exchange.
    ///
    /// # Errors
    /// When the exchange does not exist, or the connection fails.
    pub async fn open(connection: &Connection, exchange: &str) -> Result<Self, OperatorError> {
        exchange_exists(connection, exchange).await?;
        let channel = channel(connection).await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await.map_err(failed("asking for confirms"))?;
        Ok(Self { channel, exchange: exchange.into(), confirms: FuturesUnordered::new(), tally: Tally::default() })
    }

    /// Publishes an event; waits for confirms only when too many are outstanding.
    ///
    /// # Errors
    /// When it is too large for any broker, or the connection fails.
    pub async fn publish(&mut self, event: &DocumentEvent, traceparent: Option<&str>) -> Result<(), OperatorError> {
        let body = codec::encode_event(event);
        if body.len() > outbox::MAX_MESSAGE_BYTES {
            return Err(OperatorError::TooLarge(body.len()));
        }
        while self.confirms.len() >= WINDOW {
            self.wait_for_one().await?;
        }
        let mut properties = BasicProperties::default()
            .with_delivery_mode(2)
            .with_content_type(codec::CONTENT_TYPE.into())
            .with_type(codec::EVENT_TYPE.into())
            .with_message_id(event.id.as_str().into());
        if let Some(traceparent) = traceparent {
            let mut headers = FieldTable::default();
            headers.insert("traceparent".into(), AMQPValue::LongString(traceparent.into()));
            properties = properties.with_headers(headers);
        }
        let key = outbox::event_routing_key(event);
        // Not mandatory: an exchange that nobody is bound to is not the producer's business.
        let options = BasicPublishOptions::default();
        let publishing =
            self.channel.basic_publish(self.exchange.clone(), key.as_str().into(), options, &body, properties);
        let confirm = timeout(PATIENCE, publishing).await.map_err(|_elapsed| OperatorError::Silent)?;
        self.confirms.push(confirm.map_err(failed("publishing"))?);
        while let Some(Some(answer)) = self.confirms.next().now_or_never() {
            self.count(answer)?;
        }
        Ok(())
    }

    /// What the broker said so far.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// Waits for everything that is outstanding.
    ///
    /// # Errors
    /// When the connection fails.
    pub async fn finish(mut self) -> Result<Tally, OperatorError> {
        while !self.confirms.is_empty() {
            self.wait_for_one().await?;
        }
        self.channel.close(200, "done".into()).await.map_err(failed("closing a channel"))?;
        Ok(self.tally)
    }

    async fn wait_for_one(&mut self) -> Result<(), OperatorError> {
        match timeout(PATIENCE, self.confirms.next()).await {
            Ok(Some(answer)) => self.count(answer),
            Ok(None) => Ok(()),
            Err(_elapsed) => Err(OperatorError::Silent),
        }
    }

    fn count(&mut self, answer: Result<Confirmation, lapin::Error>) -> Result<(), OperatorError> {
        match answer.map_err(failed("waiting for a confirm"))? {
            Confirmation::Ack(_) => self.tally.confirmed += 1,
            Confirmation::Nack(_) | Confirmation::NotRequested => self.tally.refused += 1,
        }
        Ok(())
    }
}
