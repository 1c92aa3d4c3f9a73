//! Traces: how long publishers and viewers wait until something has begun, as spans for a collector (OTLP by
//! gRPC). Off until one is named.
//!
//! Whatever the collector does, nobody waits for it: spans that it does not take are lost, and counted.

mod config;
mod sending;

use std::time::Duration;

use anyhow::Context;
use control_api::trace::Tracer;
use opentelemetry::KeyValue;
use opentelemetry::global::BoxedTracer;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{RetryPolicy, SpanExporter, WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider, SpanExporter as _};
use tonic::transport::{ClientTlsConfig, Endpoint};

use crate::roles::Role;
pub(crate) use config::Config;
use sending::{Counts, Sending, queue};

/// How long a collector has for taking a connection, and for taking spans.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const SEND_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the end of the process waits for the last spans to be taken.
const END: Duration = Duration::from_secs(2);

/// What traces a process, if something does.
pub(crate) struct Traces {
    tracer: Tracer,
    sending: Option<Sending>,
}

impl Traces {
    /// Begins, where a collector is named. It is connected to when there is something to send. Call it within a
    /// tokio runtime.
    pub(crate) fn start(config: &Config, role: Role, metrics: &prometheus::Registry) -> anyhow::Result<Self> {
        let Some(url) = &config.endpoint else { return Ok(Self { tracer: Tracer::OFF, sending: None }) };
        let counts = Counts::register(metrics)?;
        let resource = Resource::builder_empty()
            .with_service_name(config.service_name.clone())
            .with_attributes([
                KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
                KeyValue::new("weir.role", role.name()),
            ])
            .build();
        let mut exporter = exporter(url, config).context("`traces.endpoint`")?;
        exporter.set_resource(&resource);
        let (queue, sending) = queue(exporter, counts);
        let provider = SdkTracerProvider::builder()
            // What is recorded is decided where it begins; who was told so elsewhere follows.
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::AlwaysOn)))
            .with_span_processor(queue)
            .with_resource(resource)
            .build();
        let tracer = BoxedTracer::new(Box::new(provider.tracer("weir")));
        tracing::info!(collector = url, play_ratio = config.play_ratio, "traces are sent");
        Ok(Self { tracer: Tracer::new(tracer, config.play_ratio), sending: Some(sending) })
    }

    /// What makes spans.
    pub(crate) fn tracer(&self) -> Tracer {
        self.tracer.clone()
    }

    /// Sends what there is, if that is soon done.
    pub(crate) async fn end(self) {
        let Some(sending) = self.sending else { return };
        if tokio::time::timeout(END, sending.end()).await.is_err() {
            tracing::warn!("the last spans were not taken in time");
        }
    }
}

/// What sends spans. No attempt is repeated: a collector that is down shall not be waited for.
fn exporter(url: &str, config: &Config) -> anyhow::Result<SpanExporter> {
    let mut endpoint =
        Endpoint::from_shared(url.to_owned())?.connect_timeout(CONNECT_TIMEOUT).timeout(SEND_TIMEOUT);
    if url.starts_with("https:") {
        endpoint = endpoint.tls_config(ClientTlsConfig::new().with_native_roots())?;
    }
    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_channel(endpoint.connect_lazy())
        .with_timeout(SEND_TIMEOUT)
        .with_metadata(config.metadata().context("its headers")?)
        .with_retry_policy(RetryPolicy::disabled());
    Ok(exporter.build()?)
}
