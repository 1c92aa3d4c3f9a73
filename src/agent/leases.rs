//! The leases of an origin's streams: asked for before somebody publishes, confirmed while somebody does.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use async_trait::async_trait;
use control_api::rpc;
use control_api::rpc::policy::Ask;
use control_api::rpc::publish_request::As;
use control_api::rpc::release_request::Why;
use control_api::rpc::stream_service_client::StreamServiceClient;
use media_core::hub::{Epoch, Phase, StreamKey};
use origin::{Lease, LeaseRefused, Origin, Publisher, Purpose};
use tokio::sync::watch;
use tokio::time::timeout;
use tonic::Code;

use super::doors::{ANSWER, UNDECIDED};
use super::{CALL_TIMEOUT, Channel, Line};

/// How long a publisher waits for its lease. After that the origin lets it in by itself.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often what is published is looked at, and how often all leases are confirmed.
const LOOK: Duration = Duration::from_millis(250);
const CONFIRM: Duration = Duration::from_secs(5);

/// Asks for leases.
#[derive(Debug)]
pub(super) struct Leases {
    line: watch::Receiver<Option<Line>>,
    policy: watch::Receiver<Option<rpc::Policy>>,
    has_others: bool,
}

impl Leases {
    /// Of a cluster that may have other origins, or of one process.
    pub(super) fn new(
        line: watch::Receiver<Option<Line>>,
        policy: watch::Receiver<Option<rpc::Policy>>,
        has_others: bool,
    ) -> Self {
        Self { line, policy, has_others }
    }

    /// Whether hooks want to be asked. A process that has just begun learns that in a moment.
    async fn ask(&self) -> Ask {
        let mut policy = self.policy.clone();
        let known = timeout(PATIENCE, policy.wait_for(Option::is_some)).await;
        known.ok().and_then(|known| known.ok()?.map(|policy| policy.publish())).unwrap_or_default()
    }
}

#[async_trait]
impl origin::Leases for Leases {
    fn has_others(&self) -> bool {
        self.has_others
    }

    async fn take(
        &self,
        key: &StreamKey,
        own: Epoch,
        purpose: Purpose,
        publisher: &Publisher,
    ) -> Result<Lease, LeaseRefused> {
        let alone = if purpose == Purpose::Wait { Lease::Standby } else { Lease::Held(own) };
        let ask = self.ask().await;
        // What was decided before is not asked again.
        let must_agree = ask == Ask::OrRefuse && purpose != Purpose::Promote;
        let undecided = || LeaseRefused(UNDECIDED.to_owned());
        let line = self.line.borrow().clone();
        let Some(line) = line else { return if must_agree { Err(undecided()) } else { Ok(alone) } };
        let patience = if ask == Ask::Not { PATIENCE } else { ANSWER };
        let mut client = StreamServiceClient::new(line.channel());
        let mut request = line.request(rpc::PublishRequest {
            key: Some(name(key)),
            epoch: own.0,
            takeover: purpose == Purpose::Publish { takeover: true },
            protocol: publisher.protocol.to_owned(),
            remote_addr: publisher.remote_addr.clone(),
            r#as: match purpose {
                Purpose::Publish { .. } if publisher.backup => As::Backup,
                Purpose::Publish { .. } => As::Publisher,
                Purpose::Wait => As::Standby,
                Purpose::Promote => As::Promoted,
            }
            .into(),
            query: publisher.query.clone(),
        });
        // The lease is a part of what a publisher waits for.
        if let Some(trace) = publisher.trace.as_ref().and_then(|trace| trace.to_string().parse().ok()) {
            request.metadata_mut().insert("traceparent", trace);
        }
        let why = match timeout(patience, client.publish(request)).await {
            Ok(Ok(lease)) => {
                let rpc::Lease { epoch, standby } = lease.into_inner();
                return Ok(if standby { Lease::Standby } else { Lease::Held(Epoch(epoch)) });
            }
            Ok(Err(status))
                if matches!(
                    status.code(),
                    Code::AlreadyExists | Code::InvalidArgument | Code::PermissionDenied
                ) =>
            {
                return Err(LeaseRefused(status.message().to_owned()));
            }
            Ok(Err(status)) => status.message().to_owned(),
            Err(_) => "it does not answer".to_owned(),
        };
        if must_agree {
            tracing::warn!(stream = %key, why, "hooks that must agree cannot be asked; the publisher is refused");
            return Err(undecided());
        }
        tracing::warn!(stream = %key, why, "no lease from the control plane; published by this origin alone");
        Ok(alone)
    }
}

