//! Publishers that come to an edge: what they send goes on to an origin, which decides about them as about its own.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use control_api::RESERVED_APPS;
use media_core::hub::StreamKey;
use media_core::rtmp::client::{self, Mode, Target};
use media_core::rtmp::server::{self, Event, Request};
use media_core::rtmp::{Capabilities, Error, Refusal};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::metrics::Metrics;

/// How much is read at once of a publisher.
const READ_BYTES: usize = 64 << 10;

/// How long an origin has for taking the connection, and then for its consent: hooks may be asked.
const CONNECT: Duration = Duration::from_secs(2);
const CONSENT: Duration = Duration::from_secs(15);

/// How long a publisher may take nothing of what is sent to it.
const STALL: Duration = Duration::from_secs(10);

/// How long an origin may take nothing of a stream, or its machine acknowledge nothing of it.
const LOST: Duration = Duration::from_secs(5);

/// What the kernel keeps for an origin (twice that, with what it needs itself, and no more than it may): an origin that
/// takes nothing is noticed when that is full.
const SEND_BYTES: usize = 512 << 10;

/// What is added to an encoder's name where its stream is passed on. Who publishes with it comes from an edge.
const PASSED_ON: &str = " (by an edge of weir)";

/// Of an encoder's name: with more of it, who reads it might cut off what is added.
const MAX_NAME_BYTES: usize = 1 << 10;

/// Origins that are tried.
const TRIES: usize = 3;

/// Who knows where streams are published.
#[async_trait]
pub trait Ingests: std::fmt::Debug + Send + Sync + 'static {
    /// Where the stream is to be published, the best first: base URLs such as `rtmp://10.0.0.1:1935`. It answers within
    /// seconds.
    async fn ingests(&self, key: &StreamKey, backup: bool) -> Vec<String>;
}

/// Why a publisher's stream goes on no longer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("the publisher: {0}")]
    Publisher(io::Error),
    #[error("the publisher: {0}")]
    Protocol(Error),
    #[error("the publisher takes nothing")]
    PublisherStalled,
    #[error("the origin: {0}")]
    Origin(io::Error),
    #[error("the origin: {0}")]
    Refused(Error),
    #[error("the origin takes nothing, or does not answer")]
    OriginStalled,
    #[error("the origin ended the stream: {0}")]
    Ended(String),
    #[error("this edge is shutting down")]
    Draining,
}

/// What an origin says that drains.
const SHUTTING_DOWN: &str = "NetConnection.Connect.AppShutdown";

impl Failure {
    /// What the publisher is told.
    fn refusal(&self) -> Refusal {
        match self {
            Self::Refused(Error::Refused { code, description }) if code == "NetStream.Publish.BadName" => {
                Refusal::bad_name(description.clone())
            }
            Self::Refused(Error::Refused { code, description }) if code == SHUTTING_DOWN => {
                Refusal::shutting_down(description.clone())
            }
            Self::Refused(Error::Refused { description, .. }) => Refusal::publish_denied(description.clone()),
            Self::Ended(why) => Refusal::bad_name(why.clone()),
            Self::Draining => Refusal::shutting_down("the server is shutting down"),
            _ => Refusal::bad_name("the stream's origin was lost; publish it again"),
        }
    }

    /// Whether another origin may do better.
    fn is_of_that_origin(&self) -> bool {
        match self {
            Self::Origin(_) | Self::OriginStalled => true,
            Self::Refused(Error::Refused { code, .. }) => code == SHUTTING_DOWN,
            Self::Refused(_) => true,
            _ => false,
        }
    }
}

/// Whether it was an edge that published this, by what it calls its encoder.
pub(super) fn is_passed_on(request: &Request) -> bool {
    request.connect.flash_ver.ends_with(PASSED_ON)
}

/// A publisher at this edge.
pub(super) struct Publisher<'a> {
    pub(super) socket: &'a mut TcpStream,
    pub(super) session: &'a mut server::Session,
    pub(super) peer: SocketAddr,
    pub(super) drain: watch::Receiver<bool>,
}

