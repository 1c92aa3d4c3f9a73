//! An origin for tests, and a short clip to publish: 64×64 pixels at 10 frames a second and a tone, 0.8 seconds long,
//! a keyframe every fourth frame.

use bytes::Bytes;
use http::{Method, Request, Response};
use media_core::flv::{Demuxed, Demuxer, Reader};
use media_core::frame::{Frame, Timestamp, Track};
use media_core::hub::StreamKey;
use prometheus::Registry;
use tower::ServiceExt;

use crate::{Body, Config, Origin, Publication, Publisher};

const CLIP: &[u8] = include_bytes!("../../media-core/src/flv/testdata/ffmpeg5-h264-aac.flv");

/// The clip's tracks and frames.
pub(crate) fn clip() -> (Vec<Track>, Vec<Frame>) {
    let (mut reader, mut demuxer) = (Reader::new(), Demuxer::new());
    let (mut tracks, mut frames) = (Vec::new(), Vec::new());
    reader.push(Bytes::from_static(CLIP));
    while let Some(tag) = reader.next_tag().unwrap() {
        for item in demuxer.push(tag).unwrap() {
            match item {
                Demuxed::Tracks(t) => tracks = t,
                Demuxed::Frame(f) => frames.push(f),
                _ => {}
            }
        }
    }
    (tracks, frames)
}

pub(crate) fn origin(config: Config) -> Origin {
    Origin::new(config, &Registry::new()).unwrap()
}

pub(crate) fn key() -> StreamKey {
    StreamKey::parse("live", "a", &[]).unwrap()
}

pub(crate) fn publisher() -> Publisher {
    Publisher {
        protocol: "rtmp",
        remote_addr: "192.0.2.1:5000".to_owned(),
        backup: false,
        query: String::new(),
        trace: None,
        line: None,
    }
}

/// Publishes the stream and sends the clip, `after_ms` later than it begins.
pub(crate) fn publish(origin: &Origin, after_ms: i64) -> Publication {
    let mut publication = origin.publish(&key(), publisher()).unwrap();
    publication.set_tracks(clip().0).unwrap();
    send(&mut publication, after_ms);
    publication
}

/// Sends the clip's frames.
pub(crate) fn send(publication: &mut Publication, after_ms: i64) {
    for mut frame in clip().1 {
        frame.dts = Timestamp(frame.dts.0 + after_ms * 90);
        assert!(publication.push(frame).unwrap());
    }
}

/// Asks the origin's service.
pub(crate) async fn ask(origin: &Origin, method: Method, path: &str) -> Response<Body> {
    let request = Request::builder().method(method).uri(path).body(()).unwrap();
    origin.service().oneshot(request).await.unwrap()
}
