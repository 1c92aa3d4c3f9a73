//! Who watches: a session from its begin to its end, which somebody else may want to decide about, or to hear of.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use ahash::RandomState;
use async_trait::async_trait;
use control_api::grant::without_secrets;
use media_core::hub::StreamKey;
use parking_lot::Mutex;
use prometheus::IntCounter;

/// Those who begin and end at once wait for each other only if they are in the same part.
const PARTS: usize = 16;

/// Bytes of a query that are told.
const MAX_QUERY_BYTES: usize = 512;

/// Somebody who watches, or wants to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// No other session of this edge has it.
    pub id: u64,
    /// What is watched.
    pub key: StreamKey,
    /// `flv`, `ws-flv`, `ts`, `rtmp` or `hls`.
    pub protocol: &'static str,
    /// Where the viewer is.
    pub address: IpAddr,
    /// What its grant calls it.
    pub name: Option<Box<str>>,
    /// Of its URL, without grants; empty where nobody is asked or told.
    pub query: Box<str>,
    /// Milliseconds since 1970.
    pub began_at_ms: u64,
}

/// Somebody may not watch, for this reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TurnedAway(pub String);

/// Who decides about viewers, beside grants and rules, and hears of them.
#[async_trait]
pub trait Doorkeeper: std::fmt::Debug + Send + Sync + 'static {
    /// Whether it wants to be asked or told at the moment.
    fn attends(&self) -> bool;

    /// Whether somebody may begin to watch. The viewer waits for it, so it answers within seconds.
    async fn may_enter(&self, session: &Session) -> Result<(), TurnedAway>;

    /// Somebody who was let in has left, or did not wait for the answer. Does not wait; whether it is told or need not be:
    /// false if there is no room for it.
    fn has_left(&self, session: &Session) -> bool;
}

/// All who watch.
#[derive(Debug)]
pub(crate) struct Sessions {
    parts: [Mutex<HashMap<u64, Arc<Session>, RandomState>>; PARTS],
    next: AtomicU64,
    doorkeeper: OnceLock<Arc<dyn Doorkeeper>>,
    /// Ends of which the doorkeeper took no notice.
    untold: IntCounter,
}

/// What is known of somebody who comes.
pub(crate) struct Arriving<'a> {
    pub(crate) key: &'a StreamKey,
    pub(crate) protocol: &'static str,
    pub(crate) address: IpAddr,
    pub(crate) name: Option<&'a str>,
    pub(crate) query: Option<&'a str>,
}

/// A session, which ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Hold {
    session: Arc<Session>,
    of: Arc<Sessions>,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.of.part(self.session.id).lock().remove(&self.session.id);
        self.of.left(&self.session);
    }
}

/// A session about which the doorkeeper is being asked. Dropped without an answer, its viewer has left.
struct Asking<'a> {
    session: &'a Session,
    of: &'a Sessions,
    answered: bool,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.of.left(self.session);
        }
    }
}

impl Sessions {
    /// Nobody. Ends that can't be told are counted in `untold`.
    pub(crate) fn new(untold: IntCounter) -> Self {
        // Those of the process after the next restart are others.
        let next = AtomicU64::new(RandomState::new().hash_one(now_ms()));
        Self { parts: std::array::from_fn(|_| Mutex::default()), next, doorkeeper: OnceLock::new(), untold }
    }

    /// From now on it is asked and told. Once: later ones change nothing.
    pub(crate) fn set_doorkeeper(&self, doorkeeper: Arc<dyn Doorkeeper>) {
        // Whoever is first stays.
        let _ = self.doorkeeper.set(doorkeeper);
    }

    fn attending(&self) -> Option<&Arc<dyn Doorkeeper>> {
        self.doorkeeper.get().filter(|doorkeeper| doorkeeper.attends())
    }

    fn left(&self, session: &Session) {
        if self.attending().is_some_and(|doorkeeper| !doorkeeper.has_left(session)) {
            self.untold.inc();
        }
    }

    fn part(&self, id: u64) -> &Mutex<HashMap<u64, Arc<Session>, RandomState>> {
        let at = usize::try_from(id % PARTS as u64).unwrap_or_default();
        // There are as many parts.
        self.parts.get(at).unwrap_or(&self.parts[0])
    }

    /// Begins a session, if it may.
    pub(crate) async fn enter(self: &Arc<Self>, arriving: Arriving<'_>) -> Result<Hold, TurnedAway> {
        let doorkeeper = self.attending();
        let query = arriving.query.filter(|_| doorkeeper.is_some());
        let query = query.map(|query| without_secrets(query, MAX_QUERY_BYTES)).unwrap_or_default();
        let session = Arc::new(Session {
            id: self.next.fetch_add(1, Ordering::Relaxed),
            key: arriving.key.clone(),
            protocol: arriving.protocol,
            address: arriving.address,
            name: arriving.name.map(Into::into),
            query: query.into(),
            began_at_ms: now_ms(),
        });
        if let Some(doorkeeper) = doorkeeper {
            let mut asking = Asking { session: &session, of: self, answered: false };
            let answer = doorkeeper.may_enter(&session).await;
            asking.answered = true;
            answer?;
        }
        self.part(session.id).lock().insert(session.id, Arc::clone(&session));
        Ok(Hold { session, of: Arc::clone(self) })
    }

