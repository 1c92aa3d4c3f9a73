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

/// A session.
struct Entry {
    secret: String,
    place: Place,
    /// The fragment that its peer has since ICE was restarted.
    renamed: Option<String>,
}

#[derive(Default)]
struct Entries {
    /// By the fragment that they began with.
    sessions: AHashMap<String, Entry>,
    /// From the fragment that a peer has now to the one that it began with.
    renamed: AHashMap<String, String>,
}

impl Entries {
    fn session(&mut self, name: &Name) -> Result<&mut Entry, Refused> {
        let entry = self.sessions.get_mut(&name.ufrag).filter(|entry| entry.secret == name.secret);
        entry.ok_or(Refused::Unknown)
    }

    fn remove(&mut self, ufrag: &str) -> Option<Entry> {
        let entry = self.sessions.remove(ufrag)?;
        if let Some(renamed) = &entry.renamed {
            self.renamed.remove(renamed);
        }
        Some(entry)
    }
}

/// All peers of a server.
pub(crate) struct Directory {
    most: usize,
    entries: Mutex<Entries>,
}

impl Directory {
    pub(crate) fn new(most: usize) -> Self {
        Self { most, entries: Mutex::default() }
    }

    /// A new peer waits for its first check.
    pub(crate) fn wait(&self, newcomer: Box<Newcomer>) -> Result<(), (Refused, Box<Newcomer>)> {
        let mut entries = self.entries.lock();
        if entries.sessions.len() >= self.most {
            return Err((Refused::Full, newcomer));
        }
        let Name { ufrag, secret } = newcomer.name.clone();
        entries.sessions.insert(ufrag, Entry { secret, place: Place::Waiting(newcomer), renamed: None });
        Ok(())
    }

    /// Whether another peer is taken.
    pub(crate) fn has_room(&self) -> bool {
        self.entries.lock().sessions.len() < self.most
    }

    /// A check for that fragment came to a shard.
    pub(crate) fn find(&self, ufrag: &str, shard: usize) -> Found {
        let mut entries = self.entries.lock();
        let Entries { sessions, renamed } = &mut *entries;
        let began = renamed.get(ufrag).map_or(ufrag, String::as_str);
        match sessions.get_mut(began) {
            None => Found::Nobody,
            Some(entry) => match std::mem::replace(&mut entry.place, Place::At(shard)) {
                Place::Waiting(newcomer) => Found::Yours(newcomer),
                Place::At(at) => {
                    entry.place = Place::At(at);
                    Found::At(at)
                }
            },
        }
    }

    /// A peer is over.
    pub(crate) fn forget(&self, ufrag: &str) {
        self.entries.lock().remove(ufrag);
    }

    /// The fragment that the peer of a session has.
    pub(crate) fn fragment(&self, name: &Name) -> Result<String, Refused> {
        let mut entries = self.entries.lock();
        let entry = entries.session(name)?;
        Ok(entry.renamed.clone().unwrap_or_else(|| name.ufrag.clone()))
    }

    /// The peer of a session has another fragment from now on.
    pub(crate) fn rename(&self, name: &Name, fragment: &str) -> Result<(), Refused> {
        let mut entries = self.entries.lock();
        let before = entries.session(name)?.renamed.replace(fragment.to_owned());
        if let Some(before) = before {
            entries.renamed.remove(&before);
        }
        entries.renamed.insert(fragment.to_owned(), name.ufrag.clone());
        Ok(())
    }

    /// The shard of a session, or what it is while it waits: `with` gets it, and says whether it goes on waiting.
    pub(crate) fn visit(
        &self,
        name: &Name,
        with: impl FnOnce(&mut Newcomer) -> bool,
    ) -> Result<Option<usize>, Refused> {
        let mut entries = self.entries.lock();
        let gone = match &mut entries.session(name)?.place {
            Place::At(shard) => return Ok(Some(*shard)),
            Place::Waiting(newcomer) => !with(newcomer),
        };
        let entry = if gone { entries.remove(&name.ufrag) } else { None };
        drop(entries);
        if let Some(Entry { place: Place::Waiting(newcomer), .. }) = entry {
            newcomer.end(crate::shard::Ended::Asked);
        }
        Ok(None)
    }

    /// Takes out those who have waited until `before`, or all.
    pub(crate) fn overdue(&self, before: Option<Instant>) -> Vec<Newcomer> {
        let mut entries = self.entries.lock();
        let overdue = |entry: &Entry| matches!(&entry.place, Place::Waiting(newcomer) if before.is_none_or(|before| newcomer.begun <= before));
        let sessions = entries.sessions.iter();
        let late: Vec<String> =
            sessions.filter(|(_, entry)| overdue(entry)).map(|(ufrag, _)| ufrag.clone()).collect();
        let late = late.iter().filter_map(|ufrag| entries.remove(ufrag));
        late.filter_map(|entry| match entry.place {
            Place::Waiting(newcomer) => Some(*newcomer),
            Place::At(_) => None,
        })
        .collect()
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
