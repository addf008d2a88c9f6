//! Everything that speaks AMQP or protobuf: lapin and the generated types stop at this folder's edge.
//!
//! Two connections: one consumes, one publishes, so that a broker that blocks publishing does not block acks. Each has
//! a loop of its own that connects, works until the first error, drops everything and starts over, for ever. A third one,
//! made only when it is needed, publishes to the exchanges of subscribers ([`target`]).

mod acker;
pub mod asyncapi;
pub mod codec;
mod connection;
mod consumer;
mod declare;
mod depths;
mod head;
mod inbound;
mod ledger;
pub mod operator;
pub mod outbox;
mod presence;
mod publisher;
mod queue;
mod receipt;
mod session;
#[cfg(test)]
mod silent;
mod sizing;
mod tap;
pub mod target;
pub mod topology;
mod wire;

#[cfg(test)]
pub(crate) use self::publisher::model;
pub use self::{
    connection::{ConnectError, connect},
    consumer::{ConsumerSettings, Consumers},
    declare::{DeclareError, declare},
    inbound::{Inbound, Properties, Source},
    outbox::{BrokerOutbox, DeadLetter, Origin, OutboxError},
    publisher::{Confirmed, PublishError, Publisher, Standing},
    receipt::{Acked, Receipt},
};
