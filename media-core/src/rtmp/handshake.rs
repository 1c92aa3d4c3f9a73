//! The handshake (RTMP 1.0 §5.2, and the digest variant of Flash Player 9), done by `rml_rtmp` and fed
//! exactly the bytes that belong to it.

use bytes::BytesMut;
use rml_rtmp::handshake::{Handshake as Inner, HandshakeProcessResult, PeerType};

use super::error::Error;

/// What each side sends: a version byte and two packets of 1,536 bytes.
const HANDSHAKE_BYTES: usize = 1 + 2 * 1536;

/// One side of a handshake.
pub(super) struct Handshake {
    inner: Inner,
    /// Bytes of the peer's that are still to come.
    left: usize,
}

impl Handshake {
    pub(super) fn server() -> Self {
        Self { inner: Inner::new(PeerType::Server), left: HANDSHAKE_BYTES }
    }

    /// Also appends what a client says first.
    pub(super) fn client(out: &mut BytesMut) -> Result<Self, Error> {
        let mut inner = Inner::new(PeerType::Client);
        out.extend_from_slice(&inner.generate_outbound_p0_and_p1().map_err(|_| Error::Handshake)?);
        Ok(Self { inner, left: HANDSHAKE_BYTES })
    }

    /// Takes the handshake's bytes from the front of `input`; true when it is done.
    pub(super) fn input(&mut self, input: &mut &[u8], out: &mut BytesMut) -> Result<bool, Error> {
        let (ours, rest) = input.split_at(self.left.min(input.len()));
        *input = rest;
        self.left -= ours.len();
        match self.inner.process_bytes(ours).map_err(|_| Error::Handshake)? {
            HandshakeProcessResult::InProgress { response_bytes } => {
                out.extend_from_slice(&response_bytes);
                Ok(false)
            }
            HandshakeProcessResult::Completed { response_bytes, .. } => {
                out.extend_from_slice(&response_bytes);
                Ok(true)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served(client_bytes: &[u8], piece: usize) -> (BytesMut, Result<bool, Error>, usize) {
        let mut server = Handshake::server();
        let mut out = BytesMut::new();
        let mut done = Ok(false);
        let mut taken = 0;
        for part in client_bytes.chunks(piece) {
            let mut rest = part;
            done = server.input(&mut rest, &mut out);
            taken += part.len() - rest.len();
            if done != Ok(false) {
                break;
            }
        }
        (out, done, taken)
    }

    #[test]
    fn a_simple_handshake_is_echoed() {
        let mut c0c1 = vec![3u8, 0, 0, 0, 7, 0, 0, 0, 0];
        c0c1.resize(1537, 0x5a);
        let (out, done, _) = served(&c0c1, 100);
        assert_eq!(done, Ok(false));
        assert_eq!(out.len(), HANDSHAKE_BYTES);
        assert_eq!(out[1537..], c0c1[1..], "S2 is C1");
    }

    #[test]
    fn both_sides_finish_and_leave_what_follows() {
        let (mut to_server, mut to_client) = (BytesMut::new(), BytesMut::new());
        let mut client = Handshake::client(&mut to_server).unwrap();
        let mut server = Handshake::server();
        assert_eq!(server.input(&mut &to_server.split()[..], &mut to_client), Ok(false));
        to_client.extend_from_slice(b"more");
        let mut input = &to_client[..];
        assert_eq!(client.input(&mut input, &mut to_server), Ok(true));
        assert_eq!(input, b"more");
        to_server.extend_from_slice(b"rest");
        let mut input = &to_server[..];
        assert_eq!(server.input(&mut input, &mut BytesMut::new()), Ok(true));
        assert_eq!(input, b"rest");
    }

    #[test]
    fn another_protocol_is_refused_at_its_first_byte() {
        for first in [b"GET / HTTP/1.1\r\n".as_slice(), b"\x16\x03\x01", b"\x06", b"\x00"] {
            let (_, done, taken) = served(first, 1);
            assert_eq!(done, Err(Error::Handshake));
            assert_eq!(taken, 1);
        }
    }
}
