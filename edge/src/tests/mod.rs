//! The edge against a made-up origin, over real sockets.

mod access;
mod client;
mod expiry;
mod feed;
mod floods;
mod flv;
mod goaway;
mod guarded;
mod h3;
mod hls;
mod limits;
mod origin;
mod publishers;
mod rtmp;
mod rules;
mod secure;
mod several;
mod shards;
mod sound;
pub(crate) mod studio;
mod takeover;
mod traces;
mod ts;
mod websocket;

use std::time::Duration;

use media_core::hub::StreamKey;

fn key(name: &str) -> StreamKey {
    StreamKey::parse("live", name, &[]).unwrap()
}

/// Waits until something is so. Whoever waits in vain is ended by the test runner.
async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
