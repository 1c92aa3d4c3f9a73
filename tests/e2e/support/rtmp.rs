//! An RTMP client made by hand, so that it can be as badly behaved as a story wants. It knows no code of
//! the project.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::clip::Clip;
use super::flv::{SCRIPT, Tag};
use super::within;

/// Message types (RTMP 1.0 §5.4, §7.1).
pub const SET_CHUNK_SIZE: u8 = 1;
/// See [`SET_CHUNK_SIZE`].
pub const COMMAND: u8 = 20;
/// Chunk size that this client announces, so that most messages are one chunk.
const CHUNK_SIZE: u32 = 65_536;
/// The message stream that `createStream` gives.
const STREAM: u32 = 1;

/// A message, put together from its chunks.
#[derive(Debug, Clone)]
pub struct Message {
    /// Message type id.
    pub kind: u8,
    /// Milliseconds.
    pub timestamp: u32,
    /// Its bytes.
    pub body: Vec<u8>,
}

impl Message {
    /// Does it name this? Commands carry their strings as they are.
    pub fn says(&self, text: &str) -> bool {
        self.body.windows(text.len()).any(|window| window == text.as_bytes())
    }
}

/// The sending half.
pub struct Sender {
    socket: OwnedWriteHalf,
}

/// The receiving half.
pub struct Receiver {
    socket: OwnedReadHalf,
    chunk_size: usize,
    /// Last header and unfinished body of each chunk stream.
    streams: HashMap<u32, (Header, Vec<u8>)>,
    /// Some of a chunk was read, and not all of it.
    within_chunk: bool,
}

#[derive(Debug, Clone, Copy, Default)]
struct Header {
    timestamp: u32,
    delta: u32,
    length: usize,
    kind: u8,
    extended: bool,
}

/// A connected client, handshake done.
pub struct Client {
    /// To the server.
    pub sender: Sender,
    /// From the server.
    pub receiver: Receiver,
}

/// An AMF0 value, as far as commands need it.
#[derive(Debug, Clone)]
pub enum Amf<'a> {
    /// A number.
    Number(f64),
    /// A string.
    Text(&'a str),
    /// Nothing.
    Null,
    /// Names and values.
    Object(&'a [(&'a str, Amf<'a>)]),
}

impl Amf<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Number(n) => {
                out.push(0);
                out.extend(n.to_be_bytes());
            }
            Self::Text(text) => {
                out.push(2);
                write_text(out, text);
            }
            Self::Null => out.push(5),
            Self::Object(fields) => {
                out.push(3);
                for (name, value) in *fields {
                    write_text(out, name);
                    value.write(out);
                }
                out.extend([0, 0, 9]);
            }
        }
    }
}

fn write_text(out: &mut Vec<u8>, text: &str) {
    out.extend(u16::try_from(text.len()).unwrap().to_be_bytes());
    out.extend(text.as_bytes());
}

