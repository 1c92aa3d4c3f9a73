//! The real scheduler in virtual time, beyond one room of machines: 10,000 edges, 1,000,000 streams of Zipf popularity and
//! 10,000,000 viewers who come and go. How evenly edges are full, what is pulled from origins, who moves when edges join,
//! die and flap, and what that costs the control plane.
//!
//! `make sim`, or `cargo bench -p control --bench sim -- [--quick] [PART …]`; parts are `balance`, `join`, `leave` and
//! `flap`. `--quick` is a hundredth in all sizes. The same seed (SIM_SEED, 1) gives the same numbers but for times of the
//! processor. It fails if the fullest edge has more than 1.25 times the mean of its region and ISP in `balance`, or a
//! viewer finds no edge.

#![allow(missing_docs, reason = "a program")]
#![allow(clippy::print_stdout, reason = "it prints its results")]
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a bench may stop where its input is wrong"
)]

#[path = "sim/chance.rs"]
mod chance;
#[path = "sim/edge.rs"]
mod edge;
#[path = "sim/measure.rs"]
mod measure;
#[path = "load/statistics.rs"]
#[allow(dead_code, unused_imports, reason = "the benches share it, and each uses a part")]
mod statistics;
#[path = "sim/world.rs"]
mod world;

use std::process::ExitCode;
use std::time::Instant;

use control::schedule::Config;
use measure::{Balance, Egress, Pulls};
use statistics::Table;
use world::{Size, World};

/// ε of the scheduler's default.
const MAX_OVER: f64 = 1.25;

/// Of a heartbeat as it is sent.
const HEARTBEAT_BYTES: usize = 200;

/// Virtual seconds that a part is looked at.
const TIME: f64 = 180.0;
const QUICK_TIME: f64 = 120.0;

/// Until the control plane gives up an edge that it no longer hears, and until a player asks again whose edge is gone.
const LEASE: f64 = 15.0;
const RETRY: f64 = 3.0;

/// An edge that flaps is away and there again for so long, so often.
const DOWN: f64 = 10.0;
const UP: f64 = 20.0;
const FLAPS: usize = 5;

fn size(quick: bool, seed: u64) -> Size {
    let full = Size {
        edges: 10_000,
        streams: 1_000_000,
        viewers: 10_000_000,
        regions: 12,
        isps: 4,
        replicas: 2,
        beat: 5.0,
        delay: 1.0,
        session: 900.0,
        ramp: 480.0,
        zipf: 1.0,
        seed,
    };
    if !quick {
        return full;
    }
    Size { edges: 100, streams: 10_000, viewers: 100_000, regions: 2, isps: 2, ..full }
}

/// What a part did to streams and viewers.
#[derive(Default)]
struct Moved {
    streams: usize,
    /// Of those, streams that neither come from nor go to an edge that changed: only its load moves these.
    others: usize,
    viewers: usize,
}

impl Moved {
    fn streams(&mut self, before: &[u32], after: &[u32], changed: &[usize]) {
        let has_changed = |at: &u32| changed.binary_search(&(*at as usize)).is_ok();
        for (before, after) in before.iter().zip(after).filter(|(before, after)| before != after) {
            self.streams += 1;
            self.others += usize::from(!has_changed(before) && !has_changed(after));
        }
    }
}

/// A line for a part.
fn row(
    table: &mut Table,
    what: &str,
    world: &World,
    moved: &Moved,
    worst: Balance,
    egress: (Egress, Egress),
) {
    let streams = world.size.streams as f64;
    table.push(vec![
        what.to_owned(),
        format!("{:.3}", 100.0 * moved.streams as f64 / streams),
        format!("{:.3}", 100.0 * moved.others as f64 / streams),
        format!("{:.3}", 100.0 * moved.viewers as f64 / world.size.viewers as f64),
        format!("{}", world.counts.second_tries),
        format!("{}", world.counts.failures),
        format!("{:.3}", worst.over_group),
        format!("{:+.2}", 100.0 * (egress.1.pulls.bps / egress.0.pulls.bps - 1.0)),
    ]);
}

struct Sim {
    world: World,
    time: f64,
    good: bool,
}

impl Sim {
    /// Until then, as many coming as going: how uneven it is at worst.
    fn steady(&mut self, time: f64) -> Balance {
        let (mut worst, arrivals) = (Balance::default(), self.world.steady());
        let end = self.world.now + time;
        self.world.run(end, arrivals, |world| worst = worst.worst(Balance::of(world)));
        worst
    }

