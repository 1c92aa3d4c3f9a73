//! A viewer on a socket of its own: WebSocket or RTMP.
//!
//! One loop sends the stream's shared bytes, and between two flushes what the protocol answers to the
//! client. It knows neither protocol.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::Sleep;

use crate::fanout::Over;
use crate::feed::Viewer;

/// Read at once of what viewers send, which is little. Nothing more is read before what it makes the
/// protocol answer was written, so a client that asks and doesn't listen holds no more than that.
const READ_BYTES: usize = 2_048;

/// How long a client that was told goodbye may take to hang up.
const FAREWELL: Duration = Duration::from_secs(2);

/// How long a client may pause. While it does nothing is written, so a line that died would not be noticed.
pub(crate) const MAX_PAUSE: Duration = Duration::from_secs(60);

/// A protocol's side of a viewer's connection.
pub(crate) trait Protocol: Unpin {
    /// Takes what the client sent.
    fn input(&mut self, now: Instant, bytes: &[u8]);
    /// What is to be sent next, between two flushes.
    fn output(&mut self) -> Option<Bytes>;
    /// Says goodbye, because no more of the stream comes.
    fn end(&mut self, over: Over);
    /// What the client wants.
    fn wish(&mut self) -> Wish;
}

/// What a client wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    /// The stream.
    Play,
    /// Nothing, until it says so.
    Pause,
    /// The stream again, from where it is now.
    Resume,
    /// To leave, once what there is for it was sent.
    Leave,
}

/// Serves a viewer until the stream ends or either side leaves; who is no viewer is only told what the
/// protocol has to say.
pub(crate) async fn serve<S, P>(mut socket: S, viewer: Option<Viewer>, protocol: P)
where
    S: AsyncRead + AsyncWrite + Unpin,
    P: Protocol,
{
    let mut session =
        Session { viewer, protocol, sending: Bytes::new(), reply: None, pause: None, ended: false };
    match poll_fn(|cx| session.poll(&mut socket, cx)).await {
        Ok(()) => {
            drop(session);
            let hang_up = async {
                socket.shutdown().await?;
                tokio::io::copy(&mut socket.take(64 * 1024), &mut tokio::io::sink()).await
            };
            let _ = tokio::time::timeout(FAREWELL, hang_up).await;
        }
        Err(error) if error.kind() == io::ErrorKind::TimedOut => {
            if let Some(viewer) = &session.viewer {
                viewer.dropped(Over::Stalled);
            }
        }
        Err(_) => {}
    }
}

struct Session<P> {
    viewer: Option<Viewer>,
    protocol: P,
    /// What is left of what is being sent.
    sending: Bytes,
    /// What the client's last words made the protocol answer.
    reply: Option<Bytes>,
    /// Runs while the client pauses.
    pause: Option<Pin<Box<Sleep>>>,
    ended: bool,
}

impl<P: Protocol> Session<P> {
    /// Ready when all is said.
    fn poll<S>(&mut self, socket: &mut S, cx: &mut Context<'_>) -> Poll<io::Result<()>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        loop {
            let writing = self.poll_write(socket, cx)?;
            if writing.is_ready() {
                return Poll::Ready(Ok(()));
            }
            if self.reply.is_some() {
                return Poll::Pending;
            }
            // Even while a write waits: a client that leaves is noticed by reading.
            ready!(self.poll_read(socket, cx))?;
        }
    }

    /// Ready when nothing will be sent any more.
    fn poll_write<S>(&mut self, socket: &mut S, cx: &mut Context<'_>) -> Poll<io::Result<()>>
    where
        S: AsyncWrite + Unpin,
    {
        loop {
            while !self.sending.is_empty() {
                match ready!(Pin::new(&mut *socket).poll_write(cx, &self.sending))? {
                    0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    len => self.sending.advance(len),
                }
            }
            if let Some(reply) = self.reply.take().or_else(|| self.protocol.output()) {
                self.sending = reply;
                continue;
            }
            let Some(viewer) = &mut self.viewer else { return Poll::Ready(Ok(())) };
            let wish = self.protocol.wish();
            if wish != Wish::Pause {
                self.pause = None;
            }
            let next = match wish {
                Wish::Leave => return Poll::Ready(Ok(())),
                _ if self.ended => return Poll::Ready(Ok(())),
                Wish::Pause => Err(ready!(poll_paused(viewer, &mut self.pause, cx))),
                Wish::Resume => {
                    viewer.start_over();
                    continue;
                }
                Wish::Play => ready!(viewer.poll_next(cx)),
            };
            match next {
                Ok(bytes) => self.sending = bytes,
                Err(over) => {
                    self.ended = true;
                    self.protocol.end(over);
                }
            }
        }
    }

    fn poll_read<S>(&mut self, socket: &mut S, cx: &mut Context<'_>) -> Poll<io::Result<()>>
    where
        S: AsyncRead + Unpin,
    {
        let mut space = [MaybeUninit::<u8>::uninit(); READ_BYTES];
        let mut buffer = ReadBuf::uninit(&mut space);
        ready!(Pin::new(socket).poll_read(cx, &mut buffer))?;
        if buffer.filled().is_empty() {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        self.protocol.input(tokio::time::Instant::now().into_std(), buffer.filled());
        self.reply = self.protocol.output();
        Poll::Ready(Ok(()))
    }
}

/// Lets the stream pass by. Ready when it ends, or the pause has to.
fn poll_paused(viewer: &mut Viewer, pause: &mut Option<Pin<Box<Sleep>>>, cx: &mut Context<'_>) -> Poll<Over> {
    let pause = pause.get_or_insert_with(|| Box::pin(tokio::time::sleep(MAX_PAUSE)));
    if pause.as_mut().poll(cx).is_ready() {
        viewer.dropped(Over::Paused);
        return Poll::Ready(Over::Paused);
    }
    loop {
        if let Err(over) = ready!(viewer.poll_next(cx)) {
            return Poll::Ready(over);
        }
    }
}
