//! Backup publishers: they wait, and go on with a stream when its publisher is lost.
//!
//! A backup publishes into a registry of its own, which nobody reads. While the stream has no other publisher a task hands
//! its frames on, from the newest keyframe that it keeps, so that who watches has a picture at once; the backup's connection
//! knows nothing of that. A publisher that is no backup takes the stream from it, and it waits again.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use ahash::{AHashMap, AHashSet};
use media_core::hub::{
    self, Consumer, Epoch, Event, Phase, Producer, Registry, Revoked, StreamKey, Takeover,
};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::Notify;

use crate::Origin;
use crate::leases::{Lease, Purpose};
use crate::publication::{Hand, Publication, PublishError, Publisher};

/// The backups of an origin.
pub(crate) struct Standbys {
    /// What they send.
    registry: Registry,
    state: Mutex<State>,
    /// A turn has ended.
    freed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Who each of them is.
    publishers: AHashMap<StreamKey, Publisher>,
    /// Streams that a backup publishes, and under which epoch.
    active: AHashMap<StreamKey, Epoch>,
    /// Streams whose lease is being asked for.
    asking: AHashSet<StreamKey>,
}

impl std::fmt::Debug for Standbys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Standbys").field("state", &self.state.lock()).finish_non_exhaustive()
    }
}

impl Standbys {
    /// Nobody waits yet.
    pub(crate) fn new(limits: hub::Limits) -> Self {
        Self { registry: Registry::new(limits), state: Mutex::default(), freed: Notify::new() }
    }

    /// Streams that have a backup.
    pub(crate) fn keys(&self) -> Vec<StreamKey> {
        self.registry.streams().iter().map(|stream| stream.key().clone()).collect()
    }

    /// Whether a backup publishes the stream.
    pub(crate) fn publishes(&self, key: &StreamKey, epoch: Epoch) -> bool {
        self.state.lock().active.get(key) == Some(&epoch)
    }

    fn is_there(&self, key: &StreamKey) -> bool {
        self.registry.stream(key).is_some_and(|stream| stream.snapshot().phase == Phase::Live)
    }

    /// Its backup, too, is not wanted any more.
    pub(crate) fn end(&self, key: &StreamKey, why: Revoked) -> bool {
        self.registry.end(key, why)
    }

    pub(crate) fn end_all(&self, why: Revoked) {
        self.registry.end_all(why);
    }

    /// Takes a backup in.
    fn enter(
        &self,
        key: &StreamKey,
        epoch: Epoch,
        publisher: Publisher,
        takeover: Takeover,
    ) -> Result<Producer, hub::PublishError> {
        let producer = self.registry.publish(key, epoch, takeover)?;
        self.state.lock().publishers.insert(key.clone(), publisher);
        Ok(producer)
    }

    /// A backup has gone: nobody waits for its return.
    pub(crate) fn leave(&self, key: &StreamKey, epoch: Epoch) {
        self.registry.expire(key, epoch);
        // Be it that an operator has ended it. Another may have taken its place, or does so now: it is noted behind this lock.
        let mut state = self.state.lock();
        if self.registry.stream(key).is_none() {
            state.publishers.remove(key);
        }
    }

    /// The same, after whoever asks now, if that takes no longer than [`TURN`].
    async fn wait_for_turn(self: &Arc<Self>, key: &StreamKey) -> Option<Turn> {
        let waiting = async {
            loop {
                let freed = self.freed.notified();
                match self.turn(key) {
                    Some(turn) => return turn,
                    None => freed.await,
                }
            }
        };
        tokio::time::timeout(TURN, waiting).await.ok()
    }

    /// The one who may ask for the lease of a stream; `None`: somebody does.
    fn turn(self: &Arc<Self>, key: &StreamKey) -> Option<Turn> {
        let begun = self.state.lock().asking.insert(key.clone());
        begun.then(|| Turn { standbys: Arc::clone(self), key: key.clone() })
    }
}

