//! weir without a command, `weir origin` and `weir edge`: starts the roles, waits for signals, drains.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use control::Replica;

use crate::agent::Replicas;
use crate::config::{Config, Mistakes};
use crate::data::{DataDir, Run};
use crate::lifecycle::{Lifecycle, Phase};
use crate::listen::{Listeners, Secure};
use crate::reload::compare;
use crate::roles::{Office, Role, Roles, Sockets, Wish};
use crate::signals::{Signals, Told};
use crate::traces::Traces;
use crate::{admin, agent, banner, certificate, console, coordinate, demo, log, turn};

/// How long hooks have for what happened last.
const HOOKS_END: Duration = Duration::from_secs(2);

/// Serves until a signal ends it.
pub(crate) async fn command(wish: &Wish) -> ExitCode {
    // It holds all that lives as long as the process.
    match Box::pin(serve(wish)).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            console::error(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn serve(wish: &Wish) -> anyhow::Result<()> {
    let pass = if wish.demo { Some(demo::Pass::new()?) } else { None };
    let mut config = load(wish, pass.as_ref())?;
    let level = log::start(&config.log)?;
    raise_file_limit();
    let mut signals = Signals::listen().context("signals")?;
    let data = DataDir::open(&config.data)?;
    let listeners = Listeners::bind(&config, wish.role).await?;
    let turn = turn::Ports::bind(&config, wish.role).await?;
    let https = match listeners.https {
        Some(secure) => Some((certificate::shown(&config.edge.tls, data.path(), secure.at)?, secure)),
        None => None,
    };
    // Only now, since it is shown once: a start that finds a port in use ends above.
    let (token, shown_token) = coordinate::operator_token(&config, data.path())?;
    let run = Run {
        pid: std::process::id(),
        rtmp: listeners.rtmp.1,
        srt: listeners.srt.as_ref().map(|(_, at)| *at),
        http: listeners.http.1,
        https: https.as_ref().map(|(_, secure)| secure.at),
        admin: listeners.admin.1,
        turn: turn.as_ref().map(turn::Ports::at),
        webrtc: config.rtc.enabled,
    };
    let (life, registry) = (Lifecycle::new(), admin::registry()?);
    tokio::spawn(admin::serve(listeners.admin.0, registry.clone(), life.clone()));
    let fingerprint = https.as_ref().and_then(|(shown, _)| shown.fingerprint.clone());
    let https = https.map(|(shown, Secure { listener, quic, .. })| edge::Https {
        listener,
        certificates: shown.certificates,
        quic,
    });
    let certificates = https.as_ref().map(|https| https.certificates.clone());
    let web = edge::Listeners { http: listeners.http.0, https };
    let traces = Traces::start(&config.traces, wish.role, &registry)?;
    // Alone it is a cluster of one node.
    let replica = if wish.role == Role::All && config.cluster.control.is_empty() {
        let replica = coordinate::replica(&config.control, data.path(), &token, &registry)?;
        replica.trace_by(traces.tracer());
        Some(replica)
    } else {
        None
    };
    let mut roles = Roles::start(
        wish.role,
        &config,
        Sockets { rtmp: listeners.rtmp, srt: listeners.srt.map(|(socket, _)| socket), web },
        Office { token, replica: replica.clone() },
        &registry,
        &life,
    )?;
    roles.trace_by(&traces.tracer());
    if let Some(ports) = turn {
        turn::start(&config, ports, certificates.as_ref(), &registry, (&life, roles.rtc()))?;
    }
    life.advance(Phase::Ready);
    let shown = config.origin.http.certificate.is_some();
    console::print(&banner::banner(wish.role, &run, wish.demo, shown));
    console::print(&fingerprint.as_deref().map(banner::fingerprint).unwrap_or_default());
    console::print(&shown_token.unwrap_or_default());
    data.announce(&run)?;
    tracing::info!(rtmp = %run.rtmp, http = %run.http, admin = %run.admin, "ready");
    if let Some(pass) = pass.clone() {
        tokio::spawn(demo::run(run.rtmp, pass, life.clone()));
    }

    let mut orders = join(&config, wish.role, (&run, replica.as_ref()), &roles, &life)?;
    let ended = loop {
        tokio::select! {
            Some(agent::Told::Reload) = orders.next() => {
                reload(&mut config, load(wish, pass.as_ref()), &level, &roles, replica.as_ref()).await;
            }
            told = signals.next() => match told {
                Told::Reload => {
                    reload(&mut config, load(wish, pass.as_ref()), &level, &roles, replica.as_ref()).await;
                }
                Told::End => break drain(&mut roles, &config, &life, &mut signals).await,
            },
            what = roles.failed() => break Err(by_itself(what)),
        }
    };
    // However it came to that.
    roles.end().await;
    orders.settle().await;
    if let Some(replica) = replica {
        replica.shutdown(HOOKS_END).await;
    }
    traces.end().await;
    ended
}

/// Joins a cluster, if the process is to be in one. What it is told there.
fn join(
    config: &Config,
    role: Role,
    (run, replica): (&Run, Option<&Replica>),
    roles: &Roles,
    life: &Lifecycle,
) -> anyhow::Result<agent::Orders> {
    let (replicas, token) = match replica {
        Some(replica) => (Replicas::Near(replica.services()), &config.control.cluster.join_token),
        None if config.cluster.control.is_empty() => {
            return Ok(agent::Orders::none());
        }
        None => (Replicas::of(&config.cluster)?, &config.cluster.join_token),
    };
    let relay_is_secure = config.origin.http.certificate.is_some();
    let ports = agent::Ports { http: run.http, https: run.https, rtmp: run.rtmp, relay_is_secure };
    let node = agent::node(&config.cluster, role, ports)?;
    let upstream = config.edge.upstream.clone();
    Ok(agent::start(replicas, token.as_ref(), node, roles.for_agent(), upstream, life.clone()))
}

fn by_itself(what: &str) -> anyhow::Error {
    anyhow::anyhow!("{what} ended by itself")
}

/// Ends step by step, at once after a second signal.
async fn drain(
    roles: &mut Roles,
    config: &Config,
    life: &Lifecycle,
    signals: &mut Signals,
) -> anyhow::Result<()> {
    life.advance(Phase::Unready);
    if config.unready_s > 0 {
        tracing::info!(unready_s = config.unready_s, "unready; whoever comes is still let in");
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(config.unready_s)) => {}
            () = signals.end() => {
                tracing::warn!("ended before it was drained");
                return Ok(());
            }
            what = roles.failed() => return Err(by_itself(what)),
        }
    }
    life.advance(Phase::Draining);
    tracing::info!(deadline_s = config.drain_s, "draining; a second signal ends at once");
    tokio::select! {
        () = roles.drain(Duration::from_secs(config.drain_s)) => tracing::info!("drained"),
        () = signals.end() => tracing::warn!("ended before it was drained"),
    }
    Ok(())
}

