//! Whether members' streams are live, as the cluster's streams have it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;

use super::record::{Conference, parts};
use super::{ATTEMPTS, Conferences};
use crate::registry::{Expect, RegistryError};

/// How often all of them are compared, for what was missed.
const LOOK: Duration = Duration::from_secs(2);

impl Conferences {
    /// Follows streams; never ends.
    pub(crate) async fn follow_streams(self) {
        let mut changed = self.0.streams.changed();
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                path = changed.recv() => match path {
                    Ok(path) => self.compare_stream(&path).await,
                    Err(RecvError::Lagged(_)) => self.compare_all().await,
                    Err(RecvError::Closed) => return,
                },
                _ = looks.tick() => {
                    self.forget_unfollowed();
                    self.compare_all().await;
                }
            }
        }
    }

    async fn compare_stream(&self, stream: &str) {
        let Some((path, member)) = parts(stream) else { return };
        let Some(conference) = self.known(path) else { return };
        self.compare(&conference, member).await;
    }

    async fn compare_all(&self) {
        let all: Vec<Arc<Conference>> =
            self.0.known.read().values().map(|kept| Arc::clone(&kept.conference)).collect();
        for conference in all {
            for member in &conference.members {
                self.compare(&conference, &member.id).await;
            }
        }
        // Who is no member, and publishes still: it began before there was a conference, or could not be told.
        for record in self.0.streams.all() {
            self.compare_stream(&format!("{}/{}", record.app, record.name)).await;
        }
    }

    /// One of that name, be it that it has ended.
    fn known(&self, path: &str) -> Option<Arc<Conference>> {
        self.0.known.read().get(path).map(|kept| Arc::clone(&kept.conference))
    }

    async fn compare(&self, conference: &Conference, member: &str) {
        let stream = conference.stream(member);
        let live = self.0.streams.get(&stream).is_some_and(|record| record.is_live());
        if live && !conference.may_publish(member) {
            // It was let in a moment before it was not to be any more.
            if let Ok(true) = self.is_outsider(&conference.path(), member).await
                && let Err(error) = self.0.streams.kick(&stream).await
            {
                tracing::warn!(stream, %error, "who may not publish cannot be told so yet");
            }
        }
        let known = conference.member(member).is_some_and(|member| member.live);
        if known == live {
            return;
        }
        // What fails is compared again in a moment.
        if let Err(error) = self.settle(&conference.path(), member).await {
            tracing::debug!(stream, %error, "that a member's stream began or ended cannot be written yet");
        }
    }

    /// Whether somebody may not publish, as the registry has it.
    async fn is_outsider(&self, path: &str, member: &str) -> Result<bool, RegistryError> {
        Ok(self.read(path).await?.is_some_and(|(conference, _)| !conference.may_publish(member)))
    }

    /// Writes whether a stream is live. It is read after the conference is, so that what is known there is never older than
    /// what is written: of several replicas that see the change one writes it, and one that is late writes nothing.
    async fn settle(&self, path: &str, member: &str) -> Result<(), RegistryError> {
        let _turn = self.turn(path).lock().await;
        for _ in 0..ATTEMPTS {
            let Some((mut conference, revision)) = self.read(path).await? else { return Ok(()) };
            let before = conference.sequence;
            let live = self.0.streams.is_live(&conference.stream(member)).await?;
            conference.set_live(member, live, (self.0.clock)());
            if conference.sequence == before || self.write(conference, Expect::At(revision)).await?.is_some()
            {
                return Ok(());
            }
        }
        Ok(())
    }
}
