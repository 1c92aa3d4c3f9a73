//! A stream that is made up, as a relay carries it.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use media_core::codec;
use media_core::flv::{Demuxed, Demuxer, Reader};
use media_core::frame::{Codec, Frame, Timestamp, Track, TrackId};
use media_core::hub::{Epoch, TrackSet, Unit};
use media_core::relay::{Decoder, Encoded, Encoder, Event, Mark, Tag};

/// Where the tracks' descriptions come from.
const SAMPLE: &[u8] = include_bytes!("../../../media-core/src/flv/testdata/ffmpeg5-h264-aac.flv");

/// The wall clock at which everything happens.
pub(crate) const WALL_MS: u64 = 1_800_000_000_000;

/// Time between video frames.
pub(crate) const FRAME_MS: i64 = 40;

/// Makes frames.
pub(crate) struct Studio {
    encoder: Encoder,
    tracks: Arc<TrackSet>,
    sequence: u64,
    pub(crate) now_ms: i64,
}

/// The tracks of the sample.
pub(crate) fn tracks() -> Vec<Track> {
    let mut reader = Reader::new();
    reader.push(Bytes::from_static(SAMPLE));
    let mut demuxer = Demuxer::new();
    let mut tracks = Vec::new();
    while let Some(tag) = reader.next_tag().unwrap() {
        for item in demuxer.push(tag).unwrap() {
            if let Demuxed::Tracks(now) = item {
                tracks = now;
            }
        }
    }
    assert_eq!(tracks.len(), 2);
    tracks
}

impl Studio {
    /// Picture and sound.
    pub(crate) fn new() -> Self {
        Self::with(tracks())
    }

    /// Sound alone.
    pub(crate) fn audio_only() -> Self {
        Self::with(tracks().into_iter().filter(|track| track.audio().is_some()).collect())
    }

    /// The same picture, and Opus.
    pub(crate) fn with_opus() -> Self {
        let mut tracks = tracks();
        for track in tracks.iter_mut().filter(|track| track.audio().is_some()) {
            let header = codec::opus::identification_header(2, 48_000).unwrap();
            *track = codec::track(track.id, Codec::Opus, track.timescale, header).unwrap();
        }
        Self::with(tracks)
    }

    /// A packet of Opus at the current time: 20 ms of silence.
    pub(crate) fn opus(&mut self) -> Encoded {
        self.unit(TrackId::AUDIO, true, Bytes::from_static(&[0xfc, 0xff, 0xfe]))
    }

    pub(crate) fn with(tracks: Vec<Track>) -> Self {
        let tracks = Arc::new(TrackSet { epoch: Epoch(1), version: 1, tracks });
        Self { encoder: Encoder::new(), tracks, sequence: 0, now_ms: 0 }
    }

    /// The publisher is another from here on; what `change` does to the tracks is new.
    pub(crate) fn republish(&mut self, change: impl FnOnce(&mut Vec<Track>)) {
        let mut tracks = TrackSet::clone(&self.tracks);
        tracks.epoch.0 += 1;
        tracks.version += 1;
        change(&mut tracks.tracks);
        self.tracks = Arc::new(tracks);
    }

    /// The next picture, whose payload is that many bytes.
    pub(crate) fn picture(&mut self, keyframe: bool, len: usize) -> Encoded {
        let encoded = self.encode(TrackId::VIDEO, keyframe, len);
        self.now_ms += FRAME_MS;
        encoded
    }

    /// A frame of sound at the current time.
    pub(crate) fn sound(&mut self, len: usize) -> Encoded {
        self.encode(TrackId::AUDIO, true, len)
    }

    fn encode(&mut self, track: TrackId, keyframe: bool, len: usize) -> Encoded {
        // The number is in the frame, so that viewers can tell which they got.
        let mut data = BytesMut::zeroed(len.max(8));
        data[..8].copy_from_slice(&self.sequence.to_be_bytes());
        self.unit(track, keyframe, data.freeze())
    }

    fn unit(&mut self, track: TrackId, keyframe: bool, data: Bytes) -> Encoded {
        let scale = self.tracks.get(track).unwrap().timescale;
        let dts = Timestamp::from_millis(self.now_ms, scale);
        let frame = Frame { track, dts, cts: 0, keyframe, data };
        let tracks = Arc::clone(&self.tracks);
        let unit = Unit { sequence: self.sequence, tracks, frame, wall_clock_ms: WALL_MS };
        self.sequence += 1;
        self.encoder.unit(&unit).unwrap()
    }
}

/// The frames of the sample, which decode: eight pictures, two of them keyframes, and sound.
pub(crate) fn sample() -> Vec<Encoded> {
    let mut studio = Studio::new();
    let mut reader = Reader::new();
    reader.push(Bytes::from_static(SAMPLE));
    let mut demuxer = Demuxer::new();
    let mut encoded = Vec::new();
    while let Some(tag) = reader.next_tag().unwrap() {
        for item in demuxer.push(tag).unwrap() {
            let Demuxed::Frame(frame) = item else { continue };
            let (sequence, tracks) = (studio.sequence, Arc::clone(&studio.tracks));
            let unit = Unit { sequence, tracks, frame, wall_clock_ms: WALL_MS };
            studio.sequence += 1;
            encoded.push(studio.encoder.unit(&unit).unwrap());
        }
    }
    encoded
}

/// How a reader's relay begins with this frame.
pub(crate) fn opening(first: &Encoded) -> Bytes {
    let mut bytes = BytesMut::from(&first.start.as_ref().expect("a join point")[..]);
    bytes.extend_from_slice(&first.tag);
    bytes.freeze()
}

/// What a feed reads of a relay that begins with the first of these.
pub(crate) fn events(encoded: &[Encoded]) -> (Vec<Tag>, Vec<Mark>) {
    let (first, rest) = encoded.split_first().unwrap();
    let mut decoder = Decoder::new();
    decoder.push(opening(first));
    rest.iter().for_each(|encoded| decoder.push(encoded.bytes.clone()));
    let (mut tags, mut marks) = (Vec::new(), Vec::new());
    while let Some(event) = decoder.next_event().unwrap() {
        match event {
            Event::Tag(tag) => tags.push(tag),
            Event::Mark(mark) => marks.push(mark),
        }
    }
    (tags, marks)
}

/// The number that [`Studio`] put into a frame, by its tag's body.
pub(crate) fn number(body: &[u8]) -> u64 {
    // A legacy header of H.264 has 5 bytes, of AAC 2.
    let at = if body[0] >> 4 == 10 { 2 } else { 5 };
    u64::from_be_bytes(body[at..at + 8].try_into().unwrap())
}
