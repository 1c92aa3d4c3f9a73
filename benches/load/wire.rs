//! What viewers read, taken apart as far as a bench wants to know: HTTP heads, chunks, WebSocket frames, and the FLV
//! tags or RTMP messages inside.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::{Buf, Bytes, BytesMut};
use media_core::flv::{Reader, TagKind};
use media_core::rtmp::Kind;
use media_core::rtmp::client::{Config, Event, Mode, Session, Target};

/// How viewers take the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wire {
    /// FLV over HTTP/1.1.
    HttpFlv,
    /// FLV over HTTP/1.1 and TLS.
    HttpsFlv,
    /// FLV over HTTP/2.
    Http2Flv,
    /// FLV over HTTP/3.
    Http3Flv,
    /// FLV over a WebSocket.
    WsFlv,
    /// RTMP.
    Rtmp,
}

/// How the FLV of a response is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packing {
    /// To the connection's end.
    Plain,
    /// In chunks.
    Chunked,
    /// In WebSocket frames.
    Frames,
}

/// A viewer's side of its protocol.
pub(crate) enum Decoder {
    /// Over HTTP.
    Flv { input: BytesMut, packing: Option<Packing>, left: usize, wants_end: bool, reader: Box<Reader> },
    /// As messages.
    Rtmp { session: Box<Session>, started: bool },
}

impl Decoder {
    /// For somebody who watches that stream, and what it says first.
    pub(crate) fn new(wire: Wire, host: &str, stream: &str, latency: &str) -> Result<(Self, Vec<u8>)> {
        let path = format!("/live/{stream}.flv?latency={latency}");
        let get = match wire {
            Wire::Http2Flv | Wire::Http3Flv => bail!("no bytes of its own"),
            Wire::HttpFlv | Wire::HttpsFlv => format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"),
            Wire::WsFlv => format!(
                "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: d2Vpci1iZW5jaC1jbG9jaw==\r\n\r\n"
            ),
            Wire::Rtmp => {
                let config = Config {
                    target: Target::parse(&format!("rtmp://{host}/live/{stream}?latency={latency}"))?,
                    mode: Mode::Play,
                    flash_ver: "LNX 9,0,124,2 (compatible; weir bench)".to_owned(),
                    capabilities: Default::default(),
                    timeout: Duration::from_secs(30),
                };
                let mut decoder =
                    Self::Rtmp { session: Box::new(Session::new(config, Instant::now())?), started: false };
                let first = decoder.output();
                return Ok((decoder, first));
            }
        };
        let reader = Box::new(Reader::new());
        let decoder = Self::Flv { input: BytesMut::new(), packing: None, left: 0, wants_end: false, reader };
        Ok((decoder, get.into_bytes()))
    }

    /// Takes what was read.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<()> {
        match self {
            Self::Rtmp { session, .. } => Ok(session.handle_input(Instant::now(), bytes)?),
            Self::Flv { input, packing, left, wants_end, reader } => {
                input.extend_from_slice(bytes);
                if packing.is_none() {
                    let Some(end) = input.windows(4).position(|four| four == b"\r\n\r\n") else {
                        return Ok(());
                    };
                    *packing = Some(packing_of(&input.split_to(end + 4))?);
                }
                match packing {
                    Some(Packing::Chunked) => unchunk(input, left, wants_end, reader),
                    Some(Packing::Frames) => unframe(input, left, reader),
                    _ => {
                        reader.push(input.split().freeze());
                        Ok(())
                    }
                }
            }
        }
    }

    /// What is to be sent in answer.
    pub(crate) fn output(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        if let Self::Rtmp { session, .. } = self {
            while let Some(bytes) = session.poll_output() {
                out.extend_from_slice(&bytes);
            }
        }
        out
    }

    /// The server has consented; asked after [`next_picture`](Self::next_picture).
    pub(crate) fn has_joined(&self) -> bool {
        match self {
            Self::Flv { packing, .. } => packing.is_some(),
            Self::Rtmp { started, .. } => *started,
        }
    }

    /// The body of the next tag or message with a picture.
    pub(crate) fn next_picture(&mut self) -> Result<Option<Bytes>> {
        match self {
            Self::Flv { reader, .. } => return next_picture(reader),
            Self::Rtmp { session, started } => {
                while let Some(event) = session.poll_event() {
                    match event {
                        Event::Started => *started = true,
                        Event::Media(media) if media.kind == Kind::Video && is_picture(&media.body) => {
                            return Ok(Some(media.body));
                        }
                        Event::Media(_) => {}
                        Event::Ended(status) => bail!("the server ended it: {status:?}"),
                    }
                }
            }
        }
        Ok(None)
    }
}

/// The body of the next tag with a picture.
pub(super) fn next_picture(reader: &mut Reader) -> Result<Option<Bytes>> {
    while let Some(tag) = reader.next_tag()? {
        if tag.kind == TagKind::Video && is_picture(&tag.body) {
            return Ok(Some(tag.body));
        }
    }
    Ok(None)
}

/// Legacy AVC: a frame, not the sequence header.
fn is_picture(body: &[u8]) -> bool {
    body.get(1) == Some(&1)
}

