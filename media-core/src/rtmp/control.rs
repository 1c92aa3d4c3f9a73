//! Protocol control messages (RTMP 1.0 §5.4) and user control messages (§7.1.7).

use bytes::{BufMut, BytesMut};

use super::chunk::{Header, INITIAL_CHUNK_SIZE, type_id};
use super::error::Error;

/// A control message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Control {
    SetChunkSize(u32),
    Abort { chunk_stream: u32 },
    Acknowledgement { bytes: u32 },
    WindowAckSize(u32),
    SetPeerBandwidth { window: u32, limit: u8 },
    User(User),
}

/// A user control event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum User {
    StreamBegin(u32),
    StreamEof(u32),
    PingRequest(u32),
    PingResponse(u32),
    /// Set Buffer Length, Stream Dry and the like: nothing to do.
    Other(u16),
}

impl Control {
    /// From a message's type and body; `None` if it is no control message.
    pub(super) fn parse(type_id: u8, body: &[u8]) -> Result<Option<Self>, Error> {
        let word =
            || body.first_chunk::<4>().map(|b| u32::from_be_bytes(*b)).ok_or(Error::ShortControl(type_id));
        Ok(Some(match type_id {
            type_id::SET_CHUNK_SIZE => Self::SetChunkSize(word()?),
            type_id::ABORT => Self::Abort { chunk_stream: word()? },
            type_id::ACKNOWLEDGEMENT => Self::Acknowledgement { bytes: word()? },
            type_id::WINDOW_ACK_SIZE => Self::WindowAckSize(word()?),
            type_id::SET_PEER_BANDWIDTH => {
                // The limit type is left out by some.
                Self::SetPeerBandwidth { window: word()?, limit: body.get(4).copied().unwrap_or(0) }
            }
            type_id::USER_CONTROL => {
                let Some((event, data)) = body.split_first_chunk::<2>() else {
                    return Err(Error::ShortControl(type_id));
                };
                let event = u16::from_be_bytes(*event);
                let word = || {
                    data.first_chunk::<4>()
                        .map(|b| u32::from_be_bytes(*b))
                        .ok_or(Error::ShortControl(type_id))
                };
                Self::User(match event {
                    0 => User::StreamBegin(word()?),
                    1 => User::StreamEof(word()?),
                    6 => User::PingRequest(word()?),
                    7 => User::PingResponse(word()?),
                    other => User::Other(other),
                })
            }
            _ => return Ok(None),
        }))
    }

    /// Appends the message as one chunk on chunk stream 2. Never longer than the initial chunk size, so
    /// the chunk size in force does not matter.
    pub(super) fn write(self, out: &mut BytesMut) {
        let mut body = [0u8; 6];
        let mut rest = &mut body[..];
        let type_id = match self {
            Self::SetChunkSize(n) => {
                rest.put_u32(n);
                type_id::SET_CHUNK_SIZE
            }
            Self::Abort { chunk_stream } => {
                rest.put_u32(chunk_stream);
                type_id::ABORT
            }
            Self::Acknowledgement { bytes } => {
                rest.put_u32(bytes);
                type_id::ACKNOWLEDGEMENT
            }
            Self::WindowAckSize(n) => {
                rest.put_u32(n);
                type_id::WINDOW_ACK_SIZE
            }
            Self::SetPeerBandwidth { window, limit } => {
                rest.put_u32(window);
                rest.put_u8(limit);
                type_id::SET_PEER_BANDWIDTH
            }
            Self::User(user) => {
                let (event, value) = match user {
                    User::StreamBegin(id) => (0, id),
                    User::StreamEof(id) => (1, id),
                    User::PingRequest(t) => (6, t),
                    User::PingResponse(t) => (7, t),
                    User::Other(event) => (event, 0),
                };
                rest.put_u16(event);
                rest.put_u32(value);
                type_id::USER_CONTROL
            }
        };
        let unused = rest.len();
        let used = body.len() - unused;
        let header = Header { chunk_stream: 2, type_id, stream_id: 0, timestamp_ms: 0 };
        let written =
            super::chunk::write(out, INITIAL_CHUNK_SIZE, &header, &[body.get(..used).unwrap_or_default()]);
        debug_assert!(written.is_ok(), "6 bytes fit");
    }
}

#[cfg(test)]
mod tests {
    use super::super::chunk::Reader;
    use super::*;

    #[test]
    fn control_messages_round_trip() {
        for control in [
            Control::SetChunkSize(4096),
            Control::Abort { chunk_stream: 7 },
            Control::Acknowledgement { bytes: u32::MAX },
            Control::WindowAckSize(2_500_000),
            Control::SetPeerBandwidth { window: 2_500_000, limit: 2 },
            Control::User(User::StreamBegin(1)),
            Control::User(User::StreamEof(1)),
            Control::User(User::PingRequest(99)),
            Control::User(User::PingResponse(99)),
            Control::User(User::Other(3)),
        ] {
            let mut out = BytesMut::new();
            control.write(&mut out);
            let message = Reader::default().read(&mut &out[..]).unwrap().unwrap();
            assert_eq!(Control::parse(message.header.type_id, &message.body), Ok(Some(control)));
            assert_eq!(message.header.chunk_stream, 2);
        }
    }

    #[test]
    fn short_ones_are_errors() {
        for type_id in 1..=6 {
            for len in 0..4 {
                assert_eq!(Control::parse(type_id, &[0; 4][..len]), Err(Error::ShortControl(type_id)));
            }
        }
        assert_eq!(Control::parse(type_id::USER_CONTROL, &[0, 6, 1]), Err(Error::ShortControl(4)));
        assert_eq!(Control::parse(type_id::AUDIO, &[]), Ok(None));
    }
}
