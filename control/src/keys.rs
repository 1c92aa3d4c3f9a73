//! The keys that grants are signed with: made here, kept in the registry, and handed to all nodes, which verify by
//! themselves.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use control_api::Network;
use control_api::grant::{Algorithm, Asked, Audience, Claims, Grants, Key, KeySet, Refused, Signer};
use control_api::rpc;
use serde::{Deserialize, Serialize};

use crate::Config;
use crate::nodes::Nodes;
use crate::registry::{Change, Entry, Expect, Registry, RegistryError, Revision};
use crate::replica::Clock;
use crate::replica::follow::{Step, follow};

/// Where they are in the registry.
const PREFIX: &str = "keys/";
const RING: &str = "keys/ring";

/// How long a new key waits before it signs: nodes that are there have it within a second.
const SPREAD_MS: u64 = 10_000;

/// How often a change is tried again that others make at the same time.
const ATTEMPTS: usize = 8;

/// How often it is looked whether there are keys, and whether one may go.
const LOOK: Duration = Duration::from_secs(1);

/// Keys at once: more are rotated faster than grants expire.
const MAX_KEYS: usize = 32;

/// Why there is no key, or no grant.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeysError {
    #[error("no key signs yet; try again in a moment")]
    None,
    #[error("{0}")]
    Bad(String),
    #[error("there are {MAX_KEYS} keys whose grants have not expired; wait before you make another")]
    TooMany,
    #[error("no randomness: {0}")]
    Random(getrandom::Error),
    #[error("the grant cannot be signed")]
    Failed,
    #[error("others change the keys at the same time")]
    Contended,
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

/// A key as the registry has it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kept {
    pub(crate) kid: String,
    /// The private key, in PEM.
    secret: String,
    pub(crate) signs_at_ms: u64,
    /// When the last grant that it signed has expired, if another key has followed it.
    pub(crate) retires_at_ms: Option<u64>,
}

/// All keys, the newest last.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Ring {
    keys: Vec<Kept>,
}

/// What a grant is to allow.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) audience: Audience,
    /// app/name; `*` stands for any characters.
    pub(crate) stream: String,
    pub(crate) lasts_s: u64,
    pub(crate) ip: Option<Network>,
    pub(crate) session: Option<String>,
}

/// The keys of the cluster. Clones are the same.
#[derive(Clone)]
pub(crate) struct Keys(Arc<Inner>);

struct Inner {
    registry: Arc<dyn Registry>,
    nodes: Nodes,
    clock: Clock,
    /// How long grants hold at most.
    longest: Duration,
    /// The same of those that are asked for.
    max_grant_s: u64,
    ring: ArcSwap<(Revision, Ring)>,
    /// What verifies what they signed.
    grants: Grants,
}

impl Keys {
    pub(crate) fn new(registry: Arc<dyn Registry>, nodes: Nodes, config: &Config, clock: Clock) -> Self {
        let longest = Duration::from_secs(config.max_grant_s.max(config.grant_ttl_s));
        let max_grant_s = config.max_grant_s;
        let (ring, grants) = (ArcSwap::default(), Grants::new(KeySet::empty()));
        Self(Arc::new(Inner { registry, nodes, clock, longest, max_grant_s, ring, grants }))
    }

    /// All of them, the newest last.
    pub(crate) fn all(&self) -> Vec<Kept> {
        self.0.ring.load().1.keys.clone()
    }

    /// A grant, by the newest key that signs.
    pub(crate) fn sign(&self, claims: &Claims) -> Result<String, KeysError> {
        let (now_ms, ring) = ((self.0.clock)(), self.0.ring.load());
        let kept = ring.1.keys.iter().rev().find(|kept| kept.signs_at_ms <= now_ms).ok_or(KeysError::None)?;
        let key = Key::new(Algorithm::EdDsa, &kept.secret).map_err(|_| KeysError::Failed)?;
        Signer::new(&kept.kid, key).sign(claims).map_err(|_| KeysError::Failed)
    }

    /// A grant as an app wants it, and until when it holds, in milliseconds since 1970.
    pub(crate) fn grant(&self, wanted: Wanted) -> Result<(String, u64), KeysError> {
        let Wanted { audience: aud, stream, lasts_s, ip, session: sid } = wanted;
        let max = self.0.max_grant_s;
        if lasts_s == 0 || lasts_s > max {
            return Err(KeysError::Bad(format!("`lasts_s` is from 1 to {max}")));
        }
        if !stream.contains(['/', '*']) {
            return Err(KeysError::Bad(format!("{stream:?} matches no stream; expected app/name")));
        }
        let exp = ((self.0.clock)() / 1_000).saturating_add(lasts_s);
        let grant = self.sign(&Claims { exp, nbf: None, aud, stream, ip, sid })?;
        Ok((grant, exp.saturating_mul(1_000)))
    }

    /// What a grant of the cluster's own says, if it lets its bearer play that stream. One that is for an address is refused:
    /// none is known here.
    pub(crate) fn verify_play(&self, grant: Option<&str>, stream: &str) -> Result<Arc<Claims>, Refused> {
        let peer = std::net::Ipv4Addr::UNSPECIFIED.into();
        let asked = Asked { audience: Audience::Play, stream, peer };
        self.0.grants.verify(grant, asked, std::time::SystemTime::now())
    }

