//! The cluster as the API shows it: what is known of streams, with what nodes say of them.

use std::collections::HashMap;

use async_trait::async_trait;
use control_api::rpc;
use control_api::{
    Cluster, ClusterError, ClusterStats, HlsState, PublisherInfo, StreamInfo, StreamState, TrackInfo, Viewers,
};

use super::Replica;
use crate::streams::Record;

impl Replica {
    /// What nodes say of streams, by path: who watches, and what its origin tells.
    fn said(&self) -> HashMap<String, Said> {
        let mut all: HashMap<String, Said> = HashMap::new();
        for reports in self.nodes().all_reports() {
            for (path, report) in reports.lock().iter() {
                let said = all.entry(path.clone()).or_default();
                if let Some(viewers) = &report.viewers {
                    said.viewers.flv += u64::from(viewers.flv);
                    said.viewers.ws_flv += u64::from(viewers.ws_flv);
                    said.viewers.rtmp += u64::from(viewers.rtmp);
                    said.viewers.hls += u64::from(viewers.hls);
                    said.viewers.ts += u64::from(viewers.ts);
                    said.viewers.srt += u64::from(viewers.srt);
                    said.viewers.webrtc += u64::from(viewers.webrtc);
                }
                let newest = said.published.as_ref().map_or(0, |published| published.epoch);
                if let Some(published) =
                    report.published.as_ref().filter(|published| published.epoch >= newest)
                {
                    said.published = Some(published.clone());
                }
            }
        }
        all
    }
}

/// What nodes say of a stream.
#[derive(Default)]
struct Said {
    viewers: Viewers,
    published: Option<rpc::Published>,
}

#[async_trait]
impl Cluster for Replica {
    async fn streams(&self) -> Vec<StreamInfo> {
        let mut said = self.said();
        let records = self.streams().all().into_iter();
        records.map(|record| info(&record, said.remove(&record.path()).unwrap_or_default())).collect()
    }

    async fn stream(&self, app: &str, name: &str) -> Option<StreamInfo> {
        let path = format!("{app}/{name}");
        let record = self.streams().get(&path)?;
        Some(info(&record, self.said().remove(&path).unwrap_or_default()))
    }

    async fn kick(&self, app: &str, name: &str) -> Result<(), ClusterError> {
        let kicked = self.streams().kick(&format!("{app}/{name}")).await;
        if kicked.map_err(|error| ClusterError::Unavailable(error.to_string()))? {
            return Ok(());
        }
        Err(ClusterError::NoSuchStream { app: app.to_owned(), name: name.to_owned() })
    }

    async fn stats(&self) -> ClusterStats {
        let mut stats = ClusterStats::default();
        for record in self.streams().all() {
            stats.streams += 1;
            stats.publishers += u64::from(record.is_live());
        }
        for said in self.said().into_values() {
            stats.viewers.flv += said.viewers.flv;
            stats.viewers.ws_flv += said.viewers.ws_flv;
            stats.viewers.rtmp += said.viewers.rtmp;
            stats.viewers.hls += said.viewers.hls;
            stats.viewers.ts += said.viewers.ts;
            stats.viewers.srt += said.viewers.srt;
            stats.viewers.webrtc += said.viewers.webrtc;
        }
        for known in self.nodes().all() {
            stats.bitrate_in_bps += known.load.in_bps;
            stats.bitrate_out_bps += known.load.out_bps;
        }
        stats.uptime_s = self.uptime().as_secs();
        stats
    }
}

fn info(record: &Record, said: Said) -> StreamInfo {
    // Of another epoch it is of another publisher.
    let published = said.published.filter(|published| published.epoch == record.epoch).unwrap_or_default();
    let text = |text: String| Some(text).filter(|text| !text.is_empty());
    StreamInfo {
        app: record.app.clone(),
        name: record.name.clone(),
        state: if record.is_live() { StreamState::Live } else { StreamState::Interrupted },
        epoch: record.epoch,
        started_at_ms: record.started_at_ms,
        publisher: PublisherInfo {
            protocol: record.protocol.clone(),
            remote_addr: text(record.remote_addr.clone()),
            encoder: text(published.encoder),
            // Its origin knows.
            line: None,
        },
        tracks: published.tracks.into_iter().map(track).collect(),
        bitrate_bps: published.bitrate_bps,
        frame_rate: published.frame_rate.into(),
        keyframe_interval_ms: published.keyframe_interval_ms,
        bytes_in: published.bytes_in,
        viewers: said.viewers,
        hls: HlsState { ready: published.hls_ready, problem: text(published.hls_problem) },
        clock: None,
    }
}

fn track(track: rpc::Track) -> TrackInfo {
    TrackInfo {
        id: track.id,
        codec: track.codec,
        rfc6381: track.rfc6381,
        width: track.width,
        height: track.height,
        sample_rate: track.sample_rate,
        channels: track.channels.and_then(|channels| u8::try_from(channels).ok()),
    }
}
