//! What viewers notice of slow attackers: slowhttptest's header, body and read attacks, with thousands of
//! connections each, beside viewers who fetch playlists and join HTTP-FLV.
//!
//! Each attack is made on another server, too, while nobody attacks the one that is watched: what viewers notice then is
//! what attacker and attacked take of the machine's cores, not how they are treated beside the attack.
//!
//! `cargo bench --bench attacks`; BENCH_SECONDS (20) is the length of an attack, BENCH_CONNECTIONS (4000) its size.

#![allow(missing_docs, reason = "a program")]
#![allow(clippy::print_stdout, reason = "it prints its results")]
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a bench may stop where its input is wrong"
)]

#[allow(dead_code, reason = "the benches share it, and each uses a part")]
mod clip;
#[allow(dead_code, unused_imports, reason = "the benches share it, and each uses a part")]
mod load;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::StreamExt;
use load::{Publishers, Send, Server, weir};
use media_core::flv::{Reader, TagKind};

/// Before measuring: the first segments.
const WARM_UP: Duration = Duration::from_secs(6);

/// An attack's connections are opened meanwhile; what is measured comes after.
const OPENING: Duration = Duration::from_secs(5);

/// How often an honest viewer comes.
const EVERY: Duration = Duration::from_millis(20);

/// Attacks stay short and small, whatever is asked for.
const MAX_SECONDS: u64 = 60;
const MAX_CONNECTIONS: u64 = 5_000;

/// The attacks, and what slowhttptest is told for each: the path, and how.
const ATTACKS: [(&str, &str, &[&str]); 4] = [
    ("slow headers", "/live/s0.flv", &["-H", "-i", "2"]),
    ("slow body", "/api/v1/streams", &["-B", "-i", "2", "-s", "8192"]),
    ("slow read of a live stream", "/live/s0.flv", &["-X", "-w", "512", "-y", "1024", "-n", "2", "-z", "32"]),
    ("slow read of a page", "/", &["-X", "-w", "10", "-y", "20", "-n", "5", "-z", "32", "-k", "3"]),
];

fn setting(name: &str, default: u64, max: u64) -> Result<u64> {
    match std::env::var(name) {
        Ok(text) => Ok(text.parse::<u64>().with_context(|| format!("{name}={text}"))?.clamp(10, max)),
        Err(_) => Ok(default),
    }
}

/// How long viewers waited.
#[derive(Default)]
struct Waits {
    playlist: Vec<Duration>,
    picture: Vec<Duration>,
}

fn percentile(waits: &mut [Duration], share: f64) -> Duration {
    waits.sort_unstable();
    let at = (waits.len().saturating_sub(1)) as f64 * share;
    waits.get(at.round() as usize).copied().unwrap_or_default()
}

/// The time to a playlist, over a connection of its own.
async fn playlist(base: &str) -> Result<Duration> {
    let began = Instant::now();
    let answer =
        reqwest::Client::new().get(format!("{base}/live/s0/index.m3u8")).send().await?.error_for_status()?;
    ensure!(answer.bytes().await?.starts_with(b"#EXTM3U"), "no playlist");
    Ok(began.elapsed())
}

/// The time to the first picture of an HTTP-FLV viewer.
async fn picture(base: &str) -> Result<Duration> {
    let began = Instant::now();
    let answer =
        reqwest::Client::new().get(format!("{base}/live/s0.flv")).send().await?.error_for_status()?;
    let mut body = answer.bytes_stream();
    let mut reader = Reader::new();
    while let Some(bytes) = body.next().await {
        reader.push(bytes?);
        while let Some(tag) = reader.next_tag()? {
            if tag.kind == TagKind::Video && tag.body.len() > 1_000 {
                return Ok(began.elapsed());
            }
        }
    }
    anyhow::bail!("the stream ended")
}

/// Viewers come, one after the other, for that long.
async fn watch(server: &Server, time: Duration) -> Result<Waits> {
    let base = format!("http://{}", server.http()?);
    let until = Instant::now() + time;
    let mut waits = Waits::default();
    while Instant::now() < until {
        waits.playlist.push(playlist(&base).await?);
        waits.picture.push(picture(&base).await?);
        tokio::time::sleep(EVERY).await;
    }
    Ok(waits)
}

/// Prints a row; returns both p99.
fn row(name: &str, mut waits: Waits, others: &[(Duration, Duration)]) -> (Duration, Duration) {
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let worst = (percentile(&mut waits.playlist, 0.99), percentile(&mut waits.picture, 0.99));
    let ratio = |(playlist, picture): &(Duration, Duration)| {
        format!("   {:.2} x, {:.2} x", ms(worst.0) / ms(*playlist), ms(worst.1) / ms(*picture))
    };
    let ratio: String = others.iter().map(ratio).collect();
    println!(
        "{name:<40} playlist {:>6.2} / {:>6.2}   first picture {:>6.2} / {:>6.2}{ratio}",
        ms(percentile(&mut waits.playlist, 0.5)),
        ms(worst.0),
        ms(percentile(&mut waits.picture, 0.5)),
        ms(worst.1),
    );
    worst
}

#[tokio::main]
async fn main() -> Result<()> {
    let seconds = setting("BENCH_SECONDS", 20, MAX_SECONDS)?;
    let connections = setting("BENCH_CONNECTIONS", 4_000, MAX_CONNECTIONS)?;
    let server = weir().await?;
    let mut publisher = Publishers::start(server.rtmp()?, 1, Send::Clip).await?;
    publisher.keep_sending(WARM_UP).await?;
    let time = Duration::from_secs(seconds) - OPENING;
    println!(
        "{connections} connections an attack; milliseconds p50 / p99 of honest viewers, and p99 of both against quiet, and against the same attack elsewhere:"
    );
    let other = weir().await?;
    let mut its_publisher = Publishers::start(other.rtmp()?, 1, Send::Clip).await?;
    its_publisher.keep_sending(WARM_UP).await?;
    let quiet = row("quiet", watch(&server, time).await?, &[]);
    for (name, path, how) in ATTACKS {
        let beside = attacked(&other, &server, (path, how), connections, seconds).await?;
        let beside = row(&format!("{name}, elsewhere"), beside, &[quiet]);
        let waits = attacked(&server, &server, (path, how), connections, seconds).await?;
        row(name, waits, &[quiet, beside]);
    }
    Ok(())
}

/// What viewers of a server notice while one is attacked.
async fn attacked(
    victim: &Server,
    watched: &Server,
    (path, how): (&str, &[&str]),
    connections: u64,
    seconds: u64,
) -> Result<Waits> {
    let folder = tempfile::tempdir()?;
    let (connections, length) = (connections.to_string(), seconds.to_string());
    let url = format!("http://{}{path}", victim.http()?);
    let mut attack = Command::new("slowhttptest")
        .current_dir(folder.path())
        .args(["-c", &connections, "-r", "1000", "-l", &length, "-p", "3", "-u", &url])
        .args(how)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("slowhttptest")?;
    tokio::time::sleep(OPENING).await;
    let waits = watch(watched, Duration::from_secs(seconds) - OPENING).await;
    // It ends by itself when nobody is left to attack.
    let _ = attack.kill();
    attack.wait()?;
    waits
}
