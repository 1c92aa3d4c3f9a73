//! Records: how the journal's files say what was accepted and what is done with.
//!
//! `F5 'w' 'h' FE`, the payload's length, the CRC-32 of length and payload, the payload; numbers are little-endian. No JSON
//! has those four bytes, since they are not UTF-8: after a damaged record, the next one that is whole is found by them.

use bytes::Bytes;

use crate::hooks::event::MAX_EVENT_BYTES;
use crate::hooks::target::EndpointId;

/// Begins each record.
const MARK: [u8; 4] = [0xf5, b'w', b'h', 0xfe];

/// Mark, length, checksum.
const HEAD: usize = 12;

/// An event, up to 255 endpoints, and the numbers.
const MAX_PAYLOAD_BYTES: usize = MAX_EVENT_BYTES + 8 * 255 + 64;

const EVENT: u8 = 1;
const DONE: u8 = 2;
const GONE: u8 = 3;

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Record {
    /// An event is to be delivered to these endpoints; it replaces what was said of the same number before.
    Event { seq: u64, accepted_ms: u64, to: Vec<EndpointId>, body: Bytes },
    /// An endpoint is done with an event.
    Done { seq: u64, at: EndpointId },
    /// All are, delivered or not.
    Gone { seq: u64 },
}

impl Record {
    /// Writes it behind what is there; how long it is.
    pub(super) fn write(&self, into: &mut Vec<u8>) -> usize {
        let start = into.len();
        into.extend_from_slice(&MARK);
        into.extend_from_slice(&[0; HEAD - MARK.len()]);
        match self {
            Self::Event { seq, accepted_ms, to, body } => {
                into.push(EVENT);
                into.extend_from_slice(&seq.to_le_bytes());
                into.extend_from_slice(&accepted_ms.to_le_bytes());
                // The configuration has fewer by far.
                let to = to.get(..255).unwrap_or(to);
                into.push(u8::try_from(to.len()).unwrap_or(u8::MAX));
                for id in to {
                    into.extend_from_slice(&id.0.to_le_bytes());
                }
                into.extend_from_slice(body);
            }
            Self::Done { seq, at } => {
                into.push(DONE);
                into.extend_from_slice(&seq.to_le_bytes());
                into.extend_from_slice(&at.0.to_le_bytes());
            }
            Self::Gone { seq } => {
                into.push(GONE);
                into.extend_from_slice(&seq.to_le_bytes());
            }
        }
        let length = into.len() - start;
        let payload = u32::try_from(length - HEAD).unwrap_or(u32::MAX).to_le_bytes();
        if let Some((head, body)) = into.get_mut(start..).and_then(|record| record.split_at_mut_checked(HEAD))
        {
            let sum = checksum(payload, body).to_le_bytes();
            for (place, byte) in head.iter_mut().skip(MARK.len()).zip(payload.into_iter().chain(sum)) {
                *place = byte;
            }
        }
        length
    }

    fn parse(payload: &Bytes) -> Option<Self> {
        let mut rest = Fields(payload);
        let record = match rest.byte()? {
            EVENT => {
                let (seq, accepted_ms, count) = (rest.number()?, rest.number()?, rest.byte()?);
                let to = (0..count).map(|_| rest.number().map(EndpointId)).collect::<Option<_>>()?;
                return Some(Self::Event { seq, accepted_ms, to, body: payload.slice_ref(rest.0) });
            }
            DONE => Self::Done { seq: rest.number()?, at: EndpointId(rest.number()?) },
            GONE => Self::Gone { seq: rest.number()? },
            _ => return None,
        };
        rest.0.is_empty().then_some(record)
    }
}

struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn number(&mut self) -> Option<u64> {
        let (number, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*number))
    }
}

fn checksum(length: [u8; 4], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&length);
    hasher.update(payload);
    hasher.finalize()
}

/// What a file holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Scan {
    /// Its records and how long each is, in order.
    pub(super) records: Vec<(Record, usize)>,
    /// Places where something is damaged and whole records follow.
    pub(super) damaged: u64,
    /// Where the last whole record ends. What follows was not finished, or is damaged.
    pub(super) end: usize,
}

