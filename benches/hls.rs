//! LL-HLS for many: that the origin is asked once for each object however many players want it, how late thousands of
//! reloads are that wait for the same, and requests for a processor second beside nginx with the same bytes as files.
//!
//! `make bench-hls`, or `cargo bench --bench hls -- [--quick] [PART …]`; parts are `once`, `release` and `files`.
//! It fails if the origin is asked for something twice, or a player is refused.

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

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use load::statistics::{Table, ms, percentile};
use load::{Players, Publishers, Send, Server, Task};

/// Before measuring: three segments, so that there is a playlist.
const WARM_UP: Duration = Duration::from_secs(7);

const FOLDER: &str = "/live/s0/main/";

/// Connections of the client that loads files, and for how long. The publisher is silent meanwhile, so that nothing
/// leaves the playlist.
const CONNECTIONS: &str = "64";

async fn text(server: &Server, name: &str) -> Result<String> {
    let url = format!("http://{}{FOLDER}{name}", server.http()?);
    Ok(reqwest::get(url).await?.error_for_status()?.text().await?)
}

async fn upstream(server: &Server) -> Result<f64> {
    // Of every kind; nobody watches by a feed here.
    server.metric("weir_edge_upstream_requests_total", &[]).await
}

/// Players who fetch every part: what the origin is asked for, and how late they are let go.
async fn once(count: usize, time: Duration, table: &mut Table) -> Result<bool> {
    let server = load::weir().await?;
    let mut publishers = Publishers::start(server.rtmp()?, 1, Send::Clip).await?;
    publishers.keep_sending(WARM_UP).await?;
    let from = load::end_of(&text(&server, "media.m3u8").await?)?;
    let before = upstream(&server).await?;
    let players = Players::start(server.http()?, FOLDER, Task::Parts, count, from, publishers.part_clock());
    players.served().await?;
    players.record(true);
    let (threads, answers) = (server.threads()?, players.answers());
    publishers.keep_sending(time).await?;
    let cost = server.threads()?.seconds_since(&threads) / (players.answers() - answers) as f64;
    players.record(false);
    players.check()?;
    let mut seen = players.seen();
    // Objects first: what is asked for meanwhile may not count against the origin.
    let answers = players.answers();
    drop(players);
    let asked = upstream(&server).await? - before;
    let objects = seen.objects.len();
    table.push(vec![
        format!("{count} players, each part"),
        answers.to_string(),
        objects.to_string(),
        format!("{asked}"),
        format!("{:.1}", ms(percentile(&mut seen.released, 0.5))),
        format!("{:.1}", ms(percentile(&mut seen.released, 0.99))),
        format!("{:.1}", cost * 1e6),
    ]);
    Ok(asked <= objects as f64)
}

/// Players who all wait for the same segments.
async fn release(count: usize, time: Duration, table: &mut Table) -> Result<()> {
    let server = load::weir().await?;
    let mut publishers = Publishers::start(server.rtmp()?, 1, Send::Clip).await?;
    publishers.keep_sending(WARM_UP).await?;
    let from = load::end_of(&text(&server, "media.m3u8").await?)?;
    let before = upstream(&server).await?;
    let players =
        Players::start(server.http()?, FOLDER, Task::Segments, count, from, publishers.part_clock());
    players.served().await?;
    players.record(true);
    let (threads, answers) = (server.threads()?, players.answers());
    publishers.keep_sending(time).await?;
    let cost = server.threads()?.seconds_since(&threads) / (players.answers() - answers) as f64;
    players.record(false);
    players.check()?;
    let mut seen = players.seen();
    table.push(vec![
        format!("{count} players, each segment"),
        players.answers().to_string(),
        seen.objects.iter().filter(|name| name.contains("_HLS_msn")).count().to_string(),
        format!("{}", upstream(&server).await? - before),
        format!("{:.1}", ms(percentile(&mut seen.released, 0.5))),
        format!("{:.1}", ms(percentile(&mut seen.released, 0.99))),
        format!("{:.1}", cost * 1e6),
    ]);
    Ok(())
}

