//! What a viewer costs: processor time, latency and memory of the server, beside the floor (one thread that sends the
//! same bytes in the same flushes to as many sockets) and nginx-rtmp.
//!
//! `make bench-fanout`, or `cargo bench --bench fanout -- [--quick] [PART …]`; parts are `rows`, `scale`, `join` and
//! `streams`, or a row's first words. BENCH_SECONDS (5) is how long a row is measured, BENCH_VIEWERS (1000) by how many.
//!
//! A row is measured between two pauses of the publisher, so that what each viewer received is exactly what was sent
//! between them; it fails if one got less than 99 % of that.

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
use load::{Crowd, Hls, Plan, Publishers, Send, Server, Wire};

/// Loads stay short and small, whatever is asked for.
const MAX_SECONDS: u64 = 60;
const MAX_VIEWERS: u64 = 8_000;

/// Viewers who come in a second.
const JOINS_A_SECOND: f64 = 1_000.0;

/// Of the stream, before memory and then before processor time is measured.
const WARM_UP: Duration = Duration::from_secs(1);

/// Of what was sent, each viewer has to get at least this.
const MIN_SHARE: f64 = 0.99;

/// Streams of the part that has many, with two viewers each.
const STREAMS: usize = 500;

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

    /// Bytes and pictures of each stream so far.
    fn sent(&self, streams: usize) -> Option<(f64, f64)> {
        let Self::Publishers(publishers) = self else { return None };
        let each = |sum: u64| sum as f64 / streams as f64;
        Some((each(publishers.sent_bytes()), each(publishers.sent_pictures())))
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
    tls: Arc<rustls::ClientConfig>,
}

