//! Counters that wrap.

/// A 16-bit sequence number or a 32-bit timestamp made one that goes on: the value nearest to the one before
/// (RFC 1982). What came late is behind it, which may be below 0.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Serial {
    last: Option<i64>,
}

impl Serial {
    /// Of a sequence number.
    pub(super) fn sequence(&mut self, value: u16) -> i64 {
        self.extend(i64::from(value), 16)
    }

    /// Of a timestamp.
    pub(super) fn timestamp(&mut self, value: u32) -> i64 {
        self.extend(i64::from(value), 32)
    }

    fn extend(&mut self, value: i64, bits: u32) -> i64 {
        let extended = match self.last {
            None => value,
            Some(last) => {
                let range = 1_i64 << bits;
                let ahead = (value - last).rem_euclid(range);
                let step = if ahead >= range / 2 { ahead - range } else { ahead };
                last + step
            }
        };
        // Late ones don't take it back: a row of them could walk it anywhere.
        self.last = Some(self.last.map_or(extended, |last| last.max(extended)));
        extended
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn goes_on_through_a_wrap_and_takes_late_ones_for_late() {
        let mut serial = Serial::default();
        let values = [65_534, 65_535, 1, 0, 2, 65_533].map(|v| serial.sequence(v));
        assert_eq!(values, [65_534, 65_535, 65_537, 65_536, 65_538, 65_533]);
    }

    proptest! {
        #[test]
        fn small_steps_are_followed(start in any::<u32>(), steps in prop::collection::vec(-1_000_000_i64..1_000_000, 0..200)) {
            let mut serial = Serial::default();
            let mut highest = serial.timestamp(start);
            for step in steps {
                let true_value = highest + step;
                let extended = serial.timestamp(u32::try_from(true_value.rem_euclid(1 << 32)).unwrap());
                prop_assert_eq!(extended, true_value);
                highest = highest.max(extended);
            }
        }
    }
}
