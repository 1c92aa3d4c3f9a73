//! `weir.v1.GrantService`: grants for apps, and what hooks say of viewers.

use std::sync::Arc;

use control_api::grant::Audience;
use control_api::rpc::grant_service_server::GrantService;
use control_api::rpc::sign_request::Audience as Asked;
use control_api::rpc::{
    AdmitResponse, Grant, KeySet, KeysRequest, LeftResponse, Session, Sessions, SignRequest,
};
use futures_util::future::join_all;
use tonic::{Request, Response, Status};

use crate::hooks::{Happening, Hooks};
use crate::keys::{Keys, KeysError, Wanted};
use crate::nodes::{Caller, Passes};
use crate::replica::{Clock, bearer, happenings};
use crate::streams::Streams;
use crate::token::Token;

/// Viewers whose leave one call tells.
const MAX_LEFT: usize = happenings::AT_ONCE;

/// Answers apps and edges.
pub(crate) struct Service {
    pub(crate) keys: Keys,
    pub(crate) streams: Streams,
    pub(crate) passes: Arc<Passes>,
    pub(crate) operator: Option<Token>,
    pub(crate) hooks: Option<Hooks>,
    pub(crate) clock: Clock,
}

impl Service {
    fn caller<T>(&self, request: &Request<T>) -> Result<Caller, Status> {
        self.passes.caller(request.metadata(), (self.clock)())
    }

    fn is_operator<T>(&self, request: &Request<T>) -> bool {
        let shown = bearer(request.metadata());
        self.operator.as_ref().zip(shown).is_some_and(|(token, shown)| token.matches(shown.as_bytes()))
    }

    /// The epoch of a stream, if it is known.
    fn epoch(&self, session: &Session) -> u64 {
        let record = session.key.as_ref().and_then(|key| self.streams.get(&key.path()));
        record.map_or(0, |record| record.epoch)
    }
}

fn status(error: &KeysError) -> Status {
    match error {
        KeysError::Bad(what) => Status::invalid_argument(what.clone()),
        KeysError::TooMany => Status::resource_exhausted(error.to_string()),
        KeysError::Failed => Status::failed_precondition(error.to_string()),
        _ => Status::unavailable(error.to_string()),
    }
}

#[tonic::async_trait]
impl GrantService for Service {
    async fn sign(&self, request: Request<SignRequest>) -> Result<Response<Grant>, Status> {
        if !self.is_operator(&request) {
            return Err(Status::unauthenticated("the operator's token is missing or wrong"));
        }
        let request = request.into_inner();
        let audience = match request.audience() {
            Asked::Play => Audience::Play,
            Asked::Publish => Audience::Publish,
            Asked::Unspecified => return Err(Status::invalid_argument("`audience` is missing")),
        };
        let text = |text: String| Some(text).filter(|text| !text.is_empty());
        let ip = text(request.ip).map(|ip| ip.parse()).transpose();
        let wanted = Wanted {
            audience,
            stream: request.stream,
            lasts_s: request.lasts_s,
            ip: ip.map_err(|_| Status::invalid_argument("`ip` is no address or network"))?,
            session: text(request.session),
        };
        let (grant, expires_at_ms) = self.keys.grant(wanted).map_err(|error| status(&error))?;
        Ok(Response::new(Grant { grant, expires_at_ms }))
    }

    async fn keys(&self, request: Request<KeysRequest>) -> Result<Response<KeySet>, Status> {
        if !self.is_operator(&request) {
            self.caller(&request)?;
        }
        Ok(Response::new(self.keys.public()))
    }

    async fn admit(&self, request: Request<Session>) -> Result<Response<AdmitResponse>, Status> {
        let caller = self.caller(&request)?;
        let session = request.get_ref();
        if let Some(hooks) = &self.hooks {
            let event = happenings::watching(Happening::OnPlay, &caller, session, self.epoch(session));
            let admitted = hooks.admit(&event).await;
            admitted.map_err(|refused| Status::permission_denied(refused.to_string()))?;
        }
        Ok(Response::new(AdmitResponse {}))
    }

    async fn left(&self, request: Request<Sessions>) -> Result<Response<LeftResponse>, Status> {
        let caller = self.caller(&request)?;
        let sessions = &request.get_ref().sessions;
        if sessions.len() > MAX_LEFT {
            return Err(Status::invalid_argument(format!("more than {MAX_LEFT} at once")));
        }
        if let Some(hooks) = &self.hooks {
            // What is written to disk is waited for by all at once.
            let told = sessions.iter().map(|session| async {
                let event = happenings::watching(Happening::OnStop, &caller, session, self.epoch(session));
                happenings::tell(hooks, &event).await
            });
            if !join_all(told).await.into_iter().all(|told| told) {
                return Err(Status::unavailable("hooks can't be told at the moment"));
            }
        }
        Ok(Response::new(LeftResponse {}))
    }
}
