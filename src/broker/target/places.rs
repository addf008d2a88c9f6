//! Who may have a channel: a bounded number for all, few for one exchange, one for an exchange that fails.
//!
//! An exchange that does not answer keeps its channels until the deadlines of its deliveries. So that it keeps nobody else's:
//! one exchange has [`EXCHANGE_CHANNELS`] of the [`CHANNELS`] at most, and what all of them have beyond their first is
//! [`FOR_MORE`]; one whose last message failed has one, and all of those together [`FOR_FAILING`]; so has one that had no
//! message yet, all of those together [`FOR_NEW`]. What remains is for the first messages of those that answer. One success
//! makes an exchange like the others.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::domain::{EXCHANGE_CHANNELS, ExchangeName};

/// Channels in all: the client library looks through all of them for every frame.
const CHANNELS: usize = 64;

/// Channels of all exchanges together beyond the first of each: those of four that are busy. Exchanges that answered a
/// moment ago and hang all at once have these, and one each.
const FOR_MORE: usize = 12;

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
    more: Arc<Semaphore>,
    failing: Arc<Semaphore>,
    new: Arc<Semaphore>,
    room: Arc<Semaphore>,
    /// Every exchange that was used. As many as the operator allows.
    exchanges: Mutex<HashMap<ExchangeName, Arc<Exchange>>>,
}

/// What is known of an exchange.
#[derive(Debug)]
struct Exchange {
    /// Its first place, and its only one unless it answers.
    first: Arc<Semaphore>,
    /// Its other ones.
    others: Arc<Semaphore>,
    standing: Mutex<Standing>,
}

/// What became of an exchange's last message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// There was none yet, or a connection ended with it.
    New,
    /// It was taken, or no queue was bound.
    Answers,
    /// It failed.
    Fails,
}

/// What a message tells of its exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lesson {
    /// It took the message, or said that nobody is bound to it.
    Answers,
    /// It said no, or nothing in all of a deadline.
    Fails,
    /// The connection ended with the message: perhaps because of it.
    Doubtful,
    /// Nothing.
    Nothing,
}

/// The right to use one channel for an exchange.
#[derive(Debug)]
pub struct Place {
    exchange: Arc<Exchange>,
    _permits: [OwnedSemaphorePermit; 2],
    _shared: Option<OwnedSemaphorePermit>,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            all: Arc::new(Semaphore::new(CHANNELS)),
            more: Arc::new(Semaphore::new(FOR_MORE)),
            failing: Arc::new(Semaphore::new(FOR_FAILING)),
            new: Arc::new(Semaphore::new(FOR_NEW)),
            room: Arc::new(Semaphore::new(ROOM_KIB as usize)),
            exchanges: Mutex::default(),
        }
    }
}

