//! Which addresses a hook may lead to.
//!
//! Who may set a hook's URL, or the DNS of its host, must not reach what only this machine can: its own ports, its
//! network, the metadata service of a cloud. So only addresses of the public internet are connected to, unless the
//! operator names others in `allow_private`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use control_api::Network;

/// Bytes of a host's name at most (RFC 1035 §2.3.4).
const MAX_NAME_BYTES: usize = 253;

/// Who can be reached by an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// Anybody, as anybody can.
    Public,
    /// Whom only some can reach: it may be allowed.
    Private,
    /// No single machine, or one that nobody means: unspecified, multicast, broadcast. Only its address itself allows it.
    Nobody,
}

/// IPv4 that is not everybody's: IANA's registry of special purposes (RFC 6890), and a cloud's agent.
const NOT_PUBLIC: &[(Ipv4Addr, u32)] = &[
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10), // CGNAT, RFC 6598
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(168, 63, 129, 16), 32), // the host of an Azure machine
    (Ipv4Addr::new(169, 254, 0, 0), 16),   // link-local, and most clouds' metadata
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),   // documentation
    (Ipv4Addr::new(192, 88, 99, 0), 24), // 6to4 relays, RFC 7526
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),   // benchmarks
    (Ipv4Addr::new(198, 51, 100, 0), 24), // documentation
    (Ipv4Addr::new(203, 0, 113, 0), 24),  // documentation
];

/// IPv4 in which nobody is: "this network", multicast, reserved and broadcast.
const NOBODY: &[(Ipv4Addr, u32)] =
    &[(Ipv4Addr::new(0, 0, 0, 0), 8), (Ipv4Addr::new(224, 0, 0, 0), 4), (Ipv4Addr::new(240, 0, 0, 0), 4)];

/// What of IPv6's global unicast is not everybody's.
const NOT_PUBLIC_6: &[(Ipv6Addr, u32)] = &[
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23), // protocols: Teredo, ORCHID, benchmarks
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32), // documentation
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16), // 6to4: an IPv4 address of any kind
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20), // documentation, RFC 9637
];

/// All of IPv6 that is routed to everybody (RFC 4291 §2.4, as IANA gives it out).
const GLOBAL_UNICAST: (Ipv6Addr, u32) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// IPv4 through a translator (RFC 6052 §2.1): hosts that have IPv6 only see all of IPv4 so.
const TRANSLATED: (Ipv6Addr, u32) = (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);

/// Whom an address reaches.
pub(super) fn reach(address: IpAddr) -> Reach {
    match address.to_canonical() {
        IpAddr::V4(address) => reach_4(address),
        IpAddr::V6(address) if within_6(address, TRANSLATED) => {
            let [.., a, b, c, d] = address.octets();
            reach_4(Ipv4Addr::new(a, b, c, d))
        }
        IpAddr::V6(address) if address.is_unspecified() || address.is_multicast() => Reach::Nobody,
        IpAddr::V6(address) => {
            let public = within_6(address, GLOBAL_UNICAST)
                && !NOT_PUBLIC_6.iter().any(|network| within_6(address, *network));
            if public { Reach::Public } else { Reach::Private }
        }
    }
}

fn reach_4(address: Ipv4Addr) -> Reach {
    let within = |&(network, bits): &(Ipv4Addr, u32)| {
        address.to_bits() >> (Ipv4Addr::BITS - bits) == network.to_bits() >> (Ipv4Addr::BITS - bits)
    };
    match () {
        () if NOBODY.iter().any(within) => Reach::Nobody,
        () if NOT_PUBLIC.iter().any(within) => Reach::Private,
        () => Reach::Public,
    }
}

fn within_6(address: Ipv6Addr, (network, bits): (Ipv6Addr, u32)) -> bool {
    address.to_bits() >> (Ipv6Addr::BITS - bits) == network.to_bits() >> (Ipv6Addr::BITS - bits)
}

/// What an entry of `allow_private` can't be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected a host, a host and port, an address or a network, such as hooks.internal, hooks.internal:8080, 10.0.0.7, 10.0.0.7:8080 or 10.0.0.0/24"
)]
pub(super) struct NoRule;

/// An entry of `allow_private`.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Rule {
    /// A URL with this host, and this port if there is one, wherever the name leads.
    Host(String, Option<u16>),
    /// Any URL that leads to one of these addresses.
    Network(Network),
    /// Any URL that leads to this address and port.
    Socket(SocketAddr),
}

impl FromStr for Rule {
    type Err = NoRule;

    fn from_str(text: &str) -> Result<Self, NoRule> {
        if let Ok(network) = text.parse() {
            return Ok(Self::Network(network));
        }
        if let Ok(socket) = text.parse::<SocketAddr>() {
            return Ok(Self::Socket(SocketAddr::new(socket.ip().to_canonical(), socket.port())));
        }
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => (host, Some(port.parse().map_err(|_| NoRule)?)),
            None => (text, None),
        };
        let host = canonical_host(host);
        let is_name = (1..=MAX_NAME_BYTES).contains(&host.len())
            && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
        if is_name { Ok(Self::Host(host, port)) } else { Err(NoRule) }
    }
}