/// How long a publisher waits for others who ask for the same stream: an attempt of its own that it has given up, mostly.
const TURN: Duration = Duration::from_secs(5);

/// While it is there, nobody else asks for the lease of that stream: of two that were given, one would be for nobody.
struct Turn {
    standbys: Arc<Standbys>,
    key: StreamKey,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.standbys.state.lock().asking.remove(&self.key);
        self.standbys.freed.notify_waiters();
    }
}

/// Who has a stream at this origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holder {
    Nobody,
    Publisher,
    Backup,
}

impl Origin {
    /// [`Self::publish`], under a lease where one is needed. A backup waits if the stream has a publisher.
    pub async fn admit(&self, key: &StreamKey, publisher: Publisher) -> Result<Publication, PublishError> {
        if self.is_draining() {
            return Err(self.refused(PublishError::Draining));
        }
        let busy = || hub::PublishError::Busy(key.clone()).into();
        let Some(_turn) = self.standbys().wait_for_turn(key).await else { return Err(self.refused(busy())) };
        // It may have begun meanwhile, and a lease would be for nobody.
        if self.is_draining() {
            return Err(self.refused(PublishError::Draining));
        }
        let takeover = self.config().streams.takeover;
        let holder = self.holder(key);
        let purpose = match holder {
            _ if publisher.backup && self.standbys().is_there(key) && !takeover => {
                return Err(self.refused(busy()));
            }
            Holder::Publisher | Holder::Backup if publisher.backup => Purpose::Wait,
            Holder::Publisher if !takeover => return Err(self.refused(busy())),
            _ => Purpose::Publish { takeover },
        };
        let lease = self.lease(key, purpose, &publisher).await.map_err(|error| self.refused(error))?;
        if !publisher.backup {
            return match lease {
                Lease::Held(epoch) => self.publish_under(epoch, key, publisher, Hand::Own),
                Lease::Standby | Lease::Undecided => Err(self.refused(busy())),
            };
        }
        let may = if takeover { Takeover::Allow } else { Takeover::Refuse };
        let entered = self.standbys().enter(key, self.next_epoch(), publisher, may);
        let backup =
            Publication::new(entered.map_err(|error| self.refused(error.into()))?, self, Hand::Waiting);
        tracing::info!(stream = %key, ?lease, "a backup publisher is there");
        match lease {
            Lease::Held(epoch) => self.hand_on(key, epoch)?,
            // Its publisher may be at another origin. Whoever knows that tells when the backup is needed.
            Lease::Undecided if holder == Holder::Nobody => {}
            // Its publisher may have gone meanwhile.
            Lease::Standby | Lease::Undecided if self.holder(key) == Holder::Nobody => self.promote_soon(key),
            Lease::Standby | Lease::Undecided => {}
        }
        Ok(backup)
    }

    /// Lets the backup of a stream, if it has one here, go on with it. Does nothing while somebody publishes it.
    pub async fn promote(&self, key: &StreamKey) {
        let standbys = self.standbys();
        if self.is_draining() || !standbys.is_there(key) {
            return;
        }
        let Some(_turn) = standbys.turn(key) else { return };
        let Some(publisher) = standbys.state.lock().publishers.get(key).cloned() else { return };
        if self.holder(key) != Holder::Nobody {
            return;
        }
        match self.lease(key, Purpose::Promote, &publisher).await {
            Ok(Lease::Held(epoch)) => {
                if let Err(error) = self.hand_on(key, epoch) {
                    tracing::warn!(stream = %key, %error, "its backup cannot go on with a stream");
                }
            }
            Ok(Lease::Standby | Lease::Undecided) => {}
            Err(error) => tracing::debug!(stream = %key, %error, "its backup goes on waiting"),
        }
    }

