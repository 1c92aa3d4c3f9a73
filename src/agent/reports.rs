//! What a node carries, as its heartbeats say it.

use std::collections::HashMap;
use std::time::Instant;

use control_api::rpc;
use control_api::{StreamInfo, StreamState};

use super::Roles;
use crate::process;

/// Says what has changed since the last time.
pub(super) struct Reporter {
    roles: Roles,
    cores: f64,
    /// What was said, by `app/name`.
    said: HashMap<String, rpc::Report>,
    at: Instant,
    bytes_out: u64,
    cpu_seconds: f64,
}

impl Reporter {
    /// Has said nothing yet.
    pub(super) fn new(roles: Roles) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let bytes_out = roles.edge.as_ref().map_or(0, |edge| edge.totals().bytes_out);
        let cores = f64::from(u32::try_from(cores).unwrap_or(u32::MAX));
        let (at, cpu_seconds) = (Instant::now(), process::cpu_seconds());
        Self { roles, cores, said: HashMap::new(), at, bytes_out, cpu_seconds }
    }

    /// What it carries, since the last time.
    pub(super) fn load(&mut self) -> rpc::Load {
        let now = Instant::now();
        let seconds = (now - self.at).as_secs_f64().max(0.001);
        let (edge, origin) = (&self.roles.edge, &self.roles.origin);
        let totals = edge.as_ref().map(|edge| edge.totals()).unwrap_or_default();
        let cpu_seconds = process::cpu_seconds();
        let streams = origin.as_ref().map(|origin| origin.streams()).unwrap_or_default();
        let viewers = totals.viewers.total();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the casts saturate")]
        let load = rpc::Load {
            out_bps: (totals.bytes_out.saturating_sub(self.bytes_out) as f64 * 8.0 / seconds) as u64,
            in_bps: streams.iter().map(|stream| stream.bitrate_bps).sum(),
            cpu: ((cpu_seconds - self.cpu_seconds) / seconds / self.cores).clamp(0.0, 1.0) as f32,
            connections: u32::try_from(viewers).unwrap_or(u32::MAX),
            streams: u32::try_from(streams.len()).unwrap_or(u32::MAX),
            memory_bytes: process::memory_bytes(),
        };
        (self.at, self.bytes_out, self.cpu_seconds) = (now, totals.bytes_out, cpu_seconds);
        load
    }

    /// Streams of which something else is to be said than before.
    pub(super) fn changes(&mut self) -> Vec<rpc::Report> {
        let mut now: HashMap<String, rpc::Report> = HashMap::new();
        for info in self.roles.origin.iter().flat_map(|origin| origin.streams()) {
            let report = rpc::Report {
                app: info.app.clone(),
                name: info.name.clone(),
                published: Some(published(info)),
                ..rpc::Report::default()
            };
            now.insert(path(&report), report);
        }
        for (key, viewers) in self.roles.edge.iter().flat_map(|edge| edge.watched()) {
            let report = now.entry(format!("{}/{}", key.app(), key.name())).or_insert_with(|| rpc::Report {
                app: key.app().to_owned(),
                name: key.name().to_owned(),
                ..rpc::Report::default()
            });
            let count = |viewers: u64| u32::try_from(viewers).unwrap_or(u32::MAX);
            report.viewers = Some(rpc::Viewers {
                flv: count(viewers.flv),
                ws_flv: count(viewers.ws_flv),
                rtmp: count(viewers.rtmp),
                hls: count(viewers.hls),
                ts: count(viewers.ts),
                srt: count(viewers.srt),
            });
        }
        let gone = self.said.values().filter(|report| !now.contains_key(&path(report)));
        let gone = gone.map(|report| rpc::Report {
            app: report.app.clone(),
            name: report.name.clone(),
            gone: true,
            ..rpc::Report::default()
        });
        let other = now.iter().filter(|(path, report)| self.said.get(*path) != Some(report));
        let changes = gone.chain(other.map(|(_, report)| report.clone())).collect();
        self.said = now;
        changes
    }
}

fn path(report: &rpc::Report) -> String {
    format!("{}/{}", report.app, report.name)
}

fn published(info: StreamInfo) -> rpc::Published {
    #[allow(clippy::cast_possible_truncation, reason = "frames a second are few")]
    rpc::Published {
        epoch: info.epoch,
        interrupted: info.state == StreamState::Interrupted,
        started_at_ms: info.started_at_ms,
        protocol: info.publisher.protocol,
        remote_addr: info.publisher.remote_addr.unwrap_or_default(),
        encoder: info.publisher.encoder.unwrap_or_default(),
        tracks: info.tracks.into_iter().map(track).collect(),
        bitrate_bps: info.bitrate_bps,
        frame_rate: info.frame_rate as f32,
        keyframe_interval_ms: info.keyframe_interval_ms,
        bytes_in: info.bytes_in,
        hls_ready: info.hls.ready,
        hls_problem: info.hls.problem.unwrap_or_default(),
    }
}

fn track(track: control_api::TrackInfo) -> rpc::Track {
    rpc::Track {
        id: track.id,
        codec: track.codec,
        rfc6381: track.rfc6381,
        width: track.width,
        height: track.height,
        sample_rate: track.sample_rate,
        channels: track.channels.map(u32::from),
    }
}