/// As hosts are compared: without the root's dot, and in lower case.
fn canonical_host(host: &str) -> String {
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

/// The private addresses that are allowed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Allowed(Vec<Rule>);

impl Allowed {
    /// Of the entries of `allow_private`; or which of them is wrong.
    pub(super) fn parse(entries: &[String]) -> Result<Self, (usize, NoRule)> {
        let rules = entries.iter().enumerate().map(|(i, entry)| entry.parse().map_err(|wrong| (i, wrong)));
        rules.collect::<Result<_, _>>().map(Self)
    }

    /// Whether a URL with this host may be connected to at this address.
    pub(super) fn permits(&self, host: &str, at: SocketAddr) -> bool {
        let reach = reach(at.ip());
        if reach == Reach::Public {
            return true;
        }
        let host = canonical_host(host);
        self.0.iter().any(|rule| match rule {
            Rule::Host(name, port) => {
                reach == Reach::Private && *name == host && port.is_none_or(|port| port == at.port())
            }
            Rule::Network(network) => network.contains(at.ip()),
            Rule::Socket(socket) => socket.ip() == at.ip().to_canonical() && socket.port() == at.port(),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_the_public_internet_is_public() {
        let of = |text: &str| reach(text.parse().unwrap());
        for public in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2606:4700::1111",
            "2a00::1",
            "2400::1",
            "::ffff:1.1.1.1",
            "64:ff9b::1.1.1.1",
            "2001:4860:4860::8888",
        ] {
            assert_eq!(of(public), Reach::Public, "{public}");
        }
        for private in [
            "10.0.0.1",
            "127.0.0.1",
            "127.255.255.255",
            "169.254.169.254",
            "168.63.129.16",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "100.64.0.1",
            "100.100.100.200",
            "192.0.0.1",
            "192.0.2.1",
            "192.88.99.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "::1",
            "fe80::1",
            "fec0::1",
            "fc00::1",
            "fd00:ec2::254",
            "::ffff:10.0.0.1",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::1.1.1.1",
            "2001::1",
            "2001:2::1",
            "2001:db8::1",
            "2002:a00:1::",
            "3fff::1",
            "5f00::1",
            "100::1",
            "4000::1",
        ] {
            assert_eq!(of(private), Reach::Private, "{private}");
        }
        for nobody in [
            "0.0.0.0",
            "0.1.2.3",
            "224.0.0.1",
            "255.255.255.255",
            "240.0.0.1",
            "::",
            "ff02::1",
            "::ffff:0.0.0.0",
        ] {
            assert_eq!(of(nobody), Reach::Nobody, "{nobody}");
        }
    }

    proptest! {
        #[test]
        fn what_std_knows_to_be_private_is_never_public(bits: u32) {
            let address = Ipv4Addr::from_bits(bits);
            let private = address.is_private() || address.is_loopback() || address.is_link_local()
                || address.is_broadcast() || address.is_documentation() || address.is_multicast() || address.is_unspecified();
            if private {
                prop_assert_ne!(reach(address.into()), Reach::Public);
            }
            prop_assert_eq!(reach(address.into()), reach(address.to_ipv6_mapped().into()));
        }

        #[test]
        fn outside_of_global_unicast_no_ipv6_is_public(bits: u128) {
            let address = Ipv6Addr::from_bits(bits);
            if bits >> 125 != 1 && address.to_ipv4_mapped().is_none() && bits >> 96 != 0x64_ff9b {
                prop_assert_ne!(reach(address.into()), Reach::Public);
            }
        }
    }

    fn allowed(entries: &[&str]) -> Allowed {
        Allowed::parse(&entries.iter().map(|entry| (*entry).to_owned()).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn private_addresses_are_allowed_by_name_port_address_or_network() {
        let permits =
            |entry: &str, host: &str, at: &str| allowed(&[entry]).permits(host, at.parse().unwrap());
        for (entry, host, at, expected) in [
            ("hooks.internal", "hooks.internal", "10.0.0.1:80", true),
            ("hooks.internal", "Hooks.Internal.", "10.0.0.1:8080", true),
            ("hooks.internal", "evil.example", "10.0.0.1:80", false),
            ("hooks.internal", "hooks.internal", "0.0.0.0:80", false),
            ("hooks.internal", "hooks.internal", "224.0.0.1:80", false),
            ("hooks.internal:8080", "hooks.internal", "10.0.0.1:8080", true),
            ("hooks.internal:8080", "hooks.internal", "10.0.0.1:22", false),
            ("10.0.0.0/24", "any.example", "10.0.0.9:80", true),
            ("10.0.0.0/24", "any.example", "10.0.1.9:80", false),
            ("127.0.0.1", "127.0.0.1", "127.0.0.1:80", true),
            ("127.0.0.1", "any.example", "[::ffff:127.0.0.1]:80", true),
            ("127.0.0.1", "127.0.0.2", "127.0.0.2:80", false),
            ("127.0.0.1:80", "any.example", "127.0.0.1:80", true),
            ("127.0.0.1:80", "any.example", "127.0.0.1:81", false),
            ("[::1]:80", "any.example", "[::1]:80", true),
            ("hooks.internal", "any.example", "1.1.1.1:80", true),
        ] {
            assert_eq!(permits(entry, host, at), expected, "{entry} {host} {at}");
        }
        assert!(!Allowed::default().permits("localhost", "127.0.0.1:80".parse().unwrap()));
    }

    #[test]
    fn what_is_no_rule_is_said_with_its_place() {
        for wrong in ["", "http://a", "*.internal", "a:b", "a:70000", "10.0.0.0/33", "a b", ":80", "a/b"] {
            let entries = ["fine".to_owned(), wrong.to_owned()];
            assert_eq!(Allowed::parse(&entries), Err((1, NoRule)), "{wrong:?}");
        }
    }
}
