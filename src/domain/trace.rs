//! W3C trace context: which trace something belongs to, as it travels in headers. Pure text; spans are made elsewhere.

use std::fmt;

/// W3C trace context: as it came from upstream, or that of a span of ours.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TraceContext {
    /// The `traceparent` header.
    pub traceparent: Option<String>,
    /// The `tracestate` header.
    pub tracestate: Option<String>,
}

/// What a well-formed `traceparent` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traceparent {
    /// Which trace. Never zero.
    pub trace: u128,
    /// Which span of it. Never zero.
    pub span: u64,
    /// Whether whoever made that span records the trace.
    pub is_sampled: bool,
}

/// How long a `traceparent` of version 00 is. Later versions may only append to it.
const LENGTH: usize = 55;

/// Where its trace id stands,
const TRACE: std::ops::Range<usize> = 3..35;

/// the span's,
const SPAN: std::ops::Range<usize> = 36..52;

/// and the flags.
const FLAGS: std::ops::Range<usize> = 53..55;

impl TraceContext {
    /// What the `traceparent` says; `None` when there is none, or it is malformed.
    #[must_use]
    pub fn parse(&self) -> Option<Traceparent> {
        Traceparent::parse(self.traceparent.as_deref()?)
    }

    /// The trace's id, 32 digits, if the `traceparent` is well-formed.
    #[must_use]
    pub fn trace_id(&self) -> Option<&str> {
        self.parse().and_then(|_| self.traceparent.as_deref()?.get(TRACE))
    }

    /// The same, only if the trace is recorded: what an exemplar may point at.
    #[must_use]
    pub fn sampled_trace_id(&self) -> Option<&str> {
        self.parse().filter(|parent| parent.is_sampled).and_then(|_| self.traceparent.as_deref()?.get(TRACE))
    }

    /// Says from here on that the trace is not recorded. The span stays the one that it names: there is none in between.
    pub fn clear_sampled(&mut self) {
        if let Some(parent) = self.parse().filter(|parent| parent.is_sampled) {
            self.traceparent = Some(Traceparent { is_sampled: false, ..parent }.to_string());
        }
    }
}

impl Traceparent {
    /// Reads a `traceparent`: `version-trace-span-flags` in lower-case hex. Version `ff` and ids of zero are malformed; of
    /// a later version than ours what we know of is read.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (ours, more) = text.as_bytes().split_first_chunk::<LENGTH>()?;
        let number = |digits: std::ops::Range<usize>| ours.get(digits).and_then(hex);
        if [2, 35, 52].iter().any(|dash| ours.get(*dash) != Some(&b'-')) {
            return None;
        }
        let (version, flags) = (number(0..2)?, number(FLAGS)?);
        let (high, low, span) = (number(3..19)?, number(19..35)?, number(SPAN)?);
        let ends_well = match more.first() {
            None => true,
            Some(next) => version > 0 && *next == b'-',
        };
        let trace = u128::from(high) << 64 | u128::from(low);
        let fits = version != 0xff && ends_well && trace != 0 && span != 0;
        fits.then_some(Self { trace, span, is_sampled: flags & 1 == 1 })
    }
}

impl fmt::Display for Traceparent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { trace, span, is_sampled } = self;
        // By hand: each event that is recorded writes some of them.
        let mut text = *b"00-................................-................-00";
        digits(*trace, text.get_mut(TRACE).unwrap_or_default());
        digits(u128::from(*span), text.get_mut(SPAN).unwrap_or_default());
        digits(u128::from(*is_sampled), text.get_mut(FLAGS).unwrap_or_default());
        f.write_str(str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

/// Writes a number in lower-case hex, its last digits.
fn digits(number: u128, into: &mut [u8]) {
    let mut bytes = number.to_be_bytes().into_iter().rev();
    let digit = |half: u8| if half < 10 { b'0' + half } else { b'a' + half - 10 };
    for pair in into.rchunks_exact_mut(2) {
        if let ([high, low], Some(byte)) = (pair, bytes.next()) {
            (*high, *low) = (digit(byte >> 4), digit(byte & 0xf));
        }
    }
}

/// A number of at most 16 digits in lower-case hex. Signs and capitals are none.
fn hex(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |number: u64, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some((number << 4) | u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn context(traceparent: &str) -> TraceContext {
        TraceContext { traceparent: Some(traceparent.to_owned()), tracestate: None }
    }

    #[test]
    fn a_traceparent_says_which_trace_which_span_and_whether_it_is_recorded() {
        let parent = Traceparent::parse(GOOD).unwrap();
        assert_eq!(parent.trace, 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c);
        assert_eq!((parent.span, parent.is_sampled), (0xb7ad_6b71_6920_3331, true));
        assert_eq!(parent.to_string(), GOOD);
        for (flags, is_sampled) in [("00", false), ("02", false), ("03", true), ("ff", true)] {
            let text = format!("{}{flags}", GOOD.get(..53).unwrap());
            assert_eq!(Traceparent::parse(&text).unwrap().is_sampled, is_sampled, "{flags}");
        }
    }

    #[test]
    fn of_a_later_version_the_part_that_is_known_is_read() {
        let later = GOOD.replacen("00", "cc", 1);
        assert_eq!(Traceparent::parse(&later), Traceparent::parse(GOOD));
        assert_eq!(Traceparent::parse(&format!("{later}-what-comes-then")), Traceparent::parse(GOOD));
        assert_eq!(Traceparent::parse(&format!("{later}.what-comes-then")), None);
    }

    #[test]
    fn what_is_malformed_is_no_trace() {
        for bad in [
            "",
            "00",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "0x-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319cb-7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01 ",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b71692033é-01",
        ] {
            assert_eq!(Traceparent::parse(bad), None, "{bad}");
            assert_eq!(context(bad).trace_id(), None, "{bad}");
        }
        assert_eq!(TraceContext::default().parse(), None);
    }

    #[test]
    fn only_a_recorded_trace_may_be_pointed_at() {
        let id = Some("0af7651916cd43dd8448eb211c80319c");
        assert_eq!((context(GOOD).trace_id(), context(GOOD).sampled_trace_id()), (id, id));
        let unrecorded = context(&GOOD.replace("-01", "-00"));
        assert_eq!((unrecorded.trace_id(), unrecorded.sampled_trace_id()), (id, None));
        for (before, after) in [(GOOD, &*GOOD.replace("-01", "-00")), ("malformed-01", "malformed-01")] {
            let mut cleared = context(before);
            cleared.clear_sampled();
            assert_eq!(cleared.traceparent.as_deref(), Some(after));
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_and_nothing_panics(
            trace in 1u128.., span in 1u64.., is_sampled: bool, noise in "\\PC{0,60}",
        ) {
            let parent = Traceparent { trace, span, is_sampled };
            prop_assert_eq!(Traceparent::parse(&parent.to_string()), Some(parent));
            prop_assert!(Traceparent::parse(&noise).is_none_or(|read| read.trace > 0 && read.span > 0));
        }
    }
}
