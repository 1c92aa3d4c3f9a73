//! H.264 (RFC 6184, packetization-mode 1) and HEVC (RFC 7798) payloads → access units of length-prefixed NAL units.

use bytes::Bytes;

use super::super::MAX_ACCESS_UNIT_BYTES;
use super::Damage;
use super::lane::Assembled;
use crate::codec;
use crate::frame::Codec;

/// Parameter sets of one kind in an access unit: HEVC has 64 PPS at most.
const MAX_SETS: usize = 64;
/// All their bytes: more than `codec::track` takes is of no use.
const MAX_SET_BYTES: usize = codec::MAX_CONFIG_BYTES;
/// The bytes that an empty buffer may keep for the next access unit.
const MAX_IDLE_BYTES: usize = 256 * 1024;

/// Whose NAL unit header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Syntax {
    H264,
    H265,
}

/// What a unit is to an assembly.
enum Role {
    /// A parameter set: VPS, SPS or PPS.
    Set(usize),
    /// Of no use to a decoder that has whole access units.
    Useless,
    /// A slice or what is said beside it.
    Data,
}

impl Syntax {
    fn header_bytes(self) -> usize {
        match self {
            Self::H264 => 1,
            Self::H265 => 2,
        }
    }

    fn unit_type(self, header: u8) -> u8 {
        match self {
            Self::H264 => header & 0x1f,
            Self::H265 => header >> 1 & 0x3f,
        }
    }

    fn role(self, unit: &[u8]) -> Role {
        let Some(&header) = unit.first() else { return Role::Useless };
        match (self, self.unit_type(header)) {
            (Self::H264, 7) => Role::Set(1),
            (Self::H264, 8) => Role::Set(2),
            // Delimiter, ends, filler.
            (Self::H264, 9..=12) => Role::Useless,
            (Self::H265, number @ 32..=34) => Role::Set(usize::from(number - 32)),
            (Self::H265, 35..=38) => Role::Useless,
            _ => Role::Data,
        }
    }

    /// Whether a picture can begin with this unit.
    fn begins(self, unit: &[u8]) -> bool {
        // `first_mb_in_slice` 0 is a single 1 bit, and so is `first_slice_segment_in_pic_flag`.
        let first_slice = || unit.get(self.header_bytes()).is_some_and(|byte| byte & 0x80 != 0);
        let Some(&header) = unit.first() else { return false };
        match (self, self.unit_type(header)) {
            (Self::H264, 1..=5) | (Self::H265, 0..=31) => first_slice(),
            (Self::H264, 6..=9) | (Self::H265, 32..=35 | 39) => true,
            _ => false,
        }
    }
}

/// The access unit that is being put together.
#[derive(Debug)]
pub(super) struct NalAssembly {
    syntax: Syntax,
    data: Vec<u8>,
    /// The unit that is coming in fragments.
    fragment: Vec<u8>,
    in_fragment: bool,
    /// Parameter sets of this access unit: VPS, SPS, PPS.
    sets: [Vec<Bytes>; 3],
    set_bytes: usize,
    /// The newest of each kind.
    known: [Vec<Bytes>; 3],
}

impl NalAssembly {
    pub(super) fn new(syntax: Syntax) -> Self {
        Self {
            syntax,
            data: Vec::new(),
            fragment: Vec::new(),
            in_fragment: false,
            sets: Default::default(),
            set_bytes: 0,
            known: Default::default(),
        }
    }

    pub(super) fn push(&mut self, payload: &[u8]) -> Result<(), Damage> {
        let &header = payload.first().ok_or(Damage::Malformed)?;
        let fragment = match (self.syntax, self.syntax.unit_type(header)) {
            (Syntax::H264, 28) | (Syntax::H265, 49) => true,
            (Syntax::H264, 24) | (Syntax::H265, 48) => {
                self.not_in_fragment()?;
                return self.aggregate(payload);
            }
            (Syntax::H264, 1..=23) | (Syntax::H265, 0..=47) => false,
            _ => return Err(Damage::Malformed),
        };
        if fragment {
            return self.fragment(payload);
        }
        self.not_in_fragment()?;
        self.unit(payload)
    }

    /// Whether an access unit can begin with this payload.
    pub(super) fn begins(&self, payload: &[u8]) -> bool {
        let header_bytes = self.syntax.header_bytes();
        let Some(&header) = payload.first() else { return false };
        match (self.syntax, self.syntax.unit_type(header)) {
            (Syntax::H264, 24) | (Syntax::H265, 48) => payload
                .get(if self.syntax == Syntax::H264 { 3 } else { 4 }..)
                .is_some_and(|unit| self.syntax.begins(unit)),
            (Syntax::H264, 28) | (Syntax::H265, 49) => {
                let start = payload.get(header_bytes).is_some_and(|byte| byte & 0x80 != 0);
                let slice = payload.get(header_bytes + 1).is_some_and(|byte| byte & 0x80 != 0);
                start && slice
            }
            _ => self.syntax.begins(payload),
        }
    }

