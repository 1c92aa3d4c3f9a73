//! One push: while its stream is live, calls its listener and sends what comes, as MPEG-TS.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use control_api::{LineInfo, RemoteState};
use media_core::hub::{Consumer, Event, Phase, StreamKey, Unit};
use media_core::mpegts::Muxer;
use srt::{Connection, MAX_DATAGRAM_BYTES, PAYLOAD_BYTES};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::metrics::Metrics;
use crate::Origin;
use crate::remote::srt::{Target, line};
use crate::remote::{Board, Reach, Trouble};

/// How often it is looked whether the stream is there.
const LOOK: Duration = Duration::from_millis(250);

/// How often the line is looked at.
const LINE_LOOK: Duration = Duration::from_secs(1);

/// Media that is put together before it is sent: a GOP that was kept may be larger than what one wants to hold twice.
const TURN_BYTES: usize = 256 * 1024;

/// One push.
pub(super) struct Pusher {
    pub(super) origin: Origin,
    pub(super) key: StreamKey,
    pub(super) target: Target,
    pub(super) reach: Reach,
    pub(super) board: Arc<Board>,
    pub(super) metrics: Metrics,
}

impl Pusher {
    /// Never ends.
    pub(super) async fn run(self: Arc<Self>) {
        loop {
            self.stream_is_there().await;
            let mut retry = self.origin.config().remote.retry();
            loop {
                let began = Instant::now();
                self.board.enter(RemoteState::Connecting);
                let Err(trouble) = self.attempt().await else { break };
                let wait = retry.wait(began.elapsed(), &trouble);
                self.metrics.failures.with_label_values(&[trouble.reason()]).inc();
                tracing::warn!(stream = %self.key, url = %self.target.shown, again_in_ms = wait.as_millis(),
                    "push: {trouble}");
                self.board.failed(trouble.to_string(), wait);
                sleep(wait).await;
                if !self.is_live() {
                    break;
                }
            }
            self.board.enter(RemoteState::Idle);
        }
    }

    fn is_live(&self) -> bool {
        self.origin.registry().stream(&self.key).is_some_and(|stream| stream.snapshot().phase == Phase::Live)
    }

    async fn stream_is_there(&self) {
        let mut looks = interval(LOOK);
        loop {
            looks.tick().await;
            if self.is_live() {
                return;
            }
        }
    }

    /// One call, until the stream is over.
    async fn attempt(&self) -> Result<(), Trouble> {
        let limit = self.origin.config().remote.connect_timeout();
        let connection = timeout(limit, self.target.call(&self.reach)).await;
        let connection = connection.map_err(|_| Trouble::Silent(limit.as_secs().max(1)))??;
        let Some(consumer) = self.origin.registry().subscribe(&self.key) else { return Ok(()) };
        self.board.enter(RemoteState::Live);
        tracing::info!(stream = %self.key, url = %self.target.shown, "pushing");
        let mut sending =
            Sending { pusher: self, connection, muxer: Muxer::new(), version: None, dropped: 0 };
        sending.drive(consumer).await
    }
}

struct Sending<'a> {
    pusher: &'a Pusher,
    connection: Connection,
    muxer: Muxer,
    /// Of the tracks that the muxer has.
    version: Option<(u64, u32)>,
    dropped: u64,
}

impl Sending<'_> {
    async fn drive(&mut self, mut consumer: Consumer) -> Result<(), Trouble> {
        let stream = Arc::clone(consumer.stream());
        let mut looks = interval(LINE_LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut room = [0; MAX_DATAGRAM_BYTES];
        let mut out = BytesMut::new();
        let mut ended = false;
        while !ended {
            let changed = stream.changed();
            loop {
                match consumer.try_next() {
                    Some(Event::Unit(unit)) => self.put(&unit, &mut out),
                    Some(Event::Ended) => ended = true,
                    None => break,
                }
                if ended || out.len() >= TURN_BYTES {
                    break;
                }
            }
            if !out.is_empty() {
                self.send(&out).await?;
                out.clear();
                continue;
            }
            if ended {
                break;
            }
            tokio::select! {
                () = changed => {}
                // A listener has nothing to say; this tells when it has gone.
                heard = self.connection.recv(&mut room) => {
                    heard.map_err(|_| Trouble::Ended)?;
                    tokio::task::yield_now().await;
                }
                _ = looks.tick() => self.look(),
            }
        }
        Ok(())
    }

    fn put(&mut self, unit: &Unit, out: &mut BytesMut) {
        let version = Some((unit.tracks.epoch.0, unit.tracks.version));
        if self.version != version {
            self.version = version;
            let left_out = self.muxer.set_tracks(&unit.tracks.tracks);
            let names: Vec<String> = left_out.iter().map(ToString::to_string).collect();
            let note = (!names.is_empty()).then(|| format!("MPEG-TS cannot carry {}", names.join(", ")));
            self.pusher.board.note(note);
        }
        if unit.is_join_point() {
            self.muxer.begin_point();
        }
        self.muxer.frame(&unit.frame, out);
    }

    /// Whole packets of MPEG-TS, as many as a datagram holds. It waits while libsrt has no room: what comes too late for the
    /// listener is dropped there, and counted.
    async fn send(&mut self, packets: &[u8]) -> Result<(), Trouble> {
        let limit = self.pusher.origin.config().remote.idle_timeout();
        for datagram in packets.chunks(PAYLOAD_BYTES) {
            match timeout(limit, self.connection.send(datagram)).await {
                Ok(sent) => sent.map_err(|_| Trouble::Ended)?,
                Err(_) => return Err(Trouble::Silent(limit.as_secs().max(1))),
            }
            self.pusher.metrics.sent_bytes.inc_by(datagram.len() as u64);
        }
        Ok(())
    }

    fn look(&mut self) {
        let Some(stats) = self.connection.stats() else { return };
        let dropped = stats.send_dropped_packets;
        self.pusher
            .metrics
            .dropped
            .inc_by(dropped.saturating_sub(std::mem::replace(&mut self.dropped, dropped)));
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.pusher.board.line(LineInfo {
            buffer_ms: ms(stats.send_buffer),
            received_packets: stats.sent_packets,
            lost_packets: stats.send_lost_packets,
            retransmitted_packets: stats.retransmitted_packets,
            dropped_packets: dropped,
            ..line(stats, 0)
        });
    }
}
