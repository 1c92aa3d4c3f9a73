//! `weir.v1.StreamService`.

use std::collections::HashSet;
use std::pin::Pin;
use std::sync::Arc;

use control_api::rpc::publish_request::As;
use control_api::rpc::stream_service_server::StreamService;
use control_api::rpc::{
    IngestRequest, Ingests, Lease as LeaseAnswer, Location, PublishRequest, ReleaseRequest, ReleaseResponse,
    RenewRequest, RenewResponse, StreamKey, WatchRequest, release_request,
};
use control_api::trace::Tracer;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{Lease, LeaseError, Of, Streams, Wanted};
use crate::conferences::Conferences;
use crate::hooks::Hooks;
use crate::nodes::{Caller, Passes};
use crate::replica::{Clock, happenings};
use crate::schedule::Labels;
use crate::traced::Traced;

/// Streams that one edge may follow.
const MAX_FOLLOWED: usize = 200_000;

/// Locations on their way to an edge.
const MAX_WAITING: usize = 256;

/// Answers origins and edges.
pub(crate) struct Service {
    streams: Streams,
    passes: Arc<Passes>,
    clock: Clock,
    hooks: Option<Hooks>,
    tracer: Tracer,
    conferences: Conferences,
}

impl Service {
    pub(crate) fn new(
        streams: Streams,
        passes: Arc<Passes>,
        clock: Clock,
        hooks: Option<Hooks>,
        tracer: Tracer,
        conferences: Conferences,
    ) -> Self {
        Self { streams, passes, clock, hooks, tracer, conferences }
    }

    async fn lease(&self, caller: &Caller, wanted: &Wanted) -> Result<LeaseAnswer, Status> {
        let admits = self.conferences.admits(&wanted.key.path()).await;
        if !admits.map_err(|error| Status::unavailable(error.to_string()))? {
            let said =
                format!("{} is of a conference in which nobody of that name speaks", wanted.key.path());
            return Err(Status::permission_denied(said));
        }
        // One that was let in before is not asked about again.
        if let Some(hooks) = self.hooks.as_ref().filter(|_| wanted.purpose != As::Promoted) {
            super::path(&wanted.key).map_err(|error| status(&error))?;
            let admitted = hooks.admit(&happenings::publishing(caller, wanted)).await;
            admitted.map_err(|refused| Status::permission_denied(refused.to_string()))?;
        }
        match self.streams.publish(caller, wanted).await.map_err(|error| status(&error))? {
            Lease::Held(epoch) => Ok(LeaseAnswer { epoch, standby: false }),
            Lease::Standby => Ok(LeaseAnswer { epoch: 0, standby: true }),
        }
    }

    fn caller<T>(&self, request: &Request<T>) -> Result<Caller, Status> {
        self.passes.caller(request.metadata(), (self.clock)())
    }
}

fn key(key: Option<StreamKey>) -> Result<StreamKey, Status> {
    key.ok_or_else(|| Status::invalid_argument("`key` is missing"))
}

fn status(error: &LeaseError) -> Status {
    let said = error.to_string();
    match error {
        LeaseError::Name(_) => Status::invalid_argument(said),
        LeaseError::Busy { .. } => Status::already_exists(said),
        LeaseError::Backups(_) => Status::already_exists(said),
        LeaseError::Contended | LeaseError::Registry(_) => Status::unavailable(said),
    }
}

