//! The wire formats: how flushes and headers are written, once for all viewers.

use std::fmt::Write;

use bytes::{Bytes, BytesMut};
use media_core::flv::{self, TagKind};
use media_core::relay::{Mark, Tag};
use media_core::rtmp;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Data, OpCode};

use super::flush::{Flush, Role};
use super::headers::Headers;

/// How a stream is written to a viewer's socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// FLV, as the body of an HTTP response.
    Flv,
    /// The same in chunks of HTTP/1.1, one a flush (RFC 9112 §7.1).
    ChunkedFlv,
    /// FLV in binary WebSocket messages, one a flush.
    WsFlv,
    /// RTMP messages in chunks.
    Rtmp,
    /// A relay for another edge: FLV with the marks, and the tags as they came.
    Relay,
    /// MPEG-TS, as the body of an HTTP response.
    Ts,
    /// The same in chunks of HTTP/1.1, one a flush.
    ChunkedTs,
    /// MPEG-TS, for datagrams of SRT.
    Srt,
}

/// The message stream of shared RTMP chunks: what a server answers to a connection's first createStream.
pub(crate) const RTMP_MESSAGE_STREAM: u32 = 1;

impl Format {
    /// All of them.
    pub(crate) const ALL: [Self; 8] = [
        Self::Flv,
        Self::ChunkedFlv,
        Self::WsFlv,
        Self::Rtmp,
        Self::Relay,
        Self::Ts,
        Self::ChunkedTs,
        Self::Srt,
    ];

    /// Its place in [`Self::ALL`].
    pub(crate) const fn index(self) -> usize {
        match self {
            Self::Flv => 0,
            Self::ChunkedFlv => 1,
            Self::WsFlv => 2,
            Self::Rtmp => 3,
            Self::Relay => 4,
            Self::Ts => 5,
            Self::ChunkedTs => 6,
            Self::Srt => 7,
        }
    }

    /// Whether it is a transport stream.
    pub(crate) const fn is_ts(self) -> bool {
        matches!(self, Self::Ts | Self::ChunkedTs | Self::Srt)
    }

    /// Whether flushes are chunks of HTTP/1.1.
    pub(crate) const fn is_chunked(self) -> bool {
        matches!(self, Self::ChunkedFlv | Self::ChunkedTs)
    }

