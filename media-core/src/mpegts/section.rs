//! Sections of tables (§2.4.4): put together from packets, checked, and written.

use bytes::{BufMut, BytesMut};

use super::Counters;

/// The longest section of a PAT or PMT, header and checksum and all: its `section_length` is at most 1021.
const MAX_SECTION_BYTES: usize = 1024;
/// Bytes before what `section_length` counts.
const LENGTH_END: usize = 3;
/// Bytes behind the contents.
const CRC_BYTES: usize = 4;
/// Fills a packet behind its last section.
const STUFFING: u8 = 0xff;

/// Puts the sections of one PID together.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    buffer: Vec<u8>,
    /// Whether the beginning of the section at hand was seen.
    begun: bool,
}

impl Assembly {
    /// Forgets what is not whole: something was lost.
    pub(super) fn reset(&mut self) {
        self.buffer.clear();
        self.begun = false;
    }

    /// Takes a packet's payload and hands each section that became whole and has a right checksum to `found`.
    pub(super) fn push(
        &mut self,
        unit_start: bool,
        payload: &[u8],
        counters: &mut Counters,
        mut found: impl FnMut(&Section<'_>, &mut Counters),
    ) {
        let mut rest = payload;
        if unit_start {
            let split =
                payload.split_first().and_then(|(&pointer, rest)| rest.split_at_checked(pointer.into()));
            let Some((end, start)) = split else {
                counters.malformed_sections += 1;
                return self.reset();
            };
            self.append(end, counters, &mut found);
            self.reset();
            self.begun = true;
            rest = start;
        }
        self.append(rest, counters, &mut found);
    }

    fn append(
        &mut self,
        mut bytes: &[u8],
        counters: &mut Counters,
        found: &mut impl FnMut(&Section<'_>, &mut Counters),
    ) {
        while self.begun && !bytes.is_empty() {
            if self.buffer.is_empty() && bytes.first() == Some(&STUFFING) {
                // The next section begins where a pointer says so.
                self.begun = false;
                return;
            }
            let missing = self.wanted().saturating_sub(self.buffer.len());
            let (now, later) = bytes.split_at_checked(missing).unwrap_or((bytes, &[]));
            self.buffer.extend_from_slice(now);
            bytes = later;
            if self.wanted() > MAX_SECTION_BYTES {
                counters.malformed_sections += 1;
                return self.reset();
            }
            if self.buffer.len() >= LENGTH_END && self.buffer.len() == self.wanted() {
                let Some(section) = Section::parse(&self.buffer) else {
                    // Its length may be the lie, so that where the next one begins is not known.
                    counters.malformed_sections += 1;
                    return self.reset();
                };
                found(&section, counters);
                self.buffer.clear();
            }
        }
    }

    /// Bytes until the end of the section, or of its length while that is not known.
    fn wanted(&self) -> usize {
        match self.buffer.first_chunk::<LENGTH_END>() {
            None => LENGTH_END,
            Some(&[_, high, low]) => LENGTH_END + usize::from(u16::from_be_bytes([high & 0x0f, low])),
        }
    }
}

/// A section with the long header, whose checksum is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Section<'a> {
    pub(super) table_id: u8,
    /// `transport_stream_id` or `program_number`.
    pub(super) extension: u16,
    /// `version_number`.
    pub(super) version: u8,
    /// `current_next_indicator`: it holds now.
    pub(super) current: bool,
    /// `section_number`.
    pub(super) number: u8,
    pub(super) body: &'a [u8],
}

impl<'a> Section<'a> {
    fn parse(section: &'a [u8]) -> Option<Self> {
        let (&[table_id, syntax, _, e1, e0, version, number, _last], rest) =
            section.split_first_chunk::<8>()?;
        if syntax & 0x80 == 0 || crc32(section) != 0 {
            return None;
        }
        Some(Self {
            table_id,
            extension: u16::from_be_bytes([e1, e0]),
            version: version >> 1 & 0x1f,
            current: version & 1 == 1,
            number,
            body: rest.get(..rest.len().checked_sub(CRC_BYTES)?)?,
        })
    }

