//! One channel that a queue is consumed on: its consumer, its acker, and the receipts for what comes.
//!
//! A tap that is left takes nothing more, but its acker lives on for what is still in hand; it is closed when that is
//! finished. Whatever goes wrong on it, left or not, ends the session.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU16, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::StreamExt as _;
use lapin::{
    Channel, Connection, Consumer,
    message::Delivery,
    options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions},
    types::FieldTable,
};
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc, watch},
    task::JoinHandle,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    acker,
    consumer::Ended,
    head::Head,
    inbound::{Inbound, Source},
    receipt::Receipt,
};

/// A quorum queue takes acks through a buffer of the channel's, which is lost when the channel closes: RabbitMQ 3.10 was
/// seen to give 40 acked messages again that were acked just before. A channel that is left stays open for this long after
/// its last ack. Where that is not enough this process remembers what it did; at its end, [`acks_are_taken`].
const ACKS_SINK_IN: Duration = Duration::from_millis(500);

/// More finished messages than this cannot wait for the acker: no channel has more unacked.
const ACKS: usize = 2 * u16::MAX as usize;

/// A channel, its consumer and its acker.
pub(super) struct Tap {
    source: Source,
    channel: Channel,
    /// The consumer: none before [`Tap::open`] and after [`Tap::shut`].
    stream: Option<Consumer>,
    queue: String,
    tag: String,
    receipts: Receipts,
    acker: JoinHandle<()>,
    /// As the acker hears it.
    prefetch: Arc<AtomicU16>,
    head: watch::Receiver<Head>,
    /// How many messages in hand are known to take long.
    long: watch::Receiver<usize>,
    made: Instant,
}

impl Tap {
    /// A channel of its own, on which nothing comes before [`Tap::open`]. It counts the bytes in hand into `held`, and is
    /// of no use any more once `gone` is cancelled.
    pub(super) async fn new(
        connection: &Connection,
        source: Source,
        held: Arc<AtomicU64>,
        gone: CancellationToken,
        tracker: &TaskTracker,
    ) -> Result<Self, Ended> {
        let channel = connection.create_channel().await?;
        let (acks, finished) = mpsc::channel(ACKS);
        let (tell, told) = watch::channel(Head::default());
        let (count_long, long) = watch::channel(0);
        let receipts =
            Receipts { acks, held, given: Arc::default(), long: Arc::new(count_long), channel: gone.clone() };
        let prefetch = Arc::new(AtomicU16::new(0));
        let watched =
            acker::Watched { given: Arc::clone(&receipts.given), prefetch: Arc::clone(&prefetch), head: tell };
        let acker = tracker.spawn(acker::run(channel.clone(), finished, gone, watched));
        Ok(Self {
            source,
            channel,
            stream: None,
            queue: String::new(),
            tag: String::new(),
            receipts,
            acker,
            prefetch,
            head: told,
            long,
            made: Instant::now(),
        })
    }

    /// Cancelled when the channel is of no use any more.
    pub(super) fn gone(&self) -> CancellationToken {
        self.receipts.channel.clone()
    }

    /// What holds it up.
    pub(super) fn head(&self) -> Head {
        let head = *self.head.borrow();
        Head { silent: head.silent.max(*self.long.borrow()), ..head }
    }

    /// Since when it is there.
    pub(super) fn made(&self) -> Instant {
        self.made
    }

    /// The bytes in hand, on all channels of the queue.
    pub(super) fn held(&self) -> u64 {
        self.receipts.held.load(Ordering::Relaxed)
    }

    /// Begins to consume, under a name that no consumer of the connection had before: RabbitMQ 3.10 crashes the channel
    /// when a consumer of a quorum queue comes back under a name that still has unacked messages.
    pub(super) async fn open(&mut self, queue: &str, tag: String, prefetch: u16) -> Result<(), Ended> {
        self.channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
        self.prefetch.store(prefetch, Ordering::Relaxed);
        let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
        (self.queue, self.tag) = (queue.to_owned(), tag.clone());
        self.stream = Some(self.channel.basic_consume(queue.into(), tag.into(), options, arguments).await?);
        Ok(())
    }

