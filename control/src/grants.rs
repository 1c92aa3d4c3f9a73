//! `weir.v1.GrantService`: grants for apps, and what hooks say of viewers.

use std::sync::Arc;

use control_api::grant::Audience;
use control_api::rpc::grant_service_server::GrantService;
use control_api::rpc::sign_request::Audience as Asked;
use control_api::rpc::{
    AdmitResponse, Grant, KeySet, KeysRequest, LeftResponse, Session, Sessions, SignRequest,
};
use tonic::{Request, Response, Status};

use crate::hooks::{self, Happening, Hooks};
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
        let Some(hooks) = &self.hooks else { return Ok(Response::new(LeftResponse::default())) };
        let event = |session| happenings::watching(Happening::OnStop, &caller, session, self.epoch(session));
        let events: Vec<_> = sessions.iter().map(event).collect();
        let told = happenings::tell_of_viewers(hooks, &events).await;
        if let Some(error) = told.iter().find_map(|told| told.as_ref().err()) {
            let untold = told.iter().filter(|told| told.is_err()).count();
            tracing::error!(node = caller.name, viewers = told.len(), untold, %error, "hooks are not told of viewers who left");
        }
        untold(sessions, &told).map(Response::new)
    }
}

/// Which sessions are to be told again.
fn untold(sessions: &[Session], told: &[Result<(), hooks::Error>]) -> Result<LeftResponse, Status> {
    let again =
        sessions.iter().zip(told).filter(|(_, told)| told.as_ref().is_err_and(hooks::Error::may_pass));
    let untold: Vec<String> = again.map(|(session, _)| session.id.clone()).collect();
    // Where that is all of them, those edges understand it that know no `untold`.
    if !untold.is_empty() && untold.len() == sessions.len() {
        return Err(Status::unavailable("hooks can't be told at the moment"));
    }
    Ok(LeftResponse { untold })
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use control_api::{Secret, rpc};
    use tonic::Code;

    use super::*;
    use crate::hooks::Endpoint;
    use crate::replica::testing::{self, Cluster};

    fn session(id: &str, query: String) -> Session {
        let key = Some(rpc::StreamKey { app: "live".to_owned(), name: "a".to_owned() });
        Session { id: id.to_owned(), key, query, ..Session::default() }
    }

    fn sessions(ids: &[&str]) -> Vec<Session> {
        ids.iter().map(|id| session(id, String::new())).collect()
    }

    #[tokio::test]
    async fn viewers_of_whom_hooks_are_not_told_are_told_again_and_not_counted_as_lost() {
        let cluster = Cluster::new();
        let replica = cluster.replica();
        let folder = tempfile::tempdir().unwrap();
        let journal = folder.path().join("journal");
        let config = hooks::Config {
            endpoints: vec![Endpoint::new("http://127.0.0.1:9/", Secret::new("0123456789abcdef"))],
            allow_private: vec!["127.0.0.1".to_owned()],
            ..hooks::Config::default()
        };
        let registry = prometheus::Registry::new();
        let hooks = Hooks::open(&config, &journal, &registry).unwrap();
        let passes = Arc::new(Passes::new(None));
        let edge = Caller { name: "edge-1".to_owned(), instance: 1 };
        let pass = passes.sign(&edge, testing::now_ms() / 1_000);
        let service = Service {
            keys: replica.keys().clone(),
            streams: replica.streams().clone(),
            passes,
            operator: None,
            hooks: Some(hooks.clone()),
            clock: testing::now_ms,
        };
        let left = async |sessions: Vec<Session>| {
            let request = Request::new(Sessions { sessions, ..Sessions::default() });
            service.left(testing::with_token(request, &pass)).await.map(Response::into_inner)
        };
        let value = |name: &str| -> f64 {
            let families = registry.gather();
            let family = families.iter().find(|family| family.name() == name);
            let metrics = family.map(|family| family.get_metric()).unwrap_or_default();
            metrics
                .iter()
                .map(|metric| metric.get_counter().get_value() + metric.get_gauge().get_value())
                .sum()
        };
        // Its disk is gone.
        std::fs::remove_dir_all(&journal).unwrap();
        for _ in 0..3 {
            let refused = left(sessions(&["1", "2", "3"])).await.unwrap_err();
            assert_eq!(refused.code(), Code::Unavailable);
        }
        assert_eq!(value("weir_control_hook_dropped_total"), 0.0);
        // What nobody tells again is.
        let event = happenings::watching(Happening::OnDrop, &edge, &session("4", String::new()), 1);
        hooks.tell(&event).await.unwrap_err();
        assert_eq!(value("weir_control_hook_dropped_total"), 1.0);
        std::fs::create_dir(&journal).unwrap();
        // One that is too long never will be told; it is lost, once.
        let mut all = sessions(&["1", "2", "3"]);
        all.push(session("5", (0..40).map(|n| format!("p{n}={}&", "x".repeat(512))).collect()));
        assert_eq!(left(all).await.unwrap(), LeftResponse::default());
        assert_eq!(value("weir_control_hook_queue_events"), 3.0);
        assert_eq!(value("weir_control_hook_dropped_total"), 2.0);
    }

    #[test]
    fn only_what_may_be_told_later_is_told_again() {
        let failed = || Err(hooks::Error::Write(ErrorKind::StorageFull));
        let of = sessions(&["1", "2", "3"]);
        let answer = untold(&of, &[Ok(()), failed(), Err(hooks::Error::TooLarge)]).unwrap();
        assert_eq!(answer.untold, ["2"]);
        let answer = untold(&of, &[failed(), Err(hooks::Error::Closed), failed()]);
        assert_eq!(answer.unwrap_err().code(), Code::Unavailable);
        assert_eq!(untold(&[], &[]).unwrap(), LeftResponse::default());
    }
}
