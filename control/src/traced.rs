//! Spans of what a replica decides: who may publish a stream, and where somebody is sent to.

use std::fmt;

use control_api::rpc::PublishRequest;
use control_api::trace::{Context, Span, TRACEPARENT, Tracer, What};
use http::HeaderMap;
use tonic::Request;

/// A decision that is traced, or nothing.
pub(crate) struct Traced(Option<Span>);

impl Traced {
    /// A node asks for the lease of a stream, in the span of its publisher.
    pub(crate) fn lease(tracer: &Tracer, request: &Request<PublishRequest>, node: &str) -> Self {
        Self(tracer.begin(What::Lease).map(|beginning| {
            let parent = request.metadata().get(TRACEPARENT.as_str());
            let parent = parent.and_then(|value| Context::read(value.as_encoded_bytes()));
            let mut span = beginning.under(parent.as_ref());
            if let Some(key) = &request.get_ref().key {
                span.say("stream", &key.path());
            }
            span.say("node", node);
            span
        }))
    }

    /// Somebody asks where to `play` or to `publish` a stream, in a span of its own if it says so. Who is known for an
    /// operator is believed that its trace is recorded; of all others' a share is.
    pub(crate) fn decision(
        tracer: &Tracer,
        what: &'static str,
        stream: &str,
        headers: &HeaderMap,
        operator: bool,
    ) -> Self {
        let parent = || Context::of(headers);
        let beginning = if operator && parent().is_some_and(|parent| parent.is_sampled()) {
            tracer.begin(What::Decide)
        } else {
            tracer.begin_some(What::Decide)
        };
        Self(beginning.map(|beginning| {
            let mut span = beginning.under(parent().as_ref());
            span.set("what", what);
            span.say("stream", stream);
            span
        }))
    }

    /// What came of it, if something did.
    pub(crate) fn ended<T, E: fmt::Display>(self, came: &Result<T, E>, say: impl FnOnce(&mut Span, &T)) {
        let Some(mut span) = self.0 else { return };
        match came {
            Ok(done) => say(&mut span, done),
            Err(error) => span.fail(&error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use control_api::rpc::StreamKey;
    use http::HeaderValue;
    use opentelemetry::global::BoxedTracer;
    use opentelemetry::trace::{SpanId, Status, TraceId, TracerProvider as _};
    use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider};

    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    fn tracer(share: f64) -> (Tracer, InMemorySpanExporter) {
        let exporter = InMemorySpanExporter::default();
        let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
        (Tracer::new(BoxedTracer::new(Box::new(provider.tracer("test"))), share), exporter)
    }

    #[test]
    fn a_lease_is_a_child_of_the_publish() {
        let (tracer, exporter) = tracer(0.0);
        let key = Some(StreamKey { app: "live".into(), name: "a".into() });
        let mut request = Request::new(PublishRequest { key, ..PublishRequest::default() });
        Traced::lease(&tracer, &request, "origin-1").ended(&Ok::<_, fmt::Error>(7), |span, epoch| {
            span.set("epoch", *epoch);
        });
        request.metadata_mut().insert("traceparent", format!("00-{TRACE}-{SPAN}-01").parse().unwrap());
        Traced::lease(&tracer, &request, "origin-1").ended(&Err::<(), _>("busy"), |_, ()| {});
        let spans = exporter.get_finished_spans().unwrap();
        assert_eq!((spans[0].parent_span_id, spans[0].attributes.len()), (SpanId::INVALID, 3));
        assert_eq!(spans[1].span_context.trace_id(), TraceId::from_hex(TRACE).unwrap());
        assert_eq!(spans[1].parent_span_id, SpanId::from_hex(SPAN).unwrap());
        assert_eq!(spans[1].status, Status::error("busy"));
    }

    #[test]
    fn only_an_operator_decides_what_is_recorded() {
        let count = |share, flags: &str, operator| {
            let (tracer, exporter) = tracer(share);
            let said = HeaderValue::try_from(format!("00-{TRACE}-{SPAN}-{flags}")).unwrap();
            let headers = HeaderMap::from_iter([(TRACEPARENT, said)]);
            let decision = Traced::decision(&tracer, "play", "live/a", &headers, operator);
            decision.ended(&Ok::<_, fmt::Error>(()), |_, ()| {});
            let spans = exporter.get_finished_spans().unwrap();
            assert!(spans.iter().all(|span| span.parent_span_id == SpanId::from_hex(SPAN).unwrap()));
            spans.len()
        };
        assert_eq!((count(0.0, "01", true), count(0.0, "01", false)), (1, 0));
        assert_eq!((count(1.0, "01", false), count(1.0, "00", true), count(1.0, "00", false)), (1, 0, 0));
    }
}
