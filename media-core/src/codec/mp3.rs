//! MP3: the frame header (ISO/IEC 11172-3 §2.4.1.3, ISO/IEC 13818-3 and the 2.5 extension).

use bytes::Bytes;

use super::Error;
use crate::frame::{AudioParams, Codec, Params, Timescale, Track, TrackId};

const HEADER: &str = "MP3 frame header";

/// The track that an MP3 frame's header describes. It has no decoder configuration.
pub fn track(id: TrackId, timescale: Timescale, frame: &[u8]) -> Result<Track, Error> {
    const LAYER_III: u8 = 1;
    const BAD_BITRATE: u8 = 15;
    const MONO: u8 = 3;
    let &[s0, s1, b2, b3] = frame.first_chunk::<4>().ok_or(Error::Truncated(HEADER))?;
    if s0 != 0xff || s1 & 0xe0 != 0xe0 {
        return Err(Error::Invalid { field: "MP3 sync word", value: u16::from_be_bytes([s0, s1]).into() });
    }
    // Each generation halves the rates; those after MPEG-1 halve the frames too.
    let (rate_shift, frame_samples, rfc6381) = match s1 >> 3 & 3 {
        3 => (0, 1152, "mp4a.6B"),
        2 => (1, 576, "mp4a.69"),
        0 => (2, 576, "mp4a.69"),
        other => return Err(Error::Invalid { field: "MPEG audio version", value: other.into() }),
    };
    if s1 >> 1 & 3 != LAYER_III {
        return Err(Error::Unsupported("MPEG audio of a layer other than III"));
    }
    if b2 >> 4 == BAD_BITRATE {
        return Err(Error::Invalid { field: "MP3 bitrate_index", value: BAD_BITRATE.into() });
    }
    let index = b2 >> 2 & 3;
    let rate = [44_100u32, 48_000, 32_000].get(usize::from(index)).copied();
    let rate = rate.ok_or(Error::Invalid { field: "MP3 sampling_frequency", value: index.into() })?;
    let params = AudioParams {
        sample_rate: rate >> rate_shift,
        channels: if b3 >> 6 == MONO { 1 } else { 2 },
        frame_samples: Some(frame_samples),
    };
    Ok(Track {
        id,
        codec: Codec::Mp3,
        timescale,
        config: Bytes::new(),
        params: Params::Audio(params),
        rfc6381: rfc6381.to_owned(),
    })
}

/// Bytes of the frame that begins with this header, header and all; `None` for what is no layer III header and for
/// the free format, whose frames do not tell.
pub fn frame_bytes(header: [u8; 4]) -> Option<usize> {
    /// Bits per second in thousands, of MPEG-1 and of its half-rate successors.
    const KBITS: [[usize; 15]; 2] = [
        [0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320],
        [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160],
    ];
    let track = track(TrackId::AUDIO, Timescale::HZ_90K, &header).ok()?;
    let (rate, samples) = track.audio().and_then(|audio| Some((audio.sample_rate, audio.frame_samples?)))?;
    let [_, _, b2, _] = header;
    let table = KBITS.get(usize::from(samples < 1152))?;
    let kbits = table.get(usize::from(b2 >> 4)).copied().filter(|&kbits| kbits > 0)?;
    let padding = usize::from(b2 >> 1 & 1);
    Some(kbits * 1_000 / 8 * samples as usize / rate as usize + padding)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(header: &[u8]) -> Result<(u32, u8, Option<u32>, String), Error> {
        let track = track(TrackId::AUDIO, Timescale::HZ_90K, header)?;
        assert!(track.config.is_empty());
        let audio = track.audio().unwrap();
        Ok((audio.sample_rate, audio.channels, audio.frame_samples, track.rfc6381.clone()))
    }

    #[test]
    fn reads_what_lame_writes() {
        assert_eq!(read(&[0xff, 0xfb, 0x90, 0xc4]), Ok((44_100, 1, Some(1152), "mp4a.6B".into())));
        assert_eq!(read(&[0xff, 0xfb, 0x94, 0x44]), Ok((48_000, 2, Some(1152), "mp4a.6B".into())));
        assert_eq!(read(&[0xff, 0xf3, 0x40, 0xc4]), Ok((22_050, 1, Some(576), "mp4a.69".into())));
        assert_eq!(read(&[0xff, 0xe3, 0x48, 0x00]), Ok((8_000, 2, Some(576), "mp4a.69".into())));
    }

    #[test]
    fn frames_tell_their_length() {
        assert_eq!(frame_bytes([0xff, 0xfb, 0x90, 0xc4]), Some(417)); // 128 kbit/s at 44.1 kHz
        assert_eq!(frame_bytes([0xff, 0xfb, 0x92, 0xc4]), Some(418));
        assert_eq!(frame_bytes([0xff, 0xfb, 0x94, 0x44]), Some(384));
        assert_eq!(frame_bytes([0xff, 0xf3, 0x40, 0xc4]), Some(104)); // 32 kbit/s at 22.05 kHz
        assert_eq!(frame_bytes([0xff, 0xfb, 0x00, 0xc4]), None);
        assert_eq!(frame_bytes([0xff, 0xfd, 0x90, 0xc4]), None);
    }

    #[test]
    fn refuses_what_is_no_header() {
        for header in [
            &[][..],
            &[0xff, 0xfb, 0x90],
            &[0xff, 0x1b, 0x90, 0xc4],
            &[0xff, 0xeb, 0x90, 0xc4], // reserved version
            &[0xff, 0xfd, 0x90, 0xc4], // layer II
            &[0xff, 0xfb, 0xf0, 0xc4],
            &[0xff, 0xfb, 0x9c, 0xc4],
            b"ID3\x04",
        ] {
            assert!(read(header).is_err(), "{header:?}");
        }
    }
}
