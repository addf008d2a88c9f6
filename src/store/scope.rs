//! The subscriptions of one scope (an inbox, a project, or everywhere), by event and in the order of matches. Immutable.

use std::sync::Arc;

use super::snapshot::Place;
use crate::domain::{EventName, Subscription};

/// Each subscription once for each of its events, sorted by event and then by place: what one event goes to lies together.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Scope(Arc<[Wanting]>);

/// One subscription wants one event.
#[derive(Debug, Clone, PartialEq)]
struct Wanting {
    event: EventName,
    place: Place,
    subscription: Arc<Subscription>,
}

impl Scope {
    /// Whoever wants this event, in order.
    pub(super) fn of(&self, event: EventName) -> impl Iterator<Item = (Place, &Arc<Subscription>)> {
        let start = self.0.partition_point(|wanting| wanting.event < event);
        self.0
            .iter()
            .skip(start)
            .take_while(move |wanting| wanting.event == event)
            .map(|wanting| (wanting.place, &wanting.subscription))
    }

    /// The same without those at some places, and with others.
    pub(super) fn edited(&self, mut leave: Vec<Place>, come: Vec<(Place, Arc<Subscription>)>) -> Self {
        leave.sort_unstable();
        let stays = |wanting: &&Wanting| leave.binary_search(&wanting.place).is_err();
        let mut all: Vec<Wanting> = self.0.iter().filter(stays).cloned().collect();
        for (place, subscription) in come {
            all.extend(subscription.events.iter().map(|event| Wanting {
                event,
                place,
                subscription: Arc::clone(&subscription),
            }));
        }
        // What is sorted already costs next to nothing.
        all.sort_by_key(|wanting| (wanting.event, wanting.place));
        Self(all.into())
    }

    /// Whether nobody wants anything here.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
