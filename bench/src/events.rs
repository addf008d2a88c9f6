//! The load: `document_predict` events of 2 KB, spread evenly over 64 organizations.

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

fn document(id: &str, fill: usize) -> wire::document_event::Event {
    let json = format!(r#"{{"id":"{id}","total":12.50,"text":"{}"}}"#, "x".repeat(fill));
    wire::document_event::Event::DocumentPredict(wire::DocumentPredict { document_json: json.into() })
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
    fn there_is_a_subscription_for_every_organization_and_path() {
        assert_eq!(subscriptions(3, 1).matches("  - id: ").count(), 3 * ORGANIZATIONS);
    }
}
