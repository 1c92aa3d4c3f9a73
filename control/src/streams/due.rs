//! What time brings: graces that end, records that are no longer needed, and streams whose origin is gone.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::time::Instant;

use super::{PREFIX, Record, State, Streams};
use crate::registry::Expect;

/// How often it is looked for what is due.
const LOOK: Duration = Duration::from_millis(200);

/// How long the record of a stream that has ended is kept, so that the next epoch is higher whatever clocks say.
const KEPT_MS: u64 = 10 * 60 * 1_000;

/// An origin that was not heard for so long has lost its streams: it may be dead, and who watches waits.
const SILENCE: Duration = Duration::from_millis(800);

/// The same where a backup publisher is somewhere else: longer than a node takes from one replica to another.
const BLINK: Duration = Duration::from_millis(400);

/// The same of one that no replica knows: they may all have been away, and it with them.
const MISSING: Duration = Duration::from_secs(5);

/// Streams that are dropped at the same time.
const AT_ONCE_DROPPED: usize = 64;

/// Streams that are dealt with in one look.
const AT_ONCE: usize = 1_000;

/// When something is due with a stream, since 1970.
pub(super) fn at(state: State, grace: Duration) -> Option<u64> {
    match state {
        State::Live => None,
        State::Dropped(since_ms) => {
            Some(since_ms.saturating_add(u64::try_from(grace.as_millis()).unwrap_or(u64::MAX)))
        }
        State::Ended(at_ms) => Some(at_ms.saturating_add(KEPT_MS)),
    }
}

impl Streams {
    /// Ends graces and forgets what has ended, until the replica ends.
    pub(crate) async fn look_for_due(self) {
        let mut ticks = tokio::time::interval(LOOK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut missing = HashMap::new();
        loop {
            ticks.tick().await;
            if self.0.closing.load(Ordering::Relaxed) {
                return;
            }
            self.drop_orphans(&mut missing).await;
            let now_ms = (self.0.clock)();
            let due: Vec<(Arc<str>, State)> = {
                let known = self.0.known.read();
                let past = known.due.iter().take_while(|(at, _)| *at <= now_ms).take(AT_ONCE);
                past.filter_map(|(_, path)| Some((Arc::clone(path), known.by_path.get(path)?.record.state)))
                    .collect()
            };
            for (path, state) in due {
                self.is_due(&path, state, now_ms).await;
            }
        }
    }

    async fn is_due(&self, path: &str, state: State, now_ms: u64) {
        let same = |record: &Record| record.state == state;
        let done = match state {
            State::Live => return,
            State::Dropped(_) => self.become_if(path, State::Ended(now_ms), same).await.map(|_| ()),
            State::Ended(_) => self.forget_for_good(path, state).await.map_err(Into::into),
        };
        if let Err(error) = done {
            tracing::debug!(stream = path, %error, "what is due with a stream waits");
        }
    }

    async fn forget_for_good(&self, path: &str, state: State) -> Result<(), crate::registry::RegistryError> {
        let key = format!("{PREFIX}{path}");
        match self.read(&key).await? {
            Some((record, revision)) if record.state == state => {
                self.0.registry.delete(&key, Expect::At(revision)).await?;
            }
            // Somebody publishes it, or the watch is about to say that it is gone.
            _ => {}
        }
        Ok(())
    }

    /// Streams whose origin is gone, or was not heard for a moment, are dropped: whoever publishes them next, anywhere,
    /// goes on with them. `missing` is since when nobody knows of an origin.
    async fn drop_orphans(&self, missing: &mut HashMap<String, Instant>) {
        let nodes: Vec<String> = self.0.known.read().by_node.keys().cloned().collect();
        missing.retain(|name, _| nodes.contains(name));
        let mut orphans = Vec::new();
        for name in nodes {
            let known = self.0.nodes.get(&name);
            if known.is_some() {
                missing.remove(&name);
            }
            // A replica that has just begun hears of its nodes soon.
            let since = known.is_none().then(|| *missing.entry(name.clone()).or_insert_with(Instant::now));
            let is_lost = since.is_some_and(|since| since.elapsed() >= MISSING);
            orphans.extend(self.at_node(&name, |record| {
                let silence = self.0.nodes.silent_for(&name, record.instance);
                is_lost
                    || match silence {
                        // Almost all of them, always.
                        Some(Duration::ZERO) => false,
                        // Should it be alive, what it sends is of an older epoch from then on, and nobody misses it.
                        Some(silence) => {
                            silence >= if self.has_backup_elsewhere(record) { BLINK } else { SILENCE }
                        }
                        // Another process has its name.
                        None => known.is_some(),
                    }
            }));
        }
        // Those that can go on at once, first. Nodes come and go meanwhile, so it is looked at once.
        orphans.sort_by_cached_key(|record| !self.has_backup_elsewhere(record));
        let dropping = orphans.iter().map(|record| self.drop_orphan(record));
        futures_util::stream::iter(dropping).for_each_concurrent(AT_ONCE_DROPPED, |dropped| dropped).await;
    }

    async fn drop_orphan(&self, record: &Record) {
        let now_ms = (self.0.clock)();
        let same = |now: &Record| now.is_live() && now.epoch == record.epoch;
        if let Err(error) = self.become_if(&record.path(), State::Dropped(now_ms), same).await {
            tracing::debug!(stream = %record.path(), %error, "a stream whose origin is gone stays as it was");
        }
    }

    fn at_node(&self, name: &str, is_meant: impl Fn(&Record) -> bool) -> Vec<Record> {
        let known = self.0.known.read();
        let paths = known.by_node.get(name).into_iter().flatten();
        let records = paths.filter_map(|path| known.by_path.get(path)).map(|known| &known.record);
        records.filter(|record| is_meant(record)).cloned().collect()
    }
}
