//! Of STUN (RFC 8489) what it takes to find the peer that a connectivity check is for, without any state.

/// `Magic Cookie` (§5).
const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const HEADER_BYTES: usize = 20;
const BINDING_REQUEST: [u8; 2] = [0, 1];
const USERNAME: [u8; 2] = [0, 6];
/// Attributes looked at: USERNAME comes among the first of a check.
const MAX_ATTRIBUTES: usize = 16;

/// Whether a datagram is STUN at all, as far as its first bytes say (RFC 7983 §7).
pub fn is_stun(datagram: &[u8]) -> bool {
    datagram.first().is_some_and(|byte| *byte < 4) && datagram.get(4..8) == Some(&MAGIC_COOKIE[..])
}

/// The local fragment of a binding request's USERNAME, which is `ours:theirs` (RFC 8445 §7.2.2).
pub fn ufrag(datagram: &[u8]) -> Option<&str> {
    if datagram.get(..2) != Some(&BINDING_REQUEST[..]) || !is_stun(datagram) {
        return None;
    }
    let mut rest = datagram.get(HEADER_BYTES..)?;
    for _ in 0..MAX_ATTRIBUTES {
        let (head, behind) = rest.split_first_chunk::<4>()?;
        let [t0, t1, l0, l1] = *head;
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        if [t0, t1] == USERNAME {
            let name = std::str::from_utf8(behind.get(..length)?).ok()?;
            return name.split_once(':').map(|(ours, _)| ours);
        }
        rest = behind.get(length.checked_next_multiple_of(4)?..)?;
    }
    None
}

/// Its transaction (§5), of one that [`is_stun`].
pub fn transaction(datagram: &[u8]) -> Option<[u8; 12]> {
    datagram.get(8..HEADER_BYTES)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn request(attributes: &[u8]) -> Vec<u8> {
        let length = u16::try_from(attributes.len()).unwrap().to_be_bytes();
        [&[0, 1], &length[..], &MAGIC_COOKIE, &[7; 12], attributes].concat()
    }

    #[test]
    fn finds_the_name_behind_other_attributes() {
        let attributes = [&[0x80, 0x22, 0, 3, 1, 2, 3, 0, 0, 6, 0, 9][..], b"abcd:efgh", &[0; 3]].concat();
        assert_eq!(ufrag(&request(&attributes)), Some("abcd"));
        for length in 0..attributes.len() - 3 {
            assert_eq!(ufrag(&request(&attributes[..length])), None, "{length}");
        }
        assert_eq!(ufrag(&request(&[0, 6, 0, 4, b'a', b'b', b'c', b'd'])), None);
        assert_eq!(ufrag(&request(&[0, 6, 0, 2, 0xff, b':'])), None);
        assert_eq!(ufrag(&request(&[])), None);
    }

    proptest! {
        #[test]
        fn anything_is_survived(attributes in prop::collection::vec(any::<u8>(), 0..100), junk in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = ufrag(&request(&attributes));
            let _ = ufrag(&junk);
            let _ = is_stun(&junk);
        }
    }
}
