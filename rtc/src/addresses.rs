//! The addresses that peers are told.

use std::io;
use std::net::{IpAddr, SocketAddr};

use crate::Config;

/// As many candidates as an answer has at most.
const MAX_ADDRESSES: usize = 16;

/// Where peers are told to send: what the configuration says, or else what the socket or the machine's interfaces have.
pub(crate) fn advertised(config: &Config, bound: SocketAddr) -> io::Result<Vec<SocketAddr>> {
    let port = if config.advertise_port == 0 { bound.port() } else { config.advertise_port };
    let mut addresses = config.advertise.clone();
    if addresses.is_empty() && !bound.ip().is_unspecified() {
        addresses.push(bound.ip());
    }
    if addresses.is_empty() {
        addresses = of_interfaces(bound.is_ipv6())?;
    }
    addresses.truncate(MAX_ADDRESSES);
    Ok(addresses.into_iter().map(|ip| SocketAddr::new(ip, port)).collect())
}

/// Those of interfaces, loopback only where there is nothing else. With a socket of IPv4, those of IPv4.
fn of_interfaces(v6: bool) -> io::Result<Vec<IpAddr>> {
    let mut found: Vec<IpAddr> = Vec::new();
    for interface in nix::ifaddrs::getifaddrs()? {
        let Some(address) = interface.address else { continue };
        let ip = if let Some(v4) = address.as_sockaddr_in() {
            IpAddr::V4(v4.ip())
        } else if let Some(address) = address.as_sockaddr_in6()
            && v6
            // A link-local address means nothing without its interface.
            && !address.ip().is_unicast_link_local()
        {
            IpAddr::V6(address.ip())
        } else {
            continue;
        };
        if !found.contains(&ip) {
            found.push(ip);
        }
    }
    if found.iter().any(|ip| !ip.is_loopback()) {
        found.retain(|ip| !ip.is_loopback());
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_configured_comes_before_what_is_found() {
        let bound: SocketAddr = "0.0.0.0:7000".parse().unwrap();
        assert!(!advertised(&Config::default(), bound).unwrap().is_empty());
        let loopback: SocketAddr = "127.0.0.1:7000".parse().unwrap();
        assert_eq!(advertised(&Config::default(), loopback).unwrap(), [loopback]);
        let config = Config {
            advertise: vec!["203.0.113.5".parse().unwrap()],
            advertise_port: 9,
            ..Config::default()
        };
        assert_eq!(advertised(&config, bound).unwrap(), ["203.0.113.5:9".parse().unwrap()]);
    }
}
