//! A publisher: MPEG-TS from its connection into the hub.

use std::sync::Arc;
use std::time::{Duration, Instant};

use control_api::LineInfo;
use media_core::hub::Revoked;
use media_core::mpegts::{Counters, Demuxed, Demuxer};
use srt::stream_id::StreamId;
use srt::{Connection, MAX_DATAGRAM_BYTES, Stats};
use tokio::task::yield_now;
use tokio::time::{MissedTickBehavior, interval};

use super::Inner;
use super::decision::{PROTOCOL, asked};
use super::metrics::{Metrics, Sampled};
use crate::Line;
use crate::ingest::Slot;
use crate::ingest::admission;
use crate::ingest::publishing::Publishing;
use crate::opening::Opening;

/// How often the line is looked at, and whether the publisher sends anything.
const LOOK: Duration = Duration::from_secs(1);

/// Datagrams taken at once: after a repair seconds of them may come together, and others want to run, too.
const AT_ONCE: usize = 64;

/// Why a publisher has ended.
#[derive(Debug)]
enum End {
    /// It closed the connection, or was not heard any more.
    Closed,
    /// It may not go on.
    Revoked(Revoked),
    /// It sends nothing.
    Idle,
    /// It sends nothing that can be used.
    NoFrame,
}

impl End {
    fn reason(&self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Revoked(_) => "revoked",
            Self::Idle => "idle",
            Self::NoFrame => "no_frame",
        }
    }
}

/// Serves a publisher that was let in until it ends.
pub(super) async fn serve(ingest: &Arc<Inner>, connection: Connection, id: StreamId, slot: Slot) {
    let (remote, line) = (connection.peer(), Line::default());
    let opening = Opening::new(ingest.origin.tracer(), PROTOCOL, &id.app, &id.name);
    let query = id.query();
    let asked = admission::Asked { line: Some(line.clone()), ..asked(&id, &query, remote) };
    let publication = match admission::admit(&ingest.origin, &ingest.auth, asked, &opening).await {
        Ok(publication) => publication,
        Err(refused) => {
            opening.refused(&refused.to_string());
            ingest.metrics.refused.with_label_values(&[refused.reason()]).inc();
            tracing::info!(%remote, app = ?id.app, name = ?id.name, "publisher refused: {refused}");
            return;
        }
    };
    let mut publisher = Publisher {
        publishing: Publishing::new(publication, opening),
        demuxer: Demuxer::new(),
        counted: Counters::default(),
        sampled: Sampled::new(ingest.metrics.clone()),
        line,
        began: Instant::now(),
        heard: Instant::now(),
    };
    let end = publisher.drive(ingest, &connection).await;
    ingest.metrics.closed.with_label_values(&[end.reason()]).inc();
    let stream = publisher.publishing.key();
    match &end {
        End::Closed => tracing::debug!(%stream, %remote, "SRT publisher left"),
        End::Revoked(revoked) => tracing::info!(%stream, %remote, "publisher disconnected: {revoked}"),
        End::Idle => tracing::warn!(%stream, %remote, "publisher disconnected: it sends nothing"),
        End::NoFrame => {
            ingest.metrics.undecodable.inc();
            tracing::warn!(%stream, %remote, "publisher disconnected: nothing of it can be used; \
                MPEG-TS with H.264, H.265, AAC, MP3 or Opus is expected");
        }
    }
    drop((publisher, connection, slot));
}

struct Publisher {
    publishing: Publishing,
    demuxer: Demuxer,
    /// What of the demultiplexer's counters is in the metrics already.
    counted: Counters,
    sampled: Sampled,
    line: Line,
    began: Instant,
    /// When media came last.
    heard: Instant,
}

impl Publisher {
    async fn drive(&mut self, ingest: &Inner, connection: &Connection) -> End {
        let mut room = [0; MAX_DATAGRAM_BYTES];
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let done = tokio::select! {
                biased;
                revoked = self.publishing.revoked() => Err(End::Revoked(revoked)),
                received = connection.recv(&mut room) => match received {
                    Ok(bytes) => self.take(connection, &mut room, bytes).await,
                    Err(_) => Err(End::Closed),
                },
                _ = looks.tick() => self.look(ingest, connection.stats()),
            };
            if let Err(end) = done {
                self.look(ingest, connection.stats()).ok();
                return end;
            }
        }
    }

    /// Takes a datagram and those that are there, too.
    async fn take(
        &mut self,
        connection: &Connection,
        room: &mut [u8; MAX_DATAGRAM_BYTES],
        mut bytes: usize,
    ) -> Result<(), End> {
        for taken in 1.. {
            self.demuxer.push(room.get(..bytes).unwrap_or_default());
            while let Some(event) = self.demuxer.next_event() {
                match event {
                    Demuxed::Tracks(tracks) => self.publishing.tracks(tracks),
                    Demuxed::Frame(frame) => {
                        self.heard = Instant::now();
                        self.publishing.frame(frame)
                    }
                }
                .map_err(End::Revoked)?;
            }
            if taken == AT_ONCE {
                break;
            }
            // What came before the end is still there after it.
            match connection.try_recv(room) {
                Ok(Some(more)) => bytes = more,
                Ok(None) => return Ok(()),
                Err(_) => return Err(End::Closed),
            }
        }
        // Those who read the stream must see this before more pushes it out of the cache.
        yield_now().await;
        Ok(())
    }

    /// Once in a while: what the line does, and whether anything comes.
    fn look(&mut self, ingest: &Inner, stats: Option<Stats>) -> Result<(), End> {
        let counters = self.demuxer.counters();
        count(&ingest.metrics, self.counted, counters);
        self.counted = counters;
        if let Some(stats) = stats {
            self.sampled.add(stats);
            self.line.set(info(stats, counters));
        }
        let (config, now) = (ingest.config.load(), Instant::now());
        if !self.publishing.any_frame()
            && now.duration_since(self.began) > Duration::from_millis(config.first_frame_timeout_ms)
        {
            return Err(End::NoFrame);
        }
        if now.duration_since(self.heard) > Duration::from_millis(config.idle_timeout_ms) {
            return Err(End::Idle);
        }
        Ok(())
    }
}

fn info(stats: Stats, counters: Counters) -> LineInfo {
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    LineInfo {
        rtt_us: u64::try_from(stats.rtt.as_micros()).unwrap_or(u64::MAX),
        latency_ms: ms(stats.latency),
        buffer_ms: ms(stats.receive_buffer),
        received_packets: stats.received_packets,
        lost_packets: stats.receive_lost_packets,
        retransmitted_packets: stats.receive_retransmitted_packets,
        dropped_packets: stats.receive_dropped_packets,
        undecrypted_packets: stats.undecrypted_packets,
        continuity_errors: counters.continuity_errors,
    }
}

fn count(metrics: &Metrics, before: Counters, now: Counters) {
    let kinds = [
        ("continuity", before.continuity_errors, now.continuity_errors),
        ("resync", before.resyncs, now.resyncs),
        ("transport", before.transport_errors, now.transport_errors),
        ("scrambled", before.scrambled, now.scrambled),
        ("malformed_packet", before.malformed_packets, now.malformed_packets),
        ("malformed_section", before.malformed_sections, now.malformed_sections),
        ("malformed_pes", before.malformed_pes, now.malformed_pes),
        ("dropped_frame", before.dropped_frames, now.dropped_frames),
        ("discontinuity", before.discontinuities, now.discontinuities),
    ];
    for (kind, before, now) in kinds {
        metrics.ts_errors.with_label_values(&[kind]).inc_by(now.saturating_sub(before));
    }
}
