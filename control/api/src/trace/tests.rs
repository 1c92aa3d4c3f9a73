//! Spans as an exporter sees them.

use opentelemetry::trace::{SpanId, Status, TracerProvider as _};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};

use super::*;

fn tracer(share: f64) -> (Tracer, InMemorySpanExporter) {
    let exporter = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
    (Tracer::new(BoxedTracer::new(Box::new(provider.tracer("test"))), share), exporter)
}

fn one(exporter: &InMemorySpanExporter) -> SpanData {
    let spans = exporter.get_finished_spans().unwrap();
    assert_eq!(spans.len(), 1);
    spans.into_iter().next().unwrap()
}

#[test]
fn children_are_of_their_parents_trace_and_began_when_they_did() {
    let (tracer, exporter) = tracer(0.0);
    let before = SystemTime::now();
    let (publish, relay) = (tracer.begin(What::Publish).unwrap(), tracer.begin(What::Relay).unwrap());
    let publish = publish.under(None);
    // As it comes from another process.
    let parent = Context::read(publish.context().to_string().as_bytes()).unwrap();
    let mut relay = relay.under(Some(&parent));
    relay.say("stream", &"ä".repeat(400));
    relay.fail("not there");
    drop(relay);
    let span = one(&exporter);
    assert_eq!((&*span.name, span.span_kind), ("relay", SpanKind::Client));
    assert_eq!(span.span_context.trace_id(), publish.0.span_context().trace_id());
    assert_eq!(span.parent_span_id, publish.0.span_context().span_id());
    assert!(span.start_time >= before && span.start_time <= span.end_time);
    assert_eq!(span.attributes[0].value.as_str().len(), MAX_TEXT_BYTES);
    assert_eq!(span.status, Status::error("not there"));
}

#[test]
fn a_stranger_is_linked_and_decides_nothing() {
    let (tracer, exporter) = tracer(1.0);
    let said = Context::read(b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00").unwrap();
    drop(tracer.begin_some(What::Play).unwrap().linked(Some(said.clone())).under(None));
    let span = one(&exporter);
    assert_eq!(span.parent_span_id, SpanId::INVALID);
    assert_ne!(span.span_context.trace_id(), said.0.trace_id());
    assert_eq!(span.links[0].span_context, said.0);
}

#[test]
fn of_what_anybody_can_cause_there_is_a_share() {
    let count = |share| {
        let (tracer, _) = tracer(share);
        (0..10_000).filter(|_| tracer.begin_some(What::Play).is_some()).count()
    };
    assert_eq!((count(0.0), count(1.0)), (0, 10_000));
    assert!((300..=700).contains(&count(0.05)), "{}", count(0.05));
    assert!(Tracer::OFF.begin(What::Publish).is_none() && Tracer::default().begin_some(What::Play).is_none());
}
