//! Whom something may be relayed to: nobody who could not be reached from the internet, unless allowed by name. A relay
//! stands inside of the network that it is in, where much is open to neighbours that must not be to strangers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// Whether something may be relayed to an address, and from it.
pub(crate) fn may_reach(address: IpAddr, allowed: &[IpNet]) -> bool {
    let address = address.to_canonical();
    allowed.iter().any(|net| net.contains(&address)) || is_public(address)
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => match embedded(address) {
            Some(within) => is_public_v4(within),
            None => is_public_v6(address),
        },
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let is_special = address.is_loopback()
        || address.is_private()
        // Metadata services of clouds are among these: 169.254.169.254.
        || address.is_link_local()
        || address.is_broadcast()
        || address.is_multicast()
        || address.is_documentation()
        || a == 0
        || a >= 240
        // Shared address space (RFC 6598), IETF protocol assignments (RFC 6890), benchmarks (RFC 2544), 6to4 relays (RFC 7526).
        || a == 100 && (64..128).contains(&b)
        || (a, b, c) == (192, 0, 0)
        || a == 198 && (b == 18 || b == 19)
        || (a, b, c) == (192, 88, 99)
        // Metadata services that lie elsewhere.
        || address == Ipv4Addr::new(168, 63, 129, 16)
        || address == Ipv4Addr::new(100, 100, 100, 200);
    !is_special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    // Global unicast is 2000::/3 (RFC 4291 §2.4), of which these are not for hosts out there.
    let [a, b, ..] = address.segments();
    a & 0xe000 == 0x2000
        // Documentation (RFC 3849, RFC 9637), IETF protocol assignments (RFC 2928).
        && (a, b) != (0x2001, 0x0db8)
        && !(a == 0x3fff && b < 0x1000)
        && !(a == 0x2001 && b < 0x0200)
}

/// The IPv4 address that one of IPv6 leads to by way of a gateway: NAT64 (RFC 6052), 6to4 (RFC 3056), or as IPv4-compatible.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let v4 = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match address.segments() {
        [0x0064, 0xff9b, 0, 0, 0, 0, high, low] | [0, 0, 0, 0, 0, 0, high, low] => Some(v4(high, low)),
        // NAT64 of a local network (RFC 8215): nowhere public.
        [0x0064, 0xff9b, 1, ..] => Some(Ipv4Addr::UNSPECIFIED),
        [0x2002, high, low, ..] => Some(v4(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn may(address: &str, allowed: &[&str]) -> bool {
        let allowed: Vec<IpNet> = allowed.iter().map(|net| net.parse().unwrap()).collect();
        may_reach(address.parse().unwrap(), &allowed)
    }

    #[test]
    fn nothing_is_relayed_into_the_network_that_the_relay_is_in() {
        let inside = [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "100.100.100.200",
            "168.63.129.16",
            "0.0.0.0",
            "0.1.2.3",
            "224.0.0.1",
            "255.255.255.255",
            "240.0.0.1",
            "198.18.0.1",
            "192.0.0.8",
            "::1",
            "::",
            "fe80::1",
            "fd00::1",
            "fd00:ec2::254",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::7f00:1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::7f00:1",
            "2002:7f00:1::1",
            "2001:db8::1",
        ];
        for address in inside {
            assert!(!may(address, &[]), "{address}");
        }
        for address in ["8.8.8.8", "203.0.114.1", "2606:4700::1111", "64:ff9b::808:808", "::ffff:8.8.8.8"] {
            assert!(may(address, &[]), "{address}");
        }
    }

    #[test]
    fn networks_are_allowed_by_name() {
        assert!(may("10.1.2.3", &["10.0.0.0/8"]) && may("::ffff:10.1.2.3", &["10.0.0.0/8"]));
        assert!(!may("10.1.2.3", &["10.2.0.0/16"]) && may("fd00::5", &["fd00::/8"]));
    }
}
