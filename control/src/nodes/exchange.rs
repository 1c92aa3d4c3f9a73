//! What replicas tell each other of the nodes that they hear, by the cache: without it each knows the load of its own alone.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use control_api::rpc;
use parking_lot::Mutex;
use prost::Message;

use super::{Nodes, Reports};
use crate::cache::{Cache, CacheError};

/// The group of all nodes in the cache.
const GROUP: &str = "nodes";

/// How often it is told and read.
const EVERY: Duration = Duration::from_secs(1);

/// When the group is gone, if nobody tells anything.
const TTL: Duration = Duration::from_secs(30);

impl Nodes {
    /// Tells of those that are heard here and learns of the others; never ends.
    pub(crate) async fn share(self, cache: Arc<dyn Cache>) {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut lost = false;
        loop {
            ticks.tick().await;
            let shared = self.share_once(&*cache).await;
            // The same again and again is said once.
            if let Err(error) = &shared
                && !lost
            {
                tracing::warn!(%error, "the load of nodes is known only where they are heard");
            }
            lost = shared.is_err();
            self.0.cache_is_up.store(!lost, Ordering::Relaxed);
        }
    }

    async fn share_once(&self, cache: &dyn Cache) -> Result<(), CacheError> {
        let own: Vec<(String, Bytes)> = self
            .reports()
            .into_iter()
            .map(|(name, reports)| (name.clone(), self.said(&name, &reports)))
            .collect();
        if !own.is_empty() {
            cache.set_members(GROUP, own, TTL).await?;
        }
        let mut gone = Vec::new();
        for (name, said) in cache.members(GROUP).await? {
            if !self.learn(&name, said) {
                gone.push(name);
            }
        }
        if !gone.is_empty() {
            cache.remove_members(GROUP, &gone).await?;
        }
        Ok(())
    }

    fn said(&self, name: &str, reports: &Mutex<Reports>) -> Bytes {
        let load = self.0.known.read().get(name).map(|known| known.load);
        let reports = reports.lock().values().cloned().collect();
        let remotes = self.0.remote_reports.lock().get(name).cloned();
        let remotes = remotes.map(|reports| rpc::RemoteReports { reports });
        Bytes::from(rpc::Heartbeat { load, reports, remotes, ..rpc::Heartbeat::default() }.encode_to_vec())
    }

    /// `false`: no such node is there.
    fn learn(&self, name: &str, said: Bytes) -> bool {
        if self.0.heard.lock().contains_key(name) {
            return true;
        }
        let Ok(said) = rpc::Heartbeat::decode(said) else { return false };
        if self.get(name).is_none() {
            self.0.told.lock().remove(name);
            return false;
        }
        if let Some(load) = said.load {
            self.carries(name, load);
        }
        if let Some(remotes) = said.remotes {
            self.reports_remotes(name, remotes.reports);
        }
        let by_path =
            said.reports.into_iter().map(|report| (format!("{}/{}", report.app, report.name), report));
        self.0.told.lock().insert(name.to_owned(), Arc::new(Mutex::new(by_path.collect())));
        true
    }
}
