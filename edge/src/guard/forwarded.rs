//! Who asks, where a proxy asks for others.

use std::net::{IpAddr, SocketAddr};

use control_api::Network;
use http::{HeaderMap, HeaderName};

/// Each proxy adds the address that it was asked from behind what it was told.
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Addresses that are looked at, from the last on: chains of trusted proxies are short, and the rest is a client's word.
const MAX_HOPS: usize = 16;

/// Bytes of an address with a port: `[…]:65535`.
const MAX_ADDRESS_BYTES: usize = 64;

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asker {
    pub(crate) peer: SocketAddr,
    /// It was not asked when its connection was accepted: that is a proxy's.
    pub(crate) by_proxy: bool,
}

/// Whether somebody is in one of these networks.
pub(super) fn is_among(networks: &[Network], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(address))
}

/// Goes back from the peer for as long as there are proxies that are trusted: what they say of whom they were asked by
/// is true, and nothing else is. Where one says nothing that is an address, it counts as asking for itself.
pub(super) fn asker(proxies: &[Network], peer: SocketAddr, headers: &HeaderMap) -> Asker {
    let by_proxy = is_among(proxies, peer.ip());
    if !by_proxy {
        return Asker { peer, by_proxy };
    }
    let said = headers.get_all(FORWARDED_FOR).iter().rev();
    let said = said.flat_map(|value| value.as_bytes().rsplit(|byte| *byte == b','));
    let mut client = peer;
    for hop in said.take(MAX_HOPS) {
        let Some(before) = address(hop).filter(|_| is_among(proxies, client.ip())) else { break };
        client = before;
    }
    Asker { peer: client, by_proxy }
}

/// An address, with a port or without.
fn address(text: &[u8]) -> Option<SocketAddr> {
    let text = std::str::from_utf8(text.trim_ascii()).ok().filter(|text| text.len() <= MAX_ADDRESS_BYTES)?;
    let (ip, port) = match text.parse::<SocketAddr>() {
        Ok(address) => (address.ip(), address.port()),
        Err(_) => {
            let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
            (bare.unwrap_or(text).parse().ok()?, 0)
        }
    };
    Some(SocketAddr::new(ip.to_canonical(), port))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    const PEER: &str = "10.0.0.1:4000";

    fn asked(peer: &str, said: &[&[u8]]) -> String {
        let proxies: Vec<Network> =
            ["10.0.0.0/8", "2001:db8:1::/48"].iter().map(|text| text.parse().unwrap()).collect();
        let mut headers = HeaderMap::new();
        for line in said {
            headers.append(FORWARDED_FOR, HeaderValue::from_bytes(line).unwrap());
        }
        asker(&proxies, peer.parse().unwrap(), &headers).peer.to_string()
    }

    #[test]
    fn the_last_address_that_is_no_proxy_asks() {
        for (said, expected) in [
            (&[][..], PEER),
            (&[&b"192.0.2.7"[..]], "192.0.2.7:0"),
            (&[b"192.0.2.7:81"], "192.0.2.7:81"),
            (&[b"203.0.113.9, 192.0.2.7 , 10.0.0.2"], "192.0.2.7:0"),
            (&[b"203.0.113.9", b"192.0.2.7", b"10.0.0.2,10.0.0.3"], "192.0.2.7:0"),
            (&[b"2001:db8:2::1"], "[2001:db8:2::1]:0"),
            (&[b"[2001:db8:2::1]:81, 2001:db8:1::7"], "[2001:db8:2::1]:81"),
            (&[b"[2001:db8:2::1]"], "[2001:db8:2::1]:0"),
            (&[b"::ffff:192.0.2.7"], "192.0.2.7:0"),
            // All are proxies: the first of them asks.
            (&[b"10.0.0.9, 10.0.0.8"], "10.0.0.9:0"),
        ] {
            assert_eq!(asked(PEER, said), expected, "{said:?}");
        }
        assert_eq!(asked("192.0.2.1:5", &[b"203.0.113.9"]), "192.0.2.1:5", "no proxy of ours");
    }

    #[test]
    fn what_a_client_makes_up_is_not_looked_at() {
        // The proxy has added the client's address behind it.
        for made_up in [
            &b"127.0.0.1"[..],
            b"10.0.0.5",
            b"unknown",
            b"\xff\xfe",
            b",,,,",
            b"192.0.2.0/24",
            b"for=127.0.0.1",
            &[b'1'; 8_000],
        ] {
            let line = [made_up, b", 192.0.2.7"].concat();
            assert_eq!(asked(PEER, &[&line]), "192.0.2.7:0", "{made_up:?}");
            assert_eq!(asked(PEER, &[made_up, b"192.0.2.7"]), "192.0.2.7:0", "{made_up:?}");
        }
        // What is behind an address that is none is not believed either.
        for none in [&b"192.0.2.7, nobody"[..], b"192.0.2.7, ", b"192.0.2.7, 300.1.1.1", b"192.0.2.7,\xff"] {
            assert_eq!(asked(PEER, &[none]), PEER, "{none:?}");
        }
        let many = b"10.0.0.2,".repeat(10_000);
        assert_eq!(asked(PEER, &[&[&b"192.0.2.7,"[..], &many[..], b"10.0.0.3"].concat()]), "10.0.0.2:0");
    }

    proptest! {
        #[test]
        fn no_header_makes_somebody_else_of_who_is_no_proxy(said in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(value) = HeaderValue::from_bytes(&said) {
                let headers = [(FORWARDED_FOR, value)].into_iter().collect();
                let proxies = ["10.0.0.0/8".parse().unwrap()];
                let peer: SocketAddr = "192.0.2.1:5".parse().unwrap();
                prop_assert_eq!(asker(&proxies, peer, &headers).peer, peer);
                let proxy = PEER.parse().unwrap();
                prop_assert!(asker(&proxies, proxy, &headers).by_proxy);
            }
        }
    }
}
