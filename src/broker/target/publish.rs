//! One message on one channel, and what the broker said of it.

use std::{pin::pin, sync::Arc, time::Duration};

use futures_util::{FutureExt as _, future::FusedFuture as _};
use lapin::{Channel, Confirmation, PublisherConfirm, options::BasicPublishOptions};
use tokio::{
    sync::{OwnedSemaphorePermit, oneshot},
    time::{Instant, timeout},
};

use super::{
    Live, away,
    link::User,
    places::{Lesson, Place},
};
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
    (outgoing, time): (Outgoing, Duration),
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
    if publish((&live, &channel), (&outgoing, time), (&place, room), answer).await {
        live.put_back(channel);
    } else {
        // Never used again: its confirm may still come, and RabbitMQ 3.10 may go on refusing on a channel that was
        // refused once.
        close(&channel).await;
    }
    drop((place, user));
}

/// Publishes, learns from it, and answers; whether the channel is as good as before.
async fn publish(
    (live, channel): (&Live, &Channel),
    (outgoing, time): (&Outgoing, Duration),
    (place, room): (&Place, OwnedSemaphorePermit),
    mut answer: oneshot::Sender<Answer>,
) -> bool {
    let began = Instant::now();
    let mut writing = pin!(write(channel, outgoing, room).fuse());
    let said = tokio::select! {
        biased;
        said = async { said(writing.as_mut().await).await } => Some(said),
        () = answer.closed() => None,
    };
    let had_its_time = writing.is_terminated() && began.elapsed() >= time / 2;
    place.learn(lesson(said.as_ref(), had_its_time));
    let is_clean = matches!(said, Some(Said::Taken | Said::Returned));
    if let Some(said) = said {
        // Whoever asked may be gone: then nobody needs the answer.
        drop(answer.send(said.into_answer(outgoing)));
    }
    if !writing.is_terminated() {
        // Nobody waits for it any more, but what is not written stays in the client's memory, and so keeps its room.
        tokio::select! {
            written = writing.as_mut() => drop(written),
            () = live.ended() => {}
        }
    }
    is_clean
}

/// What is learnt of the exchange. Nothing from a message that was given up before it was written, or before it had most of
/// its deadline: it waited for others.
fn lesson(said: Option<&Said>, had_its_time: bool) -> Lesson {
    match said {
        Some(Said::Taken | Said::Returned) => Lesson::Answers,
        Some(Said::Refused(_)) => Lesson::Fails,
        Some(Said::Lost(_)) => Lesson::Doubtful,
        None if had_its_time => Lesson::Fails,
        None => Lesson::Nothing,
    }
}

/// Gives the room back once all is written: a broker that does not confirm holds none.
async fn write(
    channel: &Channel,
    outgoing: &Outgoing,
    room: OwnedSemaphorePermit,
) -> Result<PublisherConfirm, lapin::Error> {
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let (exchange, key) = (outgoing.exchange.clone(), outgoing.routing_key.clone());
    let publishing = channel.basic_publish(exchange, key, options, &outgoing.body, outgoing.properties.clone());
    let written = publishing.await;
    drop(room);
    written
}

async fn said(written: Result<PublisherConfirm, lapin::Error>) -> Said {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exchange_is_judged_by_what_the_broker_said_or_by_a_whole_deadlines_silence() {
        for had_its_time in [true, false] {
            let lesson = |said| lesson(Some(&said), had_its_time);
            assert_eq!(lesson(Said::Taken), Lesson::Answers);
            assert_eq!(lesson(Said::Returned), Lesson::Answers);
            assert_eq!(lesson(Said::Refused("no".to_owned())), Lesson::Fails);
            assert_eq!(lesson(Said::Lost("gone".to_owned())), Lesson::Doubtful);
        }
        assert_eq!(lesson(None, true), Lesson::Fails);
        assert_eq!(lesson(None, false), Lesson::Nothing);
    }
}