    /// Those who watch, or watch that stream, the oldest first; and how many there are.
    pub(crate) fn list(&self, key: Option<&StreamKey>, limit: usize) -> (Vec<Arc<Session>>, usize) {
        let mut all = Vec::new();
        for part in &self.parts {
            let part = part.lock();
            all.extend(part.values().filter(|session| key.is_none_or(|key| session.key == *key)).cloned());
        }
        all.sort_unstable_by_key(|session| (session.began_at_ms, session.id));
        let total = all.len();
        all.truncate(limit);
        (all, total)
    }
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::atomic::AtomicBool;

    use super::*;

    #[derive(Debug, Default)]
    struct Strict {
        attends: AtomicBool,
        left: Mutex<Vec<Session>>,
        is_full: AtomicBool,
    }

    #[async_trait]
    impl Doorkeeper for Strict {
        fn attends(&self) -> bool {
            self.attends.load(Ordering::Relaxed)
        }

        async fn may_enter(&self, session: &Session) -> Result<(), TurnedAway> {
            match &*session.query {
                "paid=1" => Ok(()),
                "paid=soon" => std::future::pending().await,
                _ => Err(TurnedAway("pay first".to_owned())),
            }
        }

        fn has_left(&self, session: &Session) -> bool {
            self.left.lock().push(session.clone());
            !self.is_full.load(Ordering::Relaxed)
        }
    }

    fn nobody() -> Arc<Sessions> {
        Arc::new(Sessions::new(IntCounter::new("untold", "untold").unwrap()))
    }

    fn key(name: &str) -> StreamKey {
        StreamKey::parse("live", name, &[]).unwrap()
    }

    async fn enter(sessions: &Arc<Sessions>, name: &str, query: &str) -> Result<Hold, TurnedAway> {
        let key = key(name);
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let arriving = Arriving { key: &key, protocol: "flv", address, name: Some("s"), query: Some(query) };
        sessions.enter(arriving).await
    }

    #[tokio::test]
    async fn sessions_are_there_until_they_end() {
        let sessions = nobody();
        let mut holds = Vec::new();
        for n in 0..40 {
            holds.push(enter(&sessions, if n % 2 == 0 { "a" } else { "b" }, "secret=1").await.unwrap());
        }
        let (listed, total) = sessions.list(Some(&key("a")), 3);
        assert_eq!((listed.len(), total), (3, 20));
        assert!(listed.is_sorted_by_key(|session| (session.began_at_ms, session.id)));
        assert_eq!(&*listed[0].query, "", "nobody wants to know");
        drop(holds);
        assert_eq!(sessions.list(None, 10).1, 0);
    }

    #[tokio::test]
    async fn a_doorkeeper_that_attends_decides_and_hears_who_leaves() {
        let sessions = nobody();
        let strict = Arc::new(Strict::default());
        sessions.set_doorkeeper(Arc::<Strict>::clone(&strict));
        assert!(enter(&sessions, "a", "").await.is_ok(), "it does not attend");
        strict.attends.store(true, Ordering::Relaxed);
        assert_eq!(enter(&sessions, "a", "").await.unwrap_err(), TurnedAway("pay first".to_owned()));
        let hold = enter(&sessions, "a", "token=secret&paid=1").await.unwrap();
        assert!(strict.left.lock().is_empty() && sessions.list(None, 9).1 == 1);
        drop(hold);
        let left = std::mem::take(&mut *strict.left.lock());
        assert_eq!((left.len(), &*left[0].query), (1, "paid=1"));
        assert_eq!(sessions.untold.get(), 0);
        strict.is_full.store(true, Ordering::Relaxed);
        drop(enter(&sessions, "a", "paid=1").await.unwrap());
        assert_eq!(sessions.untold.get(), 1);
    }

    #[tokio::test]
    async fn who_leaves_while_a_doorkeeper_is_asked_has_left() {
        let sessions = nobody();
        let strict = Arc::new(Strict::default());
        strict.attends.store(true, Ordering::Relaxed);
        sessions.set_doorkeeper(Arc::<Strict>::clone(&strict));
        let asked = enter(&sessions, "a", "paid=soon");
        tokio::select! {
            biased;
            _ = asked => panic!("there is no answer"),
            () = std::future::ready(()) => {}
        }
        let left = strict.left.lock();
        assert_eq!((left.len(), &*left[0].query), (1, "paid=soon"));
        assert_eq!(sessions.list(None, 9).1, 0);
    }
}
