//! Joining a replica, and the calls to it until it is lost.

use std::sync::Arc;
use std::time::{Duration, Instant};

use control_api::rpc;
use control_api::rpc::command::Command;
use control_api::rpc::node_service_client::NodeServiceClient;
use media_core::hub::{Epoch, StreamKey};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use super::reports::Reporter;
use super::{
    Agent, CALL_TIMEOUT, CONNECT_TIMEOUT, Channel, Line, MAX_BACKOFF, MIN_BACKOFF, Replicas, Told, channel,
    conferences, doors,
};
use crate::lifecycle::Phase;

/// Heartbeats that wait to be sent: a replica that takes none for so long is lost.
const MAX_WAITING: usize = 4;

impl Agent {
    /// Stays in the cluster, by whichever replica; never ends.
    pub(super) async fn run(self: Arc<Self>) {
        let mut backoff = MIN_BACKOFF;
        // Nodes that begin together do not all begin at one replica.
        let mut at = usize::try_from(self.node.instance % 1_024).unwrap_or_default();
        let mut said = None;
        loop {
            let began = Instant::now();
            let lost = self.session(at).await;
            self.line.send_replace(None);
            if began.elapsed() > MAX_BACKOFF {
                (backoff, said) = (MIN_BACKOFF, None);
            }
            let why = format!("{} ({})", lost.message(), lost.code());
            // The same again and again is said once.
            if said.as_ref() != Some(&why) {
                tracing::warn!(control = %self.replica(at), why, "not in the cluster; going on with what is known");
                said = Some(why);
            }
            if lost.code() != Code::Aborted {
                at += 1;
            }
            tokio::time::sleep(jittered(backoff)).await;
            backoff = (backoff * 2).min(MAX_BACKOFF);
        }
    }

    /// Joins and stays, until that replica is lost. Why it is.
    async fn session(&self, at: usize) -> Status {
        match self.try_session(at).await {
            Ok(never) => match never {},
            Err(status) => status,
        }
    }

    /// What it is called in the log.
    fn replica(&self, at: usize) -> String {
        match &self.replicas {
            Replicas::Far(endpoints) => {
                endpoints.get(at % endpoints.len().max(1)).map(|endpoint| endpoint.uri().to_string())
            }
            Replicas::Near(_) => None,
        }
        .unwrap_or_else(|| "in this process".to_owned())
    }

    async fn connect(&self, at: usize) -> Result<Channel, Status> {
        let endpoint = match &self.replicas {
            Replicas::Near(services) => return Ok(channel(services.clone())),
            Replicas::Far(endpoints) => endpoints.get(at % endpoints.len().max(1)),
        };
        let endpoint = endpoint.ok_or_else(|| Status::unavailable("there is none"))?;
        match tokio::time::timeout(CONNECT_TIMEOUT, endpoint.connect()).await {
            Ok(Ok(connected)) => Ok(channel(connected)),
            Ok(Err(error)) => Err(Status::unavailable(because(&error))),
            Err(_) => Err(Status::unavailable("it takes no connection")),
        }
    }

    async fn try_session(&self, at: usize) -> Result<std::convert::Infallible, Status> {
        let channel = self.connect(at).await?;
        let mut client = NodeServiceClient::new(channel.clone());
        let mut request = tonic::Request::new(rpc::RegisterRequest { node: Some(self.node.clone()) });
        request.set_timeout(CALL_TIMEOUT);
        if let Some(token) = &self.join_token {
            let bearer = format!("Bearer {token}").parse();
            request.metadata_mut().insert(
                "authorization",
                bearer.map_err(|_| {
                    Status::invalid_argument("`cluster.join_token` has characters that a header has not")
                })?,
            );
        }
        let joined = client.register(request).await?.into_inner();
        let token = format!("Bearer {}", joined.token).parse();
        let line = Line { channel, token: token.map_err(|_| Status::internal("the pass is no text"))? };

        // If it still is to be drained it is told so again.
        self.drained.send_if_modified(std::mem::take);
        let (beats, sending) = mpsc::channel(MAX_WAITING);
        let mut reporter = Reporter::new(self.roles.clone());
        // The call is answered once the first heartbeat is there.
        beats
            .try_send(self.heartbeat(&mut reporter))
            .map_err(|_| Status::internal("no room for a heartbeat"))?;
        let call = client.beat(line.request(ReceiverStream::new(sending)));
        let mut commands = match tokio::time::timeout(CALL_TIMEOUT, call).await {
            Ok(answer) => answer?.into_inner(),
            Err(_) => return Err(Status::unavailable("it does not answer")),
        };
        tracing::info!(node = %self.node.name, replica = %joined.replica, "in the cluster");
        self.line.send_replace(Some(line));
        let every = Duration::from_millis(joined.heartbeat_ms.clamp(100, 60_000).into());
        let mut ticks = tokio::time::interval(every);
        let mut drained = self.drained.subscribe();
        let mut ends = self.life.phase() >= Phase::Unready;
        loop {
            tokio::select! {
                command = commands.message() => match command? {
                    Some(rpc::Command { command: Some(Command::ListSessions(asked)) }) => {
                        // Who asked does not wait long; a node that is asked too often goes on as before, and has room for
                        // what it says by itself.
                        if beats.capacity() > 1 && let Ok(place) = beats.try_reserve() {
                            let sessions = self.roles.edge.as_ref().map(|edge| doors::listed(edge, &asked));
                            place.send(rpc::Heartbeat { sessions, ..self.heartbeat(&mut reporter) });
                        }
                    }
                    Some(rpc::Command { command: Some(command) }) => self.obey(command),
                    Some(_) => {}
                    None => return Err(Status::unavailable("it hung up")),
                },
                _ = ticks.tick() => {
                    self.beat(&beats, &mut reporter)?;
                    self.forget_origins();
                }
                Ok(()) = drained.changed() => self.beat(&beats, &mut reporter)?,
                // Nobody new is to be sent here from now on. What is there is told of, and commanded, to the end.
                () = self.life.reaches(Phase::Unready), if !ends => {
                    ends = true;
                    self.beat(&beats, &mut reporter)?;
                }
            }
        }
    }

