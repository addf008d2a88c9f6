//! Declares the topology, or checks that it is there.

use std::collections::BTreeMap;

use lapin::{
    Channel, Connection, ErrorKind, ExchangeKind as AmqpExchangeKind,
    options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};

use super::topology::{Argument, ExchangeKind, Topology};
use crate::config::Declare;

/// Why the topology is not as it must be.
#[derive(Debug, thiserror::Error)]
pub enum DeclareError {
    /// Something exists, but is made differently. A person must decide: delete it, or use another `queue_prefix`.
    #[error(
        "{what} exists on the broker, but differs from what docrelay needs: {difference}. The arguments of a queue \
         cannot be changed: drain and delete it, or set another broker.queue_prefix"
    )]
    Differs {
        /// Queue or exchange, with its name.
        what: String,
        /// The broker's words.
        difference: String,
    },
    /// With `broker.declare = "verify"`: all that is missing.
    #[error("missing on the broker (broker.declare is \"verify\", so docrelay does not create it): {}", .0.join(", "))]
    Missing(Vec<String>),
    /// The account may not do it.
    #[error(
        "the broker's account may not declare {what}: {difference}. Grant it the right, or set broker.declare = \"verify\""
    )]
    Forbidden {
        /// Queue, exchange or binding.
        what: String,
        /// The broker's words.
        difference: String,
    },
    /// The connection failed meanwhile. Worth trying again.
    #[error("declaring {what} failed: {error}")]
    Failed {
        /// Queue, exchange or binding.
        what: String,
        /// What went wrong.
        #[source]
        error: lapin::Error,
    },
}

impl DeclareError {
    /// Whether only a person can mend it.
    #[must_use]
    pub fn needs_a_person(&self) -> bool {
        match self {
            Self::Differs { .. } | Self::Missing(_) | Self::Forbidden { .. } => true,
            Self::Failed { .. } => false,
        }
    }
}

/// Declares the topology (`create`), or checks that its exchanges and queues exist (`verify`; arguments and bindings
/// cannot be read over AMQP and are not checked then).
///
/// # Errors
/// Names the first thing that differs, or everything that is missing.
pub async fn declare(connection: &Connection, topology: &Topology, mode: Declare) -> Result<(), DeclareError> {
    match mode {
        Declare::Create => create(connection, topology).await,
        Declare::Verify => verify(connection, topology).await,
    }
}

async fn create(connection: &Connection, topology: &Topology) -> Result<(), DeclareError> {
    let channel = connection.create_channel().await.map_err(|error| failed("a channel", error))?;
    for exchange in &topology.exchanges {
        let mut arguments = FieldTable::default();
        if let Some(alternate) = &exchange.alternate {
            arguments.insert("alternate-exchange".into(), AMQPValue::LongString(alternate.as_str().into()));
        }
        let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        channel
            .exchange_declare(exchange.name.as_str().into(), amqp_kind(exchange.kind), options, arguments)
            .await
            .map_err(|error| failed(&format!("exchange {}", exchange.name), error))?;
    }
    // Bindings of a queue come right after it: a delay queue must find its way to the due queue from the first moment.
    let mut bindings: BTreeMap<&str, Vec<_>> = BTreeMap::new();
    for binding in &topology.bindings {
        bindings.entry(&binding.queue).or_default().push(binding);
    }
    for queue in &topology.queues {
        let arguments = field_table(queue.arguments(&topology.names.park_exchange));
        channel
            .queue_declare(queue.name.as_str().into(), QueueDeclareOptions::durable(), arguments)
            .await
            .map_err(|error| failed(&format!("queue {}", queue.name), error))?;
        for binding in bindings.remove(queue.name.as_str()).unwrap_or_default() {
            let (queue, exchange) = (binding.queue.as_str().into(), binding.exchange.as_str().into());
            let (key, options) = (binding.key.as_str().into(), QueueBindOptions::default());
            channel
                .queue_bind(queue, exchange, key, options, FieldTable::default())
                .await
                .map_err(|error| failed(&format!("the binding of {} to {}", binding.queue, binding.exchange), error))?;
        }
    }
    close(&channel).await;
    Ok(())
}

async fn verify(connection: &Connection, topology: &Topology) -> Result<(), DeclareError> {
    let mut missing = Vec::new();
    let exchanges = topology.exchanges.iter().map(|exchange| (exchange.kind.as_str(), exchange.name.as_str(), true));
    let queues = topology.queues.iter().map(|queue| ("", queue.name.as_str(), false));
    for (kind, name, is_exchange) in exchanges.chain(queues) {
        // The broker closes the channel at the first thing that is missing: each question gets its own.
        let channel = connection.create_channel().await.map_err(|error| failed("a channel", error))?;
        let answer = if is_exchange {
            let options = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
            let kind = AmqpExchangeKind::Custom(kind.to_owned());
            channel.exchange_declare(name.into(), kind, options, FieldTable::default()).await
        } else {
            let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
            channel.queue_declare(name.into(), options, FieldTable::default()).await.map(|_| ())
        };
        let what = if is_exchange { format!("exchange {name}") } else { format!("queue {name}") };
        match answer {
            Ok(()) => close(&channel).await,
            Err(error) if reply_code(&error) == Some(404) => missing.push(what),
            Err(error) => return Err(failed(&what, error)),
        }
    }
    if missing.is_empty() { Ok(()) } else { Err(DeclareError::Missing(missing)) }
}

async fn close(channel: &Channel) {
    if let Err(error) = channel.close(200, "done".into()).await {
        tracing::debug!(%error, "Closing a channel failed");
    }
}

fn amqp_kind(kind: ExchangeKind) -> AmqpExchangeKind {
    match kind {
        ExchangeKind::Direct => AmqpExchangeKind::Direct,
        ExchangeKind::Fanout => AmqpExchangeKind::Fanout,
        ExchangeKind::Topic => AmqpExchangeKind::Topic,
    }
}

fn field_table(arguments: Vec<(&'static str, Argument)>) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in arguments {
        let value = match value {
            Argument::Number(number) => AMQPValue::LongLongInt(number),
            Argument::Text(text) => AMQPValue::LongString(text.into()),
        };
        table.insert(name.into(), value);
    }
    table
}

fn failed(what: &str, error: lapin::Error) -> DeclareError {
    let what = what.to_owned();
    match (reply_code(&error), error.kind()) {
        (Some(406), ErrorKind::ProtocolError(reply)) => {
            DeclareError::Differs { what, difference: reply.get_message().to_string() }
        }
        (Some(403), ErrorKind::ProtocolError(reply)) => {
            DeclareError::Forbidden { what, difference: reply.get_message().to_string() }
        }
        _ => DeclareError::Failed { what, error },
    }
}

fn reply_code(error: &lapin::Error) -> Option<u16> {
    match error.kind() {
        ErrorKind::ProtocolError(reply) => Some(reply.get_id()),
        _ => None,
    }
}