fn load(wish: &Wish, pass: Option<&demo::Pass>) -> Result<Config, Mistakes> {
    let mut config = Config::load(wish)?;
    if let Some(pass) = pass {
        pass.admit(&mut config.origin.auth);
    }
    Ok(config)
}

/// Takes over what can change at run time. A configuration with a mistake changes nothing.
async fn reload(
    running: &mut Config,
    wanted: Result<Config, Mistakes>,
    level: &log::Level,
    roles: &Roles,
    replica: Option<&Replica>,
) {
    let wanted = match wanted {
        Ok(wanted) => wanted,
        Err(mistakes) => {
            tracing::error!("the configuration has mistakes, nothing was changed:\n{mistakes}");
            return;
        }
    };
    let change = match compare(running, &wanted) {
        Ok(change) => change,
        Err(error) => {
            tracing::error!(%error, "the configuration cannot be compared, nothing was changed");
            return;
        }
    };
    if change.config.log.level != running.log.level
        && let Err(error) = level.set(&change.config.log.level)
    {
        tracing::error!(%error, "the log level was not changed");
    }
    roles.reload(&change.config);
    if let Some(replica) = replica
        && change.config.control.hooks != running.control.hooks
    {
        coordinate::reload_hooks(&change.config.control, replica).await;
    }
    *running = change.config;
    match (change.applied.is_empty(), change.at_restart.is_empty()) {
        (true, true) => tracing::info!("configuration read again; nothing changed"),
        (false, _) => tracing::info!(changed = change.applied.join(", "), "configuration read again"),
        (true, false) => {}
    }
    if !change.at_restart.is_empty() {
        tracing::warn!(
            keys = change.at_restart.join(", "),
            "changed, but only a restart will take them over"
        );
    }
}

/// Every connection is a file; the soft limit of most systems is 1024, the hard one far more.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
    {
        tracing::warn!(%error, "the limit of open files stays at {current:?}");
    }
}
