//! Where each peer is: waiting for its first connectivity check, or on a shard.
//!
//! A datagram comes to the shard that the kernel chooses by its addresses. So a peer is made where its offer is answered,
//! waits here, and lives on the shard to which its first check comes: from then on nothing of it crosses threads, unless
//! it checks from several addresses at once.

use std::time::Instant;

use ahash::AHashMap;
use parking_lot::Mutex;

use crate::offer::Refused;
use crate::shard::Newcomer;

/// Bytes of randomness in a fragment of a username, and in a session's name behind it.
const RANDOM_BYTES: usize = 12;

/// The name of a session: the fragment of its username, which whoever sees its traffic knows, and a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) ufrag: String,
    pub(crate) secret: String,
}

impl Name {
    /// A new one.
    pub(crate) fn random() -> Option<Self> {
        Some(Self { ufrag: random()?, secret: random()? })
    }

    /// Both in one.
    pub(crate) fn text(&self) -> String {
        format!("{}{}", self.ufrag, self.secret)
    }

    /// Of [`Self::text`].
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (ufrag, secret) = text.split_at_checked(RANDOM_BYTES * 2)?;
        let good = secret.len() == RANDOM_BYTES * 2 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        good.then(|| Self { ufrag: ufrag.to_owned(), secret: secret.to_owned() })
    }
}

/// Hexadecimal digits of random bytes, which are ice-chars (RFC 8839 §5.4).
pub(crate) fn random() -> Option<String> {
    let mut bytes = [0; RANDOM_BYTES];
    getrandom::fill(&mut bytes).ok()?;
    Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Where a peer is.
enum Place {
    Waiting(Box<Newcomer>),
    At(usize),
}

/// What a shard learns of a fragment that it does not know.
pub(crate) enum Found {
    /// It is this shard's from now on.
    Yours(Box<Newcomer>),
    /// It is another's.
    At(usize),
    /// Nobody's.
    Nobody,
}

/// All peers of a server.
pub(crate) struct Directory {
    most: usize,
    places: Mutex<AHashMap<String, (String, Place)>>,
}

impl Directory {
    pub(crate) fn new(most: usize) -> Self {
        Self { most, places: Mutex::default() }
    }

    /// A new peer waits for its first check.
    pub(crate) fn wait(&self, newcomer: Box<Newcomer>) -> Result<(), (Refused, Box<Newcomer>)> {
        let mut places = self.places.lock();
        if places.len() >= self.most {
            return Err((Refused::Full, newcomer));
        }
        let name = newcomer.name.clone();
        places.insert(name.ufrag, (name.secret, Place::Waiting(newcomer)));
        Ok(())
    }

    /// Whether another peer is taken.
    pub(crate) fn has_room(&self) -> bool {
        self.places.lock().len() < self.most
    }

    /// A check for that fragment came to a shard.
    pub(crate) fn find(&self, ufrag: &str, shard: usize) -> Found {
        let mut places = self.places.lock();
        match places.get_mut(ufrag) {
            None => Found::Nobody,
            Some((_, Place::At(at))) => Found::At(*at),
            Some((_, place)) => match std::mem::replace(place, Place::At(shard)) {
                Place::Waiting(newcomer) => Found::Yours(newcomer),
                Place::At(at) => Found::At(at),
            },
        }
    }

    /// A peer is over.
    pub(crate) fn forget(&self, ufrag: &str) {
        self.places.lock().remove(ufrag);
    }

    /// The shard of a session, or what it is while it waits: `with` gets it, and says whether it goes on waiting.
    pub(crate) fn visit(
        &self,
        name: &Name,
        with: impl FnOnce(&mut Newcomer) -> bool,
    ) -> Result<Option<usize>, Refused> {
        let mut places = self.places.lock();
        let Some((secret, place)) = places.get_mut(&name.ufrag) else { return Err(Refused::Unknown) };
        if *secret != name.secret {
            return Err(Refused::Unknown);
        }
        let gone = match place {
            Place::At(shard) => return Ok(Some(*shard)),
            Place::Waiting(newcomer) => !with(newcomer),
        };
        if gone && let Some((_, Place::Waiting(newcomer))) = places.remove(&name.ufrag) {
            drop(places);
            newcomer.end(crate::shard::Ended::Asked);
        }
        Ok(None)
    }

    /// Takes out those who have waited until `before`, or all.
    pub(crate) fn overdue(&self, before: Option<Instant>) -> Vec<Box<Newcomer>> {
        let mut places = self.places.lock();
        let overdue = |place: &Place| matches!(place, Place::Waiting(newcomer) if before.is_none_or(|before| newcomer.begun <= before));
        let late = places.extract_if(|_, (_, place)| overdue(place));
        let late: Vec<_> = late
            .filter_map(|(_, (_, place))| match place {
                Place::Waiting(newcomer) => Some(newcomer),
                Place::At(_) => None,
            })
            .collect();
        late
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_back_and_others_are_not() {
        let name = Name::random().unwrap();
        assert_eq!(Name::parse(&name.text()), Some(name.clone()));
        for bad in ["", "é", &name.ufrag, &format!("{}x", name.text()), &"é".repeat(24)] {
            assert_eq!(Name::parse(bad), None, "{bad}");
        }
    }
}
