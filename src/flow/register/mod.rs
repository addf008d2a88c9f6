//! Remembers what is in flight and what was settled, by (delivery id, hop), so that a message that comes again causes
//! no second request while this process lives.
//!
//! An entry lives until a minute after its message was acked. The minute counts only while messages come in: after a
//! broker that was away for an hour, what was acked just before is still known.

#[cfg(test)]
mod tests;

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::oneshot, time::Instant};

use crate::{
    broker::{Acked, Confirmed},
    domain::DeliveryId,
};

/// How long an entry outlives its ack. Far above the time in which a broken connection is noticed.
const KEEP: Duration = Duration::from_mins(1);

/// How long an entry lives whose ack went nowhere: its message comes again, here or at another replica.
const KEEP_UNACKED: Duration = Duration::from_mins(10);

/// No more entries than this; the oldest of those whose messages are not in hand go first.
const MOST: usize = 200_000;

/// One stay of a delivery in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct StayKey {
    pub(crate) delivery: DeliveryId,
    pub(crate) hop: u32,
}

/// What is in flight and what was settled.
#[derive(Debug)]
pub(crate) struct Register {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    entries: HashMap<StayKey, Entry>,
    /// Who waits for a running stay: hardly ever anybody.
    waiting: HashMap<StayKey, Vec<oneshot::Sender<()>>>,
    /// Entries with the ordinary time to live, in the order of their ends.
    ordinary: VecDeque<(Duration, StayKey)>,
    /// Entries with another time to live.
    special: BinaryHeap<Reverse<(Duration, StayKey)>>,
    clock: Clock,
}

/// There are as many of these as deliveries in the last minute: kept small.
#[derive(Debug)]
enum Entry {
    /// In flight here; whoever comes with the same message waits.
    Running { keep_until: Duration },
    /// Everything it owed is confirmed. Its message is still in hand, for what else it owes, so this is not forgotten.
    Settled { proof: Confirmed, keep_until: Duration },
    /// Everything it owed is confirmed, and its message was acked, or left to the broker: forgotten when its time is over.
    Answered { proof: Confirmed, keep_until: Duration },
    /// It may come twice: not here yet.
    Expected { keep_until: Duration },
}

/// Time that passes only while messages come in.
#[derive(Debug)]
struct Clock {
    origin: Instant,
    stood_still: Duration,
    stopped_at: Option<Instant>,
}

impl Clock {
    fn now(&self) -> Duration {
        self.stopped_at.unwrap_or_else(Instant::now).duration_since(self.origin).saturating_sub(self.stood_still)
    }
}

/// How a stay begins.
pub(crate) enum Entered {
    /// It is this one's to carry out.
    Mine(Stay),
    /// It was settled before.
    Settled(Confirmed),
}

/// The right, and the duty, to carry out one stay. Dropped without being settled it is free again.
#[derive(Debug)]
pub(crate) struct Stay {
    register: Arc<Register>,
    key: StayKey,
    settled: bool,
}

impl Register {
    pub(crate) fn new() -> Self {
        let clock = Clock { origin: Instant::now(), stood_still: Duration::ZERO, stopped_at: None };
        Self {
            inner: Mutex::new(Inner {
                entries: HashMap::new(),
                waiting: HashMap::new(),
                ordinary: VecDeque::new(),
                special: BinaryHeap::new(),
                clock,
            }),
        }
    }

    /// Begins a stay, or waits until whoever is at it has settled it.
    pub(crate) async fn enter(self: &Arc<Self>, key: StayKey) -> Entered {
        loop {
            let wait = {
                let mut inner = self.lock();
                let keep_until = match inner.entries.get(&key) {
                    Some(Entry::Settled { proof, .. } | Entry::Answered { proof, .. }) => {
                        return Entered::Settled(proof.clone());
                    }
                    Some(Entry::Running { .. }) => None,
                    Some(Entry::Expected { keep_until }) => Some(*keep_until),
                    None => Some(Duration::ZERO),
                };
                if let Some(keep_until) = keep_until {
                    inner.entries.insert(key, Entry::Running { keep_until });
                    return Entered::Mine(Stay { register: Arc::clone(self), key, settled: false });
                }
                let (done, wait) = oneshot::channel();
                inner.waiting.entry(key).or_default().push(done);
                wait
            };
            // Either way the entry has changed: look again.
            drop(wait.await);
        }
    }

