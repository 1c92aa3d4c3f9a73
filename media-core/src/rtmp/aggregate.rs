//! Aggregate messages (RTMP 1.0 §7.1.6): FLV tags in one message. Their timestamps are relative to each
//! other; the message's own timestamp is that of the first.

use bytes::{Buf, Bytes};

use super::chunk::{Header, Message};
use super::error::Error;

/// Header of a part: type, size, timestamp with its extension, stream id.
const HEADER_BYTES: usize = 11;
/// The back pointer after each part: its size with header.
const BACK_POINTER_BYTES: usize = 4;

/// The parts of an aggregate, in order.
pub(super) struct Parts {
    header: Header,
    rest: Bytes,
    /// The length of all of it.
    bytes: usize,
    first_ms: Option<u32>,
}

impl Parts {
    pub(super) fn new(aggregate: Message) -> Self {
        let bytes = aggregate.body.len();
        Self { header: aggregate.header, rest: aggregate.body, bytes, first_ms: None }
    }

    /// The next part; `None` at the end. A part is copied unless it is most of the
    /// aggregate: a slice would keep all of it in memory, of which nothing knows.
    pub(super) fn next(&mut self) -> Result<Option<Message>, Error> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let Some([type_id, a, b, c, t1, t2, t3, t0, ..]) = self.rest.first_chunk::<HEADER_BYTES>().copied()
        else {
            return Err(Error::Aggregate);
        };
        let len = usize::try_from(u32::from_be_bytes([0, a, b, c])).map_err(|_| Error::Aggregate)?;
        let timestamp_ms = u32::from_be_bytes([t0, t1, t2, t3]);
        self.rest.advance(HEADER_BYTES);
        if self.rest.len() < len {
            return Err(Error::Aggregate);
        }
        let slice = self.rest.split_to(len);
        let body = if len < self.bytes / 8 * 7 { Bytes::copy_from_slice(&slice) } else { slice };
        // The last back pointer is left out by some.
        self.rest.advance(self.rest.len().min(BACK_POINTER_BYTES));
        let first_ms = *self.first_ms.get_or_insert(timestamp_ms);
        let timestamp_ms = self.header.timestamp_ms.wrapping_add(timestamp_ms.wrapping_sub(first_ms));
        Ok(Some(Message { header: Header { type_id, timestamp_ms, ..self.header }, body }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::chunk::type_id;
    use super::*;

    fn part(out: &mut Vec<u8>, type_id: u8, timestamp_ms: u32, body: &[u8]) {
        let [t0, t1, t2, t3] = timestamp_ms.to_be_bytes();
        let [_, a, b, c] = u32::try_from(body.len()).unwrap().to_be_bytes();
        out.extend([type_id, a, b, c, t1, t2, t3, t0, 0, 0, 0]);
        out.extend(body);
        out.extend(u32::try_from(body.len() + HEADER_BYTES).unwrap().to_be_bytes());
    }

    fn aggregate(body: &[u8]) -> Parts {
        let header =
            Header { chunk_stream: 4, type_id: type_id::AGGREGATE, stream_id: 1, timestamp_ms: 5000 };
        Parts::new(Message { header, body: Bytes::copy_from_slice(body) })
    }

    fn all(parts: &mut Parts) -> Result<Vec<Message>, Error> {
        std::iter::from_fn(|| parts.next().transpose()).collect()
    }

    fn example() -> Vec<u8> {
        let mut body = Vec::new();
        part(&mut body, type_id::VIDEO, 0x0200_0000, &[1; 20]);
        part(&mut body, type_id::AUDIO, 0x0200_0017, &[2; 7]);
        part(&mut body, type_id::AUDIO, 0x01ff_fff0, &[]);
        body
    }

    #[test]
    fn parts_are_rebased_on_the_aggregates_timestamp() {
        let got = all(&mut aggregate(&example())).unwrap();
        assert_eq!(got.iter().map(|m| m.header.timestamp_ms).collect::<Vec<_>>(), [5000, 5023, 4984]);
        assert_eq!(got.iter().map(|m| m.body.len()).collect::<Vec<_>>(), [20, 7, 0]);
        assert_eq!(got[1].header.type_id, type_id::AUDIO);
        assert_eq!(got[1].header.stream_id, 1);
    }

    #[test]
    fn a_part_does_not_keep_an_aggregate_in_memory_unless_it_is_most_of_it() {
        for (sizes, shared) in [([200, 100], [false, false]), ([1_000, 20], [true, false])] {
            let mut body = Vec::new();
            sizes.iter().for_each(|size| part(&mut body, type_id::VIDEO, 0, &vec![1; *size]));
            let mut parts = aggregate(&body);
            let range = parts.rest.as_ptr_range();
            let got = all(&mut parts).unwrap().into_iter().map(|m| range.contains(&m.body.as_ptr()));
            assert_eq!(got.collect::<Vec<_>>(), shared);
        }
    }

    #[test]
    fn every_truncation_is_an_error_or_a_shorter_list() {
        let body = example();
        for len in 0..body.len() {
            match all(&mut aggregate(&body[..len])) {
                Ok(parts) => assert!(parts.len() <= 3),
                Err(error) => assert_eq!(error, Error::Aggregate),
            }
        }
        let mut lying = example();
        lying[1] = 0xff;
        assert_eq!(all(&mut aggregate(&lying)), Err(Error::Aggregate));
    }
}
