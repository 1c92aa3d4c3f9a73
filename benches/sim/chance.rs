//! Chance that is the same in every run, and draws from weights in constant time.

/// `SplitMix64`.
#[derive(Debug, Clone)]
pub(crate) struct Chance {
    state: u64,
}

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let hash = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        hash ^ (hash >> 31)
    }

    /// Below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        ((u128::from(self.next()) * end as u128) >> 64) as usize
    }

    /// From 0 to 1.
    pub(crate) fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Seconds until the next of events that come `rate` times a second, independent of each other.
    pub(crate) fn wait(&mut self, rate: f64) -> f64 {
        -(1.0 - self.share()).ln() / rate
    }
}

/// Numbers that come up as often as their weights say (Walker, Vose: the alias method).
#[derive(Debug)]
pub(crate) struct Weighted {
    /// How many of 2^32 draws of a number are that number, and what the others are.
    cells: Vec<(u32, u32)>,
}

impl Weighted {
    pub(crate) fn new(weights: &[f64]) -> Self {
        let scale = weights.len() as f64 / weights.iter().sum::<f64>();
        let mut left: Vec<f64> = weights.iter().map(|weight| weight * scale).collect();
        let (mut small, mut large): (Vec<usize>, Vec<usize>) =
            (0..left.len()).partition(|at| left[*at] < 1.0);
        let mut cells: Vec<(u32, u32)> = (0..left.len() as u32).map(|at| (u32::MAX, at)).collect();
        while let (Some(low), Some(high)) = (small.pop(), large.last().copied()) {
            cells[low] = ((left[low] * f64::from(u32::MAX)) as u32, high as u32);
            left[high] -= 1.0 - left[low];
            if left[high] < 1.0 {
                large.pop();
                small.push(high);
            }
        }
        Self { cells }
    }

    /// By Zipf's law: the n-th is watched by 1/n^`exponent` as many as the first.
    pub(crate) fn zipf(count: usize, exponent: f64) -> Self {
        let weights: Vec<f64> = (1..=count).map(|rank| (rank as f64).powf(-exponent)).collect();
        Self::new(&weights)
    }

    pub(crate) fn draw(&self, chance: &mut Chance) -> usize {
        let at = chance.below(self.cells.len());
        let (own, other) = self.cells[at];
        if chance.next() as u32 <= own { at } else { other as usize }
    }
}
