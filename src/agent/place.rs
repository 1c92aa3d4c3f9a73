//! What a node says of itself when it joins.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs, UdpSocket};

use anyhow::Context;
use control_api::rpc;

use super::Config;
use crate::roles::Role;

/// Where the way of a node leads that is its own control plane: to the machine's gateway (RFC 5737).
const ANYWHERE: &str = "http://192.0.2.1";

/// Where a process listens.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ports {
    pub(crate) http: SocketAddr,
    pub(crate) https: Option<SocketAddr>,
    pub(crate) rtmp: SocketAddr,
    /// The listener for edges has a certificate.
    pub(crate) relay_is_secure: bool,
}

/// What it is, and where it is reached.
pub(crate) fn node(config: &Config, role: Role, ports: Ports) -> anyhow::Result<rpc::Node> {
    let control = config.control.first().map_or(ANYWHERE, String::as_str);
    let advertise = &config.advertise;
    let url = |scheme: &str, given: &Option<String>, at: SocketAddr| {
        given
            .clone()
            .map_or_else(|| Ok(format!("{scheme}://{}", reached(at, control)?)), Ok::<_, anyhow::Error>)
    };
    let is_edge = role != Role::Origin;
    let relay = if ports.relay_is_secure && role == Role::Origin { "https" } else { "http" };
    let addresses = rpc::Addresses {
        http: if is_edge { url("http", &advertise.http, ports.http)? } else { String::new() },
        https: match ports.https {
            Some(at) => url("https", &advertise.https, at)?,
            None => advertise.https.clone().unwrap_or_default(),
        },
        rtmp: url("rtmp", &advertise.rtmp, ports.rtmp)?,
        relay: url(relay, &advertise.relay, ports.http)?,
        // Not where encoders are sent: that may lead to edges.
        ingest: if role == Role::Edge { String::new() } else { url("rtmp", &advertise.ingest, ports.rtmp)? },
    };
    let name = match &config.name {
        Some(name) => name.clone(),
        None => default_name(ports.http.port()),
    };
    let instance = {
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
        u64::from_ne_bytes(bytes)
    };
    let role = match role {
        Role::Origin => rpc::Role::Origin,
        Role::Edge => rpc::Role::Edge,
        Role::All => rpc::Role::All,
        Role::Control => anyhow::bail!("a control plane is no node"),
    };
    Ok(rpc::Node {
        name,
        role: role.into(),
        instance,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        addresses: Some(addresses),
        region: config.region.clone().unwrap_or_default(),
        isp: config.isp.clone().unwrap_or_default(),
        weight: config.weight,
        capacity_bps: config.capacity_mbps.saturating_mul(1_000_000),
        max_connections: 0,
    })
}

fn default_name(port: u16) -> String {
    let system = rustix::system::uname();
    let machine = system.nodename().to_string_lossy();
    let name: String = machine
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' })
        .collect();
    // Of names that are longer the beginning is the machine's own.
    format!("{}-{port}", name.get(..50).unwrap_or(&name))
}

/// Where a listener is reached: where it listens on all addresses, at the one that leads to the control plane.
fn reached(at: SocketAddr, control: &str) -> anyhow::Result<SocketAddr> {
    if !at.ip().is_unspecified() {
        return Ok(at);
    }
    let ip = match way_to(control) {
        Ok(ip) => ip,
        // It has no way to anywhere but to itself.
        Err(_) if control == ANYWHERE => IpAddr::from([127, 0, 0, 1]),
        Err(error) => {
            let what = format!(
                "no way to {control} from here; say under `cluster.advertise` where this node is reached"
            );
            return Err(error.context(what));
        }
    };
    Ok(SocketAddr::new(ip, at.port()))
}

/// The own address of whoever sends to a URL's host. Nothing is sent.
fn way_to(url: &str) -> anyhow::Result<IpAddr> {
    let uri: http::Uri = url.parse()?;
    let host = uri.host().context("a URL without a host")?.trim_matches(['[', ']']);
    let mut last = anyhow::anyhow!("{host} has no address");
    for target in (host, uri.port_u16().unwrap_or(443)).to_socket_addrs()? {
        let any: SocketAddr = if target.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
        let way = || {
            let socket = UdpSocket::bind(any)?;
            socket.connect(target)?;
            socket.local_addr()
        };
        match way() {
            Ok(local) => return Ok(local.ip()),
            Err(error) => last = error.into(),
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_says_where_it_is_reached() {
        let config = Config { control: vec!["http://127.0.0.1:8090".into()], ..Config::default() };
        let ports = Ports {
            http: ([0, 0, 0, 0], 8080).into(),
            https: None,
            rtmp: ([127, 0, 0, 1], 1935).into(),
            relay_is_secure: false,
        };
        let edge = node(&config, Role::Edge, ports).unwrap();
        let addresses = edge.addresses.unwrap();
        assert_eq!(addresses.http, "http://127.0.0.1:8080");
        assert_eq!(addresses.rtmp, "rtmp://127.0.0.1:1935");
        assert!(edge.name.ends_with("-8080"), "{}", edge.name);
        let advertise = super::super::config::Advertise {
            relay: Some("https://origin.example".into()),
            ..Default::default()
        };
        let config = Config { name: Some("o1".into()), advertise, ..config };
        let origin = node(&config, Role::Origin, Ports { relay_is_secure: true, ..ports }).unwrap();
        assert_eq!(origin.name, "o1");
        let addresses = origin.addresses.unwrap();
        assert_eq!((&*addresses.relay, &*addresses.http), ("https://origin.example", ""));
        assert_ne!(edge.instance, origin.instance);
    }
}
