//! A player: the units of its stream, cut into datagrams.

use std::future::{pending, poll_fn};
use std::task::Poll;
use std::time::{Duration, Instant};

use control_api::trace::Span;
use srt::{Connection, MAX_DATAGRAM_BYTES, PAYLOAD_BYTES, Stats};
use tokio::sync::watch;
use tokio::task::yield_now;
use tokio::time::{MissedTickBehavior, interval, sleep_until, timeout};

use super::Entered;
use crate::fanout::Over;
use crate::guard::Record;
use crate::http::Shared;
use crate::metrics::Metrics;
use crate::shard::Leave;

/// How often its line is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Who begins in the past is sent what it missed no faster than this, so that what its line or its own buffer can't take at
/// once is not lost: datagrams in a [`BEAT`], which makes 42 Mbit/s…
const CATCH_UP_DATAGRAMS: u32 = 4;

const BEAT: Duration = Duration::from_millis(1);

/// …and for so long at most, as a stream may be faster.
const CATCH_UP: Duration = Duration::from_secs(2);

/// So many looks in a row at which libsrt has no room for one more datagram end a player: its receiver acknowledges nothing.
const STALL_LOOKS: u32 = 10;

/// Sends a player its stream until it leaves or may watch no more. How many bytes, and why it left.
pub(super) async fn play(
    shared: &Shared,
    connection: &Connection,
    entered: Entered,
    mut record: Option<&mut Record>,
    mut span: Option<Span>,
) -> (u64, Leave) {
    let Entered { mut viewer, seat: _seat, until } = entered;
    let mut cut = shared.srt.cut.subscribe();
    let mut pace = Pace::new(Instant::now());
    let mut line = Line { metrics: &shared.metrics, last: Stats::default() };
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut room = [0; MAX_DATAGRAM_BYTES];
    let mut bytes = 0u64;
    let why = loop {
        let sent = tokio::select! {
            biased;
            () = hung_up(&mut cut) => break Leave::Cut,
            () = expired(until) => {
                viewer.dropped(Over::Expired);
                break Leave::Over(Over::Expired);
            }
            // A player has nothing to say; this tells when it has gone.
            heard = connection.recv(&mut room) => match heard {
                Ok(_) => {
                    // Whoever talks all the same does not keep others from their turn.
                    yield_now().await;
                    continue;
                }
                Err(_) => break Leave::Gone,
            },
            _ = looks.tick() => {
                line.look(connection.stats());
                if let Some(record) = record.as_deref_mut() {
                    record.so_far(bytes);
                }
                continue;
            }
            unit = poll_fn(|cx| pace.watch(viewer.poll_next(cx))) => match unit {
                // A receiver that takes nothing keeps nobody from ending it.
                Ok(unit) => tokio::select! {
                    sent = send(connection, &unit, &mut pace) => sent.map(|()| unit.len()),
                    () = hung_up(&mut cut) => Err(Leave::Cut),
                    () = expired(until) => Err(Leave::Over(Over::Expired)),
                },
                Err(over) => break Leave::Over(over),
            },
        };
        match sent {
            Ok(len) => {
                span = None;
                bytes += len as u64;
                shared.metrics.sent_bytes.inc_by(len as u64);
            }
            Err(why) => {
                if let Leave::Over(over) = why {
                    viewer.dropped(over);
                }
                break why;
            }
        }
    };
    drop(span);
    line.look(connection.stats());
    (bytes, why)
}

/// A unit is whole packets of MPEG-TS: each datagram but the last is full of them. It waits while libsrt has no room.
async fn send(connection: &Connection, unit: &[u8], pace: &mut Pace) -> Result<(), Leave> {
    for datagram in unit.chunks(PAYLOAD_BYTES) {
        pace.turn().await;
        let mut looks = 0;
        loop {
            match timeout(LOOK, connection.send(datagram)).await {
                Ok(Ok(())) => break,
                Ok(Err(_)) => return Err(Leave::Gone),
                // It drops what is too late only when it is asked to send.
                Err(_) if looks < STALL_LOOKS => looks += 1,
                Err(_) => return Err(Leave::Over(Over::Stalled)),
            }
        }
    }
    Ok(())
}

/// When what a player has missed is sent.
struct Pace {
    /// Until then; it is over when the player has what there is.
    until: Option<Instant>,
    beat: Instant,
    sent: u32,
}

impl Pace {
    fn new(now: Instant) -> Self {
        Self { until: Some(now + CATCH_UP), beat: now, sent: 0 }
    }

    /// Looks at whether the player has to wait for what comes next.
    fn watch<T>(&mut self, next: Poll<T>) -> Poll<T> {
        if next.is_pending() && self.sent > 0 {
            self.until = None;
        }
        next
    }

    /// Resolves when one more datagram may be sent.
    async fn turn(&mut self) {
        let Some(until) = self.until else { return };
        self.sent += 1;
        if !self.sent.is_multiple_of(CATCH_UP_DATAGRAMS) {
            return;
        }
        // Of a beat that is late the next is counted, not the one that should have been: nothing is made up for.
        self.beat = (self.beat + BEAT).max(Instant::now());
        sleep_until(self.beat.into()).await;
        if Instant::now() >= until {
            self.until = None;
        }
    }
}

/// Resolves when the edge hangs up on all players.
async fn hung_up(cut: &mut watch::Receiver<bool>) {
    // Fails where the edge is gone.
    let _ = cut.wait_for(|cut| *cut).await;
}

async fn expired(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until.into()).await,
        None => pending().await,
    }
}

/// What of a player's statistics is in the metrics already.
struct Line<'a> {
    metrics: &'a Metrics,
    last: Stats,
}

impl Line<'_> {
    fn look(&mut self, stats: Option<Stats>) {
        let Some(stats) = stats else { return };
        let kinds = [
            ("sent", self.last.sent_packets, stats.sent_packets),
            ("lost", self.last.send_lost_packets, stats.send_lost_packets),
            ("retransmitted", self.last.retransmitted_packets, stats.retransmitted_packets),
            ("dropped", self.last.send_dropped_packets, stats.send_dropped_packets),
        ];
        for (kind, before, now) in kinds {
            self.metrics.srt_packets.with_label_values(&[kind]).inc_by(now.saturating_sub(before));
        }
        self.metrics.srt_rtt.observe(stats.rtt.as_secs_f64());
        self.last = stats;
    }
}
