//! Who may watch: decided before anything is asked upstream.

mod grant;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use control_api::grant::{Asked, Audience, Claims, Grants, Play, Refused};
use media_core::hub::StreamKey;

pub(crate) use grant::{Shown, split};

use crate::metrics::Metrics;

/// Who may play, and whose grants hold.
#[derive(Debug, Clone)]
pub struct Access {
    /// Anybody, or whoever has a grant.
    pub play: Play,
    /// The keys in force. Whoever else has them can replace them.
    pub grants: Arc<Grants>,
}

/// Decides about viewers.
pub(crate) struct Guard {
    play: ArcSwap<Play>,
    grants: Arc<Grants>,
    metrics: Arc<Metrics>,
}

impl Guard {
    pub(crate) fn new(access: Access, metrics: Arc<Metrics>) -> Self {
        Self { play: ArcSwap::from_pointee(access.play), grants: access.grants, metrics }
    }

    /// Takes over what can change at run time.
    pub(crate) fn reload(&self, play: Play) {
        self.play.store(play.into());
    }

    /// Whether grants are looked at.
    pub(crate) fn asks_for_grants(&self) -> bool {
        **self.play.load() == Play::Required
    }

    /// Whether `peer` may watch the stream with the grant that it shows: what that says, if one is needed.
    pub(crate) fn may_play(
        &self,
        key: &StreamKey,
        grant: Option<&str>,
        peer: IpAddr,
    ) -> Result<Option<Arc<Claims>>, Refused> {
        if !self.asks_for_grants() {
            return Ok(None);
        }
        let asked = Asked { audience: Audience::Play, stream: key.as_str(), peer };
        let verified = self.grants.verify(grant, asked, SystemTime::now());
        verified.map(Some).inspect_err(|refused| self.metrics.refused(refused.reason()))
    }
}
