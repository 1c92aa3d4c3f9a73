//! One connection: bytes between its socket and its session, the session's wishes to the origin.

use std::cell::RefCell;
use std::future::{pending, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::{Poll, ready};
use std::time::{Duration, Instant};

use media_core::hub::Revoked;
use media_core::rtmp::server::{Event, Request, Session};
use media_core::rtmp::{Error, Refusal};
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::task::yield_now;
use tokio::time::{sleep_until, timeout};

use crate::auth::Pass;
use crate::ingest::Slot;
use crate::ingest::admission::{self, Asked, Refused};
use crate::ingest::publishing::Publishing as Stream;
use crate::opening::Opening;
use crate::{Publication, PublishError};

use super::publishing::{Publishing, refusal};
use super::{Handoff, Ingest};

/// What publishers come by, as it is said of them.
const PROTOCOL: &str = "rtmp";

/// How much is read at once. One buffer a thread: no connection holds one while it waits.
const READ_BYTES: usize = 64 << 10;

/// How long a client may take none of what is sent to it. It is some hundred bytes.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a client that was refused has for closing its end. Closing ours earlier, with bytes of the
/// client's unread, resets the connection and can destroy the refusal on its way.
const LINGER: Duration = Duration::from_secs(1);

/// How far away a timer is set that nothing waits for.
const FAR: Duration = Duration::from_secs(86_400);

thread_local! {
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into());
}

/// How often a connection may publish. Encoders do it once, or again after a pause; more would be a way to make
/// streams, timers and log lines at the speed of the wire.
const MAX_PUBLISHES: u32 = 64;

/// Why a connection is over.
enum End {
    /// The client closed it.
    Eof,
    /// The socket failed.
    Io(io::Error),
    /// The client took nothing of what was sent to it.
    WriteTimeout,
    /// The session failed.
    Protocol(Error),
    /// The client was refused, and told why.
    Refused,
    /// The client wants to play.
    Play(Box<Request>),
}

struct Connection {
    ingest: Ingest,
    remote: SocketAddr,
    socket: TcpStream,
    session: Session,
    publishing: Option<Publishing>,
    /// How often it asked to publish.
    publishes: u32,
}

/// Serves a connection until it is over or handed on to `home`.
pub(super) async fn serve(ingest: Ingest, socket: TcpStream, remote: SocketAddr, slot: Slot, home: Handle) {
    // Answers are small, and the client waits for them.
    let _ = socket.set_nodelay(true);
    let session = Session::new(ingest.0.config.load().session(), Instant::now());
    let mut connection = Connection { ingest, remote, socket, session, publishing: None, publishes: 0 };
    let end = connection.drive().await;
    let Connection { ingest, socket, session, publishing, .. } = connection;
    let was_publishing = publishing.is_some();
    drop(publishing);
    let reason = match end {
        End::Play(request) => {
            ingest.0.metrics.plays.inc();
            let handoff = Handoff { socket, session, request: *request, remote, slot };
            return ingest.play(handoff, &home);
        }
        End::Eof => "eof",
        End::Io(error) => {
            tracing::debug!(%remote, %error, "RTMP connection failed");
            "io"
        }
        End::WriteTimeout => "write_timeout",
        End::Refused => "refused",
        End::Protocol(error) => {
            if was_publishing {
                tracing::warn!(%remote, %error, "publisher disconnected");
            } else {
                tracing::debug!(%remote, %error, "RTMP client disconnected");
            }
            error.reason()
        }
    };
    ingest.0.metrics.closed.with_label_values(&[reason]).inc();
}

impl Connection {
    async fn drive(&mut self) -> End {
        let mut armed = self.session.poll_timeout().unwrap_or_else(|| Instant::now() + FAR);
        let mut timer = pin!(sleep_until(armed.into()));
        let mut more = false;
        loop {
            // Who was refused is not heard any more: one packet could hold many guesses of a key.
            while !self.session.is_closed()
                && let Some(event) = self.session.poll_event()
            {
                let done = match event {
                    Event::Play(request) => return End::Play(request),
                    Event::Publish(request) => self.publish(&request).await,
                    event => self.event(event),
                };
                if let Err(error) = done {
                    return self.fail(error).await;
                }
            }
            if let Err(end) = flush(&mut self.session, &mut self.socket).await {
                return end;
            }
            // After a hiccup of the network seconds of media come at once. Those who read the stream were
            // woken by what came so far; they must see it before more pushes it out of the cache.
            if std::mem::take(&mut more) {
                yield_now().await;
            }
            if self.session.is_closed() {
                // The stream's grace begins now, not when the client has closed its end.
                self.publishing = None;
                linger(&mut self.socket).await;
                return End::Refused;
            }
            // Each input moves the deadline further away: the timer is only moved nearer, and looks again
            // when it is reached.
            let deadline = self.session.poll_timeout();
            if let Some(deadline) = deadline.filter(|deadline| *deadline < armed) {
                armed = deadline;
                timer.as_mut().reset(armed.into());
            }
            let session = &mut self.session;
            let result = tokio::select! {
                biased;
                revoked = revoked(&mut self.publishing) => self.revoke(revoked),
                read = read(&mut self.socket, |bytes| {
                    more = bytes.len() == READ_BYTES;
                    session.handle_input(Instant::now(), bytes)
                }) => match read {
                    Ok(Some(result)) => result,
                    Ok(None) => return End::Eof,
                    Err(error) => return End::Io(error),
                },
                () = &mut timer => {
                    let now = Instant::now();
                    armed = self.session.poll_timeout().unwrap_or(now + FAR);
                    timer.as_mut().reset(armed.into());
                    self.session.handle_timeout(now)
                }
            };
            if let Err(error) = result {
                // What came before the mistake is good.
                while let Some(event) = self.session.poll_event() {
                    if matches!(event, Event::Media(_)) && self.event(event).is_err() {
                        break;
                    }
                }
                return self.fail(error).await;
            }
        }
    }

