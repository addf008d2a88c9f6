//! One pass over the dead letters that were there at its start. What is not redriven or removed is given back by
//! closing the channel, at its old place; the service may run meanwhile.

use lapin::{
    Channel, Confirmation, Connection,
    options::{BasicAckOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions},
    types::ShortString,
};
use tokio::time::timeout;

use super::{
    super::{
        outbox::Origin,
        topology::{Names, keys},
    },
    Letter, OperatorError, PATIENCE, channel, failed, messages_in,
};

/// A pass over the dead letters.
#[derive(Debug)]
pub struct DeadLetters {
    names: Names,
    reading: Channel,
    /// Publishes one letter at a time: a confirm on it is always the right letter's.
    publishing: Channel,
    left: u32,
}

/// What became of a letter that was to be published again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Redriven {
    /// Published, confirmed, and taken off the dead letters.
    Done,
    /// The broker refused it; it stays.
    Refused,
    /// Nothing says where it belongs; it stays.
    Homeless,
}

impl DeadLetters {
    /// Begins a pass.
    ///
    /// # Errors
    /// When the queue does not exist, or the connection fails.
    pub async fn open(connection: &Connection, names: &Names) -> Result<Self, OperatorError> {
        let left = messages_in(connection, &names.dead_queue).await?;
        let (reading, publishing) = (channel(connection).await?, channel(connection).await?);
        publishing.confirm_select(ConfirmSelectOptions::default()).await.map_err(failed("asking for confirms"))?;
        Ok(Self { names: names.clone(), reading, publishing, left })
    }

    /// The next letter, until all that were there at the start have been seen.
    ///
    /// # Errors
    /// When the connection fails.
    pub async fn next(&mut self) -> Result<Option<Letter>, OperatorError> {
        // One by one, not consumed: exactly as many as were there, and only one body in memory.
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let queue = self.names.dead_queue.as_str().into();
        let got = self.reading.basic_get(queue, BasicGetOptions::default()).await;
        let got = got.map_err(failed("reading the dead letters"))?;
        Ok(got.map(|message| Letter::read(message.delivery, &self.names)))
    }

    /// Publishes a letter where it belongs and, when that is confirmed, takes it off the dead letters.
    ///
    /// # Errors
    /// When the connection fails; the letter stays then, though it may have been published.
    pub async fn redrive(&mut self, letter: &Letter) -> Result<Redriven, OperatorError> {
        let park = self.names.park_exchange.as_str();
        let (exchange, key): (ShortString, ShortString) = match letter.origin {
            Some(Origin::Events) => (park.into(), keys::EVENTS.into()),
            Some(Origin::Due) => (park.into(), keys::DUE.into()),
            Some(Origin::Results) => match letter.result_key() {
                Some(key) => (self.names.results_exchange.as_str().into(), key.as_str().into()),
                None => return Ok(Redriven::Homeless),
            },
            None => return Ok(Redriven::Homeless),
        };
        let publishing = async {
            let options = BasicPublishOptions::default();
            self.publishing.basic_publish(exchange, key, options, &letter.body, letter.properties_again()).await?.await
        };
        let confirmation = timeout(PATIENCE, publishing).await.map_err(|_elapsed| OperatorError::Silent)?;
        match confirmation.map_err(failed("publishing a dead letter again"))? {
            Confirmation::Ack(_) => self.remove(letter).await.map(|()| Redriven::Done),
            Confirmation::Nack(_) | Confirmation::NotRequested => Ok(Redriven::Refused),
        }
    }

    /// Takes a letter off the dead letters, for good.
    ///
    /// # Errors
    /// When the connection fails; the letter stays then.
    pub async fn remove(&mut self, letter: &Letter) -> Result<(), OperatorError> {
        let acking = self.reading.basic_ack(letter.tag, BasicAckOptions::default());
        acking.await.map_err(failed("taking a dead letter off"))
    }

    /// Ends the pass: what was only looked at is given back.
    ///
    /// # Errors
    /// When the connection fails; the broker gives back what was looked at all the same.
    pub async fn close(self) -> Result<(), OperatorError> {
        self.reading.close(200, "done".into()).await.map_err(failed("closing a channel"))?;
        self.publishing.close(200, "done".into()).await.map_err(failed("closing a channel"))
    }
}
