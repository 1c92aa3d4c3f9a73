//! Conferences: named sessions in which each speaker publishes a stream, and everybody receives the others'.
//!
//! A conference is one record of the registry, changed by compare-and-swap alone: its members, and the last of its events
//! with their numbers. So all replicas have the same state and tell the same events, whichever a member asks, and one that
//! dies takes nothing with it. How loud people are is told by the cache, and may be lost.

mod config;
mod following;
mod levels;
mod record;
mod speaker;
mod streaming;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use control_api::rpc;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Mutex as Turn, Notify, Semaphore, watch};

use crate::nodes::Nodes;
use crate::registry::{Change, Entry, Expect, Registry, RegistryError, Revision};
use crate::replica::Clock;
use crate::replica::follow::{Step, follow};
use crate::streams::Streams;
pub use config::Config;
pub(crate) use following::FollowError;
pub(crate) use record::{Conference, MAX_SPEAKERS, Member, Refused, Role, SEPARATOR};

/// Of records, in the registry.
const PREFIX: &str = "conferences/";

/// How often a change is tried again that other replicas make at the same time.
const ATTEMPTS: usize = 32;

/// Changes that this replica makes at once; those of one conference follow each other.
const TURNS: usize = 16;

/// Between two times that origins are told of conferences, at least.
const TELL_AT_MOST: Duration = Duration::from_millis(20);

/// How often what is left of conferences that ended is looked through.
const LOOK: Duration = Duration::from_secs(30);

/// Why something cannot be done to conferences.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConferenceError {
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error("there is no conference {0}")]
    None(String),
    #[error("there is a conference {0} already")]
    Taken(String),
    #[error(
        "there are {0} conferences already, as many as there may be (`control.conferences.max_conferences`)"
    )]
    TooMany(usize),
    #[error("others change this conference at the same time")]
    Contended,
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

/// All conferences. Clones are the same.
#[derive(Clone)]
pub(crate) struct Conferences(Arc<Inner>);

struct Inner {
    registry: Arc<dyn Registry>,
    nodes: Nodes,
    streams: Streams,
    clock: Clock,
    config: Config,
    /// How long what is left of one that ended keeps out those who have grants.
    longest_grant: Duration,
    /// As the registry has them, by path.
    known: RwLock<BTreeMap<String, Kept>>,
    /// It was read once: origins can be told.
    is_read: std::sync::atomic::AtomicBool,
    turns: [Turn<()>; TURNS],
    hasher: RandomState,
    /// Something has changed of which origins are to know.
    changed: Notify,
    hubs: Mutex<HashMap<String, following::Hub>>,
    room: Arc<Semaphore>,
    levels: Mutex<levels::Levels>,
    closing: watch::Sender<bool>,
}

#[derive(Clone)]
struct Kept {
    conference: Arc<Conference>,
    revision: Revision,
}

impl Conferences {
    pub(crate) fn new(
        registry: Arc<dyn Registry>,
        (nodes, streams): (Nodes, Streams),
        config: &crate::Config,
        clock: Clock,
    ) -> Self {
        let room = Arc::new(Semaphore::new(config.conferences.max_followers.min(Semaphore::MAX_PERMITS)));
        Self(Arc::new(Inner {
            registry,
            nodes,
            streams,
            clock,
            config: config.conferences.clone(),
            longest_grant: Duration::from_secs(config.grant_ttl_s),
            known: RwLock::default(),
            is_read: false.into(),
            turns: Default::default(),
            hasher: RandomState::new(),
            changed: Notify::new(),
            hubs: Mutex::default(),
            room,
            levels: Mutex::default(),
            closing: watch::Sender::new(false),
        }))
    }

    /// One that has not ended.
    pub(crate) fn get(&self, path: &str) -> Option<Arc<Conference>> {
        let known = self.0.known.read();
        let kept = known.get(path).filter(|kept| !kept.conference.has_ended())?;
        Some(Arc::clone(&kept.conference))
    }

    /// All that have not ended, ordered by path.
    pub(crate) fn all(&self) -> Vec<Arc<Conference>> {
        let known = self.0.known.read();
        let all = known.values().filter(|kept| !kept.conference.has_ended());
        all.map(|kept| Arc::clone(&kept.conference)).collect()
    }

    /// How many follow events here.
    pub(crate) fn followers(&self) -> usize {
        self.0.config.max_followers.saturating_sub(self.0.room.available_permits())
    }

    /// Those who follow events are sent to other replicas.
    pub(crate) fn close(&self) {
        self.0.closing.send_replace(true);
    }

