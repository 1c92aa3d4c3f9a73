//! Reading an MP4 file: H.264 and AAC.

use std::io::{BufReader, Seek, SeekFrom};

use bytes::Bytes;
use media_core::codec;
use media_core::frame::{Codec, Frame, Timescale, Timestamp, Track, TrackId};
use mp4::{MediaType, Mp4Reader, Mp4Track};

use super::source::{Error, Input, Media};

/// The largest sample read: an intra frame of 8K video stays below.
const MAX_SAMPLE_BYTES: u32 = 8 * 1024 * 1024;

/// AAC-LC's audio object type (ISO/IEC 14496-3 table 1.17). HE-AAC is announced as this, its core: decoders
/// find the rest in the stream.
const AAC_LC: u8 = 2;

/// An MP4 file whose `moov` box was read.
pub(crate) struct Mp4File {
    reader: Mp4Reader<BufReader<Input>>,
    tracks: Vec<Track>,
    cursors: Vec<Cursor>,
    announced: bool,
}

/// Where reading stands in one track.
struct Cursor {
    number: u32,
    id: TrackId,
    codec: Codec,
    timescale: Timescale,
    /// Decoding time, in the track's own ticks, of its first sample on the file's timeline.
    shift: i64,
    samples: u32,
    /// From 1.
    next: u32,
    /// The next sample, read ahead to know its time.
    ahead: Option<mp4::Mp4Sample>,
}

impl Mp4File {
    pub(crate) fn new(mut input: Input) -> Result<Self, Error> {
        let size = input.seek(SeekFrom::End(0))?;
        input.seek(SeekFrom::Start(0))?;
        let reader = Mp4Reader::read_header(BufReader::new(input), size).map_err(broken)?;
        if reader.is_fragmented() {
            return Err(Error::Unsupported(
                "fragmented MP4 is not read; `ffmpeg -i FILE -c copy out.mp4` makes a plain one".into(),
            ));
        }
        let mut numbers: Vec<u32> = reader.tracks().keys().copied().collect();
        numbers.sort_unstable();
        let (mut tracks, mut cursors) = (Vec::new(), Vec::new());
        for number in numbers {
            let Some(found) = reader.tracks().get(&number) else { continue };
            let Some(track) = track(found)? else { continue };
            // The main picture and the main sound; a file's further tracks are other versions of them.
            if tracks.iter().any(|t: &Track| t.id == track.id) {
                continue;
            }
            cursors.push(cursor(found, &track, reader.moov.mvhd.timescale)?);
            tracks.push(track);
        }
        if tracks.is_empty() {
            return Err(Error::Unsupported("it has no H.264 and no AAC track".into()));
        }
        Ok(Self { reader, tracks, cursors, announced: false })
    }

    pub(crate) fn next(&mut self) -> Result<Option<Media>, Error> {
        if !self.announced {
            self.announced = true;
            return Ok(Some(Media::Tracks(self.tracks.clone())));
        }
        for cursor in &mut self.cursors {
            if cursor.ahead.is_none() && cursor.next <= cursor.samples {
                cursor.ahead = self.reader.read_sample(cursor.number, cursor.next).map_err(broken)?;
                cursor.next += 1;
            }
        }
        let first = self.cursors.iter_mut().filter(|c| c.ahead.is_some()).min_by_key(|c| c.dts());
        Ok(first.and_then(Cursor::take).map(Media::Frame))
    }

    pub(crate) fn rewind(&mut self) {
        for cursor in &mut self.cursors {
            cursor.next = 1;
            cursor.ahead = None;
        }
    }
}

impl Cursor {
    /// Of the sample that was read ahead.
    fn dts(&self) -> Timestamp {
        let start = self.ahead.as_ref().map_or(0, |s| i64::try_from(s.start_time).unwrap_or(i64::MAX));
        Timestamp(start.saturating_add(self.shift)).rescale(self.timescale, Timescale::HZ_90K)
    }

    fn take(&mut self) -> Option<Frame> {
        let dts = self.dts();
        let sample = self.ahead.take()?;
        let offset = Timestamp(sample.rendering_offset.into()).rescale(self.timescale, Timescale::HZ_90K);
        let keyframe = match self.codec.kind() {
            media_core::frame::Kind::Video => codec::keyframe(self.codec, &sample.bytes),
            media_core::frame::Kind::Audio => true,
        };
        Some(Frame {
            track: self.id,
            dts,
            cts: i32::try_from(offset.0).unwrap_or_default(),
            keyframe,
            data: sample.bytes,
        })
    }
}

fn broken(error: mp4::Error) -> Error {
    match error {
        mp4::Error::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            Error::Mp4("the file ends too early".into())
        }
        mp4::Error::IoError(error) => Error::Io(error),
        error => Error::Mp4(error.to_string()),
    }
}

