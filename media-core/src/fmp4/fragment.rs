//! Fragments: `moof` and `mdat` (ISO/IEC 14496-12 §8.8.4).
//!
//! Written by hand into one allocation of the exact size: this runs for every part of every
//! rendition, and a general box writer would build each run as a list first. Samples are only put behind
//! their boxes when somebody asks: most parts of most streams nobody does.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use parking_lot::Mutex;

use super::{Error, Sample, TrackRun};

const HEADER_BYTES: usize = 8;
const MFHD_BYTES: usize = 16;
const TFDT_BYTES: usize = 20;

const TFHD_DEFAULT_DURATION: u32 = 0x08;
const TFHD_DEFAULT_FLAGS: u32 = 0x20;
const TFHD_BASE_IS_MOOF: u32 = 0x02_0000;

const TRUN_DATA_OFFSET: u32 = 0x01;
const TRUN_FIRST_FLAGS: u32 = 0x04;
const TRUN_DURATION: u32 = 0x100;
const TRUN_SIZE: u32 = 0x200;
const TRUN_FLAGS: u32 = 0x400;
const TRUN_CTS: u32 = 0x800;

/// Shorter samples are copied at once: so what refers to the others, some 80 bytes each, is little beside them.
const MIN_SHARED_BYTES: usize = 1 << 10;

/// `sample_depends_on` = 2: on no other sample (§8.8.3.1).
const SYNC: u32 = 0x0200_0000;
/// `sample_depends_on` = 1 and `sample_is_non_sync_sample`.
const NON_SYNC: u32 = 0x0101_0000;

const fn sample_flags(sample: &Sample) -> u32 {
    if sample.keyframe { SYNC } else { NON_SYNC }
}

/// What a `traf` says once, and what it says for each sample.
struct Layout<'a> {
    run: &'a TrackRun<'a>,
    tfhd_flags: u32,
    trun_flags: u32,
    first_flags: u32,
    default_duration: u32,
    default_flags: u32,
    sample_bytes: usize,
    payload_bytes: u64,
}

impl<'a> Layout<'a> {
    /// `None` for a run without samples.
    fn new(run: &'a TrackRun<'a>) -> Option<Self> {
        let (first, others) = run.samples.split_first()?;
        let mut tfhd_flags = TFHD_BASE_IS_MOOF;
        let mut trun_flags = TRUN_DATA_OFFSET | TRUN_SIZE;
        let mut sample_bytes = 4;
        if others.iter().all(|sample| sample.duration == first.duration) {
            tfhd_flags |= TFHD_DEFAULT_DURATION;
        } else {
            trun_flags |= TRUN_DURATION;
            sample_bytes += 4;
        }
        let first_flags = sample_flags(first);
        let default_flags = others.first().map_or(first_flags, sample_flags);
        if others.iter().all(|sample| sample_flags(sample) == default_flags) {
            tfhd_flags |= TFHD_DEFAULT_FLAGS;
            if first_flags != default_flags {
                trun_flags |= TRUN_FIRST_FLAGS;
            }
        } else {
            trun_flags |= TRUN_FLAGS;
            sample_bytes += 4;
        }
        if run.samples.iter().any(|sample| sample.cts != 0) {
            trun_flags |= TRUN_CTS;
            sample_bytes += 4;
        }
        Some(Self {
            run,
            tfhd_flags,
            trun_flags,
            first_flags,
            default_duration: first.duration,
            default_flags,
            sample_bytes,
            payload_bytes: run.samples.iter().map(|sample| sample.data.len() as u64).sum(),
        })
    }

    fn tfhd_bytes(&self) -> usize {
        let optional = self.tfhd_flags & (TFHD_DEFAULT_DURATION | TFHD_DEFAULT_FLAGS);
        HEADER_BYTES + 8 + if optional.count_ones() == 2 { 8 } else { 4 * usize::from(optional != 0) }
    }

    fn trun_bytes(&self) -> usize {
        let first = if self.trun_flags & TRUN_FIRST_FLAGS != 0 { 4 } else { 0 };
        HEADER_BYTES + 12 + first + self.sample_bytes * self.run.samples.len()
    }

    fn traf_bytes(&self) -> usize {
        HEADER_BYTES + self.tfhd_bytes() + TFDT_BYTES + self.trun_bytes()
    }

