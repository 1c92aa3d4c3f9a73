//! Where what clients send comes in: it is looked at, counted, and handed to the protocol.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ahash::AHashMap;
use futures_util::FutureExt;
use stun::attributes::ATTR_USERNAME;
use stun::message::Message;
use tokio::sync::Mutex;
use turn::allocation::allocation_manager::{Manager, ManagerConfig};
use turn::allocation::five_tuple::FiveTuple;
use turn::proto::PROTO_UDP;
use turn::server::request::Request;

use crate::allowance::Allowance;
use crate::config::Config;
use crate::credentials::Gate;
use crate::metrics::Metrics;
use crate::quota::Quota;
use crate::relay::Relays;

pub(crate) type Conn = Arc<dyn webrtc_util::Conn + Send + Sync>;

/// How long a channel to a peer lasts unless it is bound again (RFC 8656 §12).
const CHANNEL_LASTS: Duration = Duration::from_secs(600);

/// Permissions and channels that a client may ask for within [`GRANTS_PERIOD`], as long as a permission lasts: each is a task of
/// the protocol's, and renewed by asking again. A browser asks for one a candidate of its peer.
const MAX_GRANTS: u32 = 128;
const GRANTS_PERIOD: Duration = Duration::from_secs(300);

/// The shortest STUN message is its header (RFC 8489 §5).
const STUN_HEADER_BYTES: usize = 20;

tokio::task_local! {
    /// The username of the request that is being carried out, for who counts what it takes.
    pub(crate) static USERNAME: String;
}

/// What all listeners have in common.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) metrics: Metrics,
    pub(crate) quota: Quota,
    pub(crate) allowance: Allowance,
}

/// What comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Data on a channel.
    Channel,
    /// Data for a peer, or a notice: it is not answered.
    Indication,
    /// To be answered.
    Request,
}

/// What a message is, by its first bits and its method (RFC 8656 §12.4, RFC 8489 §5). `None`: neither STUN nor a channel's.
pub(crate) fn kind(message: &[u8]) -> Option<Kind> {
    match message {
        [0x40..=0x7f, _, _, _, ..] => Some(Kind::Channel),
        [a @ 0x00..=0x3f, b, _, _, 0x21, 0x12, 0xa4, 0x42, ..] if message.len() >= STUN_HEADER_BYTES => {
            match (a & 0x01, b & 0x10) {
                (0, 0) => Some(Kind::Request),
                (0, _) => Some(Kind::Indication),
                // Answers: nothing was asked.
                _ => None,
            }
        }
        _ => None,
    }
}

/// One listener, or one connection of one.
pub(crate) struct Desk {
    shared: Arc<Shared>,
    conn: Conn,
    manager: Arc<Manager>,
    gate: Arc<Gate>,
    nonces: Arc<Mutex<HashMap<String, tokio::time::Instant>>>,
    max_nonces: usize,
    /// Permissions and channels that clients with an allocation asked for, and since when they are counted.
    grants: parking_lot::Mutex<AHashMap<SocketAddr, (Instant, u32)>>,
}

impl Desk {
    /// Peers reach what is allocated here at `relay_ip`.
    pub(crate) fn new(shared: Arc<Shared>, conn: Conn, relay_ip: IpAddr, max_nonces: usize) -> Self {
        let relay_addr_generator = Box::new(Relays::new(Arc::clone(&shared), relay_ip));
        let manager = Manager::new(ManagerConfig { relay_addr_generator, alloc_close_notify: None });
        let gate = Arc::new(Gate(Arc::clone(&shared)));
        let (manager, nonces, grants) = (Arc::new(manager), Arc::default(), parking_lot::Mutex::default());
        Self { shared, conn, manager, gate, nonces, max_nonces, grants }
    }

