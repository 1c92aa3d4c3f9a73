//! A line between two servers that breaks.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// Passes connections on to a server, until it is dropped.
pub struct Line {
    address: SocketAddr,
    breaks: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Line {
    /// The first connection breaks once the server has sent so many bytes by it, then the second, and so on; those behind
    /// the last of `bytes` hold.
    pub async fn to(server: SocketAddr, bytes: &'static [u64]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let breaks = Arc::new(AtomicUsize::new(0));
        let broken = Arc::clone(&breaks);
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            let mut bytes = bytes.iter();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let (most, broken) = (bytes.next().copied(), Arc::clone(&broken));
                connections.spawn(async move {
                    pass(client, TcpStream::connect(server).await.unwrap(), most).await;
                    broken.fetch_add(usize::from(most.is_some()), Ordering::SeqCst);
                });
            }
        });
        Self { address, breaks, task }
    }

    /// The server's URL over this line.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How often it broke.
    pub fn breaks(&self) -> usize {
        self.breaks.load(Ordering::SeqCst)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(mut client: TcpStream, mut server: TcpStream, most: Option<u64>) {
    let (mut asked, mut answers) = client.split();
    let (answered, mut questions) = server.split();
    let mut answered = answered.take(most.unwrap_or(u64::MAX));
    tokio::select! {
        // Whoever of them ends, the line is gone.
        _ = tokio::io::copy(&mut asked, &mut questions) => {}
        _ = tokio::io::copy(&mut answered, &mut answers) => {}
    }
}
