//! The media side as the control plane sees it: the roles that run in this process.

use std::collections::VecDeque;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use control_api::{Cluster, ClusterError, ClusterStats, RESERVED_APPS, StreamInfo, StreamState};
use edge::Edge;
use media_core::hub::StreamKey;
use origin::Origin;
use parking_lot::Mutex;

use crate::process;

/// Over how many seconds the rate of what goes out is taken, about.
const RATE_SECONDS: usize = 5;

/// One edge, whose streams live elsewhere: of those it knows nothing.
pub(crate) struct Watched {
    // The edge serves the pages, and the pages ask this: one of them has to come first.
    edge: OnceLock<Edge>,
    started: Instant,
    sent: Mutex<Rate>,
}

impl Watched {
    /// A cluster of nothing yet.
    pub(crate) fn new() -> Self {
        Self { edge: OnceLock::new(), started: Instant::now(), sent: Mutex::default() }
    }

    /// The edge joins; a cluster has one.
    pub(crate) fn join(&self, edge: Edge) {
        // A second one would be a mistake of the assembly, and is not worth a panic.
        let _ = self.edge.set(edge);
    }

    fn totals(&self) -> edge::Totals {
        self.edge.get().map(Edge::totals).unwrap_or_default()
    }

    /// Follows what goes out, for [`Cluster::stats`]; never ends.
    pub(crate) async fn follow(&self) {
        follow(&self.sent, || self.totals().bytes_out).await;
    }
}

#[async_trait]
impl Cluster for Watched {
    async fn streams(&self) -> Vec<StreamInfo> {
        Vec::new()
    }

    async fn stream(&self, _: &str, _: &str) -> Option<StreamInfo> {
        None
    }

    async fn kick(&self, app: &str, name: &str) -> Result<(), ClusterError> {
        Err(ClusterError::NoSuchStream { app: app.to_owned(), name: name.to_owned() })
    }

    async fn stats(&self) -> ClusterStats {
        ClusterStats {
            viewers: self.totals().viewers,
            bitrate_out_bps: self.sent.lock().bits_per_second(),
            uptime_s: self.started.elapsed().as_secs(),
            memory_bytes: process::memory_bytes(),
            cpu_seconds: process::cpu_seconds(),
            ..ClusterStats::default()
        }
    }
}

/// Samples a counter once a second.
async fn follow(rate: &Mutex<Rate>, bytes: impl Fn() -> u64) {
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    loop {
        ticks.tick().await;
        rate.lock().sample(Instant::now(), bytes());
    }
}

/// One origin, and one edge if there is one.
pub(crate) struct Local {
    origin: Origin,
    // The edge serves the pages, and the pages ask this: one of them has to come first.
    edge: OnceLock<Edge>,
    started: Instant,
    sent: Mutex<Rate>,
}

impl Local {
    /// A cluster of `origin` alone.
    pub(crate) fn new(origin: Origin) -> Self {
        Self { origin, edge: OnceLock::new(), started: Instant::now(), sent: Mutex::default() }
    }

    /// The edge joins; a cluster has one.
    pub(crate) fn join(&self, edge: Edge) {
        // A second one would be a mistake of the assembly, and is not worth a panic.
        let _ = self.edge.set(edge);
    }

    fn totals(&self) -> edge::Totals {
        self.edge.get().map(Edge::totals).unwrap_or_default()
    }

    /// Follows what goes out, for [`Cluster::stats`]; never ends.
    pub(crate) async fn follow(&self) {
        follow(&self.sent, || self.totals().bytes_out).await;
    }

    fn with_viewers(&self, mut info: StreamInfo) -> StreamInfo {
        // A live stream's key is valid: it was made of these two.
        if let (Ok(key), Some(edge)) = (key(&info.app, &info.name), self.edge.get()) {
            info.viewers = edge.viewers(&key);
        }
        info
    }
}

fn key(app: &str, name: &str) -> Result<StreamKey, ClusterError> {
    let absent = |_| ClusterError::NoSuchStream { app: app.to_owned(), name: name.to_owned() };
    StreamKey::parse(app, name, RESERVED_APPS).map_err(absent)
}

#[async_trait]
impl Cluster for Local {
    async fn streams(&self) -> Vec<StreamInfo> {
        self.origin.streams().into_iter().map(|info| self.with_viewers(info)).collect()
    }

    async fn stream(&self, app: &str, name: &str) -> Option<StreamInfo> {
        let info = self.origin.stream(&key(app, name).ok()?)?;
        Some(self.with_viewers(info))
    }

    async fn kick(&self, app: &str, name: &str) -> Result<(), ClusterError> {
        if self.origin.kick(&key(app, name)?) {
            return Ok(());
        }
        Err(ClusterError::NoSuchStream { app: app.to_owned(), name: name.to_owned() })
    }

    async fn stats(&self) -> ClusterStats {
        let streams = self.origin.streams();
        let totals = self.totals();
        let live = streams.iter().filter(|s| s.state == StreamState::Live);
        ClusterStats {
            streams: streams.len() as u64,
            publishers: live.count() as u64,
            viewers: totals.viewers,
            bitrate_in_bps: streams.iter().map(|s| s.bitrate_bps).sum(),
            bitrate_out_bps: self.sent.lock().bits_per_second(),
            uptime_s: self.started.elapsed().as_secs(),
            memory_bytes: process::memory_bytes(),
            cpu_seconds: process::cpu_seconds(),
        }
    }
}

/// The rate of a counter over the last seconds.
#[derive(Debug, Default)]
struct Rate(VecDeque<(Instant, u64)>);

impl Rate {
    fn sample(&mut self, now: Instant, bytes: u64) {
        self.0.push_back((now, bytes));
        while self.0.len() > RATE_SECONDS + 1 {
            self.0.pop_front();
        }
    }

    fn bits_per_second(&self) -> u64 {
        let (Some((begin, from)), Some((end, to))) = (self.0.front(), self.0.back()) else { return 0 };
        let ms = u64::try_from((*end - *begin).as_millis()).unwrap_or(u64::MAX);
        to.saturating_sub(*from).saturating_mul(8_000).checked_div(ms).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_taken_over_the_last_seconds_only() {
        let (mut rate, begin) = (Rate::default(), Instant::now());
        assert_eq!(rate.bits_per_second(), 0);
        for second in 0..20u64 {
            let bytes = if second < 10 { 0 } else { (second - 10) * 125_000 };
            rate.sample(begin + Duration::from_secs(second), bytes);
        }
        assert_eq!(rate.bits_per_second(), 1_000_000);
        rate.sample(begin + Duration::from_secs(20), 0);
        assert_eq!(rate.bits_per_second(), 0, "a counter that begins anew");
    }
}
