//! One connection of the publisher's: what is written, what is confirmed, what is still unanswered when it ends.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::{FutureExt as _, StreamExt as _, future::join_all, stream::FuturesUnordered};
use lapin::{
    Channel, Confirmation, Connection, Event, PublisherConfirm,
    options::{BasicPublishOptions, ConfirmSelectOptions},
};
use tokio::{
    sync::{Semaphore, mpsc, watch},
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use super::publisher::{Request, Standing};
use crate::telemetry::metrics::Metrics;

/// Confirms outstanding at once: measured, 100 to 500 are fastest, more than 1,000 are slower again.
const WINDOW: usize = 500;

/// What is written together has no more bytes than this, but for one message that is larger alone: the client copies what
/// it writes, and the timer of a confirm runs from the first of them.
const TOGETHER_BYTES: usize = 256 * 1024;

/// Messages written together at most. `join_all` polls so few in their order, each to its first await: there its tag is
/// given and its frames are queued.
const TOGETHER: usize = 30;

/// A confirm that takes longer, on a connection that is not blocked, means that the connection is broken.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(30);

/// A channel this old that is refused something is left for a new one. RabbitMQ 3.10 tells a channel that a full queue has
/// room again when messages leave it, but not when its limit is lifted: it would be refused for ever.
const REFUSED_CHANNEL_AGE: Duration = Duration::from_secs(15);

/// How a session ended.
pub(super) enum Ended {
    /// Nobody publishes any more and everything is confirmed.
    Done,
    /// The connection is of no use any more.
    Lost(String),
}

/// A channel that confirms what is published on it.
pub(super) async fn confirming_channel(connection: &Connection) -> Result<Channel, lapin::Error> {
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok(channel)
}

/// Publishes on one channel after another, until the connection is lost or nothing is left to do. A channel is only left
/// when everything on it is confirmed: nothing is published twice because of it.
pub(super) async fn work(
    connection: &Connection,
    channel: &mut Channel,
    queue: &mut mpsc::Receiver<Request>,
    backlog: &mut VecDeque<Request>,
    outstanding: &Outstanding,
) -> Ended {
    loop {
        let (room, leave) = (Semaphore::new(WINDOW), CancellationToken::new());
        let (written, confirms) = mpsc::channel(WINDOW);
        let ended = {
            let writer = write(channel, queue, backlog, outstanding, (&room, &leave), written);
            let confirmer = confirm(outstanding, &room, &leave, confirms);
            tokio::pin!(writer, confirmer);
            let mut writing = true;
            loop {
                tokio::select! {
                    biased;
                    // Ends when the writer is done and everything is confirmed.
                    ended = &mut confirmer => break ended,
                    lost = &mut writer, if writing => match lost {
                        Some(lost) => break lost,
                        None => writing = false,
                    },
                }
            }
        };
        if !(matches!(ended, Ended::Done) && leave.is_cancelled()) {
            return ended;
        }
        tracing::info!("The broker refuses messages; going on with a new channel");
        if let Err(error) = channel.close(200, "done".into()).await {
            return Ended::Lost(error.to_string());
        }
        *channel = match confirming_channel(connection).await {
            Ok(channel) => channel,
            Err(error) => return Ended::Lost(error.to_string()),
        };
    }
}

/// Writes what is to be published; `None` when nobody publishes any more, or the channel is to be left.
///
/// What waits is written together, without awaiting one write before the next: the client library wakes its I/O thread for
/// each write that is awaited alone, and the broker reads each one alone. Only this task writes, so that the confirms
/// keep their order.
async fn write(
    channel: &Channel,
    queue: &mut mpsc::Receiver<Request>,
    backlog: &mut VecDeque<Request>,
    outstanding: &Outstanding,
    (room, leave): (&Semaphore, &CancellationToken),
    written: mpsc::Sender<(u64, PublisherConfirm)>,
) -> Option<Ended> {
    loop {
        // The semaphore is never closed.
        let Ok(place) = room.acquire().await else { return None };
        if leave.is_cancelled() {
            return None;
        }
        let first = if let Some(request) = backlog.pop_front() {
            request
        } else {
            tokio::select! {
                request = queue.recv() => request?,
                () = leave.cancelled() => return None,
            }
        };
        place.forget();
        let mut bytes = first.outgoing.body.len();
        let mut together = vec![publish(channel, outstanding, first)];
        while together.len() < TOGETHER
            && bytes < TOGETHER_BYTES
            && let Ok(place) = room.try_acquire()
            && let Some(request) = backlog.pop_front().or_else(|| queue.try_recv().ok())
        {
            place.forget();
            bytes += request.outgoing.body.len();
            together.push(publish(channel, outstanding, request));
        }
        for publishing in join_all(together).await {
            match publishing {
                Ok(numbered) => written.send(numbered).await.ok()?,
                Err(error) => return Some(Ended::Lost(error.to_string())),
            }
        }
    }
}

/// Notes that a request is outstanding, at once, and then writes it.
fn publish<'a>(
    channel: &'a Channel,
    outstanding: &Outstanding,
    mut request: Request,
) -> impl Future<Output = Result<(u64, PublisherConfirm), lapin::Error>> + use<'a> {
    request.tries += 1;
    let outgoing = Arc::clone(&request.outgoing);
    let number = outstanding.add(request);
    async move {
        let confirm = channel
            .basic_publish(
                outgoing.exchange.clone(),
                outgoing.routing_key.clone(),
                BasicPublishOptions::default(),
                &outgoing.body,
                outgoing.properties.clone(),
            )
            .await?;
        Ok((number, confirm))
    }
}