    /// Until all are there: how uneven it was at worst since edges were no longer idle.
    fn fill(&mut self) -> Balance {
        let size = self.world.size.clone();
        let rate = size.viewers as f64 / size.ramp;
        let mut worst = Balance::default();
        while self.world.viewers() < size.viewers {
            let end = self.world.now + 1.0;
            self.world.run(end, rate, |_| {});
            let now = Balance::of(&self.world);
            if now.mean > f64::from(Config::default().idle) {
                worst = worst.worst(now);
            }
        }
        worst
    }

    fn balance(&mut self, filling: Balance) {
        let worst = self.steady(self.time);
        let (world, now) = (&self.world, Balance::of(&self.world));
        let mut table = Table::new(&["balance", "mean fullness", "max/mean of groups", "max/mean of all"]);
        let mut push = |what: &str, balance: Balance| {
            table.push(vec![
                what.to_owned(),
                format!("{:.3}", balance.mean),
                format!("{:.3}", balance.over_group),
                format!("{:.3}", balance.over_all),
            ]);
        };
        push(&format!("at worst while all come in {} s", world.size.ramp), filling);
        push(&format!("at worst in {} s then", self.time), worst);
        push("at the end", now);
        println!("{}", table.render());
        self.good &= worst.over_group <= MAX_OVER;

        let egress = Egress::of(world);
        let mut table = Table::new(&[
            "egress of origins",
            "pulls",
            "Gbit/s",
            "to one edge a stream",
            "% of egress of edges",
        ]);
        let mut push = |what: &str, pulls: Pulls| {
            table.push(vec![
                what.to_owned(),
                format!("{:.0}", pulls.count),
                format!("{:.0}", pulls.bps / 1e9),
                format!("{:.2}", pulls.bps / egress.single.bps),
                format!("{:.2}", 100.0 * pulls.bps / egress.sent_bps),
            ]);
        };
        push("as scheduled", egress.pulls);
        push("one edge a stream", egress.single);
        push("one edge a stream, region and ISP", egress.local);
        push("any edge of the region and ISP", egress.random);
        println!("{}", table.render());
        let elsewhere = 100.0 * world.counts.elsewhere as f64 / world.counts.plays as f64;
        println!("sent outside of their region and ISP: {elsewhere:.4} % of plays\n");
    }

    /// A hundredth of edges is new.
    fn join(&mut self, table: &mut Table) {
        self.world.counts = world::Counts::default();
        let before = (self.world.firsts(), Egress::of(&self.world));
        let mut new: Vec<usize> = (0..self.world.size.edges / 100).map(|_| self.world.join()).collect();
        new.sort_unstable();
        let mut moved = Moved::default();
        moved.streams(&before.0, &self.world.firsts(), &new);
        let worst = self.steady(self.time);
        let after = Egress::of(&self.world);
        row(table, &format!("{} join", new.len()), &self.world, &moved, worst, (before.1, after));
        self.good &= self.world.counts.failures == 0;
    }

    /// Viewers whose edge is gone ask again within [`RETRY`].
    fn ask_again(&mut self, mut gone: Vec<(u32, usize)>) {
        // Not stream by stream.
        let mut chance = chance::Chance::new(gone.len() as u64);
        for at in (1..gone.len()).rev() {
            gone.swap(at, chance.below(at + 1));
        }
        let (begin, arrivals, all) = (self.world.now, self.world.steady(), gone.len());
        let steps = 30;
        for step in 1..=steps {
            self.world.run(begin + RETRY * f64::from(step) / f64::from(steps), arrivals, |_| {});
            for (stream, place) in gone.split_off(gone.len().saturating_sub(all / steps as usize + 1)) {
                self.world.play(stream, place);
            }
        }
    }

    /// A hundredth of edges dies at once.
    fn leave(&mut self, table: &mut Table) {
        self.world.counts = world::Counts::default();
        let mut dead: Vec<usize> = Vec::new();
        let before = (self.world.firsts(), Egress::of(&self.world));
        let (mut moved, mut gone) = (Moved::default(), Vec::new());
        for _ in 0..self.world.size.edges / 100 {
            let at = self.world.any();
            gone.extend(self.world.fail(at));
            dead.push(at);
        }
        dead.sort_unstable();
        moved.viewers = gone.len();
        self.ask_again(gone);
        let mut worst = self.steady(LEASE - RETRY);
        let noticed = self.world.firsts();
        for at in &dead {
            self.world.forget(*at);
        }
        // Their load was the same a moment before: what differs here is what the removal moved.
        let after = self.world.firsts();
        moved.streams(&noticed, &after, &dead);
        worst = worst.worst(self.steady(self.time));
        let egress = (before.1, Egress::of(&self.world));
        row(table, &format!("{} die", dead.len()), &self.world, &moved, worst, egress);
        self.good &= self.world.counts.failures == 0;
        for at in dead {
            self.world.enter(at);
        }
        self.steady(self.time);
    }

