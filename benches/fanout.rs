//! What a viewer costs: processor time, latency and memory of the server, beside the floor (one thread that sends the
//! same bytes in the same flushes to as many sockets) and nginx-rtmp.
//!
//! `make bench-fanout`, or `cargo bench --bench fanout -- [--quick] [PART …]`; parts are `rows`, `scale`, `join` and
//! `streams`, or a row's first words. BENCH_SECONDS (5) is how long a row is measured, BENCH_VIEWERS (1000) by how many,
//! BENCH_ROUNDS (3) how often; the median is shown.
//!
//! A row is measured between two pauses of the publisher, so that what each viewer received is exactly what was sent
//! between them; it fails if one of weir's got less than 99 % of that.

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

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use load::statistics::{Table, ms, percentile};
use load::{Crowd, Hls, Plan, Publishers, Send, Sent, Server, Wire};

/// Loads stay short and small, whatever is asked for.
const MAX_SECONDS: u64 = 60;
const MAX_VIEWERS: u64 = 8_000;
const MAX_ROUNDS: u64 = 9;

/// Viewers who come in a second.
const JOINS_A_SECOND: f64 = 1_000.0;

/// Of the stream, before memory and then before processor time is measured.
const WARM_UP: Duration = Duration::from_secs(1);

/// Of what was sent, each viewer has to get at least this.
const MIN_SHARE: f64 = 0.99;

/// Streams of the part that has many, with two further viewers each.
const STREAMS: usize = 200;

/// Until what is kept of many streams no longer grows.
const FILLING: Duration = Duration::from_secs(10);

/// Who serves the viewers.
#[derive(Debug, Clone)]
enum Who {
    Floor(Duration),
    Weir(&'static [(&'static str, &'static str)]),
    Nginx,
}

/// One line of a table.
#[derive(Debug, Clone)]
struct Row {
    name: String,
    who: Who,
    wire: Wire,
    latency: &'static str,
    viewers: usize,
}

/// What was measured.
#[derive(Debug, Default)]
struct Figures {
    /// Processor seconds for 1000 viewers and a second.
    cpu: f64,
    p50: Duration,
    p99: Duration,
    /// Of the bitrate, by the viewer who got least.
    share: f64,
    /// Of the server for one viewer.
    memory_kib: f64,
    /// Processor seconds a second for the stream itself, with a single viewer; they are in `cpu`, too.
    stream: f64,
}

/// Where the stream comes from.
enum Source {
    Publishers(Publishers),
    /// The floor makes its own.
    Server,
}

impl Source {
    fn pause(&self, server: &mut Server, paused: bool) -> Result<()> {
        match self {
            Self::Publishers(publishers) => publishers.pause(paused),
            Self::Server => server.tell("")?,
        }
        Ok(())
    }

    /// What was sent of each stream so far.
    fn sent(&self) -> Option<Vec<Sent>> {
        match self {
            Self::Publishers(publishers) => Some(publishers.sent()),
            Self::Server => None,
        }
    }

    async fn go_on(&mut self, time: Duration) -> Result<()> {
        match self {
            Self::Publishers(publishers) => publishers.keep_sending(time).await,
            Self::Server => {
                tokio::time::sleep(time).await;
                Ok(())
            }
        }
    }
}

struct Bench {
    time: Duration,
    viewers: usize,
    /// How often each row is measured.
    rounds: usize,
    tls: Arc<rustls::ClientConfig>,
}

impl Bench {
    fn plan(&self, row: &Row, server: &Server, viewers: usize) -> Result<Plan> {
        let server = match row.wire {
            Wire::Rtmp => server.rtmp()?,
            Wire::HttpsFlv | Wire::Http2Flv | Wire::Http3Flv => server.https()?,
            Wire::HttpFlv | Wire::WsFlv => server.http()?,
        };
        Ok(Plan {
            server,
            wire: row.wire,
            viewers,
            streams: 1,
            latency: row.latency.to_owned(),
            within: Duration::from_secs_f64(viewers as f64 / JOINS_A_SECOND),
            first_pictures: false,
            tls: Some(Arc::clone(&self.tls)),
        })
    }

