//! Spans of OpenTelemetry: how long it takes until something has begun, and whose doing it was, across processes.
//!
//! A span ends when the thing has begun, not hours later with the stream. Where no tracer is set nothing is made, and
//! nothing is allocated.

mod context;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::SystemTime;

use opentelemetry::global::{BoxedSpan, BoxedTracer};
use opentelemetry::trace::{Link, Span as _, SpanBuilder, SpanKind, Status, TraceContextExt};
use opentelemetry::{KeyValue, Value};

pub use context::{Context, TRACEPARENT};

/// Bytes of any text in a span: clients make some of them up.
const MAX_TEXT_BYTES: usize = 512;

/// What there are spans of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// At an origin: from the request to publish to the first keyframe in the hub.
    Publish,
    /// At a control plane: a lease of a stream.
    Lease,
    /// At a control plane: whom a viewer or publisher is sent to.
    Decide,
    /// At an edge: from asking an upstream for a stream to the first keyframe of it.
    Relay,
    /// At an edge: from a viewer's request to the first bytes that it is sent.
    Play,
}

impl What {
    fn name(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Lease => "lease",
            Self::Decide => "decide",
            Self::Relay => "relay",
            Self::Play => "play",
        }
    }

    fn kind(self) -> SpanKind {
        if self == Self::Relay { SpanKind::Client } else { SpanKind::Server }
    }
}

/// Makes spans, or none. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Tracer(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    tracer: BoxedTracer,
    share: f64,
}

impl Inner {
    /// Whether the next one is of the share.
    fn picks(&self) -> bool {
        // Each `RandomState` is keyed anew. As many bits as a double has.
        let random = RandomState::new().build_hasher().finish() >> 11;
        (random as f64) < self.share * (1u64 << 53) as f64
    }
}

impl Tracer {
    /// Makes none.
    pub const OFF: Self = Self(None);

    /// Spans of `tracer`; of what anybody can cause only a `share`, 0 to 1.
    pub fn new(tracer: BoxedTracer, share: f64) -> Self {
        Self(Some(Arc::new(Inner { tracer, share })))
    }

    /// Something begins.
    pub fn begin(&self, what: What) -> Option<Beginning> {
        let inner = Arc::clone(self.0.as_ref()?);
        Some(Beginning { inner, what, at: SystemTime::now(), link: None })
    }

    /// Something begins that anybody can cause: it is one of the share, or nothing is made of it.
    pub fn begin_some(&self, what: What) -> Option<Beginning> {
        if self.0.as_ref()?.picks() { self.begin(what) } else { None }
    }
}

/// Something that has begun; whose child its span is may be found out later.
#[derive(Debug)]
pub struct Beginning {
    inner: Arc<Inner>,
    what: What,
    at: SystemTime,
    link: Option<Context>,
}

impl Beginning {
    /// Whether it is recorded, should it turn out to be what anybody can cause. To be asked once.
    pub fn is_of_the_share(&self) -> bool {
        self.inner.picks()
    }

    /// Somebody says that it belongs to a trace of theirs, and is not believed: it is linked, and decides nothing.
    pub fn linked(mut self, said: Option<Context>) -> Self {
        self.link = said;
        self
    }

    /// Its span, a child of that one if there is one.
    pub fn under(self, parent: Option<&Context>) -> Span {
        let links = self.link.map(|Context(link)| vec![Link::with_context(link)]);
        let builder = SpanBuilder {
            name: self.what.name().into(),
            span_kind: Some(self.what.kind()),
            start_time: Some(self.at),
            links,
            ..SpanBuilder::default()
        };
        let mut around = opentelemetry::Context::new();
        if let Some(Context(parent)) = parent {
            around = around.with_remote_span_context(parent.clone());
        }
        Span(builder.start_with_context(&self.inner.tracer, &around))
    }
}

/// A span. It ends when this is dropped.
#[derive(Debug)]
pub struct Span(BoxedSpan);

impl Span {
    /// Says something of it.
    pub fn set(&mut self, key: &'static str, value: impl Into<Value>) {
        self.0.set_attribute(KeyValue::new(key, value));
    }

    /// Says a text, the beginning of it if it is long.
    pub fn say(&mut self, key: &'static str, text: &str) {
        self.set(key, bounded(text).to_owned());
    }

    /// It came to nothing.
    pub fn fail(&mut self, why: &str) {
        self.0.set_status(Status::Error { description: Cow::Owned(bounded(why).to_owned()) });
    }

    /// How what follows from it, here or elsewhere, refers to it.
    pub fn context(&self) -> Context {
        Context(self.0.span_context().clone())
    }
}

fn bounded(text: &str) -> &str {
    text.get(..text.floor_char_boundary(MAX_TEXT_BYTES)).unwrap_or_default()
}
