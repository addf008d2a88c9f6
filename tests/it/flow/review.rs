//! An upstream that archives a document when all exports were accepted, and takes it back to review at the first that was
//! not. docs/results.md shows the consumer between the two lines; a test below keeps them the same.

use std::collections::{HashMap, HashSet};

use docrelay::domain::{DeliveryId, DeliveryResult, DocumentState, Outcome};
use serde_json::json;

use super::payloads::export;
use crate::support::{
    receiver::{Receiver, Reply},
    service::{GENEROUS, Surroundings, subscription, with},
};

// consumer
/// Where a document stands, by the results of one `document_export`.
#[derive(Default)]
struct Review {
    seen: HashSet<String>,
    votes: HashMap<Option<DeliveryId>, DocumentState>,
}

impl Review {
    /// Takes one more result, repeats included, and says where the document stands now.
    fn hear(&mut self, message_id: &str, result: &DeliveryResult) -> DocumentState {
        let vote = result.outcome.document_state(result.event);
        if self.seen.insert(message_id.to_owned()) {
            let known = self.votes.entry(result.delivery).or_insert(DocumentState::Pending);
            // A final outranks what is pending, and `delivered` every other final.
            if *known == DocumentState::Pending || vote == DocumentState::Archived {
                *known = vote;
            }
        }
        let votes = |state| self.votes.values().filter(|vote| **vote == state).count();
        if votes(DocumentState::ToReview) > 0 {
            DocumentState::ToReview
        } else if votes(DocumentState::Archived) >= result.fan_out.max(1) as usize {
            DocumentState::Archived
        } else {
            DocumentState::Pending
        }
    }
}
// consumer

/// Where each event's document stands when all results were heard, each of them twice.
fn states(surroundings: &Surroundings) -> HashMap<String, DocumentState> {
    let (mut reviews, mut states) = (HashMap::<_, Review>::new(), HashMap::new());
    for (message_id, result) in surroundings.results.with_message_ids() {
        let review = reviews.entry(result.event_id.to_string()).or_default();
        let state = review.hear(&message_id, &result);
        assert_eq!(review.hear(&message_id, &result), state, "a repeat changes nothing");
        states.insert(result.event_id.to_string(), state);
    }
    states
}

#[tokio::test]
async fn a_document_is_archived_when_all_exports_were_accepted_and_goes_back_to_review_when_one_was_not() {
    let receiver = Receiver::scripted(|request| {
        let bad = request.path == "/second" && request.json()["id"] == "evt-bad";
        let late = request.path == "/first" && request.attempt() == 1;
        if bad {
            Reply::status(400).body("the cost centre is missing")
        } else {
            Reply::status(if late { 503 } else { 200 })
        }
    })
    .await;
    let surroundings = Surroundings::new().await;
    let to = |path: &str| {
        let fields = json!({
            "payload": "cloudevents", "events": ["document_export"], "inboxes": ["exports"],
            "retry": {"on": "no_response"},
        });
        with(subscription(path, &receiver.url(&format!("/{path}"))), fields)
    };
    surroundings.subscribe(&[to("first"), to("second")]);
    let service = surroundings.start().await;
    let of =
        |id: &str, inbox: &str| docrelay::domain::DocumentEvent { inbox: Some(inbox.parse().unwrap()), ..export(id) };
    surroundings.publish_all(&[of("evt-good", "exports"), of("evt-bad", "exports"), of("evt-free", "other")]).await;
    surroundings.results.wait_for_outcome(Outcome::Delivered, 3, GENEROUS).await;
    let bad = surroundings.results.wait_for_outcome(Outcome::Exhausted, 1, GENEROUS).await;
    surroundings.results.wait_for_outcome(Outcome::Unsubscribed, 1, GENEROUS).await;

    let states = states(&surroundings);
    assert_eq!(states["evt-good"], DocumentState::Archived);
    assert_eq!(states["evt-bad"], DocumentState::ToReview);
    assert_eq!(states["evt-free"], DocumentState::Archived, "nobody wants to know, so nobody objects");
    assert_eq!(bad[0].response_body, "the cost centre is missing", "what a reviewer is shown");
    surroundings.end(service, &[(&receiver, 6)]).await;
}

#[test]
fn the_document_shows_the_consumer_that_is_tested() {
    let consumer = include_str!("review.rs").split("// consumer\n").nth(1).unwrap();
    assert!(include_str!("../../../docs/results.md").contains(consumer), "copy it to docs/results.md:\n{consumer}");
}