fn packing_of(head: &[u8]) -> Result<Packing> {
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    let status = head.split(' ').nth(1).context("no status")?;
    match status {
        "101" => Ok(Packing::Frames),
        "200" if head.contains("\r\ntransfer-encoding: chunked\r\n") => Ok(Packing::Chunked),
        "200" => Ok(Packing::Plain),
        _ => bail!("{head}"),
    }
}

/// RFC 9112 §7.1.
fn unchunk(input: &mut BytesMut, left: &mut usize, wants_end: &mut bool, reader: &mut Reader) -> Result<()> {
    loop {
        if *left > 0 {
            let piece = input.split_to(input.len().min(*left)).freeze();
            *left -= piece.len();
            if piece.is_empty() {
                return Ok(());
            }
            reader.push(piece);
            continue;
        }
        if *wants_end {
            if input.len() < 2 {
                return Ok(());
            }
            ensure!(input.starts_with(b"\r\n"), "a chunk without its end");
            input.advance(2);
            *wants_end = false;
        }
        let Some(end) = input.windows(2).position(|two| two == b"\r\n") else { return Ok(()) };
        let line = input.split_to(end + 2);
        let size = String::from_utf8_lossy(line.get(..end).unwrap_or_default()).into_owned();
        *left = usize::from_str_radix(&size, 16).with_context(|| format!("a chunk of {size:?} bytes"))?;
        ensure!(*left > 0, "the response ended");
        *wants_end = true;
    }
}

/// RFC 6455 §5.2; servers do not mask.
fn unframe(input: &mut BytesMut, left: &mut usize, reader: &mut Reader) -> Result<()> {
    const BINARY: u8 = 0x82;
    loop {
        if *left > 0 {
            let piece = input.split_to(input.len().min(*left)).freeze();
            *left -= piece.len();
            if piece.is_empty() {
                return Ok(());
            }
            reader.push(piece);
            continue;
        }
        let (Some(first), Some(length)) = (input.first().copied(), input.get(1).copied()) else {
            return Ok(());
        };
        ensure!(length & 0x80 == 0, "the server masks");
        let extended = match length {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let Some(more) = input.get(2..2 + extended) else { return Ok(()) };
        let size = match extended {
            0 => usize::from(length),
            _ => more.iter().fold(0, |size, byte| size << 8 | usize::from(*byte)),
        };
        ensure!(first == BINARY, "a frame of type {first:#x}");
        input.advance(2 + extended);
        *left = size;
    }
}

#[cfg(test)]
mod tests {
    use media_core::flv;

    use super::*;

    /// Two pictures among other tags.
    fn stream() -> Vec<u8> {
        let mut out = BytesMut::from(&flv::header(true, true)[..]);
        flv::write_tag(&mut out, TagKind::Video, 0, &[&[0x17, 0, 0, 0, 0, 1]]);
        flv::write_tag(&mut out, TagKind::Video, 0, &[&[0x17, 1, 0, 0, 0], &[7; 300]]);
        flv::write_tag(&mut out, TagKind::Audio, 0, &[&[0xaf, 1, 0]]);
        flv::write_tag(&mut out, TagKind::Video, 33, &[&[0x27, 1, 0, 0, 0], &[8; 70_000]]);
        out.to_vec()
    }

    fn pictures(wire: Wire, response: &[u8], step: usize) -> Result<Vec<usize>> {
        let (mut decoder, _) = Decoder::new(wire, "h:1", "s", "frame")?;
        let mut found = Vec::new();
        for piece in response.chunks(step) {
            decoder.push(piece)?;
            while let Some(body) = decoder.next_picture()? {
                found.push(body.len());
            }
        }
        assert!(decoder.has_joined());
        Ok(found)
    }

    #[test]
    fn pictures_are_found_however_they_are_packed() {
        let flv = stream();
        let plain = [b"HTTP/1.1 200 OK\r\nx: y\r\n\r\n", &flv[..]].concat();
        let mut chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        let mut framed = b"HTTP/1.1 101 Switching Protocols\r\n\r\n".to_vec();
        for piece in flv.chunks(999).chain([&[][..]]).filter(|piece| !piece.is_empty()) {
            chunked.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
            chunked.extend_from_slice(piece);
            chunked.extend_from_slice(b"\r\n");
        }
        let (short, long) = flv.split_at(100);
        framed.extend_from_slice(&[0x82, 100]);
        framed.extend_from_slice(short);
        let (middle, long) = long.split_at(400);
        framed.extend_from_slice(&[0x82, 126, 1, 0x90]);
        framed.extend_from_slice(middle);
        framed.extend_from_slice(&[0x82, 127]);
        framed.extend_from_slice(&(long.len() as u64).to_be_bytes());
        framed.extend_from_slice(long);
        for step in [1, 7, 100_000] {
            assert_eq!(pictures(Wire::HttpFlv, &plain, step).unwrap(), [305, 70_005]);
            assert_eq!(pictures(Wire::HttpFlv, &chunked, step).unwrap(), [305, 70_005]);
            assert_eq!(pictures(Wire::WsFlv, &framed, step).unwrap(), [305, 70_005]);
        }
    }

    #[test]
    fn refusals_and_ends_are_errors() {
        for response in [
            "HTTP/1.1 404 Not Found\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nFxx",
            "HTTP/1.1 101 X\r\n\r\n\u{8}\u{1}x",
        ] {
            assert!(pictures(Wire::HttpFlv, response.as_bytes(), 1_000).is_err(), "{response}");
        }
    }
}