    /// What it is called in metrics.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Flv | Self::ChunkedFlv => "flv",
            Self::WsFlv => "ws_flv",
            Self::Rtmp => "rtmp",
            Self::Relay => "relay",
            Self::Ts | Self::ChunkedTs => "ts",
            Self::Srt => "srt",
        }
    }

    /// One contiguous piece of a flush's tags; for MPEG-TS of the packets that were made of them.
    pub(crate) fn flush(self, flush: &Flush, packets: &Bytes) -> Bytes {
        match (self, flush.tags.as_slice()) {
            (Self::Ts | Self::ChunkedTs | Self::Srt, _) => self.framed(packets.clone()),
            // Already as it goes out.
            (Self::Flv, [tag]) => tag.tag.clone(),
            (Self::Relay, tags) => {
                // Whoever begins or goes on here counts frames from here.
                let told = flush.marked || matches!(flush.role, Role::Point(_));
                let mut out = BytesMut::with_capacity(total(tags) + MARK_BYTES);
                if let Some(mark) = flush.mark.filter(|_| told) {
                    mark.write_tag(&mut out, flush.timestamp_ms());
                }
                flv_tags(out, tags)
            }
            (Self::Flv, tags) => flv_tags(BytesMut::with_capacity(total(tags)), tags),
            (Self::ChunkedFlv | Self::WsFlv, tags) => {
                let len = total(tags);
                let mut out = BytesMut::with_capacity(len + FRAMING_BYTES);
                self.frame(&mut out, len, |out| {
                    for tag in tags {
                        out.extend_from_slice(&tag.tag);
                    }
                });
                out.freeze()
            }
            (Self::Rtmp, tags) => {
                let mut out = BytesMut::with_capacity(total(tags) + tags.len() * 16);
                for tag in tags {
                    rtmp_message(&mut out, tag.kind, tag.timestamp_ms, &tag.body);
                }
                out.freeze()
            }
        }
    }

    /// What a viewer is sent before the first flush: for FLV the file header, then metadata, and sequence
    /// headers at the timestamp at which it starts.
    pub(crate) fn head(self, headers: &Headers, start_ms: u32, mark: Option<Mark>) -> Bytes {
        if self == Self::Relay {
            let mut out = BytesMut::from(&flv::header(headers.has_audio(), headers.has_video())[..]);
            self.relay_headers(&mut out, headers, start_ms, mark);
            return out.freeze();
        }
        if self.is_ts() {
            // A flush at which one can start has it all.
            return Bytes::new();
        }
        let metadata = headers.metadata_with_clock(mark);
        let mut out = BytesMut::new();
        match self {
            Self::Flv | Self::ChunkedFlv | Self::WsFlv => {
                out.extend_from_slice(&flv::header(headers.has_audio(), headers.has_video()));
                flv::write_tag(&mut out, TagKind::Script, flv::METADATA_TIMESTAMP_MS, &[&metadata]);
            }
            Self::Rtmp => rtmp_message(&mut out, TagKind::Script, flv::METADATA_TIMESTAMP_MS, &metadata),
            Self::Relay | Self::Ts | Self::ChunkedTs | Self::Srt => {}
        }
        self.sequence_headers(&mut out, headers, start_ms);
        self.framed(out.freeze())
    }

    /// What a viewer who skipped over a change of tracks is sent before it goes on.
    pub(crate) fn resumption(self, headers: &Headers, start_ms: u32, mark: Option<Mark>) -> Bytes {
        let mut out = BytesMut::new();
        if self == Self::Relay {
            self.relay_headers(&mut out, headers, start_ms, mark);
            return out.freeze();
        }
        self.sequence_headers(&mut out, headers, start_ms);
        self.framed(out.freeze())
    }

    /// A mark, and all headers as they came. Without a mark an edge would not know what to make of them: it gets those of
    /// the next change.
    fn relay_headers(self, out: &mut BytesMut, headers: &Headers, start_ms: u32, mark: Option<Mark>) {
        let Some(mark) = mark else { return };
        mark.write_tag(out, start_ms);
        flv::write_tag(out, TagKind::Script, flv::METADATA_TIMESTAMP_MS, &[headers.metadata_body()]);
        self.sequence_headers(out, headers, start_ms);
    }

    fn sequence_headers(self, out: &mut BytesMut, headers: &Headers, timestamp_ms: u32) {
        for tag in headers.sequence() {
            match self {
                Self::Flv | Self::ChunkedFlv | Self::WsFlv | Self::Relay => {
                    flv::write_tag(out, tag.kind, timestamp_ms, &[&tag.body]);
                }
                Self::Rtmp => rtmp_message(out, tag.kind, timestamp_ms, &tag.body),
                Self::Ts | Self::ChunkedTs | Self::Srt => {}
            }
        }
    }

    /// Bytes as they go out by themselves.
    pub(crate) fn framed(self, out: Bytes) -> Bytes {
        // An empty chunk would end the response.
        if out.is_empty() || !(self.is_chunked() || self == Self::WsFlv) {
            return out;
        }
        let mut framed = BytesMut::with_capacity(out.len() + FRAMING_BYTES);
        self.frame(&mut framed, out.len(), |framed| framed.extend_from_slice(&out));
        framed.freeze()
    }

    /// Writes what stands before and behind `len` bytes.
    fn frame(self, out: &mut BytesMut, len: usize, write: impl FnOnce(&mut BytesMut)) {
        match self {
            Self::WsFlv => ws_header(out, len),
            // Writing to a `BytesMut` cannot fail.
            Self::ChunkedFlv | Self::ChunkedTs => drop(write!(out, "{len:x}\r\n")),
            Self::Flv | Self::Rtmp | Self::Relay | Self::Ts | Self::Srt => {}
        }
        write(out);
        if self.is_chunked() {
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// Room for a mark's tag.
const MARK_BYTES: usize = 144;

/// The longest framing: a chunk's size and the ends of its lines. A server's longest WebSocket header (RFC 6455 §5.2,
/// without a mask) has 10 bytes.
const FRAMING_BYTES: usize = 20;

/// The header of an unmasked binary message in one frame.
fn ws_header(out: &mut BytesMut, len: usize) {
    let header = FrameHeader { opcode: OpCode::Data(Data::Binary), ..FrameHeader::default() };
    let mut bytes = Vec::with_capacity(FRAMING_BYTES);
    // Writing to a `Vec` cannot fail.
    let _ = header.format(u64::try_from(len).unwrap_or(u64::MAX), &mut bytes);
    out.extend_from_slice(&bytes);
}

fn total(tags: &[Tag]) -> usize {
    tags.iter().map(|tag| tag.tag.len()).sum()
}

fn flv_tags(mut out: BytesMut, tags: &[Tag]) -> Bytes {
    for tag in tags {
        out.extend_from_slice(&tag.tag);
    }
    out.freeze()
}

fn rtmp_message(out: &mut BytesMut, kind: TagKind, timestamp_ms: u32, body: &[u8]) {
    let kind = match kind {
        TagKind::Audio => rtmp::Kind::Audio,
        TagKind::Video => rtmp::Kind::Video,
        TagKind::Script => rtmp::Kind::Data,
    };
    // A tag's body has a 24-bit length, as a message has: it can't be too long.
    let _ =
        rtmp::chunk::write(out, rtmp::CHUNK_SIZE, &kind.header(RTMP_MESSAGE_STREAM, timestamp_ms), &[body]);
}