    fn turn(&self, path: &str) -> &Turn<()> {
        let at = self.0.hasher.hash_one(path) % TURNS as u64;
        let [first, ..] = &self.0.turns;
        usize::try_from(at).ok().and_then(|at| self.0.turns.get(at)).unwrap_or(first)
    }

    async fn read(&self, path: &str) -> Result<Option<(Conference, Revision)>, RegistryError> {
        let entry = self.0.registry.get(&format!("{PREFIX}{path}")).await?;
        Ok(entry.and_then(|entry| Some((read(&entry)?, entry.revision))))
    }

    /// The same of one that has not ended.
    async fn find(&self, path: &str) -> Result<(Conference, Revision), ConferenceError> {
        let found = self.read(path).await?.filter(|(conference, _)| !conference.has_ended());
        found.ok_or_else(|| ConferenceError::None(path.to_owned()))
    }

    async fn write(
        &self,
        conference: Conference,
        expect: Expect,
    ) -> Result<Option<Arc<Conference>>, RegistryError> {
        let key = format!("{PREFIX}{}", conference.path());
        let value =
            serde_json::to_vec(&conference).map_err(|error| RegistryError::Unavailable(error.to_string()))?;
        let Some(revision) = self.0.registry.put(&key, Bytes::from(value), expect, None).await? else {
            return Ok(None);
        };
        let conference = Arc::new(conference);
        // Who reads it next has not to wait for the watch.
        self.apply_record(&conference, revision);
        Ok(Some(conference))
    }

    /// Creates a conference.
    pub(crate) async fn create(
        &self,
        app: &str,
        name: &str,
        max_speakers: u16,
    ) -> Result<Arc<Conference>, ConferenceError> {
        let new = Conference::new(app, name, max_speakers, (self.0.clock)())?;
        let path = new.path();
        let _turn = self.turn(&path).lock().await;
        if self.all().len() >= self.0.config.max_conferences {
            return Err(ConferenceError::TooMany(self.0.config.max_conferences));
        }
        for _ in 0..ATTEMPTS {
            let (next, expect) = match self.read(&path).await? {
                None => (new.clone(), Expect::Absent),
                Some((before, revision)) if before.has_ended() => {
                    (new.clone().follows(&before), Expect::At(revision))
                }
                Some(_) => return Err(ConferenceError::Taken(path)),
            };
            if let Some(created) = self.write(next, expect).await? {
                tracing::info!(conference = path, max_speakers, "a conference was created");
                return Ok(created);
            }
        }
        Err(ConferenceError::Contended)
    }

    /// Changes a conference: what `change` does to it, unless it refuses.
    pub(crate) async fn change<T>(
        &self,
        path: &str,
        change: impl Fn(&mut Conference, u64) -> Result<T, Refused>,
    ) -> Result<(Arc<Conference>, T), ConferenceError> {
        let _turn = self.turn(path).lock().await;
        for _ in 0..ATTEMPTS {
            let (before, revision) = self.find(path).await?;
            let mut next = before.clone();
            let done = change(&mut next, (self.0.clock)())?;
            if next == before {
                return Ok((Arc::new(before), done));
            }
            if let Some(changed) = self.write(next, Expect::At(revision)).await? {
                return Ok((changed, done));
            }
        }
        Err(ConferenceError::Contended)
    }

    /// Ends the stream of somebody who may no longer publish.
    pub(crate) async fn silence(&self, conference: &Conference, member: &str) -> Result<(), RegistryError> {
        self.0.streams.kick(&conference.stream(member)).await.map(|_| ())
    }

    /// Ends a conference, and its members' streams.
    pub(crate) async fn end(&self, path: &str) -> Result<(), ConferenceError> {
        let members = {
            let _turn = self.turn(path).lock().await;
            self.end_once(path).await?
        };
        tracing::info!(conference = path, "a conference was ended");
        let mut told = Ok(());
        for stream in members {
            // Who could not be told is found again in a moment.
            told = told.and(self.0.streams.kick(&stream).await.map(|_| ()));
        }
        Ok(told?)
    }

    async fn end_once(&self, path: &str) -> Result<Vec<String>, ConferenceError> {
        for _ in 0..ATTEMPTS {
            let (mut conference, revision) = self.find(path).await?;
            let members = conference.members.iter().map(|member| conference.stream(&member.id)).collect();
            conference.end((self.0.clock)());
            if self.write(conference, Expect::At(revision)).await?.is_some() {
                return Ok(members);
            }
        }
        Err(ConferenceError::Contended)
    }