    /// Carries out what a client wants. Whatever it sent costs nobody else anything.
    pub(crate) async fn handle(&self, message: &[u8], from: SocketAddr) {
        let Shared { config, metrics, allowance, .. } = &*self.shared;
        let Some(kind) = kind(message) else { return metrics.refused("malformed") };
        let mut username = String::new();
        if kind == Kind::Request {
            metrics.requests.inc();
            if !allowance.take(from.ip(), Instant::now()) {
                return metrics.refused("rate");
            }
            username = username_of(message);
            if let Some(owner) = self.owner(from).await {
                // RFC 8656 §7.2: of another's allocation nothing is done.
                if !username.is_empty() && owner != username {
                    return metrics.refused("user");
                }
                if matches!(message, [0x00, 0x08 | 0x09, ..]) && !self.may_grant(from, Instant::now()) {
                    return metrics.refused("grants");
                }
            }
            self.forget_nonces().await;
        }
        let mut request = Request {
            conn: Arc::clone(&self.conn),
            src_addr: from,
            buff: message.to_vec(),
            allocation_manager: Arc::clone(&self.manager),
            nonces: Arc::clone(&self.nonces),
            auth_handler: Arc::clone(&self.gate) as _,
            realm: config.realm.clone(),
            channel_bind_timeout: CHANNEL_LASTS,
        };
        // The parser is another's: whatever makes it panic is one message.
        let handled = AssertUnwindSafe(request.handle_request()).catch_unwind();
        match USERNAME.scope(username, handled).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%from, %error, "TURN request"),
            Err(_) => metrics.refused("malformed"),
        }
    }

    /// Whether anything is allocated here.
    pub(crate) async fn is_used(&self) -> bool {
        !self.manager.get_allocations_info(None).await.is_empty()
    }

    /// Who has the allocation of a client.
    async fn owner(&self, from: SocketAddr) -> Option<String> {
        let dst_addr = self.conn.local_addr().ok()?;
        let tuple = FiveTuple { protocol: PROTO_UDP, src_addr: from, dst_addr };
        self.manager.get_allocation(&tuple).await?;
        let infos = self.manager.get_allocations_info(Some(vec![tuple])).await;
        infos.into_values().next().map(|info| info.username)
    }

    /// Whether a client may ask for one more permission or channel.
    fn may_grant(&self, from: SocketAddr, now: Instant) -> bool {
        let mut grants = self.grants.lock();
        if grants.len() > self.shared.config.max_allocations {
            grants.retain(|_, (since, _)| now.saturating_duration_since(*since) < GRANTS_PERIOD);
        }
        let (since, count) = grants.entry(from).or_insert((now, 0));
        if now.saturating_duration_since(*since) >= GRANTS_PERIOD {
            (*since, *count) = (now, 0);
        }
        *count = count.saturating_add(1);
        *count <= MAX_GRANTS
    }

    /// Ends what is allocated here.
    pub(crate) async fn close(&self) {
        // It fails where an allocation has ended already, and the others go with the manager.
        let _ = self.manager.close().await;
    }

    async fn forget_nonces(&self) {
        let mut nonces = self.nonces.lock().await;
        if nonces.len() >= self.max_nonces {
            let mut ages: Vec<tokio::time::Instant> = nonces.values().copied().collect();
            let middle = ages.len() / 2;
            let (_, median, _) = ages.select_nth_unstable(middle);
            let median = *median;
            nonces.retain(|_, at| *at > median);
        }
    }
}

/// The username that a request names, proved or not.
fn username_of(message: &[u8]) -> String {
    let mut parsed = Message { raw: message.to_vec(), ..Message::default() };
    let decoded = std::panic::catch_unwind(AssertUnwindSafe(|| parsed.decode()));
    let name = match decoded {
        Ok(Ok(())) => parsed.get(ATTR_USERNAME).unwrap_or_default(),
        _ => Vec::new(),
    };
    String::from_utf8(name).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_told_apart_by_their_first_bits() {
        let mut binding = [0; 20];
        binding[..8].copy_from_slice(&[0x00, 0x01, 0, 0, 0x21, 0x12, 0xa4, 0x42]);
        assert_eq!(kind(&binding), Some(Kind::Request));
        assert_eq!(kind(&binding[..19]), None);
        let with = |a, b| {
            let mut message = binding;
            (message[0], message[1]) = (a, b);
            kind(&message)
        };
        assert_eq!(with(0x00, 0x16), Some(Kind::Indication), "Send");
        assert_eq!(with(0x00, 0x03), Some(Kind::Request), "Allocate");
        assert_eq!((with(0x01, 0x01), with(0x01, 0x13)), (None, None), "answers");
        assert_eq!(kind(&[0x40, 0, 0, 0]), Some(Kind::Channel));
        assert_eq!((kind(&[0x40, 0]), kind(&[0x80; 40]), kind(&[])), (None, None, None));
    }
}
