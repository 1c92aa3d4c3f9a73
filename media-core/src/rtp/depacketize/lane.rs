//! One track: its packets in order, the access unit that they make, and whether it can be used.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::super::clock::{Clock, SenderReport};
use super::super::packet::Packet;
use super::super::reorder::{Ordered, Reorder};
use super::super::serial::Serial;
use super::Damage;
use super::av1::Av1Assembly;
use super::nal::{NalAssembly, Syntax};
use super::vpx::VpxAssembly;
use crate::codec;
use crate::frame::{Codec, Kind, Track, TrackId};

/// How often a keyframe that does not come is asked for.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// An access unit that can be used.
#[derive(Debug)]
pub(super) struct AccessUnit {
    /// Unwrapped, in ticks of the format.
    pub(super) timestamp: i64,
    pub(super) keyframe: bool,
    /// The decoder configuration, of a keyframe that says one.
    pub(super) config: Option<Bytes>,
    pub(super) data: Bytes,
}

/// What came of packets.
#[derive(Debug)]
pub(super) enum Unit {
    Frame(AccessUnit),
    KeyframeWanted,
    Dropped(Damage),
}

/// What an assembly made of its packets.
#[derive(Debug)]
pub(super) struct Assembled {
    pub(super) data: Bytes,
    pub(super) keyframe: bool,
    pub(super) config: Option<Bytes>,
}

#[derive(Debug)]
enum Assembly {
    Nal(NalAssembly),
    Av1(Av1Assembly),
    Vpx(VpxAssembly),
    /// A packet is a frame.
    Whole(Option<Bytes>),
}

impl Assembly {
    fn push(&mut self, payload: &std::sync::Arc<[u8]>) -> Result<(), Damage> {
        match self {
            Self::Nal(nal) => nal.push(payload),
            Self::Av1(av1) => av1.push(payload),
            Self::Vpx(vpx) => vpx.push(payload),
            Self::Whole(whole) => {
                *whole = Some(Bytes::copy_from_slice(payload));
                Ok(())
            }
        }
    }

    /// Whether an access unit can begin with this payload.
    fn begins(&self, payload: &[u8]) -> bool {
        match self {
            Self::Nal(nal) => nal.begins(payload),
            Self::Av1(_) => Av1Assembly::begins(payload),
            Self::Vpx(vpx) => vpx.begins(payload),
            Self::Whole(_) => true,
        }
    }

    /// Ends the access unit; `None` for one in which there is nothing.
    fn finish(&mut self) -> Result<Option<Assembled>, Damage> {
        match self {
            Self::Nal(nal) => nal.finish(),
            Self::Av1(av1) => av1.finish(),
            Self::Vpx(vpx) => vpx.finish(),
            Self::Whole(whole) => Ok(whole.take().filter(|data| !data.is_empty()).map(|data| Assembled {
                data,
                keyframe: true,
                config: None,
            })),
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) id: TrackId,
    pub(super) codec: Codec,
    pub(super) clock: Clock,
    pub(super) track: Option<Track>,
    reorder: Reorder,
    serial: Serial,
    assembly: Assembly,
    /// The timestamp of the access unit that is being put together, and what is wrong with it.
    open: Option<(i64, Option<Damage>)>,
    /// A packet that belongs to the next access unit.
    ahead: Option<(i64, Packet)>,
    /// Packets before the next one are lost.
    gap: bool,
    /// Frames are of no use before a keyframe.
    waiting: bool,
    /// Not before then is a keyframe asked for again; `None` while none is wanted.
    ask_at: Option<Instant>,
    last_dts: Option<i64>,
}

impl Lane {
    /// `None` for a codec without payload format.
    pub(super) fn new(id: TrackId, codec: Codec, patience: Duration) -> Option<Self> {
        let (assembly, rate) = match codec {
            Codec::H264 => (Assembly::Nal(NalAssembly::new(Syntax::H264)), 90_000),
            Codec::H265 => (Assembly::Nal(NalAssembly::new(Syntax::H265)), 90_000),
            Codec::Av1 => (Assembly::Av1(Av1Assembly::default()), 90_000),
            Codec::Vp8 | Codec::Vp9 => (Assembly::Vpx(VpxAssembly::new(codec)), 90_000),
            Codec::Opus => (Assembly::Whole(None), 48_000),
            Codec::Aac | Codec::Mp3 => return None,
        };
        // Mono is decoded from stereo as well, and what is sent may change between both at any packet.
        let opus = || {
            let config = codec::opus::identification_header(2, 48_000).ok()?;
            codec::track(id, codec, crate::frame::Timescale::HZ_90K, config).ok()
        };
        Some(Self {
            id,
            codec,
            clock: Clock::new(rate),
            track: if codec == Codec::Opus { opus() } else { None },
            reorder: Reorder::new(patience),
            serial: Serial::default(),
            assembly,
            open: None,
            ahead: None,
            gap: false,
            waiting: id.kind == Kind::Video,
            ask_at: None,
            last_dts: None,
        })
    }

