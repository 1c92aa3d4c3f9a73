//! What a camera has, as tracks and frames.

use media_core::codec::decoding_times::DecodingTimes;
use media_core::codec::{self, h264, h265};
use media_core::frame::{Codec, Frame, Timescale, Timestamp, Track, TrackId};
use retina::client::Stream;
use retina::codec::{ParametersRef, VideoFrame, VideoParametersCodec};

use super::sound;

/// The longest frame that is taken: what would not fit an FLV tag is refused by all that follows.
pub(super) const MAX_FRAME_BYTES: usize = 15 << 20;

/// Which of a camera's streams are set up, by their places.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Chosen {
    pub(super) picture: Option<(usize, Codec)>,
    pub(super) sound: Option<usize>,
    /// What is left out, and why.
    pub(super) note: Option<String>,
}

/// The first picture and the first sound that can be used.
pub(super) fn choose(streams: &[Stream]) -> Chosen {
    let described = streams.iter().map(|stream| (stream.media(), stream.encoding_name()));
    choose_of(described)
}

fn choose_of<'a>(streams: impl Iterator<Item = (&'a str, &'a str)>) -> Chosen {
    let mut chosen = Chosen::default();
    let mut left_out = Vec::new();
    for (at, (media, encoding)) in streams.enumerate() {
        match (media, encoding) {
            ("video", "h264") if chosen.picture.is_none() => chosen.picture = Some((at, Codec::H264)),
            ("video", "h265") if chosen.picture.is_none() => chosen.picture = Some((at, Codec::H265)),
            ("audio", other) if sound::is_known(other) && chosen.sound.is_none() => chosen.sound = Some(at),
            ("video", "h264" | "h265") => left_out.push("a further video stream is left out".to_owned()),
            ("audio", other) if sound::is_known(other) => {
                left_out.push("a further audio stream is left out".to_owned());
            }
            ("video", other) => {
                left_out.push(format!("video {} is left out: H.264 or H.265 is wanted", name(other)));
            }
            ("audio", other) => left_out.push(sound::unsupported(&name(other))),
            // Events and metadata, which nobody is surprised to miss.
            _ => {}
        }
    }
    // A server may describe as many as it likes.
    left_out.truncate(4);
    chosen.note = (!left_out.is_empty()).then(|| left_out.join("; "));
    chosen
}

/// An encoding's name as people write it; it is the server's.
fn name(encoding: &str) -> String {
    encoding.chars().filter(char::is_ascii_graphic).take(32).collect::<String>().to_ascii_uppercase()
}

/// Ticks of 90 kHz since the beginning of the session.
pub(super) fn ticks(timestamp: retina::Timestamp) -> i64 {
    match Timescale::new(timestamp.clock_rate().get()) {
        Some(scale) => Timestamp(timestamp.elapsed()).rescale(scale, Timescale::HZ_90K).0,
        None => 0,
    }
}

/// A camera's picture.
pub(super) struct Picture {
    pub(super) at: usize,
    pub(super) track: Option<Track>,
    codec: Codec,
    times: DecodingTimes,
}

impl Picture {
    pub(super) fn new(at: usize, codec: Codec) -> Self {
        Self { at, track: None, codec, times: DecodingTimes::new(Some(0)) }
    }

    /// Whether its configuration is another one from now on.
    pub(super) fn learn(&mut self, streams: &[Stream], changed: bool) -> bool {
        if self.track.is_some() && !changed {
            return false;
        }
        let Some(ParametersRef::Video(parameters)) = streams.get(self.at).and_then(Stream::parameters) else {
            return false;
        };
        let config = match parameters.codec_params() {
            VideoParametersCodec::H264 { sps, pps } => h264::config_from_parameter_sets(&[sps], &[pps]),
            VideoParametersCodec::H265 { vps, sps, pps } => {
                h265::config_from_parameter_sets(&[vps], &[sps], &[pps])
            }
            _ => return false,
        };
        let track =
            config.and_then(|config| codec::track(TrackId::VIDEO, self.codec, Timescale::HZ_90K, config));
        match track {
            Ok(track) if self.track.as_ref() != Some(&track) => {
                self.times = DecodingTimes::new(codec::reordering(&track));
                self.track = Some(track);
                true
            }
            Ok(_) => false,
            Err(error) => {
                tracing::debug!(%error, "a configuration that a camera sends cannot be used");
                false
            }
        }
    }

    /// Nothing, while nothing is known of it.
    pub(super) fn frame(&mut self, frame: VideoFrame) -> Option<Frame> {
        let pts = ticks(frame.timestamp());
        let data = frame.into_data();
        if self.track.is_none() || data.is_empty() || data.len() > MAX_FRAME_BYTES {
            return None;
        }
        let dts = self.times.of(pts);
        let cts = i32::try_from(pts.saturating_sub(dts)).unwrap_or_default();
        let keyframe = codec::keyframe(self.codec, &data);
        Some(Frame { track: TrackId::VIDEO, dts: Timestamp(dts), cts, keyframe, data: data.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_each_kind_is_taken_and_the_rest_is_named() {
        let chosen = choose_of(
            [
                ("audio", "g726-32"),
                ("video", "jpeg"),
                ("video", "h265"),
                ("video", "h264"),
                ("application", "x"),
            ]
            .into_iter(),
        );
        assert_eq!(chosen.picture, Some((2, Codec::H265)));
        assert_eq!(chosen.sound, None);
        let note = chosen.note.unwrap();
        for word in ["G726-32", "JPEG", "further video"] {
            assert!(note.contains(word), "{note}");
        }
        for sound in ["mpeg4-generic", "pcma", "pcmu"] {
            let both = choose_of([("video", "h264"), ("audio", sound)].into_iter());
            assert_eq!((both.picture, both.sound, both.note), (Some((0, Codec::H264)), Some(1), None));
        }
    }

    #[test]
    fn a_server_that_describes_a_thousand_is_noted_in_short() {
        let odd = "x\n".repeat(100);
        let note = choose_of((0..1_000).map(|_| ("audio", odd.as_str()))).note.unwrap();
        assert!(note.len() < 600 && !note.contains('\n'), "{note}");
    }
}
