//! WebSocket (RFC 6455), a server's side: the handshake, and reading what a viewer sends.
//!
//! A viewer has nothing to say: its messages are read over, pings are answered, a close is returned,
//! and who breaks the protocol is told so. What is sent to it was framed for all viewers before.

use std::io::Cursor;
use std::time::Instant;

use bytes::{Buf, Bytes, BytesMut};
use http::header::{
    CONNECTION, HeaderMap, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION,
    UPGRADE,
};
use http::{Response, StatusCode, Version};
use tungstenite::handshake::derive_accept_key;
use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};
use tungstenite::protocol::frame::{Frame, FrameHeader};

use super::problem::problem;
use crate::fanout::Over;
use crate::shard::{Protocol, Wish};
use crate::upstream::Body;

/// A viewer's longest message. Players send none; a few bytes now and then do no harm.
const MAX_MESSAGE_BYTES: u64 = 4_096;

/// A control frame's longest payload (RFC 6455 §5.5).
const MAX_CONTROL_BYTES: u64 = 125;

/// Characters of the key: 16 bytes in base64 (RFC 6455 §4.1).
const KEY_CHARS: usize = 24;

/// Whether the client wants to speak WebSocket.
pub(super) fn is_upgrade(headers: &HeaderMap) -> bool {
    has_token(headers, &UPGRADE, "websocket")
}

/// Why a handshake is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadHandshake {
    /// Not what RFC 6455 §4.2.1 asks for.
    #[error("a WebSocket begins with an HTTP/1.1 request that has \"Connection: Upgrade\"")]
    Connection,
    /// Another version.
    #[error("WebSocket version 13 is spoken here")]
    Version,
    /// No key, or not one.
    #[error("Sec-WebSocket-Key is missing or not 16 bytes in base64")]
    Key,
}

impl BadHandshake {
    /// The answer.
    pub(super) fn response(self) -> Response<Body> {
        if self != Self::Version {
            return problem(StatusCode::BAD_REQUEST, &self.to_string());
        }
        let mut response = problem(StatusCode::UPGRADE_REQUIRED, &self.to_string());
        let headers = response.headers_mut();
        headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        response
    }
}

/// The answer to a handshake: 101, or why not.
pub(super) fn handshake(version: Version, headers: &HeaderMap) -> Result<Response<()>, BadHandshake> {
    if version != Version::HTTP_11 || !has_token(headers, &CONNECTION, "upgrade") {
        return Err(BadHandshake::Connection);
    }
    if headers.get(SEC_WEBSOCKET_VERSION).map(HeaderValue::as_bytes) != Some(b"13") {
        return Err(BadHandshake::Version);
    }
    let key = headers.get(SEC_WEBSOCKET_KEY).filter(|key| key.len() == KEY_CHARS);
    let accept = key.map(|key| HeaderValue::try_from(derive_accept_key(key.as_bytes())));
    let Some(Ok(accept)) = accept else { return Err(BadHandshake::Key) };
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    Ok(response)
}

fn has_token(headers: &HeaderMap, name: &http::HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|part| part.trim().eq_ignore_ascii_case(token))
}

/// A viewer's connection after the handshake.
#[derive(Debug, Default)]
pub(super) struct WebSocket {
    /// The beginning of a frame.
    inbox: BytesMut,
    /// What is still to come of a data frame that is read over.
    read_over: u64,
    /// Bytes of the message so far, while it is fragmented.
    message: Option<u64>,
    /// At most one: newer pongs replace older ones (§5.5.3), and nothing follows a close.
    reply: Option<Bytes>,
    closed: bool,
}

impl WebSocket {
    fn close(&mut self, code: CloseCode, reason: &'static str) {
        let frame = Frame::close(Some(CloseFrame { code, reason: reason.into() }));
        self.reply = Some(wire(frame));
        self.closed = true;
    }