impl Publisher<'_> {
    /// Sends on what it publishes until it ends or the edge drains, or tells it why that can't be.
    pub(super) async fn forward(
        &mut self,
        ingests: &Arc<dyn Ingests>,
        request: &Request,
        metrics: &Metrics,
    ) -> Result<(), Failure> {
        let mut drain = self.drain.clone();
        let begun = tokio::select! {
            begun = self.begin(ingests, request) => begun,
            () = draining(&mut drain) => Err(Failure::Draining),
        };
        let done = match begun {
            Ok(origin) => {
                let _gauge = Counted::new(&metrics.forwarded);
                self.pass_on(origin, request).await
            }
            Err(failure) => Err(failure),
        };
        if let Err(failure) = &done
            && !matches!(failure, Failure::Publisher(_) | Failure::PublisherStalled | Failure::Protocol(_))
        {
            tracing::info!(peer = %self.peer, app = ?request.app, name = ?request.name, %failure, "a publisher is not passed on");
            self.session.refuse(request.id, &failure.refusal()).map_err(Failure::Protocol)?;
        }
        done
    }

    async fn begin(&self, ingests: &Arc<dyn Ingests>, request: &Request) -> Result<Origin, Failure> {
        let refused = |code: &str, description: String| {
            Failure::Refused(Error::Refused { code: code.to_owned(), description })
        };
        let key = StreamKey::parse(&request.app, &request.name, RESERVED_APPS)
            .map_err(|error| refused("NetStream.Publish.BadName", error.to_string()))?;
        let backup = request.param("backup").is_some_and(|value| matches!(&*value, "1" | "true"));
        let urls = ingests.ingests(&key, backup).await;
        let mut last =
            refused("NetStream.Publish.Denied", "no origin is there that takes publishers".to_owned());
        for base in urls.iter().take(TRIES) {
            match Origin::open(base, request).await {
                Ok(origin) => {
                    tracing::info!(stream = %key, peer = %self.peer, origin = base, "a publisher is passed on to its origin");
                    return Ok(origin);
                }
                Err(failure) if failure.is_of_that_origin() => {
                    tracing::info!(stream = %key, origin = base, %failure, "an origin takes no publisher");
                    last = failure;
                }
                Err(failure) => return Err(failure),
            }
        }
        Err(last)
    }

    async fn pass_on(&mut self, mut origin: Origin, request: &Request) -> Result<(), Failure> {
        self.session.accept_publish(Instant::now(), request.id).map_err(Failure::Protocol)?;
        let mut buffer = vec![0; READ_BYTES];
        let mut said = [0; 1024];
        loop {
            // What it asks for after the end of this stream is not for this origin.
            let over = loop {
                match self.session.poll_event() {
                    Some(Event::Media(message)) => origin.session.send(&message).map_err(Failure::Refused)?,
                    Some(Event::Unpublished) => break true,
                    Some(_) => {}
                    None => break false,
                }
            };
            self.flush().await?;
            if over {
                return origin.close().await;
            }
            // While it takes nothing, nothing is read of the publisher.
            origin.flush().await?;
            let deadline = self.session.poll_timeout();
            tokio::select! {
                read = self.socket.read(&mut buffer) => match read.map_err(Failure::Publisher) {
                    Ok(0) => return origin.close().await,
                    Ok(read) => {
                        let bytes = buffer.get(..read).unwrap_or_default();
                        if let Err(error) = self.session.handle_input(Instant::now(), bytes) {
                            origin.close().await?;
                            return Err(Failure::Protocol(error));
                        }
                    }
                    Err(error) => {
                        origin.close().await?;
                        return Err(error);
                    }
                },
                read = origin.socket.read(&mut said) => {
                    let read = read.map_err(Failure::Origin)?;
                    origin.heard(said.get(..read).unwrap_or_default())?;
                }
                // The stream is not ended: its viewers wait for the encoder, which comes back elsewhere.
                () = draining(&mut self.drain) => return Err(Failure::Draining),
                () = super::listener::sleep_until(deadline) => {
                    if let Err(error) = self.session.handle_timeout(Instant::now()) {
                        origin.close().await?;
                        return Err(Failure::Protocol(error));
                    }
                }
            }
        }
    }

    async fn flush(&mut self) -> Result<(), Failure> {
        while let Some(bytes) = self.session.poll_output() {
            let sent = timeout(STALL, self.socket.write_all(&bytes)).await;
            sent.map_err(|_| Failure::PublisherStalled)?.map_err(Failure::Publisher)?;
        }
        Ok(())
    }
}

