//! What an origin calls others for: what it is told, and what it says of that.

use control_api::{RemoteInfo, Secret, rpc};
use origin::pull::{PullConfig, Pulls, Transport};
use origin::push::{PushConfig, Pushes};

/// The pulls and pushes of an origin.
#[derive(Clone)]
pub(crate) struct Remotes {
    pub(crate) pulls: Pulls,
    pub(crate) pushes: Pushes,
}

impl Remotes {
    /// Does what is ordered from now on, beside what is configured.
    pub(super) fn order(&self, orders: rpc::Remotes) {
        let rpc::Remotes { pulls, pushes } = orders;
        let pulls: Vec<PullConfig> = pulls.into_iter().map(pull).collect();
        let pushes: Vec<PushConfig> = pushes.into_iter().map(push).collect();
        self.pulls.order(&pulls);
        self.pushes.order(&pushes);
    }

    /// How all of them do.
    pub(super) fn reports(&self) -> rpc::RemoteReports {
        let pulls = self.pulls.list().into_iter().map(|info| report(false, info));
        let pushes = self.pushes.list().into_iter().map(|info| report(true, info));
        rpc::RemoteReports { reports: pulls.chain(pushes).collect() }
    }
}

fn pull(pull: rpc::Pull) -> PullConfig {
    PullConfig {
        stream: format!("{}/{}", pull.app, pull.name),
        url: Secret::new(pull.url),
        transport: if pull.udp { Transport::Udp } else { Transport::Tcp },
        on_demand: pull.on_demand,
    }
}

fn push(push: rpc::Push) -> PushConfig {
    PushConfig { stream: format!("{}/{}", push.app, push.name), url: Secret::new(push.url) }
}

fn report(push: bool, info: RemoteInfo) -> rpc::RemoteReport {
    rpc::RemoteReport {
        push,
        app: info.app,
        name: info.name,
        url: info.url,
        on_demand: info.on_demand,
        configured: info.configured,
        state: info.standing.state.name().to_owned(),
        since_ms: info.standing.since_ms,
        why: info.standing.why.unwrap_or_default(),
        retry_at_ms: info.standing.retry_at_ms.unwrap_or_default(),
        note: info.standing.note.unwrap_or_default(),
    }
}
