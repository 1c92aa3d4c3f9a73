//! `onMetaData`: the script tag that describes a stream (§E.5).

use bytes::{Bytes, BytesMut};

use super::Error;
use super::mux::codec_id;
use crate::amf0::{self, Value};
use crate::frame::{Params, Track};

/// Who wrote the stream, in our own metadata.
const ENCODER: &str = "weir";

/// The timestamp of an `onMetaData` tag, wherever in a stream it stands: ffmpeg takes one with any other for a
/// track of subtitles.
pub const METADATA_TIMESTAMP_MS: u32 = 0;

/// How much of an encoder's name is kept: it is shown to people.
const MAX_ENCODER_CHARS: usize = 120;

/// The body of an `onMetaData` tag for these tracks, with `extra` numbers behind what follows from
/// them. Of several tracks of a kind it tells about the first.
pub fn metadata(tracks: &[Track], extra: &[(&str, f64)]) -> Bytes {
    let mut properties = Vec::new();
    let mut put = |key: &str, value: Value| properties.push((key.to_owned(), value));
    if let Some(track) = tracks.iter().find(|t| t.video().is_some()) {
        if let Params::Video(video) = &track.params {
            put("width", Value::Number(video.width.into()));
            put("height", Value::Number(video.height.into()));
            if let Some((numerator, denominator)) = video.frame_rate.filter(|&(_, d)| d != 0) {
                put("framerate", Value::Number(f64::from(numerator) / f64::from(denominator)));
            }
        }
        put("videocodecid", Value::Number(codec_id(track).into()));
    }
    if let Some(track) = tracks.iter().find(|t| t.audio().is_some()) {
        if let Params::Audio(audio) = &track.params {
            put("audiosamplerate", Value::Number(audio.sample_rate.into()));
            put("audiosamplesize", Value::Number(16.0));
            put("stereo", Value::Boolean(audio.channels > 1));
        }
        put("audiocodecid", Value::Number(codec_id(track).into()));
    }
    put("encoder", Value::String(ENCODER.to_owned()));
    for (key, value) in extra {
        put(key, Value::Number(*value));
    }
    script(ON_METADATA, properties)
}

const ON_METADATA: &str = "onMetaData";

/// The body of a script tag: a name and an array of properties.
pub(crate) fn script(name: &str, properties: Vec<(String, Value)>) -> Bytes {
    let mut out = BytesMut::new();
    amf0::encode_all(&mut out, &[Value::String(name.to_owned()), Value::EcmaArray(properties)]);
    out.freeze()
}

/// Whether a script tag's body has that name, seen without decoding it.
pub(crate) fn is_script(body: &[u8], name: &str) -> bool {
    /// Marker and 16-bit length of an AMF0 string.
    const STRING_HEADER_BYTES: usize = 3;
    matches!(body, [2, high, low, ..]
        if usize::from(u16::from_be_bytes([*high, *low])) == name.len()
            && body.get(STRING_HEADER_BYTES..).is_some_and(|text| text.starts_with(name.as_bytes())))
}

/// Whether it is an `onMetaData`.
pub(crate) fn is_metadata(body: &[u8]) -> bool {
    is_script(body, ON_METADATA)
}

/// The encoder that an `onMetaData` body names, fit to be shown: no control characters, not long.
pub(super) fn encoder(body: &[u8]) -> Result<Option<String>, Error> {
    let values = amf0::decode(body)?;
    let name = values.get(1).and_then(|object| object.get("encoder")).and_then(Value::as_str);
    let shown =
        |name: &str| -> String { name.chars().filter(|c| !c.is_control()).take(MAX_ENCODER_CHARS).collect() };
    Ok(name.map(shown).map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()))
}
