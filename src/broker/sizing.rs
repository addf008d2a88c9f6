//! How many messages may be in hand so that their bytes fit the window. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// A larger prefetch is only worth opening the consumer again after this long.
pub(super) const GROW_AFTER: Duration = Duration::from_millis(200);

/// So many messages must have shown their size before the window grows, or as many as it lets in.
const GROW_SEEN: u32 = 20;

/// How fast a big message is forgotten: the remembered size halves with each of these.
const FORGET: Duration = Duration::from_secs(10);

/// Chooses the prefetch of one consumer.
#[derive(Debug)]
pub(super) struct Sizing {
    window: u64,
    most: u16,
    prefetch: u16,
    opened: Instant,
    seen: u32,
    /// The largest recent message.
    largest_seen: u64,
    forgotten: Instant,
}

impl Sizing {
    /// For a window of so many bytes, at most `most` messages of at most `largest` bytes.
    pub(super) fn new(window: u64, most: u16, largest: u64, now: Instant) -> Self {
        let mut sizing = Self { window, most, prefetch: 1, opened: now, seen: 0, largest_seen: 0, forgotten: now };
        // Nothing is known yet: room for the largest ones.
        sizing.prefetch = sizing.fitting(largest);
        sizing
    }

    /// The prefetch to consume with.
    pub(super) fn prefetch(&self) -> u16 {
        self.prefetch
    }

    /// How many bytes may be in hand.
    pub(super) fn window(&self) -> u64 {
        self.window
    }

    /// A message came.
    pub(super) fn saw(&mut self, bytes: u64, now: Instant) {
        self.seen = self.seen.saturating_add(1);
        if now.duration_since(self.forgotten) >= FORGET {
            self.largest_seen /= 2;
            self.forgotten = now;
        }
        self.largest_seen = self.largest_seen.max(bytes);
    }

    /// The prefetch to go on with, when it should be another: smaller at once when more than the window is in hand,
    /// larger after a while of messages that leave room.
    pub(super) fn change(&mut self, held: u64, now: Instant) -> Option<u16> {
        let next = if held > self.window {
            self.fitting(self.largest_seen).min(self.prefetch.div_ceil(2))
        } else if now.duration_since(self.opened) >= GROW_AFTER {
            self.larger()?
        } else {
            return None;
        };
        if next == self.prefetch {
            return None;
        }
        self.prefetch = next;
        self.opened = now;
        self.seen = 0;
        Some(next)
    }

    /// Whether a larger prefetch is due after [`GROW_AFTER`] even if no message comes: all that fit may be in hand, and
    /// wait for a receiver that does not answer.
    pub(super) fn may_grow(&self) -> bool {
        self.larger().is_some()
    }

    /// A prefetch that is worth opening the consumer again, when enough messages have shown that there is room.
    fn larger(&self) -> Option<u16> {
        if self.seen < GROW_SEEN.min(u32::from(self.prefetch)) {
            return None;
        }
        // Twice the largest one seen: room for somewhat bigger ones.
        let next = self.fitting(self.largest_seen.saturating_mul(2));
        (next / 2 >= self.prefetch || (next == self.most && next > self.prefetch)).then_some(next)
    }

    fn fitting(&self, bytes: u64) -> u16 {
        u16::try_from(self.window / bytes.max(1)).unwrap_or(u16::MAX).clamp(1, self.most.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    #[test]
    fn the_window_opens_for_the_largest_messages_and_grows_when_they_are_small() {
        let now = Instant::now();
        let mut sizing = Sizing::new(128 * MIB, 500, 8 * MIB, now);
        assert_eq!(sizing.prefetch(), 16);
        for _ in 0..GROW_SEEN {
            sizing.saw(2000, now);
        }
        assert_eq!(sizing.change(0, now), None, "not within the first moments");
        assert_eq!(sizing.change(0, now + GROW_AFTER), Some(500));
        assert_eq!(sizing.change(0, now + 2 * GROW_AFTER), None);
    }

    #[test]
    fn a_window_that_is_full_of_small_messages_grows_although_no_other_comes() {
        let now = Instant::now();
        let mut sizing = Sizing::new(128 * MIB, 500, 12 * MIB, now);
        assert_eq!(sizing.prefetch(), 10);
        for _ in 0..9 {
            sizing.saw(2000, now);
        }
        assert!(!sizing.may_grow());
        sizing.saw(2000, now);
        assert!(sizing.may_grow());
        assert_eq!(sizing.change(20_000, now + GROW_AFTER), Some(500));
        assert!(!sizing.may_grow());
    }

    #[test]
    fn a_window_that_is_full_of_large_messages_does_not_grow() {
        let now = Instant::now();
        let mut sizing = Sizing::new(128 * MIB, 500, 12 * MIB, now);
        for _ in 0..10 {
            sizing.saw(8 * MIB, now);
        }
        assert!(!sizing.may_grow());
        assert_eq!(sizing.change(80 * MIB, now + GROW_AFTER), None);
    }

    #[test]
    fn more_than_the_window_in_hand_shrinks_the_prefetch_at_once() {
        let now = Instant::now();
        let mut sizing = Sizing::new(128 * MIB, 500, 1000, now);
        assert_eq!(sizing.prefetch(), 500);
        sizing.saw(8 * MIB, now);
        assert_eq!(sizing.change(129 * MIB, now), Some(16));
    }

    #[test]
    fn a_message_larger_than_the_window_still_comes_one_at_a_time() {
        let now = Instant::now();
        let mut sizing = Sizing::new(MIB, 500, 8 * MIB, now);
        assert_eq!(sizing.prefetch(), 1);
        sizing.saw(8 * MIB, now);
        assert_eq!(sizing.change(8 * MIB, now), None);
    }
}