    async fn start(&self, who: &Who, streams: usize) -> Result<(Server, Source)> {
        let server = match who {
            Who::Floor(window) => return Ok((load::floor(*window, streams).await?, Source::Server)),
            Who::Weir(keys) => load::weir_with(keys).await?,
            Who::Nginx => load::nginx(Hls::Off).await?,
        };
        let publishers = Publishers::start(server.rtmp()?, streams, Send::Clip).await?;
        Ok((server, Source::Publishers(publishers)))
    }

    async fn measure(&self, row: &Row) -> Result<Figures> {
        let (mut server, mut source) = self.start(&row.who, 1).await?;
        source.go_on(WARM_UP).await?;
        // The first viewer brings what all of them share. While nothing is sent, more memory is for more viewers.
        let first = Crowd::start(self.plan(row, &server, 1)?)?;
        first.joined().await?;
        let (threads, began) = (server.threads()?, Instant::now());
        source.go_on(WARM_UP).await?;
        let stream = server.threads()?.seconds_since(&threads) / began.elapsed().as_secs_f64();
        source.pause(&mut server, true)?;
        first.settle().await?;
        let before = server.own_memory_kib()?;
        let crowd = Crowd::start(self.plan(row, &server, row.viewers)?)?;
        crowd.joined().await?;
        crowd.settle().await?;
        let memory_kib = (server.own_memory_kib()? - before) / row.viewers as f64;
        source.pause(&mut server, false)?;
        source.go_on(WARM_UP).await?;
        let figures = self.between_pauses(&crowd, &mut server, &mut source).await?;
        first.check()?;
        Ok(Figures {
            memory_kib,
            stream,
            cpu: figures.cpu * row.viewers as f64 / (row.viewers + 1) as f64,
            ..figures
        })
    }

    async fn between_pauses(
        &self,
        crowd: &Crowd,
        server: &mut Server,
        source: &mut Source,
    ) -> Result<Figures> {
        source.pause(server, true)?;
        crowd.settle().await?;
        let (received, sent) = (crowd.received(), source.sent());
        crowd.record(true);
        let threads = server.threads()?;
        let began = Instant::now();
        source.pause(server, false)?;
        source.go_on(self.time).await?;
        let time = began.elapsed();
        source.pause(server, true)?;
        crowd.settle().await?;
        let cpu = server.threads()?.seconds_since(&threads);
        crowd.record(false);
        source.pause(server, false)?;

        let got: Vec<f64> =
            crowd.received().iter().zip(&received).map(|(now, before)| (now - before) as f64).collect();
        let mut seen = crowd.seen();
        let share = match (sent, source.sent()) {
            (Some(before), Some(after)) => {
                let of = |index: usize| {
                    let stream = index % after.len();
                    let (before, after) = (before[stream], after[stream]);
                    (after.bytes - before.bytes, after.pictures - before.pictures)
                };
                let pictures: u64 = crowd.samples().map(|index| of(index).1).sum();
                let shares = got.iter().enumerate().map(|(index, got)| got / of(index).0 as f64);
                shares.fold(seen.latency.len() as f64 / pictures as f64, f64::min)
            }
            // The floor sends all the same.
            _ => {
                let most = got.iter().copied().fold(0.0, f64::max);
                got.iter().fold(1.0_f64, |share, got| share.min(got / most))
            }
        };
        Ok(Figures {
            cpu: cpu / got.len() as f64 / time.as_secs_f64() * 1_000.0,
            p50: percentile(&mut seen.latency, 0.5),
            p99: percentile(&mut seen.latency, 0.99),
            share,
            ..Figures::default()
        })
    }

