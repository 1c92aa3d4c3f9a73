//! Which origin a stream is asked of first (rendezvous hashing): each edge comes to the same answer without asking
//! anybody, and an origin that joins or leaves moves only the streams that it gets or had.

/// FNV-1a's parameters for 64 bits.
const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

/// How much an origin wants a stream: the highest score is asked first. The same in every process and release, or edges
/// of two releases would pull a stream from two shields.
pub(super) fn score(origin: &str, stream: &str) -> u64 {
    // No text has this byte, so that no pair reads like another.
    let bytes = origin.bytes().chain([0xff]).chain(stream.bytes());
    let hash = bytes.fold(OFFSET, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME));
    // FNV's high bits depend little on the last bytes: the finalizer of SplitMix64 mixes them.
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose<'a>(origins: &[&'a str], stream: &str) -> &'a str {
        origins.iter().max_by_key(|origin| score(origin, stream)).unwrap()
    }

    #[test]
    fn an_origin_that_joins_gets_its_share_and_nothing_else_moves() {
        let (four, five) = (["a:1", "b:1", "c:1", "d:1"], ["a:1", "b:1", "c:1", "d:1", "e:1"]);
        let mut moved = 0;
        let mut shares = [0u32; 5];
        for n in 0..10_000 {
            let stream = format!("live/{n}");
            let (before, after) = (choose(&four, &stream), choose(&five, &stream));
            assert!(before == after || after == "e:1", "{stream} moved from {before} to {after}");
            moved += u32::from(before != after);
            shares[five.iter().position(|origin| *origin == after).unwrap()] += 1;
        }
        assert!((1_800..2_200).contains(&moved), "{moved} of 10,000 moved");
        assert!(shares.iter().all(|share| (1_800..2_200).contains(share)), "{shares:?}");
    }

    #[test]
    fn the_choice_is_the_same_in_every_release() {
        assert_eq!(score("http://10.0.0.1:8081", "live/a"), 0x94df_8881_d935_1e14);
    }
}
