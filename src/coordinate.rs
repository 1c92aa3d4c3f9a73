//! `weir control`: a replica of the control plane, with the API and the pages.

use std::future::IntoFuture;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, anyhow};
use control::replica::Tls;
use control::{Replica, Token};
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
    let token_file = data.path().join(crate::serve::TOKEN_FILE);
    let (token, token_is_new) = Token::load_or_create(&token_file)?;
    let shown_token = token_is_new.then(|| banner::token(token.reveal(), &token_file));
    let run = Run { pid: std::process::id(), http: http.1, grpc: grpc.1, admin: admin.1 };

    let (life, metrics) = (Lifecycle::new(), admin::registry()?);
    tokio::spawn(admin::serve(admin.0, metrics.clone(), life.clone()));
    let registry = control::registry::connect(&cluster.registry)
        .map_err(|error| anyhow!("`control.cluster.registry.{}`: {}", error.key, error.what))?;
    let cache = control::cache::connect(&cluster.cache)
        .map_err(|error| anyhow!("`control.cluster.cache.{}`: {}", error.key, error.what))?;
    let name = replica_name()?;
    let replica = Replica::start(&config.control, name, registry, cache, unix_ms);
    replica.register(&metrics)?;
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
                Told::Reload => tracing::info!("a control plane takes over nothing without a restart"),
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
    let ended = async { while serving.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(END, ended).await;
    traces.end().await;
    Ok(())
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