/// A connection to an origin, which has consented.
struct Origin {
    socket: TcpStream,
    session: client::Session,
}

impl Origin {
    async fn open(base: &str, request: &Request) -> Result<Self, Failure> {
        let query = if request.query.is_empty() { String::new() } else { format!("?{}", request.query) };
        let url = format!("{}/{}/{}{query}", base.trim_end_matches('/'), request.app, request.name);
        let target = Target::parse(&url)
            .map_err(|error| Failure::Origin(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
        let connecting = timeout(CONNECT, TcpStream::connect((target.host.as_str(), target.port)));
        let socket = connecting.await.map_err(|_| Failure::OriginStalled)?.map_err(Failure::Origin)?;
        socket.set_nodelay(true).map_err(Failure::Origin)?;
        let options = SockRef::from(&socket);
        options.set_tcp_user_timeout(Some(LOST)).map_err(Failure::Origin)?;
        options.set_send_buffer_size(SEND_BYTES).map_err(Failure::Origin)?;
        let config = client::Config {
            target,
            mode: Mode::Publish,
            flash_ver: passed_on(&request.connect.flash_ver),
            capabilities: Capabilities::all(),
            timeout: CONSENT,
        };
        let session = client::Session::new(config, Instant::now()).map_err(Failure::Refused)?;
        let mut origin = Self { socket, session };
        timeout(CONSENT, origin.consent()).await.map_err(|_| Failure::OriginStalled)??;
        Ok(origin)
    }

    async fn consent(&mut self) -> Result<(), Failure> {
        let mut said = [0; 1024];
        loop {
            self.flush().await?;
            let read = self.socket.read(&mut said).await.map_err(Failure::Origin)?;
            if read == 0 {
                return Err(Failure::Origin(io::ErrorKind::UnexpectedEof.into()));
            }
            let bytes = said.get(..read).unwrap_or_default();
            self.session.handle_input(Instant::now(), bytes).map_err(Failure::Refused)?;
            while let Some(event) = self.session.poll_event() {
                if event == client::Event::Started {
                    return Ok(());
                }
            }
        }
    }

    /// It said something: acknowledgements, or that it is over.
    fn heard(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        if bytes.is_empty() {
            return Err(Failure::Origin(io::ErrorKind::UnexpectedEof.into()));
        }
        self.session.handle_input(Instant::now(), bytes).map_err(Failure::Refused)?;
        while let Some(event) = self.session.poll_event() {
            if let client::Event::Ended(status) = event {
                return Err(Failure::Ended(status.description.into_owned()));
            }
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), Failure> {
        while let Some(bytes) = self.session.poll_output() {
            let sent = timeout(LOST, self.socket.write_all(&bytes)).await;
            sent.map_err(|_| Failure::OriginStalled)?.map_err(Failure::Origin)?;
        }
        Ok(())
    }

    /// Ends the stream in good order.
    async fn close(mut self) -> Result<(), Failure> {
        self.session.close().map_err(Failure::Refused)?;
        self.flush().await?;
        self.socket.shutdown().await.map_err(Failure::Origin)
    }
}

/// An encoder's name, with the mark of an edge.
fn passed_on(name: &str) -> String {
    let kept = name.get(..name.floor_char_boundary(MAX_NAME_BYTES)).unwrap_or_default();
    format!("{kept}{PASSED_ON}")
}

/// Resolves when the edge drains.
pub(super) async fn draining(drain: &mut watch::Receiver<bool>) {
    // Fails where whoever would say it is gone.
    let _ = drain.wait_for(|drains| *drains).await;
}

/// One more, as long as it is there.
struct Counted(prometheus::IntGauge);

impl Counted {
    fn new(gauge: &prometheus::IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}