/// Answers each request when the broker has. Says when the channel is to be left.
async fn confirm(
    outstanding: &Outstanding,
    room: &Semaphore,
    leave: &CancellationToken,
    mut written: mpsc::Receiver<(u64, PublisherConfirm)>,
) -> Ended {
    let (mut confirms, opened) = (FuturesUnordered::new(), Instant::now());
    let mut writing = true;
    loop {
        tokio::select! {
            biased;
            Some((number, confirmation)) = confirms.next() => {
                let taken = match confirmation {
                    Ok(Confirmation::Ack(_)) => true,
                    Ok(Confirmation::Nack(_)) => {
                        if opened.elapsed() >= REFUSED_CHANNEL_AGE {
                            leave.cancel();
                        }
                        false
                    }
                    Ok(Confirmation::NotRequested) => return Ended::Lost("the channel does not confirm".to_owned()),
                    Err(error) => return Ended::Lost(lapin::Error::to_string(&error)),
                };
                room.add_permits(1);
                outstanding.answer(number, taken);
            }
            next = written.recv(), if writing => match next {
                Some((number, confirm)) => confirms.push(confirm.map(move |confirmation| (number, confirmation))),
                None => writing = false,
            },
            else => return Ended::Done,
        }
    }
}

/// Follows the connection's own events, and the age of the oldest confirm.
pub(super) async fn watch_over(
    connection: &Connection,
    outstanding: &Outstanding,
    standing: &watch::Sender<Standing>,
) -> Ended {
    let mut events = std::pin::pin!(connection.events_listener());
    let mut ticks = interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(Event::ConnectionBlocked(reason)) => {
                    standing.send_replace(Standing::Blocked);
                    tracing::warn!(reason, "The broker takes no messages; no new attempt starts until it does");
                }
                Some(Event::ConnectionUnblocked) => {
                    // Confirm timers stood still meanwhile.
                    outstanding.restart_timers(Instant::now());
                    standing.send_replace(Standing::Open);
                    tracing::info!("The broker takes messages again");
                }
                Some(Event::Error(error)) => return Ended::Lost(error.to_string()),
                Some(_) => {}
                None => return Ended::Lost("the connection ended".to_owned()),
            },
            _ = ticks.tick() => {
                let overdue = outstanding.oldest().is_some_and(|since| since.elapsed() > CONFIRM_TIMEOUT);
                if overdue && *standing.borrow() == Standing::Open {
                    return Ended::Lost("a confirm is overdue".to_owned());
                }
            }
        }
    }
}

/// What is published and not answered yet, by its number. Locked for moments only, by futures of one task.
pub(super) struct Outstanding {
    unanswered: Mutex<Unanswered>,
    metrics: Metrics,
}

#[derive(Default)]
struct Unanswered {
    next: u64,
    requests: BTreeMap<u64, (Instant, Request)>,
}

impl Outstanding {
    pub(super) fn new(metrics: Metrics) -> Self {
        Self { unanswered: Mutex::default(), metrics }
    }

    fn add(&self, request: Request) -> u64 {
        self.metrics.outstanding();
        let mut unanswered = self.lock();
        let number = unanswered.next;
        unanswered.next += 1;
        unanswered.requests.insert(number, (Instant::now(), request));
        number
    }

    fn answer(&self, number: u64, taken: bool) {
        let request = self.lock().requests.remove(&number);
        if let Some((_, request)) = request {
            self.metrics.answered(taken);
            request.answer(taken);
        }
    }

    fn oldest(&self) -> Option<Instant> {
        self.lock().requests.values().next().map(|(since, _)| *since)
    }

    fn restart_timers(&self, now: Instant) {
        self.lock().requests.values_mut().for_each(|(since, _)| *since = now);
    }

    pub(super) fn drain(self) -> Vec<Request> {
        let unanswered = self.unanswered.into_inner().unwrap_or_else(PoisonError::into_inner);
        self.metrics.unanswered(unanswered.requests.len());
        unanswered.requests.into_values().map(|(_, request)| request).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Unanswered> {
        self.unanswered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
