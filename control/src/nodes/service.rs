//! `weir.v1.NodeService`.

use std::sync::Arc;

use control_api::rpc::{
    Command, Heartbeat, LevelReport, LevelsResponse, RegisterRequest, RegisterResponse,
    node_service_server::NodeService,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{Caller, JoinError, Nodes, Passes, Why};
use crate::conferences::Conferences;
use crate::replica::{Clock, bearer};

/// Answers nodes.
pub(crate) struct Service {
    nodes: Nodes,
    passes: Arc<Passes>,
    clock: Clock,
    replica: String,
    conferences: Conferences,
}

impl Service {
    pub(crate) fn new(
        nodes: Nodes,
        passes: Arc<Passes>,
        clock: Clock,
        replica: String,
        conferences: Conferences,
    ) -> Self {
        Self { nodes, passes, clock, replica, conferences }
    }
}

#[tonic::async_trait]
impl NodeService for Service {
    async fn register(
        &self,
        request: Request<RegisterRequest>,
    ) -> Result<Response<RegisterResponse>, Status> {
        if !self.passes.may_join(bearer(request.metadata())) {
            let from = request.remote_addr().map(|from| from.ip().to_string()).unwrap_or_default();
            if self.nodes.refusals().is_news(Why::Credentials, &from) {
                tracing::warn!(from, "a node has no join token, or a wrong one");
            }
            return Err(Status::unauthenticated(
                "the join token is missing or wrong (`control.cluster.join_token`)",
            ));
        }
        let Some(node) = request.into_inner().node else {
            return Err(Status::invalid_argument("`node` is missing"));
        };
        let record = self.nodes.join(&node).await.map_err(|error| {
            let status = match &error {
                JoinError::Bad(error) => Status::invalid_argument(error.to_string()),
                JoinError::Taken { .. } => Status::already_exists(error.to_string()),
                JoinError::Contended | JoinError::Registry(_) => Status::unavailable(error.to_string()),
            };
            if Why::of(status.code()).is_none_or(|why| self.nodes.refusals().is_news(why, &node.name)) {
                tracing::warn!(node = ?node.name, %error, "a node cannot join");
            }
            status
        })?;
        let now_ms = (self.clock)();
        let caller = Caller { name: record.name, instance: record.instance };
        Ok(Response::new(RegisterResponse {
            token: self.passes.sign(&caller, now_ms / 1_000),
            heartbeat_ms: u32::try_from(self.nodes.0.patience.heartbeat.as_millis()).unwrap_or(u32::MAX),
            now_ms,
            replica: self.replica.clone(),
        }))
    }

    type BeatStream = ReceiverStream<Result<Command, Status>>;

    async fn beat(
        &self,
        request: Request<Streaming<Heartbeat>>,
    ) -> Result<Response<Self::BeatStream>, Status> {
        let caller = self.passes.caller(request.metadata(), (self.clock)())?;
        let (passes, clock) = (Arc::clone(&self.passes), self.clock);
        let (of, nodes) = (caller.clone(), self.nodes.clone());
        let pass = move || passes.sign(&of, clock() / 1_000);
        let commands = nodes.hear(caller, request.into_inner(), Box::new(pass)).await?;
        Ok(Response::new(ReceiverStream::new(commands)))
    }

    async fn levels(&self, request: Request<LevelReport>) -> Result<Response<LevelsResponse>, Status> {
        let caller = self.passes.caller(request.metadata(), (self.clock)())?;
        self.conferences.hears(&caller.name, request.into_inner());
        Ok(Response::new(LevelsResponse {}))
    }
}

impl Passes {
    /// Who calls.
    pub(crate) fn caller(
        &self,
        metadata: &tonic::metadata::MetadataMap,
        now_ms: u64,
    ) -> Result<Caller, Status> {
        let caller = bearer(metadata).and_then(|pass| self.check(pass, now_ms / 1_000));
        caller.ok_or_else(|| {
            Status::unauthenticated("the pass is missing, wrong or has expired: register again")
        })
    }
}