    /// Whether a stream may be published: that of a conference by its speakers alone, whatever grants they still have. As the
    /// registry has it.
    pub(crate) async fn admits(&self, stream: &str) -> Result<bool, RegistryError> {
        let Some((path, member)) = record::parts(stream) else { return Ok(true) };
        let found = self.read(path).await?;
        Ok(found.is_none_or(|(conference, _)| conference.may_publish(member)))
    }

    /// Follows the registry; never ends.
    pub(crate) async fn follow(self) {
        let registry = Arc::clone(&self.0.registry);
        follow(registry, PREFIX, move |step| self.apply(step)).await;
    }

    fn apply(&self, step: Step) {
        match step {
            Step::All(entries) => {
                let there: HashSet<&str> =
                    entries.iter().filter_map(|entry| entry.key.strip_prefix(PREFIX)).collect();
                let paths: Vec<String> = self.0.known.read().keys().cloned().collect();
                for path in paths {
                    if !there.contains(&*path) {
                        self.forget(&path, Revision(u64::MAX));
                    }
                }
                entries.iter().for_each(|entry| self.apply_entry(entry));
                self.0.is_read.store(true, std::sync::atomic::Ordering::Release);
                self.0.changed.notify_one();
            }
            Step::Changes(changes) => {
                for change in changes {
                    match change {
                        Change::Put(entry) => self.apply_entry(&entry),
                        Change::Deleted { key, revision } => {
                            self.forget(key.strip_prefix(PREFIX).unwrap_or_default(), revision);
                        }
                    }
                }
            }
        }
    }

    fn apply_entry(&self, entry: &Entry) {
        if let Some(conference) = read(entry) {
            self.apply_record(&Arc::new(conference), entry.revision);
        }
    }

    fn apply_record(&self, conference: &Arc<Conference>, revision: Revision) {
        let path = conference.path();
        {
            let mut known = self.0.known.write();
            if known.get(&path).is_some_and(|known| known.revision >= revision) {
                return;
            }
            let kept = Kept { conference: Arc::clone(conference), revision };
            let before = known.insert(path.clone(), kept);
            // Under the lock, so that whoever begins to follow has either the record or the event.
            self.tell_followers(&path, before.map(|kept| kept.conference).as_deref(), conference);
        }
        self.0.changed.notify_one();
    }

    fn forget(&self, path: &str, revision: Revision) {
        let mut known = self.0.known.write();
        if known.get(path).is_some_and(|known| known.revision <= revision) {
            known.remove(path);
            self.0.hubs.lock().remove(path);
            self.0.changed.notify_one();
        }
    }

    /// Tells origins which conferences there are and who is muted, and lets go of what is left of old ones; never ends.
    pub(crate) async fn look_after(self) {
        let mut looks = tokio::time::interval(LOOK);
        loop {
            tokio::select! {
                () = self.0.changed.notified() => {
                    // What is not read yet is not to be taken for nothing.
                    if self.0.is_read.load(std::sync::atomic::Ordering::Acquire) {
                        self.0.nodes.set_conferences(self.told());
                    }
                    tokio::time::sleep(TELL_AT_MOST).await;
                }
                _ = looks.tick() => self.let_go().await,
            }
        }
    }

    /// What origins are told.
    fn told(&self) -> rpc::Conferences {
        let mut told = rpc::Conferences::default();
        for conference in self.all() {
            let muted = conference.members.iter().filter(|member| member.muted);
            told.muted.extend(muted.map(|member| conference.stream(&member.id)));
            told.names.push(conference.path());
        }
        told
    }

    async fn let_go(&self) {
        let now_ms = (self.0.clock)();
        let longest_ms = u64::try_from(self.0.longest_grant.as_millis()).unwrap_or(u64::MAX);
        let is_over = |kept: &Kept| {
            kept.conference.ended_at_ms.is_some_and(|at| at.saturating_add(longest_ms) <= now_ms)
        };
        let over: Vec<(String, Revision)> = {
            let known = self.0.known.read();
            known
                .iter()
                .filter(|(_, kept)| is_over(kept))
                .map(|(path, kept)| (path.clone(), kept.revision))
                .collect()
        };
        for (path, revision) in over {
            if let Err(error) = self.0.registry.delete(&format!("{PREFIX}{path}"), Expect::At(revision)).await
            {
                tracing::debug!(conference = path, %error, "what is left of a conference stays for now");
            }
        }
    }
}

fn read(entry: &Entry) -> Option<Conference> {
    serde_json::from_slice(&entry.value)
        .inspect_err(
            |error| tracing::warn!(key = entry.key, %error, "the registry has a conference that is none"),
        )
        .ok()
}