/// Requests for a processor second, and in all.
async fn requests(server: &Server, name: &str, seconds: u64) -> Result<(f64, f64)> {
    let url = format!("http://{}{FOLDER}{name}", server.http()?);
    let before = server.threads()?;
    let output = tokio::process::Command::new("wrk")
        .args(["-t", "1", "-c", CONNECTIONS, "-d", &format!("{seconds}s"), &url])
        .output()
        .await
        .context("wrk")?;
    let cpu = server.threads()?.seconds_since(&before);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success() && !text.contains("Non-2xx") && !text.contains("Socket errors"),
        "{text}"
    );
    let count = text.lines().find_map(|line| line.split_once(" requests in ")).context("wrk's count")?.0;
    let count: f64 = count.trim().parse()?;
    Ok((count / cpu, count))
}

/// The newest segment's name, and an ordinary part's of it.
fn names(playlist: &str) -> Result<[String; 2]> {
    let segment = playlist.lines().rfind(|line| line.ends_with(".m4s") && !line.starts_with('#'));
    let parts =
        playlist.lines().filter(|line| line.starts_with("#EXT-X-PART:") && !line.contains("INDEPENDENT"));
    let uri = |line: &str| Some(line.split_once("URI=\"")?.1.split('"').next()?.to_owned());
    let part = parts.filter_map(uri).next_back().context("no part")?;
    Ok([part, segment.context("no segment")?.to_owned()])
}

async fn files(seconds: u64, table: &mut Table) -> Result<()> {
    // Parts of two pictures are of 10 KB.
    let keys = [("origin.hls.part_ms", "80"), ("origin.rtmp.idle_timeout_ms", "120000")];
    let server = load::weir_with(&keys).await?;
    let mut publishers = Publishers::start(server.rtmp()?, 1, Send::Clip).await?;
    publishers.keep_sending(WARM_UP).await?;
    publishers.pause(true);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let folder = tempfile::tempdir()?;
    let files = folder.path().join(FOLDER.trim_start_matches('/'));
    std::fs::create_dir_all(&files)?;
    let nginx = load::nginx_files(folder.path()).await?;
    for name in names(&text(&server, "media.m3u8").await?)? {
        let url = format!("http://{}{FOLDER}{name}", server.http()?);
        let bytes = reqwest::get(url).await?.error_for_status()?.bytes().await?;
        std::fs::write(files.join(&name), &bytes)?;
        let (theirs, their_count) = requests(&nginx, &name, seconds).await?;
        let (ours, our_count) = requests(&server, &name, seconds).await?;
        table.push(vec![
            format!("{} KB", bytes.len() / 1_000),
            format!("{ours:.0}"),
            format!("{theirs:.0}"),
            format!("{:.2}", ours / theirs),
            format!("{:.0}", our_count / seconds as f64),
            format!("{:.0}", their_count / seconds as f64),
        ]);
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let quick = arguments.iter().any(|argument| argument == "--quick");
    let wanted: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with("--")).collect();
    let wants = |part: &str| wanted.is_empty() || wanted.iter().any(|wanted| *wanted == part);
    ensure!(Command::new("wrk").arg("--version").output().is_ok(), "wrk is missing: tests/setup.sh bench");
    load::raise_open_files()?;
    println!("LL-HLS of 1 Mbit/s (720p30 and AAC) on {}\n", load::machine());
    let (some, many, seconds) = if quick { (200, 500, 6) } else { (1_000, 5_000, 12) };

    let mut complete = true;
    let mut waits = Table::new(&[
        "waiting for the same",
        "answers",
        "objects",
        "asked of the origin",
        "released p50 ms",
        "p99 ms",
        "CPU-µs an answer",
    ]);
    if wants("once") {
        complete = once(some, Duration::from_secs(seconds), &mut waits).await?;
    }
    if wants("release") {
        release(many, Duration::from_secs(seconds), &mut waits).await?;
    }
    println!("{}", waits.render());
    if wants("files") {
        let mut table = Table::new(&[
            "file",
            "weir, requests per CPU-s",
            "nginx",
            "weir / nginx",
            "weir per s",
            "nginx per s",
        ]);
        files(if quick { 2 } else { 5 }, &mut table).await?;
        println!("{}", table.render());
    }
    ensure!(complete, "the origin was asked for the same object more than once");
    Ok(())
}
