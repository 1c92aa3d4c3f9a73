//! Edges, viewers who come and go, and replicas of the control plane that send them, in virtual time.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use control::schedule::{Config, Fleet, Labels, Load, Node};

use super::chance::{Chance, Weighted};
use super::edge::Edge;

/// How large it is, and how fast things happen. Times are seconds.
#[derive(Debug, Clone)]
pub(crate) struct Size {
    pub(crate) edges: usize,
    pub(crate) streams: usize,
    pub(crate) viewers: usize,
    pub(crate) regions: usize,
    pub(crate) isps: usize,
    /// Of the control plane. Each knows what it decided itself, and what edges say.
    pub(crate) replicas: usize,
    /// An edge says how full it is so often, and is heard so much later.
    pub(crate) beat: f64,
    pub(crate) delay: f64,
    /// A viewer stays so long on average.
    pub(crate) session: f64,
    /// All viewers come in this time at first.
    pub(crate) ramp: f64,
    pub(crate) zipf: f64,
    pub(crate) seed: u64,
}

/// Entries of a ranking, as a player gets them.
const COUNT: usize = 3;

/// Of so many decisions and heartbeats one is timed.
const TIMED: u64 = 32;

/// Bits per second of streams.
const BITRATES: [u64; 4] = [800_000, 1_500_000, 3_000_000, 6_000_000];

/// What was counted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counts {
    pub(crate) plays: u64,
    pub(crate) departures: u64,
    pub(crate) beats: u64,
    /// The first edge of a ranking was down, and so was each of them.
    pub(crate) second_tries: u64,
    pub(crate) failures: u64,
    /// Sent outside of their region and ISP.
    pub(crate) elsewhere: u64,
    timed_plays: (u64, Duration),
    timed_beats: (u64, Duration),
}

impl Counts {
    /// Microseconds of a decision.
    pub(crate) fn play_us(&self) -> f64 {
        self.timed_plays.1.as_secs_f64() * 1e6 / self.timed_plays.0.max(1) as f64
    }

    /// Microseconds of taking a heartbeat in.
    pub(crate) fn beat_us(&self) -> f64 {
        self.timed_beats.1.as_secs_f64() * 1e6 / self.timed_beats.0.max(1) as f64
    }
}

/// Where a group of edges is.
#[derive(Debug)]
struct Place {
    /// As a viewer there may be known: by all, by the region, not at all.
    near: [Labels; 3],
}

/// What edges said that was not heard yet.
type Waiting = VecDeque<(f64, u32, Load)>;

/// All of it.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) size: Size,
    pub(crate) edges: Vec<Edge>,
    pub(crate) fleets: Vec<Fleet>,
    /// Viewers of each stream.
    pub(crate) watching: Vec<u32>,
    pub(crate) counts: Counts,
    pub(crate) now: f64,
    places: Vec<Place>,
    popularity: Weighted,
    demand: Weighted,
    chance: Chance,
    waiting: Waiting,
    next_beat: f64,
    /// Edges say how full they are in this order.
    beating: usize,
    total: usize,
    /// No edge has more viewers.
    most: usize,
    name: String,
}

/// Bits per second of a stream.
pub(crate) fn bitrate(stream: u32) -> u64 {
    let at = Chance::new(u64::from(stream)).below(BITRATES.len());
    BITRATES[at]
}

fn edge_name(at: usize) -> String {
    format!("edge-{at}")
}

/// Which edge has that name.
fn number(name: &str) -> usize {
    name.trim_start_matches("edge-").parse().expect("a name of these")
}

