//! Spans: who records, what a span is before it is told, and how an event that is not recorded becomes one that is.
//!
//! A span is two moments and a few facts, told once it is over: `facts` says what, `queue` keeps it until `export` has sent
//! it. Until then it is its ids, which cost nothing that would have to be given back. Where nothing is exported or the event
//! is not recorded, nothing is made at all. opentelemetry stops at this folder's edge.

mod draft;
mod export;
mod facts;
mod names;
mod queue;
mod scope;

use std::sync::Arc;

use opentelemetry::trace::{Link, SpanContext, SpanId, TraceFlags, TraceId, TraceState};
use opentelemetry_sdk::trace::SpanData;
use tokio_util::sync::CancellationToken;

pub use self::{
    export::TracingError,
    facts::{Ended, ProcessEnd, Processed, Published, Server, Tried, Waited, Within},
    scope::{Aside, Scope},
};
use self::{facts::Facts, queue::Queue};
use crate::{
    config::{BrokerConfig, TracingConfig},
    domain::{Timestamp, TraceContext, Traceparent, now},
};

/// Records spans, or nothing. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Tracer(Option<Arc<Recorder>>);

#[derive(Debug)]
struct Recorder {
    sampler: Sampler,
    facts: Facts,
    queue: Arc<Queue>,
}

/// A span that has begun: which one it is, and since when. Nothing is kept of it until it is told.
#[derive(Debug, Clone, Copy)]
pub struct Begun {
    trace: u128,
    span: u64,
    parent: Option<Parent>,
    at: Timestamp,
}

#[derive(Debug, Clone, Copy)]
struct Parent {
    span: u64,
    is_remote: bool,
}

/// Which traces that begin here are recorded.
#[derive(Debug, Clone, Copy)]
struct Sampler {
    /// Traces whose id is below it are recorded: every replica decides alike.
    bound: u64,
    /// Whether what upstream decided holds.
    follows_parent: bool,
}

impl Tracer {
    /// A tracer that sends to `config.endpoint`, and the task that does it, which ends soon after `stop`: what was told
    /// before is still sent, for two seconds at most. Without an endpoint nothing is recorded.
    ///
    /// # Errors
    /// When nothing can ever be sent: the endpoint is no address, or TLS cannot be set up. One that does not answer is no
    /// such reason.
    pub fn start(
        config: &TracingConfig,
        broker: &BrokerConfig,
        stop: CancellationToken,
    ) -> Result<(Self, impl Future<Output = ()> + Send + 'static), TracingError> {
        for warning in &config.warnings {
            tracing::warn!("{warning}");
        }
        let mut run = None;
        let mut tracer = Self::default();
        if let Some(endpoint) = &config.endpoint {
            let queue = Arc::new(Queue::new(config.queue, config.batch));
            let exporter = export::exporter(endpoint, config)?;
            run = Some(export::run(Arc::clone(&queue), exporter, config.delay, stop));
            let sampler = Sampler::new(config.sample, config.follows_parent);
            let facts = Facts::new(&format!("{}.events", broker.queue_prefix), &broker.results_exchange);
            tracer = Self(Some(Arc::new(Recorder { sampler, facts, queue })));
            tracing::info!(endpoint = %endpoint, sample = config.sample, "Spans are exported");
        }
        Ok((tracer, async {
            if let Some(run) = run {
                run.await;
            }
        }))
    }