/// Reads a file.
pub(super) fn scan(file: &Bytes) -> Scan {
    let mut scan = Scan::default();
    let mut at = 0;
    let mut skipped = false;
    while at < file.len() {
        match read(file, at) {
            Some((record, length)) => {
                scan.damaged += u64::from(skipped);
                skipped = false;
                scan.records.push((record, length));
                at += length;
                scan.end = at;
            }
            None => {
                skipped = true;
                at = next_mark(file, at + 1);
            }
        }
    }
    scan
}

/// The record that begins there, if it is whole.
fn read(file: &Bytes, at: usize) -> Option<(Record, usize)> {
    let (mark, rest) = file.get(at..)?.split_first_chunk::<4>()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (sum, rest) = rest.split_first_chunk::<4>()?;
    let payload = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    if *mark != MARK || payload > MAX_PAYLOAD_BYTES {
        return None;
    }
    let body = rest.get(..payload)?;
    if checksum(*length, body) != u32::from_le_bytes(*sum) {
        return None;
    }
    Some((Record::parse(&file.slice_ref(body))?, HEAD + payload))
}

fn next_mark(file: &[u8], from: usize) -> usize {
    let rest = file.get(from..).unwrap_or_default();
    rest.windows(MARK.len()).position(|window| window == MARK).map_or(file.len(), |found| from + found)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record() -> impl Strategy<Value = Record> {
        let event = (any::<u64>(), any::<u64>(), proptest::collection::vec(any::<u64>(), 0..4), ".{0,80}");
        prop_oneof![
            event.prop_map(|(seq, accepted_ms, to, body)| Record::Event {
                seq,
                accepted_ms,
                to: to.into_iter().map(EndpointId).collect(),
                body: body.into(),
            }),
            (any::<u64>(), any::<u64>()).prop_map(|(seq, at)| Record::Done { seq, at: EndpointId(at) }),
            any::<u64>().prop_map(|seq| Record::Gone { seq }),
        ]
    }

    fn file(records: &[Record]) -> (Vec<u8>, Vec<usize>) {
        let mut file = Vec::new();
        let lengths = records.iter().map(|record| record.write(&mut file)).collect();
        (file, lengths)
    }

    fn found(file: Vec<u8>) -> (Vec<Record>, u64, usize) {
        let scan = scan(&file.into());
        (scan.records.into_iter().map(|(record, _)| record).collect(), scan.damaged, scan.end)
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(records in proptest::collection::vec(record(), 0..20)) {
            let (file, lengths) = file(&records);
            let end = file.len();
            prop_assert_eq!(lengths.iter().sum::<usize>(), end);
            prop_assert_eq!(found(file), (records, 0, end));
        }

        #[test]
        fn a_file_that_is_cut_off_has_all_records_before_the_cut(
            records in proptest::collection::vec(record(), 1..20), cut: prop::sample::Index,
        ) {
            let (mut file, lengths) = file(&records);
            file.truncate(cut.index(file.len()));
            let whole: Vec<usize> = lengths.iter().scan(0, |end, length| { *end += length; Some(*end) })
                .take_while(|end| *end <= file.len()).collect();
            let end = whole.last().copied().unwrap_or_default();
            prop_assert_eq!(found(file), (records[..whole.len()].to_vec(), 0, end));
        }

        #[test]
        fn a_damaged_byte_costs_its_record_only(
            records in proptest::collection::vec(record(), 1..20), at: prop::sample::Index, flip in 1u8..,
        ) {
            let (mut file, lengths) = file(&records);
            let at = at.index(file.len());
            file[at] ^= flip;
            let mut end = 0;
            let hit = lengths.iter().position(|length| { end += length; at < end }).unwrap();
            let mut expected = records;
            expected.remove(hit);
            let is_last = hit == expected.len();
            let (found, damaged, _) = found(file);
            prop_assert_eq!(found, expected);
            prop_assert_eq!(damaged, u64::from(!is_last));
        }

        #[test]
        fn anything_at_all_can_be_scanned(mut bytes: Vec<u8>, marks in proptest::collection::vec(any::<prop::sample::Index>(), 0..4)) {
            for mark in marks {
                let at = mark.index(bytes.len() + 1);
                bytes.splice(at..at, MARK);
            }
            found(bytes);
        }
    }

    #[test]
    fn no_text_has_the_mark() {
        assert!((char::MIN..=char::MAX).all(|c| !c.to_string().as_bytes().contains(&MARK[0])));
    }
}
