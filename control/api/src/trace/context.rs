//! What a span is called between processes: W3C Trace Context, level 1.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};

/// The header field that names a span (§3.2), also among gRPC's metadata.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Bytes of the text in version 00: `00-`, 32 digits, `-`, 16 digits, `-`, 2 digits.
const LEN: usize = 55;

/// Names a span. What vendors say beside it (`tracestate`) is not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context(pub(super) SpanContext);

impl Context {
    /// The span that a request or an answer names. Of several none, as of a text that is not quite right (§3.2.2).
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(TRACEPARENT).iter();
        match (values.next(), values.next()) {
            (Some(value), None) => Self::read(value.as_bytes()),
            _ => None,
        }
    }

    /// Reads the text of such a field, which may be anybody's.
    pub fn read(text: &[u8]) -> Option<Self> {
        let (known, rest) = text.split_at_checked(LEN)?;
        let known = std::str::from_utf8(known).ok()?;
        let mut parts = known.split('-');
        let mut digits = |len| parts.next().filter(|part| part.len() == len && part.bytes().all(is_digit));
        let (version, trace, span, flags) = (digits(2)?, digits(32)?, digits(16)?, digits(2)?);
        // Later versions may say more behind a further dash; the one that is not allowed is ff.
        let whole = match version {
            "00" => rest.is_empty(),
            "ff" => false,
            _ => rest.is_empty() || rest.starts_with(b"-"),
        };
        let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?) & TraceFlags::SAMPLED;
        let (trace, span) = (TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?);
        let context = SpanContext::new(trace, span, flags, true, TraceState::NONE);
        (whole && context.is_valid()).then_some(Self(context))
    }

    /// Whether the trace is recorded where that span is.
    pub fn is_sampled(&self) -> bool {
        self.0.is_sampled()
    }

    /// As a header's value.
    pub fn header(&self) -> Option<HeaderValue> {
        HeaderValue::try_from(self.to_string()).ok()
    }
}

fn is_digit(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(context) = self;
        let flags = (context.trace_flags() & TraceFlags::SAMPLED).to_u8();
        write!(f, "00-{}-{}-{flags:02x}", context.trace_id(), context.span_id())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn what_is_written_is_read() {
        let context = Context::read(TEXT.as_bytes()).unwrap();
        assert_eq!(context.to_string(), TEXT);
        assert_eq!(context.header().unwrap(), TEXT);
        assert!(context.is_sampled());
        assert!(!Context::read(TEXT.replace("-01", "-00").as_bytes()).unwrap().is_sampled());
        // Of the flags one is known.
        assert_eq!(Context::read(TEXT.replace("-01", "-fb").as_bytes()).unwrap(), context);
        for later in ["01", "fe"] {
            let text = TEXT.replacen("00", later, 1);
            assert_eq!(Context::read(text.as_bytes()), Some(context.clone()));
            assert_eq!(Context::read(format!("{text}-more").as_bytes()), Some(context.clone()));
            assert_eq!(Context::read(format!("{text}more").as_bytes()), None);
        }
    }

    #[test]
    fn what_is_not_quite_right_is_nothing() {
        for text in [
            "",
            "00",
            &TEXT[..54],
            &format!("{TEXT}-"),
            &format!("{TEXT} "),
            &format!(" {TEXT}"),
            &TEXT.to_uppercase(),
            &TEXT.replacen("00", "ff", 1),
            &TEXT.replacen("00", "0g", 1),
            &TEXT.replacen('-', "0", 1),
            &TEXT.replacen("4b", "+b", 1),
            &TEXT.replacen("4bf", "\u{e4}f", 1),
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        ] {
            assert_eq!(Context::read(text.as_bytes()), None, "{text}");
        }
        let mut headers = HeaderMap::new();
        assert_eq!(Context::of(&headers), None);
        headers.append(TRACEPARENT, HeaderValue::from_static(TEXT));
        assert!(Context::of(&headers).is_some());
        headers.append(TRACEPARENT, HeaderValue::from_static(TEXT));
        assert_eq!(Context::of(&headers), None, "two parents");
    }

    proptest! {
        #[test]
        fn bytes_of_any_kind_are_survived(text in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = Context::read(&text);
        }

        /// Whoever is let in can be passed on.
        #[test]
        fn what_is_read_is_written_the_same(text in "0[01]-[0-9a-f]{31,32}-[0-9a-f]{16}-[0-9a-f]{2}") {
            if let Some(context) = Context::read(text.as_bytes()) {
                prop_assert_eq!(Context::read(context.to_string().as_bytes()), Some(context));
            }
        }
    }
}