/// What the track says of itself; `None` for what is neither picture nor sound.
fn track(found: &Mp4Track) -> Result<Option<Track>, Error> {
    let number = found.track_id();
    let Ok(kind @ (mp4::TrackType::Video | mp4::TrackType::Audio)) = found.track_type() else {
        return Ok(None);
    };
    let (id, codec, config) = match found.media_type() {
        Ok(MediaType::H264) => (TrackId::VIDEO, Codec::H264, avc_config(found)?),
        Ok(MediaType::AAC) => (TrackId::AUDIO, Codec::Aac, aac_config(found)?),
        _ => {
            return Err(Error::Unsupported(format!(
                "track {number} ({kind}): of MP4 files only H.264 and AAC are read; \
                 `ffmpeg -i FILE -c copy out.flv` makes an FLV file, which may hold more"
            )));
        }
    };
    Ok(Some(codec::track(id, codec, Timescale::HZ_90K, config)?))
}

fn avc_config(found: &Mp4Track) -> Result<Bytes, Error> {
    let record = found.trak.mdia.minf.stbl.stsd.avc1.as_ref().map(|avc1| &avc1.avcc);
    let record = record.ok_or_else(|| Error::Mp4("avc1 without avcC".into()))?;
    if record.length_size_minus_one & 3 != 3 {
        return Err(Error::Unsupported("H.264 whose NAL units have lengths of other than 4 bytes".into()));
    }
    let sps: Vec<&[u8]> = record.sequence_parameter_sets.iter().map(|unit| unit.bytes.as_slice()).collect();
    let pps: Vec<&[u8]> = record.picture_parameter_sets.iter().map(|unit| unit.bytes.as_slice()).collect();
    Ok(codec::h264::config_from_parameter_sets(&sps, &pps)?)
}

/// `AudioSpecificConfig` (ISO/IEC 14496-3 §1.6.2.1): 5 bits object type, 4 bits frequency, 4 bits channels.
fn aac_config(found: &Mp4Track) -> Result<Bytes, Error> {
    let esds = found.trak.mdia.minf.stbl.stsd.mp4a.as_ref().and_then(|mp4a| mp4a.esds.as_ref());
    let said = esds.map(|esds| &esds.es_desc.dec_config.dec_specific);
    let said = said.ok_or_else(|| Error::Mp4("mp4a without esds".into()))?;
    if said.freq_index > 12 || said.chan_conf > 7 {
        return Err(Error::Unsupported("AAC with an unusual sampling rate or channel layout".into()));
    }
    let object_type = match said.profile {
        1..=4 => said.profile,
        _ => AAC_LC,
    };
    Ok(Bytes::from(vec![object_type << 3 | said.freq_index >> 1, said.freq_index << 7 | said.chan_conf << 3]))
}

fn cursor(found: &Mp4Track, track: &Track, movie_timescale: u32) -> Result<Cursor, Error> {
    let zero = || Error::Mp4("a timescale of 0".into());
    let timescale = Timescale::new(found.timescale()).ok_or_else(zero)?;
    let sizes = &found.trak.mdia.minf.stbl.stsz;
    if sizes.sample_sizes.iter().chain([&sizes.sample_size]).any(|size| *size > MAX_SAMPLE_BYTES) {
        return Err(Error::Mp4(format!("a sample of more than {MAX_SAMPLE_BYTES} bytes")));
    }
    let movie = Timescale::new(movie_timescale).ok_or_else(zero)?;
    Ok(Cursor {
        number: found.track_id(),
        id: track.id,
        codec: track.codec,
        timescale,
        shift: edit_shift(found, timescale, movie),
        samples: found.sample_count(),
        next: 1,
        ahead: None,
    })
}

/// What the edit list adds to every time of the track (ISO/IEC 14496-12 §8.6.6): empty edits delay it, the
/// first real one says which media time is its zero.
fn edit_shift(found: &Mp4Track, timescale: Timescale, movie: Timescale) -> i64 {
    let edits = found.trak.edts.as_ref().and_then(|edts| edts.elst.as_ref());
    let mut shift = 0i64;
    for edit in edits.iter().flat_map(|elst| &elst.entries) {
        let empty = edit.media_time == u64::MAX || edit.media_time == u64::from(u32::MAX);
        if !empty {
            return shift.saturating_sub(i64::try_from(edit.media_time).unwrap_or_default());
        }
        let delay = Timestamp(i64::try_from(edit.segment_duration).unwrap_or_default());
        shift = shift.saturating_add(delay.rescale(movie, timescale).0);
    }
    shift
}

#[cfg(test)]
mod tests {
    use std::io::Cursor as Memory;

    use media_core::frame::Kind;
    use mp4::{
        AacConfig, AudioObjectType, AvcConfig, ChannelConfig, Mp4Config, Mp4Sample, Mp4Writer,
        SampleFreqIndex, TrackConfig, TrackType,
    };

    use super::*;
    use crate::publish::source::{Source, bundled};

