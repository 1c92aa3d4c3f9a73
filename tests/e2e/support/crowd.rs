//! Viewers as apps are: each asks a replica of the control plane where to play, plays from the first edge it is told of, and
//! when that fails goes on to the next one; when it has played, it asks again. They count what they see, and how it ended.

mod flv;
mod hls;
mod http;
mod player;
mod rtmp;
mod seen;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::cluster::Control;
use super::until;
use seen::Seen;
pub use seen::{Count, Counts, How};

/// In which time all of them come.
const WITHIN: Duration = Duration::from_secs(1);

/// How often it is looked whether they still watch.
const LOOK: Duration = Duration::from_millis(100);

/// How many watch, and by what.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// HTTP-FLV.
    pub flv: usize,
    /// RTMP.
    pub rtmp: usize,
    /// LL-HLS, with reloads that wait.
    pub hls: usize,
}

/// 200 viewers.
pub const CROWD: Plan = Plan { flv: 80, rtmp: 60, hls: 60 };

/// Who says where to play: each replica, and the operator's token there.
#[derive(Debug, Clone)]
pub struct Directory {
    stream: String,
    replicas: Vec<(SocketAddr, String)>,
}

impl Directory {
    /// For a stream, by these replicas.
    pub fn of(stream: &str, replicas: &[Control]) -> Self {
        let replicas = replicas.iter().map(|control| (control.http, control.token())).collect();
        Self { stream: stream.to_owned(), replicas }
    }
}

/// Viewers at work. Dropped, they leave.
pub struct Crowd {
    viewers: Vec<Arc<Seen>>,
    tasks: JoinSet<()>,
}

impl Crowd {
    /// They come, and all of them play.
    pub async fn gather(directory: &Directory, plan: Plan) -> Self {
        let mut crowd = Self { viewers: Vec::new(), tasks: JoinSet::new() };
        crowd.join(directory, plan).await;
        crowd
    }

    /// More of them come; all play when this returns.
    pub async fn join(&mut self, directory: &Directory, plan: Plan) {
        let ways = [(How::Flv, plan.flv), (How::Rtmp, plan.rtmp), (How::Hls, plan.hls)];
        let all = plan.flv + plan.rtmp + plan.hls;
        let first = self.viewers.len();
        for (index, how) in ways.into_iter().flat_map(|(how, count)| (0..count).map(move |_| how)).enumerate()
        {
            let seen = Arc::new(Seen::new(how, first + index));
            self.viewers.push(Arc::clone(&seen));
            let (directory, wait) = (directory.clone(), WITHIN * index as u32 / all as u32);
            self.tasks.spawn(async move {
                tokio::time::sleep(wait).await;
                player::watch(&seen, &directory, index).await;
            });
        }
        self.all_play().await;
    }

    /// Waits until each of them sees something newer than now.
    pub async fn all_play(&self) -> Duration {
        let now = Instant::now();
        until("all viewers to play", async || {
            self.check();
            self.viewers.iter().all(|viewer| viewer.last() > Some(now)).then_some(())
        })
        .await;
        now.elapsed()
    }

    /// Plays on for that long, in which nothing else is waited for.
    pub async fn play_for(&self, time: Duration) {
        let end = Instant::now() + time;
        let mut ticks = tokio::time::interval(LOOK);
        // It may be longer than anything else is waited for.
        while Instant::now() < end {
            ticks.tick().await;
            self.check();
        }
    }

    /// Counts anew from now on.
    pub fn mark(&self) {
        self.viewers.iter().for_each(|viewer| viewer.mark());
    }

    /// What was counted since the mark, all together.
    pub fn counts(&self) -> Counts {
        self.viewers.iter().fold(Counts::default(), |all, viewer| all.and(&viewer.counts()))
    }

    /// The same of those who watch that way.
    pub fn counts_of(&self, how: How) -> Counts {
        let of = self.viewers.iter().filter(|viewer| viewer.how == how);
        of.fold(Counts::default(), |all, viewer| all.and(&viewer.counts()))
    }

    /// The longest time in which each saw nothing new since the mark, the shortest first.
    pub fn gaps(&self) -> Vec<Duration> {
        sorted(self.viewers.iter().map(|viewer| viewer.longest_gap()))
    }

    /// The longest of them.
    pub fn longest_gap(&self) -> Duration {
        self.gaps().last().copied().unwrap_or_default()
    }

    /// From the mark to the first that was seen of another connection, of those who had one more since then; the shortest
    /// first.
    pub fn elsewhere_after(&self) -> Vec<Duration> {
        sorted(self.viewers.iter().filter_map(|viewer| viewer.elsewhere_after()))
    }

    /// How many watch by that edge.
    pub fn at(&self, node: &str) -> usize {
        self.viewers.iter().filter(|viewer| viewer.is_at(node)).count()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.viewers.len()
    }

    /// How many other decoder configurations each FLV and RTMP viewer was given after its first, over all its connections.
    pub fn other_configurations(&self) -> Vec<usize> {
        let live = self.viewers.iter().filter(|viewer| viewer.how != How::Hls);
        live.map(|viewer| viewer.other_configurations()).collect()
    }

    /// What has gone wrong, a line each, for a test that fails.
    pub fn troubles(&self) -> String {
        let mut all: Vec<(Instant, String)> =
            self.viewers.iter().flat_map(|viewer| viewer.troubles()).collect();
        all.sort_by_key(|(at, _)| *at);
        let lines: Vec<String> = all.into_iter().take(60).map(|(_, line)| line).collect();
        lines.join("\n")
    }

    /// None of them has panicked: what a viewer reads is what it should be.
    fn check(&self) {
        assert_eq!(self.tasks.len(), self.viewers.len(), "a viewer has ended");
        let panicked = self.viewers.iter().find(|viewer| viewer.has_ended());
        assert!(panicked.is_none(), "a viewer has panicked");
    }
}

/// The value below which that share of sorted values is.
pub fn percentile(sorted: &[Duration], share: f64) -> Duration {
    let at = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(at.max(1) - 1).copied().unwrap_or_default()
}

fn sorted(times: impl Iterator<Item = Duration>) -> Vec<Duration> {
    let mut times: Vec<Duration> = times.collect();
    times.sort_unstable();
    times
}
