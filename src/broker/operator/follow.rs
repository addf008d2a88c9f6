//! Follows results as they are published.

use bytes::Bytes;
use futures_util::StreamExt as _;
use lapin::{
    Channel, Connection, Consumer,
    options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions, QueueBindOptions, QueueDeclareOptions},
    types::{FieldTable, ShortString},
};

use super::{
    super::{
        codec::{self, Notice},
        outbox,
    },
    OperatorError, channel, exchange_exists, failed, messages_in,
};
use crate::domain::{OrganizationId, Outcome};

/// Far more than a terminal shows in a moment.
const PREFETCH: u16 = 500;

/// Which results are wanted; the broker's bindings see to it.
#[derive(Debug, Clone, Default)]
pub struct ResultFilter {
    /// Only this organization's.
    pub organization: Option<OrganizationId>,
    /// Only these outcomes; when empty, all, and subscriptions that were disabled.
    pub outcomes: Vec<Outcome>,
}

impl ResultFilter {
    /// The binding keys that let through what is wanted.
    #[must_use]
    pub fn binding_keys(&self) -> Vec<String> {
        let organization = self.organization.as_ref().map(|name| outbox::key_word(name.as_str()));
        let rest = organization.map_or_else(|| "#".to_owned(), |organization| format!("*.{organization}.#"));
        if self.outcomes.is_empty() {
            return match &self.organization {
                None => vec![rest],
                Some(organization) => vec![format!("*.{rest}"), outbox::disabled_routing_key(organization)],
            };
        }
        self.outcomes.iter().map(|outcome| format!("{outcome}.{rest}")).collect()
    }
}

/// Results, one by one. Each is taken off the queue when the next one is asked for, or by [`ResultStream::finish`].
#[derive(Debug)]
pub struct ResultStream {
    channel: Channel,
    consumer: Consumer,
    shown: Option<u64>,
}

impl ResultStream {
    /// Follows what is published from now on, through a queue of its own that ends with the connection.
    ///
    /// # Errors
    /// When the exchange does not exist, or the connection fails.
    pub async fn from_now(
        connection: &Connection,
        exchange: &str,
        filter: &ResultFilter,
    ) -> Result<Self, OperatorError> {
        exchange_exists(connection, exchange).await?;
        let channel = channel(connection).await?;
        let own = QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
        let queue = channel
            .queue_declare("".into(), own, FieldTable::default())
            .await
            .map_err(failed("declaring a queue for the results"))?;
        for key in filter.binding_keys() {
            let (options, arguments) = (QueueBindOptions::default(), FieldTable::default());
            channel
                .queue_bind(queue.name().clone(), exchange.into(), key.as_str().into(), options, arguments)
                .await
                .map_err(failed("binding a queue to the results"))?;
        }
        let name = queue.name().to_string();
        Self::consume(channel, &name).await
    }

    /// Takes what is in an existing queue, and what comes into it.
    ///
    /// # Errors
    /// When the queue does not exist, or the connection fails.
    pub async fn from_queue(connection: &Connection, queue: &str) -> Result<Self, OperatorError> {
        messages_in(connection, queue).await?;
        Self::consume(channel(connection).await?, queue).await
    }

    async fn consume(channel: Channel, queue: &str) -> Result<Self, OperatorError> {
        channel.basic_qos(PREFETCH, BasicQosOptions::default()).await.map_err(failed("setting the prefetch"))?;
        let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
        let consumer = channel
            .basic_consume(queue.into(), "docrelay-results".into(), options, arguments)
            .await
            .map_err(failed("consuming the results"))?;
        Ok(Self { channel, consumer, shown: None })
    }

    /// The next result, or what else is told there, or why a message cannot be read as either.
    ///
    /// # Errors
    /// When the connection or the queue is lost.
    pub async fn next(&mut self) -> Result<Result<Notice, codec::DecodeError>, OperatorError> {
        self.take_shown().await?;
        let delivery =
            self.consumer.next().await.ok_or(OperatorError::Ended)?.map_err(failed("waiting for a result"))?;
        self.shown = Some(delivery.delivery_tag);
        let kind = delivery.properties.kind().as_ref().map(ShortString::as_str);
        Ok(codec::decode_notice(kind, &Bytes::from(delivery.data)))
    }

    /// Takes the last one off the queue and ends.
    ///
    /// # Errors
    /// When the connection fails.
    pub async fn finish(mut self) -> Result<(), OperatorError> {
        self.take_shown().await?;
        self.channel.close(200, "done".into()).await.map_err(failed("closing a channel"))
    }

    async fn take_shown(&mut self) -> Result<(), OperatorError> {
        match self.shown.take() {
            Some(tag) => {
                self.channel.basic_ack(tag, BasicAckOptions::default()).await.map_err(failed("acking a result"))
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_binding_keys_let_through_what_is_wanted() {
        let acme: Option<OrganizationId> = Some("ac.me".parse().unwrap());
        let keys = |organization, outcomes: &[Outcome]| {
            ResultFilter { organization, outcomes: outcomes.to_vec() }.binding_keys()
        };
        assert_eq!(keys(None, &[]), ["#"]);
        assert_eq!(keys(acme.clone(), &[]), ["*.*.ac%2Eme.#", "subscription_disabled.ac%2Eme"]);
        assert_eq!(keys(None, &[Outcome::Delivered, Outcome::Exhausted]), ["delivered.#", "exhausted.#"]);
        assert_eq!(keys(acme, &[Outcome::Invalid]), ["invalid.*.ac%2Eme.#"]);
    }
}
