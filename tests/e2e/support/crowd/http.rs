//! HTTP/1.1 by hand (RFC 9112): a client that knows whether a connection was closed between two answers or in one.

use std::io::{Error, ErrorKind};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::player::CONNECT;

/// A connection.
pub(super) struct Connection {
    socket: BufReader<TcpStream>,
    host: String,
    /// The server says that this is the last answer.
    pub(super) closes: bool,
}

/// The head of an answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    length: Option<usize>,
}

/// Why there is no answer, or not all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lost {
    /// There was nothing of it, as was announced; or of a chunk.
    Closed,
    /// There was some of it, or it was owed.
    Truncated,
}

impl Connection {
    /// Connects to `host:port`.
    pub(super) async fn open(host: &str) -> std::io::Result<Self> {
        let connecting = tokio::time::timeout(CONNECT, TcpStream::connect(host));
        let socket = connecting.await.map_err(|_| Error::from(ErrorKind::TimedOut))??;
        socket.set_nodelay(true)?;
        Ok(Self { socket: BufReader::new(socket), host: host.to_owned(), closes: false })
    }

    /// Asks for a path, and reads the head of the answer.
    pub(super) async fn get(&mut self, path: &str, token: Option<&str>) -> Result<Answer, Lost> {
        let authorization =
            token.map_or_else(String::new, |token| format!("Authorization: Bearer {token}\r\n"));
        // Viewers at one address are told apart by what they call themselves.
        let agent = self.socket.get_ref().local_addr().map_or(0, |at| at.port());
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nUser-Agent: crowd/{agent}\r\n{authorization}\r\n",
            self.host
        );
        self.socket.get_mut().write_all(request.as_bytes()).await.map_err(|_| Lost::Closed)?;
        let status = self.line(if self.closes { Lost::Closed } else { Lost::Truncated }).await?;
        let status = status.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or(Lost::Truncated)?;
        let mut answer = Answer { status, length: Some(0) };
        loop {
            let line = self.line(Lost::Truncated).await?;
            let Some((name, value)) = line.split_once(':') else { return Ok(answer) };
            match (&*name.to_ascii_lowercase(), value.trim()) {
                ("content-length", length) => answer.length = length.parse().ok(),
                ("transfer-encoding", "chunked") => answer.length = None,
                ("connection", "close") => self.closes = true,
                _ => {}
            }
        }
    }

    /// All of the body.
    pub(super) async fn body(&mut self, answer: &Answer) -> Result<Vec<u8>, Lost> {
        let Some(length) = answer.length else {
            let mut all = Vec::new();
            while let Some(chunk) = self.chunk().await.map_err(|_| Lost::Truncated)? {
                all.extend(chunk);
            }
            return Ok(all);
        };
        let mut body = vec![0; length];
        self.socket.read_exact(&mut body).await.map_err(|_| Lost::Truncated)?;
        Ok(body)
    }

    /// The next chunk (§7.1); `None`: it was the last one.
    pub(super) async fn chunk(&mut self) -> Result<Option<Vec<u8>>, Lost> {
        let size = self.line(Lost::Closed).await?;
        let size = usize::from_str_radix(&size, 16).map_err(|_| Lost::Truncated)?;
        let mut chunk = vec![0; size + 2];
        self.socket.read_exact(&mut chunk).await.map_err(|_| Lost::Truncated)?;
        chunk.truncate(size);
        Ok((size > 0).then_some(chunk))
    }

    /// A line without its end; if there is nothing of it, that is why.
    async fn line(&mut self, nothing: Lost) -> Result<String, Lost> {
        let mut line = String::new();
        match self.socket.read_line(&mut line).await {
            Ok(_) if line.ends_with("\r\n") => Ok(line.trim_end().to_owned()),
            _ if line.is_empty() => Err(nothing),
            _ => Err(Lost::Truncated),
        }
    }
}
