//! Reading an FLV file.

use std::collections::VecDeque;
use std::io::{Read, Seek, SeekFrom};

use bytes::Bytes;
use media_core::flv::{Demuxed, Demuxer, Reader};

use super::source::{Error, Input, Media};

/// Bytes read at once: a few frames.
const CHUNK_BYTES: usize = 64 * 1024;

/// An FLV file, legacy or enhanced.
pub(crate) struct FlvFile {
    input: Input,
    reader: Reader,
    demuxer: Demuxer,
    // What one tag held; the demuxer bounds it.
    pending: VecDeque<Media>,
}

impl FlvFile {
    pub(crate) fn new(input: Input) -> Self {
        Self { input, reader: Reader::new(), demuxer: Demuxer::new(), pending: VecDeque::new() }
    }

    pub(crate) fn next(&mut self) -> Result<Option<Media>, Error> {
        loop {
            if let Some(media) = self.pending.pop_front() {
                return Ok(Some(media));
            }
            if let Some(tag) = self.reader.next_tag()? {
                self.pending.extend(self.demuxer.push(tag)?.filter_map(|demuxed| match demuxed {
                    Demuxed::Tracks(tracks) => Some(Media::Tracks(tracks)),
                    Demuxed::Frame(frame) => Some(Media::Frame(frame)),
                    _ => None,
                }));
                continue;
            }
            let mut chunk = vec![0; CHUNK_BYTES];
            let n = self.input.read(&mut chunk)?;
            chunk.truncate(n);
            if n == 0 {
                // A last tag that was cut off is not worth an error: recordings end like this.
                return Ok(None);
            }
            self.reader.push(Bytes::from(chunk));
        }
    }

    pub(crate) fn rewind(&mut self) -> Result<(), Error> {
        self.input.seek(SeekFrom::Start(0))?;
        // The demuxer goes on, so that sequence headers that are the same again change nothing.
        self.reader = Reader::new();
        Ok(())
    }
}