    pub(super) fn push(&mut self, now: Instant, packet: Packet) {
        self.reorder.push(now, packet);
    }

    pub(super) fn report(&mut self, report: SenderReport) {
        let mut serial = self.serial;
        let timestamp = serial.timestamp(report.timestamp);
        self.clock.report(report, timestamp);
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.reorder.deadline()
    }

    /// Nothing is of use before the next keyframe.
    pub(super) fn lost(&mut self) {
        if self.id.kind == Kind::Video {
            self.waiting = true;
        }
    }

    /// The decoding time of a frame that is shown at `pts`, and how much later it is shown: RTP says the latter only, and
    /// frames come in the order they are decoded in.
    pub(super) fn decoding_time(&mut self, pts: i64) -> (i64, i32) {
        let dts = self.last_dts.map_or(pts, |last| pts.max(last + 1));
        self.last_dts = Some(dts);
        (dts, i32::try_from(pts - dts).unwrap_or(0))
    }

    /// The next of what came of the packets.
    pub(super) fn next(&mut self, now: Instant) -> Option<Unit> {
        loop {
            if self.waiting && self.ask_at.is_some_and(|at| at <= now) {
                self.ask_at = Some(now + ASK_AGAIN);
                return Some(Unit::KeyframeWanted);
            }
            if let Some((timestamp, packet)) = self.ahead.take() {
                if let Some(unit) = self.take(now, timestamp, &packet) {
                    return Some(unit);
                }
                continue;
            }
            match self.reorder.pop(now)? {
                Ordered::Gap => {
                    self.gap = true;
                    if let Some((_, damage)) = &mut self.open {
                        *damage = damage.or(Some(Damage::Lost));
                    }
                }
                Ordered::Packet(packet) => {
                    let timestamp = self.serial.timestamp(packet.timestamp);
                    if let Some((open, _)) = self.open
                        && open != timestamp
                    {
                        self.ahead = Some((timestamp, packet));
                        if let Some(unit) = self.close(now) {
                            return Some(unit);
                        }
                    } else if let Some(unit) = self.take(now, timestamp, &packet) {
                        return Some(unit);
                    }
                }
            }
        }
    }

    /// Takes a packet of the access unit that is open, or of a new one.
    fn take(&mut self, now: Instant, timestamp: i64, packet: &Packet) -> Option<Unit> {
        let mut damage = match self.open {
            Some((_, damage)) => damage,
            None if self.gap && !self.assembly.begins(&packet.payload) => Some(Damage::Lost),
            None => None,
        };
        if std::mem::take(&mut self.gap) {
            // Whatever is lost, later frames refer to it.
            self.lost();
        }
        if damage.is_none() {
            damage = self.assembly.push(&packet.payload).err();
        }
        self.open = Some((timestamp, damage));
        let whole = packet.marker || self.id.kind == Kind::Audio;
        if whole { self.close(now) } else { None }
    }

    fn close(&mut self, now: Instant) -> Option<Unit> {
        let (timestamp, damage) = self.open.take()?;
        let assembled = self.assembly.finish();
        let assembled = match damage {
            Some(damage) => Err(damage),
            None => assembled,
        };
        match assembled {
            Err(damage) => {
                self.lost();
                self.want(now);
                Some(Unit::Dropped(damage))
            }
            Ok(None) => None,
            Ok(Some(unit)) if self.waiting && !unit.keyframe => {
                self.want(now);
                Some(Unit::Dropped(Damage::NoKeyframe))
            }
            Ok(Some(unit)) if self.track.is_none() && unit.config.is_none() => {
                self.want(now);
                Some(Unit::Dropped(Damage::Configuration))
            }
            Ok(Some(unit)) => {
                self.waiting = false;
                self.ask_at = None;
                let Assembled { data, keyframe, config } = unit;
                Some(Unit::Frame(AccessUnit { timestamp, keyframe, config, data }))
            }
        }
    }

    fn want(&mut self, now: Instant) {
        if self.waiting {
            self.ask_at.get_or_insert(now);
        }
    }
}