    /// The session is over: sends what it still has to say.
    async fn fail(&mut self, error: Error) -> End {
        match flush(&mut self.session, &mut self.socket).await {
            Ok(()) => End::Protocol(error),
            Err(end) => end,
        }
    }

    fn event(&mut self, event: Event) -> Result<(), Error> {
        match event {
            Event::Media(message) => {
                let Some(publishing) = &mut self.publishing else { return Ok(()) };
                match publishing.push(message, &self.ingest.0.metrics) {
                    Ok(()) => Ok(()),
                    Err(refusal) => self.stop(&refusal),
                }
            }
            Event::Unpublished => {
                self.publishing = None;
                Ok(())
            }
            Event::Connected(connect) => {
                tracing::debug!(remote = %self.remote, client = ?connect.flash_ver, app = ?connect.app, "RTMP client");
                Ok(())
            }
            Event::Publish(_) | Event::Play(_) | Event::Stopped | Event::Paused(_) => Ok(()),
        }
    }

    async fn publish(&mut self, request: &Request) -> Result<(), Error> {
        let opening = Opening::new(self.ingest.0.origin.tracer(), PROTOCOL, &request.app, &request.name);
        match self.permit(request, &opening).await {
            Ok(publication) => {
                self.publishing = Some(Publishing::new(request.id, Stream::new(publication, opening)));
                self.session.accept_publish(Instant::now(), request.id)
            }
            Err((reason, refusal)) => {
                opening.refused(&refusal.description);
                self.ingest.0.metrics.refused_publishes.with_label_values(&[reason]).inc();
                tracing::info!(remote = %self.remote, app = ?request.app, name = ?request.name,
                    "publisher refused: {}", refusal.description);
                self.session.refuse(request.id, &refusal)
            }
        }
    }

    async fn permit(
        &mut self,
        request: &Request,
        opening: &Opening,
    ) -> Result<Publication, (&'static str, Refusal)> {
        self.publishes += 1;
        if self.publishes > MAX_PUBLISHES {
            return Err(("too_often", Refusal::publish_denied("too many streams on one connection")));
        }
        let (key, grant) = (request.param("key"), request.param("token"));
        let asked = Asked {
            protocol: PROTOCOL,
            app: &request.app,
            name: &request.name,
            remote: self.remote,
            pass: Pass { key: key.as_deref(), grant: grant.as_deref() },
            backup: admission::is_backup(request.param("backup").as_deref()),
            query: &request.query,
            line: None,
        };
        let admitted = admission::admit(&self.ingest.0.origin, &self.ingest.0.auth, asked, opening).await;
        admitted.map_err(|refused| {
            let (reason, said) = (refused.reason(), refused.to_string());
            let refusal = match refused {
                Refused::Denied(_) => Refusal::publish_denied(said),
                Refused::Stream(PublishError::Draining) => Refusal::shutting_down(said),
                Refused::Name(_) | Refused::Stream(_) => Refusal::bad_name(said),
            };
            (reason, refusal)
        })
    }

    fn revoke(&mut self, revoked: Revoked) -> Result<(), Error> {
        self.stop(&refusal(revoked))
    }

    fn stop(&mut self, refusal: &Refusal) -> Result<(), Error> {
        let Some(publishing) = self.publishing.take() else { return Ok(()) };
        tracing::info!(remote = %self.remote, "publisher disconnected: {}", refusal.description);
        self.session.refuse(publishing.id, refusal)
    }
}

/// Completes when the publisher, if there is one, may not go on.
async fn revoked(publishing: &mut Option<Publishing>) -> Revoked {
    match publishing {
        Some(publishing) => publishing.revoked().await,
        None => pending().await,
    }
}

/// Waits for bytes and hands them to `take`; `None` at the end of the stream.
async fn read<R>(socket: &mut TcpStream, mut take: impl FnMut(&[u8]) -> R) -> io::Result<Option<R>> {
    poll_fn(|cx| {
        BUFFER.with_borrow_mut(|buffer| {
            let mut buffer = ReadBuf::new(buffer);
            ready!(Pin::new(&mut *socket).poll_read(cx, &mut buffer))?;
            let bytes = buffer.filled();
            Poll::Ready(Ok((!bytes.is_empty()).then(|| take(bytes))))
        })
    })
    .await
}

async fn flush(session: &mut Session, socket: &mut TcpStream) -> Result<(), End> {
    while let Some(bytes) = session.poll_output() {
        match timeout(WRITE_TIMEOUT, socket.write_all(&bytes)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(End::Io(error)),
            Err(_) => return Err(End::WriteTimeout),
        }
    }
    Ok(())
}

/// Closes our end and waits a little for the client's.
async fn linger(socket: &mut TcpStream) {
    let closing = async {
        socket.shutdown().await?;
        while read(socket, |_| ()).await?.is_some() {}
        io::Result::Ok(())
    };
    // Whatever comes of it, the connection is over.
    let _ = timeout(LINGER, closing).await;
}
