//! What holds up the head of a channel, and when that is worth another channel. Pure.
//!
//! Behind a message that is not finished every ack is one of its own, and costs the broker a step; and what hangs takes up
//! places of the prefetch. A new channel has neither. It heals nothing where every message is slow: so the more channels
//! are left already, the longer the next change waits.

use std::time::Duration;

use tokio::time::Instant;

/// How many acks must have been written alone behind the same unfinished message: fewer cost less than a change.
pub(super) const PINNED_BY: u32 = 128;

/// For how long acks must have been written alone: what answers within this time frees the head by itself.
pub(super) const PINNED_FOR: Duration = Duration::from_millis(100);

/// A message that is not finished after this long is silent: its receiver is slow, or hangs.
pub(super) const SILENT_FOR: Duration = Duration::from_secs(1);

/// Channels of one queue that are left to their stragglers, at most: two queues make eighteen channels. Many channels make
/// every frame of their connection slower.
pub(super) const MOST_LEFT: usize = 8;

/// How long a channel is consumed from at least, for one that is pinned while no other is left. It doubles with each that
/// is: the eight changes of a burst of silent messages take 25 s, and a common deadline of 15 s gives the first back before
/// the last is needed.
const PACE: Duration = Duration::from_millis(100);

/// What holds up the head of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Head {
    /// Whether many acks were written alone behind it.
    pub(super) pinned: bool,
    /// How many messages of the channel are silent, or known to take long.
    pub(super) silent: usize,
}

impl Head {
    /// When to consume from another channel instead, if at all: one that was opened at `opened` with this prefetch, while
    /// `left` others are left to their stragglers. At once when silent messages hold half of the prefetch: the others
    /// must not starve behind them.
    pub(super) fn leave_at(self, prefetch: u16, opened: Instant, left: usize) -> Option<Instant> {
        if self.silent.saturating_mul(2) >= usize::from(prefetch) {
            return Some(opened);
        }
        let doubled = 1_u32 << left.min(MOST_LEFT);
        self.pinned.then(|| opened + PACE * doubled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_whose_head_is_free_is_never_left() {
        let opened = Instant::now();
        let slow = Head { pinned: false, silent: 4 };
        assert_eq!(slow.leave_at(10, opened, 0), None);
        assert_eq!(Head::default().leave_at(1, opened, 0), None);
    }

    #[test]
    fn half_of_the_prefetch_silent_is_enough_however_few_acks_were_written() {
        let opened = Instant::now();
        for (silent, prefetch) in [(5, 10), (250, 500), (1, 1), (2, 3)] {
            assert_eq!(Head { pinned: false, silent }.leave_at(prefetch, opened, 7), Some(opened), "{silent}");
        }
    }

    #[test]
    fn the_more_channels_are_left_the_longer_a_pinned_one_is_kept() {
        let opened = Instant::now();
        let pinned = Head { pinned: true, silent: 0 };
        let waits = (0..MOST_LEFT).map(|left| pinned.leave_at(500, opened, left).unwrap() - opened);
        let waits: Vec<_> = waits.map(|wait| wait.as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 6400, 12_800]);
    }
}
