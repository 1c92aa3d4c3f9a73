//! From three to eight channels to two (RFC 7845 §5.1.1.5). AAC gets the same: its own library's mix of loud channels is
//! clipped to 16 bits, or held back for a limiter.

/// What of each channel goes to the left ear, in the order of mapping family 1 (§5.1.1.2).
const LEFT: [&[f32]; 6] = [
    &[0.585_786, 0.414_214, 0.0],
    &[0.422_650, 0.0, 0.366_025, 0.211_325],
    &[0.650_802, 0.460_186, 0.0, 0.563_611, 0.325_401],
    &[0.529_067, 0.374_107, 0.0, 0.458_186, 0.264_534, 0.374_107],
    &[0.455_310, 0.321_953, 0.0, 0.394_310, 0.227_655, 0.278_819, 0.321_953],
    &[0.388_631, 0.274_804, 0.0, 0.336_565, 0.194_316, 0.336_565, 0.194_316, 0.274_804],
];
/// And to the right one.
const RIGHT: [&[f32]; 6] = [
    &[0.0, 0.414_214, 0.585_786],
    &[0.0, 0.422_650, 0.211_325, 0.366_025],
    &[0.0, 0.460_186, 0.650_802, 0.325_401, 0.563_611],
    &[0.0, 0.374_107, 0.529_067, 0.264_534, 0.458_186, 0.374_107],
    &[0.0, 0.321_953, 0.455_310, 0.227_655, 0.394_310, 0.278_819, 0.321_953],
    &[0.0, 0.274_804, 0.388_631, 0.194_316, 0.336_565, 0.194_316, 0.336_565, 0.274_804],
];

/// The same of AAC, in the order of WAVE files: left, right, centre, LFE, and those behind. Its four channels are other
/// ones: left, right, centre, and one behind.
const AAC_LEFT: [&[f32]; 4] = [
    &[0.585_786, 0.0, 0.414_214],
    &[0.453_082, 0.0, 0.320_377, 0.226_541],
    &[0.650_802, 0.0, 0.460_186, 0.563_611, 0.325_401],
    &[0.529_067, 0.0, 0.374_107, 0.374_107, 0.458_186, 0.264_534],
];
/// And to the right one.
const AAC_RIGHT: [&[f32]; 4] = [
    &[0.0, 0.585_786, 0.414_214],
    &[0.0, 0.453_082, 0.320_377, 0.226_541],
    &[0.0, 0.650_802, 0.460_186, 0.325_401, 0.563_611],
    &[0.0, 0.529_067, 0.374_107, 0.374_107, 0.264_534, 0.458_186],
];

/// A matrix for a number of channels.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Downmix {
    left: &'static [f32],
    right: &'static [f32],
}

impl Downmix {
    /// Of Opus. `None` for mono, stereo, and more than eight.
    pub(crate) fn of_opus(channels: u8) -> Option<Self> {
        let index = usize::from(channels).checked_sub(3)?;
        Some(Self { left: LEFT.get(index)?, right: RIGHT.get(index)? })
    }

    /// Of AAC. `None` for mono, stereo, and more than six.
    pub(crate) fn of_aac(channels: u8) -> Option<Self> {
        let index = usize::from(channels).checked_sub(3)?;
        Some(Self { left: AAC_LEFT.get(index)?, right: AAC_RIGHT.get(index)? })
    }

    /// Appends stereo, interleaved, made of the interleaved channels.
    pub(crate) fn mix(&self, pcm: &[f32], out: &mut Vec<f32>) {
        let ear =
            |sample: &[f32], weights: &[f32]| sample.iter().zip(weights).map(|(s, w)| s * w).sum::<f32>();
        for sample in pcm.chunks_exact(self.left.len()) {
            out.extend([ear(sample, self.left), ear(sample, self.right)]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ears_are_mirror_images() {
        let all = (3..=8).map(Downmix::of_opus).chain((3..=6).map(Downmix::of_aac));
        for (mix, channels) in all.map(Option::unwrap).zip([3, 4, 5, 6, 7, 8, 3, 4, 5, 6]) {
            assert_eq!(mix.left.len(), channels);
            let (mut left, mut right) = (mix.left.to_vec(), mix.right.to_vec());
            left.sort_by(f32::total_cmp);
            right.sort_by(f32::total_cmp);
            assert_eq!(left, right);
        }
        assert!(Downmix::of_opus(2).is_none());
        assert!(Downmix::of_opus(9).is_none());
    }

    #[test]
    fn channels_go_where_they_belong() {
        let mut out = Vec::new();
        // 5.1: left, centre, right, rear left, rear right, LFE.
        Downmix::of_opus(6)
            .unwrap()
            .mix(&[1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.5, 0.0, 0.0, 0.0, 0.0], &mut out);
        assert_eq!(out, [0.529_067, 0.0, 0.187_053_5, 0.187_053_5]);
    }
}
