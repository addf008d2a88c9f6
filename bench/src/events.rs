//! The load: `document_predict` events of 2 KB, spread evenly over 64 organizations. Each says something else: lines of words, where
//! they stand on the page and how sure that is, so that what is compressed is not a row of one letter.

use std::sync::LazyLock;

use prost::Message;

#[expect(missing_docs, clippy::pedantic, reason = "generated from proto/, where the documentation is")]
pub mod wire {
    include!(concat!(env!("OUT_DIR"), "/docrelay.v1.rs"));
}

/// How many organizations the load of the first part is spread over. Each is a target, and so a lane, of its own.
pub const ORGANIZATIONS: usize = 64;

/// How long an encoded event is, in bytes.
pub const EVENT_BYTES: usize = 2048;

/// The name of an organization.
#[must_use]
pub fn organization(number: usize) -> String {
    format!("organization-{number:02}")
}

/// An event of the first part: its id, its routing key and its encoded bytes. `run` keeps the ids of different runs apart.
#[must_use]
pub fn event(run: &str, index: usize) -> (String, String, Vec<u8>) {
    event_for(&organization(index % ORGANIZATIONS), run, index)
}

/// An event of an organization.
#[must_use]
pub fn event_for(organization: &str, run: &str, index: usize) -> (String, String, Vec<u8>) {
    let id = format!("{run}-{index}");
    let organization = organization.to_owned();
    let key = format!("document_predict.{organization}.inbox-1");
    let mut event = wire::DocumentEvent {
        id: id.clone(),
        occurred_at: Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 0 }),
        organization,
        inbox: "inbox-1".to_owned(),
        document_id: format!("document-{index}"),
        event: Some(document(&id, 0)),
        ..wire::DocumentEvent::default()
    };
    // Lengths between 128 and 16,383 take the same number of bytes, so filling up is exact in one step.
    let missing = EVENT_BYTES.saturating_sub(event.encoded_len() + FILLED_LENGTH_BYTES);
    event.event = Some(document(&id, missing));
    (id, key, event.encode_to_vec())
}

/// The document and its field each have a length that grows from one byte to two when it is filled up.
const FILLED_LENGTH_BYTES: usize = 2;

/// A document whose lines are so many bytes.
fn document(id: &str, bytes: usize) -> wire::document_event::Event {
    let json = format!(r#"{{"id":"{id}","total":12.50,"lines":[{}]}}"#, lines(id, bytes));
    wire::document_event::Event::DocumentPredict(wire::DocumentPredict { document_json: json.into() })
}

static WORDS: LazyLock<Vec<&str>> = LazyLock::new(|| {
    "invoice number date due total amount net gross tax rate supplier customer address street city country payment terms account \
     bank order reference quantity unit price discount description item page of the and for with per hour service delivery note \
     balance subtotal shipping currency transport contract period monthly licence"
        .split_whitespace()
        .collect()
});

/// The longest line with its comma.
const LONGEST_LINE: usize = 160;

/// Lines of text, where they stand on the page and how sure it is, exactly so many bytes of JSON; others for another id.
fn lines(id: &str, bytes: usize) -> String {
    const LAST: (&str, &str) = (r#"{"text":""#, r#""}"#);
    let mut dice = Dice(id.bytes().fold(7, |seed, byte| seed.wrapping_mul(31).wrapping_add(u64::from(byte))));
    let mut lines = String::with_capacity(bytes);
    while lines.len() + LONGEST_LINE + LAST.0.len() + LAST.1.len() < bytes {
        let text = dice.words(5);
        let (x, y, width, height) = (dice.below(2480), dice.below(3508), dice.below(900), dice.below(60));
        let sure = 800 + dice.below(200);
        let line = format!(r#"{{"text":"{text}","page":1,"box":[{x},{y},{width},{height}],"confidence":0.{sure}}},"#);
        lines.push_str(&line);
    }
    let Some(rest) = bytes.checked_sub(lines.len() + LAST.0.len() + LAST.1.len()) else { return lines };
    let text: String = std::iter::repeat_with(|| dice.words(5) + " ")
        .take(rest)
        .flat_map(String::into_bytes)
        .take(rest)
        .map(char::from)
        .collect();
    lines + LAST.0 + &text + LAST.1
}

/// Numbers that are the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: u64) -> u64 {
        // Knuth's constants for 64 bits; the upper half is the better one.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }

    /// One word to `most` of them.
    fn words(&mut self, most: u64) -> String {
        let words: Vec<_> =
            (0..=self.below(most)).filter_map(|_| WORDS.get(self.index(WORDS.len())).copied()).collect();
        words.join(" ")
    }

    fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap_or_default()
    }
}

/// The subscriptions file: for every organization `fan_out` subscriptions to its events.
#[must_use]
pub fn subscriptions(fan_out: usize, receiver_port: u16) -> String {
    let every =
        (0..ORGANIZATIONS).flat_map(|index| (0..fan_out).map(move |path| subscription(index, path, receiver_port)));
    std::iter::once("subscriptions:\n".to_owned()).chain(every).collect()
}

/// One subscription for every organization; the first one's target hangs at `hung_port`.
#[must_use]
pub fn subscriptions_with_one_hung(receiver_port: u16, hung_port: u16) -> String {
    let port = |index| if index == 0 { hung_port } else { receiver_port };
    let every = (0..ORGANIZATIONS).map(|index| subscription(index, 0, port(index)));
    std::iter::once("subscriptions:\n".to_owned()).chain(every).collect()
}

fn subscription(index: usize, path: usize, receiver_port: u16) -> String {
    let organization = organization(index % ORGANIZATIONS);
    subscription_to(
        &format!("{organization}-{path}"),
        &organization,
        &format!("http://127.0.0.1:{receiver_port}/hook/{path}"),
        "",
    )
}

/// A subscription of an organization to its events; `more` are further fields, a line each.
#[must_use]
pub fn subscription_to(id: &str, organization: &str, url: &str, more: &str) -> String {
    let more: String = more.lines().flat_map(|line| ["    ", line, "\n"]).collect();
    format!(
        r#"  - id: {id}
    name: {id}
    organization: {organization}
    events: [document_predict]
    payload: contractfit
    target: {{type: http, url: "{url}"}}
{more}"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_is_exactly_as_long_as_said() {
        for index in [0, 1, 9, 10, 999, 19_999, 21_023] {
            assert_eq!(event("r1-bare", index).2.len(), EVENT_BYTES, "event {index}");
        }
    }

    #[test]
    fn every_document_is_json_and_says_something_else() {
        let documents: std::collections::HashSet<_> = (0..1000)
            .map(|index| {
                let event = wire::DocumentEvent::decode(event("r1-bare", index).2.as_slice()).unwrap();
                let Some(wire::document_event::Event::DocumentPredict(predict)) = event.event else {
                    panic!("{event:?}")
                };
                let document: serde_json::Value = serde_json::from_slice(&predict.document_json).unwrap();
                document["lines"].to_string()
            })
            .collect();
        assert_eq!(documents.len(), 1000);
    }

    #[test]
    fn there_is_a_subscription_for_every_organization_and_path() {
        assert_eq!(subscriptions(3, 1).matches("  - id: ").count(), 3 * ORGANIZATIONS);
    }
}
