//! The listener of nodes: gRPC, with health and reflection.

use std::io;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use control_api::rpc;
use control_api::rpc::grant_service_server::GrantServiceServer;
use control_api::rpc::node_service_server::NodeServiceServer;
use control_api::rpc::stream_service_server::StreamServiceServer;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::Status;
use tonic::service::Routes;
use tonic::transport::server::TcpConnectInfo;
use tonic::transport::{Identity, Server, ServerTlsConfig};

use super::Replica;
use crate::nodes::{Nodes, Why};

/// Largest message of a node: its first heartbeat, with all its streams.
const MAX_MESSAGE_BYTES: usize = 16 << 20;

/// Calls at once on one connection: a node has a handful.
const MAX_CALLS: u32 = 64;

/// How a line that died is noticed.
const PING_EVERY: Duration = Duration::from_secs(5);
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// A certificate and its key, in PEM.
#[derive(Clone)]
pub struct Tls {
    /// The certificate, and those that sign it.
    pub certificate: String,
    /// Its private key.
    pub key: String,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

/// Why nodes can't be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The listener failed, or TLS can't be had.
    #[error(transparent)]
    Transport(#[from] tonic::transport::Error),
    /// What reflection tells can't be read.
    #[error("the descriptors of the services are broken: {0}")]
    Descriptors(String),
    /// The listener failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// What could not be decoded never comes to a service.
async fn count_refusals(State(nodes): State<Nodes>, request: Request, next: Next) -> Response {
    let from = request.extensions().get::<TcpConnectInfo>().and_then(TcpConnectInfo::remote_addr);
    let from = from.map(|from| from.ip().to_string()).unwrap_or_default();
    let call = request.uri().path().to_owned();
    let response = next.run(request).await;
    let status = Status::from_header_map(response.headers());
    if let Some(why) = status.as_ref().and_then(|status| Why::of(status.code())) {
        nodes.refusals().count(why);
        if why == Why::Malformed && nodes.refusals().is_news(why, &from) {
            tracing::warn!(from, call, "what is asked is no message of this service");
        }
    }
    response
}

impl Replica {
    /// The services, as they are called in one process or over a socket. What they refuse is counted.
    pub fn services(&self) -> Routes {
        let nodes = NodeServiceServer::new(self.node_service()).max_decoding_message_size(MAX_MESSAGE_BYTES);
        let streams =
            StreamServiceServer::new(self.stream_service()).max_decoding_message_size(MAX_MESSAGE_BYTES);
        let grants =
            GrantServiceServer::new(self.grant_service()).max_decoding_message_size(MAX_MESSAGE_BYTES);
        let services = Routes::new(nodes).add_service(streams).add_service(grants).into_axum_router();
        Routes::from(services.layer(from_fn_with_state(self.nodes().clone(), count_refusals)))
    }

    /// Serves nodes until `drain` completes.
    pub async fn serve(
        &self,
        listener: TcpListener,
        tls: Option<Tls>,
        drain: impl Future<Output = ()>,
    ) -> Result<(), ServeError> {
        let (health, health_service) = tonic_health::server::health_reporter();
        health.set_serving::<NodeServiceServer<crate::nodes::Service>>().await;
        health.set_serving::<StreamServiceServer<crate::streams::Service>>().await;
        health.set_serving::<GrantServiceServer<crate::grants::Service>>().await;
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(rpc::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .build_v1()
            .map_err(|error| ServeError::Descriptors(error.to_string()))?;
        let mut server = Server::builder()
            .http2_keepalive_interval(Some(PING_EVERY))
            .http2_keepalive_timeout(Some(PING_TIMEOUT))
            .max_concurrent_streams(MAX_CALLS)
            .tcp_nodelay(true);
        if let Some(tls) = tls {
            let identity = Identity::from_pem(tls.certificate, tls.key);
            server = server.tls_config(ServerTlsConfig::new().identity(identity))?;
        }
        let routes = self.services().add_service(health_service).add_service(reflection);
        server
            .add_routes(routes)
            .serve_with_incoming_shutdown(TcpListenerStream::new(listener), drain)
            .await?;
        Ok(())
    }
}
