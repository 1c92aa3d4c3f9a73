//! Who watches, asked of the edges when somebody wants to know: nothing is kept of it.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use control_api::rpc;
use control_api::rpc::command::Command;
use futures_util::future::join_all;
use parking_lot::Mutex;
use prost::Message as _;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::{Known, Nodes, Reports};
use crate::cache::{Cache, MAX_VALUE_BYTES};

/// How long edges have for an answer, and who asks waits for a turn.
const PATIENCE: Duration = Duration::from_secs(3);

/// How often it is looked for an answer that comes by another replica.
const LOOK: Duration = Duration::from_millis(50);

/// How long such an answer is kept.
const TTL: Duration = Duration::from_secs(15);

/// Edges that are asked at once: more are asked by name.
const MAX_NODES: usize = 100;

/// Lists that are asked for at once.
const QUESTIONS: usize = 2;

/// Sessions that one edge tells.
pub(crate) const MAX_SESSIONS: u32 = 1_000;

/// Why nobody can say who watches.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionsError {
    #[error("{0} edges may have them: name a stream or a node (at most {MAX_NODES} are asked)")]
    TooMany(usize),
    #[error("others ask who watches, and the edges answer them slowly; try again")]
    Busy,
}

/// Whose sessions are wanted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filter {
    pub(crate) node: Option<String>,
    pub(crate) stream: Option<rpc::StreamKey>,
    pub(crate) limit: u32,
}

/// What an edge said; `None`: nothing in time.
pub(crate) struct Said {
    pub(crate) node: String,
    pub(crate) sessions: Option<rpc::Sessions>,
}

/// A question that somebody waits for.
struct Waiting<'a> {
    questions: &'a Questions,
    question: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.questions.waiting.lock().remove(&self.question);
    }
}

/// Questions that wait for an answer of nodes that this replica hears.
pub(super) struct Questions {
    next: AtomicU64,
    waiting: Mutex<HashMap<u64, oneshot::Sender<rpc::Sessions>>>,
    /// Where answers are put for the replica that asked.
    cache: Arc<dyn Cache>,
    turns: Semaphore,
}

impl Questions {
    pub(super) fn new(cache: Arc<dyn Cache>) -> Self {
        let mut seed = [0; 8];
        // Without randomness two replicas that begin at once may take each other's answers, of a list to look at.
        let _ = getrandom::fill(&mut seed);
        let next = AtomicU64::new(u64::from_ne_bytes(seed) | 1);
        Self { next, waiting: Mutex::default(), cache, turns: Semaphore::new(QUESTIONS) }
    }
}

fn key(question: u64) -> String {
    format!("sessions/{question:016x}")
}

impl Nodes {
    /// Asks edges who watches.
    pub(crate) async fn sessions(&self, filter: &Filter) -> Result<Vec<Said>, SessionsError> {
        let path = filter.stream.as_ref().map(rpc::StreamKey::path);
        let mut names: Vec<String> =
            self.all().into_iter().filter(is_edge).map(|known| known.record.name).collect();
        match &filter.node {
            Some(node) => names.retain(|name| name == node),
            None if names.len() > MAX_NODES => {
                // What they report of streams says who has viewers of it.
                if let Some(path) = &path {
                    let having = self.nodes_with(path);
                    names.retain(|name| having.contains(name));
                }
            }
            None => {}
        }
        if names.len() > MAX_NODES {
            return Err(SessionsError::TooMany(names.len()));
        }
        // An answer is a heartbeat, which come at a pace.
        let turn = timeout(PATIENCE, self.0.questions.turns.acquire()).await;
        let _turn = turn.map_err(|_| SessionsError::Busy)?;
        let deadline = Instant::now() + PATIENCE;
        let asked = names.into_iter().map(|node| self.ask(node, filter, deadline));
        Ok(join_all(asked).await)
    }

    async fn ask(&self, node: String, filter: &Filter, deadline: Instant) -> Said {
        let question = self.0.questions.next.fetch_add(2, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        self.0.questions.waiting.lock().insert(question, answer);
        let _waiting = Waiting { questions: &self.0.questions, question };
        let limit = filter.limit.min(MAX_SESSIONS);
        let command =
            Command::ListSessions(rpc::ListSessions { question, key: filter.stream.clone(), limit });
        let told = self.tell(&node, command).await;
        let sessions = match told {
            Ok(true) => tokio::select! {
                answered = timeout_at(deadline, answered) => answered.ok().and_then(Result::ok),
                elsewhere = self.answered_elsewhere(question, deadline) => elsewhere,
            },
            _ => None,
        };
        Said { node, sessions }
    }

    /// Nodes that report something of a stream.
    fn nodes_with(&self, path: &str) -> BTreeSet<String> {
        let has = |reports: &Mutex<Reports>| reports.lock().contains_key(path);
        let heard = self.0.heard.lock();
        let here = heard.iter().filter(|(_, heard)| has(&heard.reports)).map(|(name, _)| name.clone());
        let told = self.0.told.lock();
        let elsewhere = told.iter().filter(|(_, reports)| has(reports)).map(|(name, _)| name.clone());
        here.chain(elsewhere).collect()
    }

    /// An answer that another replica was given.
    async fn answered_elsewhere(&self, question: u64, deadline: Instant) -> Option<rpc::Sessions> {
        while Instant::now() < deadline {
            sleep(LOOK).await;
            if let Ok(Some(answer)) = self.0.questions.cache.get(&key(question)).await {
                return rpc::Sessions::decode(answer).ok();
            }
        }
        None
    }

    /// An edge has answered: whoever asked is told.
    pub(super) fn answered(&self, mut sessions: rpc::Sessions) {
        let question = sessions.question;
        if let Some(asking) = self.0.questions.waiting.lock().remove(&question) {
            // Who does not wait any more needs no answer.
            let _ = asking.send(sessions);
            return;
        }
        let cache = Arc::clone(&self.0.questions.cache);
        tokio::spawn(async move {
            while sessions.encoded_len() > MAX_VALUE_BYTES {
                let half = sessions.sessions.len() / 2;
                sessions.sessions.truncate(half);
            }
            let answer = Bytes::from(sessions.encode_to_vec());
            if let Err(error) = cache.set(&key(question), answer, TTL).await {
                tracing::debug!(%error, "an answer of an edge cannot be passed on");
            }
        });
    }
}

fn is_edge(known: &Known) -> bool {
    known.record.role.is_edge() && known.record.away_since_ms.is_none()
}