impl Places {
    /// A place for an exchange, as soon as there is one.
    pub(super) async fn take(&self, exchange: &ExchangeName) -> Place {
        let exchange = self.exchange(exchange);
        loop {
            let standing = exchange.standing();
            let (own, shared) = match standing {
                Standing::Answers => tokio::select! {
                    biased;
                    first = permit(&exchange.first) => (first, None),
                    other = both(&exchange.others, &self.more) => other,
                },
                Standing::New => both(&exchange.first, &self.new).await,
                Standing::Fails => both(&exchange.first, &self.failing).await,
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
                first: Arc::new(Semaphore::new(1)),
                others: Arc::new(Semaphore::new(EXCHANGE_CHANNELS as usize - 1)),
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
    /// What became of its message.
    pub(super) fn learn(&self, lesson: Lesson) {
        let mut standing = self.exchange.standing.lock().unwrap_or_else(PoisonError::into_inner);
        *standing = match (lesson, *standing) {
            (Lesson::Answers, _) => Standing::Answers,
            (Lesson::Fails, _) => Standing::Fails,
            (Lesson::Doubtful, Standing::Answers) => Standing::New,
            (Lesson::Doubtful | Lesson::Nothing, as_before) => as_before,
        };
    }
}

/// One of an exchange's own, and one of those that it shares.
async fn both(own: &Arc<Semaphore>, shared: &Arc<Semaphore>) -> (OwnedSemaphorePermit, Option<OwnedSemaphorePermit>) {
    (permit(own).await, Some(permit(shared).await))
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

    const PER_EXCHANGE: usize = EXCHANGE_CHANNELS as usize;

    fn try_take(places: &Places, name: &str) -> Option<Place> {
        places.take(&name.parse().unwrap()).now_or_never()
    }

    fn all_of(places: &Places, name: &str) -> Vec<Place> {
        std::iter::from_fn(|| try_take(places, name)).collect()
    }

    /// An exchange that had a message.
    fn known(places: &Places, name: &str, lesson: Lesson) {
        try_take(places, name).unwrap().learn(lesson);
    }

    fn one_of_each(places: &Places, kind: &str, count: usize) -> Vec<Place> {
        (0..count).filter_map(|number| try_take(places, &format!("{kind} {number}"))).collect()
    }

    #[test]
    fn an_exchange_that_fails_or_is_new_has_one_place_and_one_that_answers_has_a_few() {
        let places = Places::default();
        let new = all_of(&places, "a");
        assert_eq!(new.len(), 1, "nothing is known of it");
        new[0].learn(Lesson::Answers);
        let more = all_of(&places, "a");
        assert_eq!(new.len() + more.len(), PER_EXCHANGE);
        more[0].learn(Lesson::Fails);
        drop((new, more));
        assert_eq!(all_of(&places, "a").len(), 1);
    }

    #[test]
    fn an_exchange_whose_message_ended_the_connection_is_as_a_new_one() {
        let places = Places::default();
        known(&places, "a", Lesson::Answers);
        known(&places, "a", Lesson::Nothing);
        let few = all_of(&places, "a");
        assert_eq!(few.len(), PER_EXCHANGE);
        few[0].learn(Lesson::Doubtful);
        drop(few);
        let one = all_of(&places, "a");
        assert_eq!(one.len(), 1);
        one[0].learn(Lesson::Fails);
        one[0].learn(Lesson::Doubtful);
        drop(one);
        let new = one_of_each(&places, "new", FOR_NEW);
        assert!(new.len() == FOR_NEW && try_take(&places, "a").is_some(), "one that failed still counts as such");
    }

    #[test]
    fn exchanges_that_fail_leave_places_for_those_that_answer_and_for_new_ones() {
        let places = Places::default();
        known(&places, "good", Lesson::Answers);
        for number in 0..CHANNELS {
            known(&places, &format!("bad {number}"), Lesson::Fails);
        }
        let failing = one_of_each(&places, "bad", CHANNELS);
        assert_eq!(failing.len(), FOR_FAILING);
        let new = one_of_each(&places, "new", CHANNELS);
        assert_eq!(new.len(), FOR_NEW);
        assert_eq!(all_of(&places, "good").len(), PER_EXCHANGE);
        drop(failing);
        assert_eq!(one_of_each(&places, "bad", CHANNELS).len(), FOR_FAILING, "every place is given back");
    }

    #[test]
    fn exchanges_that_answered_and_hang_leave_places_for_those_that_answer_fail_or_are_new() {
        const HANGING: usize = 15;
        let places = Places::default();
        for name in (0..HANGING).map(|number| format!("hanging {number}")).chain(["good".to_owned()]) {
            known(&places, &name, Lesson::Answers);
        }
        for number in 0..CHANNELS {
            known(&places, &format!("bad {number}"), Lesson::Fails);
        }
        let hanging: Vec<_> = (0..HANGING).flat_map(|number| all_of(&places, &format!("hanging {number}"))).collect();
        assert_eq!(hanging.len(), HANGING + FOR_MORE);
        let others = [one_of_each(&places, "bad", CHANNELS), one_of_each(&places, "new", CHANNELS)];
        assert_eq!(others.map(|places| places.len()), [FOR_FAILING, FOR_NEW]);
        assert_eq!(all_of(&places, "good").len(), 1, "even if all of those hang as well");
    }

    #[test]
    fn whoever_waited_while_it_failed_gets_a_place_once_it_answers() {
        let places = Places::default();
        let first = try_take(&places, "a").unwrap();
        let name = "a".parse().unwrap();
        let mut second = Box::pin(places.take(&name));
        assert!((&mut second).now_or_never().is_none());
        first.learn(Lesson::Answers);
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
