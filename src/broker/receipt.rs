//! The duty that comes with a message: to answer for it, or to let the broker give it back.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::publisher::Confirmed;

/// A message in hand. [`Receipt::ack`] answers for it; [`Receipt::let_go`] leaves it to a broken channel; dropping it
/// is a defect, and closes the channel so that the broker gives the message again: repeating is allowed, losing is not.
///
/// Nothing is ever given back by requeueing: it would return at once, count against the delivery limit, and spin.
#[must_use = "an unsettled message keeps a place in the window"]
#[derive(Debug)]
pub struct Receipt {
    tag: u64,
    acks: mpsc::Sender<u64>,
    channel: CancellationToken,
    held: Arc<AtomicU64>,
    /// What of it is its own.
    bytes: AtomicU64,
    answered: bool,
    /// The channel's messages that are known to take long, and whether this is one of them.
    long: Option<Arc<watch::Sender<usize>>>,
    is_long: AtomicBool,
}

/// What became of an ack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acked {
    /// It is on its way to the broker.
    Sent,
    /// The channel is gone: the broker will give the message again.
    Stale,
}

impl Receipt {
    /// A receipt for the message `tag` of a channel that ends when `channel` is cancelled and whose acker reads `acks`.
    pub(crate) fn new(
        tag: u64,
        bytes: u64,
        held: Arc<AtomicU64>,
        acks: mpsc::Sender<u64>,
        channel: CancellationToken,
    ) -> Self {
        held.fetch_add(bytes, Ordering::Relaxed);
        Self {
            tag,
            acks,
            channel,
            held,
            bytes: bytes.into(),
            answered: false,
            long: None,
            is_long: AtomicBool::new(false),
        }
    }

    /// The same, counted in `long` once it [takes long](Self::takes_long).
    pub(crate) fn counted_in(mut self, long: Arc<watch::Sender<usize>>) -> Self {
        self.long = Some(long);
        self
    }

    /// The message takes so many bytes more than it had on the wire: it was compressed.
    pub fn holds_also(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.held.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The message will take long: one of its targets is slow, or gives no answer. Its channel need not wait to find out.
    pub fn takes_long(&self) {
        if let Some(long) = &self.long
            && !self.is_long.swap(true, Ordering::Relaxed)
        {
            long.send_modify(|count| *count += 1);
        }
    }

    /// Answers for the message. What it owed must be confirmed: there is no other way to a [`Confirmed`].
    #[must_use]
    pub fn ack(mut self, _proof: Confirmed) -> Acked {
        self.answered = true;
        if self.is_stale() {
            return Acked::Stale;
        }
        // The acker's line holds as many as can be unacked: it is full only when the acker is gone.
        if self.acks.try_send(self.tag).is_ok() {
            Acked::Sent
        } else {
            self.channel.cancel();
            Acked::Stale
        }
    }

    /// Whether the channel is gone: the broker gives the message again, whatever is done here.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        self.channel.is_cancelled()
    }

    /// Leaves the message unanswered, on purpose: its channel is gone, or is about to be closed by a stop.
    pub fn let_go(mut self) {
        self.answered = true;
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        self.held.fetch_sub(*self.bytes.get_mut(), Ordering::Relaxed);
        if let Some(long) = self.long.as_ref().filter(|_| *self.is_long.get_mut()) {
            long.send_modify(|count| *count = count.saturating_sub(1));
        }
        if !self.answered {
            tracing::error!(delivery_tag = self.tag, "A message was dropped unanswered; its channel is closed");
            self.channel.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receipt() -> (Receipt, mpsc::Receiver<u64>, CancellationToken, Arc<AtomicU64>) {
        let (acks, acked) = mpsc::channel(4);
        let (channel, held) = (CancellationToken::new(), Arc::default());
        (Receipt::new(7, 100, Arc::clone(&held), acks, channel.clone()), acked, channel, held)
    }

    #[test]
    fn a_receipt_that_is_dropped_closes_the_channel_and_acks_nothing() {
        let (receipt, mut acked, channel, held) = receipt();
        assert_eq!(held.load(Ordering::Relaxed), 100);
        drop(receipt);
        assert!(channel.is_cancelled());
        assert!(acked.try_recv().is_err());
        assert_eq!(held.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_message_that_takes_long_is_counted_once_and_until_it_is_finished() {
        let (receipt, _acked, _channel, _held) = receipt();
        let long = Arc::new(watch::Sender::new(0));
        let receipt = receipt.counted_in(Arc::clone(&long));
        receipt.takes_long();
        receipt.takes_long();
        assert_eq!(*long.borrow(), 1);
        receipt.let_go();
        assert_eq!(*long.borrow(), 0);
    }

    #[test]
    fn what_it_holds_when_it_is_unpacked_counts_until_it_is_finished() {
        let (receipt, _acked, _channel, held) = receipt();
        receipt.holds_also(900);
        assert_eq!(held.load(Ordering::Relaxed), 1000);
        receipt.let_go();
        assert_eq!(held.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn an_acked_receipt_leaves_the_channel_open() {
        let (receipt, mut acked, channel, _) = receipt();
        assert_eq!(receipt.ack(Confirmed::nothing_owed()), Acked::Sent);
        assert_eq!(acked.try_recv(), Ok(7));
        assert!(!channel.is_cancelled());
    }

    #[test]
    fn a_receipt_of_a_closed_channel_says_that_its_ack_is_stale() {
        let (receipt, mut acked, channel, _) = receipt();
        channel.cancel();
        assert_eq!(receipt.ack(Confirmed::nothing_owed()), Acked::Stale);
        assert!(acked.try_recv().is_err());
    }
}