impl World {
    /// Edges without viewers.
    pub(crate) fn new(size: Size) -> Self {
        let mut chance = Chance::new(size.seed);
        let groups = size.regions * size.isps;
        let places: Vec<Place> = (0..groups)
            .map(|group| {
                let both = Labels::new(
                    &format!("region-{}", group / size.isps),
                    &format!("isp-{}", group % size.isps),
                );
                let region = Labels { isp: None, ..both.clone() };
                Place { near: [both, region, Labels::default()] }
            })
            .collect();
        // The largest region has as many edges as the three smallest ones.
        let sizes: Vec<f64> =
            (0..groups).map(|group| 1.0 + 2.0 * (group / size.isps) as f64 / size.regions as f64).collect();
        let sizes = Weighted::new(&sizes);
        let mut capacity = vec![0.0; groups];
        let edges: Vec<Edge> = (0..size.edges)
            .map(|at| {
                let group = sizes.draw(&mut chance);
                // One of five has two and a half times the line, and the weight for it.
                let weight: f32 = if chance.below(5) == 0 { 2.5 } else { 1.0 };
                let capacity_bps = (10e9 * f64::from(weight)) as u64;
                capacity[group] += capacity_bps as f64;
                let labels = places[group].near[0].clone();
                let node =
                    Node { name: edge_name(at), labels, weight, capacity_bps, max_connections: 100_000 };
                Edge::new(node, group)
            })
            .collect();
        let config = Config { replicas: size.replicas as u32, ..Config::default() };
        let fleets: Vec<Fleet> = (0..size.replicas).map(|_| Fleet::new(config.clone())).collect();
        for fleet in &fleets {
            fleet.set_all(edges.iter().map(|edge| edge.node.clone())).expect("nodes");
        }
        Self {
            watching: vec![0; size.streams],
            popularity: Weighted::zipf(size.streams, size.zipf),
            demand: Weighted::new(&capacity),
            places,
            edges,
            fleets,
            counts: Counts::default(),
            now: 0.0,
            waiting: VecDeque::new(),
            next_beat: 0.0,
            beating: 0,
            total: 0,
            most: 0,
            name: String::new(),
            chance,
            size,
        }
    }

    /// Viewers that are there.
    pub(crate) fn viewers(&self) -> usize {
        self.total
    }

    /// Until `end`, with so many who come in a second. `look` sees it every second.
    pub(crate) fn run(&mut self, end: f64, arrivals: f64, mut look: impl FnMut(&mut Self)) {
        let mut arrival = self.now + self.chance.wait(arrivals);
        let mut next_look = self.now + 1.0;
        loop {
            let departures = self.total as f64 / self.size.session;
            // Whatever comes first; how long the next one to leave stays does not depend on the past.
            let departure =
                if self.total > 0 { self.now + self.chance.wait(departures) } else { f64::INFINITY };
            let heard = self.waiting.front().map_or(f64::INFINITY, |(at, _, _)| *at);
            let next = arrival.min(departure).min(self.next_beat).min(heard).min(next_look);
            if next >= end {
                self.now = end;
                return;
            }
            self.now = next;
            if next == next_look {
                next_look += 1.0;
                look(self);
            } else if next == heard {
                self.hear();
            } else if next == self.next_beat {
                self.beat();
            } else if next == arrival {
                arrival = self.now + self.chance.wait(arrivals);
                self.arrive();
            } else {
                self.depart();
            }
        }
    }

    fn arrive(&mut self) {
        let stream = self.popularity.draw(&mut self.chance) as u32;
        let place = self.demand.draw(&mut self.chance);
        self.play(stream, place);
    }

    /// Somebody at `place` wants a stream. `None`: of the edges that he is told none answers.
    pub(crate) fn play(&mut self, stream: u32, place: usize) -> Option<usize> {
        // Of ten viewers one is not known so well.
        let known = match self.chance.below(100) {
            0..90 => 0,
            90..98 => 1,
            _ => 2,
        };
        let replica = self.chance.below(self.fleets.len());
        self.name.clear();
        write!(self.name, "live/{stream}").expect("memory");
        let near = &self.places[place].near[known];
        let timed = self.counts.plays.is_multiple_of(TIMED).then(Instant::now);
        let ranked = self.fleets[replica].rank_at(&self.name, bitrate(stream), near, COUNT);
        if let Some(begin) = timed {
            self.counts.timed_plays.0 += 1;
            self.counts.timed_plays.1 += begin.elapsed();
        }
        self.counts.plays += 1;
        let numbers = ranked.iter().map(|node| number(&node.name));
        let (tries, at) = (0u64..).zip(numbers).find(|(_, at)| self.edges[*at].up).or_else(|| {
            self.counts.failures += 1;
            None
        })?;
        self.counts.second_tries += u64::from(tries > 0);
        self.counts.elsewhere += u64::from(known == 0 && self.edges[at].group != place);
        self.edges[at].join(stream, bitrate(stream));
        self.watching[stream as usize] += 1;
        self.total += 1;
        self.most = self.most.max(self.edges[at].watching);
        Some(at)
    }

