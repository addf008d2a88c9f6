//! One dead letter whole, for people.

use std::fmt::Write as _;

use super::origin;
use crate::{
    broker::operator::{Content, Letter},
    cli::for_people,
    domain::{DocumentEvent, Happening, Timestamp},
};

/// How much of a document, and of any other text, is shown.
const SHOWN_CHARS: usize = 400;

/// Bytes of a body that cannot be read.
const SHOWN_BYTES: usize = 64;

/// Everything about a letter.
pub(super) fn whole(letter: &Letter) -> String {
    let mut text = String::new();
    let dash = |value: &Option<String>| value.clone().unwrap_or_default();
    line(&mut text, "message id", &dash(&letter.message_id));
    line(&mut text, "reason", &letter.reason);
    line(&mut text, "field", &letter.field);
    line(&mut text, "detail", &letter.detail);
    line(&mut text, "set aside at", &letter.at);
    line(&mut text, "organization", &dash(&letter.organization));
    line(&mut text, "belongs to", origin(letter));
    line(&mut text, "type", &dash(&letter.kind));
    line(&mut text, "content type", &dash(&letter.content_type));
    line(&mut text, "size", &format!("{} bytes", letter.body.len()));
    for (name, value) in &letter.headers {
        line(&mut text, &format!("header {}", for_people(name, 64)), value);
    }
    match letter.content() {
        Content::Event(it) => event(&mut text, &it),
        Content::Parked(parked, inner) => {
            line(&mut text, "first seen", &parked.first_seen.to_rfc3339());
            for owed in &parked.owed {
                let last = owed.last_error.map_or("-", |error| error.as_str());
                let owes = format!("{} after {} attempts, last error {last}", owed.subscription, owed.attempts);
                line(&mut text, "owes", &owes);
            }
            if let Some(inner) = inner {
                event(&mut text, &inner);
            }
        }
        Content::Result(result) => {
            line(&mut text, "result", &format!("{} of event {}", result.outcome, result.event_id));
        }
        Content::Unreadable => {
            let bytes: Vec<_> = letter.body.iter().take(SHOWN_BYTES).map(|byte| format!("{byte:02x}")).collect();
            line(&mut text, "cannot be read", &bytes.join(" "));
        }
    }
    text
}

fn event(text: &mut String, event: &DocumentEvent) {
    line(text, "event", event.name().as_str());
    line(text, "event id", event.id.as_str());
    line(text, "occurred at", &event.occurred_at.map(Timestamp::to_rfc3339).unwrap_or_default());
    line(text, "document", event.document.as_str());
    line(text, "project", event.project.as_ref().map_or("", |name| name.as_str()));
    line(text, "inbox", event.inbox.as_ref().map_or("", |name| name.as_str()));
    for (name, value) in &event.metadata {
        line(text, &format!("metadata {}", for_people(name, 64)), value);
    }
    match &event.happening {
        Happening::Text { text: content } => line(text, "text", content),
        Happening::Fail { reason } => line(text, "fail reason", reason),
        Happening::Predict { document }
        | Happening::Evaluate { document }
        | Happening::Reject { document }
        | Happening::Finish { document } => {
            let size = document.len();
            line(text, "document json", &format!("({size} bytes) {}", String::from_utf8_lossy(document)));
        }
        Happening::Split { sections } => line(text, "sections", &format!("{sections:?}")),
        Happening::Export(export) => line(text, "export", &format!("{export:?}")),
        Happening::Delete => {}
    }
}

/// One line; nothing for an empty value.
fn line(text: &mut String, name: &str, value: &str) {
    if !value.is_empty() {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name:16}  {}", for_people(value, SHOWN_CHARS));
    }
}
