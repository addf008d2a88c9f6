//! What the command line does on the broker for people: publish events, follow results, look after dead letters.
//!
//! Each is one pass over one connection: unlike the service's loops, nothing here reconnects. An error ends the command
//! and says what to do; whatever was not confirmed stays where it was.

mod dead;
mod feed;
mod follow;
mod letter;

use std::time::Duration;

use lapin::{
    Channel, Connection, ErrorKind,
    options::{ExchangeDeclareOptions, QueueDeclareOptions},
    types::FieldTable,
};

pub use self::{
    dead::{DeadLetters, Redriven},
    feed::{EventFeed, Tally},
    follow::{ResultFilter, ResultStream},
    letter::{Content, Letter},
};

/// The broker confirms within milliseconds; after this long it takes nothing at all.
const PATIENCE: Duration = Duration::from_secs(30);

/// Closes a command's connection. Nothing depends on it: everything is confirmed before.
pub async fn close(connection: &Connection) {
    super::publisher::close(connection).await;
}

/// Why a command could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// The exchange or queue is not there.
    #[error("{what} {name} does not exist on the broker; `docrelay topology --declare` creates what docrelay needs")]
    Missing {
        /// `exchange` or `queue`.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// No broker takes it.
    #[error("a message of {0} bytes is larger than the broker takes")]
    TooLarge(usize),
    /// Nothing comes back.
    #[error("the broker took nothing for 30 s; does it have a memory or disk alarm?")]
    Silent,
    /// The broker ended the consumer.
    #[error("the queue was deleted, or the connection to the broker was lost")]
    Ended,
    /// The connection or the channel failed.
    #[error("{doing} failed")]
    Failed {
        /// What was being done.
        doing: &'static str,
        /// What went wrong.
        #[source]
        error: lapin::Error,
    },
}

fn failed(doing: &'static str) -> impl FnOnce(lapin::Error) -> OperatorError {
    move |error| OperatorError::Failed { doing, error }
}

async fn channel(connection: &Connection) -> Result<Channel, OperatorError> {
    connection.create_channel().await.map_err(failed("opening a channel"))
}

/// Asks for an exchange on a channel of its own: the broker closes the channel when there is none.
async fn exchange_exists(connection: &Connection, name: &str) -> Result<(), OperatorError> {
    let options = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
    let asking = channel(connection).await?;
    asking
        .exchange_declare(name.into(), lapin::ExchangeKind::Topic, options, FieldTable::default())
        .await
        .map_err(missing("exchange", name))?;
    asking.close(200, "done".into()).await.map_err(failed("closing a channel"))
}

/// How many messages are ready in a queue. Asked on a channel of its own: the broker closes it when there is none.
async fn messages_in(connection: &Connection, name: &str) -> Result<u32, OperatorError> {
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let asking = channel(connection).await?;
    let queue =
        asking.queue_declare(name.into(), options, FieldTable::default()).await.map_err(missing("queue", name))?;
    asking.close(200, "done".into()).await.map_err(failed("closing a channel"))?;
    Ok(queue.message_count())
}

fn missing(what: &'static str, name: &str) -> impl FnOnce(lapin::Error) -> OperatorError {
    move |error| match error.kind() {
        ErrorKind::ProtocolError(reply) if reply.get_id() == 404 => {
            OperatorError::Missing { what, name: name.to_owned() }
        }
        _ => OperatorError::Failed { doing: "asking the broker what exists", error },
    }
}