    /// Whether anything may be recorded.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// How many spans were lost so far: there was no room for them, or they could not be exported.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.0.as_ref().map_or(0, |recorder| recorder.queue.dropped())
    }

    /// An event comes in: the span in which it is taken in, if it is recorded. `upstream` is what came with it; malformed, it
    /// is as if nothing had come.
    #[must_use]
    pub fn take_in(&self, upstream: &TraceContext, at: Timestamp) -> Option<Begun> {
        self.0.as_ref()?.sampler.take_in(upstream.parse(), at)
    }

    /// A span below that of `context`, if that is recorded.
    #[must_use]
    pub fn below(&self, context: &TraceContext) -> Option<Begun> {
        self.0.as_ref()?;
        context.parse().filter(|parent| parent.is_sampled).map(|parent| Begun::below_remote(parent, now()))
    }

    /// Whether spans below that of `context` are recorded.
    #[must_use]
    pub fn records(&self, context: &TraceContext) -> bool {
        self.is_on() && context.sampled_trace_id().is_some()
    }

    /// An attempt begins for something that belongs to `context`. `None` only when nothing can be recorded: one that is not
    /// may still become so, by failing.
    #[must_use]
    pub fn attempt(&self, context: &TraceContext) -> Option<Scope> {
        let recorder = self.0.as_ref()?;
        let below = self.below(context);
        Some(Scope::new(Arc::clone(recorder), below.unwrap_or_else(|| Begun::root(now())), below.is_some()))
    }

    /// The end of a span in which a message was taken in.
    pub fn processed(&self, begun: Begun, processed: &Processed<'_>) {
        self.tell(|recorder| recorder.facts.processed(begun, now(), processed));
    }

    /// Something was published for upstream, and is confirmed or not.
    pub fn published(&self, begun: Begun, published: Published<'_>, is_confirmed: bool) {
        self.tell(|recorder| recorder.facts.published(begun, now(), published, is_confirmed));
    }

    /// A delivery that belongs to `context` has waited in the broker, and waits no more.
    pub fn waited(&self, context: &TraceContext, waited: &Waited<'_>) {
        if let Some(begun) = self.below(context) {
            self.tell(|_| facts::waited(begun, now(), waited));
        }
    }

    fn tell(&self, span: impl FnOnce(&Recorder) -> SpanData) {
        if let Some(recorder) = &self.0 {
            recorder.queue.push(span(recorder));
        }
    }
}

impl Begun {
    fn root(at: Timestamp) -> Self {
        Self { trace: fastrand::u128(1..), span: fastrand::u64(1..), parent: None, at }
    }

    fn below_remote(parent: Traceparent, at: Timestamp) -> Self {
        let Traceparent { trace, span, .. } = parent;
        Self { trace, span: fastrand::u64(1..), parent: Some(Parent { span, is_remote: true }), at }
    }

    /// A span of this process below this one.
    fn child(self, at: Timestamp) -> Self {
        let parent = Parent { span: self.span, is_remote: false };
        Self { trace: self.trace, span: fastrand::u64(1..), parent: Some(parent), at }
    }

    /// What whoever comes after this span is told. `tracestate` is that of the trace.
    #[must_use]
    pub fn context(self, tracestate: Option<&str>) -> TraceContext {
        let traceparent = Traceparent { trace: self.trace, span: self.span, is_sampled: true };
        TraceContext { traceparent: Some(traceparent.to_string()), tracestate: tracestate.map(str::to_owned) }
    }

    fn span_context(self) -> SpanContext {
        span_context(self.trace, SpanId::from(self.span), TraceFlags::SAMPLED)
    }
}

fn span_context(trace: u128, span: SpanId, flags: TraceFlags) -> SpanContext {
    SpanContext::new(TraceId::from(trace), span, flags, false, TraceState::NONE)
}

/// What points from a trace that begins late to where it belongs.
fn link(upstream: Traceparent) -> Link {
    let flags = if upstream.is_sampled { TraceFlags::SAMPLED } else { TraceFlags::NOT_SAMPLED };
    Link::with_context(span_context(upstream.trace, SpanId::from(upstream.span), flags))
}