    /// Takes one frame from the inbox, or as much of it as there is. False if it needs more.
    fn frame(&mut self) -> bool {
        if self.read_over > 0 {
            let here = self.read_over.min(u64::try_from(self.inbox.len()).unwrap_or(u64::MAX));
            self.inbox.advance(usize::try_from(here).unwrap_or_default());
            self.read_over -= here;
            return self.read_over == 0;
        }
        let mut cursor = Cursor::new(self.inbox.as_ref());
        let (header, len) = match FrameHeader::parse(&mut cursor) {
            Ok(Some(parsed)) => parsed,
            Ok(None) => return false,
            Err(_) => {
                self.close(CloseCode::Protocol, "unknown opcode");
                return false;
            }
        };
        let header_len = usize::try_from(cursor.position()).unwrap_or_default();
        let Some(mask) = header.mask else {
            self.close(CloseCode::Protocol, "frames of clients are masked");
            return false;
        };
        if header.rsv1 || header.rsv2 || header.rsv3 {
            self.close(CloseCode::Protocol, "no extension was agreed on");
            return false;
        }
        match header.opcode {
            OpCode::Control(control) => self.control(control, &header, mask, header_len, len),
            OpCode::Data(data) => self.data(data, &header, header_len, len),
        }
    }

    fn data(&mut self, data: Data, header: &FrameHeader, header_len: usize, len: u64) -> bool {
        let before = match (data, self.message) {
            (Data::Continue, Some(before)) => before,
            (Data::Text | Data::Binary, None) => 0,
            _ => {
                self.close(CloseCode::Protocol, "a fragment is out of order");
                return false;
            }
        };
        let message = before.saturating_add(len);
        if message > MAX_MESSAGE_BYTES {
            self.close(CloseCode::Size, "viewers have little to say");
            return false;
        }
        self.message = (!header.is_final).then_some(message);
        self.inbox.advance(header_len);
        self.read_over = len;
        true
    }

    fn control(
        &mut self,
        control: Control,
        header: &FrameHeader,
        mask: [u8; 4],
        header_len: usize,
        len: u64,
    ) -> bool {
        if !header.is_final || len > MAX_CONTROL_BYTES {
            self.close(CloseCode::Protocol, "control frames are short and whole");
            return false;
        }
        let len = usize::try_from(len).unwrap_or_default();
        if self.inbox.len() < header_len + len {
            return false;
        }
        self.inbox.advance(header_len);
        let mut payload = self.inbox.split_to(len);
        payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
        match control {
            Control::Ping => self.reply = Some(wire(Frame::pong(payload.freeze()))),
            Control::Close => self.returned_close(&payload),
            Control::Pong | Control::Reserved(_) => {}
        }
        !self.closed
    }

    /// A close is answered with its own code (§5.5.1).
    fn returned_close(&mut self, payload: &[u8]) {
        let code = match payload {
            [] => CloseCode::Normal,
            [high, low, reason @ ..] => {
                let code = CloseCode::from(u16::from_be_bytes([*high, *low]));
                if code.is_allowed() && std::str::from_utf8(reason).is_ok() {
                    code
                } else {
                    CloseCode::Protocol
                }
            }
            [_] => CloseCode::Protocol,
        };
        self.close(code, "");
    }
}

impl Protocol for WebSocket {
    fn input(&mut self, _now: Instant, bytes: &[u8]) {
        if self.closed {
            return;
        }
        self.inbox.extend_from_slice(bytes);
        while !self.closed && !self.inbox.is_empty() && self.frame() {}
    }

    fn output(&mut self) -> Option<Bytes> {
        self.reply.take()
    }

    fn end(&mut self, over: Over) {
        match over {
            Over::Ended => self.close(CloseCode::Normal, "the stream has ended"),
            Over::Lagged | Over::Stalled | Over::Paused => {
                self.close(CloseCode::Policy, "the line is too slow for the stream");
            }
            Over::Expired => self.close(CloseCode::Policy, "the grant has expired"),
        }
    }

    fn wish(&mut self) -> Wish {
        if self.closed { Wish::Leave } else { Wish::Play }
    }
}

