//! A collector of spans, as OTLP says that it is one.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

use super::until;

/// What a span says.
#[derive(Debug, Clone)]
pub struct Span {
    /// Of which process.
    pub service: String,
    /// What it is of.
    pub name: String,
    /// Its trace, in hexadecimal digits.
    pub trace: String,
    /// Itself.
    pub id: String,
    /// Its parent; empty without one.
    pub parent: String,
    /// Those that it is linked to.
    pub links: Vec<String>,
    /// Milliseconds that it took.
    pub ms: u64,
    /// Its attributes, as text.
    pub said: BTreeMap<String, String>,
    /// Why it failed, if it did.
    pub error: Option<String>,
}

#[derive(Debug, Default, Clone)]
struct Taken {
    spans: Arc<Mutex<Vec<Span>>>,
    /// What every request showed as `authorization`.
    shown: Arc<Mutex<Vec<String>>>,
}

/// A collector on a port of its own. It ends when this is dropped.
pub struct Collector {
    /// Where it is.
    pub at: SocketAddr,
    taken: Taken,
    task: JoinHandle<()>,
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Collector {
    /// Starts it.
    pub async fn start() -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    /// Starts it where somebody listened before.
    pub fn on(listener: TcpListener) -> Self {
        let (at, taken) = (listener.local_addr().unwrap(), Taken::default());
        let service = TraceServiceServer::new(taken.clone());
        let task = tokio::spawn(async move {
            let server = tonic::transport::Server::builder().add_service(service);
            server.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap();
        });
        Self { at, taken, task }
    }

    /// The configuration that names it, of a process that calls itself so.
    pub fn config(&self, service: &str) -> String {
        config(self.at, service)
    }

    /// What came so far.
    pub fn spans(&self) -> Vec<Span> {
        self.taken.spans.lock().clone()
    }

    /// What was shown with each request.
    pub fn shown(&self) -> Vec<String> {
        self.taken.shown.lock().clone()
    }

    /// Waits for a span of a process.
    pub async fn span(&self, service: &str, name: &str, is: impl Fn(&Span) -> bool) -> Span {
        until(&format!("the span {name} of {service}"), async || {
            self.spans().into_iter().find(|span| span.service == service && span.name == name && is(span))
        })
        .await
    }
}

/// The configuration that names a collector, of a process that calls itself so and traces all viewers.
pub fn config(collector: SocketAddr, service: &str) -> String {
    format!(
        "[traces]\nendpoint = \"http://{collector}\"\nservice_name = \"{service}\"\nplay_ratio = 1.0\n\
         headers = \"authorization=Bearer%20for-the-collector\"\n"
    )
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn texts(said: Vec<KeyValue>) -> BTreeMap<String, String> {
    let text = |value: Option<AnyValue>| match value.and_then(|value| value.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        other => panic!("an attribute of another kind: {other:?}"),
    };
    said.into_iter().map(|said| (said.key, text(said.value))).collect()
}

#[tonic::async_trait]
impl TraceService for Taken {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let shown = request.metadata().get("authorization").map(|value| value.to_str().unwrap().to_owned());
        self.shown.lock().push(shown.unwrap_or_default());
        for of_process in request.into_inner().resource_spans {
            let process = texts(of_process.resource.unwrap().attributes);
            for span in of_process.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                let status = span.status.unwrap_or_default();
                self.spans.lock().push(Span {
                    service: process["service.name"].clone(),
                    name: span.name,
                    trace: hex(&span.trace_id),
                    id: hex(&span.span_id),
                    parent: hex(&span.parent_span_id),
                    links: span.links.iter().map(|link| hex(&link.trace_id)).collect(),
                    ms: (span.end_time_unix_nano - span.start_time_unix_nano) / 1_000_000,
                    said: texts(span.attributes),
                    error: (status.code == StatusCode::Error as i32).then_some(status.message),
                });
            }
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}
