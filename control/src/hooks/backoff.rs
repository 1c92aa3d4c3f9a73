//! How long to wait after a failure.

use std::time::Duration;

/// After the first failure.
const FIRST: Duration = Duration::from_secs(1);

/// Between two attempts at most: an endpoint that comes back is noticed so soon.
const LONGEST: Duration = Duration::from_secs(300);

/// What an endpoint may ask for with Retry-After at most.
const LONGEST_TOLD: Duration = Duration::from_secs(900);

/// The pause after so many failures in a row: twice as long each time, and of that a random share between half and whole,
/// so that endpoints which failed together are not asked together. `random` is any number.
pub(super) fn pause(failures: u32, random: u64) -> Duration {
    let whole =
        FIRST.saturating_mul(1u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX)).min(LONGEST);
    let share = f64::from(u32::try_from(random >> 32).unwrap_or_default()) / f64::from(u32::MAX);
    whole.mul_f64(0.5 + share / 2.0)
}

/// The pause that an endpoint asked for, within bounds.
pub(super) fn told(retry_after: Duration) -> Duration {
    retry_after.clamp(FIRST, LONGEST_TOLD)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_bound_and_keep_within_half_and_whole() {
        for (failures, whole) in
            [(0, 1), (1, 1), (2, 2), (5, 16), (9, 256), (10, 300), (32, 300), (33, 300), (u32::MAX, 300)]
        {
            let whole = Duration::from_secs(whole);
            assert_eq!(pause(failures, 0), whole / 2, "{failures}");
            assert_eq!(pause(failures, u64::MAX), whole, "{failures}");
        }
    }

    #[test]
    fn what_an_endpoint_asks_for_is_bounded() {
        let told = |s| told(Duration::from_secs(s)).as_secs();
        assert_eq!([told(0), told(30), told(u64::MAX)], [1, 30, 900]);
    }
}