/// Tells the control plane what becomes of the origin's streams; never ends.
pub(super) async fn keep(origin: Origin, mut line: watch::Receiver<Option<Line>>) {
    let mut keeper = Keeper { origin, told: HashMap::new(), backups: HashSet::new() };
    let mut publishers = keeper.origin.publishers_changed();
    let mut confirm = tokio::time::interval(CONFIRM);
    let mut look = tokio::time::interval(LOOK);
    loop {
        let all = tokio::select! {
            _ = confirm.tick() => true,
            Ok(()) = line.changed() => true,
            Ok(()) = publishers.changed() => false,
            _ = look.tick() => false,
        };
        let now = line.borrow().clone();
        // What changes meanwhile is told when there is a line again.
        let Some(line) = now else { continue };
        if let Err(status) = keeper.tell(&line, all).await {
            tracing::debug!(%status, "the control plane is not told of streams");
        }
    }
}

struct Keeper {
    origin: Origin,
    /// What the control plane was told last: the epoch, and whether its publisher had dropped.
    told: HashMap<StreamKey, (Epoch, bool)>,
    /// Streams of whose backup publishers it was told.
    backups: HashSet<StreamKey>,
}

impl Keeper {
    async fn tell(&mut self, line: &Line, all: bool) -> Result<(), tonic::Status> {
        let now: HashMap<StreamKey, (Epoch, bool)> = self
            .origin
            .registry()
            .streams()
            .iter()
            .map(|stream| {
                let snapshot = stream.snapshot();
                (stream.key().clone(), (snapshot.tracks.epoch, snapshot.phase == Phase::Interrupted))
            })
            .collect();
        let mut client = StreamServiceClient::new(line.channel());
        let backups: HashSet<StreamKey> = self.origin.backups().into_iter().collect();
        let left: Vec<StreamKey> = self.backups.difference(&backups).cloned().collect();
        for key in left {
            release(&mut client, line, &key, Epoch::default(), Why::StandbyLeft).await?;
            self.backups.remove(&key);
        }
        let over: Vec<_> = self.told.iter().filter(|(key, _)| !now.contains_key(*key)).collect();
        let over: Vec<(StreamKey, Epoch)> =
            over.into_iter().map(|(key, told)| (key.clone(), told.0)).collect();
        for (key, epoch) in over {
            release(&mut client, line, &key, epoch, Why::Ended).await?;
            self.told.remove(&key);
        }
        let mut held = Vec::new();
        for (key, (epoch, interrupted)) in now {
            let before = self.told.get(&key);
            if interrupted && before.is_some_and(|before| *before != (epoch, true)) {
                release(&mut client, line, &key, epoch, Why::Dropped).await?;
                self.told.insert(key, (epoch, true));
            } else if all || before != Some(&(epoch, interrupted)) {
                held.push((key, epoch, interrupted));
            }
        }
        let waiting: Vec<StreamKey> =
            backups.iter().filter(|key| all || !self.backups.contains(key)).cloned().collect();
        if held.is_empty() && waiting.is_empty() {
            return Ok(());
        }
        let streams = held.iter().map(|(key, epoch, interrupted)| rpc::Held {
            key: Some(name(key)),
            epoch: epoch.0,
            interrupted: *interrupted,
            standby: false,
        });
        let waits = waiting.iter().map(|key| rpc::Held {
            key: Some(name(key)),
            standby: true,
            ..rpc::Held::default()
        });
        // Streams before their backups, which are noted with them.
        let request = rpc::RenewRequest { held: streams.chain(waits).collect() };
        let answer = bounded(client.renew(line.request(request))).await?;
        self.told.extend(held.into_iter().map(|(key, epoch, interrupted)| (key, (epoch, interrupted))));
        self.backups.extend(waiting);
        for lost in answer.lost {
            let Some(key) = lost.key else { continue };
            let Ok(key) = StreamKey::parse(&key.app, &key.name, control_api::RESERVED_APPS) else { continue };
            tracing::warn!(stream = %key, epoch = lost.epoch, "another origin has the stream");
            self.origin.revoke(&key, Epoch(lost.epoch));
            self.told.remove(&key);
        }
        Ok(())
    }
}

async fn release(
    client: &mut StreamServiceClient<Channel>,
    line: &Line,
    key: &StreamKey,
    epoch: Epoch,
    why: Why,
) -> Result<(), tonic::Status> {
    let request = rpc::ReleaseRequest { key: Some(name(key)), epoch: epoch.0, why: why.into() };
    bounded(client.release(line.request(request))).await.map(|_| ())
}

async fn bounded<T>(
    call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
) -> Result<T, tonic::Status> {
    match timeout(CALL_TIMEOUT, call).await {
        Ok(answer) => Ok(answer?.into_inner()),
        Err(_) => Err(tonic::Status::deadline_exceeded("the control plane does not answer")),
    }
}

pub(super) fn name(key: &StreamKey) -> rpc::StreamKey {
    rpc::StreamKey { app: key.app().to_owned(), name: key.name().to_owned() }
}
