//! What a replica says of the cluster, as `weir_control_cluster_*`.

use std::time::Duration;

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};
use tokio::sync::broadcast::error::RecvError;

use super::Replica;
use crate::conferences::Conferences;
use crate::nodes::Why;
use crate::streams::What;

/// How often nodes and streams are counted.
const EVERY: Duration = Duration::from_secs(1);

/// What is counted. Clones count together.
#[derive(Debug, Clone)]
struct Metrics {
    nodes: IntGaugeVec,
    streams: IntGaugeVec,
    events: IntCounterVec,
    leased: IntGauge,
    engines: IntGaugeVec,
    refusals: IntCounterVec,
    joins: IntCounter,
    conferences: IntGauge,
    members: IntGaugeVec,
    followers: IntGauge,
}

impl Replica {
    /// Puts what this replica knows of the cluster into `registry`, for as long as the replica lives.
    ///
    /// # Errors
    ///
    /// When `registry` has metrics of these names already.
    pub fn register(&self, registry: &Registry) -> Result<(), prometheus::Error> {
        let gauges =
            |name: &str, help: &str, labels: &[&str]| IntGaugeVec::new(Opts::new(name, help), labels);
        let metrics = Metrics {
            nodes: gauges("weir_control_cluster_nodes", "Nodes of the cluster.", &["role", "state"])?,
            streams: gauges("weir_control_cluster_streams", "Streams of the cluster.", &["state"])?,
            events: IntCounterVec::new(
                Opts::new(
                    "weir_control_cluster_stream_events_total",
                    "What has happened to streams, counted by the replica that decided it.",
                ),
                &["event"],
            )?,
            engines: gauges(
                "weir_control_cluster_engine_up",
                "Whether the registry and the cache answered when they were asked last.",
                &["engine"],
            )?,
            leased: IntGauge::new(
                "weir_control_cluster_leased",
                "Whether this replica has a lease in the registry, under which its nodes are kept.",
            )?,
            refusals: IntCounterVec::new(
                Opts::new(
                    "weir_control_cluster_refusals_total",
                    "What nodes asked or said that this replica refused, did not believe, or held back.",
                ),
                &["reason"],
            )?,
            joins: IntCounter::new(
                "weir_control_cluster_joins_total",
                "How often nodes have joined by this replica; one that comes and goes joins often.",
            )?,
            conferences: IntGauge::new("weir_control_conferences", "Conferences of the cluster.")?,
            members: gauges("weir_control_conference_members", "Members of conferences.", &["role"])?,
            followers: IntGauge::new(
                "weir_control_conference_followers",
                "Connections to this replica that follow the events of conferences.",
            )?,
        };
        registry.register(Box::new(metrics.conferences.clone()))?;
        registry.register(Box::new(metrics.members.clone()))?;
        registry.register(Box::new(metrics.followers.clone()))?;
        registry.register(Box::new(metrics.nodes.clone()))?;
        registry.register(Box::new(metrics.streams.clone()))?;
        registry.register(Box::new(metrics.events.clone()))?;
        registry.register(Box::new(metrics.leased.clone()))?;
        registry.register(Box::new(metrics.engines.clone()))?;
        registry.register(Box::new(metrics.refusals.clone()))?;
        registry.register(Box::new(metrics.joins.clone()))?;
        for event in What::ALL {
            metrics.events.with_label_values(&[event.name()]);
        }
        let (nodes, streams) = (self.nodes().clone(), self.streams().clone());
        let conferences = self.conferences().clone();
        let mut news = streams.news();
        tokio::spawn(async move {
            let mut ticks = tokio::time::interval(EVERY);
            loop {
                tokio::select! {
                    happened = news.recv() => match happened {
                        Ok(news) => metrics.events.with_label_values(&[news.what.name()]).inc(),
                        Err(RecvError::Lagged(_)) => {}
                        Err(RecvError::Closed) => return,
                    },
                    _ = ticks.tick() => {
                        metrics.count(&nodes, &streams);
                        metrics.count_conferences(&conferences);
                    }
                }
            }
        });
        Ok(())
    }
}

impl Metrics {
    fn count_conferences(&self, conferences: &Conferences) {
        let all = conferences.all();
        let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        let members: usize = all.iter().map(|one| one.members.len()).sum();
        let speakers: usize = all.iter().map(|one| one.speakers()).sum();
        self.conferences.set(count(all.len()));
        self.members.with_label_values(&["speaker"]).set(count(speakers));
        self.members.with_label_values(&["listener"]).set(count(members.saturating_sub(speakers)));
        self.followers.set(count(conferences.followers()));
    }

    fn count(&self, nodes: &crate::nodes::Nodes, streams: &crate::streams::Streams) {
        self.nodes.reset();
        for known in nodes.all() {
            self.nodes.with_label_values(&[known.record.role.name(), known.state()]).inc();
        }
        let (live, dropped) = streams.counts();
        self.streams.with_label_values(&["live"]).set(live);
        self.streams.with_label_values(&["dropped"]).set(dropped);
        self.leased.set(i64::from(nodes.is_leased()));
        for (engine, is_up) in ["registry", "cache"].into_iter().zip(nodes.engines_are_up()) {
            self.engines.with_label_values(&[engine]).set(i64::from(is_up));
        }
        for why in Why::ALL {
            let counted = self.refusals.with_label_values(&[why.name()]);
            counted.inc_by(nodes.refusals().total(why).saturating_sub(counted.get()));
        }
        self.joins.inc_by(nodes.joins().saturating_sub(self.joins.get()));
    }
}