    /// What verifies grants.
    pub(crate) fn public(&self) -> rpc::KeySet {
        let public = |kept: &Kept| {
            let key = Key::new(Algorithm::EdDsa, &kept.secret).ok()?;
            let text = key.public_pem()?;
            Some(rpc::Key { kid: kept.kid.clone(), algorithm: "EdDSA".to_owned(), text })
        };
        rpc::KeySet { keys: self.0.ring.load().1.keys.iter().filter_map(public).collect() }
    }

    /// Makes a key. The first signs at once, another when all nodes have it; those before verify until what they signed
    /// has expired.
    pub(crate) async fn rotate(&self) -> Result<Kept, KeysError> {
        for _ in 0..ATTEMPTS {
            let (ring, expect) = self.read().await?;
            if let Some(kept) = self.add(ring, expect).await? {
                return Ok(kept);
            }
        }
        Err(KeysError::Contended)
    }

    async fn add(&self, mut ring: Ring, expect: Expect) -> Result<Option<Kept>, KeysError> {
        if ring.keys.len() >= MAX_KEYS {
            return Err(KeysError::TooMany);
        }
        let now_ms = (self.0.clock)();
        let signs_at_ms = if ring.keys.is_empty() { now_ms } else { now_ms + SPREAD_MS };
        let longest_ms = u64::try_from(self.0.longest.as_millis()).unwrap_or(u64::MAX);
        for kept in &mut ring.keys {
            kept.retires_at_ms.get_or_insert(signs_at_ms.saturating_add(longest_ms));
        }
        let (mut seed, mut name) = ([0; 32], [0; 4]);
        getrandom::fill(&mut seed).and_then(|()| getrandom::fill(&mut name)).map_err(KeysError::Random)?;
        let (secret, _) = Key::ed25519_pems(&seed).map_err(|_| KeysError::Failed)?;
        let kid = format!("c-{:08x}", u32::from_be_bytes(name));
        let kept = Kept { kid, secret, signs_at_ms, retires_at_ms: None };
        ring.keys.push(kept.clone());
        Ok(self.write(ring, expect).await?.then_some(kept))
    }

    async fn read(&self) -> Result<(Ring, Expect), RegistryError> {
        Ok(match self.0.registry.get(RING).await? {
            Some(entry) => (read(&entry).unwrap_or_default(), Expect::At(entry.revision)),
            None => (Ring::default(), Expect::Absent),
        })
    }

    async fn write(&self, ring: Ring, expect: Expect) -> Result<bool, RegistryError> {
        let value =
            serde_json::to_vec(&ring).map_err(|error| RegistryError::Unavailable(error.to_string()))?;
        let revision = self.0.registry.put(RING, Bytes::from(value), expect, None).await?;
        if let Some(revision) = revision {
            self.apply_ring(ring, revision);
        }
        Ok(revision.is_some())
    }

    /// Follows the registry; never ends.
    pub(crate) async fn follow(self) {
        let registry = Arc::clone(&self.0.registry);
        follow(registry, PREFIX, move |step| {
            let entries = match step {
                Step::All(entries) => entries,
                Step::Changes(changes) => changes
                    .into_iter()
                    .filter_map(|change| match change {
                        Change::Put(entry) => Some(entry),
                        Change::Deleted { .. } => None,
                    })
                    .collect(),
            };
            for entry in entries.iter().filter(|entry| entry.key == RING) {
                if let Some(ring) = read(entry) {
                    self.apply_ring(ring, entry.revision);
                }
            }
        })
        .await;
    }

    fn apply_ring(&self, ring: Ring, revision: Revision) {
        let fresh = Arc::new((revision, ring));
        self.0.ring.rcu(|now| if now.0 < revision { Arc::clone(&fresh) } else { Arc::clone(now) });
        self.0.nodes.set_keys(self.public());
        let ring = self.0.ring.load();
        let keys = ring
            .1
            .keys
            .iter()
            .filter_map(|kept| Some((kept.kid.clone(), Key::new(Algorithm::EdDsa, &kept.secret).ok()?)));
        // No two have one name: it is random, and of those that are kept none is made twice.
        self.0.grants.replace(KeySet::new(keys).unwrap_or_else(|_| KeySet::empty()));
    }

    /// Makes the first key, and lets go of those that no grant needs any more; never ends.
    pub(crate) async fn look_after(self) {
        let mut ticks = tokio::time::interval(LOOK);
        loop {
            ticks.tick().await;
            let now_ms = (self.0.clock)();
            let ring = self.0.ring.load_full();
            let is_over = |kept: &Kept| kept.retires_at_ms.is_some_and(|at| at <= now_ms);
            let done = if ring.1.keys.is_empty() {
                self.make_first().await
            } else if ring.1.keys.iter().any(is_over) {
                let mut left = ring.1.clone();
                left.keys.retain(|kept| !is_over(kept));
                self.write(left, Expect::At(ring.0)).await.map(|_| ()).map_err(Into::into)
            } else {
                Ok(())
            };
            if let Err(error) = done {
                tracing::debug!(%error, "the keys of grants cannot be looked after");
            }
        }
    }

    async fn make_first(&self) -> Result<(), KeysError> {
        let (ring, expect) = self.read().await?;
        // Of several replicas that begin together one makes it.
        if expect == Expect::Absent {
            self.add(ring, expect).await?;
        }
        Ok(())
    }
}

fn read(entry: &Entry) -> Option<Ring> {
    serde_json::from_slice(&entry.value)
        .inspect_err(|_| tracing::error!("the registry has keys of grants that are none"))
        .ok()
}