    fn everything(source: &mut Source) -> (Vec<Track>, Vec<Frame>) {
        let (mut tracks, mut frames) = (Vec::new(), Vec::new());
        while let Some(media) = source.next().unwrap() {
            match media {
                Media::Tracks(now) => tracks = now,
                Media::Frame(frame) => frames.push(frame),
            }
        }
        (tracks, frames)
    }

    /// The parameter sets of an `AVCDecoderConfigurationRecord` with one of each.
    fn parameter_sets(record: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let set = |at: usize| {
            let length = usize::from(record[at]) << 8 | usize::from(record[at + 1]);
            record[at + 2..at + 2 + length].to_vec()
        };
        let sps = set(6);
        let pps = set(6 + 2 + sps.len() + 1);
        (sps, pps)
    }

    /// The demo clip as MP4.
    fn clip(tracks: &[Track], frames: &[Frame]) -> Vec<u8> {
        let brand = *b"isom";
        let config = Mp4Config {
            major_brand: brand.into(),
            minor_version: 512,
            compatible_brands: vec![brand.into()],
            timescale: 1000,
        };
        let mut writer = Mp4Writer::write_start(Memory::new(Vec::new()), &config).unwrap();
        let (seq_param_set, pic_param_set) = parameter_sets(&tracks[0].config);
        let avc = AvcConfig { width: 640, height: 360, seq_param_set, pic_param_set };
        let aac = AacConfig {
            bitrate: 96_000,
            profile: AudioObjectType::AacLowComplexity,
            freq_index: SampleFreqIndex::Freq48000,
            chan_conf: ChannelConfig::Stereo,
        };
        writer.add_track(&TrackConfig { timescale: 90_000, ..TrackConfig::from(avc) }).unwrap();
        let mut sound = TrackConfig::from(aac);
        sound.timescale = 48_000;
        sound.track_type = TrackType::Audio;
        writer.add_track(&sound).unwrap();
        for frame in frames {
            let (number, duration) = match frame.track.kind {
                Kind::Video => (1, 3_600),
                Kind::Audio => (2, 1_024),
            };
            let sample = Mp4Sample {
                start_time: 0,
                duration,
                rendering_offset: frame.cts,
                is_sync: frame.keyframe,
                bytes: frame.data.clone(),
            };
            writer.write_sample(number, &sample).unwrap();
        }
        writer.write_end().unwrap();
        writer.into_writer().into_inner()
    }

    fn open(file: Vec<u8>) -> Result<Source, Error> {
        Source::new(Box::new(Memory::new(file)))
    }

    #[test]
    fn an_mp4_file_holds_the_frames_of_the_flv_file_it_was_made_of() {
        let (tracks, frames) = everything(&mut Source::new(bundled(crate::demo::CLIP)).unwrap());
        let mut source = open(clip(&tracks, &frames)).unwrap();
        let (mp4_tracks, mp4_frames) = everything(&mut source);
        // The library reads only the first two bytes of ffmpeg's `AudioSpecificConfig`, which say all.
        let said = |tracks: &[Track]| -> Vec<_> {
            tracks.iter().map(|t| (t.id, t.codec, t.timescale, t.params.clone(), t.rfc6381.clone())).collect()
        };
        assert_eq!(said(&mp4_tracks), said(&tracks));
        assert_eq!(mp4_frames.len(), frames.len());
        assert!(mp4_frames.windows(2).all(|w| w[0].dts <= w[1].dts), "in decoding order");
        for kind in [Kind::Video, Kind::Audio] {
            let of = |frames: &[Frame]| -> Vec<_> {
                let track = frames.iter().filter(|f| f.track.kind == kind);
                track.map(|f| (f.dts.millis(Timescale::HZ_90K), f.keyframe, f.data.clone())).collect()
            };
            for (a, b) in of(&mp4_frames).iter().zip(of(&frames)) {
                assert!((a.0 - b.0).abs() <= 1, "{} {}", a.0, b.0);
                assert_eq!((a.1, &a.2), (b.1, &b.2));
            }
        }
        source.rewind().unwrap();
        let Some(Media::Frame(first)) = source.next().unwrap() else { panic!("a frame") };
        assert_eq!(first.dts, Timestamp(0));
    }

    #[test]
    fn a_broken_file_is_an_error_wherever_it_ends() {
        let (tracks, frames) = everything(&mut Source::new(bundled(crate::demo::CLIP)).unwrap());
        let whole = clip(&tracks, &frames[..40]);
        for end in (8..whole.len()).step_by(97) {
            let cut = whole[..end].to_vec();
            // The library may panic on hostile files; `pace::read` contains that. None may pass for whole.
            let read = std::panic::catch_unwind(|| {
                let mut source = open(cut).ok()?;
                let mut count = 0;
                while source.next().ok()?.is_some() {
                    count += 1;
                }
                Some(count)
            });
            assert!(!matches!(read, Ok(Some(_))), "cut at {end}");
        }
    }
}
