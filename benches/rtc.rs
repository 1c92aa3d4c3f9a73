//! What a viewer by WebRTC costs: processor time and memory of the server, beside the floor (one thread that encrypts and
//! sends the same packets to as many sockets) and Janus, whose streaming plugin is fed the same packets.
//!
//! `make bench-rtc`, or `cargo bench --bench rtc -- [--quick]`. BENCH_VIEWERS (200) watch 1 Mbit/s, BENCH_SECONDS (10) is how
//! long each server is measured, BENCH_ROUNDS (3) how often; the median is shown. Viewers are clients in full: they decrypt,
//! and send the checks, reports and congestion feedback that browsers send. It fails if they got less than 99 % of what was
//! sent.

#![allow(missing_docs, reason = "a program")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it prints its results")]
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

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use load::statistics::Table;
use load::{Feeder, Publishers, Send, Server, Watchers};

/// Loads stay short and small, whatever is asked for.
const MAX_SECONDS: u64 = 60;
const MAX_VIEWERS: u64 = 2_000;
const MAX_ROUNDS: u64 = 9;
/// After all are connected, and before it is measured.
const WARM_UP: Duration = Duration::from_secs(3);
/// Of what was sent, viewers have to get at least this.
const MIN_SHARE: f64 = 0.99;

/// What was measured of one server.
#[derive(Debug, Clone, Copy)]
struct Figures {
    /// Packets of media that all viewers received in a second.
    packets: f64,
    /// Processor seconds of the server in a second.
    cpu: f64,
    /// Of the server's own for one viewer.
    memory_kib: Option<f64>,
}

impl Figures {
    fn packets_per_cpu(&self) -> f64 {
        self.packets / self.cpu
    }
}

struct Bench {
    viewers: usize,
    time: Duration,
}

impl Bench {
    async fn measure(&self, server: &Server, watchers: &Watchers) -> Result<Figures> {
        tokio::time::sleep(WARM_UP).await;
        let (threads, received, began) = (server.threads()?, watchers.received(), Instant::now());
        tokio::time::sleep(self.time).await;
        watchers.check()?;
        let (after, seconds) = (watchers.received(), began.elapsed().as_secs_f64());
        let packets = (after - received) as f64 / seconds;
        let cpu = server.threads()?.seconds_since(&threads) / seconds;
        Ok(Figures { packets, cpu, memory_kib: None })
    }

    async fn floor(&self) -> Result<Figures> {
        let watchers = Watchers::start()?;
        let ports: Vec<u16> = (0..self.viewers).map(|_| watchers.add_counter()).collect::<Result<_>>()?;
        let server = load::srtp_floor(&ports).await?;
        self.measure(&server, &watchers).await
    }

    async fn weir(&self) -> Result<Figures> {
        let server = load::weir().await?;
        let mut publishers = Publishers::start(server.rtmp()?, 1, Send::Pictures).await?;
        publishers.keep_sending(Duration::from_secs(1)).await?;
        let watchers = Watchers::start()?;
        let (http, url) = (reqwest::Client::new(), format!("http://{}/live/s0/whep", server.http()?));
        // What the first costs is the stream's.
        watchers.watch(&http, &url).await?;
        watchers.connected(1).await?;
        publishers.keep_sending(WARM_UP).await?;
        let before = server.own_memory_kib()?;
        for _ in 1..self.viewers {
            watchers.watch(&http, &url).await?;
        }
        watchers.connected(self.viewers as u64).await?;
        let mut figures = self.measure(&server, &watchers).await?;
        figures.memory_kib = Some((server.own_memory_kib()? - before) / (self.viewers - 1) as f64);
        Ok(figures)
    }

    async fn janus(&self) -> Result<Figures> {
        let (server, media) = load::janus().await?;
        let _feeder = Feeder::start(media, load::JANUS_PAYLOAD_TYPE)?;
        let watchers = Watchers::start()?;
        load::watch_janus(&server, &watchers, 1).await?;
        watchers.connected(1).await?;
        tokio::time::sleep(WARM_UP).await;
        let before = server.own_memory_kib()?;
        load::watch_janus(&server, &watchers, self.viewers - 1).await?;
        watchers.connected(self.viewers as u64).await?;
        let mut figures = self.measure(&server, &watchers).await?;
        figures.memory_kib = Some((server.own_memory_kib()? - before) / (self.viewers - 1) as f64);
        Ok(figures)
    }
}

fn number(name: &str, default: u64, most: u64) -> Result<u64> {
    match std::env::var(name) {
        Ok(text) => Ok(text.parse::<u64>().with_context(|| name.to_owned())?.clamp(1, most)),
        Err(_) => Ok(default),
    }
}

/// The one in the middle by its packets per processor second.
fn median(mut all: Vec<Figures>) -> Result<Figures> {
    all.sort_by(|a, b| a.packets_per_cpu().total_cmp(&b.packets_per_cpu()));
    all.get(all.len() / 2).copied().context("nothing was measured")
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if arguments.first().is_some_and(|first| first == "--floor") {
        return load::serve_srtp_floor();
    }
    load::raise_open_files()?;
    let quick = arguments.iter().any(|argument| argument == "--quick");
    let viewers = number("BENCH_VIEWERS", if quick { 50 } else { 200 }, MAX_VIEWERS)?.max(2) as usize;
    let time = Duration::from_secs(number("BENCH_SECONDS", if quick { 4 } else { 10 }, MAX_SECONDS)?);
    let rounds = number("BENCH_ROUNDS", if quick { 1 } else { 3 }, MAX_ROUNDS)?;
    let bench = Bench { viewers, time };
    println!("{}\n{viewers} viewers of 1 Mbit/s, {} s, {rounds} rounds\n", load::machine(), time.as_secs());

    let (mut floor, mut weir, mut janus) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        floor.push(bench.floor().await.context("the floor")?);
        weir.push(bench.weir().await.context("weir")?);
        janus.push(bench.janus().await.context("Janus")?);
    }
    let all = [("floor", median(floor)?), ("weir", median(weir)?), ("Janus", median(janus)?)];
    let sent = all[0].1.packets;
    let mut table = Table::new(&[
        "who",
        "packets/s",
        "CPU %",
        "µs a packet",
        "packets per CPU-s",
        "viewers per CPU-s",
        "x floor",
        "KiB a viewer",
    ]);
    for (name, figures) in &all {
        table.push(vec![
            (*name).to_owned(),
            format!("{:.0}", figures.packets),
            format!("{:.1}", figures.cpu * 100.0),
            format!("{:.2}", figures.cpu / figures.packets * 1e6),
            format!("{:.0}", figures.packets_per_cpu()),
            format!("{:.0}", viewers as f64 * figures.packets / sent / figures.cpu),
            format!("{:.2}", all[0].1.packets_per_cpu() / figures.packets_per_cpu()),
            figures.memory_kib.map_or_else(|| "-".to_owned(), |kib| format!("{kib:.0}")),
        ]);
    }
    println!("{}", table.render());
    for (name, figures) in &all {
        let share = figures.packets / sent;
        ensure!(share >= MIN_SHARE, "the viewers of {name} got {:.1} % of the packets", share * 100.0);
    }
    Ok(())
}
