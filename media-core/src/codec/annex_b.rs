//! The byte stream format of H.264 and HEVC (ISO/IEC 14496-10 and ITU-T H.265 Annex B): NAL units behind start codes.

/// What a writer puts before each NAL unit: `zero_byte` and `start_code_prefix_one_3bytes`.
pub const START_CODE: [u8; 4] = [0, 0, 0, 1];

/// The NAL units between the start codes, without the zeros that may stand behind them. What stands before the first
/// start code is passed over, and empty units are.
pub fn units(data: &[u8]) -> Units<'_> {
    let mut units = Units { rest: data };
    units.skip_to_unit();
    units
}

/// See [`units`].
#[derive(Debug, Clone)]
pub struct Units<'a> {
    /// What begins behind a start code.
    rest: &'a [u8],
}

impl<'a> Units<'a> {
    fn skip_to_unit(&mut self) {
        self.rest = match find_start_code(self.rest) {
            Some(at) => self.rest.get(at + 3..).unwrap_or_default(),
            None => &[],
        };
    }
}

impl<'a> Iterator for Units<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        while !self.rest.is_empty() {
            let all = self.rest;
            let unit = match find_start_code(all) {
                Some(at) => {
                    self.rest = all.get(at + 3..).unwrap_or_default();
                    all.get(..at).unwrap_or_default()
                }
                None => std::mem::take(&mut self.rest),
            };
            let end = unit.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
            if let Some(unit) = unit.get(..end).filter(|unit| !unit.is_empty()) {
                return Some(unit);
            }
        }
        None
    }
}

/// Where the next `00 00 01` begins.
fn find_start_code(data: &[u8]) -> Option<usize> {
    let mut at = 0;
    while let Some(&third) = data.get(at + 2) {
        // A third byte above 1 can be in no start code at all, so that most bytes are passed over three at a time.
        at += match third {
            0 => 1,
            1 if data.get(at..at + 2) == Some(&[0, 0]) => return Some(at),
            _ => 3,
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(data: &[u8]) -> Vec<Vec<u8>> {
        units(data).map(<[u8]>::to_vec).collect()
    }

    #[test]
    fn splits_at_start_codes_of_either_length() {
        let data = [0, 0, 0, 1, 9, 0xf0, 0, 0, 1, 0x67, 1, 0, 0, 0, 1, 0x65, 0, 0, 3, 0, 0, 0];
        assert_eq!(split(&data), [vec![9, 0xf0], vec![0x67, 1], vec![0x65, 0, 0, 3]]);
        assert_eq!(split(&[7, 7, 0, 0, 1, 5]), [vec![5]]);
        assert_eq!(split(&[0, 0, 1, 0, 0, 1, 1, 0, 0, 1]), [vec![1]]);
        for nothing in [&[][..], &[0, 0], &[0, 0, 1], &[1, 2, 3, 4], &[0, 0, 0, 0, 0, 0]] {
            assert!(split(nothing).is_empty(), "{nothing:?}");
        }
    }

    proptest! {
        #[test]
        fn finds_what_was_joined(
            found in prop::collection::vec((prop::collection::vec(2u8..=255, 1..40), any::<bool>(), 0usize..4), 0..20),
        ) {
            let mut data = Vec::new();
            for (unit, long, zeros) in &found {
                data.extend_from_slice(if *long { &START_CODE } else { &START_CODE[1..] });
                data.extend_from_slice(unit);
                data.resize(data.len() + zeros, 0);
            }
            let expected: Vec<_> = found.into_iter().map(|(unit, ..)| unit).collect();
            prop_assert_eq!(split(&data), expected);
        }

        #[test]
        fn start_codes_are_where_they_are(data in prop::collection::vec(0u8..3, 0..60)) {
            let plain = data.windows(3).position(|three| three == [0, 0, 1]);
            prop_assert_eq!(find_start_code(&data), plain);
        }
    }
}
