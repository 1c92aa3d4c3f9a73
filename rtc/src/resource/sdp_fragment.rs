//! What a session is told later: fragments of SDP (RFC 8840 §9) with candidates, and with credentials where ICE restarts.

use std::fmt::Write as _;

use crate::offer::Refused;
use crate::peer::Credentials;
use crate::server::Restarted;

/// Candidates in one.
const MAX_CANDIDATES: usize = 32;
/// What a fragment of a username and a password have (RFC 8839 §5.4): characters, at least and at most.
const UFRAG_CHARS: std::ops::RangeInclusive<usize> = 4..=256;
const PASSWORD_CHARS: std::ops::RangeInclusive<usize> = 22..=256;

/// A fragment.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fragment<'a> {
    /// Of the client: those of its session, or others where it restarts.
    pub(super) credentials: Option<Credentials>,
    /// Each as `candidate:…`.
    pub(super) candidates: Vec<&'a str>,
}

impl<'a> Fragment<'a> {
    pub(super) fn parse(text: &'a str) -> Result<Self, Refused> {
        let attributes = || text.lines().filter_map(|line| line.strip_prefix("a="));
        let candidates: Vec<&str> = attributes().filter(|line| line.starts_with("candidate:")).collect();
        if candidates.len() > MAX_CANDIDATES {
            let found = candidates.len();
            return Err(Refused::TooLarge { what: "candidates", found, most: MAX_CANDIDATES });
        }
        let value = |name: &str| attributes().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let credentials = match (value("ice-ufrag"), value("ice-pwd")) {
            (Some(ufrag), Some(password)) => {
                let ufrag = checked(ufrag, UFRAG_CHARS)?;
                Some(Credentials { ufrag, password: checked(password, PASSWORD_CHARS)? })
            }
            _ => None,
        };
        Ok(Self { credentials, candidates })
    }
}

fn checked(value: &str, length: std::ops::RangeInclusive<usize>) -> Result<String, Refused> {
    let ice_char = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    if length.contains(&value.len()) && value.bytes().all(ice_char) {
        Ok(value.to_owned())
    } else {
        Err(Refused::Malformed("its ICE credentials are none".to_owned()))
    }
}

/// The one that answers a restart: our credentials, and our addresses as they were.
pub(super) fn of(Restarted { credentials, addresses }: &Restarted) -> String {
    let Credentials { ufrag, password } = credentials;
    let mut text = format!("a=ice-lite\r\na=ice-ufrag:{ufrag}\r\na=ice-pwd:{password}\r\n");
    for (n, address) in addresses.iter().enumerate() {
        // Of one type of candidate, preferred in the order in which they stand (RFC 8445 §5.1.2).
        let priority =
            0x7e00_00ff_u32 + (u32::from(u16::MAX).saturating_sub(u32::try_from(n).unwrap_or(0)) << 8);
        let (ip, port) = (address.ip(), address.port());
        // Writing to text can't fail.
        let _ = write!(text, "a=candidate:{} 1 udp {priority} {ip} {port} typ host\r\n", n + 1);
    }
    text + "a=end-of-candidates\r\n"
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn candidates_and_credentials_are_found() {
        let text = "a=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\nm=audio 9 RTP/AVP 0\r\na=mid:0\r\n\
                    a=candidate:1 1 udp 1 10.0.0.1 9 typ host\r\na=end-of-candidates\r\n";
        let fragment = Fragment::parse(text).unwrap();
        assert_eq!(fragment.credentials.unwrap().ufrag, "EsAw");
        assert_eq!(fragment.candidates, ["candidate:1 1 udp 1 10.0.0.1 9 typ host"]);
        assert_eq!(Fragment::parse("").unwrap(), Fragment { credentials: None, candidates: Vec::new() });
        assert_eq!(Fragment::parse(&"a=candidate:x\n".repeat(1_000)).unwrap_err().status(), 400);
        for bad in ["é".repeat(20), "a".repeat(3), "a".repeat(300), "a b c d".to_owned()] {
            let text = format!("a=ice-ufrag:{bad}\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\n");
            assert_eq!(Fragment::parse(&text).unwrap_err().status(), 400, "{bad}");
        }
    }

    #[test]
    fn the_answer_to_a_restart_has_our_addresses() {
        let credentials = Credentials { ufrag: "u".repeat(8), password: "p".repeat(24) };
        let addresses = ["10.0.0.1:9".parse().unwrap(), "[2001:db8::1]:9".parse().unwrap()];
        let text = of(&Restarted { credentials: credentials.clone(), addresses: addresses.into() });
        let fragment = Fragment::parse(&text).unwrap();
        assert_eq!(fragment.credentials, Some(credentials));
        assert_eq!(
            fragment.candidates,
            [
                "candidate:1 1 udp 2130706431 10.0.0.1 9 typ host",
                "candidate:2 1 udp 2130706175 2001:db8::1 9 typ host"
            ]
        );
    }

    proptest! {
        #[test]
        fn anything_is_survived(text in "(a=(ice-ufrag|ice-pwd|candidate|x):[ -~é]{0,30}\r?\n){0,6}") {
            let _ = Fragment::parse(&text);
        }
    }
}