    /// The same, by itself.
    pub(crate) fn promote_soon(&self, key: &StreamKey) {
        if !self.standbys().is_there(key) {
            return;
        }
        let (origin, key) = (self.clone(), key.clone());
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move { origin.promote(&key).await });
        }
    }

    /// Streams that have a backup publisher here, be it that it waits or not.
    pub fn backups(&self) -> Vec<StreamKey> {
        self.standbys().keys()
    }

    /// Whether a backup publishes the stream under that epoch.
    pub fn is_by_backup(&self, key: &StreamKey, epoch: Epoch) -> bool {
        self.standbys().publishes(key, epoch)
    }

    fn holder(&self, key: &StreamKey) -> Holder {
        let Some(stream) = self.registry().stream(key) else { return Holder::Nobody };
        let snapshot = stream.snapshot();
        match snapshot.phase {
            Phase::Live if self.standbys().publishes(key, snapshot.tracks.epoch) => Holder::Backup,
            Phase::Live => Holder::Publisher,
            _ => Holder::Nobody,
        }
    }

    async fn lease(
        &self,
        key: &StreamKey,
        purpose: Purpose,
        publisher: &Publisher,
    ) -> Result<Lease, PublishError> {
        let own = self.next_epoch();
        let lease = match self.leases() {
            Some(leases) => leases.take(key, own, purpose, publisher).await?,
            None if purpose == Purpose::Wait => Lease::Standby,
            None => Lease::Held(own),
        };
        if let Lease::Held(epoch) = lease {
            self.is_past(epoch);
        }
        Ok(lease)
    }

    /// Publishes what the backup sends.
    fn hand_on(&self, key: &StreamKey, epoch: Epoch) -> Result<(), PublishError> {
        let standbys = self.standbys();
        let publisher = standbys.state.lock().publishers.get(key).cloned();
        let (Some(publisher), Some(from)) = (publisher, standbys.registry.subscribe(key)) else {
            return Ok(());
        };
        standbys.state.lock().active.insert(key.clone(), epoch);
        let active = Active { standbys: Arc::clone(standbys), key: key.clone(), epoch };
        let to = self.publish_under(epoch, key, publisher, Hand::PassedOn)?;
        tracing::info!(stream = %key, %epoch, "its backup publishes a stream");
        tokio::spawn(pass_on(from, to, active));
        Ok(())
    }
}

/// A backup that publishes.
struct Active {
    standbys: Arc<Standbys>,
    key: StreamKey,
    epoch: Epoch,
}

impl Drop for Active {
    fn drop(&mut self) {
        let mut state = self.standbys.state.lock();
        if state.active.get(&self.key) == Some(&self.epoch) {
            state.active.remove(&self.key);
        }
    }
}

/// Until the backup has gone, or another publisher has the stream.
async fn pass_on(mut from: Consumer, mut to: Publication, active: Active) {
    let stream = Arc::clone(from.stream());
    let mut version = None;
    loop {
        let changed = stream.changed();
        let done = loop {
            match from.try_next() {
                Some(Event::Unit(unit)) => {
                    let fresh = version.replace(unit.tracks.version) != Some(unit.tracks.version);
                    let told = if fresh { describe(&stream, &unit.tracks.tracks, &mut to) } else { Ok(()) };
                    if let Err(revoked) = told.and_then(|()| to.push(unit.frame)) {
                        break Some(revoked);
                    }
                }
                // It has gone: the stream waits for whoever comes next.
                Some(Event::Ended) => return,
                None => break None,
            }
        };
        let revoked = match done {
            Some(revoked) => Some(revoked),
            None => tokio::select! {
                revoked = to.revoked() => Some(revoked),
                () = changed => None,
            },
        };
        match revoked {
            None => {}
            // It waits again.
            Some(Revoked::TakenOver) => return,
            Some(revoked) => {
                active.standbys.end(&active.key, revoked);
                return;
            }
        }
    }
}

fn describe(
    stream: &hub::Stream,
    tracks: &[media_core::frame::Track],
    to: &mut Publication,
) -> Result<(), Revoked> {
    if let Some(encoder) = stream.snapshot().encoder {
        to.set_encoder(&encoder)?;
    }
    to.set_tracks(tracks.to_vec())
}
