//! One message on one channel, and what the broker said of it.

use std::{sync::Arc, time::Duration};

use lapin::{Channel, Confirmation, options::BasicPublishOptions};
use tokio::{
    sync::{OwnedSemaphorePermit, oneshot},
    time::timeout,
};

use super::{Live, away, link::User, places::Place};
use crate::{
    broker::publisher::Outgoing,
    domain::{Answer, FailureKind},
};

/// A channel that takes longer to close is left to the end of its connection.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// How publishing ended.
enum Said {
    /// Confirmed, and in a queue.
    Taken,
    /// Confirmed, but in no queue: the broker gave it back.
    Returned,
    /// The broker said no.
    Refused(String),
    /// The connection ended, or is of no use.
    Lost(String),
}

/// Publishes on a channel of the connection's, and answers. Ends when the channel is free again, or closed.
pub(super) async fn run(
    live: Arc<Live>,
    outgoing: Outgoing,
    (user, place, room): (User, Place, OwnedSemaphorePermit),
    mut answer: oneshot::Sender<Answer>,
) {
    let opened = tokio::select! {
        opened = live.channel() => opened,
        () = answer.closed() => return,
    };
    let channel = match opened {
        Ok(channel) => channel,
        Err(error) => return drop(answer.send(away(&error.to_string()))),
    };
    let said = tokio::select! {
        biased;
        said = publish(&channel, &outgoing, room) => Some(said),
        () = answer.closed() => None,
    };
    match &said {
        Some(Said::Taken | Said::Returned) => place.learn(true),
        Some(Said::Refused(_)) | None => place.learn(false),
        Some(Said::Lost(_)) => {}
    }
    let is_clean = matches!(said, Some(Said::Taken | Said::Returned));
    if let Some(said) = said {
        // Whoever asked may be gone: then nobody needs the answer.
        drop(answer.send(said.into_answer(&outgoing)));
    }
    if is_clean {
        live.put_back(channel);
    } else {
        // Never used again: its confirm may still come, and RabbitMQ 3.10 may go on refusing on a channel that was
        // refused once.
        close(&channel).await;
    }
    drop((place, user));
}

/// Gives the room back once all is written: a broker that does not confirm holds none.
async fn publish(channel: &Channel, outgoing: &Outgoing, room: OwnedSemaphorePermit) -> Said {
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let (exchange, key) = (outgoing.exchange.clone(), outgoing.routing_key.clone());
    let publishing = channel.basic_publish(exchange, key, options, &outgoing.body, outgoing.properties.clone());
    let written = publishing.await;
    drop(room);
    let confirmation = match written {
        Ok(confirm) => confirm.await,
        Err(error) => Err(error),
    };
    match confirmation {
        Ok(Confirmation::Ack(None)) => Said::Taken,
        Ok(Confirmation::Ack(Some(_))) => Said::Returned,
        Ok(Confirmation::Nack(_)) => Said::Refused("did not take the message (a full queue?)".to_owned()),
        Ok(Confirmation::NotRequested) => Said::Lost("the channel does not confirm".to_owned()),
        // The broker closed this channel, and only this one: no such exchange, no right to it, too large a message.
        Err(error) if error.is_amqp_soft_error() => Said::Refused(format!("refused the message: {error}")),
        Err(error) => Said::Lost(error.to_string()),
    }
}

impl Said {
    fn into_answer(self, outgoing: &Outgoing) -> Answer {
        let (exchange, key) = (&outgoing.exchange, &outgoing.routing_key);
        match self {
            Self::Taken => Answer::Taken,
            Self::Returned => Answer::Refused {
                kind: FailureKind::Unroutable,
                text: format!("no queue is bound to the exchange {exchange} for the routing key {:?}", key.as_str()),
            },
            Self::Refused(why) => Answer::Refused { kind: FailureKind::Broker, text: format!("the broker {why}") },
            Self::Lost(why) => away(&format!("the connection was lost: {why}")),
        }
    }
}

async fn close(channel: &Channel) {
    if !channel.status().connected() {
        return;
    }
    match timeout(CLOSE_TIMEOUT, channel.close(200, "done".into())).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "Closing a channel failed"),
        Err(_elapsed) => tracing::debug!("Closing a channel took too long"),
    }
}