    /// `data_offset`: from the start of the `moof` to the run's first byte.
    fn put(&self, out: &mut BytesMut, data_offset: u32) -> Result<(), Error> {
        put_header(out, self.traf_bytes(), *b"traf")?;

        put_header(out, self.tfhd_bytes(), *b"tfhd")?;
        out.put_u32(self.tfhd_flags);
        out.put_u32(self.run.id);
        if self.tfhd_flags & TFHD_DEFAULT_DURATION != 0 {
            out.put_u32(self.default_duration);
        }
        if self.tfhd_flags & TFHD_DEFAULT_FLAGS != 0 {
            out.put_u32(self.default_flags);
        }

        put_header(out, TFDT_BYTES, *b"tfdt")?;
        out.put_u32(1 << 24);
        out.put_u64(self.run.base_decode_time);

        put_header(out, self.trun_bytes(), *b"trun")?;
        // Version 1: composition offsets are signed.
        out.put_u32(1 << 24 | self.trun_flags);
        out.put_u32(size(self.run.samples.len())?);
        out.put_u32(data_offset);
        if self.trun_flags & TRUN_FIRST_FLAGS != 0 {
            out.put_u32(self.first_flags);
        }
        for sample in self.run.samples {
            if self.trun_flags & TRUN_DURATION != 0 {
                out.put_u32(sample.duration);
            }
            out.put_u32(size(sample.data.len())?);
            if self.trun_flags & TRUN_FLAGS != 0 {
                out.put_u32(sample_flags(sample));
            }
            if self.trun_flags & TRUN_CTS != 0 {
                out.put_i32(sample.cts);
            }
        }
        Ok(())
    }
}

fn size(bytes: usize) -> Result<u32, Error> {
    u32::try_from(bytes).map_err(|_| Error::TooLarge(bytes as u64))
}

fn put_header(out: &mut BytesMut, bytes: usize, kind: [u8; 4]) -> Result<(), Error> {
    out.put_u32(size(bytes)?);
    out.put_slice(&kind);
    Ok(())
}

/// A fragment's bytes. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Fragment {
    len: usize,
    /// One piece, once somebody has asked for it.
    pieces: Arc<Mutex<Vec<Bytes>>>,
}

impl Fragment {
    /// How many bytes it is.
    pub fn len(&self) -> usize {
        self.len
    }

    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All of it, put together the first time and then shared.
    pub fn bytes(&self) -> Bytes {
        let mut pieces = self.pieces.lock();
        if pieces.len() > 1 {
            *pieces = vec![pieces.concat().into()];
        }
        pieces.first().cloned().unwrap_or_default()
    }
}

impl From<Bytes> for Fragment {
    fn from(bytes: Bytes) -> Self {
        Self { len: bytes.len(), pieces: Arc::new(Mutex::new(vec![bytes])) }
    }
}

impl PartialEq for Fragment {
    fn eq(&self, other: &Self) -> bool {
        self.bytes() == other.bytes()
    }
}

impl Eq for Fragment {}

/// `moof` and `mdat`: a fragment with one `traf` a run. Runs without samples are left out.
/// `sequence` is the `mfhd` sequence number.
pub fn fragment(sequence: u32, runs: &[TrackRun<'_>]) -> Result<Fragment, Error> {
    let layouts: Vec<Layout<'_>> = runs.iter().filter_map(Layout::new).collect();
    if layouts.is_empty() {
        return Err(Error::Empty);
    }
    let moof_bytes = HEADER_BYTES + MFHD_BYTES + layouts.iter().map(Layout::traf_bytes).sum::<usize>();
    let payload_bytes: u64 = layouts.iter().map(|layout| layout.payload_bytes).sum();
    let total = (moof_bytes + HEADER_BYTES) as u64 + payload_bytes;
    // `data_offset` is a signed 32-bit number.
    let len = i32::try_from(total).ok().and_then(|total| usize::try_from(total).ok());
    let len = len.ok_or(Error::TooLarge(total))?;
    let samples = || layouts.iter().flat_map(|layout| layout.run.samples).map(|sample| &sample.data);
    let shared = || samples().filter(|data| data.len() >= MIN_SHARED_BYTES);
    let mut out = BytesMut::with_capacity(len - shared().map(Bytes::len).sum::<usize>());

    put_header(&mut out, moof_bytes, *b"moof")?;
    put_header(&mut out, MFHD_BYTES, *b"mfhd")?;
    out.put_u32(0);
    out.put_u32(sequence);
    let mut data_offset = (moof_bytes + HEADER_BYTES) as u64;
    for layout in &layouts {
        layout.put(&mut out, u32::try_from(data_offset).map_err(|_| Error::TooLarge(total))?)?;
        data_offset += layout.payload_bytes;
    }

    let mdat_bytes = u32::try_from(total - moof_bytes as u64).map_err(|_| Error::TooLarge(total))?;
    out.put_u32(mdat_bytes);
    out.put_slice(b"mdat");
    let mut pieces = Vec::with_capacity(2 * shared().count() + 1);
    for data in samples() {
        if data.len() < MIN_SHARED_BYTES {
            out.put_slice(data);
            continue;
        }
        if !out.is_empty() {
            pieces.push(out.split().freeze());
        }
        pieces.push(data.clone());
    }
    if !out.is_empty() {
        pieces.push(out.freeze());
    }
    debug_assert_eq!(pieces.iter().map(Bytes::len).sum::<usize>(), len);
    Ok(Fragment { len, pieces: Arc::new(Mutex::new(pieces)) })
}
