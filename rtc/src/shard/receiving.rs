//! A publisher's packets → frames → its sink.

use std::time::{Duration, Instant};

use media_core::frame::{Codec, Kind, TrackId};
use media_core::rtp::{Damage, Depacketized, Depacketizer, Packet, SenderReport};

use super::ranks::Ranks;
use super::{Ended, Sink};
use crate::metrics::Metrics;
use crate::peer::{Layer, Peer};

/// How often a publisher is asked for a keyframe at most: one costs it several frames' worth of bits.
const ASK_AT_MOST: Duration = Duration::from_millis(300);
/// How often it is asked for those who watch.
const ASK_FOR_VIEWERS: Duration = Duration::from_secs(1);
/// The layers that are asked.
const LAYERS: usize = 3;

pub(super) struct Receiving {
    depacketizer: Depacketizer,
    ranks: Ranks,
    sink: Box<dyn Sink>,
    metrics: Metrics,
    /// How often a keyframe is asked for in any case.
    interval: Option<Duration>,
    /// When each layer had its last keyframe or was asked for one.
    asked: [Option<Instant>; LAYERS],
}

impl Receiving {
    pub(super) fn new(
        sink: Box<dyn Sink>,
        expected: &[(Kind, Layer, Codec)],
        interval: Option<Duration>,
        metrics: Metrics,
    ) -> Self {
        let mut depacketizer = Depacketizer::new();
        for (kind, layer, codec) in expected {
            depacketizer.expect(TrackId { kind: *kind, index: *layer }, *codec);
        }
        Self { depacketizer, ranks: Ranks::default(), sink, metrics, interval, asked: [None; LAYERS] }
    }

    pub(super) fn packet(
        &mut self,
        now: Instant,
        (kind, layer, codec): (Kind, Layer, Codec),
        packet: Packet,
        peer: &mut dyn Peer,
    ) -> Result<(), Ended> {
        let id = TrackId { kind, index: layer };
        if !self.depacketizer.expects(id, codec) {
            self.depacketizer.expect(id, codec);
        }
        self.depacketizer.push(now, id, packet);
        self.drain(now, peer)
    }

    pub(super) fn audio_level(&mut self, level: u8) {
        self.sink.audio_level(level);
    }

    pub(super) fn report(&mut self, kind: Kind, layer: Layer, report: SenderReport) {
        self.depacketizer.report(TrackId { kind, index: layer }, report);
    }

    pub(super) fn timeout(&mut self, now: Instant, peer: &mut dyn Peer) -> Result<(), Ended> {
        self.depacketizer.handle_timeout(now);
        self.drain(now, peer)
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.depacketizer.poll_timeout()
    }

    /// Once a second.
    pub(super) fn may_stay(&mut self) -> Result<(), Ended> {
        self.sink.may_stay()
    }

    pub(super) fn end(self, why: Ended) {
        self.sink.ended(why);
    }

    fn drain(&mut self, now: Instant, peer: &mut dyn Peer) -> Result<(), Ended> {
        while let Some(item) = self.depacketizer.poll() {
            match &item {
                Depacketized::KeyframeWanted(track) => self.ask(now, track.index, ASK_AT_MOST, peer),
                Depacketized::Dropped(_, why) => {
                    self.metrics.damaged.with_label_values(&[reason(*why)]).inc();
                }
                Depacketized::Frame(frame) if frame.track.kind == Kind::Video => {
                    if frame.keyframe {
                        if let Some(asked) = self.asked.get_mut(usize::from(frame.track.index)) {
                            *asked = Some(now);
                        }
                    } else if self.may_ask(now, frame.track.index, ASK_FOR_VIEWERS)
                        && self.sink.wants_keyframe()
                    {
                        self.ask(now, frame.track.index, ASK_FOR_VIEWERS, peer);
                    } else if let Some(interval) = self.interval {
                        self.ask(now, frame.track.index, interval, peer);
                    }
                }
                _ => {}
            }
            self.sink.media(match item {
                Depacketized::Tracks(tracks) => Depacketized::Tracks(self.ranks.tracks(tracks)),
                Depacketized::Frame(mut frame) => {
                    frame.track = self.ranks.of(frame.track);
                    Depacketized::Frame(frame)
                }
                other => other,
            })?;
        }
        Ok(())
    }

    fn may_ask(&self, now: Instant, layer: Layer, at_most: Duration) -> bool {
        let asked = self.asked.get(usize::from(layer));
        asked.is_some_and(|asked| asked.is_none_or(|at| now.saturating_duration_since(at) >= at_most))
    }

    fn ask(&mut self, now: Instant, layer: Layer, at_most: Duration, peer: &mut dyn Peer) {
        if !self.may_ask(now, layer, at_most) {
            return;
        }
        if let Some(asked) = self.asked.get_mut(usize::from(layer)) {
            *asked = Some(now);
        }
        peer.ask_keyframe(layer);
        self.metrics.keyframes_asked.inc();
    }
}

fn reason(damage: Damage) -> &'static str {
    match damage {
        Damage::Lost => "lost",
        Damage::Malformed => "malformed",
        Damage::TooLarge => "too_large",
        Damage::NoKeyframe => "no_keyframe",
        Damage::Configuration => "configuration",
        _ => "other",
    }
}