impl Bench {
    fn plan(&self, row: &Row, server: &Server, viewers: usize) -> Result<Plan> {
        let server = match row.wire {
            Wire::Rtmp => server.rtmp()?,
            Wire::HttpsFlv => server.https()?,
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

    async fn start(&self, row: &Row) -> Result<(Server, Source)> {
        let server = match &row.who {
            Who::Floor(window) => return Ok((load::floor(*window).await?, Source::Server)),
            Who::Weir(keys) => load::weir_with(keys).await?,
            Who::Nginx => load::nginx(Hls::Off).await?,
        };
        let publishers = Publishers::start(server.rtmp()?, 1, Send::Clip).await?;
        Ok((server, Source::Publishers(publishers)))
    }

    async fn measure(&self, row: &Row) -> Result<Figures> {
        let (mut server, mut source) = self.start(row).await?;
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
        let figures = self.between_pauses(&crowd, &mut server, &mut source, 1).await?;
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
        streams: usize,
    ) -> Result<Figures> {
        source.pause(server, true)?;
        crowd.settle().await?;
        let (received, sent) = (crowd.received(), source.sent(streams));
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
        let least = got.iter().copied().fold(f64::INFINITY, f64::min);
        let most = got.iter().copied().fold(0.0, f64::max);
        let mut seen = crowd.seen();
        let mut share = 1.0_f64;
        if let (Some(before), Some(after)) = (sent, source.sent(streams)) {
            let pictures = seen.latency.len() as f64 / crowd.samples() as f64;
            share = share.min(pictures / (after.1 - before.1));
            if streams == 1 {
                share = share.min(least / (after.0 - before.0));
            }
        }
        // Of many streams, some have a keyframe more between the pauses than others.
        if streams == 1 {
            share = share.min(least / most);
        }
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

    /// As many viewers, on one stream and on many: what they cost beyond the streams that nobody watches.
    async fn streams(&self, streams: usize, viewers: usize) -> Result<Figures> {
        let mut server = load::weir().await?;
        let mut source = Source::Publishers(Publishers::start(server.rtmp()?, streams, Send::Clip).await?);
        source.go_on(WARM_UP * 2).await?;
        let threads = server.threads()?;
        let began = Instant::now();
        source.go_on(self.time).await?;
        let idle = server.threads()?.seconds_since(&threads) / began.elapsed().as_secs_f64();
        let row =
            Row { name: String::new(), who: Who::Weir(&[]), wire: Wire::HttpFlv, latency: "frame", viewers };
        let crowd = Crowd::start(Plan { streams, ..self.plan(&row, &server, viewers)? })?;
        crowd.joined().await?;
        source.go_on(WARM_UP).await?;
        let figures = self.between_pauses(&crowd, &mut server, &mut source, streams).await?;
        Ok(Figures { cpu: figures.cpu - idle / viewers as f64 * 1_000.0, ..figures })
    }
}

const WINDOWS: [(&str, u64); 3] = [("frame", 0), ("100", 100), ("350", 350)];

fn rows(viewers: usize) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let mut add = |name: String, who: &Who, wire, latency| {
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
        add(format!("floor, {}", label(latency)), &floor, Wire::HttpFlv, latency);
        for (backend, who) in backends {
            add(format!("weir HTTP-FLV, {}{backend}", label(latency)), who, Wire::HttpFlv, latency);
        }
    }
    add("weir HTTP-FLV, auto".to_owned(), weir, Wire::HttpFlv, "auto");
    for latency in ["frame", "100", "350", "auto"] {
        add(format!("weir WS-FLV, {}", label(latency)), weir, Wire::WsFlv, latency);
    }
    add("weir RTMP, frame".to_owned(), weir, Wire::Rtmp, "frame");
    add("weir HTTPS-FLV, frame".to_owned(), weir, Wire::HttpsFlv, "frame");
    add("nginx-rtmp, RTMP".to_owned(), &Who::Nginx, Wire::Rtmp, "frame");
    Ok(rows)
}

/// The floor with which a row is compared: its own window's, `frame`'s where the server chooses.
fn window(row: &Row) -> usize {
    WINDOWS.iter().position(|(latency, _)| *latency == row.latency).unwrap_or_default()
}

/// Measures the rows, and whether all viewers got everything.
async fn table(bench: &Bench, rows: &[Row]) -> Result<bool> {
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
    let mut floors: [Option<(usize, f64)>; WINDOWS.len()] = [None; WINDOWS.len()];
    for row in rows {
        let figures = bench.measure(row).await.with_context(|| row.name.clone())?;
        if matches!(row.who, Who::Floor(_)) {
            floors[window(row)] = Some((row.viewers, figures.cpu));
        }
        let floor = floors[window(row)].filter(|(viewers, _)| *viewers == row.viewers);
        complete &= figures.share >= MIN_SHARE;
        let cells = vec![
            row.name.clone(),
            row.viewers.to_string(),
            format!("{:.4}", figures.cpu),
            floor.map_or_else(String::new, |(_, floor)| format!("{:.2}", figures.cpu / floor)),
            format!("{:.1}", ms(figures.p50)),
            format!("{:.1}", ms(figures.p99)),
            format!("{:.1} %", figures.share.min(1.0) * 100.0),
            format!("{:.2}", figures.memory_kib),
            format!("{:.4}", figures.stream),
        ];
        eprint_progress(&cells);
        table.push(cells);
    }
    println!("{}", table.render());
    Ok(complete)
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
    if let [flag, address, ms] = arguments.as_slice()
        && flag == "--floor"
    {
        return load::serve_floor(address.parse()?, Duration::from_millis(ms.parse()?));
    }
    let quick = arguments.iter().any(|argument| argument == "--quick");
    let wanted: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with("--")).collect();
    let wants = |part: &str| wanted.is_empty() || wanted.iter().any(|wanted| *wanted == part);
    let bench = Bench {
        time: Duration::from_secs(setting("BENCH_SECONDS", if quick { 3 } else { 5 }, MAX_SECONDS)?),
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
                plain && !matches!(row.who, Who::Nginx)
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
        let mut table =
            Table::new(&["streams x viewers", "CPU-s per 1000 viewer-s", "x one", "p99 ms", "bitrate"]);
        let mut one = None;
        for (streams, each) in [(1, 2 * streams), (streams, 2)] {
            let figures = bench.streams(streams, streams * each).await?;
            complete &= figures.share >= MIN_SHARE;
            let one = *one.get_or_insert(figures.cpu);
            table.push(vec![
                format!("{streams} x {each}"),
                format!("{:.4}", figures.cpu),
                format!("{:.2}", figures.cpu / one),
                format!("{:.1}", ms(figures.p99)),
                format!("{:.1} %", figures.share.min(1.0) * 100.0),
            ]);
        }
        println!("{}", table.render());
    }
    ensure!(complete, "somebody got less than {} % of the bitrate", MIN_SHARE * 100.0);
    Ok(())
}
