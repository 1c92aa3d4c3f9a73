//! FLV read by hand: a viewer that knows of every tag when it came and what was missing.

use std::collections::VecDeque;
use std::net::SocketAddr;

use futures_util::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::within;

/// Sound.
pub const AUDIO: u8 = 8;
/// Picture.
pub const VIDEO: u8 = 9;
/// Metadata.
pub const SCRIPT: u8 = 18;

/// An FLV tag (Adobe FLV 10.1 §E.4.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    /// [`AUDIO`], [`VIDEO`] or [`SCRIPT`].
    pub kind: u8,
    /// Milliseconds.
    pub timestamp: u32,
    /// What an RTMP message of this kind carries, too.
    pub body: Vec<u8>,
}

impl Tag {
    /// A decoder configuration (legacy AVC or AAC), not media.
    pub fn is_configuration(&self) -> bool {
        match self.kind {
            VIDEO => self.body.len() > 1 && self.body[0] & 0x0f == 7 && self.body[1] == 0,
            AUDIO => self.body.len() > 1 && self.body[0] >> 4 == 10 && self.body[1] == 0,
            _ => false,
        }
    }

    /// The same of another track (Enhanced RTMP v2, `Multitrack` with `AvMultitrackType.OneTrack`), in the codecs of
    /// the legacy headers.
    pub fn on_track(&self, track: u8) -> Self {
        let packet_type = self.body[1];
        let body = match self.kind {
            // ExVideoTagHeader with PacketType 6; composition time stands before coded frames only.
            VIDEO => {
                let payload = &self.body[if packet_type == 0 { 5 } else { 2 }..];
                [&[0x80 | self.body[0] & 0xf0 | 6, packet_type], &b"avc1"[..], &[track], payload].concat()
            }
            // ExAudioTagHeader with PacketType 5.
            AUDIO => [&[0x95, packet_type], &b"mp4a"[..], &[track], &self.body[2..]].concat(),
            other => panic!("tags of kind {other} have no track"),
        };
        Self { body, ..self.clone() }
    }

    /// A picture with so many bytes more, which decoders skip: filler data (H.264 §7.4.2.7, NAL unit type 12).
    pub fn blown_up(mut self, bytes: usize) -> Self {
        self.body.extend(u32::try_from(bytes).unwrap().to_be_bytes());
        self.body.push(12);
        self.body.resize(self.body.len() + bytes - 2, 0xff);
        self.body.push(0x80);
        self
    }

    /// A picture to start with.
    pub fn is_keyframe(&self) -> bool {
        self.kind == VIDEO && self.body.first().is_some_and(|b| b >> 4 == 1) && !self.is_configuration()
    }
}

/// Splits a whole file into its tags.
pub fn tags(file: &[u8]) -> Vec<Tag> {
    let mut reader = Reader::default();
    reader.push(file);
    let mut tags = Vec::new();
    while let Some(tag) = reader.next() {
        tags.push(tag);
    }
    tags
}

/// Bytes in any pieces to tags.
#[derive(Debug, Default)]
pub struct Reader {
    bytes: VecDeque<u8>,
    past_header: bool,
}

impl Reader {
    /// Takes what came.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
    }

    /// Whether what came ends with a tag.
    pub fn is_between(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The next tag that is all there.
    #[allow(clippy::should_implement_trait, reason = "more may come after none")]
    pub fn next(&mut self) -> Option<Tag> {
        let bytes = self.bytes.make_contiguous();
        let mut start = 0;
        if !self.past_header {
            if bytes.len() < 13 {
                return None;
            }
            assert_eq!(&bytes[..4], b"FLV\x01");
            start = 13;
        }
        let head = bytes.get(start..start + 11)?;
        let length = usize::from(head[1]) << 16 | usize::from(head[2]) << 8 | usize::from(head[3]);
        let timestamp = u32::from_be_bytes([head[7], head[4], head[5], head[6]]);
        let kind = head[0];
        let end = start + 11 + length;
        let previous = bytes.get(end..end + 4)?;
        assert_eq!(previous, u32::try_from(11 + length).unwrap().to_be_bytes(), "PreviousTagSize");
        let body = bytes[start + 11..end].to_vec();
        self.bytes.drain(..end + 4);
        self.past_header = true;
        Some(Tag { kind, timestamp, body })
    }
}

