//! `weir --demo`: a sample clip, published in a loop like any encoder would.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use media_core::rtmp::client::Target;

use crate::banner::DEMO;
use crate::lifecycle::Lifecycle;
use crate::publish::{Queue, bundled, publish};

/// A test picture with a running clock, and a tone with a beep every second; `demo/make-clip.sh` made it.
pub(crate) const CLIP: &[u8] = include_bytes!("demo/clip.flv");

/// Lets the demo publish, whoever else may: a key of its own, made anew with every start.
#[derive(Clone)]
pub(crate) struct Pass(String);

impl Pass {
    /// A new key.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let mut bytes = [0u8; 16];
        getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
        Ok(Self(u128::from_ne_bytes(bytes).to_string()))
    }

    /// Adds the key to those of the configuration.
    pub(crate) fn admit(&self, auth: &mut origin::auth::Config) {
        let (app, name) = DEMO;
        auth.keys.push(origin::auth::Key { streams: format!("{app}/{name}"), key: self.0.clone() });
    }
}

/// Publishes the clip to the RTMP listener at `rtmp` until the process drains.
pub(crate) async fn run(rtmp: SocketAddr, pass: Pass, life: Lifecycle) {
    let (app, name) = DEMO;
    let at = loopback(rtmp);
    let target = Target {
        host: at.ip().to_string(),
        port: at.port(),
        app: app.into(),
        name: format!("{name}?key={}", pass.0),
        tc_url: format!("rtmp://{at}/{app}"),
    };
    let queue = Arc::new(Queue::default());
    if let Err(error) = publish(bundled(CLIP), &target, true, &queue, life.draining()).await {
        tracing::error!(%error, "the demo has ended");
    }
}

/// Where a listener is reached from its own machine.
fn loopback(at: SocketAddr) -> SocketAddr {
    let ip = match at.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, at.port())
}