    /// 1000 viewers come in a second while the stream runs.
    async fn join(&self, window: &'static str) -> Result<(Duration, Duration)> {
        let server = load::weir().await?;
        let mut publishers = Publishers::start(server.rtmp()?, 1, Send::Clip).await?;
        let row = Row {
            name: String::new(),
            who: Who::Weir(&[]),
            wire: Wire::HttpFlv,
            latency: window,
            viewers: self.viewers,
        };
        let first = Crowd::start(self.plan(&row, &server, 1)?)?;
        first.joined().await?;
        publishers.keep_sending(WARM_UP * 2).await?;
        let plan = Plan {
            within: Duration::from_secs(1),
            first_pictures: true,
            ..self.plan(&row, &server, self.viewers)?
        };
        let crowd = Crowd::start(plan)?;
        crowd.joined().await?;
        publishers.keep_sending(Duration::ZERO).await?;
        let mut waits = crowd.seen().first_picture;
        Ok((percentile(&mut waits, 0.5), percentile(&mut waits, 0.99)))
    }

    /// Streams with a first viewer each, and what it costs that each has more of them.
    async fn streams(&self, who: Who, streams: usize, each: usize) -> Result<(f64, Figures)> {
        let (mut server, mut source) = self.start(&who, streams).await?;
        source.go_on(WARM_UP).await?;
        let viewers = streams * each;
        let row = Row { name: String::new(), who, wire: Wire::HttpFlv, latency: "frame", viewers };
        let first = Crowd::start(Plan { streams, ..self.plan(&row, &server, streams)? })?;
        first.joined().await?;
        // Rings and HLS windows fill.
        source.go_on(FILLING).await?;
        let threads = server.threads()?;
        let began = Instant::now();
        source.go_on(self.time).await?;
        let pulled = server.threads()?.seconds_since(&threads) / began.elapsed().as_secs_f64();
        let crowd = Crowd::start(Plan { streams, ..self.plan(&row, &server, viewers)? })?;
        crowd.joined().await?;
        source.go_on(WARM_UP).await?;
        let figures = self.between_pauses(&crowd, &mut server, &mut source).await?;
        first.check()?;
        let cpu = figures.cpu - pulled / viewers as f64 * 1_000.0;
        Ok((pulled / streams as f64, Figures { cpu, ..figures }))
    }
}

const WINDOWS: [(&str, u64); 3] = [("frame", 0), ("100", 100), ("350", 350)];

fn rows(viewers: usize) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let mut add = |name: String, who: &Who, wire, latency, viewers| {
        rows.push(Row { name, who: who.clone(), wire, latency, viewers });
    };
    let label = |latency: &str| match latency.parse::<u64>() {
        Ok(ms) => format!("{ms} ms"),
        Err(_) => latency.to_owned(),
    };
    let has_backends = load::weir_has("edge.fanout", "backend")?;
    let backends: &[(&str, Who)] = if has_backends {
        &[
            ("", Who::Weir(&[("edge.fanout.backend", "send")])),
            (", io_uring", Who::Weir(&[("edge.fanout.backend", "io_uring")])),
        ]
    } else {
        &[("", Who::Weir(&[]))]
    };
    let weir = &backends[0].1;
    for (latency, window) in WINDOWS {
        let floor = Who::Floor(Duration::from_millis(window));
        add(format!("floor, {}", label(latency)), &floor, Wire::HttpFlv, latency, viewers);
        for (backend, who) in backends {
            add(format!("weir HTTP-FLV, {}{backend}", label(latency)), who, Wire::HttpFlv, latency, viewers);
        }
    }
    add("weir HTTP-FLV, auto".to_owned(), weir, Wire::HttpFlv, "auto", viewers);
    for latency in ["frame", "100", "350", "auto"] {
        add(format!("weir WS-FLV, {}", label(latency)), weir, Wire::WsFlv, latency, viewers);
    }
    add("weir RTMP, frame".to_owned(), weir, Wire::Rtmp, "frame", viewers);
    add("weir HTTPS-FLV, frame".to_owned(), weir, Wire::HttpsFlv, "frame", viewers);
    add("nginx-rtmp, RTMP".to_owned(), &Who::Nginx, Wire::Rtmp, "frame", viewers);
    // Their clients take more of the machine than the server does.
    let few = viewers / 5;
    add("floor, frame".to_owned(), &Who::Floor(Duration::ZERO), Wire::HttpFlv, "frame", few);
    add("weir HTTP/2 FLV, frame".to_owned(), weir, Wire::Http2Flv, "frame", few);
    add("weir HTTP/3 FLV, frame".to_owned(), weir, Wire::Http3Flv, "frame", few);
    Ok(rows)
}

