//! HLS files on an edge's disk: what left memory is served from there, after a restart too, and a disk that is of no use
//! costs nobody anything.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::support::until;
use crate::support::weir::Weir;

/// With the least memory that an edge may have, a hundred of them are too many.
const FILE_BYTES: usize = 200_000;
const FILES: usize = 150;

const WRITTEN: &str = "weir_edge_cache_disk_bytes_total{operation=\"write\"}";
const HITS: &str = "weir_edge_cache_disk_hits_total{kind=\"segment\"}";
const OPEN_ERRORS: &str = "weir_edge_cache_disk_errors_total{operation=\"open\"}";
const RESERVED: &str = "weir_edge_cache_bytes{tier=\"disk\"}";

/// An origin that has every segment there could be, and counts what it is asked for.
async fn origin() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(answer(socket, Arc::clone(&counter)));
        }
    });
    (at, asked)
}

async fn answer(socket: TcpStream, asked: Arc<AtomicUsize>) -> std::io::Result<()> {
    let (input, mut output) = socket.into_split();
    let mut lines = BufReader::new(input).lines();
    let mut path = None;
    while let Some(line) = lines.next_line().await? {
        path = path.or_else(|| line.split(' ').nth(1).map(str::to_owned));
        if !line.is_empty() {
            continue;
        }
        asked.fetch_add(1, Ordering::Relaxed);
        let body = body(&path.take().unwrap());
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\nContent-Length: {}\r\n\
             Cache-Control: public, max-age=31536000, immutable\r\n\r\n",
            body.len()
        );
        output.write_all(&[head.as_bytes(), &body].concat()).await?;
    }
    Ok(())
}

fn path(n: usize) -> String {
    format!("/live/a/main/7-{n}.m4s")
}

/// Of each path another.
fn body(path: &str) -> Vec<u8> {
    path.bytes().cycle().take(FILE_BYTES).collect()
}

async fn edge(origin: SocketAddr, cache: &str) -> Weir {
    let config = format!("[edge.cache]\nmemory_bytes = 16777216\n{cache}\n");
    Weir::role("edge", &config, &["--origin", &format!("http://{origin}")]).await
}

async fn fetch(edge: &Weir, files: std::ops::Range<usize>) {
    for n in files {
        let answer = edge.get(&path(n)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(answer.body == body(&path(n)), "{}", path(n));
        assert_eq!(answer.headers["content-type"], "video/mp4");
        assert_eq!(answer.headers["content-length"], FILE_BYTES.to_string());
    }
}

#[tokio::test]
async fn what_leaves_memory_is_served_from_disk_after_a_restart_too() {
    let (origin, asked) = origin().await;
    let edge = edge(origin, "disk_bytes = 134217728").await;
    assert_eq!(edge.metric(RESERVED).await, Some(134_217_728.0));
    fetch(&edge, 0..FILES).await;
    assert_eq!(asked.load(Ordering::Relaxed), FILES);
    let some = (20 * FILE_BYTES) as f64;
    until("files on disk", async || edge.metric(WRITTEN).await.filter(|bytes| *bytes >= some)).await;
    fetch(&edge, 0..10).await;
    assert_eq!(edge.metric(HITS).await, Some(10.0));
    let edge = edge.kill_and_restart().await;
    // Nobody is asked: a name never stands for other bytes.
    fetch(&edge, 0..10).await;
    assert_eq!(edge.metric(HITS).await, Some(10.0));
    assert_eq!(asked.load(Ordering::Relaxed), FILES);
    assert!(edge.dir.path().join("data/cache/blocks").is_dir());
}

#[tokio::test]
async fn without_a_disk_that_is_of_use_memory_goes_on() {
    let (origin, asked) = origin().await;
    // A file where a folder should be, one that nobody can make, and more room than any disk has.
    for cache in [
        "disk_bytes = 134217728\nfolder = \"weir.toml\"",
        "disk_bytes = 134217728\nfolder = \"/proc/weir\"",
        "disk_bytes = 1125899906842624",
    ] {
        let edge = edge(origin, cache).await;
        let before = asked.load(Ordering::Relaxed);
        fetch(&edge, 0..FILES).await;
        fetch(&edge, FILES - 10..FILES).await;
        assert_eq!(asked.load(Ordering::Relaxed) - before, FILES, "{cache}");
        assert_eq!(edge.metric(OPEN_ERRORS).await, Some(1.0), "{cache}");
        assert_eq!(edge.metric(RESERVED).await, Some(0.0), "{cache}");
        let (status, log) = edge.stop().await;
        assert!(status.success(), "{status}");
        assert_eq!(log.matches("edge.cache.disk_bytes").count(), 1, "{log}");
    }
}
