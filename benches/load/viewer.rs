//! Viewers that take an HTTP-FLV stream as it comes.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Viewers at work. Dropped, they disconnect.
pub(crate) struct Viewers {
    tasks: JoinSet<Result<()>>,
}

impl Viewers {
    /// Connects `count` viewers of `live/s0`, and returns when all of them get media.
    pub(crate) async fn start(server: SocketAddr, count: usize) -> Result<Self> {
        let (started, mut all_started) = tokio::sync::mpsc::channel(count.max(1));
        let mut tasks = JoinSet::new();
        for _ in 0..count {
            let started = started.clone();
            tasks.spawn(async move {
                let mut socket = TcpStream::connect(server).await?;
                let request = format!("GET /live/s0.flv HTTP/1.1\r\nHost: {server}\r\n\r\n");
                socket.write_all(request.as_bytes()).await?;
                let mut input = vec![0; 16 << 10];
                let count = socket.read(&mut input).await?;
                let head = input.get(..count).unwrap_or_default();
                ensure!(head.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(head));
                let mut wanted = 8 << 10;
                while socket.read(&mut input).await.map(|count| wanted -= count.min(wanted)).is_ok() {
                    if wanted == 0 {
                        break;
                    }
                }
                started.send(()).await?;
                while socket.read(&mut input).await? > 0 {}
                Ok(())
            });
        }
        let mut viewers = Self { tasks };
        for _ in 0..count {
            tokio::select! {
                Some(()) = all_started.recv() => {}
                error = viewers.failure() => return Err(error),
            }
        }
        Ok(viewers)
    }

    /// Lets them watch for a while; an error if one of them loses the stream.
    pub(crate) async fn keep_watching(&mut self, time: Duration) -> Result<()> {
        tokio::select! {
            () = tokio::time::sleep(time) => Ok(()),
            error = self.failure() => Err(error),
        }
    }

    async fn failure(&mut self) -> anyhow::Error {
        match self.tasks.join_next().await.context("no viewers") {
            Ok(Ok(Err(error))) => error.context("a viewer"),
            Ok(Ok(Ok(()))) => anyhow::anyhow!("a viewer's stream ended"),
            Ok(Err(error)) => error.into(),
            Err(_) => std::future::pending().await,
        }
    }
}
