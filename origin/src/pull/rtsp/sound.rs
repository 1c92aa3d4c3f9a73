//! A camera's sound. AAC passes as it is; G.711, which most cameras have and no output carries, becomes AAC.

use bytes::Bytes;
use media_core::codec;
use media_core::frame::{Codec, Frame, Timescale, Timestamp, Track, TrackId};
use parking_lot::Mutex;
use retina::client::Stream;
use retina::codec::{AudioFrame, ParametersRef};
use transcode::{G711, Law, Options, Transcoder};

use super::tracks::{MAX_FRAME_BYTES, ticks};

/// Bits a second of the AAC that is made of G.711, whose sound ends at 4 kHz.
const BIT_RATE: u32 = 48_000;

/// Whether sound of that RTP encoding can be used.
pub(super) fn is_known(encoding: &str) -> bool {
    encoding == "mpeg4-generic" || law(encoding).is_some()
}

/// Why a camera's sound is left out, for people.
pub(super) fn unsupported(encoding: &str) -> String {
    format!("the sound is left out: {encoding} cannot be carried; set the camera to AAC or G.711")
}

fn law(encoding: &str) -> Option<Law> {
    match encoding {
        "pcma" => Some(Law::A),
        "pcmu" => Some(Law::Mu),
        _ => None,
    }
}

/// A camera's sound.
pub(super) struct Sound {
    pub(super) at: usize,
    pub(super) track: Option<Track>,
    /// Of G.711. Nobody ever waits for the lock: it is for a library's handle, which may move between threads and not be
    /// shared.
    transcoder: Option<Mutex<Transcoder>>,
    /// It cannot be used.
    useless: bool,
}

impl Sound {
    pub(super) fn new(at: usize) -> Self {
        Self { at, track: None, transcoder: None, useless: false }
    }

    /// Whether its configuration is known now, and was not before.
    pub(super) fn learn(&mut self, streams: &[Stream]) -> bool {
        if self.track.is_some() || self.useless {
            return false;
        }
        let Some(stream) = streams.get(self.at) else { return false };
        let Some(ParametersRef::Audio(parameters)) = stream.parameters() else { return false };
        if let Some(law) = law(stream.encoding_name()) {
            let channels = u8::try_from(parameters.channels().get()).unwrap_or(u8::MAX);
            return self.learn_g711(G711 { law, sample_rate: parameters.clock_rate(), channels });
        }
        let config = Bytes::copy_from_slice(parameters.extra_data());
        match codec::track(TrackId::AUDIO, Codec::Aac, Timescale::HZ_90K, config) {
            Ok(track) => {
                self.track = Some(track);
                true
            }
            Err(error) => {
                tracing::debug!(%error, "a configuration that a camera sends cannot be used");
                false
            }
        }
    }

    fn learn_g711(&mut self, sound: G711) -> bool {
        let options =
            Options { mono_bit_rate: BIT_RATE, stereo_bit_rate: 2 * BIT_RATE, ..Options::default() };
        match Transcoder::of_g711(sound, TrackId::AUDIO, Timescale::HZ_90K, Codec::Aac, &options) {
            Ok((transcoder, track)) => {
                (self.transcoder, self.track) = (Some(Mutex::new(transcoder)), Some(track));
                true
            }
            Err(error) => {
                tracing::warn!(%error, "a camera's G.711 is left out");
                self.useless = true;
                false
            }
        }
    }

    /// Whether nothing can become of it.
    pub(super) fn is_useless(&self) -> bool {
        self.useless
    }

    /// Appends what comes of a frame: nothing, while nothing is known of it. It is `shift` ticks later than its own clock
    /// says.
    pub(super) fn frames(&mut self, frame: &AudioFrame, shift: i64, out: &mut Vec<Frame>) {
        let data = frame.data();
        if self.track.is_none() || data.is_empty() || data.len() > MAX_FRAME_BYTES {
            return;
        }
        let dts = Timestamp(ticks(frame.timestamp()).saturating_add(shift));
        // retina's may be a piece of a larger packet, which would be kept as long as this.
        let data = Bytes::copy_from_slice(data);
        let frame = Frame { track: TrackId::AUDIO, dts, cts: 0, keyframe: true, data };
        match &mut self.transcoder {
            Some(transcoder) => transcoder.get_mut().push(&frame, out),
            None => out.push(frame),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g711_becomes_aac() {
        let mut sound = Sound::new(0);
        assert!(sound.learn_g711(G711 { law: Law::Mu, sample_rate: 8_000, channels: 1 }));
        let audio = sound.track.as_ref().map(|track| (track.codec, track.timescale.get()));
        assert_eq!(audio, Some((Codec::Aac, 48_000)));
        let mut odd = Sound::new(0);
        assert!(!odd.learn_g711(G711 { law: Law::A, sample_rate: 12_345, channels: 1 }));
        assert!(odd.is_useless() && odd.track.is_none());
    }
}