fn wire(frame: Frame) -> Bytes {
    let mut bytes = Vec::with_capacity(frame.len());
    // Writing to a `Vec` cannot fail.
    let _ = frame.format(&mut bytes);
    bytes.into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![first];
        match payload.len() {
            len @ 0..=125 => frame.push(0x80 | u8::try_from(len).unwrap()),
            len => {
                frame.push(0x80 | 126);
                frame.extend_from_slice(&u16::try_from(len).unwrap().to_be_bytes());
            }
        }
        let mask = [1, 2, 3, 4];
        frame.extend_from_slice(&mask);
        frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(b, m)| b ^ m));
        frame
    }

    /// What is answered to the whole and, the same, to single bytes.
    fn answer(input: &[u8]) -> (Option<Bytes>, bool) {
        let mut whole = WebSocket::default();
        whole.input(Instant::now(), input);
        let mut bytewise = WebSocket::default();
        input.iter().for_each(|byte| bytewise.input(Instant::now(), &[*byte]));
        assert_eq!(whole.reply, bytewise.reply);
        assert_eq!(whole.closed, bytewise.closed);
        (whole.reply, whole.closed)
    }

    fn closes_with(input: &[u8], code: u16) {
        let (reply, closed) = answer(input);
        let reply = reply.expect("a close frame");
        assert!(closed);
        assert_eq!(reply[0], 0x88);
        assert_eq!(reply[2..4], code.to_be_bytes(), "{input:x?}");
    }

    #[test]
    fn pings_are_answered_also_between_fragments() {
        let mut input = masked(0x02, b"some");
        input.extend(masked(0x89, b"hello"));
        input.extend(masked(0x80, b"thing"));
        let (reply, closed) = answer(&input);
        assert!(!closed);
        assert_eq!(reply.unwrap().as_ref(), b"\x8a\x05hello");
    }

    #[test]
    fn a_close_is_returned() {
        closes_with(&masked(0x88, &1001u16.to_be_bytes()), 1001);
        closes_with(&masked(0x88, b""), 1000);
        closes_with(&masked(0x88, b"x"), 1002);
        closes_with(&masked(0x88, &1005u16.to_be_bytes()), 1002);
        closes_with(&masked(0x88, b"\x03\xe8\xff"), 1002);
    }

    #[test]
    fn who_breaks_the_protocol_is_told_so() {
        closes_with(b"\x82\x01x", 1002); // not masked
        closes_with(&masked(0xc2, b"x"), 1002); // a reserved bit
        closes_with(&masked(0x83, b"x"), 1002); // unknown opcode
        closes_with(&masked(0x80, b"x"), 1002); // continues nothing
        closes_with(&masked(0x09, b"x"), 1002); // a fragmented ping
        closes_with(&masked(0x89, &[0; 126]), 1002); // a long ping
        let mut nested = masked(0x02, b"x");
        nested.extend(masked(0x82, b"x"));
        closes_with(&nested, 1002);
        closes_with(&masked(0x82, &[0; 4097]), 1009);
        let mut fragments = masked(0x02, &[0; 4000]);
        fragments.extend(masked(0x80, &[0; 97]));
        closes_with(&fragments, 1009);
        closes_with(b"\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0", 1009); // 2⁶⁴ − 1 bytes
    }

    #[test]
    fn every_beginning_of_a_frame_is_waited_for() {
        let frame = masked(0x89, b"hello");
        for len in 0..frame.len() {
            assert_eq!(answer(&frame[..len]), (None, false));
        }
    }

    proptest! {
        #[test]
        fn bytes_of_any_kind_are_survived_and_hold_little(input in prop::collection::vec(any::<u8>(), 0..4096)) {
            let mut socket = WebSocket::default();
            for piece in input.chunks(97) {
                socket.input(Instant::now(), piece);
                if !socket.closed {
                    prop_assert!(socket.inbox.len() < 14 + 125 + 97);
                }
            }
        }
    }
}
