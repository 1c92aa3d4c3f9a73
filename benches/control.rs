//! What a decision of the control plane costs: where one viewer is sent, with up to 10,000 edges, beside the plain way
//! (a hash of the stream with each edge, of which the highest wins); and what the edges' heartbeats and their coming and
//! going cost.
//!
//! `make bench-control`, or `cargo bench -p control --bench control -- [--quick] [PART …]`; parts are `decisions`, `beats`
//! and `changes`. It fails if a decision among 10,000 edges takes more than 20 µs (p99), a core makes fewer than 50,000 in
//! a second, or 10,000 heartbeats a second take more than a fifth of one.

#![allow(missing_docs, reason = "a program")]
#![allow(clippy::print_stdout, reason = "it prints its results")]
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a bench may stop where its input is wrong"
)]

#[path = "load/statistics.rs"]
#[allow(dead_code, unused_imports, reason = "the benches share it, and each uses a part")]
mod statistics;

use std::hint::black_box;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use control::schedule::{Config, Fleet, Labels, Load, Node};
use statistics::{Table, percentile};

const MAX_P99: Duration = Duration::from_micros(20);
const MIN_RATE: f64 = 50_000.0;
const MAX_BEATS_SHARE: f64 = 0.2;

const STREAMS: usize = 100_000;
const GROUPS: usize = 50;

/// Entries of a ranking, as a player gets them.
const COUNT: usize = 3;

