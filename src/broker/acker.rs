//! The one task that acks on a channel: `multiple` is only safe from one place.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU16, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use lapin::{Channel, options::BasicAckOptions};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{head::Head, ledger::Ledger};

/// How many finished messages are taken at once.
const BATCH: usize = 256;

/// Acks written together at most: `join_all` polls so few in their order.
const TOGETHER: usize = 30;

/// Acks follow each other no faster: what finishes meanwhile is acked together, which costs the broker one step instead of
/// many. The first ack after a pause waits for nobody.
const PAUSE: Duration = Duration::from_millis(2);

/// How often it looks how many messages are silent, and whether the channel is still there though nothing is acked on it.
const LOOK: Duration = Duration::from_millis(250);

/// One in so many of the prefetch may wait for a straggler,
const PART_THAT_WAITS: u16 = 4;

/// but no more than so many: after a crash they are delivered again.
const MOST_WAIT: u16 = 128;

/// What an acker hears of its channel, and tells of it.
#[derive(Debug)]
pub(super) struct Watched {
    /// The channel has given messages up to this tag.
    pub(super) given: Arc<AtomicU64>,
    /// Its prefetch.
    pub(super) prefetch: Arc<AtomicU16>,
    /// What holds it up.
    pub(super) head: watch::Sender<Head>,
}

/// Acks what is finished until nobody can finish anything any more, or the channel fails (then it cancels `channel_gone`).
pub(super) async fn run(
    channel: Channel,
    mut finished: mpsc::Receiver<u64>,
    channel_gone: CancellationToken,
    Watched { given, prefetch, head }: Watched,
) {
    let mut ledger = Ledger::default();
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut batch = Vec::with_capacity(BATCH);
    let mut written: Option<Instant> = None;
    loop {
        let due = ledger.next_due();
        tokio::select! {
            taken = finished.recv_many(&mut batch, BATCH) => {
                if taken == 0 {
                    break;
                }
                let now = Instant::now();
                ledger.may_wait(usize::from((prefetch.load(Ordering::Relaxed) / PART_THAT_WAITS).min(MOST_WAIT)));
                batch.drain(..).for_each(|tag| ledger.finish(tag, now));
                if let Some(next) = written.map(|written| written + PAUSE) && now < next {
                    sleep_until(next).await;
                    while let Ok(tag) = finished.try_recv() {
                        ledger.finish(tag, next);
                    }
                }
            }
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                // A straggler may have ended just now.
                let now = Instant::now();
                while let Ok(tag) = finished.try_recv() {
                    ledger.finish(tag, now);
                }
            }
            _ = looks.tick() => {
                if !channel.status().connected() {
                    channel_gone.cancel();
                    return;
                }
                let now = Instant::now();
                ledger.gave(given.load(Ordering::Relaxed), now);
                tell(&head, ledger.head(now));
                continue;
            }
            () = channel_gone.cancelled() => return,
        }
        if !write(&channel, &mut ledger, Instant::now()).await {
            channel_gone.cancel();
            return;
        }
        let now = Instant::now();
        written = Some(now);
        let silent = head.borrow().silent;
        tell(&head, Head { pinned: ledger.is_pinned(now), silent });
    }
    // The last ones need not wait for anybody.
    ledger.may_wait(0);
    if let Some(due) = ledger.all_due()
        && !write(&channel, &mut ledger, due.max(Instant::now())).await
    {
        channel_gone.cancel();
    }
}

/// Wakes whoever follows the head only when it is another.
fn tell(head: &watch::Sender<Head>, now: Head) {
    head.send_if_modified(|before| std::mem::replace(before, now) != now);
}

/// Writes the acks that are due, together: behind a straggler there is one for each message, and each that is awaited alone
/// wakes the client's I/O thread.
async fn write(channel: &Channel, ledger: &mut Ledger, now: Instant) -> bool {
    loop {
        let due: Vec<_> = std::iter::from_fn(|| ledger.next_ack(now)).take(TOGETHER).collect();
        if due.is_empty() {
            return true;
        }
        let acks = due.into_iter().map(|ack| channel.basic_ack(ack.tag, BasicAckOptions { multiple: ack.multiple }));
        for acked in join_all(acks).await {
            if let Err(error) = acked {
                tracing::debug!(%error, "An ack could not be written; the broker will give its messages again");
                return false;
            }
        }
    }
}
