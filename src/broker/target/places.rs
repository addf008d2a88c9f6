//! Who may have a channel: a bounded number for all, few for one exchange, one for an exchange that fails.
//!
//! An exchange that does not answer keeps its channels until the deadlines of its deliveries. So that it keeps nobody else's:
//! one exchange has [`PER_EXCHANGE`] of the [`CHANNELS`] at most; one whose last message failed has one, and all of those
//! together [`FOR_FAILING`]; so has one that had no message yet, all of those together [`FOR_NEW`]. One success makes it like
//! the others.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::domain::ExchangeName;

/// Channels in all: the client library looks through all of them for every frame.
const CHANNELS: usize = 64;

/// Channels of one exchange. Measured with one message under way on each, four are 3,000 messages a second and more.
const PER_EXCHANGE: usize = 4;

/// Channels of all exchanges together whose last message failed.
const FOR_FAILING: usize = 12;

/// Channels of all exchanges together that had no message yet.
const FOR_NEW: usize = 24;

/// KiB of bodies that may be written at once, besides one that is larger alone: the client copies what it writes.
const ROOM_KIB: u32 = 64 * 1024;

/// The channels that may be in use.
#[derive(Debug)]
pub(super) struct Places {
    all: Arc<Semaphore>,
    failing: Arc<Semaphore>,
    new: Arc<Semaphore>,
    room: Arc<Semaphore>,
    /// Every exchange that was used. As many as the operator allows.
    exchanges: Mutex<HashMap<ExchangeName, Arc<Exchange>>>,
}

/// What is known of an exchange.
#[derive(Debug)]
struct Exchange {
    places: Arc<Semaphore>,
    /// For one at a time, unless it answers.
    alone: Arc<Semaphore>,
    standing: Mutex<Standing>,
}

/// What became of an exchange's last message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// There was none yet.
    New,
    /// It was taken, or no queue was bound.
    Answers,
    /// It failed.
    Fails,
}

/// The right to use one channel for an exchange.
#[derive(Debug)]
pub(super) struct Place {
    exchange: Arc<Exchange>,
    _permits: [OwnedSemaphorePermit; 2],
    _shared: Option<OwnedSemaphorePermit>,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            all: Arc::new(Semaphore::new(CHANNELS)),
            failing: Arc::new(Semaphore::new(FOR_FAILING)),
            new: Arc::new(Semaphore::new(FOR_NEW)),
            room: Arc::new(Semaphore::new(ROOM_KIB as usize)),
            exchanges: Mutex::default(),
        }
    }
}

impl Places {
    /// A place for an exchange, as soon as there is one.
    pub(super) async fn take(self: Arc<Self>, exchange: &ExchangeName) -> Place {
        let exchange = self.exchange(exchange);
        loop {
            let standing = exchange.standing();
            let (own, shared) = match standing {
                Standing::Answers => (&exchange.places, None),
                Standing::New => (&exchange.alone, Some(&self.new)),
                Standing::Fails => (&exchange.alone, Some(&self.failing)),
            };
            let own = permit(own).await;
            let shared = match shared {
                Some(shared) => Some(permit(shared).await),
                None => None,
            };
            let any = permit(&self.all).await;
            // It may have failed, or answered, meanwhile: then it has another number of places.
            if exchange.standing() == standing {
                return Place { exchange, _permits: [own, any], _shared: shared };
            }
        }
    }

    /// Room for a body that is written.
    pub(super) async fn room(&self, bytes: usize) -> OwnedSemaphorePermit {
        let kib = u32::try_from(bytes / 1024 + 1).unwrap_or(ROOM_KIB).min(ROOM_KIB);
        permits(&self.room, kib).await
    }

    fn exchange(&self, name: &ExchangeName) -> Arc<Exchange> {
        let mut exchanges = self.exchanges.lock().unwrap_or_else(PoisonError::into_inner);
        let exchange = exchanges.entry(name.clone()).or_insert_with(|| {
            Arc::new(Exchange {
                places: Arc::new(Semaphore::new(PER_EXCHANGE)),
                alone: Arc::new(Semaphore::new(1)),
                standing: Mutex::new(Standing::New),
            })
        });
        Arc::clone(exchange)
    }
}

impl Exchange {
    fn standing(&self) -> Standing {
        *self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// The exchange took a message, or said that nobody is bound to it; or it failed.
    pub(super) fn learn(&self, answers: bool) {
        let standing = if answers { Standing::Answers } else { Standing::Fails };
        *self.exchange.standing.lock().unwrap_or_else(PoisonError::into_inner) = standing;
    }
}

async fn permit(semaphore: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    permits(semaphore, 1).await
}

async fn permits(semaphore: &Arc<Semaphore>, number: u32) -> OwnedSemaphorePermit {
    match Arc::clone(semaphore).acquire_many_owned(number).await {
        Ok(permits) => permits,
        // Nobody closes them.
        Err(_closed) => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn try_take(places: &Arc<Places>, name: &str) -> Option<Place> {
        Arc::clone(places).take(&name.parse().unwrap()).now_or_never()
    }

    fn all_of(places: &Arc<Places>, name: &str) -> Vec<Place> {
        std::iter::from_fn(|| try_take(places, name)).collect()
    }

    #[test]
    fn an_exchange_that_fails_or_is_new_has_one_place_and_one_that_answers_has_a_few() {
        let places = Arc::<Places>::default();
        let new = all_of(&places, "a");
        assert_eq!(new.len(), 1, "nothing is known of it");
        new[0].learn(true);
        let more = all_of(&places, "a");
        assert_eq!(more.len(), PER_EXCHANGE);
        more[0].learn(false);
        drop((new, more));
        assert_eq!(all_of(&places, "a").len(), 1);
    }

    #[test]
    fn exchanges_that_fail_leave_places_for_those_that_answer_and_for_new_ones() {
        let places = Arc::<Places>::default();
        let names: Vec<_> = (0..CHANNELS).map(|number| format!("bad {number}")).collect();
        try_take(&places, "good").unwrap().learn(true);
        for name in &names {
            try_take(&places, name).unwrap().learn(false);
        }
        let take_all = || -> Vec<_> { names.iter().filter_map(|name| try_take(&places, name)).collect() };
        let failing = take_all();
        assert_eq!(failing.len(), FOR_FAILING);
        let new: Vec<_> = (0..CHANNELS).filter_map(|number| try_take(&places, &format!("new {number}"))).collect();
        assert_eq!(new.len(), FOR_NEW);
        assert_eq!(all_of(&places, "good").len(), PER_EXCHANGE);
        drop(failing);
        assert_eq!(take_all().len(), FOR_FAILING, "every place is given back");
    }

    #[test]
    fn whoever_waited_while_it_failed_gets_a_place_once_it_answers() {
        let places = Arc::<Places>::default();
        let first = try_take(&places, "a").unwrap();
        let name = "a".parse().unwrap();
        let mut second = Box::pin(Arc::clone(&places).take(&name));
        assert!((&mut second).now_or_never().is_none());
        first.learn(true);
        drop(first);
        assert!((&mut second).now_or_never().is_some());
    }

    #[test]
    fn room_is_bounded_and_one_body_larger_than_all_of_it_has_room_alone() {
        let places = Places::default();
        let large = places.room(usize::MAX).now_or_never().unwrap();
        assert!(places.room(1).now_or_never().is_none());
        drop(large);
        assert!(places.room(1).now_or_never().is_some());
    }
}