fn mix(hash: u64) -> u64 {
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

/// The number `at` of a sequence without a pattern, from 0 to 1.
fn random(at: usize) -> f64 {
    (mix((at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)) >> 11) as f64 / (1u64 << 53) as f64
}

fn name(at: usize) -> String {
    format!("edge-{at}")
}

fn labels(group: usize) -> Labels {
    Labels::new(&format!("region-{}", group / 5), &format!("isp-{}", group % 5))
}

fn node(at: usize, groups: usize) -> Node {
    Node {
        name: name(at),
        labels: labels(at % groups),
        weight: 1.0,
        capacity_bps: 10_000_000_000,
        max_connections: 100_000,
    }
}

/// Of an edge that is so full.
fn load(full: f64) -> Load {
    Load {
        bandwidth_bps: (full * 1e10) as u64,
        cpu: (full / 2.0) as f32,
        connections: (full * 3_000.0) as u32,
        warm_streams: 300,
    }
}

/// Edges that are as full as `full` says of each.
fn fleet(edges: usize, groups: usize, full: impl Fn(usize) -> f64) -> Fleet {
    let fleet = Fleet::new(Config::default());
    fleet.set_all((0..edges).map(|at| node(at, groups))).expect("nodes");
    // Twice: what is over the bound is known once all have said how full they are.
    for _ in 0..2 {
        (0..edges).for_each(|at| assert!(fleet.load(&name(at), load(full(at)))));
    }
    fleet
}

/// Some are over the bound, which is at 1.25 of the mean: an eighth of all, as the simulation has it.
fn usual(at: usize) -> f64 {
    0.3 * (0.7 + 0.6 * random(at))
}

fn over(at: usize) -> f64 {
    0.92 + 0.05 * random(at)
}

/// Time of single decisions, and how many a second without a look at the clock.
struct Figures {
    p50: Duration,
    p99: Duration,
    rate: f64,
}

fn measure(decisions: usize, mut decide: impl FnMut(usize)) -> Figures {
    (0..decisions / 10).for_each(&mut decide);
    let begin = Instant::now();
    (0..decisions).for_each(&mut decide);
    let rate = decisions as f64 / begin.elapsed().as_secs_f64();
    let mut times: Vec<Duration> = (0..decisions)
        .map(|at| {
            let begin = Instant::now();
            decide(at);
            begin.elapsed()
        })
        .collect();
    Figures { p50: percentile(&mut times, 0.5), p99: percentile(&mut times, 0.99), rate }
}

fn us(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// A hash for each edge, and the highest is the choice: no weights, no load, one entry.
fn plain(seeds: &[u64], stream: &str) -> usize {
    let fnv = stream
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let stream = mix(fnv);
    let (mut best, mut highest) = (0, 0);
    for (at, seed) in seeds.iter().enumerate() {
        let score = mix(stream ^ seed);
        if score >= highest {
            (best, highest) = (at, score);
        }
    }
    best
}

struct Streams {
    names: Vec<String>,
    near: Vec<Labels>,
}

impl Streams {
    fn new(groups: usize) -> Self {
        let names = (0..STREAMS).map(|at| format!("live/{:016x}", mix(at as u64))).collect();
        Self { names, near: (0..groups).map(labels).collect() }
    }

    fn rank(&self, fleet: &Fleet, at: usize) {
        let near = &self.near[at % self.near.len()];
        black_box(fleet.rank(&self.names[at % STREAMS], near, COUNT));
    }
}

fn row(table: &mut Table, what: &str, figures: &Figures, floor: &Figures) {
    table.push(vec![
        what.to_owned(),
        format!("{:.2}", us(figures.p50)),
        format!("{:.2}", us(figures.p99)),
        format!("{:.0}", figures.rate),
        format!("{:.2}", us(figures.p99) / us(floor.p99)),
        format!("{:.2}", figures.rate / floor.rate),
    ]);
}

fn decisions(quick: bool) -> bool {
    let times = if quick { 20_000 } else { 200_000 };
    let mut table =
        Table::new(&["decision", "p50 µs", "p99 µs", "/s and core", "p99 : floor", "rate : floor"]);
    let mut good = true;
    for edges in [100, 1_000, 10_000] {
        for groups in [1, GROUPS] {
            let (fleet, streams) = (fleet(edges, groups, usual), Streams::new(groups));
            let seeds: Vec<u64> = (0..edges / groups).map(|at| mix(at as u64)).collect();
            let scans = (times * 100 / seeds.len()).clamp(2_000, times);
            let floor = measure(scans, |at| _ = black_box(plain(&seeds, &streams.names[at % STREAMS])));
            // What is decided fills the edges: they say again what they said, so that it is undone.
            let mut beat = 0;
            let figures = measure(times, |at| {
                streams.rank(&fleet, at);
                if at % 64 == 0 {
                    fleet.load(&name(beat % edges), load(usual(beat % edges)));
                    beat += 1;
                }
            });
            let what = format!("{edges} edges, {groups} group{}", if groups == 1 { "" } else { "s" });
            row(&mut table, &format!("floor: hash of {}", seeds.len()), &floor, &floor);
            row(&mut table, &what, &figures, &floor);
            good &= edges < 10_000 || figures.p99 <= MAX_P99 && figures.rate >= MIN_RATE;
            if edges == 10_000 {
                let full = self::fleet(edges, groups, over);
                let figures = measure(times / 10, |at| streams.rank(&full, at));
                row(&mut table, &format!("{what}, all full"), &figures, &floor);
                good &= figures.p99 <= MAX_P99 && figures.rate >= MIN_RATE;
            }
        }
    }
    println!("{}", table.render());
    good & together(times)
}

/// Two threads that decide, and one beside heartbeats as fast as they can be taken in: nobody waits for anybody.
fn together(times: usize) -> bool {
    let (fleet, streams) = (fleet(10_000, 1, usual), Streams::new(1));
    let mut table = Table::new(&["10,000 edges, 1 group", "p50 µs", "p99 µs", "/s and core"]);
    let mut push = |what: &str, figures: &Figures| {
        let rate = format!("{:.0}", figures.rate);
        table.push(vec![
            what.into(),
            format!("{:.2}", us(figures.p50)),
            format!("{:.2}", us(figures.p99)),
            rate,
        ]);
        figures.p99 <= MAX_P99 && figures.rate >= MIN_RATE
    };
    let mut good = true;
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            let mut at = STREAMS / 2;
            while !stop.load(Ordering::Relaxed) {
                streams.rank(&fleet, at);
                at += 1;
            }
        });
        good &= push("beside a thread that decides, too", &measure(times, |at| streams.rank(&fleet, at)));
        stop.store(true, Ordering::Relaxed);
        other.join().expect("decisions");
        stop.store(false, Ordering::Relaxed);
        let beats = scope.spawn(|| {
            let mut at = 0;
            while !stop.load(Ordering::Relaxed) {
                fleet.load(&name(at % 10_000), load(usual(at % 10_000)));
                at += 1;
            }
            at
        });
        let begin = Instant::now();
        let figures = measure(times, |at| streams.rank(&fleet, at));
        let seconds = begin.elapsed().as_secs_f64();
        stop.store(true, Ordering::Relaxed);
        let beats = beats.join().expect("beats") as f64 / seconds;
        good &= push(&format!("beside {beats:.0} heartbeats/s"), &figures);
    });
    println!("{}", table.render());
    good
}

