//! Frames in the form in which PES packets carry them.

use bytes::{BufMut, Bytes, BytesMut};

use crate::codec::aac::adts;
use crate::codec::annex_b::START_CODE;
use crate::codec::parameter_sets::{Role, role};
use crate::codec::{self, nal, opus};
use crate::frame::{Codec, Frame, Track};

/// How frames of a track are written.
#[derive(Debug)]
pub(super) enum Form {
    /// NAL units behind start codes, a delimiter first.
    ByteStream {
        codec: Codec,
        /// The parameter sets, behind start codes, for before keyframes.
        sets: Bytes,
    },
    /// AAC behind ADTS headers.
    Adts(adts::HeaderWriter),
    /// As it is.
    Plain,
    /// Opus behind a control header.
    Opus,
}

impl Form {
    /// `None` if there is none for this track.
    pub(super) fn of(track: &Track) -> Option<Self> {
        Some(match track.codec {
            Codec::H264 | Codec::H265 => {
                let mut sets = BytesMut::new();
                for set in codec::parameter_sets_of(track).ok()? {
                    sets.put_slice(&START_CODE);
                    sets.put_slice(set);
                }
                Self::ByteStream { codec: track.codec, sets: sets.freeze() }
            }
            Codec::Aac => Self::Adts(adts::HeaderWriter::new(&track.config).ok()?),
            Codec::Mp3 => Self::Plain,
            Codec::Opus => {
                opus::usual_channels(&track.config)?;
                Self::Opus
            }
            Codec::Av1 | Codec::Vp8 | Codec::Vp9 => return None,
        })
    }

    /// Writes the frame; `false` if it can't be.
    pub(super) fn put(&self, frame: &Frame, out: &mut BytesMut) -> bool {
        match self {
            Self::ByteStream { codec, sets } => put_byte_stream(*codec, sets, frame, out),
            Self::Adts(writer) => {
                let Some(header) = writer.header(frame.data.len()) else { return false };
                out.put_slice(&header);
                out.put_slice(&frame.data);
            }
            Self::Plain => out.put_slice(&frame.data),
            Self::Opus => put_opus(&frame.data, out),
        }
        !out.is_empty()
    }
}

fn put_byte_stream(codec: Codec, sets: &[u8], frame: &Frame, out: &mut BytesMut) {
    /// Access unit delimiters of H.264 and HEVC that allow all kinds of slices.
    const DELIMITERS: [&[u8]; 2] = [&[0x09, 0xf0], &[0x46, 0x01, 0x50]];
    let [h264, h265] = DELIMITERS;
    out.reserve(frame.data.len() + sets.len() + 16);
    out.put_slice(&START_CODE);
    out.put_slice(if codec == Codec::H265 { h265 } else { h264 });
    let brings_own = || nal::units(&frame.data).any(|unit| role(codec, unit) == Role::Sps);
    if frame.keyframe && !brings_own() {
        out.put_slice(sets);
    }
    for unit in nal::units(&frame.data) {
        if role(codec, unit) != Role::Framing {
            out.put_slice(&START_CODE);
            out.put_slice(unit);
        }
    }
}

/// `opus_access_unit` without trimming.
fn put_opus(packet: &[u8], out: &mut BytesMut) {
    out.put_slice(&[0x7f, 0xe0]);
    let mut length = packet.len();
    while length >= 255 {
        out.put_u8(255);
        length -= 255;
    }
    out.put_u8(u8::try_from(length).unwrap_or_default());
    out.put_slice(packet);
}