/// The floor with which a row is compared: its own window's, `frame`'s where the server chooses.
fn window(row: &Row) -> usize {
    WINDOWS.iter().position(|(latency, _)| *latency == row.latency).unwrap_or_default()
}

/// Measures the rows, each in every round beside that round's floor, and whether all viewers got everything. Of a row's
/// rounds the median is shown.
async fn table(bench: &Bench, rows: &[Row]) -> Result<bool> {
    let mut rounds: Vec<Vec<(Figures, Option<f64>)>> = rows.iter().map(|_| Vec::new()).collect();
    for _ in 0..bench.rounds {
        let mut floors: [Option<(usize, f64)>; WINDOWS.len()] = [None; WINDOWS.len()];
        for (row, figures) in rows.iter().zip(&mut rounds) {
            let measured = bench.measure(row).await.with_context(|| row.name.clone())?;
            if matches!(row.who, Who::Floor(_)) {
                floors[window(row)] = Some((row.viewers, measured.cpu));
            }
            let floor = floors[window(row)].filter(|(viewers, _)| *viewers == row.viewers);
            let factor = floor.map(|(_, floor)| measured.cpu / floor);
            eprint_progress(&cells(row, &measured, factor));
            figures.push((measured, factor));
        }
    }
    let mut table = Table::new(&[
        "viewers",
        "N",
        "CPU-s per 1000 viewer-s",
        "x floor",
        "latency p50 ms",
        "p99 ms",
        "bitrate",
        "KiB a viewer",
        "stream alone",
    ]);
    let mut complete = true;
    for (row, mut figures) in rows.iter().zip(rounds) {
        // What a peer does not send is for the table to show.
        let judged = !matches!(row.who, Who::Nginx);
        complete &= !judged || figures.iter().all(|(figures, _)| figures.share >= MIN_SHARE);
        let cost = |(figures, factor): &(Figures, Option<f64>)| factor.unwrap_or(figures.cpu);
        figures.sort_by(|one, other| cost(one).total_cmp(&cost(other)));
        let (median, factor) = &figures[figures.len() / 2];
        table.push(cells(row, median, *factor));
    }
    println!("{}", table.render());
    Ok(complete)
}

fn cells(row: &Row, figures: &Figures, factor: Option<f64>) -> Vec<String> {
    vec![
        row.name.clone(),
        row.viewers.to_string(),
        format!("{:.4}", figures.cpu),
        factor.map_or_else(String::new, |factor| format!("{factor:.2}")),
        format!("{:.1}", ms(figures.p50)),
        format!("{:.1}", ms(figures.p99)),
        format!("{:.1} %", figures.share.min(1.0) * 100.0),
        format!("{:.2}", figures.memory_kib),
        format!("{:.4}", figures.stream),
    ]
}

/// So that one sees that it goes on.
#[allow(clippy::print_stderr, reason = "the table comes at the end")]
fn eprint_progress(cells: &[String]) {
    eprintln!("  {}", cells.join("  "));
}

