//! The body of one attempt. Most are rendered once for all deliveries of an event; a link to a file is signed for each
//! attempt anew, so that a late one never carries a dead link.

use bytes::Bytes;
use tokio::time::{Instant, timeout_at};

use super::{Flow, intake::Work, ports::Courier};
use crate::{
    artifacts::SignError,
    domain::{Answer, DeliveryId, FailureKind, FileExport, FileLink, Happening, Subscription, Timestamp},
    telemetry::trace::{Ended, Scope, Within},
};

impl<C: Courier> Flow<C> {
    /// The body for an attempt, by the time that it began. The error is the attempt's answer: it was not made.
    pub(super) async fn body(
        &self,
        work: &Work,
        subscription: &Subscription,
        delivery: DeliveryId,
        (at, began): (Timestamp, Instant),
        scope: Option<&Scope>,
    ) -> Result<Bytes, Answer> {
        let link = match subscription.file {
            None => None,
            Some(file) => {
                let mut span = scope.map(|scope| scope.aside(Within::LinkSigning));
                let signing = Box::pin(self.link(work, file, at));
                // The attempt's own deadline.
                let deadline = subscription.target.timeout();
                let link = timeout_at(began + deadline, signing).await.unwrap_or_else(|_elapsed| {
                    Err(unsigned(&format!("no answer within {}", humantime::format_duration(deadline))))
                });
                if let Some(span) = &mut span {
                    span.ended(link.as_ref().map_or_else(Ended::of, |_| Ended::Well));
                }
                Some(link?)
            }
        };
        let body = work.body(subscription.payload, delivery, link.as_ref());
        body.map_err(|error| Answer::Unsendable { kind: FailureKind::Internal, text: error.to_string() })
    }

    async fn link(&self, work: &Work, file: FileExport, at: Timestamp) -> Result<FileLink, Answer> {
        let format = file.format;
        let rendition =
            if let Happening::Export(export) = &work.event.happening { export.rendition(format) } else { None };
        let Some(rendition) = rendition else {
            return Err(no_rendition(format!("the document has no file in the format {}", format.as_str())));
        };
        let Some(artifacts) = &self.artifacts else {
            return Err(unsigned("artifacts.url is not set"));
        };
        let link = artifacts.sign(&rendition.path, at, file.valid_for).await.map_err(|error| match error {
            SignError::Missing | SignError::BadPath(_) => no_rendition(error.to_string()),
            SignError::Failed(text) => unsigned(&text),
        })?;
        let content_type =
            if rendition.content_type.is_empty() { format.content_type() } else { &rendition.content_type };
        Ok(FileLink { url: link.url, content_type: content_type.to_owned(), expires_at: link.expires_at })
    }
}

/// There is nothing to link to, now or later.
fn no_rendition(text: String) -> Answer {
    Answer::Unsendable { kind: FailureKind::NoRendition, text }
}

/// The artifact store failed: the attempt has failed, and says nothing about the target.
fn unsigned(text: &str) -> Answer {
    Answer::None { kind: FailureKind::Internal, text: format!("the link to the file could not be signed: {text}") }
}
