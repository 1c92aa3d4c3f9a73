//! A stream as MPEG-TS: the only wire format that has something to remember between flushes, so that it is written once
//! for all viewers, framed or not, and only while somebody watches it.

use bytes::{Bytes, BytesMut};
use media_core::flv::{self, Demuxed, Demuxer};
use media_core::mpegts::Muxer;
use media_core::relay::Tag;

use super::flush::{Flush, Role};
use super::headers::Headers;

/// Writes flushes as whole packets of 188 bytes.
#[derive(Default)]
pub(super) struct Transport {
    demuxer: Demuxer,
    muxer: Muxer,
}

impl Transport {
    /// For the flushes that follow these headers.
    pub(super) fn new(headers: &Headers) -> Self {
        let mut transport = Self::default();
        let mut nothing = BytesMut::new();
        headers.sequence().iter().for_each(|tag| transport.push(tag, &mut nothing));
        transport
    }

    /// A flush, which is nothing if it has no more than headers. One at which viewers can start begins with the tables.
    pub(super) fn flush(&mut self, flush: &Flush) -> Bytes {
        match flush.role {
            // These are all tracks that there are: none of those before is left.
            Role::Headers => self.demuxer = Demuxer::new(),
            Role::Point(_) => self.muxer.begin_point(),
            Role::Media => {}
        }
        let mut out = BytesMut::new();
        flush.tags.iter().for_each(|tag| self.push(tag, &mut out));
        out.freeze()
    }

    /// The tables, for whoever starts where no flush begins with them.
    pub(super) fn tables(&self) -> Bytes {
        let mut out = BytesMut::new();
        self.muxer.tables_again(&mut out);
        out.freeze()
    }

    fn push(&mut self, tag: &Tag, out: &mut BytesMut) {
        let tag = flv::Tag { kind: tag.kind, timestamp_ms: tag.timestamp_ms, body: tag.body.clone() };
        // What can't be read, players of FLV can't either; origins send none such.
        let Ok(found) = self.demuxer.push(tag) else { return };
        for item in found {
            match item {
                // What is left out is not in the tables: players see what there is.
                Demuxed::Tracks(tracks) => drop(self.muxer.set_tracks(&tracks)),
                Demuxed::Frame(frame) => self.muxer.frame(&frame, out),
                Demuxed::Encoder(_) | Demuxed::Dropped(_) => {}
            }
        }
    }
}
