//! Packets put back in order.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::packet::Packet;
use super::serial::Serial;

/// Packets held behind a gap: a quarter of a second at 40 Mbit/s.
const MAX_HELD: usize = 1024;
/// Payload bytes held behind a gap.
const MAX_HELD_BYTES: usize = 2 * 1024 * 1024;
/// A step further than this is a sender that counts anew, not a loss.
const MAX_STEP: i64 = 8 * 1024;

/// What comes out, in order.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ordered {
    /// The next packet.
    Packet(Packet),
    /// Something before the packets that follow is lost.
    Gap,
}

/// Holds packets behind a gap until it is filled or the time for that has passed.
#[derive(Debug)]
pub(super) struct Reorder {
    patience: Duration,
    serial: Serial,
    next: Option<i64>,
    held: BTreeMap<i64, (Instant, Packet)>,
    held_bytes: usize,
    gap: bool,
}

impl Reorder {
    /// Waits for a missing packet for `patience`: as long as a NACK and its answer take.
    pub(super) fn new(patience: Duration) -> Self {
        Self {
            patience,
            serial: Serial::default(),
            next: None,
            held: BTreeMap::new(),
            held_bytes: 0,
            gap: false,
        }
    }

    /// Takes a packet; `false` for one that came before or too late.
    pub(super) fn push(&mut self, now: Instant, packet: Packet) -> bool {
        let mut sequence = self.serial.sequence(packet.sequence);
        if self.next.is_some_and(|next| (sequence - next).abs() > MAX_STEP) {
            self.gap = true;
            self.next = None;
            self.held.clear();
            self.held_bytes = 0;
            self.serial = Serial::default();
            sequence = self.serial.sequence(packet.sequence);
        }
        let next = *self.next.get_or_insert(sequence);
        if sequence < next || self.held.contains_key(&sequence) {
            return false;
        }
        self.held_bytes += packet.payload.len();
        self.held.insert(sequence, (now, packet));
        true
    }

    /// What is next, if it is there or is no longer waited for.
    pub(super) fn pop(&mut self, now: Instant) -> Option<Ordered> {
        if std::mem::take(&mut self.gap) {
            return Some(Ordered::Gap);
        }
        let next = self.next?;
        let entry = self.held.first_entry()?;
        if *entry.key() > next {
            let full = self.held_bytes > MAX_HELD_BYTES || self.held.len() > MAX_HELD;
            if !full && self.deadline()? > now {
                return None;
            }
            self.next = self.held.keys().next().copied();
            return Some(Ordered::Gap);
        }
        let (_, packet) = entry.remove();
        self.held_bytes = self.held_bytes.saturating_sub(packet.payload.len());
        self.next = Some(next + 1);
        Some(Ordered::Packet(packet))
    }

    /// When the first gap is given up.
    pub(super) fn deadline(&self) -> Option<Instant> {
        // The one that showed the gap came first of those that are held, or nearly so.
        self.held.values().next().map(|(came, _)| *came + self.patience)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(sequence: u16) -> Packet {
        Packet { sequence, timestamp: 0, marker: false, payload: [0; 1000].into() }
    }

    fn drain(reorder: &mut Reorder, now: Instant) -> Vec<Option<u16>> {
        let next = || match reorder.pop(now)? {
            Ordered::Packet(p) => Some(Some(p.sequence)),
            Ordered::Gap => Some(None),
        };
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn order_is_restored_and_repetitions_are_dropped() {
        let (mut reorder, now) = (Reorder::new(Duration::from_millis(100)), Instant::now());
        for sequence in [65_535, 1, 0, 2, 1, 65_535] {
            reorder.push(now, packet(sequence));
        }
        assert_eq!(drain(&mut reorder, now), [65_535, 0, 1, 2].map(Some));
        assert_eq!(reorder.deadline(), None);
    }

    #[test]
    fn a_loss_is_waited_for_and_then_told() {
        let (mut reorder, now) = (Reorder::new(Duration::from_millis(100)), Instant::now());
        reorder.push(now, packet(1));
        reorder.push(now, packet(3));
        assert_eq!(drain(&mut reorder, now), [Some(1)]);
        let then = reorder.deadline().unwrap();
        assert_eq!(then, now + Duration::from_millis(100));
        reorder.push(now, packet(4));
        assert_eq!(drain(&mut reorder, then), [None, Some(3), Some(4)]);
        assert!(!reorder.push(then, packet(2)), "too late");
    }

    #[test]
    fn what_is_held_is_bounded() {
        let (mut reorder, now) = (Reorder::new(Duration::from_secs(3600)), Instant::now());
        reorder.push(now, packet(0));
        drain(&mut reorder, now);
        for sequence in 2..5_000 {
            reorder.push(now, packet(sequence));
            drain(&mut reorder, now);
            assert!(reorder.held.len() <= MAX_HELD + 1);
        }
    }

    #[test]
    fn a_sender_that_counts_anew_is_followed() {
        let (mut reorder, now) = (Reorder::new(Duration::from_millis(100)), Instant::now());
        for sequence in [5, 30_000, 30_001] {
            reorder.push(now, packet(sequence));
        }
        assert_eq!(drain(&mut reorder, now), [None, Some(30_000), Some(30_001)]);
    }
}
