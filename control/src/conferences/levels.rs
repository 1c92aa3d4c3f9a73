//! How loud members are: told by origins some times a second, shared among replicas by the cache, and lost without harm.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use control_api::rpc;
use prost::Message;
use tokio::time::Instant;

use super::Conferences;
use super::record::Role;
use crate::cache::{Cache, CacheError, MAX_VALUE_BYTES};

/// The group of all that is told, by node.
const GROUP: &str = "levels";

/// When the group is gone, if nobody tells anything.
const TTL: Duration = Duration::from_secs(10);

/// How often it is told and read, and looked who speaks.
const EVERY: Duration = Duration::from_millis(250);

/// What a node told before that is silence.
const FRESH: Duration = Duration::from_millis(1_500);

/// Nodes of which something is kept: more than a cluster has origins.
const MAX_NODES: usize = 4_096;

/// What nodes told.
#[derive(Default)]
pub(super) struct Levels(HashMap<String, Told>);

/// What a node told last.
struct Told {
    levels: HashMap<String, u8>,
    /// As it was told, so that the same again is known for old.
    bytes: Bytes,
    heard: Instant,
    /// It was told here, and others do not have it yet.
    is_news: bool,
}

impl Levels {
    fn take(&mut self, node: &str, bytes: Bytes, is_news: bool) {
        let heard = Instant::now();
        if self.0.get(node).is_some_and(|told| told.bytes == bytes) {
            return;
        }
        if self.0.len() >= MAX_NODES && !self.0.contains_key(node) {
            return;
        }
        let Ok(told) = rpc::LevelReport::decode(bytes.clone()) else { return };
        let levels =
            told.levels.into_iter().map(|level| (level.stream, u8::try_from(level.level).unwrap_or(u8::MAX)));
        self.0.insert(node.to_owned(), Told { levels: levels.collect(), bytes, heard, is_news });
    }

    fn news(&mut self) -> Vec<(String, Bytes)> {
        let news = |(node, told): (&String, &mut Told)| {
            std::mem::take(&mut told.is_news).then(|| (node.clone(), told.bytes.clone()))
        };
        self.0.iter_mut().filter_map(news).collect()
    }

    /// The loudest that anybody told of a stream.
    fn of(&self, stream: &str) -> Option<u8> {
        let fresh = self.0.values().filter(|told| told.heard.elapsed() <= FRESH);
        fresh.filter_map(|told| told.levels.get(stream).copied()).min()
    }

    fn forget_old(&mut self) {
        self.0.retain(|_, told| told.heard.elapsed() <= TTL);
    }
}

impl Conferences {
    /// Takes what a node tells.
    pub(crate) fn hears(&self, node: &str, mut report: rpc::LevelReport) {
        // So that no two are the same.
        report.at_ms = (self.0.clock)();
        while report.encoded_len() > MAX_VALUE_BYTES {
            let half = report.levels.len() / 2;
            report.levels.truncate(half);
        }
        self.0.levels.lock().take(node, report.encode_to_vec().into(), true);
    }

    /// Shares levels, and looks who speaks; never ends.
    pub(crate) async fn listen(self, cache: std::sync::Arc<dyn Cache>) {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut lost = false;
        loop {
            ticks.tick().await;
            let shared = self.share_levels(&*cache).await;
            // The same again and again is said once.
            if let Err(error) = &shared
                && !lost
            {
                tracing::warn!(%error, "who speaks is known only where origins tell it");
            }
            lost = shared.is_err();
            self.look_who_speaks();
        }
    }

    async fn share_levels(&self, cache: &dyn Cache) -> Result<(), CacheError> {
        let news = {
            let mut levels = self.0.levels.lock();
            levels.forget_old();
            levels.news()
        };
        // What others tell is read though this cannot be told.
        let told = if news.is_empty() { Ok(()) } else { cache.set_members(GROUP, news, TTL).await };
        if !self.0.hubs.lock().values().any(super::following::Hub::is_followed) {
            return told;
        }
        for (node, bytes) in cache.members(GROUP).await? {
            // Of those that died something may be left for a while.
            if self.0.nodes.get(&node).is_some() {
                self.0.levels.lock().take(&node, bytes, false);
            }
        }
        told
    }

    fn look_who_speaks(&self) {
        let (now, now_ms) = (Instant::now(), (self.0.clock)());
        let known = self.0.known.read();
        let mut hubs = self.0.hubs.lock();
        let levels = self.0.levels.lock();
        for (path, hub) in hubs.iter_mut().filter(|(_, hub)| hub.is_followed()) {
            let Some(kept) = known.get(path) else { continue };
            let conference = &kept.conference;
            let heard = conference
                .members
                .iter()
                .filter(|member| member.role == Role::Speaker && member.live && !member.muted);
            let heard =
                heard.filter_map(|member| Some((&*member.id, levels.of(&conference.stream(&member.id))?)));
            if hub.speaker.update(now, &heard.collect()) {
                hub.say_speaker(now_ms);
            }
        }
    }
}