    /// A five-hundredth of edges goes and comes again and again, with notice.
    fn flap(&mut self, table: &mut Table) {
        self.world.counts = world::Counts::default();
        let before = (self.world.firsts(), Egress::of(&self.world));
        let mut flapping: Vec<usize> =
            (0..(self.world.size.edges / 500).max(1)).map(|_| self.world.any()).collect();
        flapping.sort_unstable();
        flapping.dedup();
        let (mut moved, mut worst) = (Moved::default(), Balance::default());
        for _ in 0..FLAPS {
            let mut gone = Vec::new();
            for at in &flapping {
                gone.extend(self.world.fail(*at));
                self.world.forget(*at);
            }
            moved.viewers += gone.len();
            self.ask_again(gone);
            worst = worst.worst(self.steady(DOWN - RETRY));
            flapping.iter().for_each(|at| self.world.enter(*at));
            worst = worst.worst(self.steady(UP));
        }
        moved.streams(&before.0, &self.world.firsts(), &flapping);
        let egress = (before.1, Egress::of(&self.world));
        row(table, &format!("{} flap {FLAPS} times", flapping.len()), &self.world, &moved, worst, egress);
        self.good &= self.world.counts.failures == 0;
    }
}

/// What a replica has to do and keep.
fn costs(world: &World, heartbeat_bytes: usize) {
    let (size, counts) = (&world.size, &world.counts);
    let (beats, plays) = (size.edges as f64 / size.beat, world.steady() / size.replicas as f64);
    let mut table = Table::new(&["a replica of the control plane", ""]);
    let mut push = |what: &str, value: String| table.push(vec![what.to_owned(), value]);
    push("µs for a play answer", format!("{:.2}", counts.play_us()));
    push("play answers/s with steady viewers", format!("{plays:.0}"));
    push("µs for a heartbeat", format!("{:.2}", counts.beat_us()));
    push("heartbeats/s", format!("{beats:.0}"));
    let share = (beats * counts.beat_us() + plays * counts.play_us()) / 1e6;
    push("% of a core for both", format!("{:.2}", 100.0 * share));
    push("KB/s of heartbeats", format!("{:.0}", beats * heartbeat_bytes as f64 / 1e3));
    push("MiB of tables", format!("{:.1}", world.fleets[0].table_bytes() as f64 / f64::from(1 << 20)));
    println!("{}", table.render());
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let quick = arguments.iter().any(|argument| argument == "--quick");
    let parts: Vec<&str> =
        arguments.iter().map(String::as_str).filter(|part| !part.starts_with("--")).collect();
    let has = |part| parts.is_empty() || parts.contains(&part);
    let seed = std::env::var("SIM_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let begin = Instant::now();
    let size = size(quick, seed);
    println!(
        "{} edges in {} regions of {} ISPs, {} streams (Zipf {}), {} viewers who stay {} s, {} replicas, a heartbeat in {} s, {} s late\n",
        size.edges,
        size.regions,
        size.isps,
        size.streams,
        size.zipf,
        size.viewers,
        size.session,
        size.replicas,
        size.beat,
        size.delay
    );
    let time = if quick { QUICK_TIME } else { TIME };
    let mut sim = Sim { world: World::new(size), time, good: true };
    let filling = sim.fill();
    sim.steady(sim.time / 2.0);
    let costs_of = sim.world.counts.clone();
    if has("balance") {
        sim.balance(filling);
    }
    let mut table = Table::new(&[
        "edges",
        "% of streams moved",
        "of others",
        "% of viewers moved",
        "second tries",
        "found none",
        "max/mean of groups",
        "% more pulled",
    ]);
    if has("join") {
        sim.join(&mut table);
    }
    if has("leave") {
        sim.leave(&mut table);
    }
    if has("flap") {
        sim.flap(&mut table);
    }
    if ["join", "leave", "flap"].into_iter().any(has) {
        println!("{}", table.render());
    }
    sim.world.counts = costs_of;
    costs(&sim.world, HEARTBEAT_BYTES);
    println!("took {:.0} s", begin.elapsed().as_secs_f64());
    if sim.good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
