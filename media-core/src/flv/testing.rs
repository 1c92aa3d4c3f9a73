//! Files that ffmpeg wrote, for the tests of this module and of those that build on it: 64×64 pixels at 10 frames a
//! second and a tone, 0.8 seconds long, a keyframe every fourth frame.

use bytes::Bytes;

use super::{Demuxed, Demuxer, Reader, Tag};
use crate::frame::{Frame, Track};

pub(crate) const H264_AAC: &[u8] = include_bytes!("testdata/ffmpeg5-h264-aac.flv");
pub(crate) const H264_MP3: &[u8] = include_bytes!("testdata/ffmpeg5-h264-mp3.flv");
pub(crate) const HEVC_OPUS: &[u8] = include_bytes!("testdata/ffmpeg9-hevc-opus.flv");
pub(crate) const AV1_AAC: &[u8] = include_bytes!("testdata/ffmpeg9-av1-aac.flv");
pub(crate) const VP9_OPUS: &[u8] = include_bytes!("testdata/ffmpeg9-vp9-opus.flv");
/// Written by libvpx; ffmpeg has no FLV for it.
pub(crate) const VP8: &[u8] = include_bytes!("testdata/libvpx-vp8.flv");
/// H.264 and HEVC, AAC and Opus.
pub(crate) const MULTITRACK: &[u8] = include_bytes!("testdata/ffmpeg9-multitrack.flv");
pub(crate) const ALL: [&[u8]; 5] = [H264_AAC, H264_MP3, HEVC_OPUS, AV1_AAC, MULTITRACK];

/// The file's tags.
pub(crate) fn tags(file: &'static [u8]) -> Vec<Tag> {
    let mut reader = Reader::new();
    reader.push(Bytes::from_static(file));
    let mut tags = Vec::new();
    while let Some(tag) = reader.next_tag().unwrap() {
        tags.push(tag);
    }
    tags
}

/// What is in tags.
pub(crate) fn demux(tags: impl IntoIterator<Item = Tag>) -> Vec<Demuxed> {
    let mut demuxer = Demuxer::new();
    let mut all = Vec::new();
    for tag in tags {
        all.extend(demuxer.push(tag).unwrap());
    }
    all
}

/// The tracks of the file, the last time that it says them, and its frames.
pub(crate) fn media(file: &'static [u8]) -> (Vec<Track>, Vec<Frame>) {
    let (mut tracks, mut frames) = (Vec::new(), Vec::new());
    for item in demux(tags(file)) {
        match item {
            Demuxed::Tracks(t) => tracks = t,
            Demuxed::Frame(f) => frames.push(f),
            Demuxed::Encoder(_) => {}
            Demuxed::Dropped(d) => panic!("{d:?}"),
        }
    }
    (tracks, frames)
}
