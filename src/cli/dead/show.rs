//! One dead letter whole, for people.

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
    let mut lines = Vec::new();
    let dash = |value: &Option<String>| value.clone().unwrap_or_default();
    line(&mut lines, "message id", &dash(&letter.message_id));
    line(&mut lines, "reason", &letter.reason);
    line(&mut lines, "field", &letter.field);
    line(&mut lines, "detail", &letter.detail);
    line(&mut lines, "set aside at", &letter.at);
    line(&mut lines, "organization", &letter.organizations.join(", "));
    line(&mut lines, "belongs to", origin(letter));
    line(&mut lines, "type", &dash(&letter.kind));
    line(&mut lines, "content type", &dash(&letter.content_type));
    line(&mut lines, "size", &format!("{} bytes", letter.body.len()));
    for (name, value) in &letter.headers {
        line(&mut lines, &format!("header {}", for_people(name, 64)), value);
    }
    match letter.content() {
        Content::Event(it) => event(&mut lines, &it),
        Content::Parked(waiting) => {
            let count = waiting.len();
            for (number, (parked, inner)) in (1..).zip(waiting) {
                if count > 1 {
                    line(&mut lines, "holds", &format!("{number} of {count}"));
                }
                line(&mut lines, "first seen", &parked.first_seen.to_rfc3339());
                for owed in &parked.owed {
                    let last = owed.last_error.map_or("-", |error| error.as_str());
                    let owes = format!("{} after {} attempts, last error {last}", owed.subscription, owed.attempts);
                    line(&mut lines, "owes", &owes);
                }
                if let Some(inner) = inner {
                    if letter.organizations.len() > 1 {
                        line(&mut lines, "organization", inner.organization.as_str());
                    }
                    event(&mut lines, &inner);
                }
            }
        }
        Content::Result(result) => {
            line(&mut lines, "result", &format!("{} of event {}", result.outcome, result.event_id));
        }
        Content::Unreadable => {
            let bytes: Vec<_> = letter.body.iter().take(SHOWN_BYTES).map(|byte| format!("{byte:02x}")).collect();
            line(&mut lines, "cannot be read", &bytes.join(" "));
        }
    }
    lines.join("\n") + "\n"
}

fn event(lines: &mut Vec<String>, event: &DocumentEvent) {
    line(lines, "event", event.name().as_str());
    line(lines, "event id", event.id.as_str());
    line(lines, "occurred at", &event.occurred_at.map(Timestamp::to_rfc3339).unwrap_or_default());
    line(lines, "document", event.document.as_str());
    line(lines, "project", event.project.as_ref().map_or("", |name| name.as_str()));
    line(lines, "inbox", event.inbox.as_ref().map_or("", |name| name.as_str()));
    for (name, value) in &event.metadata {
        line(lines, &format!("metadata {}", for_people(name, 64)), value);
    }
    match &event.happening {
        Happening::Text { text: content } => line(lines, "text", content),
        Happening::Fail { reason } => line(lines, "fail reason", reason),
        Happening::Predict { document }
        | Happening::Evaluate { document }
        | Happening::Reject { document }
        | Happening::Finish { document } => {
            let size = document.len();
            line(lines, "document json", &format!("({size} bytes) {}", String::from_utf8_lossy(document)));
        }
        Happening::Split { sections } => line(lines, "sections", &format!("{sections:?}")),
        Happening::Export(export) => line(lines, "export", &format!("{export:?}")),
        Happening::Delete => {}
    }
}

/// One line; nothing for an empty value.
fn line(lines: &mut Vec<String>, name: &str, value: &str) {
    if !value.is_empty() {
        lines.push(format!("{name:16}  {}", for_people(value, SHOWN_CHARS)));
    }
}