    /// Writes the section, the only one of its table.
    pub(super) fn write(&self, out: &mut BytesMut) {
        let start = out.len();
        // The lengths of our tables are a few hundred bytes.
        let length = u16::try_from(self.body.len() + 5 + CRC_BYTES).unwrap_or_default();
        out.put_u8(self.table_id);
        out.put_u16(0xb000 | length & 0x0fff);
        out.put_u16(self.extension);
        out.put_slice(&[0xc0 | self.version << 1 | u8::from(self.current), self.number, 0]);
        out.put_slice(self.body);
        let crc = crc32(out.get(start..).unwrap_or_default());
        out.put_u32(crc);
    }
}

/// The checksum of Annex A: 0 over a section with its own.
pub(super) fn crc32(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut index = 0u32;
        while index < 256 {
            let mut value = index << 24;
            let mut bit = 0;
            while bit < 8 {
                value = if value & 0x8000_0000 != 0 { value << 1 ^ 0x04c1_1db7 } else { value << 1 };
                bit += 1;
            }
            #[allow(clippy::indexing_slicing, reason = "at compile time, and the index is below 256")]
            {
                table[index as usize] = value;
            }
            index += 1;
        }
        table
    };
    bytes.iter().fold(u32::MAX, |crc, &byte| {
        let index = usize::from((crc >> 24) as u8 ^ byte);
        crc << 8 ^ TABLE.get(index).copied().unwrap_or_default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(body: &[u8]) -> Vec<u8> {
        let section = Section { table_id: 2, extension: 7, version: 3, current: true, number: 0, body };
        let mut out = BytesMut::new();
        section.write(&mut out);
        out.to_vec()
    }

    fn read(pieces: &[(bool, &[u8])]) -> (Vec<Vec<u8>>, u64) {
        let (mut assembly, mut counters, mut bodies) = (Assembly::default(), Counters::default(), Vec::new());
        for (unit_start, payload) in pieces {
            assembly.push(*unit_start, payload, &mut counters, |section, _| {
                assert_eq!((section.table_id, section.extension, section.version), (2, 7, 3));
                bodies.push(section.body.to_vec());
            });
            assert!(assembly.buffer.len() <= MAX_SECTION_BYTES);
        }
        (bodies, counters.malformed_sections)
    }

    #[test]
    fn the_checksum_is_that_of_the_standard() {
        assert_eq!(crc32(b"123456789"), 0x0376_e6e7);
        assert_eq!(crc32(&section(&[1, 2, 3])), 0);
    }

    #[test]
    fn sections_are_put_together_wherever_they_are_cut() {
        let (one, two) = (section(&[7; 300]), section(&[8; 2]));
        let all = [one.as_slice(), &two].concat();
        for cut in 1..all.len() {
            let (head, tail) = all.split_at(cut);
            let (first, behind) = ([&[0][..], head].concat(), [tail, &[0xff; 9]].concat());
            assert_eq!(
                read(&[(true, &first), (false, &behind)]),
                (vec![vec![7; 300], vec![8; 2]], 0),
                "{cut}"
            );
        }
        // The pointer passes over the end of the section before.
        let pointed = [&[4][..], &one[300..304], &two].concat();
        assert_eq!(read(&[(true, &pointed)]).0, [vec![8; 2]]);
        let begun = [&[0][..], &one[..300]].concat();
        let pointed = [&[u8::try_from(one.len() - 300).unwrap()][..], &one[300..], &two].concat();
        assert_eq!(read(&[(true, &begun), (true, &pointed)]).0, [vec![7; 300], vec![8; 2]]);
    }

    #[test]
    fn lies_are_counted_and_bounded() {
        let mut wrong = section(&[1]);
        wrong[9] ^= 1;
        for lie in [
            &[0, 2, 0xbf, 0xff, 0][..], // too long
            &[0, 2, 0xb0, 0, 0xff],     // no room for its own header
            &[200, 1],                  // a pointer past the end
            &[],
            &[&[0][..], &wrong].concat(),
        ] {
            assert_eq!(read(&[(true, lie), (false, &[0; 184]), (false, &[0; 184])]), (vec![], 1), "{lie:?}");
        }
        assert_eq!(read(&[(false, &[0; 184])]), (vec![], 0));
    }
}
