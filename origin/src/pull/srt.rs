//! A stream that a listener of SRT sends: MPEG-TS.

use std::net::SocketAddr;

use media_core::mpegts::{Demuxed, Demuxer};
use srt::{Connection, MAX_DATAGRAM_BYTES};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::source::{Item, LOOK};
use crate::remote::Trouble;
use crate::remote::srt::line;

/// A connection that was called for.
pub(super) struct Calling {
    connection: Connection,
    demuxer: Demuxer,
    looks: Interval,
    room: Box<[u8; MAX_DATAGRAM_BYTES]>,
    lost: u64,
}

impl Calling {
    pub(super) fn new(connection: Connection) -> Self {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { connection, demuxer: Demuxer::new(), looks, room: Box::new([0; MAX_DATAGRAM_BYTES]), lost: 0 }
    }

    pub(super) fn peer(&self) -> SocketAddr {
        self.connection.peer()
    }

    pub(super) fn lost(&self) -> u64 {
        self.lost
    }

    pub(super) async fn next(&mut self) -> Result<Item, Trouble> {
        loop {
            match self.demuxer.next_event() {
                Some(Demuxed::Tracks(tracks)) => return Ok(Item::Tracks(tracks)),
                Some(Demuxed::Frame(frame)) => return Ok(Item::Frame(frame)),
                None => {}
            }
            tokio::select! {
                received = self.connection.recv(&mut self.room) => {
                    let bytes = received.map_err(|_| Trouble::Ended)?;
                    self.demuxer.push(self.room.get(..bytes).unwrap_or_default());
                }
                _ = self.looks.tick() => {
                    if let Some(stats) = self.connection.stats() {
                        self.lost = stats.receive_dropped_packets;
                        return Ok(Item::Line(line(stats, self.demuxer.counters().continuity_errors)));
                    }
                }
            }
        }
    }
}
