//! The leases of an origin's streams: asked for before somebody publishes, confirmed while somebody does.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use control_api::rpc;
use control_api::rpc::policy::Ask;
use control_api::rpc::publish_request::As;
use control_api::rpc::release_request::Why;
use control_api::rpc::stream_service_client::StreamServiceClient;
use media_core::hub::{Epoch, Phase, StreamKey};
use origin::{Lease, LeaseRefused, Origin, Publisher, Purpose};
use tokio::sync::watch;
use tokio::time::{timeout, timeout_at};
use tonic::Code;

use super::doors::{ANSWER, UNDECIDED};
use super::given::{Given, What};
use super::{CALL_TIMEOUT, Channel, Line};

/// How long a publisher waits for its lease. After that the origin lets it in by itself.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// How often what is published is looked at, and how often all leases are confirmed.
const LOOK: Duration = Duration::from_millis(250);
const CONFIRM: Duration = Duration::from_secs(5);

/// Asks for leases.
#[derive(Debug)]
pub(super) struct Leases {
    line: watch::Receiver<Option<Line>>,
    policy: watch::Receiver<Option<rpc::Policy>>,
    has_others: bool,
    given: Arc<Given>,
    began: Instant,
}

impl Leases {
    /// Of a cluster that may have other origins, or of one process.
    pub(super) fn new(
        line: watch::Receiver<Option<Line>>,
        policy: watch::Receiver<Option<rpc::Policy>>,
        has_others: bool,
    ) -> Self {
        Self { line, policy, has_others, given: Arc::default(), began: Instant::now() }
    }

    /// What was given and is not used yet.
    pub(super) fn given(&self) -> Arc<Given> {
        Arc::clone(&self.given)
    }

    /// Whether hooks want to be asked. A process that has just begun learns that in a moment.
    async fn ask(&self) -> Ask {
        policy(&self.policy, self.began).await.publish()
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
        // Its publisher may be at another origin.
        let is_new_backup = publisher.backup && purpose != Purpose::Promote;
        let alone = if is_new_backup { Lease::Undecided } else { Lease::Held(own) };
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
                let (lease, what) = if standby {
                    (Lease::Standby, What::Standby)
                } else {
                    (Lease::Held(Epoch(epoch)), What::Lease(Epoch(epoch)))
                };
                self.given.note(key, what);
                return Ok(lease);
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
            self.given.note(key, What::Perhaps(own));
            tracing::warn!(stream = %key, why, "hooks that must agree cannot be asked; the publisher is refused");
            return Err(undecided());
        }
        tracing::warn!(stream = %key, why, "no lease from the control plane; published by this origin alone");
        Ok(alone)
    }
}

/// What the control plane wants to be asked. A process that has just begun learns that in a moment, and not later than that.
pub(super) async fn policy(policy: &watch::Receiver<Option<rpc::Policy>>, began: Instant) -> rpc::Policy {
    let mut policy = policy.clone();
    let known = timeout_at((began + PATIENCE).into(), policy.wait_for(Option::is_some)).await;
    known.ok().and_then(|known| *known.ok()?).unwrap_or_default()
}

/// Tells the control plane what becomes of the origin's streams, and `left` how many it believes that there are; never ends.
pub(super) async fn keep(
    origin: Origin,
    given: Arc<Given>,
    mut line: watch::Receiver<Option<Line>>,
    left: watch::Sender<usize>,
) {
    let mut keeper = Keeper { origin, given, told: HashMap::new(), backups: HashSet::new() };
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
        left.send_replace(keeper.told.len());
    }
}

struct Keeper {
    origin: Origin,
    given: Arc<Given>,
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
        let backups: HashSet<StreamKey> = self.origin.backups().into_iter().collect();
        // Before anything is awaited: what is given meanwhile is not among what there is now.
        let unused = self.given.unused(|key, what| match what {
            What::Standby => backups.contains(key),
            What::Lease(epoch) | What::Perhaps(epoch) => now.get(key).is_some_and(|(held, _)| *held >= epoch),
        });
        let mut client = StreamServiceClient::new(line.channel());
        let left: Vec<StreamKey> = self.backups.difference(&backups).cloned().collect();
        for key in left {
            release(&mut client, line, &key, Epoch::default(), Why::StandbyLeft).await?;
            self.backups.remove(&key);
        }
        for gift in unused {
            // Of a stream whose publisher has dropped, it was for one who came back: the wait for the next goes on.
            let over = if now.contains_key(&gift.key) { Why::Dropped } else { Why::Ended };
            let (epoch, why) = match gift.what {
                What::Lease(epoch) => (epoch, over),
                What::Perhaps(proposed) => (proposed, Why::Unanswered),
                What::Standby => (Epoch::default(), Why::StandbyLeft),
            };
            release(&mut client, line, &gift.key, epoch, why).await?;
            self.given.is_back(&gift);
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
            backup: self.origin.is_by_backup(key, *epoch),
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
