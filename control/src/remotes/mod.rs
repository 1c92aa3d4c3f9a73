//! Pulls and pushes that the API orders: kept in the registry, and given to origins. A pull is one origin's, which another
//! follows when it is gone; a push is for all of them, and that one does it which has the stream.

mod assign;
mod order;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use control_api::{RemoteInfo, RemoteState, Standing, rpc, shown_url};
use parking_lot::RwLock;

use crate::nodes::Nodes;
use crate::registry::{Change, Entry, Expect, Registry, RegistryError};
use crate::replica::follow::{Step, follow};
use crate::streams::Streams;
pub(crate) use order::{BadOrder, Order, Way};

/// Of orders, in the registry.
const PREFIX: &str = "remotes/";

/// Orders at once.
const MAX_ORDERS: usize = 2_000;

/// How often it is looked whether origins have come or gone, or have a stream now.
const LOOK: Duration = Duration::from_millis(500);

/// Why there is no such order.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OrderError {
    #[error(transparent)]
    Bad(#[from] BadOrder),
    #[error("{0} is pulled already; delete that order first")]
    Taken(String),
    #[error("there are {MAX_ORDERS} pulls and pushes already")]
    TooMany,
    #[error("no randomness: {0}")]
    Random(getrandom::Error),
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

/// All orders. Clones are the same.
#[derive(Clone)]
pub(crate) struct Remotes(Arc<Inner>);

struct Inner {
    registry: Arc<dyn Registry>,
    nodes: Nodes,
    streams: Streams,
    /// As the registry has them, by key.
    known: RwLock<BTreeMap<String, Order>>,
}

impl Remotes {
    pub(crate) fn new(registry: Arc<dyn Registry>, nodes: Nodes, streams: Streams) -> Self {
        Self(Arc::new(Inner { registry, nodes, streams, known: RwLock::default() }))
    }

    /// Follows the registry; never ends.
    pub(crate) async fn follow(self) {
        let registry = Arc::clone(&self.0.registry);
        follow(registry, PREFIX, move |step| {
            self.apply(step);
            self.assign();
        })
        .await;
    }

    /// Gives what is ordered to whoever is there; never ends.
    pub(crate) async fn look_after(self) {
        let mut ticks = tokio::time::interval(LOOK);
        loop {
            ticks.tick().await;
            self.assign();
        }
    }

    fn apply(&self, step: Step) {
        let mut known = self.0.known.write();
        let put =
            |known: &mut BTreeMap<String, Order>, entry: Entry| match serde_json::from_slice(&entry.value) {
                Ok(order) => drop(known.insert(entry.key, order)),
                Err(_) => tracing::warn!(key = entry.key, "the registry has a pull or a push that is none"),
            };
        match step {
            Step::All(entries) => {
                known.clear();
                entries.into_iter().for_each(|entry| put(&mut known, entry));
            }
            Step::Changes(changes) => {
                for change in changes {
                    match change {
                        Change::Put(entry) => put(&mut known, entry),
                        Change::Deleted { key, .. } => drop(known.remove(&key)),
                    }
                }
            }
        }
    }

    fn assign(&self) {
        let known = self.0.known.read();
        let nodes = self.0.nodes.all();
        let holder = |path: &str| self.0.streams.get(path).map(|record| record.node);
        self.0.nodes.set_remotes(assign::assign(known.values(), &nodes, holder));
    }

    /// Orders a pull or a push.
    pub(crate) async fn order(&self, order: Order) -> Result<RemoteInfo, OrderError> {
        order.check()?;
        let id = match order.way {
            Way::Pull => format!("{}/{}", order.app, order.name),
            Way::Push => {
                let mut random = [0; 8];
                getrandom::fill(&mut random).map_err(OrderError::Random)?;
                format!("{:016x}", u64::from_be_bytes(random))
            }
        };
        // As the registry has it: this replica may have just begun.
        if self.0.registry.list(PREFIX).await?.entries.len() >= MAX_ORDERS {
            return Err(OrderError::TooMany);
        }
        let value = serde_json::to_vec(&order).map_err(|_| BadOrder::Url)?;
        let key = key(order.way, &id);
        let written = self.0.registry.put(&key, Bytes::from(value), Expect::Absent, None).await?;
        if written.is_none() {
            return Err(OrderError::Taken(id));
        }
        tracing::info!(stream = %format!("{}/{}", order.app, order.name), url = shown_url(&order.url),
            "the operator ordered a {}", order.way.name());
        Ok(info(Some(id), &order))
    }

    /// Takes an order back. `false`: there is none.
    pub(crate) async fn cancel(&self, way: Way, id: &str) -> Result<bool, RegistryError> {
        self.0.registry.delete(&key(way, id), Expect::Anything).await
    }

    /// All that are ordered or stand in an origin's configuration, and how they do, ordered by app and name.
    pub(crate) fn list(&self, way: Way) -> Vec<RemoteInfo> {
        let mut said: HashMap<(String, String, String), RemoteInfo> = HashMap::new();
        let mut list = Vec::new();
        for (node, reports) in self.0.nodes.remote_reports() {
            for report in reports.into_iter().filter(|report| report.push == (way == Way::Push)) {
                let info = reported(&node, report);
                if info.configured {
                    list.push(info);
                    continue;
                }
                let place = (info.app.clone(), info.name.clone(), info.url.clone());
                // Of several that could, one does.
                let idle = said.get(&place).is_none_or(|before| before.standing.state == RemoteState::Idle);
                if idle {
                    said.insert(place, info);
                }
            }
        }
        let known = self.0.known.read();
        for (key, order) in known.iter().filter(|(_, order)| order.way == way) {
            let id =
                key.strip_prefix(PREFIX).and_then(|key| key.split_once('/')).map(|(_, id)| id.to_owned());
            let plain = info(id, order);
            let found = said.get(&(plain.app.clone(), plain.name.clone(), plain.url.clone()));
            list.push(match found {
                Some(found) => RemoteInfo { id: plain.id, ..found.clone() },
                None => plain,
            });
        }
        list.sort_by(|a, b| (&a.app, &a.name, &a.id).cmp(&(&b.app, &b.name, &b.id)));
        list
    }
}

fn key(way: Way, id: &str) -> String {
    format!("{PREFIX}{}/{id}", way.name())
}

/// An order of which nothing was heard yet.
fn info(id: Option<String>, order: &Order) -> RemoteInfo {
    RemoteInfo {
        id,
        app: order.app.clone(),
        name: order.name.clone(),
        url: shown_url(&order.url),
        on_demand: order.on_demand,
        configured: false,
        node: None,
        standing: Standing::default(),
    }
}

fn reported(node: &str, report: rpc::RemoteReport) -> RemoteInfo {
    let text = |text: String| Some(text).filter(|text| !text.is_empty());
    RemoteInfo {
        id: None,
        app: report.app,
        name: report.name,
        url: report.url,
        on_demand: report.on_demand,
        configured: report.configured,
        node: Some(node.to_owned()),
        standing: Standing {
            state: RemoteState::of_name(&report.state).unwrap_or_default(),
            since_ms: report.since_ms,
            why: text(report.why),
            retry_at_ms: Some(report.retry_at_ms).filter(|at| *at != 0),
            note: text(report.note),
            line: None,
        },
    }
}