fn setting(name: &str, default: u64, max: u64) -> Result<u64> {
    match std::env::var(name) {
        Ok(text) => Ok(text.parse::<u64>().with_context(|| format!("{name}={text}"))?.clamp(1, max)),
        Err(_) => Ok(default),
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    load::raise_open_files()?;
    if let [flag, address, ms, streams] = arguments.as_slice()
        && flag == "--floor"
    {
        return load::serve_floor(address.parse()?, Duration::from_millis(ms.parse()?), streams.parse()?);
    }
    let quick = arguments.iter().any(|argument| argument == "--quick");
    let wanted: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with("--")).collect();
    let wants = |part: &str| wanted.is_empty() || wanted.iter().any(|wanted| *wanted == part);
    let bench = Bench {
        time: Duration::from_secs(setting("BENCH_SECONDS", if quick { 3 } else { 5 }, MAX_SECONDS)?),
        rounds: setting("BENCH_ROUNDS", if quick { 1 } else { 3 }, MAX_ROUNDS)? as usize,
        viewers: setting("BENCH_VIEWERS", if quick { 200 } else { 1_000 }, MAX_VIEWERS)? as usize,
        tls: load::trusting_tls(),
    };
    println!(
        "fan-out of 1 Mbit/s (720p30 and AAC) on {}; {} s a row\n",
        load::machine(),
        bench.time.as_secs()
    );
    let mut complete = true;

    let all = rows(bench.viewers)?;
    let chosen: Vec<Row> = all
        .into_iter()
        .filter(|row| {
            let by_name = |wanted: &&String| row.name.starts_with(wanted.as_str());
            wants("rows") || wanted.iter().any(by_name)
        })
        .collect();
    if !chosen.is_empty() {
        complete &= table(&bench, &chosen).await?;
    }
    if wants("scale") {
        let mut scale = Vec::new();
        for viewers in if quick { [50, 200, 500] } else { [100, 1_000, 5_000] } {
            scale.extend(rows(viewers)?.into_iter().filter(|row| {
                let plain = row.wire == Wire::HttpFlv && row.latency == "frame";
                plain && row.viewers == viewers && !matches!(row.who, Who::Nginx)
            }));
        }
        println!("cost of a viewer by their number");
        complete &= table(&bench, &scale).await?;
    }
    if wants("join") {
        let mut table = Table::new(&["first picture", "p50 ms", "p99 ms"]);
        for window in ["frame", "auto"] {
            let (p50, p99) = bench.join(window).await?;
            let name = format!("{} viewers in a second, {window}", bench.viewers);
            table.push(vec![name, format!("{:.1}", ms(p50)), format!("{:.1}", ms(p99))]);
        }
        println!("{}", table.render());
    }
    if wants("streams") {
        let streams = if quick { 100 } else { STREAMS };
        let mut table = Table::new(&[
            "streams x further viewers",
            "CPU-s per 1000 viewer-s",
            "x floor",
            "x one",
            "p99 ms",
            "bitrate",
            "a stream with its first viewer",
        ]);
        let servers = [
            ("floor", Who::Floor(Duration::ZERO)),
            ("weir by send", Who::Weir(&[("edge.fanout.backend", "send")])),
            ("weir by io_uring", Who::Weir(&[("edge.fanout.backend", "io_uring")])),
        ];
        let shapes = [(1, 2 * streams), (streams, 2)];
        let mut floors = [None; 2];
        for (name, who) in servers {
            let mut one = None;
            for ((streams, each), floor) in shapes.into_iter().zip(&mut floors) {
                let (pulled, figures) = bench.streams(who.clone(), streams, each).await?;
                complete &= figures.share >= MIN_SHARE;
                let (one, floor) = (*one.get_or_insert(figures.cpu), *floor.get_or_insert(figures.cpu));
                table.push(vec![
                    format!("{name}, {streams} x {each}"),
                    format!("{:.4}", figures.cpu),
                    format!("{:.2}", figures.cpu / floor),
                    format!("{:.2}", figures.cpu / one),
                    format!("{:.1}", ms(figures.p99)),
                    format!("{:.1} %", figures.share.min(1.0) * 100.0),
                    format!("{pulled:.4}"),
                ]);
            }
        }
        println!("{}", table.render());
    }
    ensure!(complete, "somebody got less than {} % of the bitrate", MIN_SHARE * 100.0);
    Ok(())
}