#[tonic::async_trait]
impl StreamService for Service {
    async fn publish(&self, request: Request<PublishRequest>) -> Result<Response<LeaseAnswer>, Status> {
        let caller = self.caller(&request)?;
        let traced = Traced::lease(&self.tracer, &request, &caller.name);
        let request = request.into_inner();
        let purpose = request.r#as();
        let wanted = Wanted {
            purpose,
            key: key(request.key)?,
            epoch: request.epoch,
            takeover: request.takeover,
            protocol: request.protocol,
            remote_addr: request.remote_addr,
            query: request.query,
        };
        let leased = self.lease(&caller, &wanted).await;
        traced
            .ended(&leased, |span, lease| span.set("epoch", i64::try_from(lease.epoch).unwrap_or(i64::MAX)));
        leased.map(Response::new)
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<RenewResponse>, Status> {
        let caller = self.caller(&request)?;
        let lost =
            self.streams.renew(&caller, request.into_inner().held).await.map_err(|error| status(&error))?;
        Ok(Response::new(RenewResponse { lost }))
    }

    async fn release(&self, request: Request<ReleaseRequest>) -> Result<Response<ReleaseResponse>, Status> {
        let caller = self.caller(&request)?;
        let request = request.into_inner();
        let (why, key) = (request.why(), key(request.key)?);
        let of = if request.epoch == 0 { Of::Any } else { Of::Epoch(request.epoch) };
        let released = match why {
            release_request::Why::StandbyLeft => {
                let path = super::path(&key).map_err(|error| status(&error))?;
                self.streams.forget_standby(&caller, &path).await
            }
            release_request::Why::Dropped => self.streams.release(&caller, &key, of, true).await,
            release_request::Why::Ended => self.streams.release(&caller, &key, of, false).await,
            release_request::Why::Unanswered => {
                self.streams.release(&caller, &key, Of::Proposal(request.epoch), true).await
            }
        };
        released.map_err(|error| status(&error))?;
        Ok(Response::new(ReleaseResponse {}))
    }

    async fn ingest(&self, request: Request<IngestRequest>) -> Result<Response<Ingests>, Status> {
        self.caller(&request)?;
        let IngestRequest { key: named, backup } = request.into_inner();
        let path = super::path(&key(named)?).map_err(|error| status(&error))?;
        let origins = self.streams.origins_for(&path, &Labels::default(), backup).into_iter();
        let rtmp: Vec<String> = origins.filter_map(|origin| origin.record.addresses.ingest).collect();
        if rtmp.is_empty() {
            return Err(Status::not_found("no origin is there that takes publishers"));
        }
        Ok(Response::new(Ingests { rtmp }))
    }

    async fn lookup(&self, request: Request<StreamKey>) -> Result<Response<Location>, Status> {
        self.caller(&request)?;
        let location = self.streams.locate(request.get_ref());
        if location.state() == control_api::rpc::State::Absent {
            return Err(Status::not_found(format!("no stream {} is live", request.get_ref().path())));
        }
        Ok(Response::new(location))
    }

    type WatchStream = Pin<Box<dyn futures_util::Stream<Item = Result<Location, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<Streaming<WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        self.caller(&request)?;
        let (tell, told) = mpsc::channel(MAX_WAITING);
        let follower = Follower { streams: self.streams.clone(), followed: HashSet::new(), tell };
        tokio::spawn(follower.run(request.into_inner()));
        Ok(Response::new(Box::pin(ReceiverStream::new(told))))
    }
}

/// An edge that follows streams.
struct Follower {
    streams: Streams,
    followed: HashSet<String>,
    tell: mpsc::Sender<Result<Location, Status>>,
}

impl Follower {
    /// Until the edge hangs up.
    async fn run(mut self, mut requests: Streaming<WatchRequest>) {
        let mut changed = self.streams.0.changed.subscribe();
        loop {
            let done = tokio::select! {
                request = requests.message() => match request {
                    Ok(Some(request)) => self.asked(request).await,
                    Ok(None) | Err(_) => return,
                },
                path = changed.recv() => match path {
                    Ok(path) if self.followed.contains(&*path) => self.say(&path).await,
                    Ok(_) => Ok(()),
                    // What was missed is found by telling all of them.
                    Err(RecvError::Lagged(_)) => self.say_all().await,
                    Err(RecvError::Closed) => return,
                },
                () = self.tell.closed() => return,
            };
            if let Err(Some(status)) = done {
                // Whoever does not read is not told, either.
                let _ = self.tell.try_send(Err(status));
                return;
            } else if done.is_err() {
                return;
            }
        }
    }

    async fn asked(&mut self, request: WatchRequest) -> Result<(), Option<Status>> {
        for key in &request.remove {
            self.followed.remove(&key.path());
        }
        for key in &request.add {
            let path = super::path(key).map_err(|error| Some(status(&error)))?;
            if self.followed.len() >= MAX_FOLLOWED {
                return Err(Some(Status::resource_exhausted("too many streams are followed")));
            }
            self.followed.insert(path.clone());
            self.say(&path).await?;
        }
        Ok(())
    }

    async fn say_all(&self) -> Result<(), Option<Status>> {
        for path in &self.followed {
            self.say(path).await?;
        }
        Ok(())
    }

    async fn say(&self, path: &str) -> Result<(), Option<Status>> {
        let Some((app, name)) = path.split_once('/') else { return Ok(()) };
        let location = self.streams.locate(&StreamKey { app: app.to_owned(), name: name.to_owned() });
        self.tell.send(Ok(location)).await.map_err(|_| None)
    }
}
