//! Lines between two servers that break, or are cut.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
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

/// Passes connections on to a server. While it is cut nothing gets through and nobody is told, as in a network: what was sent
/// meanwhile comes when it heals.
pub struct Wire {
    address: SocketAddr,
    is_cut: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Wire {
    /// To that server.
    pub async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let is_cut = watch::Sender::new(false);
        let cuts = is_cut.clone();
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                connections.spawn(pass_unless_cut(client, server, cuts.subscribe()));
            }
        });
        Self { address, is_cut, task }
    }

    /// The server's URL over this wire.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Cuts it, or heals it.
    pub fn cut(&self, cut: bool) {
        self.is_cut.send_replace(cut);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass_unless_cut(client: TcpStream, server: SocketAddr, mut is_cut: watch::Receiver<bool>) {
    // Nor does a connection get through.
    let _ = is_cut.wait_for(|cut| !*cut).await;
    let Ok(server) = TcpStream::connect(server).await else { return };
    let (asked, answers) = client.into_split();
    let (answered, questions) = server.into_split();
    tokio::select! {
        () = carry(asked, questions, is_cut.clone()) => {}
        () = carry(answered, answers, is_cut.clone()) => {}
    }
    // That one of them has ended the other does not learn while it is cut.
    let _ = is_cut.wait_for(|cut| !*cut).await;
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut is_cut: watch::Receiver<bool>) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let Ok(count @ 1..) = from.read(&mut buffer).await else { return };
        if is_cut.wait_for(|cut| !*cut).await.is_err() || to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