    fn beat(&self, beats: &mpsc::Sender<rpc::Heartbeat>, reporter: &mut Reporter) -> Result<(), Status> {
        // What a heartbeat says is not said again: there must be room for it first.
        let place = beats.try_reserve().map_err(|_| Status::unavailable("it takes no heartbeats"))?;
        place.send(self.heartbeat(reporter));
        Ok(())
    }

    fn heartbeat(&self, reporter: &mut Reporter) -> rpc::Heartbeat {
        let draining = *self.drained.borrow() || self.life.phase() >= Phase::Unready;
        rpc::Heartbeat {
            load: Some(reporter.load()),
            reports: reporter.changes(),
            draining,
            sessions: None,
            remotes: reporter.remotes(),
        }
    }

    fn obey(&self, command: Command) {
        match command {
            Command::Drain(rpc::Drain { undo }) => {
                let is_news =
                    self.drained.send_if_modified(|drained| std::mem::replace(drained, !undo) == undo);
                if is_news {
                    tracing::info!(undo, "an operator wants this node drained, or no longer");
                }
            }
            Command::Pass(rpc::Pass { token }) => self.take_pass(&token),
            Command::Kick(kick) => self.kick(&kick),
            Command::Reload(_) => {
                // One that waits does for all.
                let _ = self.told.try_send(Told::Reload);
            }
            Command::Keys(keys) => self.roles.keyring.set_cluster(keys),
            Command::Policy(policy) => {
                self.policy.send_replace(Some(policy));
            }
            // It is answered where heartbeats are sent.
            Command::ListSessions(_) => {}
            Command::Origins(rpc::Origins { urls, rtmp }) => {
                if !rtmp.is_empty() {
                    self.ingests.send_replace(rtmp);
                }
                self.take_origins(urls);
            }
            Command::Conferences(told) => {
                if let Some(origin) = &self.roles.origin {
                    conferences::obey(told, origin, &self.conferences);
                }
            }
            Command::Promote(promote) => self.promote(promote),
            Command::Remotes(orders) => {
                if let Some(remotes) = &self.roles.remotes {
                    remotes.order(orders);
                }
            }
        }
    }

    fn kick(&self, kick: &rpc::Kick) {
        let (Some(origin), Ok(key)) =
            (&self.roles.origin, StreamKey::parse(&kick.app, &kick.name, control_api::RESERVED_APPS))
        else {
            return;
        };
        let done = if kick.epoch == 0 { origin.kick(&key) } else { origin.revoke(&key, Epoch(kick.epoch)) };
        tracing::info!(stream = %key, epoch = kick.epoch, done, "told to end a stream");
    }

    /// What is shown with calls from now on.
    fn take_pass(&self, token: &str) {
        match format!("Bearer {token}").parse() {
            Ok(token) => self.line.send_modify(|line| {
                if let Some(line) = line {
                    line.token = token;
                }
            }),
            Err(_) => tracing::error!("the pass that the control plane gave is no text"),
        }
    }

    fn promote(&self, rpc::Promote { app, name }: rpc::Promote) {
        let (Some(origin), Ok(key)) =
            (self.roles.origin.clone(), StreamKey::parse(&app, &name, control_api::RESERVED_APPS))
        else {
            return;
        };
        // It asks for a lease, which waits for no command.
        tokio::spawn(async move { origin.promote(&key).await });
    }

    fn take_origins(&self, urls: Vec<String>) {
        let change = self.named.lock().take(urls, Instant::now());
        self.ask_origins(change);
    }

    fn forget_origins(&self) {
        let change = self.named.lock().forget(Instant::now());
        self.ask_origins(change);
    }

    fn ask_origins(&self, change: Option<Vec<String>>) {
        let (Some(origins), Some(urls)) = (&self.roles.origins, change) else { return };
        let upstream = ::edge::UpstreamConfig { origins: urls, ..self.upstream.clone() };
        match origins.replace(&upstream) {
            Ok(()) => tracing::info!(origins = upstream.origins.join(", "), "origins of the cluster"),
            Err(error) => tracing::error!(%error, "the origins of the cluster cannot be asked"),
        }
    }
}

fn jittered(time: Duration) -> Duration {
    let mut byte = [0];
    // Without randomness there is no jitter.
    let _ = getrandom::fill(&mut byte);
    time.mul_f64(0.5 + f64::from(byte.first().copied().unwrap_or_default()) / 255.0)
}

/// An error with what is behind it: tonic's own says only that something failed.
fn because(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
