//! What all lanes share: the window of requests in flight, and a second one that everything slow or silent must do with.
//!
//! A quick lane needs a place for moments; one that is slow, or gives no answer, keeps it for as long as its deadline. So
//! they never take places from each other: slow and silent lanes hold at most so many places, and so many bytes, together.
//! A lane's first place there comes before any other lane's second.

/// Those whose turn has come find so many times the room in lines that new ones find. A third of it is the longest line
/// beside no others: with the shipped window 1,024, a second's worth of 1,000 a second.
const TURNS: u32 = 12;

/// How a lane takes part in the windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// It answers, and quickly.
    Quick,
    /// It answers, and slowly.
    Slow,
    /// It does not answer, or was never tried.
    Suspect,
}

/// How large the windows are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowSizes {
    /// Requests in flight at quick lanes.
    pub quick: u32,
    /// Requests in flight at all others.
    pub slow: u32,
    /// Bytes of events that those others hold.
    pub slow_bytes: u64,
    /// Deliveries in all lines together.
    pub lines: u32,
}

/// The places of one lane in the windows.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Held {
    pub(super) quick: u32,
    quick_bytes: u64,
    pub(super) slow: u32,
    slow_bytes: u64,
}

impl Held {
    /// Whether the lane holds any place.
    pub(super) fn is_any(self) -> bool {
        self.quick > 0 || self.slow > 0
    }
}

/// The windows.
#[derive(Debug)]
pub(super) struct Windows {
    pub(super) sizes: WindowSizes,
    quick: u32,
    slow: u32,
    slow_bytes: u64,
    /// Lanes that hold any of the slow places.
    slow_lanes: u32,
    /// Deliveries in lines: new ones, and those whose turn has come.
    in_line: [u32; 2],
}

impl Windows {
    pub(super) fn new(sizes: WindowSizes) -> Self {
        Self { sizes, quick: 0, slow: 0, slow_bytes: 0, slow_lanes: 0, in_line: [0; 2] }
    }

    /// How many slow places a lane that wants one more may count on: its part of them. Those that give no answer leave most
    /// of them to others.
    pub(super) fn part(&self, held: Held, class: Class) -> f64 {
        let lanes = f64::from(self.slow_lanes + u32::from(held.slow == 0));
        let places = f64::from(self.sizes.slow);
        match class {
            Class::Quick => f64::from(self.sizes.quick),
            // The last quarter is for first places.
            Class::Slow => (places * 0.75 / lanes).max(1.0),
            Class::Suspect => places / lanes / 4.0,
        }
    }

    /// Whether a lane of this class may have one more place.
    pub(super) fn has_room(&self, held: Held, class: Class, bytes: u64) -> bool {
        if class == Class::Quick {
            return true; // It waits for its place in the quick window.
        }
        let fits = self.slow_bytes == 0 || self.slow_bytes.saturating_add(bytes) <= self.sizes.slow_bytes;
        let is_free = match held.slow {
            0 => self.slow < self.sizes.slow,
            // The last quarter is for first places.
            more => self.slow < self.sizes.slow - self.sizes.slow / 4 && f64::from(more) < self.part(held, class),
        };
        fits && is_free
    }

    /// Whether the quick window is full.
    pub(super) fn is_full(&self) -> bool {
        self.quick >= self.sizes.quick
    }

    pub(super) fn take_quick(&mut self, held: &mut Held, bytes: u64) {
        self.quick += 1;
        held.quick += 1;
        held.quick_bytes += bytes;
    }

    pub(super) fn take_slow(&mut self, held: &mut Held, bytes: u64) {
        self.slow_lanes += u32::from(held.slow == 0);
        self.slow += 1;
        self.slow_bytes += bytes;
        held.slow += 1;
        held.slow_bytes += bytes;
    }

    /// A request is over: one of the lane's places is free. A lane's places are all alike.
    pub(super) fn give_back(&mut self, held: &mut Held, bytes: u64) {
        if held.slow > 0 {
            held.slow -= 1;
            // The last place takes all bytes with it.
            let bytes = if held.slow == 0 { held.slow_bytes } else { bytes.min(held.slow_bytes) };
            held.slow_bytes -= bytes;
            self.slow -= 1;
            self.slow_bytes -= bytes;
            self.slow_lanes -= u32::from(held.slow == 0);
        } else if held.quick > 0 {
            held.quick -= 1;
            held.quick_bytes = if held.quick == 0 { 0 } else { held.quick_bytes.saturating_sub(bytes) };
            self.quick -= 1;
        }
    }

    /// The lane has fallen silent: what it holds of the quick window is given to others, and counts with the slow.
    pub(super) fn demote(&mut self, held: &mut Held) {
        if held.quick == 0 {
            return;
        }
        self.slow_lanes += u32::from(held.slow == 0);
        self.quick -= held.quick;
        self.slow += held.quick;
        self.slow_bytes += held.quick_bytes;
        held.slow += held.quick;
        held.slow_bytes += held.quick_bytes;
        (held.quick, held.quick_bytes) = (0, 0);
    }

    /// The lane answers quickly: what it holds of the slow places counts no more.
    pub(super) fn clear(&mut self, held: &mut Held) {
        if held.slow == 0 {
            return;
        }
        self.slow -= held.slow;
        self.slow_bytes -= held.slow_bytes;
        self.slow_lanes -= 1;
        (held.slow, held.slow_bytes) = (0, 0);
    }

    /// How long a line may be, beside the others: half of what is left for lines. The broker brings all turns of a second at
    /// once, so there is more for those whose turn has come.
    pub(super) fn longest_line(&self, is_back: bool) -> u32 {
        let [new, back] = self.in_line;
        let all = if is_back { self.all_turns() } else { self.sizes.lines };
        (all.saturating_sub(if is_back { back } else { new }) / 2).max(1)
    }

    /// How long the line of those whose turn has come can grow, beside the others, when so many of it stand there now.
    pub(super) fn room_for_turns(&self, own: u32) -> u32 {
        let [_, back] = self.in_line;
        (self.all_turns().saturating_sub(back.saturating_sub(own)) / 3).max(1)
    }

    fn all_turns(&self) -> u32 {
        self.sizes.lines.saturating_mul(TURNS)
    }

    pub(super) fn enters_line(&mut self, is_back: bool) {
        let [new, back] = &mut self.in_line;
        *(if is_back { back } else { new }) += 1;
    }

    pub(super) fn leaves_line(&mut self, is_back: bool) {
        let [new, back] = &mut self.in_line;
        let count = if is_back { back } else { new };
        *count = count.saturating_sub(1);
    }

    /// Deliveries in all lines.
    pub(super) fn in_line(&self) -> u32 {
        let [new, back] = self.in_line;
        new + back
    }

    /// Places taken in the quick window, and all there are.
    pub(super) fn quick(&self) -> (u32, u32) {
        (self.quick, self.sizes.quick)
    }

    /// The same of the slow window.
    pub(super) fn slow(&self) -> (u32, u32) {
        (self.slow, self.sizes.slow)
    }

    #[cfg(test)]
    pub(super) fn sums(&self) -> (u32, u32, u64, u32) {
        (self.quick, self.slow, self.slow_bytes, self.slow_lanes)
    }
}

#[cfg(test)]
impl Held {
    pub(super) fn sums(&self) -> (u32, u32, u64, u32) {
        (self.quick, self.slow, self.slow_bytes, u32::from(self.slow > 0))
    }
}
