//! The subscriptions of one scope (an inbox, a project, or everywhere), by event and in the order of matches. Immutable: it
//! is kept in chunks, and a change makes only those anew that it touches.

use std::sync::Arc;

use super::edits::Place;
use crate::domain::{EventName, Subscription};

/// How many are in a chunk at most: few enough to be copied at every change, and more than nearly every scope has.
const MOST: usize = 256;

/// A chunk with fewer goes together with the one before, if there is room.
const FEW: usize = MOST / 4;

/// Each subscription once for each of its events, sorted by event and then by place: what one event goes to lies together.
/// No chunk is empty.
#[derive(Debug, Clone, Default)]
pub(super) struct Scope(Arc<[Arc<[Wanting]>]>);

/// One subscription wants one event.
#[derive(Debug, Clone, PartialEq)]
struct Wanting {
    key: (EventName, Place),
    subscription: Arc<Subscription>,
}

impl Scope {
    /// Whoever wants this event, in order.
    pub(super) fn of(&self, event: EventName) -> impl Iterator<Item = (Place, &Arc<Subscription>)> {
        let is_before = move |wanting: &Wanting| wanting.key.0 < event;
        let first = self.0.partition_point(|chunk| chunk.last().is_some_and(is_before));
        self.0
            .iter()
            .skip(first)
            .flat_map(move |chunk| chunk.iter().skip(chunk.partition_point(is_before)))
            .take_while(move |wanting| wanting.key.0 == event)
            .map(|wanting| (wanting.key.1, &wanting.subscription))
    }

    /// The same without some, and with others.
    pub(super) fn edited(&self, leave: Vec<(Place, Arc<Subscription>)>, come: Vec<(Place, Arc<Subscription>)>) -> Self {
        let (leave, come) = (sorted(leave), sorted(come));
        let (mut leave, mut come) = (leave.iter().peekable(), come.into_iter().peekable());
        let mut chunks = Vec::with_capacity(self.0.len() + 1);
        let nothing: &Arc<[Wanting]> = &Arc::default();
        let next_chunks = self.0.iter().skip(1).map(Some).chain([None]);
        for (chunk, next) in self.0.iter().chain(self.0.is_empty().then_some(nothing)).zip(next_chunks) {
            let end = next.and_then(|next| next.first()).map(|first| first.key);
            let is_here = |wanting: &Wanting| end.is_none_or(|end| wanting.key < end);
            let mut changed: Option<Vec<Wanting>> = None;
            while let Some(leaving) = leave.next_if(|wanting| is_here(wanting)) {
                let chunk = changed.get_or_insert_with(|| chunk.to_vec());
                if let Ok(index) = chunk.binary_search_by_key(&leaving.key, |wanting| wanting.key) {
                    chunk.remove(index);
                }
            }
            while let Some(coming) = come.next_if(is_here) {
                changed.get_or_insert_with(|| chunk.to_vec()).push(coming);
            }
            match changed {
                None => chunks.push(Arc::clone(chunk)),
                Some(changed) => put(&mut chunks, changed),
            }
        }
        Self(chunks.into())
    }

    /// Whether nobody wants anything here.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// However the chunks are cut.
impl PartialEq for Scope {
    fn eq(&self, other: &Self) -> bool {
        self.0.iter().flat_map(|chunk| chunk.iter()).eq(other.0.iter().flat_map(|chunk| chunk.iter()))
    }
}

fn sorted(subscriptions: Vec<(Place, Arc<Subscription>)>) -> Vec<Wanting> {
    let mut all = Vec::with_capacity(subscriptions.len());
    for (place, subscription) in subscriptions {
        let wanting = |event| Wanting { key: (event, place), subscription: Arc::clone(&subscription) };
        all.extend(subscription.events.iter().map(wanting));
    }
    all.sort_by_key(|wanting| wanting.key);
    all
}

/// Puts a changed chunk behind the others, cut or joined as its size demands.
fn put(chunks: &mut Vec<Arc<[Wanting]>>, mut changed: Vec<Wanting>) {
    changed.sort_by_key(|wanting| wanting.key);
    if changed.len() < FEW
        && let Some(before) = chunks.pop_if(|before| before.len() + changed.len() <= MOST)
    {
        changed.splice(..0, before.iter().cloned());
    }
    let size = if changed.len() > MOST { MOST / 2 } else { MOST };
    chunks.extend(changed.chunks(size).map(Arc::from));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{file::tests::defaults, parse};

    fn subscription(number: i64) -> (Place, Arc<Subscription>) {
        let events = if number % 3 == 0 { "[document_text, document_fail]" } else { "[document_text]" };
        let text = format!(
            "subscriptions: [{{id: s{number}, organization: acme, events: {events}, target: {{url: http://h/}}}}]"
        );
        (Place::in_store(number), Arc::new(parse(&text, &defaults()).unwrap().remove(0)))
    }

    fn places(scope: &Scope, event: EventName) -> Vec<Place> {
        scope.of(event).map(|(place, _)| place).collect()
    }

    #[test]
    fn one_that_grew_and_shrank_by_and_by_is_what_it_would_be_at_once_and_its_chunks_stay_of_a_size() {
        let all: Vec<_> = (0..2_000).map(subscription).collect();
        let at_once = Scope::default().edited(Vec::new(), all.clone());
        let mut scope = Scope::default();
        for index in 0..all.len() {
            // From both ends to the middle.
            let one = if index % 2 == 0 { &all[index / 2] } else { &all[all.len() - 1 - index / 2] };
            scope = scope.edited(Vec::new(), vec![one.clone()]);
        }
        assert_eq!(scope, at_once);
        assert!(scope.0.iter().all(|chunk| (1..=MOST).contains(&chunk.len())));
        let expected = |step: usize| (0..2_000).step_by(step).map(Place::in_store).collect::<Vec<_>>();
        assert_eq!(places(&scope, EventName::DocumentText), expected(1));
        assert_eq!(places(&scope, EventName::DocumentFail), expected(3));
        assert!(places(&scope, EventName::DocumentDelete).is_empty());

        for one in all.iter().skip(40) {
            scope = scope.edited(vec![one.clone()], Vec::new());
        }
        assert_eq!(places(&scope, EventName::DocumentText), expected(1)[..40]);
        assert_eq!(places(&scope, EventName::DocumentFail), expected(3)[..14]);
        assert!(scope.0.len() < 4, "{} chunks for 54", scope.0.len());
        for one in all.iter().take(40) {
            scope = scope.edited(vec![one.clone()], Vec::new());
        }
        assert!(scope.is_empty());
    }
}