fn beats(quick: bool) -> bool {
    let rounds = if quick { 5 } else { 50 };
    let mut table = Table::new(&["heartbeats of 10,000 nodes", "ns each", "% of a core at 10,000/s"]);
    let mut good = true;
    for groups in [1, GROUPS] {
        let fleet = fleet(10_000, groups, usual);
        let names: Vec<String> = (0..10_000).map(name).collect();
        let begin = Instant::now();
        for round in 0..rounds {
            for (at, name) in names.iter().enumerate() {
                fleet.load(name, load(usual(at + round)));
            }
        }
        let each = begin.elapsed().as_secs_f64() / (rounds * names.len()) as f64;
        table.push(vec![
            format!("{groups} group{}", if groups == 1 { "" } else { "s" }),
            format!("{:.0}", each * 1e9),
            format!("{:.3}", each * 1e6),
        ]);
        good &= each * 10_000.0 <= MAX_BEATS_SHARE;
    }
    println!("{}", table.render());
    good
}

fn changes(quick: bool) {
    let times = if quick { 20 } else { 200 };
    let mut table = Table::new(&["change among 10,000 nodes", "p50 µs", "p99 µs"]);
    let mut push = |what: &str, mut took: Vec<Duration>| {
        let (p50, p99) = (percentile(&mut took, 0.5), percentile(&mut took, 0.99));
        table.push(vec![what.to_owned(), format!("{:.0}", us(p50)), format!("{:.0}", us(p99))]);
    };
    let timed = |change: &mut dyn FnMut(usize)| -> Vec<Duration> {
        let one = |at| {
            let begin = Instant::now();
            change(at);
            begin.elapsed()
        };
        (0..times).map(one).collect()
    };
    let fleet = fleet(10_000, GROUPS, usual);
    push("one leaves", timed(&mut |at| assert!(fleet.remove(&name(at)))));
    push("one joins", timed(&mut |at| fleet.set(node(at, GROUPS)).expect("a node")));
    push("one is drained", timed(&mut |at| assert!(fleet.drain(&name(at), true))));
    let all: Vec<Node> = (0..10_000).map(|at| node(at, GROUPS)).collect();
    let begin = Instant::now();
    let new = Fleet::new(Config::default());
    new.set_all(all).expect("nodes");
    push("all join at once", vec![begin.elapsed()]);
    println!("{}", table.render());
    println!("tables of 10,000 nodes: {:.1} MiB\n", new.table_bytes() as f64 / f64::from(1 << 20));
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let quick = arguments.iter().any(|argument| argument == "--quick");
    let parts: Vec<&str> =
        arguments.iter().map(String::as_str).filter(|part| !part.starts_with("--")).collect();
    let has = |part| parts.is_empty() || parts.contains(&part);
    let mut good = true;
    if has("decisions") {
        good &= decisions(quick);
    }
    if has("beats") {
        good &= beats(quick);
    }
    if has("changes") {
        changes(quick);
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
