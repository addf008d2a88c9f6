//! Fields of log lines that are made of something else.

use tracing::field::{DisplayValue, display};

use crate::domain::TraceContext;

/// The id of a span, as log lines and spans write it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SpanId(u64);

impl SpanId {
    /// The span of a trace that something belongs to, for a field.
    pub(crate) fn of(trace: &TraceContext) -> Option<DisplayValue<Self>> {
        trace.parse().map(|parent| display(Self(parent.span)))
    }
}

impl std::fmt::Display for SpanId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}
