//! The span of one attempt, and what is done within it. It is recorded at once when its event is; otherwise it is kept for as
//! long as the attempt runs, and recorded if that fails.

use std::sync::{Arc, Mutex, PoisonError};

use opentelemetry_sdk::trace::SpanData;

use super::{
    Begun, Recorder,
    facts::{self, Ended, Tried, Within},
    link, span_context,
};
use crate::domain::{TraceContext, now};

/// More is not kept of what is done within an attempt that is not recorded: a login, a second one, a link.
const MOST_ASIDE: usize = 4;

/// The span of an attempt.
#[derive(Debug)]
pub struct Scope {
    recorder: Arc<Recorder>,
    begun: Begun,
    is_recorded: bool,
    /// Of an attempt that is not recorded: what was done within it.
    aside: Mutex<Vec<SpanData>>,
}

impl Scope {
    pub(super) fn new(recorder: Arc<Recorder>, begun: Begun, is_recorded: bool) -> Self {
        Self { recorder, begun, is_recorded, aside: Mutex::default() }
    }

    /// What the receiver is told; `None` when the attempt is not recorded: then what came from upstream stands.
    #[must_use]
    pub fn context(&self, tracestate: Option<&str>) -> Option<TraceContext> {
        self.is_recorded.then(|| self.begun.context(tracestate))
    }

    /// Something within the attempt begins: it is told when it is dropped.
    #[must_use]
    pub fn aside(&self, what: Within) -> Aside<'_> {
        Aside { scope: self, begun: self.begun.child(now()), what, ended: Ended::CutOff }
    }

    /// The attempt has ended. If it failed and its event was not recorded, it is from here on: then the context is given to
    /// which everything after belongs. `upstream` is what came with the event, and `late` what an attempt before gave that
    /// failed for the same message: one trace for all of them.
    pub fn tried(
        self,
        tried: &Tried<'_>,
        upstream: &TraceContext,
        late: Option<&TraceContext>,
    ) -> Option<TraceContext> {
        let Self { recorder, mut begun, is_recorded, aside } = self;
        if !is_recorded && tried.is_good() {
            return None;
        }
        if is_recorded {
            recorder.queue.push(facts::tried(begun, tried));
            return None;
        }
        let late = late.and_then(TraceContext::parse);
        if let Some(late) = late {
            begun = Begun { span: begun.span, ..Begun::below_remote(late, begun.at) };
        }
        let mut span = facts::tried(begun, tried);
        if late.is_none() {
            span.links.links.extend(upstream.parse().map(link));
        }
        recorder.queue.push(span);
        for mut within in aside.into_inner().unwrap_or_else(PoisonError::into_inner) {
            let own = within.span_context;
            within.span_context = span_context(begun.trace, own.span_id(), own.trace_flags());
            recorder.queue.push(within);
        }
        late.is_none().then(|| begun.context(None))
    }

    fn tell(&self, span: SpanData) {
        if self.is_recorded {
            return self.recorder.queue.push(span);
        }
        let mut aside = self.aside.lock().unwrap_or_else(PoisonError::into_inner);
        if aside.len() < MOST_ASIDE {
            aside.push(span);
        }
    }
}

/// Something that is done within an attempt: a login, the signing of a link. Told when it is dropped, as cut off unless it
/// was said how it ended.
#[derive(Debug)]
pub struct Aside<'a> {
    scope: &'a Scope,
    begun: Begun,
    what: Within,
    ended: Ended,
}

impl Aside<'_> {
    /// How it ended.
    pub fn ended(&mut self, ended: Ended) {
        self.ended = ended;
    }
}

impl Drop for Aside<'_> {
    fn drop(&mut self) {
        self.scope.tell(facts::within(self.begun, now(), &self.what, self.ended));
    }
}
