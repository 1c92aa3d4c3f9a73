//! Clients over TCP and TLS: messages one after the other on a stream (RFC 8656 §3.1, §12.5).

use std::any::Any;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;

use crate::desk::{Desk, Shared};

/// How long a TLS handshake, the first message, and then each further one may take: a client refreshes its permissions every
/// five minutes at the latest.
const HANDSHAKE: Duration = Duration::from_secs(10);
const FIRST: Duration = Duration::from_secs(10);
const QUIET: Duration = Duration::from_secs(600);

/// The same of a client that has nothing allocated.
const IDLE: Duration = Duration::from_secs(30);

/// Nonces of one client that are remembered.
const MAX_NONCES: usize = 8;

/// How long the client may take to read what is written.
const STALL: Duration = Duration::from_secs(10);

/// Messages that wait for a client that reads slowly. What more come are lost, as datagrams would be.
const MAX_WAITING: usize = 256;

/// The longest message: what UDP could carry is what peers take.
const MAX_MESSAGE_BYTES: usize = 4_096;

/// How long a message is, padding included, once its first four bytes are there. `Err`: what comes is none, and where the next
/// one begins cannot be told any more.
pub(crate) fn length(bytes: &[u8]) -> Result<Option<usize>, Malformed> {
    let [a, _, c, d, ..] = *bytes else { return Ok(None) };
    let body = usize::from(u16::from_be_bytes([c, d]));
    let length = match a {
        0x00..=0x3f => 20 + body,
        // Channels' are padded to a multiple of four on a stream.
        0x40..=0x7f => 4 + body.next_multiple_of(4),
        _ => return Err(Malformed),
    };
    if length > MAX_MESSAGE_BYTES || a <= 0x3f && body % 4 != 0 { Err(Malformed) } else { Ok(Some(length)) }
}

/// The stream carries no messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Serves one client until it leaves.
pub(crate) async fn serve(
    shared: Arc<Shared>,
    socket: TcpStream,
    from: SocketAddr,
    tls: Option<Arc<rustls::ServerConfig>>,
    relay_ip: IpAddr,
) {
    // Messages are small, and each is for now.
    let _ = socket.set_nodelay(true);
    let Ok(local) = socket.local_addr() else { return };
    let ended = match tls {
        None => converse(shared, socket, (from, local), relay_ip).await,
        Some(tls) => match timeout(HANDSHAKE, TlsAcceptor::from(tls).accept(socket)).await {
            Ok(Ok(socket)) => converse(shared, socket, (from, local), relay_ip).await,
            Ok(Err(error)) => Err(error),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        },
    };
    if let Err(error) = ended {
        tracing::debug!(%from, %error, "TURN connection");
    }
}

async fn converse(
    shared: Arc<Shared>,
    socket: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    (from, local): (SocketAddr, SocketAddr),
    relay_ip: IpAddr,
) -> io::Result<()> {
    let (mut reader, writer) = tokio::io::split(socket);
    let (sender, waiting) = mpsc::channel(MAX_WAITING);
    let conn = Arc::new(Stream { shared: Arc::clone(&shared), from, local, sender });
    let desk = Desk::new(Arc::clone(&shared), conn, relay_ip, MAX_NONCES);
    let reading = async {
        let mut buffer = BytesMut::with_capacity(MAX_MESSAGE_BYTES);
        let mut until = Instant::now() + FIRST;
        loop {
            match length(&buffer) {
                Ok(Some(length)) if buffer.len() >= length => {
                    desk.handle(buffer.get(..length).unwrap_or_default(), from).await;
                    buffer.advance(length);
                    until = Instant::now() + if desk.is_used().await { QUIET } else { IDLE };
                }
                Ok(_) => {
                    buffer.reserve(MAX_MESSAGE_BYTES);
                    match timeout_at(until, reader.read_buf(&mut buffer)).await {
                        Ok(Ok(0)) => return Ok(()),
                        Ok(Ok(_)) => {}
                        Ok(Err(error)) => return Err(error),
                        Err(_) => return Err(io::ErrorKind::TimedOut.into()),
                    }
                }
                Err(Malformed) => {
                    shared.metrics.refused("malformed");
                    return Err(io::ErrorKind::InvalidData.into());
                }
            }
        }
    };
    // Whichever ends first ends the connection.
    let ended = tokio::select! {
        ended = reading => ended,
        ended = write(writer, waiting) => ended,
    };
    desk.close().await;
    ended
}

async fn write(mut writer: impl AsyncWrite + Unpin, mut waiting: mpsc::Receiver<Vec<u8>>) -> io::Result<()> {
    while let Some(message) = waiting.recv().await {
        match timeout(STALL, writer.write_all(&message)).await {
            Ok(written) => written?,
            Err(_) => return Err(io::ErrorKind::TimedOut.into()),
        }
        if waiting.is_empty() {
            writer.flush().await?;
        }
    }
    Ok(())
}

/// What the protocol answers by.
struct Stream {
    shared: Arc<Shared>,
    from: SocketAddr,
    local: SocketAddr,
    sender: mpsc::Sender<Vec<u8>>,
}

#[async_trait]
impl webrtc_util::Conn for Stream {
    async fn connect(&self, _: SocketAddr) -> Result<(), webrtc_util::Error> {
        Ok(())
    }

    async fn recv(&self, _: &mut [u8]) -> Result<usize, webrtc_util::Error> {
        Err(io::Error::from(io::ErrorKind::Unsupported).into())
    }

    async fn recv_from(&self, _: &mut [u8]) -> Result<(usize, SocketAddr), webrtc_util::Error> {
        Err(io::Error::from(io::ErrorKind::Unsupported).into())
    }

    async fn send(&self, data: &[u8]) -> Result<usize, webrtc_util::Error> {
        if self.sender.try_send(data.to_vec()).is_err() {
            self.shared.metrics.refused("slow");
        }
        Ok(data.len())
    }

    async fn send_to(&self, data: &[u8], _: SocketAddr) -> Result<usize, webrtc_util::Error> {
        self.send(data).await
    }

    fn local_addr(&self) -> Result<SocketAddr, webrtc_util::Error> {
        Ok(self.local)
    }

    fn remote_addr(&self) -> Option<SocketAddr> {
        Some(self.from)
    }

    async fn close(&self) -> Result<(), webrtc_util::Error> {
        Ok(())
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn messages_say_how_long_they_are() {
        assert_eq!(length(&[0x00, 0x01, 0x00]), Ok(None));
        assert_eq!(length(&[0x00, 0x01, 0x00, 0x08]), Ok(Some(28)));
        assert_eq!(length(&[0x40, 0x00, 0x00, 0x05]), Ok(Some(12)));
        for nonsense in
            [[0x80, 0, 0, 0], [0x00, 0x01, 0x00, 0x03], [0x00, 0x01, 0xff, 0xfc], [0x40, 0, 0xff, 0xff]]
        {
            assert_eq!(length(&nonsense), Err(Malformed), "{nonsense:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_message_longer_than_its_bound(bytes in prop::collection::vec(any::<u8>(), 0..8)) {
            if let Ok(Some(length)) = length(&bytes) {
                prop_assert!((4..=MAX_MESSAGE_BYTES).contains(&length));
            }
        }
    }
}
