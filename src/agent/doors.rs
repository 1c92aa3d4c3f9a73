//! What the control plane is asked and told of viewers, where its hooks want that.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use control_api::rpc;
use control_api::rpc::grant_service_client::GrantServiceClient;
use control_api::rpc::policy::Ask;
use edge::{Doorkeeper, Session, TurnedAway};
use media_core::hub::StreamKey;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};
use tonic::Code;

use super::leases::PATIENCE;
use super::{CALL_TIMEOUT, Line, leases};

/// Viewers who have left and of whom the control plane is not told yet; of more it is not.
const MAX_LEFT: usize = 16_384;

/// Those who are told at once.
const AT_ONCE: usize = 200;

/// Before it is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// How long an answer may take: as long as hooks may, and the way.
pub(super) const ANSWER: Duration = Duration::from_secs(12);

/// What is said where nobody decides.
pub(super) const UNDECIDED: &str = "the server that decides this cannot be reached";

/// At the door of an edge.
#[derive(Debug)]
pub(super) struct Doors {
    line: watch::Receiver<Option<Line>>,
    policy: watch::Receiver<Option<rpc::Policy>>,
    left: mpsc::Sender<rpc::Session>,
    leaving: Arc<AtomicUsize>,
    began: Instant,
}

/// A doorkeeper, and what tells of those who left.
pub(super) fn doors(
    line: watch::Receiver<Option<Line>>,
    policy: watch::Receiver<Option<rpc::Policy>>,
    leaving: Arc<AtomicUsize>,
) -> (Doors, impl Future<Output = ()> + Send) {
    let (left, those) = mpsc::channel(MAX_LEFT);
    let began = Instant::now();
    let doors = Doors { line: line.clone(), policy, left, leaving: Arc::clone(&leaving), began };
    (doors, tell(line, those, leaving))
}

impl Doors {
    fn policy(&self) -> rpc::Policy {
        self.policy.borrow().unwrap_or_default()
    }
}

#[async_trait]
impl Doorkeeper for Doors {
    fn attends(&self) -> bool {
        let policy = *self.policy.borrow();
        // What is wanted is known in a moment.
        policy.map_or(self.began.elapsed() < PATIENCE, |policy| policy.play() != Ask::Not || policy.left)
    }

    async fn may_enter(&self, session: &Session) -> Result<(), TurnedAway> {
        let ask = leases::policy(&self.policy, self.began).await.play();
        if ask == Ask::Not {
            return Ok(());
        }
        let line = self.line.borrow().clone();
        let why = if let Some(line) = line {
            let mut client = GrantServiceClient::new(line.channel());
            match timeout(ANSWER, client.admit(line.request(told(session)))).await {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(status)) if status.code() == Code::PermissionDenied => {
                    return Err(TurnedAway(status.message().to_owned()));
                }
                Ok(Err(status)) => status.message().to_owned(),
                Err(_) => "it does not answer".to_owned(),
            }
        } else {
            "it cannot be reached".to_owned()
        };
        tracing::debug!(stream = %session.key, why, "the control plane does not say who may watch");
        if ask == Ask::OrAllow { Ok(()) } else { Err(TurnedAway(UNDECIDED.to_owned())) }
    }

    fn has_left(&self, session: &Session) -> bool {
        if !self.policy().left {
            return true;
        }
        self.leaving.fetch_add(1, Ordering::Relaxed);
        let is_told = self.left.try_send(told(session)).is_ok();
        if !is_told {
            self.leaving.fetch_sub(1, Ordering::Relaxed);
        }
        is_told
    }
}

/// A session as the control plane knows it.
pub(super) fn told(session: &Session) -> rpc::Session {
    rpc::Session {
        id: format!("{:016x}", session.id),
        key: Some(leases::name(&session.key)),
        protocol: session.protocol.to_owned(),
        remote_addr: session.address.to_string(),
        name: session.name.as_deref().unwrap_or_default().to_owned(),
        began_at_ms: session.began_at_ms,
        query: session.query.to_string(),
    }
}

/// The answer to who watches.
pub(super) fn listed(edge: &edge::Edge, asked: &rpc::ListSessions) -> rpc::Sessions {
    let key = asked.key.as_ref().map(|key| StreamKey::parse(&key.app, &key.name, control_api::RESERVED_APPS));
    let nobody = rpc::Sessions { question: asked.question, ..rpc::Sessions::default() };
    let Ok(key) = key.transpose() else { return nobody };
    let limit = usize::try_from(asked.limit).unwrap_or(usize::MAX);
    let (sessions, total) = edge.sessions(key.as_ref(), limit);
    rpc::Sessions {
        sessions: sessions.iter().map(|session| told(session)).collect(),
        total: total as u64,
        ..nobody
    }
}

/// Tells of those who left, as long as there is a door.
async fn tell(
    mut line: watch::Receiver<Option<Line>>,
    mut those: mpsc::Receiver<rpc::Session>,
    leaving: Arc<AtomicUsize>,
) {
    let mut sessions = Vec::new();
    while those.recv_many(&mut sessions, AT_ONCE).await > 0 {
        loop {
            let Ok(now) = line.wait_for(Option::is_some).await.map(|line| line.clone()) else { return };
            let Some(now) = now else { continue };
            let told = rpc::Sessions { sessions: sessions.clone(), ..rpc::Sessions::default() };
            let mut client = GrantServiceClient::new(now.channel());
            let untold = match timeout(CALL_TIMEOUT, client.left(now.request(told))).await {
                Ok(Ok(answer)) => answer.into_inner().untold,
                Ok(Err(status)) if status.code() == Code::InvalidArgument => Vec::new(),
                _ => sessions.iter().map(|session| session.id.clone()).collect(),
            };
            let before = sessions.len();
            sessions.retain(|session| untold.contains(&session.id));
            leaving.fetch_sub(before - sessions.len(), Ordering::Relaxed);
            if sessions.is_empty() {
                break;
            }
            sleep(RETRY).await;
        }
    }
}
