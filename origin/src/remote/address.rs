//! Whom may be called: an address of anybody, for who configures this machine; none that means this machine or its
//! surroundings by mistake, for who orders by the API.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use control_api::Network;

use super::Trouble;

/// Addresses of a name that are tried.
const MAX_ADDRESSES: usize = 4;

/// Where clouds tell machines their credentials; those of 169.254.0.0/16 are link-local in any case.
const METADATA: [IpAddr; 3] = [
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
];

/// How far calls may go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Anywhere: it is the configuration's.
    Anywhere,
    /// Neither to this machine, nor link-local, nor where clouds tell credentials, but into these networks.
    Guarded(Arc<[Network]>),
}

impl Reach {
    pub(crate) fn allows(&self, address: IpAddr) -> bool {
        match self {
            Self::Anywhere => true,
            Self::Guarded(allowed) => {
                is_harmless(address) || allowed.iter().any(|network| network.contains(address))
            }
        }
    }
}

fn is_harmless(address: IpAddr) -> bool {
    let address = address.to_canonical();
    if METADATA.contains(&address)
        || address.is_unspecified()
        || address.is_loopback()
        || address.is_multicast()
    {
        return false;
    }
    match address {
        IpAddr::V4(v4) => !v4.is_link_local() && !v4.is_broadcast() && v4.octets().first() != Some(&0),
        IpAddr::V6(v6) => {
            let [first, second, ..] = v6.segments();
            // IPv4 in other clothes (6to4, NAT64) is judged by nobody behind this.
            !v6.is_unicast_link_local()
                && first != 0x2002
                && (first, second) != (0x64, 0xff9b)
                && v6.to_ipv4().is_none()
        }
    }
}

/// A host and its port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Host {
    pub(crate) name: url::Host<String>,
    pub(crate) port: u16,
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, self.port)
    }
}

impl Host {
    /// The addresses that may be called, in the order in which they are tried.
    pub(crate) async fn addresses(&self, reach: &Reach) -> Result<Vec<SocketAddr>, Trouble> {
        let found: Vec<SocketAddr> = match &self.name {
            url::Host::Ipv4(ip) => vec![SocketAddr::from((*ip, self.port))],
            url::Host::Ipv6(ip) => vec![SocketAddr::from((*ip, self.port))],
            url::Host::Domain(name) => {
                let looked_up = tokio::net::lookup_host((name.as_str(), self.port)).await;
                let found = looked_up.map_err(|error| Trouble::Unknown(format!("{name}: {error}")))?;
                found.take(MAX_ADDRESSES).collect()
            }
        };
        let allowed: Vec<SocketAddr> = found.iter().copied().filter(|at| reach.allows(at.ip())).collect();
        match (allowed.is_empty(), found.first()) {
            (false, _) => Ok(allowed),
            (true, Some(first)) => Err(Trouble::Forbidden(first.ip())),
            (true, None) => Err(Trouble::Unknown(format!("{} has no address", self.name))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(networks: &[&str]) -> Reach {
        Reach::Guarded(networks.iter().map(|network| network.parse().unwrap()).collect())
    }

    #[test]
    fn the_api_calls_neither_this_machine_nor_metadata() {
        let guarded = reach(&[]);
        for address in [
            "127.0.0.1",
            "::1",
            "0.0.0.0",
            "::",
            "169.254.169.254",
            "fe80::1",
            "::ffff:169.254.169.254",
            "fd00:ec2::254",
            "100.100.100.200",
            "224.0.0.1",
            "ff02::1",
            "255.255.255.255",
            "0.1.2.3",
            "64:ff9b::a9fe:a9fe",
            "2002:a9fe:a9fe::",
            "::169.254.169.254",
        ] {
            let address: IpAddr = address.parse().unwrap();
            assert!(!guarded.allows(address), "{address}");
            assert!(Reach::Anywhere.allows(address));
        }
        for address in ["10.0.0.9", "192.168.1.20", "203.0.113.5", "2001:db8::1", "fd12::1"] {
            assert!(guarded.allows(address.parse().unwrap()), "{address}");
        }
        assert!(reach(&["127.0.0.0/8"]).allows("127.0.0.1".parse().unwrap()));
    }

    #[tokio::test]
    async fn a_name_is_looked_up_and_judged_by_its_address() {
        let host = Host { name: url::Host::Domain("localhost".to_owned()), port: 554 };
        assert!(host.addresses(&Reach::Anywhere).await.unwrap().iter().all(|at| at.port() == 554));
        assert!(matches!(host.addresses(&reach(&[])).await, Err(Trouble::Forbidden(_))));
    }
}
