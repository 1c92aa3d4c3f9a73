//! `weir control`: a replica of the control plane, with the API and the pages.

use std::future::IntoFuture;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, anyhow};
use control::hooks::Hooks;
use control::replica::Tls;
use control::{Parts, Replica, Token};
use serde::Serialize;
use tokio::task::JoinSet;

use crate::config::Config;
use crate::data::DataDir;
use crate::lifecycle::{Lifecycle, Phase};
use crate::listen::{Listener, bind};
use crate::roles::{Role, Wish};
use crate::signals::{Signals, Told};
use crate::traces::Traces;
use crate::{admin, banner, console, grant, log};

/// Where the operator's token is kept, in the data folder.
const TOKEN_FILE: &str = "operator.token";

/// Where events wait that hooks are to be told, in the data folder.
const HOOKS: &str = "hooks";

/// How long calls and requests have for their end.
const END: Duration = Duration::from_secs(3);

/// What `run.json` says of a control plane that is ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Run {
    pid: u32,
    http: SocketAddr,
    grpc: SocketAddr,
    admin: SocketAddr,
}

/// Where apps and people come, and where nodes do.
struct Sockets {
    http: Listener,
    grpc: Listener,
}

/// Serves until a signal ends it.
pub(crate) async fn command(wish: &Wish) -> ExitCode {
    match serve(wish).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            console::error(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn serve(wish: &Wish) -> anyhow::Result<()> {
    let config = Config::load(wish)?;
    log::start(&config.log)?;
    let mut signals = Signals::listen().context("signals")?;
    let data = DataDir::open(&config.data)?;
    let cluster = &config.control.cluster;
    let http = bind("control.http.listen", config.control.http.listen).await?;
    let grpc = bind("control.cluster.listen", cluster.listen).await?;
    let admin = bind("admin.listen", config.admin.listen).await?;
    let (token, shown_token) = operator_token(&config, data.path())?;
    let run = Run { pid: std::process::id(), http: http.1, grpc: grpc.1, admin: admin.1 };

    let (life, metrics) = (Lifecycle::new(), admin::registry()?);
    tokio::spawn(admin::serve(admin.0, metrics.clone(), life.clone()));
    let replica = replica(&config.control, data.path(), &token, &metrics)?;
    let traces = Traces::start(&config.traces, Role::Control, &metrics)?;
    replica.trace_by(traces.tracer());
    let mut serving = listen(&config, &replica, token, &metrics, Sockets { http, grpc }, &life)?;
    life.advance(Phase::Ready);
    console::print(&banner::control(run.http, run.grpc, run.admin));
    console::print(&shown_token.unwrap_or_default());
    data.announce(&run)?;
    tracing::info!(http = %run.http, grpc = %run.grpc, admin = %run.admin, "ready");

    loop {
        tokio::select! {
            told = signals.next() => match told {
                Told::Reload => reload(wish, &replica).await,
                Told::End => break,
            },
            Some(ended) = serving.join_next() => {
                let what = ended.unwrap_or("a listener");
                return Err(anyhow!("{what} ended by itself"));
            }
        }
    }
    life.advance(Phase::Unready);
    life.advance(Phase::Draining);
    // Nodes go to another replica, or wait for this one.
    replica.close();
    let ended = async { while serving.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(END, ended).await;
    replica.shutdown(END).await;
    traces.end().await;
    Ok(())
}

/// The operator's token, and what is shown of one that was made now.
pub(crate) fn operator_token(config: &Config, data: &Path) -> anyhow::Result<(Token, Option<String>)> {
    if let Some(file) = &config.control.token_file {
        return Ok((Token::load_given(file).context("`control.token_file`")?, None));
    }
    let file = data.join(TOKEN_FILE);
    let (token, is_new) = Token::load_or_create(&file)?;
    let shown = is_new.then(|| banner::token(token.reveal(), &file));
    Ok((token, shown))
}

/// A replica of the control plane, for this process alone or for others, too.
pub(crate) fn replica(
    config: &control::Config,
    data: &Path,
    operator: &Token,
    metrics: &prometheus::Registry,
) -> anyhow::Result<Replica> {
    let cluster = &config.cluster;
    let registry = control::registry::connect(&cluster.registry)
        .map_err(|error| anyhow!("`control.cluster.registry.{}`: {}", error.key, error.what))?;
    let cache = control::cache::connect(&cluster.cache)
        .map_err(|error| anyhow!("`control.cluster.cache.{}`: {}", error.key, error.what))?;
    let hooks = Hooks::open(&config.hooks, &data.join(HOOKS), metrics)?;
    let parts = Parts {
        name: replica_name()?,
        registry,
        cache,
        clock: unix_ms,
        hooks: Some(hooks),
        operator: Some(operator.clone()),
    };
    let replica = Replica::start(config, parts);
    replica.register(metrics)?;
    Ok(replica)
}

/// Takes over what can change at run time: hooks.
async fn reload(wish: &Wish, replica: &Replica) {
    match Config::load(wish) {
        Err(mistakes) => {
            tracing::error!("the configuration has mistakes, nothing was changed:\n{mistakes}");
        }
        Ok(config) => reload_hooks(&config.control, replica).await,
    }
}

/// Takes over other hooks.
pub(crate) async fn reload_hooks(config: &control::Config, replica: &Replica) {
    match replica.reload(&config.hooks).await {
        Ok(()) => tracing::info!("hooks read again"),
        Err(error) => tracing::error!(%error, "`control.hooks` was not changed"),
    }
}

/// Begins to answer nodes, apps and people.
fn listen(
    config: &Config,
    replica: &Replica,
    token: Token,
    metrics: &prometheus::Registry,
    Sockets { http, grpc }: Sockets,
    life: &Lifecycle,
) -> anyhow::Result<JoinSet<&'static str>> {
    let cluster = &config.control.cluster;
    let tls = match (&cluster.certificate, &cluster.certificate_key) {
        (Some(certificate), Some(key)) => {
            let read = |path: &std::path::PathBuf| {
                std::fs::read_to_string(path).with_context(|| path.display().to_string())
            };
            Some(Tls { certificate: read(certificate)?, key: read(key)? })
        }
        _ => None,
    };
    let mut own = config.control.clone();
    own.grants_to_play = config.grants.play == control_api::grant::Play::Required;
    let router = control::replica_router(own, replica.clone(), token, control::Metrics::register(metrics)?);
    let mut serving = JoinSet::new();
    let drain = life.clone();
    serving.spawn(async move {
        let serve = axum::serve(http.0, router).with_graceful_shutdown(async move { drain.draining().await });
        if let Err(error) = serve.into_future().await {
            tracing::error!(%error, "the API cannot be served");
        }
        "the HTTP listener"
    });
    let (replica, drain) = (replica.clone(), life.clone());
    serving.spawn(async move {
        if let Err(error) = replica.serve(grpc.0, tls, async move { drain.draining().await }).await {
            tracing::error!(%error, "nodes cannot be served");
        }
        "the gRPC listener"
    });
    Ok(serving)
}

/// Random: a replica that is started anew is another one.
fn replica_name() -> anyhow::Result<String> {
    Ok(grant::hex(&grant::random::<6>()?))
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