    fn depart(&mut self) {
        // Any viewer: any edge, the more likely the more it has.
        let at = loop {
            let at = self.chance.below(self.edges.len());
            if self.chance.below(self.most) < self.edges[at].watching {
                break at;
            }
        };
        let stream = self.edges[at].leave(&mut self.chance, bitrate);
        self.watching[stream as usize] -= 1;
        self.total -= 1;
        self.counts.departures += 1;
    }

    fn beat(&mut self) {
        let at = self.beating;
        self.beating = (at + 1) % self.edges.len();
        self.next_beat += self.size.beat / self.edges.len() as f64;
        if self.beating == 0 {
            self.most = self.edges.iter().map(|edge| edge.watching).max().unwrap_or_default();
        }
        if self.edges[at].up {
            self.waiting.push_back((self.now + self.size.delay, at as u32, self.edges[at].load()));
        }
    }

    fn hear(&mut self) {
        let Some((_, at, load)) = self.waiting.pop_front() else { return };
        let name = &self.edges[at as usize].node.name;
        for fleet in &self.fleets {
            let timed = self.counts.beats.is_multiple_of(TIMED).then(Instant::now);
            fleet.load(name, load);
            if let Some(begin) = timed {
                self.counts.timed_beats.0 += 1;
                self.counts.timed_beats.1 += begin.elapsed();
            }
            self.counts.beats += 1;
        }
    }

    /// An edge that is new, and empty; replicas know it at once.
    pub(crate) fn join(&mut self) -> usize {
        let at = self.edges.len();
        let group = self.chance.below(self.places.len());
        let labels = self.places[group].near[0].clone();
        let node = Node {
            name: edge_name(at),
            labels,
            weight: 1.0,
            capacity_bps: 10_000_000_000,
            max_connections: 100_000,
        };
        self.edges.push(Edge::new(node, group));
        self.enter(at);
        at
    }

    /// An edge is there again.
    pub(crate) fn enter(&mut self, at: usize) {
        self.edges[at].up = true;
        self.fleets.iter().for_each(|fleet| fleet.set(self.edges[at].node.clone()).expect("a node"));
    }

    /// Replicas find out that an edge is gone.
    pub(crate) fn forget(&mut self, at: usize) {
        self.fleets.iter().for_each(|fleet| _ = fleet.remove(&self.edges[at].node.name));
    }

    /// An edge dies. Who watched there, and what; they have not asked again yet.
    pub(crate) fn fail(&mut self, at: usize) -> Vec<(u32, usize)> {
        let group = self.edges[at].group;
        let gone = self.edges[at].fail();
        for (stream, viewers) in &gone {
            self.watching[*stream as usize] -= viewers;
            self.total -= *viewers as usize;
        }
        gone.into_iter().flat_map(|(stream, viewers)| (0..viewers).map(move |_| (stream, group))).collect()
    }

    /// The first edge of every stream, for a viewer of any one place.
    pub(crate) fn firsts(&self) -> Vec<u32> {
        let fleet = &self.fleets[0];
        (0..self.size.streams)
            .map(|stream| {
                let place = Chance::new(stream as u64 ^ self.size.seed).below(self.places.len());
                let ranked = fleet.preview(&format!("live/{stream}"), &self.places[place].near[0], 1);
                ranked.first().map_or(u32::MAX, |node| number(&node.name) as u32)
            })
            .collect()
    }

    /// Who comes in a second when as many come as go.
    pub(crate) fn steady(&self) -> f64 {
        self.size.viewers as f64 / self.size.session
    }

    /// Any edge that is up.
    pub(crate) fn any(&mut self) -> usize {
        loop {
            let at = self.chance.below(self.edges.len());
            if self.edges[at].up {
                return at;
            }
        }
    }

    /// Groups of edges.
    pub(crate) fn groups(&self) -> usize {
        self.places.len()
    }
}
