//! Whether a grant allows what somebody asks for.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use jsonwebtoken::{Validation, decode, decode_header};
use quick_cache::sync::Cache;

use super::{Audience, Claims, Key, MAX_GRANT_BYTES};
use crate::pattern;

/// How far the clocks of who signs and who verifies may be apart, in seconds.
const LEEWAY_S: u64 = 10;

/// Grants that are remembered as signed, at [`MAX_GRANT_BYTES`] and as much again at most. A player of low-latency HLS
/// shows its grant some ten times a second, and a signature of Ed25519 takes 50 µs.
const REMEMBERED: usize = 32_768;

/// Why somebody may not do what it asks for. The words are for it, and say nothing about keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// There is no grant.
    #[error("a grant is needed")]
    Missing,
    /// It is too long, or no JWS of ours.
    #[error("the grant is not valid")]
    Malformed,
    /// Nobody here has a key of that name.
    #[error("the grant is not valid")]
    UnknownKey,
    /// It says another algorithm than its key's.
    #[error("the grant is not valid")]
    Algorithm,
    /// The key did not sign it.
    #[error("the grant is not valid")]
    Signature,
    /// Its time is over.
    #[error("the grant has expired")]
    Expired,
    /// Its time has not come.
    #[error("the grant does not hold yet")]
    NotYet,
    /// It is for publishing, or for playing.
    #[error("the grant does not allow this")]
    Audience,
    /// It is for other streams.
    #[error("the grant does not allow this")]
    Stream,
    /// It is for another address.
    #[error("the grant does not allow this")]
    Address,
}

impl Refused {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Missing,
        Self::Malformed,
        Self::UnknownKey,
        Self::Algorithm,
        Self::Signature,
        Self::Expired,
        Self::NotYet,
        Self::Audience,
        Self::Stream,
        Self::Address,
    ];

    /// Its name in metrics.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Missing => "grant_missing",
            Self::Malformed => "grant_malformed",
            Self::UnknownKey => "grant_unknown_key",
            Self::Algorithm => "grant_algorithm",
            Self::Signature => "grant_signature",
            Self::Expired => "grant_expired",
            Self::NotYet => "grant_not_yet",
            Self::Audience => "grant_audience",
            Self::Stream => "grant_stream",
            Self::Address => "grant_address",
        }
    }

    /// Whether the grant is a good one, for something else: another like it would not help.
    pub const fn is_forbidden(self) -> bool {
        matches!(self, Self::Audience | Self::Stream | Self::Address)
    }
}

/// What somebody asks for.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// To publish or to play.
    pub audience: Audience,
    /// Which stream, as `app/name`.
    pub stream: &'a str,
    /// Who.
    pub peer: IpAddr,
}

/// Two keys have one name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("two keys have the name {0:?}")]
pub struct SameKid(pub String);

/// Keys by their names, and what they have verified lately.
#[derive(Debug)]
pub struct KeySet {
    keys: HashMap<String, Key>,
    signed: Cache<Box<str>, Arc<Claims>>,
}

impl KeySet {
    /// Of no keys: it verifies nothing.
    pub fn empty() -> Self {
        Self { keys: HashMap::new(), signed: Cache::new(REMEMBERED) }
    }

    /// Of keys and their names.
    pub fn new(keys: impl IntoIterator<Item = (String, Key)>) -> Result<Self, SameKid> {
        let mut set = Self::empty();
        for (kid, key) in keys {
            if set.keys.contains_key(&kid) {
                return Err(SameKid(kid));
            }
            set.keys.insert(kid, key);
        }
        Ok(set)
    }

    /// With another key; one of the same name is replaced.
    pub fn add(&mut self, kid: String, key: Key) {
        self.keys.insert(kid, key);
    }

    /// The same keys, which have seen no grant.
    pub fn copied(&self) -> Self {
        Self { keys: self.keys.clone(), signed: Cache::new(REMEMBERED) }
    }

    /// The claims of a grant that one of the keys has signed, whatever they are.
    fn signed(&self, grant: &str) -> Result<Arc<Claims>, Refused> {
        if grant.len() > MAX_GRANT_BYTES {
            return Err(Refused::Malformed);
        }
        if let Some(claims) = self.signed.get(grant) {
            return Ok(claims);
        }
        let header = decode_header(grant).map_err(|_| Refused::Malformed)?;
        // Extensions that must be understood are not (RFC 7515 §4.1.11).
        let kid = header.kid.filter(|_| header.crit.is_none()).ok_or(Refused::Malformed)?;
        let key = self.keys.get(&kid).ok_or(Refused::UnknownKey)?;
        let algorithm = key.algorithm().jws();
        if header.alg != algorithm {
            return Err(Refused::Algorithm);
        }
        // The claims are looked at each time a grant is shown, not only when its signature is.
        let mut validation = Validation::new(algorithm);
        validation.required_spec_claims.clear();
        (validation.validate_exp, validation.validate_aud) = (false, false);
        let decoded =
            decode::<Claims>(grant, key.verifies(), &validation).map_err(|error| match error.kind() {
                jsonwebtoken::errors::ErrorKind::InvalidSignature => Refused::Signature,
                _ => Refused::Malformed,
            })?;
        let claims = Arc::new(decoded.claims);
        self.signed.insert(grant.into(), Arc::clone(&claims));
        Ok(claims)
    }
}

/// Whether the claims allow what is asked for at that time.
fn allow(claims: &Claims, asked: Asked<'_>, now: SystemTime) -> Result<(), Refused> {
    let now_s = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    if claims.exp.saturating_add(LEEWAY_S) <= now_s {
        return Err(Refused::Expired);
    }
    if claims.nbf.is_some_and(|nbf| nbf > now_s.saturating_add(LEEWAY_S)) {
        return Err(Refused::NotYet);
    }
    if claims.aud != asked.audience {
        return Err(Refused::Audience);
    }
    if !pattern::matches(&claims.stream, asked.stream) {
        return Err(Refused::Stream);
    }
    if claims.ip.is_some_and(|network| !network.contains(asked.peer)) {
        return Err(Refused::Address);
    }
    Ok(())
}

impl Claims {
    /// How long they still hold at that time.
    pub fn holds_for(&self, now: SystemTime) -> Duration {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Duration::from_secs(self.exp.saturating_add(LEEWAY_S)).saturating_sub(now)
    }
}

/// The keys in force. They can be replaced at any time; grants of keys that are gone hold no longer.
#[derive(Debug)]
pub struct Grants(ArcSwap<KeySet>);

impl Grants {
    /// With these keys.
    pub fn new(keys: KeySet) -> Self {
        Self(ArcSwap::from_pointee(keys))
    }

    /// Replaces the keys.
    pub fn replace(&self, keys: KeySet) {
        self.0.store(keys.into());
    }

    /// What a grant says, if it allows what is asked for now.
    pub fn verify(
        &self,
        grant: Option<&str>,
        asked: Asked<'_>,
        now: SystemTime,
    ) -> Result<Arc<Claims>, Refused> {
        let grant = grant.ok_or(Refused::Missing)?;
        let claims = self.0.load().signed(grant)?;
        allow(&claims, asked, now)?;
        Ok(claims)
    }
}

#[cfg(test)]
mod tests;