    /// The message of these stays was answered: they are remembered for a while longer.
    pub(crate) fn answered(&self, keys: &[StayKey], acked: Acked) {
        let mut inner = self.lock();
        let now = inner.clock.now();
        for key in keys {
            let Some(entry) = inner.entries.get_mut(key) else { continue };
            let (Entry::Settled { proof, keep_until } | Entry::Answered { proof, keep_until }) = entry else {
                continue;
            };
            let (ordinary, until) = match acked {
                Acked::Sent => (*keep_until <= now + KEEP, (*keep_until).max(now + KEEP)),
                Acked::Stale => (false, (*keep_until).max(now + KEEP_UNACKED)),
            };
            *entry = Entry::Answered { proof: proof.clone(), keep_until: until };
            if ordinary {
                inner.ordinary.push_back((until, *key));
            } else {
                inner.special.push(Reverse((until, *key)));
            }
        }
        inner.forget(now);
    }

    /// A parked message may be with the broker twice: whatever comes first of it is remembered until the other one has
    /// had its time to come.
    pub(crate) fn expect_twice(&self, key: StayKey, wait: Duration) {
        let mut inner = self.lock();
        let keep_until = inner.clock.now() + wait + KEEP;
        match inner.entries.entry(key).or_insert(Entry::Expected { keep_until }) {
            Entry::Running { keep_until: known }
            | Entry::Settled { keep_until: known, .. }
            | Entry::Answered { keep_until: known, .. }
            | Entry::Expected { keep_until: known } => *known = keep_until.max(*known),
        }
        inner.special.push(Reverse((keep_until, key)));
    }

    /// Whether messages come in: the time to live counts only then.
    pub(crate) fn consuming(&self, consuming: bool) {
        let mut inner = self.lock();
        let clock = &mut inner.clock;
        match (consuming, clock.stopped_at) {
            (true, Some(since)) => {
                clock.stood_still += since.elapsed();
                clock.stopped_at = None;
            }
            (false, None) => clock.stopped_at = Some(Instant::now()),
            (true, None) | (false, Some(_)) => {}
        }
    }

    /// A running stay ends: settled with a proof, or given up. In one step, because a second copy may be announced
    /// meanwhile.
    fn leave(&self, key: StayKey, proof: Option<Confirmed>) {
        let waiting = {
            let mut inner = self.lock();
            let keep_until = match inner.entries.get(&key) {
                Some(Entry::Running { keep_until }) => *keep_until,
                Some(Entry::Settled { .. } | Entry::Answered { .. } | Entry::Expected { .. }) | None => Duration::ZERO,
            };
            match proof {
                Some(proof) => {
                    inner.entries.insert(key, Entry::Settled { proof, keep_until });
                }
                None if keep_until > inner.clock.now() => {
                    inner.entries.insert(key, Entry::Expected { keep_until });
                    // What made it be expected may have been taken off to make room.
                    inner.special.push(Reverse((keep_until, key)));
                }
                None => {
                    inner.entries.remove(&key);
                }
            }
            if inner.waiting.is_empty() { None } else { inner.waiting.remove(&key) }
        };
        for waiting in waiting.into_iter().flatten() {
            // Whoever waited may be gone.
            waiting.send(()).ok();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn forget(&mut self, now: Duration) {
        while let Some((until, key)) = self.ordinary.front().copied()
            && (until <= now || self.entries.len() > MOST)
        {
            self.ordinary.pop_front();
            self.forget_one(key, now, until > now);
        }
        while let Some(Reverse((until, key))) = self.special.peek().copied()
            && (until <= now || self.entries.len() > MOST)
        {
            self.special.pop();
            self.forget_one(key, now, until > now);
        }
    }

    fn forget_one(&mut self, key: StayKey, now: Duration, for_room: bool) {
        let over = match self.entries.get(&key) {
            Some(Entry::Answered { keep_until, .. } | Entry::Expected { keep_until }) => for_room || *keep_until <= now,
            Some(Entry::Running { .. } | Entry::Settled { .. }) | None => false,
        };
        if over {
            self.entries.remove(&key);
        }
    }
}

impl Stay {
    pub(crate) fn key(&self) -> StayKey {
        self.key
    }

    /// Everything this stay owed is confirmed.
    pub(crate) fn settle(mut self, proof: &Confirmed) {
        self.settled = true;
        self.register.leave(self.key, Some(proof.clone()));
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        if !self.settled {
            self.register.leave(self.key, None);
        }
    }
}
