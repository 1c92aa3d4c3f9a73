//! What the benches send: one second after the other of a stream like 720p30 in 1 Mbit/s, a keyframe every
//! two seconds, with AAC sound. Its pictures are noise in the right sizes, with real NAL unit headers.

use bytes::{BufMut, Bytes, BytesMut};
use media_core::codec;
use media_core::flv::{self, TagKind};
use media_core::frame::{Codec, Frame, Kind, Timescale, Timestamp, Track, TrackId};

/// What libx264 writes for 1280 × 720 at 30 frames a second.
const AVCC: &[u8] = &[
    0x01, 0x4d, 0x40, 0x1f, 0xff, 0xe1, 0x00, 0x19, 0x67, 0x4d, 0x40, 0x1f, 0xec, 0xa0, 0x28, 0x02, 0xdd,
    0x80, 0x88, 0x00, 0x00, 0x03, 0x00, 0x08, 0x00, 0x00, 0x03, 0x01, 0xe0, 0x78, 0xc1, 0x8c, 0xb0, 0x01,
    0x00, 0x04, 0x68, 0xef, 0x8f, 0xc8,
];
/// AAC-LC, 48 kHz, stereo.
const AUDIO_CONFIG: &[u8] = &[0x11, 0x90];

const PICTURES_A_SECOND: i64 = 30;
const SAMPLES_A_SOUND: i64 = 1_024;
/// 96 kbit/s.
const SOUND_BYTES: usize = 256;
/// What remains of 1 Mbit/s over two seconds: one intra picture of 20 KB, the rest in 59 others.
const KEY_BYTES: usize = 20_000;
const PICTURE_BYTES: usize = 3_491;

/// Two seconds of a stream, to be repeated.
pub(crate) struct Clip {
    /// Picture and sound.
    pub(crate) tracks: Vec<Track>,
    /// In decoding order.
    pub(crate) frames: Vec<Frame>,
}

impl Clip {
    /// How long it is.
    pub(crate) const SECONDS: i64 = 2;

    /// Makes it, each picture with that NAL unit before its slice, whose length stands before it.
    pub(crate) fn new(prefix: &[u8]) -> Self {
        let track = |id, codec, config| {
            codec::track(id, codec, Timescale::HZ_90K, Bytes::from_static(config))
                .expect("a valid configuration")
        };
        let tracks =
            vec![track(TrackId::VIDEO, Codec::H264, AVCC), track(TrackId::AUDIO, Codec::Aac, AUDIO_CONFIG)];
        let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
        let mut frames: Vec<Frame> = (0..Self::SECONDS * PICTURES_A_SECOND)
            .map(|index| {
                let key = index == 0;
                // Sizes vary by a third around the mean.
                let bytes = if key { KEY_BYTES } else { PICTURE_BYTES * (67 + noise.below(67)) / 100 };
                frame(
                    TrackId::VIDEO,
                    index * 90_000 / PICTURES_A_SECOND,
                    key,
                    picture(key, bytes, prefix, &mut noise),
                )
            })
            .collect();
        let sounds = Self::SECONDS * 48_000 / SAMPLES_A_SOUND;
        frames.extend((0..sounds).map(|index| {
            let data = noise.bytes(SOUND_BYTES);
            frame(TrackId::AUDIO, index * SAMPLES_A_SOUND * 90_000 / 48_000, true, data)
        }));
        frames.sort_by_key(|frame| frame.dts);
        Self { tracks, frames }
    }

    /// The track of a frame.
    pub(crate) fn track(&self, frame: &Frame) -> &Track {
        &self.tracks[usize::from(frame.track.kind == Kind::Audio)]
    }

    /// What a publisher sends: kind, milliseconds and body of each FLV tag, the sequence headers apart.
    pub(crate) fn bodies(&self) -> Vec<(TagKind, u32, Bytes)> {
        let body = |frame: &Frame| {
            let track = self.track(frame);
            (kind(track), flv::timestamp_ms(track, frame), flv::frame_body(track, frame).to_bytes())
        };
        self.frames.iter().map(body).collect()
    }
}

/// Of its tags.
pub(crate) fn kind(track: &Track) -> TagKind {
    match track.id.kind {
        Kind::Video => TagKind::Video,
        Kind::Audio => TagKind::Audio,
    }
}

fn frame(track: TrackId, dts: i64, keyframe: bool, data: Bytes) -> Frame {
    Frame { track, dts: Timestamp(dts), cts: 0, keyframe, data }
}

/// One slice with its length before it, behind the prefix.
fn picture(key: bool, bytes: usize, prefix: &[u8], noise: &mut Noise) -> Bytes {
    let mut out = BytesMut::with_capacity(bytes);
    out.put_slice(prefix);
    let bytes = bytes - prefix.len();
    out.put_u32(u32::try_from(bytes - 4).expect("small"));
    out.put_slice(if key { &[0x65, 0x88] } else { &[0x41, 0x9a] });
    out.put_slice(&noise.bytes(bytes - 6));
    out.freeze()
}

/// xorshift64.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() >> 33).expect("31 bits") % limit
    }

    /// Never zero, so that no start code lies in it.
    fn bytes(&mut self, count: usize) -> Bytes {
        (0..count).map(|_| self.next().to_le_bytes()[3].max(1)).collect()
    }
}
