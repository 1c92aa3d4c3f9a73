//! Joining a replica, and the calls to it until it is lost.

use std::sync::Arc;
use std::time::{Duration, Instant};

use control_api::grant::{Algorithm, Key};
use control_api::rpc;
use control_api::rpc::command::Command;
use control_api::rpc::node_service_client::NodeServiceClient;
use media_core::hub::{Epoch, StreamKey};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use super::reports::Reporter;
use super::{Agent, CALL_TIMEOUT, CONNECT_TIMEOUT, Line, MAX_BACKOFF, MIN_BACKOFF, Told};
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
            let Some(endpoint) = self.endpoints.get(at % self.endpoints.len().max(1)) else { return };
            let began = Instant::now();
            let lost = self.session(endpoint).await;
            self.line.send_replace(None);
            if began.elapsed() > MAX_BACKOFF {
                (backoff, said) = (MIN_BACKOFF, None);
            }
            let why = format!("{} ({})", lost.message(), lost.code());
            // The same again and again is said once.
            if said.as_ref() != Some(&why) {
                tracing::warn!(control = %endpoint.uri(), why, "not in the cluster; going on with what is known");
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
    async fn session(&self, endpoint: &tonic::transport::Endpoint) -> Status {
        match self.try_session(endpoint).await {
            Ok(never) => match never {},
            Err(status) => status,
        }
    }

    async fn try_session(
        &self,
        endpoint: &tonic::transport::Endpoint,
    ) -> Result<std::convert::Infallible, Status> {
        let connecting = tokio::time::timeout(CONNECT_TIMEOUT, endpoint.connect());
        let channel = match connecting.await {
            Ok(connected) => connected.map_err(|error| Status::unavailable(because(&error)))?,
            Err(_) => return Err(Status::unavailable("it takes no connection")),
        };
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
                    Some(rpc::Command { command: Some(command) }) => self.obey(command).await,
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
        let sent = beats.try_send(self.heartbeat(reporter));
        sent.map_err(|_| Status::unavailable("it takes no heartbeats"))
    }

    fn heartbeat(&self, reporter: &mut Reporter) -> rpc::Heartbeat {
        let draining = *self.drained.borrow() || self.life.phase() >= Phase::Unready;
        rpc::Heartbeat { load: Some(reporter.load()), reports: reporter.changes(), draining }
    }

    async fn obey(&self, command: Command) {
        match command {
            Command::Drain(rpc::Drain { undo }) => {
                tracing::info!(undo, "an operator wants this node drained");
                self.drained.send_replace(!undo);
            }
            Command::Kick(kick) => self.kick(&kick),
            Command::Reload(_) => {
                // One that waits does for all.
                let _ = self.told.try_send(Told::Reload);
            }
            Command::Keys(keys) => self.take_keys(keys),
            Command::Origins(rpc::Origins { urls }) => self.take_origins(urls),
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

    fn take_keys(&self, keys: rpc::KeySet) {
        let mut all = self.own_keys.lock().copied();
        for key in keys.keys {
            let algorithm = match &*key.algorithm {
                "HS256" => Algorithm::Hs256,
                "EdDSA" => Algorithm::EdDsa,
                _ => continue,
            };
            match Key::new(algorithm, &key.text) {
                Ok(made) => all.add(key.kid, made),
                Err(error) => tracing::error!(kid = key.kid, %error, "a key of the control plane is none"),
            }
        }
        self.roles.grants.replace(all);
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
