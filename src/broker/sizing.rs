//! How many messages may be in hand so that their bytes fit the window. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// A larger prefetch is only worth opening the consumer again after this long. Short: until the window is open, one target
/// that hangs can fill it.
const GROW_AFTER: Duration = Duration::from_millis(25);

/// So many messages must have shown their size before the window grows, or all that may be in hand: they may all be slow,
/// and the others must not wait for them.
const GROW_SEEN: u32 = 20;

/// How many times larger the prefetch becomes at once. Step by step, so that targets that nothing is known of have
/// answered for the first time before many deliveries ask for them.
const GROW_BY: u16 = 4;

/// How fast a big message is forgotten: the remembered size halves with each of these.
const FORGET: Duration = Duration::from_secs(10);

/// Chooses the prefetch of one consumer.
#[derive(Debug)]
pub(super) struct Sizing {
    window: u64,
    most: u16,
    prefetch: u16,
    opened: Instant,
    /// How many messages came since the prefetch was last made smaller.
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

    /// Whether another channel may bring as much again as one does: with `held` bytes in hand half of the window is free.
    pub(super) fn has_room(&self, held: u64) -> bool {
        held <= self.window / 2
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
        } else if self.may_grow() && now >= self.opened + GROW_AFTER {
            // Twice the largest one seen: room for somewhat bigger ones.
            self.fitting(self.largest_seen.saturating_mul(2)).min(self.prefetch.saturating_mul(GROW_BY))
        } else {
            return None;
        };
        let worth_it = held > self.window || next / 2 >= self.prefetch || (next == self.most && next > self.prefetch);
        if !worth_it || next == self.prefetch {
            return None;
        }
        if held > self.window {
            // They are larger than they seemed: compressed ones are, once they are in hand.
            self.largest_seen = self.largest_seen.max(held / u64::from(self.prefetch));
        }
        if next < self.prefetch {
            self.seen = 0;
        }
        self.prefetch = next;
        self.opened = now;
        Some(next)
    }

    /// When to ask for a change even if no message comes: those in hand may fill the prefetch.
    pub(super) fn next_look(&self, now: Instant) -> Option<Instant> {
        let at = self.opened + GROW_AFTER;
        (self.may_grow() && now < at).then_some(at)
    }

    fn may_grow(&self) -> bool {
        self.seen >= GROW_SEEN.min(self.prefetch.into())
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
        let steps: Vec<_> = (1..=5).map(|n| sizing.change(0, now + n * GROW_AFTER)).collect();
        assert_eq!(steps, [Some(64), Some(256), Some(500), None, None]);
    }

    #[test]
    fn the_window_grows_step_by_step_when_those_in_hand_fill_the_prefetch_and_do_not_finish() {
        let now = Instant::now();
        let mut sizing = Sizing::new(12 * MIB, 500, 12 * MIB, now);
        let (mut at, mut seen, mut steps) = (now, 0_u16, Vec::new());
        while sizing.prefetch() < 500 {
            assert_eq!(sizing.next_look(at).is_none(), seen < 20, "few were seen, and there is room");
            while seen < sizing.prefetch() {
                sizing.saw(2000, at);
                seen += 1;
            }
            assert_eq!(sizing.change(0, at), None);
            at = sizing.next_look(at).unwrap();
            steps.push(sizing.change(0, at).unwrap());
        }
        assert_eq!(steps, [4, 16, 64, 256, 500]);
        assert_eq!(sizing.next_look(at + GROW_AFTER), None);
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
    fn what_takes_more_in_hand_than_on_the_wire_does_not_open_the_window_again() {
        let now = Instant::now();
        let mut sizing = Sizing::new(8 * MIB, 500, 6000, now);
        (0..500).for_each(|_| sizing.saw(6000, now));
        assert_eq!(sizing.change(9 * MIB, now), Some(250));
        (0..250).for_each(|_| sizing.saw(6000, now));
        assert_eq!(sizing.change(0, now + GROW_AFTER), None);
    }

    #[test]
    fn another_channel_is_only_worth_opening_while_half_of_the_window_is_free() {
        let sizing = Sizing::new(8 * MIB, 500, MIB, Instant::now());
        assert!(sizing.has_room(4 * MIB));
        assert!(!sizing.has_room(4 * MIB + 1));
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
