//! Hashes that are the same in every process and release: replicas that disagreed about a stream would have it pulled by
//! an edge for each of them, and an upgrade would move everybody.

/// FNV-1a's parameters for 64 bits.
const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

/// How far `SplitMix64` goes from one number to the next: odd, and without a pattern.
const STRIDE: u64 = 0x9e37_79b9_7f4a_7c15;

/// The finalizer of `SplitMix64`: every bit of the result depends on every one of `hash`.
pub(super) fn mix(hash: u64) -> u64 {
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

/// The number `at` of the sequence that begins with `seed`.
pub(super) fn nth(seed: u64, at: u32) -> u64 {
    mix(seed.wrapping_add(u64::from(at).wrapping_mul(STRIDE)))
}

fn fnv(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(OFFSET, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME))
}

/// Of a stream's name.
pub(super) fn stream(name: &str) -> u64 {
    // FNV's high bits depend little on the last bytes.
    mix(fnv(name.bytes()))
}

/// Of a node's name. It is not that of a stream of the same name, which would always go there.
pub(super) fn node(name: &str) -> u64 {
    mix(fnv(name.bytes().chain([0xff])))
}

/// Of a group of nodes: all that have these labels. No text has the bytes between them, so that no two groups are alike.
pub(super) fn group(region: Option<&str>, isp: Option<&str>) -> u64 {
    let part = |text: Option<&'_ str>| text.map_or(0xfe, |_| 0xfd);
    let region_bytes = [part(region)].into_iter().chain(region.unwrap_or_default().bytes());
    let isp_bytes = [0xff, part(isp)].into_iter().chain(isp.unwrap_or_default().bytes());
    mix(fnv(region_bytes.chain(isp_bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_the_same_in_every_release() {
        assert_eq!(stream("live/a"), 0xb094_0d2a_e7a5_cbd9);
        assert_eq!(node("edge-1"), 0xfb3e_f390_bc91_4937);
        assert_eq!(nth(0, 1), mix(STRIDE));
    }

    #[test]
    fn names_that_are_alike_have_hashes_that_are_not() {
        assert_ne!(stream("a"), node("a"));
        let groups = [
            group(None, None),
            group(Some(""), None),
            group(None, Some("")),
            group(Some("a"), None),
            group(None, Some("a")),
            group(Some("a"), Some("a")),
            group(Some("aa"), Some("")),
            group(Some(""), Some("aa")),
        ];
        let distinct: std::collections::HashSet<u64> = groups.into_iter().collect();
        assert_eq!(distinct.len(), groups.len());
    }
}
