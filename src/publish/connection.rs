//! A connection to an RTMP server that has consented to a publish.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use media_core::rtmp::client::{Config, Event, Mode, Session, Target};
use media_core::rtmp::{self, Capabilities, Message};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep_until, timeout};

use super::Error;
use super::queue::{Body, Due, Kind, Queue};

/// From the first packet to the server's consent.
const OPEN_DEADLINE: Duration = Duration::from_secs(10);
/// A server that takes nothing for so long is gone: TCP itself would wait for a quarter of an hour.
const STALL_DEADLINE: Duration = Duration::from_secs(10);
/// What a server gets to take the end of the stream and close.
const CLOSE_DEADLINE: Duration = Duration::from_secs(1);
/// What waits in the kernel can't be dropped any more when the network is slow, and is late. This is enough for
/// 10 Mbit/s over a path of 200 ms.
const SEND_BUFFER_BYTES: usize = 256 * 1024;
/// What a server says is little: acknowledgements and pings.
const INPUT_BYTES: usize = 4 * 1024;

/// The connection.
pub(crate) struct Connection {
    server: String,
    socket: TcpStream,
    session: Session,
    input: BytesMut,
    output: VecDeque<Bytes>,
}

/// What happened next.
enum Next {
    Came(usize),
    Went(usize),
    Due(Option<Due>),
    Stalled,
}

impl Connection {
    /// Connects, and asks to publish. Returns when the server consents.
    pub(crate) async fn open(target: &Target) -> Result<Self, Error> {
        let server = match target.host.contains(':') {
            true => format!("[{}]:{}", target.host, target.port),
            false => format!("{}:{}", target.host, target.port),
        };
        let lost = |what: String| Error::Connection { server: server.clone(), what };
        let opening = async {
            let socket = TcpStream::connect((target.host.as_str(), target.port));
            let socket = socket.await.map_err(|error| lost(format!("cannot connect: {error}")))?;
            // Frames are whole messages; waiting to fill packets would only add delay.
            socket.set_nodelay(true).map_err(|error| lost(error.to_string()))?;
            let buffer = SockRef::from(&socket).set_send_buffer_size(SEND_BUFFER_BYTES);
            buffer.map_err(|error| lost(error.to_string()))?;
            let config = Config {
                target: target.clone(),
                mode: Mode::Publish,
                flash_ver: concat!("weir/", env!("CARGO_PKG_VERSION")).into(),
                capabilities: Capabilities::all(),
                timeout: OPEN_DEADLINE,
            };
            let session = Session::new(config, Instant::now()).map_err(|error| lost(error.to_string()))?;
            let (input, output) = (BytesMut::with_capacity(INPUT_BYTES), VecDeque::new());
            let mut connection = Self { server: server.clone(), socket, session, input, output };
            connection.start().await?;
            Ok(connection)
        };
        timeout(OPEN_DEADLINE, opening)
            .await
            .unwrap_or_else(|_| Err(lost(format!("no consent within {} s", OPEN_DEADLINE.as_secs()))))
    }

    async fn start(&mut self) -> Result<(), Error> {
        loop {
            if self.pump()? {
                return Ok(());
            }
            match self.next(None).await? {
                Next::Came(_) => self.take_input()?,
                Next::Went(n) => self.sent(n),
                Next::Due(_) => {}
                Next::Stalled => return Err(self.stalled()),
            }
        }
    }

    /// Sends what `queue` hands out until it is closed and empty, then ends the stream in good order.
    pub(crate) async fn send_all(&mut self, queue: &Queue) -> Result<(), Error> {
        let mut closed = false;
        loop {
            self.pump()?;
            if closed && self.output.is_empty() {
                self.close().await;
                return Ok(());
            }
            match self.next((!closed).then_some(queue)).await? {
                Next::Came(_) => self.take_input()?,
                Next::Went(n) => self.sent(n),
                Next::Due(Some(due)) => self.session.send(&message(due)).map_err(|e| self.broken(e))?,
                Next::Due(None) => {
                    closed = true;
                    self.session.close().map_err(|e| self.broken(e))?;
                }
                Next::Stalled => return Err(self.stalled()),
            }
        }
    }

    /// Waits for whatever can be done next. The next message is taken only when the last one went out: what
    /// the network cannot take waits in the queue, where it can be dropped.
    async fn next(&mut self, queue: Option<&Queue>) -> Result<Next, Error> {
        let (mut reader, mut writer) = self.socket.split();
        let sending = self.output.front().map(Buf::chunk);
        let stall = tokio::time::Instant::now() + STALL_DEADLINE;
        let next = tokio::select! {
            came = reader.read_buf(&mut self.input) => came.map(Next::Came),
            went = writer.write(sending.unwrap_or_default()), if sending.is_some() => went.map(Next::Went),
            due = async { match queue { Some(queue) => queue.next().await, None => None } },
                if sending.is_none() && queue.is_some() => Ok(Next::Due(due)),
            () = sleep_until(stall), if sending.is_some() => Ok(Next::Stalled),
        };
        match next {
            Ok(Next::Came(0)) => Err(self.lost("the server closed the connection")),
            Ok(next) => Ok(next),
            Err(error) => Err(self.lost(&error.to_string())),
        }
    }

    fn take_input(&mut self) -> Result<(), Error> {
        let input = self.input.split();
        self.session.handle_input(Instant::now(), &input).map_err(|error| self.broken(error))
    }

    /// Fetches what the session has to say: whether it has started now.
    fn pump(&mut self) -> Result<bool, Error> {
        let mut started = false;
        while let Some(event) = self.session.poll_event() {
            match event {
                Event::Started => started = true,
                Event::Ended(status) => {
                    return Err(self.lost(&format!("the server ended the stream: {}", status.description)));
                }
                Event::Media(_) => {}
            }
        }
        while let Some(bytes) = self.session.poll_output() {
            if !bytes.is_empty() {
                self.output.push_back(bytes);
            }
        }
        Ok(started)
    }

    fn sent(&mut self, n: usize) {
        if let Some(front) = self.output.front_mut() {
            front.advance(n.min(front.len()));
            if front.is_empty() {
                self.output.pop_front();
            }
        }
    }

    /// Closes so that the last bytes arrive: a socket that is closed with unread input is reset.
    async fn close(&mut self) {
        let closing = async {
            self.socket.shutdown().await?;
            while self.socket.read_buf(&mut self.input).await? > 0 {
                self.input.clear();
            }
            std::io::Result::Ok(())
        };
        // The stream has been ended; how the connection goes does not matter any more.
        let _ = timeout(CLOSE_DEADLINE, closing).await;
    }

    fn stalled(&self) -> Error {
        self.lost(&format!("the server took nothing for {} s", STALL_DEADLINE.as_secs()))
    }

    fn lost(&self, what: &str) -> Error {
        Error::Connection { server: self.server.clone(), what: what.to_owned() }
    }

    fn broken(&self, error: rtmp::Error) -> Error {
        match error {
            rtmp::Error::Refused { code, description } => {
                Error::Refused { server: self.server.clone(), code, description }
            }
            error => self.lost(&error.to_string()),
        }
    }
}

fn message(due: Due) -> Message {
    let kind = match due.kind {
        Kind::Header(Body::Audio) | Kind::Audio => rtmp::Kind::Audio,
        Kind::Header(Body::Video) | Kind::Video { .. } => rtmp::Kind::Video,
        Kind::Header(Body::Data) => rtmp::Kind::Data,
    };
    Message { kind, timestamp_ms: due.timestamp_ms, body: due.body }
}
