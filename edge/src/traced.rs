//! The span of a viewer: from its request to the first bytes that it is sent, or to why there are none.

use control_api::trace::{Beginning, Context, Span, Tracer, What};
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt;
use media_core::hub::StreamKey;

use crate::upstream::Body;

/// A viewer who is one of those that are traced, and was not answered yet. Boxed: of most there is none.
pub(crate) struct Asking {
    beginning: Beginning,
    protocol: &'static str,
    stream: StreamKey,
}

impl Asking {
    /// A viewer asks for that stream. What it says of a trace of its own is linked.
    pub(crate) fn new(
        tracer: &Tracer,
        protocol: &'static str,
        stream: &StreamKey,
        headers: Option<&HeaderMap>,
    ) -> Option<Box<Self>> {
        let beginning = tracer.begin_some(What::Play)?;
        let beginning = beginning.linked(headers.and_then(Context::of));
        Some(Box::new(Self { beginning, protocol, stream: stream.clone() }))
    }

    /// For which stream.
    pub(crate) fn stream(&self) -> &StreamKey {
        &self.stream
    }

    /// It is answered with that status, and served from that pull if there is one.
    pub(crate) fn answered(self, status: StatusCode, relay: Option<&Context>) -> Span {
        let mut span = self.beginning.under(relay);
        span.say("stream", self.stream.as_str());
        span.set("protocol", self.protocol);
        span.set("status", i64::from(status.as_u16()));
        if status.is_client_error() || status.is_server_error() {
            span.fail(status.canonical_reason().unwrap_or_default());
        }
        span
    }
}

/// The same body, with whose first piece the span ends.
pub(crate) fn until_first(body: Body, span: Option<Span>) -> Body {
    let Some(span) = span else { return body };
    let mut span = Some(span);
    body.map_frame(move |frame| {
        drop(span.take());
        frame
    })
    .boxed_unsync()
}