    pub(super) fn finish(&mut self) -> Result<Option<Assembled>, Damage> {
        let broken = std::mem::take(&mut self.in_fragment);
        self.fragment.clear();
        let data = Bytes::copy_from_slice(&self.data);
        self.data.clear();
        self.data.shrink_to(MAX_IDLE_BYTES);
        self.fragment.shrink_to(MAX_IDLE_BYTES);
        let sets = std::mem::take(&mut self.sets);
        self.set_bytes = 0;
        if broken {
            return Err(Damage::Malformed);
        }
        for (known, sets) in self.known.iter_mut().zip(sets) {
            if !sets.is_empty() {
                *known = sets;
            }
        }
        if data.is_empty() {
            return Ok(None);
        }
        let codec = match self.syntax {
            Syntax::H264 => Codec::H264,
            Syntax::H265 => Codec::H265,
        };
        let keyframe = codec::keyframe(codec, &data);
        let config = if keyframe { self.config() } else { None };
        Ok(Some(Assembled { data, keyframe, config }))
    }

    /// The configuration record of the newest parameter sets, where there are all it takes.
    fn config(&self) -> Option<Bytes> {
        let [vps, sps, pps] = &self.known;
        let [vps, sps, pps] =
            [vps, sps, pps].map(|sets| sets.iter().map(Bytes::as_ref).collect::<Vec<&[u8]>>());
        match self.syntax {
            Syntax::H264 => codec::h264::config_from_parameter_sets(&sps, &pps).ok(),
            Syntax::H265 => codec::h265::config_from_parameter_sets(&vps, &sps, &pps).ok(),
        }
    }

    fn not_in_fragment(&self) -> Result<(), Damage> {
        if self.in_fragment { Err(Damage::Malformed) } else { Ok(()) }
    }

    /// STAP-A (RFC 6184 §5.7.1), AP (RFC 7798 §4.4.2).
    fn aggregate(&mut self, payload: &[u8]) -> Result<(), Damage> {
        let mut rest = payload.get(self.syntax.header_bytes()..).ok_or(Damage::Malformed)?;
        while !rest.is_empty() {
            let (length, behind) = rest.split_first_chunk::<2>().ok_or(Damage::Malformed)?;
            let length = usize::from(u16::from_be_bytes(*length));
            let (unit, behind) = behind.split_at_checked(length).ok_or(Damage::Malformed)?;
            self.unit(unit)?;
            rest = behind;
        }
        Ok(())
    }

    /// FU-A (RFC 6184 §5.8), FU (RFC 7798 §4.4.3).
    fn fragment(&mut self, payload: &[u8]) -> Result<(), Damage> {
        let (start, end, unit_type, piece) = match (self.syntax, payload) {
            (Syntax::H264, [indicator, header, piece @ ..]) => {
                let first = [indicator & 0xe0 | header & 0x1f, 0];
                (header & 0x80 != 0, header & 0x40 != 0, first, piece)
            }
            (Syntax::H265, [first, second, header, piece @ ..]) => {
                let first = [first & 0x81 | (header & 0x3f) << 1, *second];
                (header & 0x80 != 0, header & 0x40 != 0, first, piece)
            }
            _ => return Err(Damage::Malformed),
        };
        if start == self.in_fragment {
            return Err(Damage::Malformed);
        }
        if start {
            self.fragment.clear();
            let header = unit_type.get(..self.syntax.header_bytes()).unwrap_or_default();
            self.fragment.extend_from_slice(header);
            self.in_fragment = true;
        }
        if self.data.len() + self.fragment.len() + piece.len() + 4 > MAX_ACCESS_UNIT_BYTES {
            return Err(Damage::TooLarge);
        }
        self.fragment.extend_from_slice(piece);
        if end {
            self.in_fragment = false;
            let unit = std::mem::take(&mut self.fragment);
            let taken = self.unit(&unit);
            self.fragment = unit;
            taken?;
        }
        Ok(())
    }

    fn unit(&mut self, unit: &[u8]) -> Result<(), Damage> {
        if unit.len() < self.syntax.header_bytes() {
            return Err(Damage::Malformed);
        }
        match self.syntax.role(unit) {
            Role::Useless => {}
            Role::Set(kind) => {
                let sets = self.sets.get_mut(kind).ok_or(Damage::Malformed)?;
                self.set_bytes += unit.len();
                if sets.len() >= MAX_SETS || self.set_bytes > MAX_SET_BYTES {
                    return Err(Damage::Configuration);
                }
                sets.push(Bytes::copy_from_slice(unit));
            }
            Role::Data => {
                if self.data.len() + 4 + unit.len() > MAX_ACCESS_UNIT_BYTES {
                    return Err(Damage::TooLarge);
                }
                let length = u32::try_from(unit.len()).map_err(|_| Damage::TooLarge)?;
                self.data.extend_from_slice(&length.to_be_bytes());
                self.data.extend_from_slice(unit);
            }
        }
        Ok(())
    }
}
