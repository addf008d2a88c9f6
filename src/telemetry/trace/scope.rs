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

/// The span of an attempt. Dropped before it is told it is told as failed: a defect ended the attempt.
#[derive(Debug)]
pub struct Scope {
    recorder: Arc<Recorder>,
    begun: Begun,
    is_recorded: bool,
    is_told: bool,
    /// Of an attempt that is not recorded: what was done within it.
    aside: Mutex<Vec<SpanData>>,
}

impl Scope {
    pub(super) fn new(recorder: Arc<Recorder>, begun: Begun, is_recorded: bool) -> Self {
        Self { recorder, begun, is_recorded, is_told: false, aside: Mutex::default() }
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
        mut self,
        tried: &Tried<'_>,
        upstream: &TraceContext,
        late: Option<&TraceContext>,
    ) -> Option<TraceContext> {
        self.is_told = true;
        if self.is_left_out(tried) {
            return None;
        }
        let (mut begun, queue) = (self.begun, &self.recorder.queue);
        if self.is_recorded {
            queue.push(facts::tried(begun, tried));
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
        queue.push(span);
        for mut within in self.aside.get_mut().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let own = within.span_context;
            within.span_context = span_context(begun.trace, own.span_id(), own.trace_flags());
            queue.push(within);
        }
        late.is_none().then(|| begun.context(None))
    }

    /// Whether an attempt that ended so is left out: it was not recorded, and nothing failed.
    #[must_use]
    pub fn is_left_out(&self, tried: &Tried<'_>) -> bool {
        !self.is_recorded && tried.is_good()
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

impl Drop for Scope {
    fn drop(&mut self) {
        if self.is_recorded && !self.is_told {
            self.recorder.queue.push(facts::untold(self.begun, now()));
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
