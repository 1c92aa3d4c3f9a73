//! Frames → payloads.

mod av1;
mod h264;
mod h265;
mod nal;
mod vpx;

use std::sync::Arc;

use bytes::Bytes;

use super::packet::Payload;
use crate::codec;
use crate::frame::{Codec, Frame, Timescale, Timestamp, Track};

/// The smallest payload limit that is taken: a fragment needs room beyond its own headers.
const MIN_PAYLOAD_BYTES: usize = 64;
/// Opus counts 48,000 ticks a second on the wire, whatever it plays at (RFC 7587 §4.1).
const HZ_48K: u32 = 48_000;
/// How far a sound's timestamp may be from where the one before ended and still follow it without a seam, in ticks of
/// 48 kHz: FLV rounds to milliseconds.
const MAX_ROUNDING: i64 = 72;

/// Why a track cannot be sent as RTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{} has no RTP payload format here", .0.name())]
pub struct NotCarried(pub Codec);

/// Makes the payloads of one track.
#[derive(Debug)]
pub struct Packetizer {
    codec: Codec,
    timescale: Timescale,
    clock: Timescale,
    max_bytes: usize,
    /// The parameter sets, or the sequence header, that a keyframe must come with.
    sets: Vec<Bytes>,
    /// Where the sound after the newest packet begins.
    expected: Option<i64>,
    /// The number of the next picture, of VP9.
    picture: u16,
}

impl Packetizer {
    /// For `track`, with payloads of `max_bytes` at most (Opus packets are never split).
    pub fn new(track: &Track, max_bytes: usize) -> Result<Self, NotCarried> {
        let sets = match track.codec {
            Codec::H264 | Codec::H265 => {
                let sets = codec::parameter_sets_of(track).unwrap_or_default();
                sets.into_iter().map(|set| track.config.slice_ref(set)).collect()
            }
            Codec::Av1 => av1::sequence_header(&track.config),
            Codec::Vp8 | Codec::Vp9 | Codec::Opus => Vec::new(),
            Codec::Aac | Codec::Mp3 => return Err(NotCarried(track.codec)),
        };
        let clock = match track.codec {
            Codec::Opus => Timescale::new(HZ_48K).unwrap_or(Timescale::HZ_90K),
            _ => Timescale::HZ_90K,
        };
        Ok(Self {
            codec: track.codec,
            timescale: track.timescale,
            clock,
            max_bytes: max_bytes.max(MIN_PAYLOAD_BYTES),
            sets,
            expected: None,
            picture: 0,
        })
    }

    /// Ticks per second of [`Packetizer::timestamp`]: 90,000 for pictures, 48,000 for Opus.
    pub fn clock(&self) -> Timescale {
        self.clock
    }

    /// Appends the frame's payloads; its timestamp, in ticks of [`Packetizer::clock`], not wrapped. A frame that is not
    /// what its codec says makes no payloads.
    pub fn packetize(&mut self, frame: &Frame, out: &mut Vec<Payload>) -> i64 {
        match self.codec {
            Codec::H264 => h264::packetize(frame, &self.sets, self.max_bytes, out),
            Codec::H265 => h265::packetize(frame, &self.sets, self.max_bytes, out),
            Codec::Av1 => av1::packetize(frame, &self.sets, self.max_bytes, out),
            Codec::Vp8 | Codec::Vp9 => {
                vpx::packetize(self.codec, self.picture, frame, self.max_bytes, out);
                self.picture = self.picture.wrapping_add(1);
            }
            _ => out.push(Payload { marker: false, data: Arc::from(frame.data.as_ref()) }),
        }
        let time = frame.pts().rescale(self.timescale, self.clock);
        match self.codec {
            Codec::Opus => self.without_seam(time, &frame.data),
            _ => time.0,
        }
    }

    /// The timestamp where the packet before ended, if that is what a rounded one means.
    fn without_seam(&mut self, time: Timestamp, packet: &[u8]) -> i64 {
        let time = match self.expected {
            Some(expected) if (time.0 - expected).abs() <= MAX_ROUNDING => expected,
            _ => time.0,
        };
        self.expected = codec::opus::packet_samples(packet).ok().map(|samples| time + i64::from(samples));
        time
    }
}

/// The last payload that was appended ends the access unit.
fn mark_last(out: &mut [Payload], from: usize) {
    if let Some(last) = out.get_mut(from..).and_then(<[_]>::last_mut) {
        last.marker = true;
    }
}