impl Sampler {
    fn new(share: f64, follows_parent: bool) -> Self {
        /// Of the ids' last 64 bits the first 63 are compared, as other implementations do.
        const ALL: u64 = 1 << 63;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a share from 0 to 1 of 2^63: rounded down"
        )]
        let bound = (share.clamp(0.0, 1.0) * ALL as f64) as u64;
        Self { bound, follows_parent }
    }

    fn take_in(self, upstream: Option<Traceparent>, at: Timestamp) -> Option<Begun> {
        match upstream {
            Some(parent) if self.follows_parent => parent.is_sampled.then(|| Begun::below_remote(parent, at)),
            Some(parent) => self.is_recorded(parent.trace).then(|| Begun::below_remote(parent, at)),
            None => Some(Begun::root(at)).filter(|root| self.is_recorded(root.trace)),
        }
    }

    fn is_recorded(self, trace: u128) -> bool {
        #[expect(clippy::cast_possible_truncation, reason = "its last 64 bits")]
        let low = trace as u64;
        low >> 1 < self.bound
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::Status;
    use proptest::prelude::*;

    use super::*;

    const UPSTREAM: Traceparent = Traceparent { trace: 7, span: 8, is_sampled: true };

    #[test]
    fn what_upstream_decided_holds_unless_the_sampler_says_otherwise() {
        let unrecorded = Traceparent { is_sampled: false, ..UPSTREAM };
        for share in [0.0, 1.0] {
            let sampler = Sampler::new(share, true);
            let begun = sampler.take_in(Some(UPSTREAM), now()).unwrap();
            assert_eq!((begun.trace, begun.parent.unwrap().span), (7, 8));
            assert!(sampler.take_in(Some(unrecorded), now()).is_none());
            let alone = Sampler::new(share, false).take_in(Some(unrecorded), now());
            assert_eq!((alone.is_some(), sampler.take_in(None, now()).is_some()), (share > 0.5, share > 0.5));
        }
    }

    #[test]
    fn every_replica_records_the_same_traces_and_about_the_share_that_is_asked_for() {
        let sampler = Sampler::new(0.25, true);
        let recorded = (0..4000).filter(|_| sampler.take_in(None, now()).is_some()).count();
        assert!((800..1200).contains(&recorded), "{recorded} of 4000");
        // The last 64 of its bits decide, but for the very last.
        assert!(sampler.is_recorded(u128::MAX << 64 | 1) && !sampler.is_recorded(1 << 63));
    }

    #[test]
    fn what_finds_no_room_is_counted_and_forgotten() {
        let queue = Queue::new(5, 2);
        for _ in 0..7 {
            queue.push(span());
        }
        assert_eq!(queue.dropped(), 2);
        assert_eq!(queue.batches(), 3);
        let batches: Vec<_> = std::iter::from_fn(|| queue.take(true)).map(|batch| batch.len()).collect();
        assert_eq!((batches.as_slice(), queue.take(true).is_none()), (&[2, 2, 1][..], true));
        queue.push(span());
        assert!(queue.take(false).is_none() && queue.take(true).is_some());
    }

    #[test]
    fn an_attempt_that_a_defect_ends_is_told_as_failed_if_its_event_is_recorded() {
        let queue = Arc::new(Queue::new(9, 9));
        let (sampler, facts) = (Sampler::new(1.0, true), Facts::new("q", "r"));
        let tracer = Tracer(Some(Arc::new(Recorder { sampler, facts, queue: Arc::clone(&queue) })));
        for parent in [UPSTREAM, Traceparent { is_sampled: false, ..UPSTREAM }] {
            let context = TraceContext { traceparent: Some(parent.to_string()), tracestate: None };
            let scope = tracer.attempt(&context).unwrap();
            drop(scope.aside(Within::LinkSigning));
            drop(scope);
        }
        let told = queue.take(true).unwrap();
        let names: Vec<_> = told.iter().map(|span| span.name.as_ref()).collect();
        assert_eq!(
            (names.as_slice(), told[0].parent_span_id),
            (&["sign link", "attempt"][..], told[1].span_context.span_id())
        );
        assert_eq!((told[1].parent_span_id, &told[1].status), (SpanId::from(8), &Status::error("")));
    }

    /// Any span.
    pub(super) fn span() -> SpanData {
        let (event, subscription) = ("e".parse().unwrap(), "s".parse().unwrap());
        let cause = crate::domain::DeliveryId::of(&event, &subscription);
        let (organization, reason) = ("acme".parse().unwrap(), crate::domain::FailureKind::Gone);
        let disabled = crate::domain::SubscriptionDisabled { subscription, organization, reason, at: now(), cause };
        Facts::new("q", "r").published(Begun::root(now()), now(), Published::Disabled(&disabled), true)
    }

    #[test]
    fn every_attribute_stands_in_the_documents() {
        let document = include_str!("../../../docs/tracing.md");
        let missing: Vec<_> = names::ALL.into_iter().filter(|name| !document.contains(&format!("`{name}`"))).collect();
        assert!(missing.is_empty(), "docs/tracing.md does not name {missing:?}");
    }

    proptest! {
        #[test]
        fn a_span_gives_on_what_the_next_one_reads(trace in 1u128.., span in 1u64..) {
            let begun = Begun { trace, span, parent: None, at: now() };
            let context = begun.context(Some("vendor=1"));
            prop_assert_eq!(context.parse(), Some(Traceparent { trace, span, is_sampled: true }));
            let below = Begun::below_remote(context.parse().unwrap(), now());
            prop_assert_eq!((below.trace, below.parent.map(|parent| parent.span)), (trace, Some(span)));
        }
    }
}