/// The body of a command.
pub fn command(values: &[Amf<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    for value in values {
        value.write(&mut out);
    }
    out
}

/// A chunk header of format 0 (RTMP 1.0 §5.3.1.2.1) on a chunk stream below 64.
pub fn header(chunk_stream: u8, timestamp: u32, length: u32, kind: u8, message_stream: u32) -> Vec<u8> {
    let mut out = vec![chunk_stream];
    let short = timestamp.min(0x00ff_ffff);
    out.extend(&short.to_be_bytes()[1..]);
    out.extend(&length.to_be_bytes()[1..]);
    out.push(kind);
    out.extend(message_stream.to_le_bytes());
    if short == 0x00ff_ffff {
        out.extend(timestamp.to_be_bytes());
    }
    out
}

impl Sender {
    /// Sends bytes as they are. An error means that the server is gone.
    pub async fn raw(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        within("the server to read", self.socket.write_all(bytes)).await
    }

    /// Sends a message: one chunk of format 0, then format 3.
    pub async fn message(
        &mut self,
        chunk_stream: u8,
        timestamp: u32,
        kind: u8,
        stream: u32,
        body: &[u8],
    ) -> std::io::Result<()> {
        let mut out = header(chunk_stream, timestamp, u32::try_from(body.len()).unwrap(), kind, stream);
        for (index, chunk) in body.chunks(CHUNK_SIZE as usize).enumerate() {
            if index > 0 {
                out.push(0xc0 | chunk_stream);
                if timestamp >= 0x00ff_ffff {
                    out.extend(timestamp.to_be_bytes());
                }
            }
            out.extend(chunk);
        }
        self.raw(&out).await
    }

    /// Sends a command on the connection (stream 0) or on the published stream.
    pub async fn command(&mut self, stream: u32, values: &[Amf<'_>]) -> std::io::Result<()> {
        self.message(3, 0, COMMAND, stream, &command(values)).await
    }

    /// Sends a tag as media.
    pub async fn tag(&mut self, tag: &Tag) -> std::io::Result<()> {
        let chunk_stream = if tag.kind == SCRIPT { 4 } else { tag.kind };
        self.message(chunk_stream, tag.timestamp, tag.kind, STREAM, &tag.body).await
    }
}

impl Receiver {
    /// The next message; `None` when the server has closed the connection.
    pub async fn message(&mut self) -> Option<Message> {
        within("an RTMP message", self.message_some_time()).await
    }

    async fn message_some_time(&mut self) -> Option<Message> {
        loop {
            match self.chunk().await {
                Ok(Some(message)) if message.kind == SET_CHUNK_SIZE => {
                    let size = u32::from_be_bytes(message.body[..4].try_into().unwrap());
                    self.chunk_size = usize::try_from(size).unwrap();
                }
                Ok(Some(message)) => return Some(message),
                Ok(None) => {}
                Err(_) => return None,
            }
        }
    }

    /// The next message that names this; `None` when the server closes the connection before.
    pub async fn until(&mut self, text: &str) -> Option<Message> {
        loop {
            let message = self.message().await?;
            if message.says(text) {
                return Some(message);
            }
        }
    }

    /// Reads until the server closes the connection.
    pub async fn until_closed(&mut self) {
        while self.message().await.is_some() {}
    }

    /// Whether the connection was closed in the middle of a message.
    pub fn broke_off(&self) -> bool {
        self.within_chunk || self.streams.values().any(|(_, body)| !body.is_empty())
    }

    async fn chunk(&mut self) -> std::io::Result<Option<Message>> {
        let socket = &mut self.socket;
        let first = socket.read_u8().await?;
        self.within_chunk = true;
        let id = match first & 0x3f {
            0 => u32::from(socket.read_u8().await?) + 64,
            1 => u32::from(socket.read_u16_le().await?) + 64,
            id => u32::from(id),
        };
        let (header, body) = self.streams.entry(id).or_default();
        let format = first >> 6;
        if format < 3 {
            let mut three = [0; 3];
            socket.read_exact(&mut three).await?;
            let mut time = u32::from_be_bytes([0, three[0], three[1], three[2]]);
            if format < 2 {
                socket.read_exact(&mut three).await?;
                header.length = u32::from_be_bytes([0, three[0], three[1], three[2]]) as usize;
                header.kind = socket.read_u8().await?;
            }
            if format < 1 {
                socket.read_u32_le().await?;
            }
            header.extended = time == 0x00ff_ffff;
            if header.extended {
                time = socket.read_u32().await?;
            }
            (header.timestamp, header.delta) =
                if format == 0 { (time, 0) } else { (header.timestamp.wrapping_add(time), time) };
        } else {
            if header.extended {
                socket.read_u32().await?;
            }
            if body.is_empty() {
                header.timestamp = header.timestamp.wrapping_add(header.delta);
            }
        }
        let start = body.len();
        body.resize(start + (header.length - start).min(self.chunk_size), 0);
        socket.read_exact(&mut body[start..]).await?;
        self.within_chunk = false;
        if body.len() < header.length {
            return Ok(None);
        }
        Ok(Some(Message { kind: header.kind, timestamp: header.timestamp, body: std::mem::take(body) }))
    }
}

/// The handshake's first two packets (RTMP 1.0 §5.2), without digest.
pub fn c0_c1() -> Vec<u8> {
    let mut bytes = vec![3];
    bytes.extend((0..1536u32).map(|i| if i < 8 { 0 } else { (i % 251) as u8 }));
    bytes
}

impl Client {
    /// Connects and shakes hands.
    pub async fn connect(server: SocketAddr) -> std::io::Result<Self> {
        Self::shake_hands(TcpStream::connect(server).await?).await
    }

    async fn shake_hands(mut socket: TcpStream) -> std::io::Result<Self> {
        socket.set_nodelay(true)?;
        socket.write_all(&c0_c1()).await?;
        let mut answer = vec![0; 1 + 1536 + 1536];
        within("the handshake", socket.read_exact(&mut answer)).await?;
        socket.write_all(&answer[1..1537]).await?;
        let (read, write) = socket.into_split();
        let receiver =
            Receiver { socket: read, chunk_size: 128, streams: HashMap::new(), within_chunk: false };
        Ok(Self { sender: Sender { socket: write }, receiver })
    }

    /// Connects to an app and asks for a message stream.
    pub async fn open(server: SocketAddr, app: &str) -> std::io::Result<Self> {
        Self::connect(server).await?.enter(server, app).await
    }

    /// The same, of a client that takes only a little before it reads.
    pub async fn open_narrow(server: SocketAddr, app: &str) -> std::io::Result<Self> {
        Self::shake_hands(super::connect_narrow(server).await?).await?.enter(server, app).await
    }

    async fn enter(mut self, server: SocketAddr, app: &str) -> std::io::Result<Self> {
        let tc_url = format!("rtmp://{server}/{app}");
        let arguments =
            [("app", Amf::Text(app)), ("type", Amf::Text("nonprivate")), ("tcUrl", Amf::Text(&tc_url))];
        let sender = &mut self.sender;
        sender.message(2, 0, SET_CHUNK_SIZE, 0, &CHUNK_SIZE.to_be_bytes()).await?;
        sender.command(0, &[Amf::Text("connect"), Amf::Number(1.0), Amf::Object(&arguments)]).await?;
        let gone = || std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
        self.receiver.until("NetConnection.Connect.Success").await.ok_or_else(gone)?;
        self.sender.command(0, &[Amf::Text("createStream"), Amf::Number(2.0), Amf::Null]).await?;
        self.receiver.until("_result").await.ok_or_else(gone)?;
        Ok(self)
    }

    /// Asks to publish; the server's answer is an `onStatus`.
    pub async fn publish(&mut self, name: &str) -> Option<Message> {
        let values = [Amf::Text("publish"), Amf::Number(3.0), Amf::Null, Amf::Text(name), Amf::Text("live")];
        self.sender.command(STREAM, &values).await.ok()?;
        self.receiver.until("onStatus").await
    }

    /// Asks to play; the server's answer is an `onStatus`.
    pub async fn play(&mut self, name: &str) -> Option<Message> {
        let values = [Amf::Text("play"), Amf::Number(3.0), Amf::Null, Amf::Text(name)];
        self.sender.command(STREAM, &values).await.ok()?;
        self.receiver.until("onStatus").await
    }

    /// Becomes the publisher of `app/name`.
    #[track_caller]
    pub fn publisher(server: SocketAddr, stream: &str) -> impl Future<Output = Self> {
        let (app, name) = stream.split_once('/').unwrap();
        let (app, name) = (app.to_owned(), name.to_owned());
        async move {
            let mut client = Self::open(server, &app).await.unwrap();
            let status = client.publish(&name).await.expect("publish is answered");
            assert!(status.says("NetStream.Publish.Start"), "{}", String::from_utf8_lossy(&status.body));
            client
        }
    }
}

/// A publisher that sends a clip in real time, over and over, until it is dropped.
pub struct Publication {
    task: JoinHandle<()>,
}

impl Publication {
    /// Publishes `app/name`.
    pub async fn start(server: SocketAddr, stream: &str, clip: &Clip) -> Self {
        Self::send(Client::publisher(server, stream).await, clip).await
    }

    /// Publishes by a client whose `publish` was accepted.
    pub async fn send(client: Client, clip: &Clip) -> Self {
        let Client { mut sender, mut receiver } = client;
        for tag in &clip.configurations {
            sender.tag(tag).await.unwrap();
        }
        let frames = clip.forever();
        let task = tokio::spawn(async move {
            let start = Instant::now();
            // What the server says is read and forgotten, so that it never waits for us.
            let listen = async { while receiver.message_some_time().await.is_some() {} };
            let send = async {
                for tag in frames {
                    tokio::time::sleep_until(start + Duration::from_millis(tag.timestamp.into())).await;
                    if sender.tag(&tag).await.is_err() {
                        return;
                    }
                }
            };
            tokio::select! { () = listen => {}, () = send => {} }
        });
        Self { task }
    }

    /// Has the server ended it?
    pub fn has_ended(&self) -> bool {
        self.task.is_finished()
    }
}

impl Drop for Publication {
    fn drop(&mut self) {
        self.task.abort();
    }
}
