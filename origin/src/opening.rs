//! The span of a publisher: from its request to the first keyframe in the hub, or to why there is none.

use control_api::trace::{Context, Span, Tracer, What};
use media_core::frame::{Frame, TrackId};
use media_core::hub::{Epoch, Stream};

/// A publish that has begun; nothing, where nobody traces or once it is over.
#[derive(Debug)]
pub(crate) struct Opening(Option<Span>);

impl Opening {
    /// Somebody asks to publish by that protocol, under a name that may be anything.
    pub(crate) fn new(tracer: &Tracer, protocol: &'static str, app: &str, name: &str) -> Self {
        Self(tracer.begin(What::Publish).map(|beginning| {
            let mut span = beginning.under(None);
            span.set("protocol", protocol);
            span.say("app", app);
            span.say("name", name);
            span
        }))
    }

    /// What follows from it refers to it so.
    pub(crate) fn context(&self) -> Option<Context> {
        self.0.as_ref().map(Span::context)
    }

    /// It may not.
    pub(crate) fn refused(mut self, why: &str) {
        self.fail(why);
    }

    /// It may, under that epoch.
    pub(crate) fn admitted(&mut self, Epoch(epoch): Epoch) {
        if let Some(span) = &mut self.0 {
            span.set("epoch", i64::try_from(epoch).unwrap_or(i64::MAX));
        }
    }

    /// Whether a frame may be what is waited for, and of which track.
    pub(crate) fn waits_for(&self, frame: &Frame) -> Option<TrackId> {
        (self.0.is_some() && frame.keyframe).then_some(frame.track)
    }

    /// A keyframe of that track is in the hub. Without pictures any frame is one to begin with.
    pub(crate) fn keyframe(&mut self, track: TrackId, stream: &Stream) {
        let tracks = stream.snapshot().tracks;
        if tracks.main_picture().is_some_and(|main| main != track) {
            return;
        }
        if let Some(mut span) = self.0.take() {
            let codecs: Vec<&str> = tracks.tracks.iter().map(|track| track.codec.name()).collect();
            span.set("codecs", codecs.join(","));
        }
    }

    fn fail(&mut self, why: &str) {
        if let Some(mut span) = self.0.take() {
            span.fail(why);
        }
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        self.fail("it ended before its first keyframe");
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::global::BoxedTracer;
    use opentelemetry::trace::{Status, TracerProvider as _};
    use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider};

    use super::*;
    use crate::testing::{clip, key, origin, publisher};
    use crate::{Config, Publisher};

    fn tracer() -> (Tracer, InMemorySpanExporter) {
        let exporter = InMemorySpanExporter::default();
        let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
        // Of what is published there is no share.
        (Tracer::new(BoxedTracer::new(Box::new(provider.tracer("test"))), 0.0), exporter)
    }

    #[tokio::test]
    async fn it_ends_with_the_first_keyframe_of_the_picture() {
        let (tracer, exporter) = tracer();
        let origin = origin(Config::default());
        let mut opening = Opening::new(&tracer, "rtmp", "live", "a");
        let trace = opening.context();
        let publisher = Publisher { trace: trace.clone(), ..publisher() };
        let mut publication = origin.publish(&key(), publisher).unwrap();
        opening.admitted(publication.epoch());
        assert_eq!(origin.trace(&key()), trace);
        let (tracks, frames) = clip();
        publication.set_tracks(tracks).unwrap();
        // Each frame of sound is a keyframe, and pictures between keyframes are none.
        let begins = |frame: &&Frame| frame.keyframe && frame.track == TrackId::VIDEO;
        let others = frames.iter().filter(|frame| !begins(frame));
        for frame in others.chain(frames.iter().find(begins)).cloned() {
            assert!(exporter.get_finished_spans().unwrap().is_empty());
            let key = opening.waits_for(&frame);
            publication.push(frame).unwrap();
            if let Some(track) = key {
                opening.keyframe(track, publication.stream());
            }
        }
        let spans = exporter.get_finished_spans().unwrap();
        assert_eq!((spans.len(), &spans[0].status), (1, &Status::Unset));
        let said: Vec<_> = spans[0].attributes.iter().map(|said| said.key.as_str()).collect();
        assert_eq!(said, ["protocol", "app", "name", "epoch", "codecs"]);
        assert!(opening.waits_for(&frames[0]).is_none() && opening.context().is_none());
    }

    #[test]
    fn it_says_why_there_is_none() {
        let (tracer, exporter) = tracer();
        Opening::new(&tracer, "rtmp", "live", "a").refused("no such key");
        drop(Opening::new(&tracer, "rtmp", "live", "a"));
        let spans = exporter.get_finished_spans().unwrap();
        let why = spans.into_iter().map(|span| span.status).collect::<Vec<_>>();
        assert_eq!(why, [Status::error("no such key"), Status::error("it ended before its first keyframe")]);
        assert!(Opening::new(&Tracer::OFF, "rtmp", "live", "a").context().is_none());
    }
}
