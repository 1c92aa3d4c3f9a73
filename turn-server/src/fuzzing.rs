//! What the fuzz targets reach of the server: messages without a socket. No part of what it is for others.

use std::any::Any;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;

use crate::desk::{self, Shared};
use crate::stream::Malformed;
use crate::{Config, MAX_NONCES, TurnServer};

/// How long a message on a stream is; `None`: that is not known yet.
#[allow(clippy::result_unit_err, reason = "it is for tests")]
pub fn length(bytes: &[u8]) -> Result<Option<usize>, ()> {
    crate::stream::length(bytes).map_err(|Malformed| ())
}

/// A server that answers to nowhere.
pub struct Desk {
    desk: desk::Desk,
    answers: Arc<Answers>,
    runtime: tokio::runtime::Runtime,
}

impl Desk {
    /// One that nobody has asked anything.
    ///
    /// # Panics
    /// Where there is no runtime to be had: it is for tests.
    #[allow(clippy::new_without_default, clippy::expect_used, reason = "it is for tests")]
    pub fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime of one thread");
        let config = Config { secret: "a secret".to_owned().into(), ..Config::default() };
        let server = TurnServer::new(config, &prometheus::Registry::new()).expect("its own registry");
        let shared: Arc<Shared> = server.shared;
        let answers = Arc::new(Answers::default());
        let conn: desk::Conn = Arc::clone(&answers) as _;
        let desk = desk::Desk::new(shared, conn, IpAddr::from([127, 0, 0, 1]), MAX_NONCES);
        Self { desk, answers, runtime }
    }

    /// Takes a message of a client.
    pub fn handle(&mut self, message: &[u8]) {
        self.runtime.block_on(self.desk.handle(message, client()));
    }

    /// The bytes of all answers.
    pub fn answered(&self) -> usize {
        self.answers.0.load(Ordering::Relaxed)
    }
}

fn client() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 7], 5_000))
}

#[derive(Default)]
struct Answers(AtomicUsize);

#[async_trait]
impl webrtc_util::Conn for Answers {
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
        self.0.fetch_add(data.len(), Ordering::Relaxed);
        Ok(data.len())
    }

    async fn send_to(&self, data: &[u8], _: SocketAddr) -> Result<usize, webrtc_util::Error> {
        self.send(data).await
    }

    fn local_addr(&self) -> Result<SocketAddr, webrtc_util::Error> {
        Ok(SocketAddr::from(([127, 0, 0, 1], 3_478)))
    }

    fn remote_addr(&self) -> Option<SocketAddr> {
        None
    }

    async fn close(&self) -> Result<(), webrtc_util::Error> {
        Ok(())
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }
}
