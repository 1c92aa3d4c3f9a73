//! What taking streams in costs beside nginx-rtmp, and what streams and viewers cost in memory.
//!
//! Starts nginx-rtmp (with and without HLS) and weir one after the other, publishes the same streams of
//! 1 Mbit/s to each in real time over loopback, and reads from /proc what the servers used.
//! `cargo bench --bench ingest`; BENCH_SECONDS (10) and BENCH_PUBLISHERS (100) change the load, and names of
//! rows behind `--` leave the others out.

#![allow(missing_docs, reason = "a program")]
#![allow(clippy::print_stdout, reason = "it prints its results")]
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a bench may stop where its input is wrong"
)]

mod clip;
#[allow(dead_code, unused_imports, reason = "the benches share it, and each uses a part")]
mod load;

use std::time::Duration;

use anyhow::{Context, Result};
use load::{Hls, Publishers, Send, Server, Viewers, nginx, weir};

/// Streams and viewers of the memory rows.
const IDLE_STREAMS: usize = 200;
const VIEWERS: usize = 500;

/// Before measuring: connections, first segments.
const WARM_UP: Duration = Duration::from_secs(4);

/// Before measuring weir: until what it keeps of each stream is full, and memory is used again.
const FILL: Duration = Duration::from_secs(80);

/// Loads stay short and small, whatever is asked for.
const MAX_SECONDS: u64 = 120;
const MAX_PUBLISHERS: u64 = 500;

fn setting(name: &str, default: u64, max: u64) -> Result<u64> {
    match std::env::var(name) {
        Ok(text) => Ok(text.parse::<u64>().with_context(|| format!("{name}={text}"))?.clamp(1, max)),
        Err(_) => Ok(default),
    }
}

/// Processor seconds for 100 publishers and a second.
async fn ingest(
    name: &str,
    server: Server,
    publishers: usize,
    (warm_up, time): (Duration, Duration),
) -> Result<f64> {
    let mut load = Publishers::start(server.rtmp()?, publishers, Send::Clip).await?;
    load.keep_sending(warm_up).await?;
    let (cpu, bytes) = (server.cpu_seconds()?, load.sent_bytes());
    load.keep_sending(time).await?;
    let cpu = server.cpu_seconds()? - cpu;
    let megabits = (load.sent_bytes() - bytes) as f64 * 8e-6 / time.as_secs_f64() / publishers as f64;
    let each = cpu * 100.0 / publishers as f64 / time.as_secs_f64();
    println!("{name:<16} {each:.4} CPU-s    ({megabits:.2} Mbit/s a publisher, {cpu:.2} CPU-s in all)");
    Ok(each)
}

async fn memory() -> Result<()> {
    let server = weir().await?;
    let base = server.memory_kib()?;
    let mut idle = Publishers::start(server.rtmp()?, IDLE_STREAMS, Send::FirstPicture).await?;
    idle.keep_sending(Duration::from_secs(2)).await?;
    let a_stream = (server.memory_kib()? - base) / IDLE_STREAMS as f64;
    println!(
        "memory of an idle stream: {a_stream:.1} KiB ({IDLE_STREAMS} streams with one keyframe of 20 KB)"
    );
    drop((idle, server));

    let server = weir().await?;
    let mut live = Publishers::start(server.rtmp()?, 1, Send::Clip).await?;
    let http = server.http()?;
    live.keep_sending(WARM_UP).await?;
    // The first viewer brings what all of them share.
    let mut first = Viewers::start(http, 1).await?;
    first.keep_watching(Duration::from_secs(2)).await?;
    let base = server.memory_kib()?;
    let mut viewers = Viewers::start(http, VIEWERS).await?;
    viewers.keep_watching(Duration::from_secs(2)).await?;
    let a_viewer = (server.memory_kib()? - base) / VIEWERS as f64;
    println!("memory of a viewer:       {a_viewer:.1} KiB ({VIEWERS} HTTP-FLV viewers of one stream)");
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    let time = Duration::from_secs(setting("BENCH_SECONDS", 10, MAX_SECONDS)?);
    let publishers = setting("BENCH_PUBLISHERS", 100, MAX_PUBLISHERS)? as usize;
    let wanted: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let wants = |name: &str| wanted.is_empty() || wanted.iter().any(|wanted| name == wanted);
    println!(
        "{publishers} publishers of 1 Mbit/s for {} s; processor time per 100 publishers and second:",
        time.as_secs()
    );
    let mut others = Vec::new();
    for (name, hls) in [("nginx-rtmp", Hls::Off), ("nginx-rtmp-hls", Hls::On)] {
        if wants(name) {
            others.push((name, ingest(name, nginx(hls).await?, publishers, (WARM_UP, time)).await?));
        }
    }
    if wants("weir") {
        let ours = ingest("weir", weir().await?, publishers, (FILL, time)).await?;
        for (name, theirs) in others {
            let goal = if name == "nginx-rtmp" { " (goal: at most 0.70)" } else { "" };
            println!("weir / {name}: {:.2}{goal}", ours / theirs);
        }
    }
    if wants("memory") {
        memory().await?;
    }
    Ok(())
}
