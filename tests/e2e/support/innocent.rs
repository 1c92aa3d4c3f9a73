//! A stream and its viewer that have nothing to do with what somebody else does wrong.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::task::JoinHandle;

use super::clip::{Clip, FRAME_MS, FRAME_RATE};
use super::flv::{VIDEO, Viewer};
use super::rtmp::Publication;
use super::until;
use super::weir::Weir;

/// The stream's name.
pub const NAME: &str = "live/innocent";

/// The stream, and a viewer who notices if a single picture is missing.
pub struct Innocent {
    publication: Publication,
    viewer: JoinHandle<()>,
    pictures: Arc<AtomicU32>,
}

impl Innocent {
    /// Begins to publish and to watch.
    pub async fn start(weir: &Weir) -> Self {
        let publication = Publication::start(weir.rtmp, NAME, &Clip::small().await).await;
        weir.until_live(NAME, 2).await;
        let mut viewer = Viewer::open(&weir.url(&format!("/{NAME}.flv"))).await;
        let pictures = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&pictures);
        let viewer = tokio::spawn(async move {
            let mut last = viewer.next_frame(VIDEO).await.timestamp;
            loop {
                let next = viewer.next_frame(VIDEO).await.timestamp;
                assert_eq!(next, last + FRAME_MS, "a picture is missing");
                last = next;
                counter.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { publication, viewer, pictures }
    }

    /// A second more of the stream comes in, and nothing was missing all the time.
    pub async fn assert_undisturbed(&self) {
        let goal = self.pictures.load(Ordering::Relaxed) + FRAME_RATE;
        until("the innocent stream to go on", async || {
            assert!(!self.viewer.is_finished(), "the innocent viewer missed a picture or was thrown out");
            assert!(!self.publication.has_ended(), "the innocent publisher was thrown out");
            (self.pictures.load(Ordering::Relaxed) >= goal).then_some(())
        })
        .await;
    }
}

impl Drop for Innocent {
    fn drop(&mut self) {
        self.viewer.abort();
    }
}

/// Bytes that mean nothing, the same in every run.
pub fn garbage(seed: u32, length: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

/// Sends bytes over a fresh connection and reads until the server closes it; returns what it said.
pub async fn throw(server: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    super::within("the server to close the connection", async {
        let mut socket = tokio::net::TcpStream::connect(server).await.unwrap();
        // The server may close before it has read all of it.
        let _ = socket.write_all(bytes).await;
        let mut answer = Vec::new();
        let _ = socket.read_to_end(&mut answer).await;
        answer
    })
    .await
}