/// An HTTP-FLV viewer.
pub struct Viewer {
    body: futures_util::stream::BoxStream<'static, std::io::Result<bytes::Bytes>>,
    reader: Reader,
}

impl Viewer {
    /// Asks for a stream, which must be there.
    pub async fn open(url: &str) -> Self {
        let response = within("an FLV answer", reqwest::get(url)).await.unwrap();
        assert_eq!(response.status(), 200, "{url}");
        assert_eq!(response.headers()["content-type"], "video/x-flv");
        let body = response.bytes_stream().map(|piece| piece.map_err(std::io::Error::other));
        Self { body: body.boxed(), reader: Reader::default() }
    }

    /// Asks for a stream by WebSocket.
    pub async fn open_websocket(server: SocketAddr, path: &str) -> Self {
        let mut socket = TcpStream::connect(server).await.unwrap();
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(within("a WebSocket answer", socket.read_u8()).await.unwrap());
        }
        assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
        let messages = futures_util::stream::unfold(socket, |mut socket| async move {
            let message = message(&mut socket).await.transpose()?;
            Some((message, socket))
        });
        Self { body: messages.boxed(), reader: Reader::default() }
    }

    /// The next tag; `None` at the end of the stream.
    pub async fn next(&mut self) -> Option<Tag> {
        within("an FLV tag", async {
            loop {
                if let Some(tag) = self.reader.next() {
                    return Some(tag);
                }
                match self.body.next().await {
                    Some(Ok(bytes)) => self.reader.push(&bytes),
                    Some(Err(_)) | None => return None,
                }
            }
        })
        .await
    }

    /// The next tag that is media of this kind.
    pub async fn next_frame(&mut self, kind: u8) -> Tag {
        loop {
            let tag = self.next().await.expect("the stream goes on");
            if tag.kind == kind && !tag.is_configuration() {
                return tag;
            }
        }
    }
}

/// The next binary message (RFC 6455 §5.2), which the server neither masks nor splits; `None` when it says goodbye.
async fn message(socket: &mut TcpStream) -> std::io::Result<Option<bytes::Bytes>> {
    loop {
        let (first, short) = (socket.read_u8().await?, socket.read_u8().await?);
        let len = match short {
            126 => socket.read_u16().await?.into(),
            127 => socket.read_u64().await?,
            len => len.into(),
        };
        let mut body = vec![0; usize::try_from(len).unwrap()];
        socket.read_exact(&mut body).await?;
        match first {
            0x82 => return Ok(Some(body.into())),
            0x88 => return Ok(None),
            // A ping.
            _ => {}
        }
    }
}

/// Asks for a path and then never reads.
pub async fn never_reads(server: SocketAddr, path: &str) -> TcpStream {
    let mut socket = super::connect_narrow(server).await.unwrap();
    socket.write_all(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).await.unwrap();
    // Only the answer's first byte, to know that it was taken.
    within("an answer", socket.read_u8()).await.unwrap();
    socket
}

#[test]
fn tags_come_whole_from_any_pieces() {
    let mut file = b"FLV\x01\x05\x00\x00\x00\x09\x00\x00\x00\x00".to_vec();
    file.extend([9, 0, 0, 2, 0, 0, 40, 1, 0, 0, 0, 0x17, 1, 0, 0, 0, 13]);
    let expected = Tag { kind: VIDEO, timestamp: 0x0100_0028, body: vec![0x17, 1] };
    assert_eq!(tags(&file).as_slice(), std::slice::from_ref(&expected));
    let mut reader = Reader::default();
    for byte in &file[..file.len() - 1] {
        reader.push(&[*byte]);
        assert_eq!(reader.next(), None);
    }
    reader.push(&[13]);
    assert_eq!(reader.next(), Some(expected.clone()));
    assert!(expected.is_keyframe());
}