    /// The next message; `None` when there is something to look at instead: the head is another, or `look` is there.
    pub(super) async fn next(&mut self, look: Option<Instant>) -> Result<Option<Inbound>, Ended> {
        let Some(stream) = &mut self.stream else { return Ok(None) };
        tokio::select! {
            biased;
            delivery = stream.next() => match delivery {
                Some(delivery) => Ok(Some(self.receipts.inbound(self.source, delivery?))),
                None => Err(Ended::GivenUp("the broker cancelled the consumer (was the queue deleted?)")),
            },
            Ok(()) = self.head.changed() => Ok(None),
            Ok(()) = self.long.changed() => Ok(None),
            () = sleep_until(look.unwrap_or_else(Instant::now)), if look.is_some() => Ok(None),
        }
    }

    /// Cancels the consumer. What the broker had sent before it heard of that still comes, and is handed on, until `stop`.
    pub(super) async fn shut(
        &mut self,
        on_message: &(impl Fn(Inbound) + Sync),
        stop: &CancellationToken,
    ) -> Result<(), Ended> {
        self.channel.basic_cancel(self.tag.as_str().into(), BasicCancelOptions::default()).await?;
        let Some(mut stream) = self.stream.take() else { return Ok(()) };
        loop {
            let delivery = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                delivery = stream.next() => delivery,
            };
            let Some(delivery) = delivery else { return Ok(()) };
            on_message(self.receipts.inbound(self.source, delivery?));
        }
    }

    /// Shuts it, and lets acks go out until what is in hand is finished, or `stopped`; then closes the channel. Its place
    /// among those that are left is taken until then.
    pub(super) async fn leave(
        mut self,
        place: Option<OwnedSemaphorePermit>,
        on_message: &(impl Fn(Inbound) + Sync),
        stop: &CancellationToken,
        stopped: &CancellationToken,
    ) -> Result<(), Ended> {
        let gone = self.gone();
        let leaving = async {
            self.shut(on_message, stop).await?;
            // What is in hand is finished elsewhere; its acks go out through the acker until the last receipt is gone.
            drop(self.receipts);
            tokio::select! {
                ended = self.acker => drop(ended),
                () = stopped.cancelled() => {}
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => acks_are_taken(&self.channel, &self.queue, &self.tag).await?,
                () = sleep(ACKS_SINK_IN) => {}
            }
            self.channel.close(200, "done".into()).await?;
            Ok(())
        };
        let ended = tokio::select! {
            ended = leaving => ended,
            () = gone.cancelled() => Err(Ended::GivenUp("a channel was closed")),
        };
        drop(place);
        ended
    }
}

/// Waits until the queue has taken every ack of the channel, however slow its disk is. AMQP confirms no acks; but a consumer
/// that comes, and one that goes, is confirmed when the queue has taken it, after all that the channel gave the queue
/// before. The broker holds back acks of a channel while 32 steps of it are on their way: the first answer means that those
/// have arrived, which lets the rest go, and the second that the rest has. A message that is given to this consumer goes back
/// with the channel, as do those that were given and not begun.
async fn acks_are_taken(channel: &Channel, queue: &str, tag: &str) -> Result<(), Ended> {
    let tag = format!("{tag}-end");
    channel.basic_qos(1, BasicQosOptions::default()).await?;
    let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
    let _comes = channel.basic_consume(queue.into(), tag.as_str().into(), options, arguments).await?;
    Ok(channel.basic_cancel(tag.as_str().into(), BasicCancelOptions::default()).await?)
}

/// Makes receipts for one channel.
struct Receipts {
    acks: mpsc::Sender<u64>,
    held: Arc<AtomicU64>,
    /// The tag of the last message.
    given: Arc<AtomicU64>,
    long: Arc<watch::Sender<usize>>,
    channel: CancellationToken,
}

impl Receipts {
    fn inbound(&self, source: Source, delivery: Delivery) -> Inbound {
        let (tag, bytes) = (delivery.delivery_tag, delivery.data.len() as u64);
        self.given.store(tag, Ordering::Relaxed);
        let (held, acks) = (Arc::clone(&self.held), self.acks.clone());
        let receipt = Receipt::new(tag, bytes, held, acks, self.channel.clone()).counted_in(Arc::clone(&self.long));
        Inbound::new(source, delivery, receipt)
    }
}
